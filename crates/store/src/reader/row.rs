//! Reads a row of `flows` as a list shows it.

use llm::{Method, TrafficType};
use rusqlite::Row;
use rusqlite::types::ValueRef;
use traffic::Timestamp;
use traffic::rules::redact::Redaction;

use crate::annotate::parse_tags;
use crate::{ErrorView, FlowKind, FlowRef, FlowRow, FlowState, RunId, SessionMark, StoreError};

/// The columns that [`read_row`] needs.
pub(crate) const ROW_COLUMNS: &str = "id, run_id, seq, trace_id, kind, state, start_time, duration_us, \
    first_byte_us, method, url, host, port, path, status_code, request_version, response_version, \
    route_action, route_rule, request_body_size, response_body_size, truncated, tunnel_bytes_sent, \
    tunnel_bytes_received, response_content_type, error_side, error_stage, error_type, error_message, \
    replied_status, danger_unverified, redaction, tags, note, traffic_type, session_id, session_method, \
    agent, agent_id, parent_agent_id";

/// Reads a row that has the columns of [`ROW_COLUMNS`].
pub(crate) fn read_row(row: &Row<'_>) -> Result<FlowRow, StoreError> {
    let started_at = Timestamp(row.get("start_time")?);
    let duration: Option<i64> = row.get("duration_us")?;
    let first_byte: Option<i64> = row.get("first_byte_us")?;
    let request_size = bytes(row, "request_body_size")?;
    let response_size = bytes(row, "response_body_size")?;
    Ok(FlowRow {
        id: FlowRef {
            run: run_id(row)?,
            seq: bytes(row, "seq")?.unwrap_or(0),
        },
        uuid: row.get("trace_id")?,
        kind: kind(row.get_ref("kind")?.as_str().unwrap_or_default()),
        state: state(row.get_ref("state")?.as_str().unwrap_or_default()),
        started_at,
        ended_at: duration.map(|micros| after(started_at, micros)),
        duration_ms: duration.map(milliseconds),
        first_byte_ms: first_byte.map(milliseconds),
        method: row.get("method")?,
        url: row.get("url")?,
        host: row.get("host")?,
        port: row.get("port")?,
        path: row.get("path")?,
        status: row.get("status_code")?,
        client_version: row.get("request_version")?,
        upstream_version: row.get("response_version")?,
        traffic_type: TrafficType::from_name(
            row.get_ref("traffic_type")?.as_str().unwrap_or_default(),
        ),
        session: session(row)?,
        route_action: row.get("route_action")?,
        route_rule: row.get("route_rule")?,
        request_bytes: bytes(row, "tunnel_bytes_sent")?.or(request_size),
        response_bytes: bytes(row, "tunnel_bytes_received")?.or(response_size),
        response_content_type: row.get("response_content_type")?,
        truncated: row.get("truncated")?,
        error: error(row)?,
        danger_unverified: row.get("danger_unverified")?,
        redaction: match row.get_ref("redaction")?.as_str() {
            Ok("none") => Redaction::None,
            _ => Redaction::Basic,
        },
        tags: match row.get_ref("tags")? {
            ValueRef::Text(json) => parse_tags(&String::from_utf8_lossy(json))?,
            _ => Vec::new(),
        },
        note: row.get("note")?,
    })
}

fn session(row: &Row<'_>) -> Result<Option<SessionMark>, StoreError> {
    let id: Option<String> = row.get("session_id")?;
    let Some(id) = id else {
        return Ok(None);
    };
    let method: String = row.get("session_method")?;
    let method = Method::from_name(&method).ok_or_else(|| StoreError::Damaged {
        detail: format!("a session is known by {method:?}"),
    })?;
    Ok(Some(SessionMark {
        id,
        method,
        agent: row.get("agent")?,
        agent_id: row.get("agent_id")?,
        parent_agent_id: row.get("parent_agent_id")?,
    }))
}

/// The run of a row.
pub(super) fn run_id(row: &Row<'_>) -> Result<RunId, StoreError> {
    let text: String = row.get("run_id")?;
    text.parse()
        .map_err(|error: crate::UnknownId| StoreError::Damaged {
            detail: error.to_string(),
        })
}

/// A time that may be absent.
pub(super) fn time(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>, StoreError> {
    let micros: Option<i64> = row.get(column)?;
    Ok(micros.map(Timestamp))
}

/// A number of bytes that may be absent.
pub(super) fn bytes(row: &Row<'_>, column: &str) -> Result<Option<u64>, StoreError> {
    let number: Option<i64> = row.get(column)?;
    Ok(number.and_then(|number| u64::try_from(number).ok()))
}

/// A time so many microseconds later.
pub(super) fn after(start: Timestamp, micros: i64) -> Timestamp {
    Timestamp(start.0.saturating_add(micros))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 microseconds are 285 years"
)]
pub(crate) fn milliseconds(micros: i64) -> f64 {
    micros as f64 / 1000.0
}

fn error(row: &Row<'_>) -> Result<Option<ErrorView>, StoreError> {
    let side: Option<String> = row.get("error_side")?;
    let Some(side) = side else {
        return Ok(None);
    };
    Ok(Some(ErrorView {
        side,
        stage: row.get("error_stage")?,
        kind: row.get("error_type")?,
        text: row.get("error_message")?,
        replied_status: row.get("replied_status")?,
    }))
}

/// The kind of this name.
pub(crate) fn kind(name: &str) -> FlowKind {
    match name {
        "tunnel" => FlowKind::Tunnel,
        "websocket" => FlowKind::WebSocket,
        _ => FlowKind::Http,
    }
}

/// The state of this name.
pub(crate) fn state(name: &str) -> FlowState {
    match name {
        "open" => FlowState::Open,
        "completed" => FlowState::Completed,
        "failed" => FlowState::Failed,
        _ => FlowState::Interrupted,
    }
}
