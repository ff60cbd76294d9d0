-- Rows of `flows` without what most of them say alike: one is written per request, so each byte and each column of
-- it counts. Those that are there stay as they are, and an older oriel that runs on writes them as it did.
--
-- In `flows` from here on
--   start_time             0: id >> 10
--   state                  '': completed
--   response_version       of an older oriel only; else in `response_kinds`
--   response_content_type  likewise
-- and `flows_shown` says all of it in full.

-- In which version a response came, and with what in it. One row stands for many flows, and the same may stand
-- here more than once, as in `places`.
CREATE TABLE response_kinds (
  id           INTEGER PRIMARY KEY,
  version      TEXT,                                -- HTTP/1.0 | HTTP/1.1 | HTTP/2
  content_type TEXT
) STRICT;

ALTER TABLE flows ADD COLUMN response_kind INTEGER REFERENCES response_kinds (id);

DROP VIEW "CCProxy_HttpTraces";
DROP VIEW flows_shown;

-- Flows with all that is known of them in columns.
CREATE VIEW flows_shown AS SELECT
  flows.id, flows.run_id, flows.seq,
  iif(flows.start_time = 0, flows.id >> 10, flows.start_time) AS start_time,
  trace_bits, place, path, query, flows.session,
  iif(flows.state = '', 'completed', flows.state) AS state,
  client_connection, upstream_connection, status_code,
  coalesce(flows.response_version, response_kinds.version) AS response_version,
  coalesce(flows.response_content_type, response_kinds.content_type) AS response_content_type,
  first_byte_us, request_body, request_body_size, response_body, response_body_size, truncated, duration_us,
  detail,
  kind, route_action, route_rule, redaction, places.method, scheme, host, port, request_version, traffic_type,
  url_start || iif(path LIKE '/%', path, '') || query AS url,
  annotations.tags, annotations.note,
  tunnel_bytes_sent, tunnel_bytes_received,
  error_side, error_stage, error_type, error_message, replied_status,
  sessions.id AS session_id, sessions.name AS session_name,
  marks.method AS session_method, marks.confidence AS session_confidence,
  marks.agent AS agent, marks.agent_id AS agent_id, marks.parent_agent_id AS parent_agent_id,
  -- 1: the upstream's certificate was not verified.
  coalesce(
    (SELECT danger_unverified FROM upstream_connections WHERE id = upstream_connection), 0
  ) AS danger_unverified,
  iif(flows.start_time = 0, flows.id >> 10, flows.start_time) + first_byte_us AS response_started_at,
  iif(flows.start_time = 0, flows.id >> 10, flows.start_time) + duration_us AS end_time,
  duration_us / 1000.0 AS duration_ms,
  -- UUIDv7 (RFC 9562 section 5.7), with the microseconds as section 6.2, method 3, has it.
  printf(
    '%08x-%04x-7%03x-%04x-%012x',
    (max(iif(flows.start_time = 0, flows.id >> 10, flows.start_time), 0) / 1000) >> 16,
    (max(iif(flows.start_time = 0, flows.id >> 10, flows.start_time), 0) / 1000) & 0xffff,
    (max(iif(flows.start_time = 0, flows.id >> 10, flows.start_time), 0) % 1000) * 4096 / 1000,
    0x8000 | (trace_bits >> 48), trace_bits & 0xffffffffffff
  ) AS trace_id
FROM flows
  -- CROSS: flows are the outer loop, for they lie in the order that lists want.
  CROSS JOIN places ON places.id = flows.place
  LEFT JOIN response_kinds ON response_kinds.id = flows.response_kind
  LEFT JOIN endings ON endings.flow = flows.id
  LEFT JOIN annotations ON annotations.flow = flows.id
  LEFT JOIN session_marks AS marks ON marks.id = flows.session
  LEFT JOIN sessions ON sessions.number = marks.session;

-- The table that ccproxy writes, with its columns in their order, for whoever asks the file by SQL. Times are texts
-- in UTC, to the microsecond, and `created_at` is `start_time`: when a flow was stored is not on record. NULL
-- throughout: header fields and `request_content_type`, which are packed here, and of the bodies those that are
-- compressed or share their content with others. `oriel flows export` has them all, and so does an archive.
CREATE VIEW "CCProxy_HttpTraces" AS SELECT
  flows_shown.trace_id,
  iif(client.front = 'reverse', 0, 1) AS proxy_direction,
  session_id,
  method,
  url,
  host,
  path,
  NULL AS request_headers,
  (SELECT data FROM bodies WHERE id = request_body AND codec = 'raw' AND pieces IS NULL) AS request_body,
  coalesce(request_body_size, 0) AS request_body_size,
  NULL AS request_content_type,
  iif(error_type IS NULL, status_code, NULL) AS status_code,
  NULL AS response_headers,
  (SELECT data FROM bodies WHERE id = response_body AND codec = 'raw' AND pieces IS NULL) AS response_body,
  coalesce(response_body_size, 0) AS response_body_size,
  response_content_type,
  strftime('%Y-%m-%d %H:%M:%S', start_time / 1000000, 'unixepoch')
    || printf('.%06d', start_time % 1000000) AS start_time,
  strftime('%Y-%m-%d %H:%M:%S', end_time / 1000000, 'unixepoch')
    || printf('.%06d', end_time % 1000000) AS end_time,
  duration_ms,
  -- 127.0.0.1:443 and [::1]:443; who came by a Unix-domain socket has none.
  iif(client_address LIKE 'unix:%', NULL, trim(rtrim(rtrim(client_address, '0123456789'), ':'), '[]')) AS client_ip,
  trim(rtrim(rtrim(upstream.address, '0123456789'), ':'), '[]') AS server_ip,
  coalesce(CAST(substr(upstream.address, length(rtrim(upstream.address, '0123456789')) + 1) AS INTEGER), port)
    AS server_port,
  scheme = 'https' AS is_https,
  error_message,
  error_type,
  traffic_type,
  strftime('%Y-%m-%d %H:%M:%S', start_time / 1000000, 'unixepoch')
    || printf('.%06d', start_time % 1000000) AS created_at
FROM flows_shown
  LEFT JOIN client_connections AS client ON client.id = client_connection
  LEFT JOIN upstream_connections AS upstream ON upstream.id = upstream_connection;
