-- The words of a flow's URL, bodies and messages as people read them: in lower case, each once, with a space
-- before it. None of a flow that is open, or was stored before this step.
ALTER TABLE flows ADD COLUMN IF NOT EXISTS words String CODEC(ZSTD(3));

-- For some thousand rows, which have some ten thousand different words.
ALTER TABLE flows ADD INDEX IF NOT EXISTS flows_by_words words TYPE tokenbf_v1(65536, 3, 0) GRANULARITY 1;
