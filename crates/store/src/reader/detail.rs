//! Reads everything about one flow, and its bodies.

use rusqlite::{Connection, Row};
use serde::Deserialize;
use traffic::Timestamp;

use super::messages;
use super::packed::Detail;
use super::row::{bytes, read_row, time};
use crate::detail::Field;
use crate::ingest::bodies;
use crate::limits::READ_HEAD_BYTES_MAX;
use crate::{
    Body, ConnectionView, FlowDetail, FlowKind, FlowRef, FlowState, GatewayView, HeadView, Message,
    ProcessView, StoreError, TlsView, UpstreamView, head_delta, head_text,
};

/// A flow by its run and number, with what its heads are compared with.
pub(super) const FLOW: &str = "WITH arrival AS (
      SELECT first_id, last_id FROM arrivals WHERE run_id = ?1 AND first_seq <= ?2
      ORDER BY first_seq DESC LIMIT 1
    )
    SELECT *,
      (SELECT head FROM client_connections WHERE id = client_connection) AS client_head,
      (SELECT head FROM upstream_connections WHERE id = upstream_connection) AS upstream_head
    FROM flows_shown
    WHERE run_id = ?1 AND seq = ?2
      AND id BETWEEN (SELECT first_id FROM arrival) AND (SELECT last_id FROM arrival)";

fn gateway(detail: &Detail<'_>) -> Option<GatewayView> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Some(GatewayView {
        route: text(detail.gateway_route?),
        url: text(detail.gateway_url?),
        request_id: detail.gateway_request_id.map(text),
    })
}

/// Reads a flow; `None` if there is none of that id.
pub(super) fn read(
    connection: &Connection,
    flow: FlowRef,
) -> Result<Option<FlowDetail>, StoreError> {
    let mut statement = connection.prepare_cached(FLOW)?;
    let mut rows = statement.query((flow.run.as_str(), seq(flow)))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let flow = read_row(row)?;
    let start = flow.started_at;
    let detail = unpack(row)?;
    let size = |field| detail.number(field).unwrap_or(0);
    let request = read_head(row, Message::Request, detail.request_head)?;
    let response = read_head(row, Message::Response, detail.response_head)?;
    let upstream: Option<i64> = row.get("upstream_connection")?;
    let messages = match flow.kind {
        FlowKind::WebSocket => messages::count(connection, row.get("id")?, &detail)?,
        FlowKind::Http | FlowKind::Tunnel => None,
    };
    Ok(Some(FlowDetail {
        scheme: row.get("scheme")?,
        request_content_type: request
            .as_deref()
            .and_then(|head| head_text::field(head, "content-type")),
        request: HeadView::new(&request.unwrap_or_default(), size(Field::RequestHeadSize)),
        response: response.map(|head| HeadView::new(&head, size(Field::ResponseHeadSize))),
        informational: detail
            .informational
            .iter()
            .map(|(size, head)| HeadView::new(head, *size))
            .collect(),
        request_trailers: owned_fields(detail.request_trailers.unwrap_or_default()),
        response_trailers: owned_fields(detail.response_trailers.unwrap_or_default()),
        request_kept_bytes: detail.number(Field::RequestKept),
        response_kept_bytes: detail.number(Field::ResponseKept),
        gateway: gateway(&detail),
        upstream_ready_at: detail.time(Field::UpstreamReadyAt, start),
        upstream_reused: detail
            .number(Field::UpstreamReused)
            .map(|reused| reused == 1),
        request_sent_at: detail.time(Field::RequestEndedAt, start),
        response_started_at: time(row, "response_started_at")?,
        response_ended_at: detail.time(Field::ResponseEndedAt, start),
        client: read_client(connection, row.get("client_connection")?)?,
        upstream: match upstream {
            Some(upstream) => read_upstream(connection, upstream)?,
            None => None,
        },
        messages,
        row: flow,
    }))
}

/// Reads a body; `None` if there is no such flow, `Some(None)` if the message had none.
#[expect(
    clippy::option_option,
    reason = "no flow and no body are different answers to the caller"
)]
pub(super) fn read_body(
    connection: &Connection,
    flow: FlowRef,
    message: Message,
) -> Result<Option<Option<Body>>, StoreError> {
    let mut statement = connection.prepare_cached(FLOW)?;
    let mut rows = statement.query((flow.run.as_str(), seq(flow)))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let name = message.as_str();
    let body: Option<i64> = row.get(&*format!("{name}_body"))?;
    let content = match body {
        Some(body) => bodies::read_body(connection, body)?,
        None => bodies::read_parts(connection, row.get("id")?, message)?,
    };
    let seen = bytes(row, &format!("{name}_body_size"))?;
    let flow = read_row(row)?;
    // What a WebSocket carried is kept as messages.
    if content.is_empty() && (seen.unwrap_or(0) == 0 || flow.kind == FlowKind::WebSocket) {
        return Ok(Some(None));
    }
    let kept = u64::try_from(content.len()).unwrap_or(u64::MAX);
    let detail = unpack(row)?;
    let steps = match message {
        Message::Request => detail.request_head,
        Message::Response => detail.response_head,
    };
    let head = read_head(row, message, steps)?.unwrap_or_default();
    Ok(Some(Some(Body {
        bytes: content,
        seen,
        truncated: match seen {
            Some(seen) => kept < seen,
            None => matches!(flow.state, FlowState::Open | FlowState::Interrupted),
        },
        content_encoding: head_text::field(&head, "content-encoding"),
        content_type: head_text::field(&head, "content-type"),
    })))
}

fn unpack<'r>(row: &'r Row<'_>) -> Result<Detail<'r>, StoreError> {
    let packed = row.get_ref("detail")?.as_blob();
    let detail = packed.ok().and_then(Detail::read);
    detail.ok_or_else(|| damaged("the column detail of a flow cannot be unpacked"))
}

/// The text of a head, where there is one.
fn read_head(
    row: &Row<'_>,
    message: Message,
    steps: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(steps) = steps else {
        return Ok(None);
    };
    let column = match message {
        Message::Request => "client_head",
        Message::Response => "upstream_head",
    };
    let base: Option<Vec<u8>> = row.get(column)?;
    let head = head_delta::read(&base.unwrap_or_default(), steps, READ_HEAD_BYTES_MAX);
    let head = head.ok_or_else(|| damaged("a head of a flow cannot be put together"))?;
    Ok(Some(head))
}

fn read_client(connection: &Connection, id: i64) -> Result<Option<ConnectionView>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM client_connections WHERE id = ?1")?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(Some(ConnectionView {
        front: row.get("front")?,
        client_address: row.get("client_address")?,
        proxy_address: row.get("proxy_address")?,
        accepted_at: Timestamp(row.get("accepted_at")?),
        tls_done_at: time(row, "tls_done_at")?,
        tls: tls(row, false)?,
        no_tls: row.get("no_tls")?,
        sni: row.get("tls_sni")?,
        sni_differs: row.get("sni_differs")?,
        ja3: row.get("ja3")?,
        ja4: row.get("ja4")?,
        process: read_process(row)?,
        no_process: row.get("no_process")?,
    }))
}

fn read_process(row: &Row<'_>) -> Result<Option<ProcessView>, StoreError> {
    let pid: Option<u32> = row.get("pid")?;
    let Some(pid) = pid else {
        return Ok(None);
    };
    Ok(Some(ProcessView {
        pid,
        name: row.get("process_name")?,
        path: row.get("process_path")?,
        command_line: json(row, "command_line")?.unwrap_or_default(),
        ancestors: json(row, "ancestors")?.unwrap_or_default(),
        container: row.get("container")?,
    }))
}

fn read_upstream(connection: &Connection, id: i64) -> Result<Option<UpstreamView>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM upstream_connections WHERE id = ?1")?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(Some(UpstreamView {
        address: row.get("address")?,
        local_address: row.get("local_address")?,
        proxy: row.get("proxy")?,
        dial_started_at: Timestamp(row.get("dial_started_at")?),
        connected_at: Timestamp(row.get("connected_at")?),
        tls_done_at: time(row, "tls_done_at")?,
        tls: tls(row, row.get("danger_unverified")?)?,
    }))
}

fn tls(row: &Row<'_>, danger_unverified: bool) -> Result<Option<TlsView>, StoreError> {
    let version: Option<String> = row.get("tls_version")?;
    let Some(version) = version else {
        return Ok(None);
    };
    Ok(Some(TlsView {
        version,
        cipher: row.get("tls_cipher")?,
        sni: row.get("tls_sni")?,
        alpn: row.get("tls_alpn")?,
        certificate: json(row, "certificate")?,
        danger_unverified,
    }))
}

/// A column that holds JSON.
fn json<T: for<'j> Deserialize<'j>>(row: &Row<'_>, column: &str) -> Result<Option<T>, StoreError> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| StoreError::Damaged {
            detail: format!("column {column} of flows is not what it should be: {error}"),
        })
}

fn damaged(detail: &str) -> StoreError {
    StoreError::Damaged {
        detail: detail.to_owned(),
    }
}

fn owned_fields(head: &[u8]) -> Vec<(String, String)> {
    head_text::fields(head)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

pub(super) fn seq(flow: FlowRef) -> i64 {
    i64::try_from(flow.seq).unwrap_or(i64::MAX)
}

impl HeadView {
    fn new(head: &[u8], bytes: u64) -> Self {
        Self {
            start_line: head_text::start_line(head).into_owned(),
            fields: owned_fields(head),
            bytes,
        }
    }
}
