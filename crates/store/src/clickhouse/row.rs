//! Flows, messages and runs as they are read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use traffic::Timestamp;
use traffic::rules::redact::Redaction;

use crate::reader::row::{kind, milliseconds, state};
use crate::{
    ErrorView, FlowDetail, FlowKind, FlowRef, FlowRow, Origin, Run, RunId, RunKind, RunRecord,
    SessionMark, SessionMethod, StoreError, StreamMessage, TrafficType,
};

/// The columns of [`ReadFlow`].
pub(super) const ROW_COLUMNS: &str = "number, run_id, seq, trace_id, kind, state, \
    toUnixTimestamp64Micro(start_time) AS started, toUnixTimestamp64Micro(end_time) AS ended, \
    duration_us, first_byte_us, method, url, host, port, path, status_code, request_version, \
    response_version, route_action, route_rule, request_body_size, response_body_size, truncated, \
    tunnel_bytes_sent, tunnel_bytes_received, response_content_type, error_side, error_stage, \
    error_type, error_message, replied_status, danger_unverified, redaction, flow_tags, note, traffic_type, \
    session_id, session_method, agent, agent_id, parent_agent_id";

/// The columns of [`ReadRun`].
pub(super) const RUN_COLUMNS: &str = "id, uuid, kind, name, argv, pid, \
    toUnixTimestamp64Micro(started_at) AS started, toUnixTimestamp64Micro(ended_at) AS ended, \
    exit_code, signal, instance, user, tags";

/// The columns of [`ReadMessage`].
pub(super) const MESSAGE_COLUMNS: &str = "sequence, sender, \
    toUnixTimestamp64Micro(at) AS at_us, kind, close_code, size, wire_size, frames, coding, \
    complete, base64Encode(payload) AS content";

/// A flow as a list shows it.
#[derive(Debug, Deserialize)]
pub(super) struct ReadFlow {
    pub(super) number: i64,
    run_id: String,
    seq: u64,
    trace_id: String,
    kind: String,
    state: String,
    started: i64,
    ended: Option<i64>,
    duration_us: Option<i64>,
    first_byte_us: Option<i64>,
    method: String,
    url: String,
    host: String,
    port: u16,
    path: String,
    status_code: Option<u16>,
    request_version: Option<String>,
    response_version: Option<String>,
    route_action: String,
    route_rule: String,
    pub(super) request_body_size: Option<u64>,
    pub(super) response_body_size: Option<u64>,
    truncated: bool,
    tunnel_bytes_sent: Option<u64>,
    tunnel_bytes_received: Option<u64>,
    response_content_type: Option<String>,
    error_side: Option<String>,
    error_stage: Option<String>,
    error_type: Option<String>,
    error_message: Option<String>,
    replied_status: Option<u16>,
    danger_unverified: bool,
    redaction: String,
    flow_tags: Vec<String>,
    note: Option<String>,
    traffic_type: String,
    session_id: Option<String>,
    session_method: Option<String>,
    agent: Option<String>,
    agent_id: Option<String>,
    parent_agent_id: Option<String>,
}

/// A flow with all that is known of it, and what was asked for of its bodies.
#[derive(Debug, Deserialize)]
pub(super) struct ReadDetail {
    #[serde(flatten)]
    pub(super) flow: ReadFlow,
    detail: String,
    #[serde(default)]
    pub(super) request_content: Option<String>,
    #[serde(default)]
    pub(super) response_content: Option<String>,
}

/// A row of `runs`.
#[derive(Debug, Deserialize)]
pub(super) struct ReadRun {
    id: String,
    uuid: String,
    kind: String,
    name: Option<String>,
    argv: Vec<String>,
    pid: u32,
    started: i64,
    ended: Option<i64>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    instance: Option<String>,
    user: Option<String>,
    tags: Vec<String>,
}

/// A row of `messages`.
#[derive(Debug, Deserialize)]
pub(super) struct ReadMessage {
    sequence: u64,
    sender: String,
    at_us: i64,
    kind: String,
    close_code: Option<u16>,
    size: u64,
    wire_size: u64,
    frames: u64,
    coding: String,
    complete: bool,
    content: String,
}

impl ReadFlow {
    /// The flow.
    pub(super) fn into_row(self) -> Result<FlowRow, StoreError> {
        let session = match self.session_id {
            Some(id) => {
                let method = self
                    .session_method
                    .as_deref()
                    .and_then(SessionMethod::from_name);
                let method = method.ok_or_else(|| {
                    damaged(&format!("it is not known how session {id} is known"))
                })?;
                Some(SessionMark {
                    id,
                    method,
                    agent: self.agent,
                    agent_id: self.agent_id,
                    parent_agent_id: self.parent_agent_id,
                })
            }
            None => None,
        };
        Ok(FlowRow {
            id: FlowRef {
                run: run_id(&self.run_id)?,
                seq: self.seq,
            },
            uuid: self.trace_id,
            kind: kind(&self.kind),
            state: state(&self.state),
            started_at: Timestamp(self.started),
            ended_at: self.ended.map(Timestamp),
            duration_ms: self.duration_us.map(milliseconds),
            first_byte_ms: self.first_byte_us.map(milliseconds),
            method: self.method,
            url: self.url,
            host: self.host,
            port: self.port,
            path: self.path,
            status: self.status_code,
            client_version: self.request_version,
            upstream_version: self.response_version,
            traffic_type: TrafficType::from_name(&self.traffic_type),
            session,
            route_action: self.route_action,
            route_rule: self.route_rule,
            request_bytes: self.tunnel_bytes_sent.or(self.request_body_size),
            response_bytes: self.tunnel_bytes_received.or(self.response_body_size),
            response_content_type: self.response_content_type,
            truncated: self.truncated,
            error: self.error_side.map(|side| ErrorView {
                side,
                stage: self.error_stage.unwrap_or_default(),
                kind: self.error_type.unwrap_or_default(),
                text: self.error_message.unwrap_or_default(),
                replied_status: self.replied_status,
            }),
            danger_unverified: self.danger_unverified,
            redaction: match &*self.redaction {
                "none" => Redaction::None,
                _ => Redaction::Basic,
            },
            tags: self.flow_tags,
            note: self.note,
        })
    }

    /// UUIDv7.
    pub(super) fn uuid(&self) -> &str {
        &self.trace_id
    }

    /// Whether it may have messages.
    pub(super) fn is_socket(&self) -> bool {
        self.kind == FlowKind::WebSocket.as_str()
    }
}

impl ReadDetail {
    /// All but the bodies.
    pub(super) fn into_detail(self) -> Result<FlowDetail, StoreError> {
        let mut detail: FlowDetail = serde_json::from_str(&self.detail)
            .map_err(|error| damaged(&format!("a flow cannot be read: {error}")))?;
        detail.row = self.flow.into_row()?;
        Ok(detail)
    }
}

impl ReadRun {
    /// The run, which has so many flows.
    pub(super) fn into_run(self, flows: u64) -> Result<Run, StoreError> {
        Ok(Run {
            id: run_id(&self.id)?,
            uuid: self.uuid,
            name: self.name,
            argv: self.argv,
            kind: RunKind::from_name(&self.kind),
            pid: self.pid,
            started_at: Timestamp(self.started),
            ended_at: self.ended.map(Timestamp),
            exit_code: self.exit_code,
            signal: self.signal,
            flows,
        })
    }

    /// The same, as it is copied to other databases.
    pub(super) fn into_record(self) -> Result<RunRecord, StoreError> {
        Ok(RunRecord {
            uuid: self.uuid,
            id: run_id(&self.id)?,
            name: self.name,
            argv: self.argv,
            kind: RunKind::from_name(&self.kind),
            pid: self.pid,
            started_at: Timestamp(self.started),
            ended_at: self.ended.map(Timestamp),
            exit_code: self.exit_code,
            signal: self.signal,
            origin: Origin {
                instance: self.instance,
                user: self.user,
                tags: self.tags,
            },
        })
    }

    /// The id that people type.
    pub(super) fn id(&self) -> Result<RunId, StoreError> {
        run_id(&self.id)
    }
}

impl ReadMessage {
    /// The message.
    pub(super) fn into_message(self) -> Result<StreamMessage, StoreError> {
        Ok(StreamMessage {
            sequence: self.sequence,
            sender: self.sender,
            at: Timestamp(self.at_us),
            kind: self.kind,
            close_code: self.close_code,
            bytes: self.size,
            wire_bytes: self.wire_size,
            frames: self.frames,
            coding: self.coding,
            complete: self.complete,
            payload: bytes(&self.content)?,
        })
    }
}

/// The id of a run.
pub(super) fn run_id(text: &str) -> Result<RunId, StoreError> {
    text.parse()
        .map_err(|error: crate::UnknownId| damaged(&error.to_string()))
}

/// Bytes that were sent in base64.
pub(super) fn bytes(text: &str) -> Result<Vec<u8>, StoreError> {
    let read = STANDARD.decode(text);
    read.map_err(|error| damaged(&format!("a body cannot be read: {error}")))
}

fn damaged(detail: &str) -> StoreError {
    StoreError::Damaged {
        detail: detail.to_owned(),
    }
}
