//! A flow as a row of `flows`: the columns that are written, and what goes into each.

use std::borrow::Cow;
use std::net::SocketAddr;

use super::chunks::Hash;
use super::copy::{CopyRows, storable};
use crate::archive::fields_object;
use crate::limits::POSTGRES_INDEXED_CHARS_MAX;
use crate::search::words_of_flow;
use crate::{FlowKind, FlowRecord, SessionMark, StoreError};

/// The columns in the order in which [`write_row`] writes them.
pub(super) const COLUMNS: [&str; 68] = [
    "trace_id",
    "batch",
    "run_id",
    "seq",
    "instance",
    "\"user\"",
    "tags",
    "kind",
    "state",
    "proxy_direction",
    "session_id",
    "session_method",
    "session_confidence",
    "agent",
    "agent_id",
    "parent_agent_id",
    "traffic_type",
    "method",
    "scheme",
    "host",
    "port",
    "path",
    "url",
    "request_version",
    "response_version",
    "route_action",
    "route_rule",
    "request_headers",
    "request_body",
    "request_chunks",
    "request_body_size",
    "request_content_type",
    "status_code",
    "response_headers",
    "response_body",
    "response_chunks",
    "response_body_size",
    "response_content_type",
    "truncated",
    "tunnel_bytes_sent",
    "tunnel_bytes_received",
    "start_time",
    "end_time",
    "duration_us",
    "first_byte_us",
    "client_ip",
    "front",
    "tls_sni",
    "ja3",
    "ja4",
    "pid",
    "process_name",
    "process_path",
    "client_user",
    "server_ip",
    "server_port",
    "is_https",
    "danger_unverified",
    "error_side",
    "error_stage",
    "error_type",
    "error_message",
    "replied_status",
    "redaction",
    "flow_tags",
    "note",
    "detail",
    "words",
];

/// What a word in the list beside the index has besides itself: heads, and space to the next multiple of
/// eight bytes.
const LISTED_WORD_HEAD: usize = 16;

/// Where a body is stored.
#[derive(Debug, Default)]
pub(super) enum StoredBody<'r> {
    #[default]
    None,
    Here(&'r [u8]),
    Chunks(Vec<Hash>),
}

/// What a row has besides the flow itself.
#[derive(Debug)]
pub(super) struct Placed<'r> {
    /// The id of its run in the archive.
    pub(super) run_id: &'r str,
    /// The session that its own was joined to in the archive.
    pub(super) joined: Option<&'r str>,
    pub(super) batch: i64,
    pub(super) request_body: StoredBody<'r>,
    pub(super) response_body: StoredBody<'r>,
}

/// Writes a flow as one row; answers how many bytes its words take beside the index, about.
pub(super) fn write_row(
    rows: &mut CopyRows,
    record: &FlowRecord,
    placed: &Placed<'_>,
) -> Result<usize, StoreError> {
    rows.begin_row();
    write_identity(rows, record, placed);
    write_target(rows, record, placed);
    write_messages(rows, record, placed)?;
    write_times(rows, record);
    write_connections(rows, record);
    write_error(rows, record);
    rows.text(record.detail.row.redaction.as_str());
    rows.texts(&record.detail.row.tags);
    rows.optional(record.detail.row.note.as_deref(), CopyRows::text);
    rows.bytea(&json(&record.detail)?);
    let mut words = words_of_flow(record);
    // The server's order, in which it would sort them otherwise.
    words.sort_unstable();
    rows.tsvector(&words);
    Ok(words.iter().map(|word| word.len() + LISTED_WORD_HEAD).sum())
}

fn write_identity(rows: &mut CopyRows, record: &FlowRecord, placed: &Placed<'_>) {
    let row = &record.detail.row;
    let origin = &record.run.origin;
    rows.text(&row.uuid);
    rows.int8(placed.batch);
    rows.text(placed.run_id);
    rows.int8(signed(row.id.seq));
    rows.optional(origin.instance.as_deref(), CopyRows::text);
    rows.optional(origin.user.as_deref(), CopyRows::text);
    rows.texts(&origin.tags);
    rows.text(row.kind.as_str());
    rows.text(row.state.as_str());
}

fn write_target(rows: &mut CopyRows, record: &FlowRecord, placed: &Placed<'_>) {
    let detail = &record.detail;
    let row = &detail.row;
    let is_reverse = detail
        .client
        .as_ref()
        .is_some_and(|client| client.proxy_direction() == "reverse");
    rows.int4(i32::from(!is_reverse));
    write_session(rows, row.session.as_ref(), placed.joined);
    rows.text(row.traffic_type.as_str());
    rows.text(&row.method);
    rows.text(&detail.scheme);
    rows.text(indexed(&row.host));
    rows.int4(row.port.into());
    rows.text(&row.path);
    rows.text(&row.url);
    rows.optional(row.client_version.as_deref(), CopyRows::text);
    rows.optional(row.upstream_version.as_deref(), CopyRows::text);
    rows.text(&row.route_action);
    rows.text(&row.route_rule);
}

fn write_session(rows: &mut CopyRows, session: Option<&SessionMark>, joined: Option<&str>) {
    let text = |rows: &mut CopyRows, text: Option<&str>| rows.optional(text, CopyRows::text);
    text(
        rows,
        joined.or_else(|| session.map(|mark| indexed(&mark.id))),
    );
    text(rows, session.map(|mark| mark.method.as_str()));
    text(rows, session.map(|mark| mark.method.confidence().as_str()));
    text(rows, session.and_then(|mark| mark.agent.as_deref()));
    text(rows, session.and_then(|mark| mark.agent_id.as_deref()));
    text(
        rows,
        session.and_then(|mark| mark.parent_agent_id.as_deref()),
    );
}

fn write_messages(
    rows: &mut CopyRows,
    record: &FlowRecord,
    placed: &Placed<'_>,
) -> Result<(), StoreError> {
    let detail = &record.detail;
    let row = &detail.row;
    let is_tunnel = row.kind == FlowKind::Tunnel;
    let of_body = |bytes: Option<u64>| bytes.filter(|_| !is_tunnel).map(signed);
    let of_tunnel = |bytes: Option<u64>| bytes.filter(|_| is_tunnel).map(signed);
    rows.jsonb(&json(&fields_object(&detail.request, storable))?);
    write_body(rows, &placed.request_body);
    rows.optional(of_body(row.request_bytes), CopyRows::int8);
    rows.optional(detail.request_content_type.as_deref(), CopyRows::text);
    rows.optional(row.status, |rows, status| rows.int4(status.into()));
    match &detail.response {
        Some(head) => rows.jsonb(&json(&fields_object(head, storable))?),
        None => rows.null(),
    }
    write_body(rows, &placed.response_body);
    rows.optional(of_body(row.response_bytes), CopyRows::int8);
    rows.optional(row.response_content_type.as_deref(), CopyRows::text);
    rows.bool(row.truncated);
    rows.optional(of_tunnel(row.request_bytes), CopyRows::int8);
    rows.optional(of_tunnel(row.response_bytes), CopyRows::int8);
    Ok(())
}

/// The two columns of a body.
fn write_body(rows: &mut CopyRows, body: &StoredBody<'_>) {
    match body {
        StoredBody::None => {
            rows.null();
            rows.null();
        }
        StoredBody::Here(bytes) => {
            rows.bytea(bytes);
            rows.null();
        }
        StoredBody::Chunks(hashes) => {
            rows.null();
            rows.byteas(hashes.iter().map(|hash| &hash[..]));
        }
    }
}

fn write_times(rows: &mut CopyRows, record: &FlowRecord) {
    let row = &record.detail.row;
    let duration = row.ended_at.map(|at| at.micros_since(row.started_at));
    rows.timestamp(row.started_at);
    rows.optional(row.ended_at, CopyRows::timestamp);
    rows.optional(duration, CopyRows::int8);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a number that does not fit becomes the nearest that does"
    )]
    let first_byte = row.first_byte_ms.map(|ms| (ms * 1000.0).round() as i64);
    rows.optional(first_byte, CopyRows::int8);
}

fn write_connections(rows: &mut CopyRows, record: &FlowRecord) {
    let detail = &record.detail;
    let client = detail.client.as_ref();
    let address = client.and_then(|client| client.client_address.parse::<SocketAddr>().ok());
    let text = |rows: &mut CopyRows, text: Option<&str>| rows.optional(text, CopyRows::text);
    text(rows, address.map(|at| at.ip().to_string()).as_deref());
    text(rows, client.map(|client| &*client.front));
    text(rows, client.and_then(|client| client.sni.as_deref()));
    text(rows, client.and_then(|client| client.ja3.as_deref()));
    text(rows, client.and_then(|client| client.ja4.as_deref()));
    let process = client.and_then(|client| client.process.as_ref());
    rows.optional(process.map(|process| process.pid.into()), CopyRows::int8);
    text(rows, process.map(|process| &*process.name));
    text(rows, process.and_then(|process| process.path.as_deref()));
    text(rows, client.and_then(|client| client.user.as_deref()));
    let dialled = detail.upstream.as_ref();
    let dialled = dialled.and_then(|upstream| upstream.address.parse::<SocketAddr>().ok());
    text(rows, dialled.map(|at| at.ip().to_string()).as_deref());
    rows.int4(dialled.map_or(detail.row.port, |at| at.port()).into());
    rows.bool(detail.scheme == "https");
    rows.bool(detail.row.danger_unverified);
}

fn write_error(rows: &mut CopyRows, record: &FlowRecord) {
    let error = record.detail.row.error.as_ref();
    rows.optional(error.map(|error| &*error.side), CopyRows::text);
    rows.optional(error.map(|error| &*error.stage), CopyRows::text);
    rows.optional(error.map(|error| &*error.kind), CopyRows::text);
    rows.optional(error.map(|error| &*error.text), CopyRows::text);
    let replied = error.and_then(|error| error.replied_status);
    rows.optional(replied, |rows, status| rows.int4(status.into()));
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::NotStorable {
        detail: error.to_string(),
    })
}

/// The id of a session as it is stored.
pub(super) fn session_key(id: &str) -> Cow<'_, str> {
    storable(indexed(id))
}

/// What an index can hold of a text.
fn indexed(text: &str) -> &str {
    let end = text.char_indices().nth(POSTGRES_INDEXED_CHARS_MAX);
    end.and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// A number as the database holds it.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
