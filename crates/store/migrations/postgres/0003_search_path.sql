-- The functions find our tables whatever the search path of who calls them, so that the view works from everywhere.
DO $$
BEGIN
  EXECUTE format(
    'ALTER FUNCTION %1$I.oriel_body(bytea[]) SET search_path = %1$I, pg_temp', current_schema());
  EXECUTE format(
    'ALTER FUNCTION %1$I.oriel_prune(timestamp) SET search_path = %1$I, pg_temp', current_schema());
END
$$;
