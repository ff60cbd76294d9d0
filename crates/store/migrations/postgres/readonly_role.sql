-- A role that may read everything and change nothing. Run this as the owner of the tables, in the database
-- and the schema where they are, and again after a migration that adds tables. Then give it to whom you like:
--
--   GRANT oriel_reader TO alice;
--
-- Bodies and header fields are in it; see oriel's redaction for what is masked before it is stored.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'oriel_reader') THEN
    CREATE ROLE oriel_reader NOLOGIN;
  END IF;
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO oriel_reader', current_schema());
  EXECUTE format('GRANT SELECT ON runs, flows, chunks, batches, messages, gaps, session_names, session_merges,
    oriel_migrations, %I TO oriel_reader', 'CCProxy_HttpTraces');
END
$$;
