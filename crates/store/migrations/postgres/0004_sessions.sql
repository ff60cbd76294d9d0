-- What people call the sessions of agents. One that was never named has no row.
CREATE TABLE session_names (
  session_id text   PRIMARY KEY,                      -- as flows.session_id
  name       text   NOT NULL,                         -- empty: its name was taken away
  version    bigint NOT NULL                          -- microseconds since 1970 when it was given here; 0: it came with flows
);

-- Sessions that were joined to others. Flows of them that come belong there.
CREATE TABLE session_merges (
  session_id  text PRIMARY KEY,
  merged_into text NOT NULL
);
CREATE INDEX session_merges_by_target ON session_merges (merged_into);
