-- Runs, flows and bodies.
--
-- Times are INTEGER microseconds since the Unix epoch, UTC; `_us` is a number of microseconds. Columns
-- of `flows_shown` that CCProxy_HttpTraces has too carry the same names. NULL is absent knowledge, never a zero.

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
  tls_alpn       TEXT,
  certificate    TEXT,                              -- JSON
  tls_sni        TEXT,                              -- of the ClientHello, also where TLS was not opened
  sni_differs    INTEGER NOT NULL,                  -- 1: it is not the host that was asked for
  ja3            TEXT,                              -- MD5 of it, in hexadecimal digits
  ja4            TEXT,
  pid            INTEGER,                           -- the process at the client's end ...
  process_name   TEXT,
  process_path   TEXT,
  command_line   TEXT,                              -- JSON array, masked
  ancestors      TEXT,                              -- JSON array of {pid, name}, the nearest first
  container      TEXT,                              -- its id, 64 hexadecimal digits
  no_process     TEXT,                              -- ... or why it is not known; both NULL: nobody looked
  head           BLOB                               -- masked; request heads are stored as what differs
) STRICT;

-- The upstream's side, once per connection.
CREATE TABLE upstream_connections (
  id                INTEGER PRIMARY KEY,
  run_id            TEXT    NOT NULL,
  address           TEXT    NOT NULL,
  local_address     TEXT    NOT NULL,
  proxy             TEXT,                           -- URL of the upstream proxy, without credentials
  dial_started_at   INTEGER NOT NULL,
  connected_at      INTEGER NOT NULL,
  tls_done_at       INTEGER,
  http_version      TEXT,
  tls_version       TEXT,
  tls_cipher        TEXT,
  tls_sni           TEXT,
  tls_alpn          TEXT,
  certificate       TEXT,                           -- JSON
  danger_unverified INTEGER NOT NULL,               -- 1: the certificate was not verified
  head              BLOB                            -- masked; response heads are stored as what differs
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

-- What many flows have in common: where they go, and how they are asked for and routed. One row stands for
-- many flows; the same may stand here more than once, since the writer knows only what it saw lately.
CREATE TABLE places (
  id              INTEGER PRIMARY KEY,
  kind            TEXT    NOT NULL,                 -- http | websocket | tunnel
  route_action    TEXT    NOT NULL,                 -- intercept | tunnel | block
  route_rule      TEXT    NOT NULL,
  redaction       TEXT    NOT NULL,                 -- basic | none
  method          TEXT    NOT NULL,
  scheme          TEXT    NOT NULL,                 -- http | https
  host            TEXT    NOT NULL,                 -- an IPv6 address without brackets
  port            INTEGER NOT NULL,
  url_start       TEXT    NOT NULL,                 -- scheme://host, :port unless the scheme has it; host:port for a tunnel
  request_version TEXT    NOT NULL                  -- HTTP/1.0 | HTTP/1.1 | HTTP/2
) STRICT;

-- A row is written once per request, so each byte, column and index of it counts (an index takes half
-- as long as the row, a column a hundredth). Rows lie in the order of time, so that lists need no index.
-- What is asked for rarely is packed into `detail`, what many flows share is in `places`, what few have is in
-- `endings`, and what follows from other columns is in the view `flows_shown`. (Generated columns, even virtual
-- ones, are computed for each row that is inserted.)
CREATE TABLE flows (
  id                     INTEGER PRIMARY KEY,       -- start_time << 10, + 1 for each that was there first
  run_id                 TEXT    NOT NULL,
  seq                    INTEGER NOT NULL,          -- from 1 on within the run, in order of starting
  start_time             INTEGER NOT NULL,          -- first byte of the request
  trace_bits             INTEGER NOT NULL,          -- the 62 random bits of trace_id
  place                  INTEGER NOT NULL REFERENCES places (id),
  path                   TEXT    NOT NULL,          -- without the query; empty for a tunnel
  query                  TEXT    NOT NULL,          -- from its ? on; empty where there is none

  -- From here on a column may change until the flow ends.
  state                  TEXT    NOT NULL,          -- open | completed | failed | interrupted
  client_connection      INTEGER NOT NULL REFERENCES client_connections (id),
  upstream_connection    INTEGER REFERENCES upstream_connections (id),
  status_code            INTEGER,
  response_version       TEXT,
  response_content_type  TEXT,
  first_byte_us          INTEGER,                   -- from start_time to the first byte of the response
  request_body           INTEGER REFERENCES bodies (id),
  request_body_size      INTEGER,                   -- bytes that passed
  response_body          INTEGER REFERENCES bodies (id),
  response_body_size     INTEGER,
  truncated              INTEGER NOT NULL,          -- 1: of a body or message less was kept than passed
  duration_us            INTEGER,                   -- from start_time to the end
  detail                 BLOB    NOT NULL           -- heads and more; src/detail.rs has the format
) STRICT;

-- What the end of a flow tells besides, where it is not a request that was answered.
CREATE TABLE endings (
  flow                   INTEGER PRIMARY KEY REFERENCES flows (id),
  tunnel_bytes_sent      INTEGER,                   -- from the client
  tunnel_bytes_received  INTEGER,                   -- from the upstream
  error_side             TEXT,
  error_stage            TEXT,
  error_type             TEXT,                      -- the kind, for example timed_out
  error_message          TEXT,
  replied_status         INTEGER                    -- of the reply that oriel itself gave
) STRICT;

-- Few rows at any time: flows that have not ended.
CREATE INDEX flows_open ON flows (run_id) WHERE state = 'open';

-- Flows with all that is known of them in columns.
CREATE VIEW flows_shown AS SELECT
  flows.*,
  kind, route_action, route_rule, redaction, method, scheme, host, port, request_version,
  url_start || iif(path LIKE '/%', path, '') || query AS url,
  tunnel_bytes_sent, tunnel_bytes_received,
  error_side, error_stage, error_type, error_message, replied_status,
  -- 1: the upstream's certificate was not verified.
  coalesce(
    (SELECT danger_unverified FROM upstream_connections WHERE id = upstream_connection), 0
  ) AS danger_unverified,
  start_time + first_byte_us AS response_started_at,
  start_time + duration_us AS end_time,
  duration_us / 1000.0 AS duration_ms,
  -- UUIDv7 (RFC 9562 section 5.7), with the microseconds as section 6.2, method 3, has it.
  printf(
    '%08x-%04x-7%03x-%04x-%012x',
    (max(start_time, 0) / 1000) >> 16, (max(start_time, 0) / 1000) & 0xffff,
    (max(start_time, 0) % 1000) * 4096 / 1000,
    0x8000 | (trace_bits >> 48), trace_bits & 0xffffffffffff
  ) AS trace_id
FROM flows
  -- CROSS: flows are the outer loop, for they lie in the order that lists want.
  CROSS JOIN places ON places.id = flows.place
  LEFT JOIN endings ON endings.flow = flows.id;

-- Which flows came when: flows of one run that were stored together, with numbers that follow each
-- other. It is the index over run and number, and the log for whoever follows.
CREATE TABLE arrivals (
  number    INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id    TEXT    NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq  INTEGER NOT NULL,
  first_id  INTEGER NOT NULL,                       -- the smallest id among them ...
  last_id   INTEGER NOT NULL                        -- ... and the largest; others may lie between
) STRICT;
CREATE UNIQUE INDEX arrivals_by_run ON arrivals (run_id, first_seq, last_seq, first_id, last_id);

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

-- What a WebSocket carried, in the order in which it was seen whole.
CREATE TABLE messages (
  flow       INTEGER NOT NULL REFERENCES flows (id),
  sequence   INTEGER NOT NULL,                      -- from 1 on within the flow
  sender     TEXT    NOT NULL,                      -- client | upstream
  at_us      INTEGER NOT NULL,                      -- from start_time of the flow
  kind       TEXT    NOT NULL,                      -- text | binary | ping | pong | close | problem
  close_code INTEGER,
  size       INTEGER NOT NULL,                      -- bytes of the payload, inflated
  wire_size  INTEGER NOT NULL,                      -- bytes of the payload as they passed
  frames     INTEGER NOT NULL,
  coding     TEXT    NOT NULL,                      -- plain | inflated | inflated_in_part | deflated | unknown
  complete   INTEGER NOT NULL,                      -- 0: its last frame never came
  kept       INTEGER NOT NULL,                      -- bytes of the payload that are stored, here ...
  data       BLOB,
  body       INTEGER REFERENCES bodies (id),        -- ... or there
  PRIMARY KEY (flow, sequence)
) STRICT, WITHOUT ROWID;

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
