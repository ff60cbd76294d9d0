-- What kind of traffic a flow is, and which session of which agent it belongs to.

-- llm | mcp | web | other | unknown
ALTER TABLE places ADD COLUMN traffic_type TEXT NOT NULL DEFAULT 'unknown';

-- A conversation of an agent. Flows of several runs may belong to one.
CREATE TABLE sessions (
  number      INTEGER PRIMARY KEY AUTOINCREMENT,    -- order of being seen first
  id          TEXT    NOT NULL UNIQUE,              -- as its program made it
  name        TEXT,                                 -- as people call it
  agent       TEXT,                                 -- claude-code | codex | ...; NULL: not known
  merged_into INTEGER REFERENCES sessions (number)  -- what comes of it belongs there
) STRICT;

-- How flows are known to belong to a session, and which agent within it they are of. One row stands for
-- many flows.
CREATE TABLE session_marks (
  id              INTEGER PRIMARY KEY,
  session         INTEGER NOT NULL REFERENCES sessions (number),
  method          TEXT    NOT NULL,                 -- header | body | mcp_session | baggage | traceparent | request_id
  confidence      TEXT    NOT NULL,                 -- certain | likely
  agent           TEXT,                             -- the program that sent them
  agent_id        TEXT,                             -- NULL: the agent that the user talks to
  parent_agent_id TEXT                              -- likewise
) STRICT;
CREATE INDEX session_marks_by_session ON session_marks (session);

ALTER TABLE flows ADD COLUMN session INTEGER REFERENCES session_marks (id);
-- It has no row for what is no call of a model or a tool server.
CREATE INDEX flows_by_session ON flows (session) WHERE session IS NOT NULL;

DROP VIEW flows_shown;

-- Flows with all that is known of them in columns.
CREATE VIEW flows_shown AS SELECT
  flows.*,
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
  LEFT JOIN annotations ON annotations.flow = flows.id
  LEFT JOIN session_marks AS marks ON marks.id = flows.session
  LEFT JOIN sessions ON sessions.number = marks.session;
