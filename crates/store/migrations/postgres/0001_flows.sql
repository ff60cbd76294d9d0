-- Runs, flows, bodies, messages and gaps of many oriels.
--
-- Columns of `flows` that CCProxy_HttpTraces has too carry the same names and mean the same. Times are UTC
-- without a zone; `_us` is a number of microseconds, `_size` of bytes. NULL is absent knowledge, never a zero.
-- Characters that PostgreSQL has no place for (U+0000) are U+FFFD here, and as they were in `detail`.

-- One `oriel run`, `oriel serve` or `oriel demo`.
CREATE TABLE runs (
  number     bigint    GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- order of arrival
  uuid       text      COLLATE "C" NOT NULL UNIQUE,   -- UUIDv7, the same in all databases
  id         text      COLLATE "C" NOT NULL UNIQUE,   -- four characters that people type; may be another elsewhere
  kind       text      NOT NULL,                      -- run | serve | demo
  name       text,
  argv       jsonb     NOT NULL,                      -- array of texts
  pid        bigint    NOT NULL,
  started_at timestamp NOT NULL,
  ended_at   timestamp,
  exit_code  int,
  signal     int,
  instance   text,                                    -- the oriel that recorded it
  "user"     text,                                    -- the person or account it is recorded for
  tags       text[]    NOT NULL DEFAULT '{}'
);
CREATE INDEX runs_by_start ON runs (started_at);

-- One request with its response, one WebSocket or one tunnel.
CREATE TABLE flows (
  trace_id              text      COLLATE "C" PRIMARY KEY,  -- UUIDv7
  number                bigint    GENERATED ALWAYS AS IDENTITY,  -- order of arrival; stays when a flow changes
  batch                 bigint    NOT NULL,           -- what it was written with last; see `batches`
  run_id                text      COLLATE "C" NOT NULL,
  seq                   bigint    NOT NULL,           -- from 1 on within the run
  instance              text,
  "user"                text,
  tags                  text[]    NOT NULL,           -- of its run; those that people gave the flow are in flow_tags
  kind                  text      NOT NULL,           -- http | websocket | tunnel
  state                 text      NOT NULL,           -- open | completed | failed | interrupted

  proxy_direction       int       NOT NULL,           -- 0: client to a gateway (reverse), 1: to an upstream (forward)
  session_id            text,                         -- as the agent's program made it
  session_method        text,                         -- header | body | mcp_session | baggage | traceparent | request_id
  session_confidence    text,                         -- certain | likely
  agent                 text,                         -- the agent's program, for example claude-code
  agent_id              text,                         -- NULL: the agent that the user talks to
  parent_agent_id       text,                         -- likewise
  traffic_type          text      NOT NULL,           -- llm | mcp | web | other | unknown
  method                text      NOT NULL,
  scheme                text      NOT NULL,
  host                  text      NOT NULL,
  port                  int       NOT NULL,
  path                  text      NOT NULL,           -- without the query
  url                   text      NOT NULL,           -- with it; host:port for a tunnel
  request_version       text,                         -- HTTP/1.0 | HTTP/1.1 | HTTP/2
  response_version      text,
  route_action          text      NOT NULL,           -- intercept | tunnel | block
  route_rule            text      NOT NULL,

  request_headers       jsonb     NOT NULL,           -- names in lower case; an array where a name came repeatedly
  request_body          bytea,                        -- as received, perhaps compressed; a small one is here ...
  request_chunks        bytea[],                      -- ... a large one in `chunks`, in this order
  request_body_size     bigint,                       -- of what passed; more than the body if that was cut
  request_content_type  text,
  status_code           int,
  response_headers      jsonb,
  response_body         bytea,
  response_chunks       bytea[],
  response_body_size    bigint,
  response_content_type text,
  truncated             boolean   NOT NULL,           -- less was kept than passed
  tunnel_bytes_sent     bigint,                       -- from the client
  tunnel_bytes_received bigint,                       -- from the upstream

  start_time            timestamp NOT NULL,
  end_time              timestamp,
  duration_us           bigint,
  duration_ms           double precision GENERATED ALWAYS AS (duration_us / 1000.0::double precision) STORED,
  first_byte_us         bigint,                       -- from start_time to the first byte of the response

  client_ip             text,
  front                 text,                         -- how the client said whom it wants
  tls_sni               text,
  ja3                   text,
  ja4                   text,
  pid                   bigint,
  process_name          text,
  process_path          text,
  client_user           text,                         -- the name that the client said to the proxy
  server_ip             text,                         -- the address dialled
  server_port           int,
  is_https              boolean   NOT NULL,
  danger_unverified     boolean   NOT NULL,           -- the upstream's certificate was not verified

  error_side            text,
  error_stage           text,
  error_type            text,
  error_message         text,
  replied_status        int,                          -- of the reply that oriel itself gave
  redaction             text      NOT NULL,           -- basic | none
  flow_tags             text[]    NOT NULL,
  note                  text,
  detail                json      NOT NULL,           -- all but bodies and messages, with texts as they were
  created_at            timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);
CREATE INDEX flows_by_start_time ON flows (start_time);
CREATE INDEX flows_by_host ON flows (host);
CREATE INDEX flows_by_traffic_type ON flows (traffic_type);
CREATE INDEX flows_by_created_at ON flows (created_at);
CREATE INDEX flows_by_status_code ON flows (status_code);
CREATE INDEX flows_by_proxy_direction ON flows (proxy_direction);
CREATE INDEX flows_by_session_id ON flows (session_id);
CREATE INDEX flows_by_session_id_and_start_time ON flows (session_id, start_time);
CREATE INDEX flows_by_run ON flows (run_id, seq);
CREATE INDEX flows_by_batch ON flows (batch);
-- Hashes do not get smaller.
ALTER TABLE flows ALTER COLUMN request_chunks SET STORAGE EXTERNAL, ALTER COLUMN response_chunks SET STORAGE EXTERNAL;

-- Stretches of bodies, each once: bodies that have a stretch in common have its rows in common.
CREATE TABLE chunks (
  hash bytea PRIMARY KEY,                             -- BLAKE3 of the data
  data bytea NOT NULL
);

-- What was written together. A number is given just before its transaction ends, and one after the other, so
-- that who has read up to one misses none: `flows.batch` is known earlier, and is in no order.
CREATE TABLE batches (
  number bigint PRIMARY KEY,
  batch  bigint NOT NULL UNIQUE,
  flows  bigint NOT NULL
);
CREATE SEQUENCE batch_ids;

-- What a WebSocket carried, in the order in which it was seen whole.
CREATE TABLE messages (
  trace_id   text      COLLATE "C" NOT NULL REFERENCES flows (trace_id) ON DELETE CASCADE,
  sequence   bigint    NOT NULL,                      -- from 1 on within the flow
  sender     text      NOT NULL,                      -- client | upstream
  at         timestamp NOT NULL,
  kind       text      NOT NULL,                      -- text | binary | ping | pong | close | problem
  close_code int,
  size       bigint    NOT NULL,                      -- bytes of the payload, inflated
  wire_size  bigint    NOT NULL,                      -- bytes of the payload as they passed
  frames     bigint    NOT NULL,
  coding     text      NOT NULL,                      -- plain | inflated | inflated_in_part | deflated | unknown
  complete   boolean   NOT NULL,                      -- false: its last frame never came
  payload    bytea     NOT NULL,                      -- what was kept
  PRIMARY KEY (trace_id, sequence)
);

-- What is missing, and why.
CREATE TABLE gaps (
  run_id     text      COLLATE "C" NOT NULL,
  number     bigint    NOT NULL,                      -- in the file that it is from
  at         timestamp NOT NULL,
  reason     text      NOT NULL,
  events     bigint    NOT NULL,
  body_bytes bigint    NOT NULL,
  PRIMARY KEY (run_id, number)
);

-- A body put together from its chunks; NULL if it has none. A chunk that is missing is an error, not a shorter body.
CREATE FUNCTION oriel_body(hashes bytea[]) RETURNS bytea
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$
DECLARE
  body  bytea;
  found bigint;
BEGIN
  SELECT string_agg(chunks.data, ''::bytea ORDER BY place), count(*) INTO body, found
  FROM unnest(hashes) WITH ORDINALITY AS wanted (hash, place) JOIN chunks USING (hash);
  IF found <> cardinality(hashes) THEN
    RAISE EXCEPTION 'a body has % chunks, of which % are here', cardinality(hashes), found
      USING ERRCODE = 'data_corrupted';
  END IF;
  RETURN body;
END
$$;

-- The values of a header field, by its name in lower case.
CREATE FUNCTION oriel_field_values(headers jsonb, name text) RETURNS SETOF text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT jsonb_array_elements_text(
    CASE jsonb_typeof(headers -> name)
      WHEN 'array' THEN headers -> name
      WHEN 'string' THEN jsonb_build_array(headers -> name)
      ELSE '[]'
    END)
$$;

-- Removes flows that came before a time, and the chunks that none has any more; answers how many flows.
CREATE FUNCTION oriel_prune(before timestamp) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  removed bigint;
BEGIN
  -- Who writes relies on chunks that are there already, and holds this lock shared meanwhile.
  PERFORM pg_advisory_xact_lock(1869768044, 2);
  DELETE FROM flows WHERE created_at < before;
  GET DIAGNOSTICS removed = ROW_COUNT;
  DELETE FROM batches WHERE NOT EXISTS (SELECT FROM flows WHERE flows.batch = batches.batch)
    AND number < (SELECT max(number) FROM batches);
  DELETE FROM chunks WHERE hash NOT IN (
    SELECT unnest(request_chunks) FROM flows WHERE request_chunks IS NOT NULL
    UNION ALL SELECT unnest(response_chunks) FROM flows WHERE response_chunks IS NOT NULL
  );
  RETURN removed;
END
$$;

-- The table that ccproxy writes, with its columns in their order and of their types. Rows can be deleted
-- through it. A flow that failed has no status, even if it had begun to be answered.
CREATE VIEW "CCProxy_HttpTraces" AS SELECT
  trace_id,
  proxy_direction,
  session_id,
  method,
  url,
  host,
  path,
  request_headers,
  coalesce(request_body, oriel_body(request_chunks)) AS request_body,
  least(coalesce(request_body_size, 0), 2147483647)::int AS request_body_size,
  request_content_type,
  CASE WHEN error_type IS NULL THEN status_code END AS status_code,
  coalesce(response_headers, '{}') AS response_headers,
  coalesce(response_body, oriel_body(response_chunks)) AS response_body,
  least(coalesce(response_body_size, 0), 2147483647)::int AS response_body_size,
  response_content_type,
  start_time,
  end_time,
  duration_ms,
  client_ip,
  server_ip,
  server_port,
  is_https,
  error_message,
  error_type,
  traffic_type,
  created_at
FROM flows;
