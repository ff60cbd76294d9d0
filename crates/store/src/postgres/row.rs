//! Reads a flow, and a run, from the columns they are stored in.

use std::sync::Arc;

use postgres::Row;
use postgres::types::{FromSql, Json};
use traffic::Timestamp;
use traffic::rules::redact::Redaction;

use super::time::Time;
use crate::reader::row::{kind, milliseconds, state};
use crate::{
    ErrorView, FlowDetail, FlowRef, FlowRow, Origin, Run, RunId, RunKind, RunRecord, SessionMark,
    SessionMethod, StoreError, StreamMessage, TrafficType,
};

/// The columns that [`read_row`] needs.
pub(super) const ROW_COLUMNS: &str = "number, run_id, seq, trace_id, kind, state, start_time, end_time, \
    duration_us, first_byte_us, method, url, host, port, path, status_code, request_version, \
    response_version, route_action, route_rule, request_body_size, response_body_size, truncated, \
    tunnel_bytes_sent, tunnel_bytes_received, response_content_type, error_side, error_stage, \
    error_type, error_message, replied_status, danger_unverified, redaction, flow_tags, note, traffic_type, session_id, \
    session_method, agent, agent_id, parent_agent_id";

/// The columns that [`read_run`] and [`read_run_record`] need.
pub(super) const RUN_COLUMNS: &str = "id, uuid, kind, name, argv, pid, started_at, ended_at, exit_code, \
    signal, instance, \"user\", tags, (SELECT max(seq) FROM flows WHERE run_id = runs.id) AS flows";

/// A column; an error if it is not of the type it should be.
pub(super) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: &str) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| StoreError::Damaged {
        detail: format!("column {column} is not what it should be: {error}"),
    })
}

/// Reads a row that has the columns of [`ROW_COLUMNS`].
pub(super) fn read_row(row: &Row) -> Result<FlowRow, StoreError> {
    let started_at = time(row, "start_time")?;
    let duration: Option<i64> = get(row, "duration_us")?;
    let first_byte: Option<i64> = get(row, "first_byte_us")?;
    let request_size = bytes(row, "request_body_size")?;
    let response_size = bytes(row, "response_body_size")?;
    Ok(FlowRow {
        id: FlowRef {
            run: run_id(row, "run_id")?,
            seq: bytes(row, "seq")?.unwrap_or(0),
        },
        uuid: get(row, "trace_id")?,
        kind: kind(get(row, "kind")?),
        state: state(get(row, "state")?),
        started_at,
        ended_at: optional_time(row, "end_time")?,
        duration_ms: duration.map(milliseconds),
        first_byte_ms: first_byte.map(milliseconds),
        method: get(row, "method")?,
        url: get(row, "url")?,
        host: get(row, "host")?,
        port: small(row, "port")?.unwrap_or(0),
        path: get(row, "path")?,
        status: small(row, "status_code")?,
        client_version: get(row, "request_version")?,
        upstream_version: get(row, "response_version")?,
        traffic_type: TrafficType::from_name(get(row, "traffic_type")?),
        session: session(row)?,
        route_action: get(row, "route_action")?,
        route_rule: get(row, "route_rule")?,
        request_bytes: bytes(row, "tunnel_bytes_sent")?.or(request_size),
        response_bytes: bytes(row, "tunnel_bytes_received")?.or(response_size),
        response_content_type: get(row, "response_content_type")?,
        truncated: get(row, "truncated")?,
        error: error(row)?,
        danger_unverified: get(row, "danger_unverified")?,
        redaction: match get::<&str>(row, "redaction")? {
            "none" => Redaction::None,
            _ => Redaction::Basic,
        },
        tags: get(row, "flow_tags")?,
        note: get(row, "note")?,
    })
}

/// Reads a row that has the column `detail` besides. Where both say something, the columns hold: an id may
/// be another one here.
pub(super) fn read_detail(row: &Row) -> Result<FlowDetail, StoreError> {
    let Json(mut detail): Json<FlowDetail> = get(row, "detail")?;
    detail.row = read_row(row)?;
    Ok(detail)
}

/// Reads a run from the columns of [`RUN_COLUMNS`].
pub(super) fn read_run(row: &Row) -> Result<Run, StoreError> {
    let Json(argv) = get(row, "argv")?;
    Ok(Run {
        id: run_id(row, "id")?,
        uuid: get(row, "uuid")?,
        name: get(row, "name")?,
        argv,
        kind: RunKind::from_name(get(row, "kind")?),
        pid: u32::try_from(get::<i64>(row, "pid")?).unwrap_or(0),
        started_at: time(row, "started_at")?,
        ended_at: optional_time(row, "ended_at")?,
        exit_code: get(row, "exit_code")?,
        signal: get(row, "signal")?,
        flows: bytes(row, "flows")?.unwrap_or(0),
    })
}

/// The same, as it is copied to other databases.
pub(super) fn read_run_record(row: &Row) -> Result<Arc<RunRecord>, StoreError> {
    let run = read_run(row)?;
    Ok(Arc::new(RunRecord {
        uuid: run.uuid,
        id: run.id,
        name: run.name,
        argv: run.argv,
        kind: run.kind,
        pid: run.pid,
        started_at: run.started_at,
        ended_at: run.ended_at,
        exit_code: run.exit_code,
        signal: run.signal,
        origin: Origin {
            instance: get(row, "instance")?,
            user: get(row, "user")?,
            tags: get(row, "tags")?,
        },
    }))
}

/// Reads a row of `messages`.
pub(super) fn read_message(row: &Row) -> Result<StreamMessage, StoreError> {
    let number = |column| bytes(row, column).map(Option::unwrap_or_default);
    Ok(StreamMessage {
        sequence: number("sequence")?,
        sender: get(row, "sender")?,
        at: time(row, "at")?,
        kind: get(row, "kind")?,
        close_code: small(row, "close_code")?,
        bytes: number("size")?,
        wire_bytes: number("wire_size")?,
        frames: number("frames")?,
        coding: get(row, "coding")?,
        complete: get(row, "complete")?,
        payload: get(row, "payload")?,
    })
}

/// The id of a run.
pub(super) fn run_id(row: &Row, column: &str) -> Result<RunId, StoreError> {
    get::<&str>(row, column)?
        .parse()
        .map_err(|error: crate::UnknownId| StoreError::Damaged {
            detail: error.to_string(),
        })
}

/// A number that is not below zero and may be absent.
pub(super) fn bytes(row: &Row, column: &str) -> Result<Option<u64>, StoreError> {
    let number: Option<i64> = get(row, column)?;
    Ok(number.and_then(|number| u64::try_from(number).ok()))
}

pub(super) fn time(row: &Row, column: &str) -> Result<Timestamp, StoreError> {
    get(row, column).map(|Time(at)| at)
}

fn optional_time(row: &Row, column: &str) -> Result<Option<Timestamp>, StoreError> {
    let at: Option<Time> = get(row, column)?;
    Ok(at.map(|Time(at)| at))
}

/// A port, a status or the like.
fn small(row: &Row, column: &str) -> Result<Option<u16>, StoreError> {
    let number: Option<i32> = get(row, column)?;
    Ok(number.and_then(|number| u16::try_from(number).ok()))
}

fn session(row: &Row) -> Result<Option<SessionMark>, StoreError> {
    let id: Option<String> = get(row, "session_id")?;
    let Some(id) = id else {
        return Ok(None);
    };
    let method: Option<&str> = get(row, "session_method")?;
    let method = method.and_then(SessionMethod::from_name);
    let method = method.ok_or_else(|| StoreError::Damaged {
        detail: format!("it is not known how session {id} is known"),
    })?;
    Ok(Some(SessionMark {
        id,
        method,
        agent: get(row, "agent")?,
        agent_id: get(row, "agent_id")?,
        parent_agent_id: get(row, "parent_agent_id")?,
    }))
}

fn error(row: &Row) -> Result<Option<ErrorView>, StoreError> {
    let side: Option<String> = get(row, "error_side")?;
    let Some(side) = side else {
        return Ok(None);
    };
    Ok(Some(ErrorView {
        side,
        stage: get(row, "error_stage")?,
        kind: get(row, "error_type")?,
        text: get(row, "error_message")?,
        replied_status: small(row, "replied_status")?,
    }))
}
