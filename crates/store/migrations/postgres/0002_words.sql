-- The words of a flow's URL, bodies and messages as people read them: in lower case, each once and without
-- its place. None of a flow that is open, or was stored before this step.
ALTER TABLE flows ADD COLUMN words tsvector NOT NULL DEFAULT '';
CREATE INDEX flows_by_words ON flows USING gin (words);
