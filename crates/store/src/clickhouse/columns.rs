//! Flows, messages, runs and gaps as rows that are written: a line of JSON each (the format
//! JSONEachRow), bytes in base64.

use std::borrow::Cow;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use traffic::Timestamp;

use crate::archive::fields_object;
use crate::row_number::first_row_at;
use crate::search::words_of_flow;
use crate::{FlowKind, FlowRecord, GapRecord, RunRecord, SessionName, StoreError, StreamMessage};

/// A table with the columns that are written, and the types in which they are sent.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [(&'static str, &'static str)],
    /// Columns that are sent in base64.
    pub(super) bytes: &'static [&'static str],
}

const TEXT: &str = "String";
const SOME_TEXT: &str = "Nullable(String)";
const NUMBER: &str = "UInt64";
const SOME_NUMBER: &str = "Nullable(UInt64)";
const TIME: &str = "DateTime64(6, 'UTC')";
const SOME_TIME: &str = "Nullable(DateTime64(6, 'UTC'))";

pub(super) const RUNS: Table = Table {
    name: "runs",
    columns: &[
        ("uuid", TEXT),
        ("id", TEXT),
        ("kind", TEXT),
        ("name", SOME_TEXT),
        ("argv", "Array(String)"),
        ("pid", NUMBER),
        ("started_at", TIME),
        ("ended_at", SOME_TIME),
        ("exit_code", "Nullable(Int64)"),
        ("signal", "Nullable(Int64)"),
        ("instance", SOME_TEXT),
        ("user", SOME_TEXT),
        ("tags", "Array(String)"),
    ],
    bytes: &[],
};

pub(super) const FLOWS: Table = Table {
    name: "flows",
    columns: &[
        ("trace_id", TEXT),
        ("number", "Int64"),
        ("run_uuid", TEXT),
        ("run_id", TEXT),
        ("seq", NUMBER),
        ("instance", SOME_TEXT),
        ("user", SOME_TEXT),
        ("tags", "Array(String)"),
        ("kind", TEXT),
        ("state", TEXT),
        ("proxy_direction", NUMBER),
        ("session_id", SOME_TEXT),
        ("session_method", SOME_TEXT),
        ("session_confidence", SOME_TEXT),
        ("agent", SOME_TEXT),
        ("agent_id", SOME_TEXT),
        ("parent_agent_id", SOME_TEXT),
        ("traffic_type", TEXT),
        ("method", TEXT),
        ("scheme", TEXT),
        ("host", TEXT),
        ("port", NUMBER),
        ("path", TEXT),
        ("url", TEXT),
        ("request_version", SOME_TEXT),
        ("response_version", SOME_TEXT),
        ("route_action", TEXT),
        ("route_rule", TEXT),
        ("request_headers", TEXT),
        ("request_body", SOME_TEXT),
        ("request_body_size", SOME_NUMBER),
        ("request_content_type", SOME_TEXT),
        ("status_code", SOME_NUMBER),
        ("response_headers", TEXT),
        ("response_body", SOME_TEXT),
        ("response_body_size", SOME_NUMBER),
        ("response_content_type", SOME_TEXT),
        ("truncated", "Bool"),
        ("tunnel_bytes_sent", SOME_NUMBER),
        ("tunnel_bytes_received", SOME_NUMBER),
        ("start_time", TIME),
        ("end_time", SOME_TIME),
        ("duration_us", "Nullable(Int64)"),
        ("first_byte_us", "Nullable(Int64)"),
        ("client_ip", SOME_TEXT),
        ("front", SOME_TEXT),
        ("tls_sni", SOME_TEXT),
        ("ja3", SOME_TEXT),
        ("ja4", SOME_TEXT),
        ("pid", SOME_NUMBER),
        ("process_name", SOME_TEXT),
        ("process_path", SOME_TEXT),
        ("client_user", SOME_TEXT),
        ("server_ip", SOME_TEXT),
        ("server_port", SOME_NUMBER),
        ("is_https", "Bool"),
        ("danger_unverified", "Bool"),
        ("error_side", SOME_TEXT),
        ("error_stage", SOME_TEXT),
        ("error_type", SOME_TEXT),
        ("error_message", SOME_TEXT),
        ("replied_status", SOME_NUMBER),
        ("redaction", TEXT),
        ("flow_tags", "Array(String)"),
        ("note", SOME_TEXT),
        ("detail", TEXT),
        ("words", TEXT),
    ],
    bytes: &["request_body", "response_body"],
};

pub(super) const MESSAGES: Table = Table {
    name: "messages",
    columns: &[
        ("trace_id", TEXT),
        ("sequence", NUMBER),
        ("sender", TEXT),
        ("at", TIME),
        ("kind", TEXT),
        ("close_code", SOME_NUMBER),
        ("size", NUMBER),
        ("wire_size", NUMBER),
        ("frames", NUMBER),
        ("coding", TEXT),
        ("complete", "Bool"),
        ("payload", TEXT),
    ],
    bytes: &["payload"],
};

pub(super) const GAPS: Table = Table {
    name: "gaps",
    columns: &[
        ("run_uuid", TEXT),
        ("run_id", TEXT),
        ("number", "Int64"),
        ("at", TIME),
        ("reason", TEXT),
        ("events", NUMBER),
        ("body_bytes", NUMBER),
    ],
    bytes: &[],
};

pub(super) const SESSION_NAMES: Table = Table {
    name: "session_names",
    columns: &[("session_id", TEXT), ("name", TEXT), ("version", NUMBER)],
    bytes: &[],
};

/// A row of `session_names`.
#[derive(Debug, Serialize)]
pub(super) struct SessionNameColumns<'r> {
    session_id: &'r str,
    name: &'r str,
    version: u64,
}

/// A row of `runs`.
#[derive(Debug, Serialize)]
pub(super) struct RunColumns<'r> {
    pub(super) uuid: &'r str,
    pub(super) id: &'r str,
    kind: &'static str,
    name: Option<&'r str>,
    argv: &'r [String],
    pid: u32,
    started_at: String,
    pub(super) ended_at: Option<String>,
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    instance: Option<&'r str>,
    user: Option<&'r str>,
    tags: &'r [String],
}

/// A row of `flows`.
#[derive(Debug, Serialize)]
pub(super) struct FlowColumns<'r> {
    trace_id: &'r str,
    number: i64,
    run_uuid: &'r str,
    run_id: &'r str,
    seq: u64,
    instance: Option<&'r str>,
    user: Option<&'r str>,
    tags: &'r [String],
    kind: &'static str,
    state: &'static str,
    proxy_direction: u8,
    session_id: Option<&'r str>,
    session_method: Option<&'static str>,
    session_confidence: Option<&'static str>,
    agent: Option<&'r str>,
    agent_id: Option<&'r str>,
    parent_agent_id: Option<&'r str>,
    traffic_type: &'static str,
    method: &'r str,
    scheme: &'r str,
    host: &'r str,
    port: u16,
    path: &'r str,
    url: &'r str,
    request_version: Option<&'r str>,
    response_version: Option<&'r str>,
    route_action: &'r str,
    route_rule: &'r str,
    request_headers: String,
    request_body: Option<String>,
    request_body_size: Option<u64>,
    request_content_type: Option<&'r str>,
    status_code: Option<u16>,
    response_headers: String,
    response_body: Option<String>,
    response_body_size: Option<u64>,
    response_content_type: Option<&'r str>,
    truncated: bool,
    tunnel_bytes_sent: Option<u64>,
    tunnel_bytes_received: Option<u64>,
    start_time: String,
    end_time: Option<String>,
    duration_us: Option<i64>,
    first_byte_us: Option<i64>,
    client_ip: Option<String>,
    front: Option<&'r str>,
    tls_sni: Option<&'r str>,
    ja3: Option<&'r str>,
    ja4: Option<&'r str>,
    pid: Option<u32>,
    process_name: Option<&'r str>,
    process_path: Option<&'r str>,
    client_user: Option<&'r str>,
    server_ip: Option<String>,
    server_port: u16,
    is_https: bool,
    danger_unverified: bool,
    error_side: Option<&'r str>,
    error_stage: Option<&'r str>,
    error_type: Option<&'r str>,
    error_message: Option<&'r str>,
    replied_status: Option<u16>,
    redaction: &'static str,
    flow_tags: &'r [String],
    note: Option<&'r str>,
    detail: String,
    words: String,
}

/// A row of `messages`.
#[derive(Debug, Serialize)]
pub(super) struct MessageColumns<'r> {
    trace_id: &'r str,
    sequence: u64,
    sender: &'r str,
    at: String,
    kind: &'r str,
    close_code: Option<u16>,
    size: u64,
    wire_size: u64,
    frames: u64,
    coding: &'r str,
    complete: bool,
    payload: String,
}

/// A row of `gaps`.
#[derive(Debug, Serialize)]
pub(super) struct GapColumns<'r> {
    run_uuid: &'r str,
    run_id: &'r str,
    number: i64,
    at: String,
    reason: &'r str,
    events: u64,
    body_bytes: u64,
}

impl Table {
    /// The statement that takes rows.
    pub(super) fn insert(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let selected: Vec<Cow<'_, str>> = names
            .iter()
            .map(|name| match self.bytes.contains(name) {
                true => Cow::Owned(format!("base64Decode({name})")),
                false => Cow::Borrowed(*name),
            })
            .collect();
        let sent: Vec<String> = self
            .columns
            .iter()
            .map(|(name, of)| format!("{name} {}", of.replace('\'', "\\'")))
            .collect();
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM input('{}') FORMAT JSONEachRow",
            self.name,
            names.join(", "),
            selected.join(", "),
            sent.join(", "),
        )
    }

    /// The statement that writes rows again as they are, but for some columns, which become what an expression
    /// says. Columns that are filled in by themselves are anew.
    pub(super) fn again(&self, changed: &[(&str, &str)], condition: &str) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let values: Vec<&str> = names
            .iter()
            .map(|name| {
                let change = changed.iter().find(|(column, _)| column == name);
                change.map_or(*name, |(_, value)| *value)
            })
            .collect();
        format!(
            "INSERT INTO {table} ({}) SELECT {} FROM {table} WHERE {condition}",
            names.join(", "),
            values.join(", "),
            table = self.name,
        )
    }
}

impl<'r> SessionNameColumns<'r> {
    /// A name that came with flows.
    pub(super) fn of(named: &'r SessionName) -> Self {
        Self {
            session_id: &named.id,
            name: &named.name,
            version: 0,
        }
    }
}

impl<'r> RunColumns<'r> {
    /// `id` is the id of the run in the archive.
    pub(super) fn of(run: &'r RunRecord, id: &'r str) -> Self {
        Self {
            uuid: &run.uuid,
            id,
            kind: run.kind.as_str(),
            name: run.name.as_deref(),
            argv: &run.argv,
            pid: run.pid,
            started_at: time(run.started_at),
            ended_at: run.ended_at.map(time),
            exit_code: run.exit_code,
            signal: run.signal,
            instance: run.origin.instance.as_deref(),
            user: run.origin.user.as_deref(),
            tags: &run.origin.tags,
        }
    }
}

impl<'r> FlowColumns<'r> {
    /// `run_id` is the id of its run in the archive, `joined` the session that its own was joined to there.
    pub(super) fn of(
        record: &'r FlowRecord,
        run_id: &'r str,
        joined: Option<&'r str>,
    ) -> Result<Self, StoreError> {
        let detail = &record.detail;
        let row = &detail.row;
        let origin = &record.run.origin;
        let is_tunnel = row.kind == FlowKind::Tunnel;
        let of_body = |bytes: Option<u64>| bytes.filter(|_| !is_tunnel);
        let of_tunnel = |bytes: Option<u64>| bytes.filter(|_| is_tunnel);
        let client = detail.client.as_ref();
        let process = client.and_then(|client| client.process.as_ref());
        let client_address = client.and_then(|client| address(&client.client_address));
        let upstream = detail.upstream.as_ref();
        let dialled = upstream.and_then(|upstream| address(&upstream.address));
        let is_reverse = client.is_some_and(|client| client.proxy_direction() == "reverse");
        let error = row.error.as_ref();
        let session = row.session.as_ref();
        Ok(Self {
            trace_id: &row.uuid,
            number: number(record),
            run_uuid: &record.run.uuid,
            run_id,
            seq: row.id.seq,
            instance: origin.instance.as_deref(),
            user: origin.user.as_deref(),
            tags: &origin.tags,
            kind: row.kind.as_str(),
            state: row.state.as_str(),
            proxy_direction: u8::from(!is_reverse),
            session_id: joined.or_else(|| session.map(|mark| &*mark.id)),
            session_method: session.map(|mark| mark.method.as_str()),
            session_confidence: session.map(|mark| mark.method.confidence().as_str()),
            agent: session.and_then(|mark| mark.agent.as_deref()),
            agent_id: session.and_then(|mark| mark.agent_id.as_deref()),
            parent_agent_id: session.and_then(|mark| mark.parent_agent_id.as_deref()),
            traffic_type: row.traffic_type.as_str(),
            method: &row.method,
            scheme: &detail.scheme,
            host: &row.host,
            port: row.port,
            path: &row.path,
            url: &row.url,
            request_version: row.client_version.as_deref(),
            response_version: row.upstream_version.as_deref(),
            route_action: &row.route_action,
            route_rule: &row.route_rule,
            request_headers: json(&fields_object(&detail.request, Cow::Borrowed))?,
            request_body: record.request_body.as_deref().map(base64),
            request_body_size: of_body(row.request_bytes),
            request_content_type: detail.request_content_type.as_deref(),
            status_code: row.status,
            response_headers: match &detail.response {
                Some(head) => json(&fields_object(head, Cow::Borrowed))?,
                None => String::new(),
            },
            response_body: record.response_body.as_deref().map(base64),
            response_body_size: of_body(row.response_bytes),
            response_content_type: row.response_content_type.as_deref(),
            truncated: row.truncated,
            tunnel_bytes_sent: of_tunnel(row.request_bytes),
            tunnel_bytes_received: of_tunnel(row.response_bytes),
            start_time: time(row.started_at),
            end_time: row.ended_at.map(time),
            duration_us: row.ended_at.map(|at| at.micros_since(row.started_at)),
            first_byte_us: row.first_byte_ms.map(micros),
            client_ip: client_address.map(|at| at.ip().to_string()),
            front: client.map(|client| &*client.front),
            tls_sni: client.and_then(|client| client.sni.as_deref()),
            ja3: client.and_then(|client| client.ja3.as_deref()),
            ja4: client.and_then(|client| client.ja4.as_deref()),
            pid: process.map(|process| process.pid),
            process_name: process.map(|process| &*process.name),
            process_path: process.and_then(|process| process.path.as_deref()),
            client_user: client.and_then(|client| client.user.as_deref()),
            server_ip: dialled.map(|at| at.ip().to_string()),
            server_port: dialled.map_or(row.port, |at| at.port()),
            is_https: detail.scheme == "https",
            danger_unverified: row.danger_unverified,
            error_side: error.map(|error| &*error.side),
            error_stage: error.map(|error| &*error.stage),
            error_type: error.map(|error| &*error.kind),
            error_message: error.map(|error| &*error.text),
            replied_status: error.and_then(|error| error.replied_status),
            redaction: row.redaction.as_str(),
            flow_tags: &row.tags,
            note: row.note.as_deref(),
            detail: json(detail)?,
            words: words(record),
        })
    }
}

impl<'r> MessageColumns<'r> {
    pub(super) fn of(trace_id: &'r str, message: &'r StreamMessage) -> Self {
        Self {
            trace_id,
            sequence: message.sequence,
            sender: &message.sender,
            at: time(message.at),
            kind: &message.kind,
            close_code: message.close_code,
            size: message.bytes,
            wire_size: message.wire_bytes,
            frames: message.frames,
            coding: &message.coding,
            complete: message.complete,
            payload: base64(&message.payload),
        }
    }
}

impl<'r> GapColumns<'r> {
    pub(super) fn of(gap: &'r GapRecord, run_id: &'r str) -> Self {
        Self {
            run_uuid: &gap.run.uuid,
            run_id,
            number: gap.number,
            at: time(gap.at),
            reason: &gap.reason,
            events: gap.events,
            body_bytes: gap.body_bytes,
        }
    }
}

/// Each with a space before it.
fn words(record: &FlowRecord) -> String {
    let mut text = String::new();
    for word in words_of_flow(record) {
        text.push(' ');
        text.push_str(&word);
    }
    text
}

/// The place of a flow among those that started in the same microsecond is that in its run. Two of
/// different runs may have the same number.
fn number(record: &FlowRecord) -> i64 {
    let row = &record.detail.row;
    let place = i64::try_from(row.id.seq & 0x3ff).unwrap_or(0);
    first_row_at(row.started_at).saturating_add(place)
}

/// The times that a column can hold: the years 1900 to 2299.
const TIME_MIN: i64 = -2_208_988_800_000_000;
const TIME_MAX: i64 = 10_413_791_999_999_999;

/// A time in UTC as the server reads it, or as near as it can hold it.
fn time(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_microsecond(at.0.clamp(TIME_MIN, TIME_MAX));
    at.unwrap_or_default()
        .strftime("%Y-%m-%d %H:%M:%S%.6f")
        .to_string()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a number that does not fit becomes the nearest that does"
)]
fn micros(ms: f64) -> i64 {
    (ms * 1000.0).round() as i64
}

fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::NotStorable {
        detail: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_and_within_bounds() {
        for (micros, expected) in [
            (1_767_323_045_123_456, "2026-01-02 03:04:05.123456"),
            (0, "1970-01-01 00:00:00.000000"),
            (i64::MIN, "1900-01-01 00:00:00.000000"),
            (i64::MAX, "2299-12-31 23:59:59.999999"),
        ] {
            assert_eq!(time(Timestamp(micros)), expected);
        }
    }

    #[test]
    fn an_insert_decodes_what_is_sent_as_text() {
        let sql = MESSAGES.insert();
        assert!(
            sql.starts_with("INSERT INTO messages (trace_id, sequence,"),
            "{sql}"
        );
        assert!(
            sql.contains("complete, base64Decode(payload) FROM input('"),
            "{sql}"
        );
        assert!(sql.contains("at DateTime64(6, \\'UTC\\')"), "{sql}");
    }
}
