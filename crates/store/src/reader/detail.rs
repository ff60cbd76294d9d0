//! Reads everything about one flow, and its bodies.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

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

/// A flow by its run and number.
pub(crate) const FLOW: &str = "WITH arrival AS (
      SELECT first_id, last_id FROM arrivals WHERE run_id = ?1 AND first_seq <= ?2
      ORDER BY first_seq DESC LIMIT 1
    )
    SELECT * FROM flows_shown
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

/// Connections that were read, by their rows: many flows share one.
#[derive(Debug, Default)]
pub(super) struct Connections {
    clients: HashMap<i64, Side<ConnectionView>>,
    upstreams: HashMap<i64, Side<UpstreamView>>,
}

/// One connection of a flow.
#[derive(Debug)]
pub(super) struct Side<V> {
    /// `None` if the row is missing, which no writer leaves behind.
    view: Option<V>,
    /// What heads on it are compared with.
    head: Vec<u8>,
}

/// Reads a flow; `None` if there is none of that id.
pub(crate) fn read(
    connection: &Connection,
    flow: FlowRef,
) -> Result<Option<FlowDetail>, StoreError> {
    let mut statement = connection.prepare_cached(FLOW)?;
    let mut rows = statement.query((flow.run.as_str(), seq(flow)))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    read_flow(connection, row, &mut Connections::default()).map(Some)
}

/// Reads a row of `flows_shown`.
pub(super) fn read_flow(
    connection: &Connection,
    row: &Row<'_>,
    connections: &mut Connections,
) -> Result<FlowDetail, StoreError> {
    let flow = read_row(row)?;
    let start = flow.started_at;
    let detail = unpack(row)?;
    let size = |field| detail.number(field).unwrap_or(0);
    let client = connections.client(connection, row)?;
    let request = put_together(&client.head, detail.request_head)?;
    let client = client.view.clone();
    let (upstream, response) = match connections.upstream(connection, row)? {
        Some(upstream) => (
            upstream.view.clone(),
            put_together(&upstream.head, detail.response_head)?,
        ),
        None => (None, put_together(&[], detail.response_head)?),
    };
    let messages = match flow.kind {
        FlowKind::WebSocket => messages::count(connection, row.get("id")?, &detail)?,
        FlowKind::Http | FlowKind::Tunnel => None,
    };
    Ok(FlowDetail {
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
        client,
        upstream,
        messages,
        row: flow,
    })
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
    let content = read_content(connection, row, message)?;
    let seen = bytes(row, &format!("{}_body_size", message.as_str()))?;
    let flow = read_row(row)?;
    // What a WebSocket carried is kept as messages.
    if content.is_empty() && (seen.unwrap_or(0) == 0 || flow.kind == FlowKind::WebSocket) {
        return Ok(Some(None));
    }
    let kept = u64::try_from(content.len()).unwrap_or(u64::MAX);
    let head = read_head(connection, row, message)?.unwrap_or_default();
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

/// What is stored of a body; empty if nothing is.
pub(crate) fn read_content(
    connection: &Connection,
    row: &Row<'_>,
    message: Message,
) -> Result<Vec<u8>, StoreError> {
    let body: Option<i64> = row.get(match message {
        Message::Request => "request_body",
        Message::Response => "response_body",
    })?;
    match body {
        Some(body) => bodies::read_body(connection, body),
        None => bodies::read_parts(connection, row.get("id")?, message),
    }
}

/// The text of a head, where there is one.
fn read_head(
    connection: &Connection,
    row: &Row<'_>,
    message: Message,
) -> Result<Option<Vec<u8>>, StoreError> {
    let detail = unpack(row)?;
    let mut connections = Connections::default();
    match message {
        Message::Request => {
            let client = connections.client(connection, row)?;
            put_together(&client.head, detail.request_head)
        }
        Message::Response => {
            let upstream = connections.upstream(connection, row)?;
            let base = upstream.map(|upstream| &*upstream.head);
            put_together(base.unwrap_or_default(), detail.response_head)
        }
    }
}

/// A head from what it is compared with, where there is one.
fn put_together(base: &[u8], steps: Option<&[u8]>) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(steps) = steps else {
        return Ok(None);
    };
    let head = head_delta::read(base, steps, READ_HEAD_BYTES_MAX);
    let head = head.ok_or_else(|| damaged("a head of a flow cannot be put together"))?;
    Ok(Some(head))
}

impl Connections {
    /// The client's connection of a flow.
    fn client(
        &mut self,
        connection: &Connection,
        flow: &Row<'_>,
    ) -> Result<&Side<ConnectionView>, StoreError> {
        Ok(match self.clients.entry(flow.get("client_connection")?) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let side = read_client(connection, *place.key())?;
                place.insert(side)
            }
        })
    }

    /// The upstream's connection of a flow, if it has one.
    fn upstream(
        &mut self,
        connection: &Connection,
        flow: &Row<'_>,
    ) -> Result<Option<&Side<UpstreamView>>, StoreError> {
        let id: Option<i64> = flow.get("upstream_connection")?;
        let Some(id) = id else {
            return Ok(None);
        };
        Ok(Some(match self.upstreams.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(read_upstream(connection, id)?),
        }))
    }
}

impl<V> Side<V> {
    fn missing() -> Self {
        Self {
            view: None,
            head: Vec::new(),
        }
    }
}

fn read_client(connection: &Connection, id: i64) -> Result<Side<ConnectionView>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM client_connections WHERE id = ?1")?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else {
        return Ok(Side::missing());
    };
    let view = ConnectionView {
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
        user: row.get("client_user")?,
        process: read_process(row)?,
        no_process: row.get("no_process")?,
    };
    let head: Option<Vec<u8>> = row.get("head")?;
    Ok(Side {
        view: Some(view),
        head: head.unwrap_or_default(),
    })
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

fn read_upstream(connection: &Connection, id: i64) -> Result<Side<UpstreamView>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM upstream_connections WHERE id = ?1")?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else {
        return Ok(Side::missing());
    };
    let view = UpstreamView {
        address: row.get("address")?,
        local_address: row.get("local_address")?,
        proxy: row.get("proxy")?,
        dial_started_at: Timestamp(row.get("dial_started_at")?),
        connected_at: Timestamp(row.get("connected_at")?),
        tls_done_at: time(row, "tls_done_at")?,
        tls: tls(row, row.get("danger_unverified")?)?,
    };
    let head: Option<Vec<u8>> = row.get("head")?;
    Ok(Side {
        view: Some(view),
        head: head.unwrap_or_default(),
    })
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

pub(crate) fn seq(flow: FlowRef) -> i64 {
    i64::try_from(flow.seq).unwrap_or(i64::MAX)
}

impl HeadView {
    /// Reads the text of a head.
    pub(crate) fn new(head: &[u8], bytes: u64) -> Self {
        Self {
            start_line: head_text::start_line(head).into_owned(),
            fields: owned_fields(head),
            bytes,
        }
    }
}
