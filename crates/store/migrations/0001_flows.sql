-- Runs, flows and bodies.
--
-- Times are INTEGER microseconds since the Unix epoch, UTC. Columns of `flows` that CCProxy_HttpTraces
-- has too carry the same names. NULL is absent knowledge, never a zero.

-- One `oriel run`, `oriel serve` or `oriel demo`.
CREATE TABLE runs (
  number        INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of beginning
  id            TEXT    NOT NULL UNIQUE,            -- four characters that people type
  uuid          TEXT    NOT NULL,                   -- UUIDv7
  kind          TEXT    NOT NULL,                   -- run | serve | demo
  name          TEXT,
  argv          TEXT    NOT NULL,                   -- JSON array
  pid           INTEGER NOT NULL,                   -- the process that writes it ...
  process_start INTEGER,                            -- ... when that began, in the system's own unit
  process_space TEXT,                               -- ... and the boot and pid namespace it is in
  started_at    INTEGER NOT NULL,
  ended_at      INTEGER,
  exit_code     INTEGER,
  signal        INTEGER
) STRICT;

-- The client's side, once per connection.
CREATE TABLE client_connections (
  id             INTEGER PRIMARY KEY,
  run_id         TEXT    NOT NULL,
  front          TEXT    NOT NULL,                  -- connect | absolute_form | origin_form
  client_address TEXT    NOT NULL,
  proxy_address  TEXT    NOT NULL,
  accepted_at    INTEGER NOT NULL,
  tls_done_at    INTEGER,
  no_tls         TEXT,                              -- plain_http | tunnelled | handshake_failed
  tls_version    TEXT,
  tls_cipher     TEXT,
  tls_sni        TEXT,
  tls_alpn       TEXT,
  certificate    TEXT                               -- JSON
) STRICT;

-- The upstream's side, once per connection.
CREATE TABLE upstream_connections (
  id                INTEGER PRIMARY KEY,
  run_id            TEXT    NOT NULL,
  address           TEXT    NOT NULL,
  local_address     TEXT    NOT NULL,
  dial_started_at   INTEGER NOT NULL,
  connected_at      INTEGER NOT NULL,
  tls_done_at       INTEGER,
  http_version      TEXT,
  tls_version       TEXT,
  tls_cipher        TEXT,
  tls_sni           TEXT,
  tls_alpn          TEXT,
  certificate       TEXT,                           -- JSON
  danger_unverified INTEGER NOT NULL                -- 1: the certificate was not verified
) STRICT;

-- Contents. `size` is that of the content, `data` may be compressed. One of more than 4 KiB is stored
-- once; a small one has no hash, since looking for it would cost more than storing it again.
CREATE TABLE bodies (
  id    INTEGER PRIMARY KEY,
  hash  BLOB,                                       -- BLAKE3 of the content
  codec TEXT    NOT NULL,                           -- raw | zstd
  size  INTEGER NOT NULL,
  data  BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX bodies_by_hash ON bodies (hash) WHERE hash IS NOT NULL;

CREATE TABLE flows (
  id                     INTEGER PRIMARY KEY,       -- in order of being stored
  run_id                 TEXT    NOT NULL,
  seq                    INTEGER NOT NULL,          -- from 1 on within the run, in order of starting
  trace_id               TEXT    NOT NULL,          -- UUIDv7
  proxy_direction        INTEGER NOT NULL DEFAULT 1,-- 0 reverse, 1 forward
  session_id             TEXT,                      -- of the agent; not known yet
  kind                   TEXT    NOT NULL,          -- http | tunnel
  state                  TEXT    NOT NULL,          -- open | completed | failed | interrupted
  route_action           TEXT    NOT NULL,          -- intercept | tunnel | block
  route_rule             TEXT    NOT NULL,
  redaction              TEXT    NOT NULL,          -- basic | none

  method                 TEXT    NOT NULL,
  url                    TEXT    NOT NULL,          -- host:port for a tunnel
  scheme                 TEXT    NOT NULL,
  host                   TEXT    NOT NULL,
  port                   INTEGER NOT NULL,
  path                   TEXT    NOT NULL,          -- without the query; empty for a tunnel
  request_line           TEXT    NOT NULL,
  request_version        TEXT    NOT NULL,          -- HTTP/1.0 | HTTP/1.1 | HTTP/2
  request_headers        TEXT    NOT NULL,          -- JSON: [[name, value], ...] in the order of the wire
  request_head_size      INTEGER NOT NULL,
  request_content_type   TEXT,
  request_body           INTEGER REFERENCES bodies (id),
  request_body_size      INTEGER,                   -- bytes that passed
  request_body_kept      INTEGER,                   -- bytes that are stored
  request_trailers       TEXT,                      -- JSON, as request_headers

  status_code            INTEGER,
  response_line          TEXT,
  response_version       TEXT,
  response_headers       TEXT,                      -- JSON, as request_headers
  response_head_size     INTEGER,
  response_content_type  TEXT,
  response_body          INTEGER REFERENCES bodies (id),
  response_body_size     INTEGER,
  response_body_kept     INTEGER,
  response_trailers      TEXT,                      -- JSON
  informational          TEXT,                      -- JSON: [{version, line, headers, size}, ...]

  tunnel_bytes_sent      INTEGER,                   -- from the client
  tunnel_bytes_received  INTEGER,                   -- from the upstream

  start_time             INTEGER NOT NULL,          -- first byte of the request
  upstream_ready_at      INTEGER,
  request_sent_at        INTEGER,                   -- last byte of the request
  response_started_at    INTEGER,                   -- first byte of the response
  response_ended_at      INTEGER,                   -- last byte of the response
  end_time               INTEGER,
  duration_ms            REAL,

  client_connection      INTEGER REFERENCES client_connections (id),
  client_ip              TEXT    NOT NULL,
  upstream_connection    INTEGER REFERENCES upstream_connections (id),
  upstream_reused        INTEGER,
  server_ip              TEXT,
  server_port            INTEGER,
  is_https               INTEGER NOT NULL,
  danger_unverified      INTEGER NOT NULL DEFAULT 0,

  error_side             TEXT,
  error_stage            TEXT,
  error_type             TEXT,                      -- the kind, for example timed_out
  error_message          TEXT,
  replied_status         INTEGER,                   -- of the reply that oriel itself gave

  traffic_type           TEXT,                      -- llm | mcp | web | other; not known yet
  created_at             INTEGER NOT NULL
) STRICT;

-- Each index costs 0.4 us per flow (measured), so there are only those that questions need: lists go
-- along the time, and along the time within a run, where the number of a flow is looked for too. A
-- filter is checked on the way.
CREATE INDEX flows_by_start ON flows (start_time);
CREATE INDEX flows_by_run ON flows (run_id, start_time, seq);
-- Few rows at any time: flows that have not ended.
CREATE INDEX flows_open ON flows (run_id) WHERE state = 'open';

-- Beginnings of bodies that were moved out of memory before their flow ended, in order.
CREATE TABLE body_parts (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  flow    INTEGER NOT NULL REFERENCES flows (id),
  message TEXT    NOT NULL,                         -- request | response
  codec   TEXT    NOT NULL,
  size    INTEGER NOT NULL,
  data    BLOB    NOT NULL
) STRICT;
CREATE INDEX body_parts_by_flow ON body_parts (flow, message);

-- Stored flows that changed afterwards, for whoever follows. New flows are not in it.
CREATE TABLE flow_changes (
  change INTEGER PRIMARY KEY AUTOINCREMENT,
  flow   INTEGER NOT NULL
) STRICT;

-- What is missing, and why.
CREATE TABLE gaps (
  id         INTEGER PRIMARY KEY,
  run_id     TEXT    NOT NULL,
  at         INTEGER NOT NULL,
  reason     TEXT    NOT NULL,                      -- queue_full | engine | flow_unknown | not_storable
  events     INTEGER NOT NULL,
  body_bytes INTEGER NOT NULL
) STRICT;

-- Numbers that several processes draw from.
CREATE TABLE counters (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('flow', 0);
