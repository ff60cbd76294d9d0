-- Runs that came from another database, and what was copied to an archive.

-- A run is one run in all databases.
CREATE UNIQUE INDEX runs_by_uuid ON runs (uuid);
-- JSON {instance, user, tags}: whose run it is; NULL: one of this machine.
ALTER TABLE runs ADD COLUMN origin TEXT;

-- How far each archive has what this file holds.
CREATE TABLE archives (
  id           INTEGER PRIMARY KEY,
  name         TEXT    NOT NULL UNIQUE,             -- its URL without password and parameters
  -- All arrivals up to this one were copied, and of the one that is begun the flows up to that row.
  arrival      INTEGER NOT NULL,
  begun        INTEGER NOT NULL,                    -- 0: none
  begun_row    INTEGER NOT NULL,
  change       INTEGER NOT NULL,                    -- all of flow_changes up to this one were
  gap          INTEGER NOT NULL,                    -- all gaps up to this one were
  acknowledged INTEGER                              -- when it stored something last
) STRICT;

-- Runs that an archive has, with their end or without.
CREATE TABLE archived_runs (
  archive INTEGER NOT NULL REFERENCES archives (id),
  run     INTEGER NOT NULL,                         -- number
  ended   INTEGER NOT NULL,                         -- 1: with its end
  PRIMARY KEY (archive, run)
) STRICT, WITHOUT ROWID;
