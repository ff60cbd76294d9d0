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
