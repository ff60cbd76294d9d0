-- Contents that are made of others.

-- Where it is not NULL, `data` holds only those bytes of the content that no earlier row held, and this says
-- where the others are (src/ingest/bodies/pieces.rs has the format). Rows it names have `data` of their own: a
-- content is never more than one step away.
ALTER TABLE bodies ADD COLUMN pieces BLOB;

-- One row: how often bodies or connections were removed. Whoever writes remembers what is stored, and forgets it when this changes.
CREATE TABLE upkeep (
  removals INTEGER NOT NULL
) STRICT;
INSERT INTO upkeep VALUES (0);
