-- What people call the sessions of agents. One that was never named has no row.
CREATE TABLE IF NOT EXISTS session_names (
  session_id String,                                  -- as flows.session_id
  name       String,                                  -- empty: its name was taken away
  version    UInt64                                   -- microseconds since 1970 when it was given here; 0: it came with flows
) ENGINE = ReplacingMergeTree(version) ORDER BY session_id;

-- Sessions that were joined to others. Flows of them that come belong there.
CREATE TABLE IF NOT EXISTS session_merges (
  session_id  String,
  merged_into String,                                 -- empty: it is one of its own again
  version     UInt64 DEFAULT toUInt64(toUnixTimestamp64Micro(now64(6)))
) ENGINE = ReplacingMergeTree(version) ORDER BY session_id;
