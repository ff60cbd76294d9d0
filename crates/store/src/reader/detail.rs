//! Reads everything about one flow, and its bodies.

use rusqlite::{Connection, Row};
use serde::Deserialize;
use traffic::Timestamp;

use super::row::{bytes, read_row, time};
use crate::ingest::bodies;
use crate::{
    Body, ConnectionView, FlowDetail, FlowRef, FlowState, HeadView, Message, StoreError, TlsView,
    UpstreamView,
};

/// Names and values of fields.
type Fields = Vec<(String, String)>;

/// An interim response as it is stored.
#[derive(Deserialize)]
struct Informational {
    line: String,
    headers: Fields,
    size: u64,
}

/// Reads a flow; `None` if there is none of that id.
pub(super) fn read(
    connection: &Connection,
    flow: FlowRef,
) -> Result<Option<FlowDetail>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM flows WHERE run_id = ?1 AND seq = ?2")?;
    let mut rows = statement.query((flow.run.as_str(), seq(flow)))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let client: Option<i64> = row.get("client_connection")?;
    let upstream: Option<i64> = row.get("upstream_connection")?;
    let informational: Vec<Informational> = json(row, "informational")?.unwrap_or_default();
    Ok(Some(FlowDetail {
        row: read_row(row)?,
        scheme: row.get("scheme")?,
        request: HeadView {
            start_line: row.get("request_line")?,
            fields: json(row, "request_headers")?.unwrap_or_default(),
            bytes: bytes(row, "request_head_size")?.unwrap_or(0),
        },
        response: response_head(row)?,
        informational: informational.into_iter().map(HeadView::from).collect(),
        request_trailers: json(row, "request_trailers")?.unwrap_or_default(),
        response_trailers: json(row, "response_trailers")?.unwrap_or_default(),
        request_content_type: row.get("request_content_type")?,
        request_kept_bytes: bytes(row, "request_body_kept")?,
        response_kept_bytes: bytes(row, "response_body_kept")?,
        upstream_ready_at: time(row, "upstream_ready_at")?,
        upstream_reused: row.get("upstream_reused")?,
        request_sent_at: time(row, "request_sent_at")?,
        response_started_at: time(row, "response_started_at")?,
        response_ended_at: time(row, "response_ended_at")?,
        client: match client {
            Some(client) => read_client(connection, client)?,
            None => None,
        },
        upstream: match upstream {
            Some(upstream) => read_upstream(connection, upstream)?,
            None => None,
        },
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
    let mut statement =
        connection.prepare_cached("SELECT * FROM flows WHERE run_id = ?1 AND seq = ?2")?;
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
    if content.is_empty() && seen.unwrap_or(0) == 0 {
        return Ok(Some(None));
    }
    let kept = u64::try_from(content.len()).unwrap_or(u64::MAX);
    let fields: Fields = json(row, &format!("{name}_headers"))?.unwrap_or_default();
    let state = read_row(row)?.state;
    Ok(Some(Some(Body {
        bytes: content,
        seen,
        truncated: match seen {
            Some(seen) => kept < seen,
            None => matches!(state, FlowState::Open | FlowState::Interrupted),
        },
        content_encoding: field(&fields, "content-encoding"),
        content_type: row.get(&*format!("{name}_content_type"))?,
    })))
}

fn response_head(row: &Row<'_>) -> Result<Option<HeadView>, StoreError> {
    let line: Option<String> = row.get("response_line")?;
    let Some(start_line) = line else {
        return Ok(None);
    };
    Ok(Some(HeadView {
        start_line,
        fields: json(row, "response_headers")?.unwrap_or_default(),
        bytes: bytes(row, "response_head_size")?.unwrap_or(0),
    }))
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

fn field(fields: &Fields, name: &str) -> Option<String> {
    fields
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.clone())
}

fn seq(flow: FlowRef) -> i64 {
    i64::try_from(flow.seq).unwrap_or(i64::MAX)
}

impl From<Informational> for HeadView {
    fn from(stored: Informational) -> Self {
        Self {
            start_line: stored.line,
            fields: stored.headers,
            bytes: stored.size,
        }
    }
}
