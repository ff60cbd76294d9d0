-- What people say about flows: few rows, so they stand beside `flows` and not in them.

CREATE TABLE annotations (
  flow INTEGER PRIMARY KEY REFERENCES flows (id),
  tags TEXT NOT NULL,                               -- JSON array of texts, sorted, each once
  note TEXT
) STRICT;

DROP VIEW flows_shown;
CREATE VIEW flows_shown AS SELECT
  flows.*,
  kind, route_action, route_rule, redaction, method, scheme, host, port, request_version,
  url_start || iif(path LIKE '/%', path, '') || query AS url,
  annotations.tags, annotations.note,
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
  LEFT JOIN endings ON endings.flow = flows.id
  LEFT JOIN annotations ON annotations.flow = flows.id;
