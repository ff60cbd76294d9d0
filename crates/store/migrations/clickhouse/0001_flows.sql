-- Runs, flows, messages and gaps of many oriels.
--
-- Columns of `flows` that CCProxy_HttpTraces has too carry the same names and mean the same. Times are UTC;
-- `_us` is a number of microseconds, `_size` of bytes. NULL is absent knowledge, never a zero. A row that is
-- written again replaces the one before: read with FINAL.

-- One `oriel run`, `oriel serve` or `oriel demo`.
CREATE TABLE IF NOT EXISTS runs (
  uuid       String,                                  -- UUIDv7, the same in all databases
  id         String,                                  -- four characters that people type; may be another elsewhere
  kind       LowCardinality(String),                  -- run | serve | demo | import
  name       Nullable(String),
  argv       Array(String),
  pid        UInt32,
  started_at DateTime64(6, 'UTC'),
  ended_at   Nullable(DateTime64(6, 'UTC')),
  exit_code  Nullable(Int32),
  signal     Nullable(Int32),
  instance   Nullable(String),                        -- the oriel that recorded it
  user       Nullable(String),                        -- the person or account it is recorded for
  tags       Array(String),
  version    UInt64 DEFAULT toUInt64(toUnixTimestamp64Micro(now64(6)))
) ENGINE = ReplacingMergeTree(version) ORDER BY uuid;

-- One request with its response, one WebSocket or one tunnel. A body lies in the row: only who asks for it
-- reads its column.
CREATE TABLE IF NOT EXISTS flows (
  trace_id              String,                       -- UUIDv7
  number                Int64,                        -- order of starting: microseconds << 10, and a little of seq
  run_uuid              String,
  run_id                String,
  seq                   UInt64,                       -- from 1 on within the run
  instance              Nullable(String),
  user                  Nullable(String),
  tags                  Array(String),                -- of its run; those that people gave the flow are in flow_tags
  kind                  LowCardinality(String),       -- http | websocket | tunnel
  state                 LowCardinality(String),       -- open | completed | failed | interrupted

  proxy_direction       UInt8,                        -- 0: client to a gateway (reverse), 1: to an upstream (forward)
  session_id            Nullable(String),             -- as the agent's program made it
  session_method        Nullable(String),             -- header | body | mcp_session | baggage | traceparent | request_id
  session_confidence    Nullable(String),             -- certain | likely
  agent                 Nullable(String),             -- the agent's program, for example claude-code
  agent_id              Nullable(String),             -- NULL: the agent that the user talks to
  parent_agent_id       Nullable(String),             -- likewise
  traffic_type          LowCardinality(String),       -- llm | mcp | web | other | unknown
  method                String,
  scheme                LowCardinality(String),
  host                  String,
  port                  UInt16,
  path                  String CODEC(ZSTD(1)),        -- without the query
  url                   String CODEC(ZSTD(1)),        -- with it; host:port for a tunnel
  request_version       Nullable(String),             -- HTTP/1.0 | HTTP/1.1 | HTTP/2
  response_version      Nullable(String),
  route_action          LowCardinality(String),       -- intercept | tunnel | block
  route_rule            String,

  request_headers       String CODEC(ZSTD(3)),        -- a JSON object, names in lower case; an array where a name came repeatedly
  request_body          Nullable(String) CODEC(ZSTD(3)),  -- as received, perhaps compressed
  request_body_size     Nullable(UInt64),             -- of what passed; more than the body if that was cut
  request_content_type  Nullable(String),
  status_code           Nullable(UInt16),
  response_headers      String CODEC(ZSTD(3)),        -- empty where nothing was answered
  response_body         Nullable(String) CODEC(ZSTD(3)),
  response_body_size    Nullable(UInt64),
  response_content_type Nullable(String),
  truncated             Bool,                         -- less was kept than passed
  tunnel_bytes_sent     Nullable(UInt64),             -- from the client
  tunnel_bytes_received Nullable(UInt64),             -- from the upstream

  start_time            DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  end_time              Nullable(DateTime64(6, 'UTC')),
  duration_us           Nullable(Int64),
  duration_ms           Nullable(Float64) ALIAS duration_us / 1000,
  first_byte_us         Nullable(Int64),              -- from start_time to the first byte of the response

  client_ip             Nullable(String),
  front                 Nullable(String),             -- how the client said whom it wants
  tls_sni               Nullable(String),
  ja3                   Nullable(String),
  ja4                   Nullable(String),
  pid                   Nullable(UInt32),
  process_name          Nullable(String),
  process_path          Nullable(String),
  client_user           Nullable(String),             -- the name that the client said to the proxy
  server_ip             Nullable(String),             -- the address dialled
  server_port           Nullable(UInt16),
  is_https              Bool,
  danger_unverified     Bool,                         -- the upstream's certificate was not verified

  error_side            Nullable(String),
  error_stage           Nullable(String),
  error_type            Nullable(String),
  error_message         Nullable(String),
  replied_status        Nullable(UInt16),             -- of the reply that oriel itself gave
  redaction             LowCardinality(String),       -- basic | none
  flow_tags             Array(String),
  note                  Nullable(String),
  detail                String CODEC(ZSTD(3)),        -- the rest, as JSON
  created_at            DateTime64(6, 'UTC') DEFAULT now64(6),  -- when this row was written
  -- A flow that has ended does not open again, whatever comes late.
  version               UInt64 DEFAULT toUInt64(toUnixTimestamp64Micro(created_at))
                          + if(state = 'open', 0, 4611686018427387904),
  INDEX flows_by_host host TYPE bloom_filter GRANULARITY 4,
  INDEX flows_by_session_id session_id TYPE bloom_filter GRANULARITY 4,
  INDEX flows_by_run run_uuid TYPE bloom_filter GRANULARITY 4,
  INDEX flows_by_created_at created_at TYPE minmax GRANULARITY 4,
  INDEX flows_by_words_of_url lower(url) TYPE tokenbf_v1(8192, 3, 0) GRANULARITY 4
) ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMMDD(start_time) ORDER BY (start_time, trace_id);

-- What a WebSocket carried, in the order in which it was seen whole.
CREATE TABLE IF NOT EXISTS messages (
  trace_id   String,
  sequence   UInt64,                                  -- from 1 on within the flow
  sender     LowCardinality(String),                  -- client | upstream
  at         DateTime64(6, 'UTC'),
  kind       LowCardinality(String),                  -- text | binary | ping | pong | close | problem
  close_code Nullable(UInt16),
  size       UInt64,                                  -- bytes of the payload, inflated
  wire_size  UInt64,                                  -- bytes of the payload as they passed
  frames     UInt64,
  coding     LowCardinality(String),                  -- plain | inflated | inflated_in_part | deflated | unknown
  complete   Bool,                                    -- false: its last frame never came
  payload    String CODEC(ZSTD(3))                    -- what was kept
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMMDD(at) ORDER BY (trace_id, sequence);

-- What is missing, and why.
CREATE TABLE IF NOT EXISTS gaps (
  run_uuid   String,
  run_id     String,
  number     Int64,                                   -- in the file that it is from
  at         DateTime64(6, 'UTC'),
  reason     LowCardinality(String),
  events     UInt64,
  body_bytes UInt64
) ENGINE = ReplacingMergeTree ORDER BY (run_uuid, number);

-- The table that ccproxy writes, with its columns in their order. A flow that failed has no status, even if
-- it had begun to be answered.
CREATE VIEW IF NOT EXISTS CCProxy_HttpTraces AS SELECT
  trace_id,
  proxy_direction,
  session_id,
  method,
  url,
  host,
  path,
  request_headers,
  request_body,
  coalesce(request_body_size, 0) AS request_body_size,
  request_content_type,
  if(error_type IS NULL, status_code, NULL) AS status_code,
  if(response_headers = '', '{}', response_headers) AS response_headers,
  response_body,
  coalesce(response_body_size, 0) AS response_body_size,
  response_content_type,
  start_time,
  end_time,
  duration_us / 1000 AS duration_ms,
  client_ip,
  server_ip,
  server_port,
  is_https,
  error_message,
  error_type,
  traffic_type,
  created_at
FROM flows FINAL;
