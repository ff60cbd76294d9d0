//! The public JSON shapes. Fields are only ever added within a schema number; absent knowledge is
//! `null`; units are in the names; times are RFC 3339 UTC with milliseconds (microseconds in the
//! timing of one flow).
//!
//! What is not built yet (models, tokens, cost) is absent, not `null`.

mod connection;

use serde::Serialize;
use traffic::Timestamp;

use self::connection::{ClientItem, UpstreamItem};
use crate::{
    Body, ErrorView, FlowDetail, FlowRow, GatewayView, HeadView, MessageCounts, Page, SessionMark,
    StreamMessage,
};

/// Schema of a list of flows.
pub const FLOWS_LIST: &str = "oriel.flows.list/1";
/// Schema of one flow.
pub const FLOW: &str = "oriel.flow/1";

/// A list of flows.
#[derive(Debug, Serialize)]
pub struct FlowList {
    schema: &'static str,
    items: Vec<FlowItem>,
    next: Option<String>,
    total: Option<u64>,
}

/// A flow in a list.
#[derive(Debug, Serialize)]
pub struct FlowItem {
    id: String,
    uuid: String,
    time: String,
    /// The run.
    session: String,
    traffic_type: &'static str,
    agent_session: Option<SessionItem>,
    kind: &'static str,
    state: &'static str,
    method: String,
    url: String,
    host: String,
    port: u16,
    path: Option<String>,
    status: Option<u16>,
    proto: Option<String>,
    upstream_proto: Option<String>,
    route: RouteItem,
    duration_ms: Option<f64>,
    ttfb_ms: Option<f64>,
    sizes: Sizes,
    error: Option<ErrorItem>,
    truncated: bool,
    danger_unverified: bool,
    redaction: &'static str,
    tags: Vec<String>,
    note: Option<String>,
}

/// The session of an agent.
#[derive(Debug, Serialize)]
struct SessionItem {
    id: String,
    method: &'static str,
    confidence: &'static str,
    agent: Option<String>,
    agent_id: Option<String>,
    parent_agent_id: Option<String>,
}

#[derive(Debug, Serialize)]
struct RouteItem {
    action: String,
    rule: String,
}

#[derive(Debug, Serialize)]
struct Sizes {
    request_bytes: Option<u64>,
    response_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ErrorItem {
    side: String,
    stage: String,
    kind: String,
    message: String,
    replied_status: Option<u16>,
}

/// One flow with everything that is known of it.
#[derive(Debug, Serialize)]
pub struct FlowDocument {
    schema: &'static str,
    #[serde(flatten)]
    item: FlowItem,
    request: MessageItem,
    response: Option<MessageItem>,
    informational: Vec<InformationalItem>,
    timing: Timing,
    client: Option<ClientItem>,
    upstream: Option<UpstreamItem>,
    /// Absent unless the request went to a gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<GatewayItem>,
    /// Absent unless a WebSocket carried something.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<MessageList>,
}

/// What a WebSocket carried.
#[derive(Debug, Serialize)]
struct MessageList {
    from_client: u64,
    from_upstream: u64,
    /// In order; perhaps not all.
    items: Vec<StreamMessageItem>,
}

#[derive(Debug, Serialize)]
struct StreamMessageItem {
    sequence: u64,
    sender: String,
    time: String,
    kind: String,
    close_code: Option<u16>,
    bytes: u64,
    wire_bytes: u64,
    frames: u64,
    coding: String,
    complete: bool,
    truncated: bool,
    /// Absent if it was not asked for.
    #[serde(flatten)]
    data: Option<MessageData>,
}

#[derive(Debug, Serialize)]
struct MessageData {
    encoding: &'static str,
    data: String,
}

#[derive(Debug, Serialize)]
struct MessageItem {
    start_line: String,
    /// In the order and case of the wire.
    headers: Vec<(String, String)>,
    trailers: Vec<(String, String)>,
    head_bytes: u64,
    body_bytes: Option<u64>,
    kept_bytes: Option<u64>,
    /// Absent if it was not asked for, `null` if there was none.
    #[serde(skip_serializing_if = "Asked::is_not")]
    body: Asked<BodyDocument>,
}

/// What is shown only if it was asked for.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Asked<T> {
    Not,
    For(Option<T>),
}

#[derive(Debug, Serialize)]
struct InformationalItem {
    start_line: String,
    headers: Vec<(String, String)>,
}

/// A body.
#[derive(Debug, Serialize)]
pub struct BodyDocument {
    encoding: &'static str,
    bytes: Option<u64>,
    truncated: bool,
    content_type: Option<String>,
    content_encoding: Option<String>,
    data: String,
}

#[derive(Debug, Serialize)]
struct Timing {
    accepted_at: Option<String>,
    client_tls_done_at: Option<String>,
    started_at: String,
    dial_started_at: Option<String>,
    connected_at: Option<String>,
    upstream_tls_done_at: Option<String>,
    upstream_ready_at: Option<String>,
    upstream_reused: Option<bool>,
    request_sent_at: Option<String>,
    response_started_at: Option<String>,
    response_ended_at: Option<String>,
    ended_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct GatewayItem {
    route: String,
    url: String,
    request_id: Option<String>,
}

impl FlowList {
    /// The shape of a page.
    #[must_use]
    pub fn new(page: &Page) -> Self {
        Self {
            schema: FLOWS_LIST,
            items: page.rows.iter().map(FlowItem::new).collect(),
            next: page.next.map(|cursor| cursor.to_string()),
            total: page.total,
        }
    }
}

impl FlowItem {
    /// The fields, those of objects behind a dot, with what they hold.
    pub const FIELDS: [(&'static str, &'static str); 37] = [
        ("id", "text"),
        ("uuid", "text"),
        ("time", "time"),
        ("session", "text"),
        ("traffic_type", "llm | mcp | web | other | unknown"),
        ("agent_session.id", "text | null"),
        (
            "agent_session.method",
            "header | body | mcp_session | baggage | traceparent | request_id | previous_response | prefix | null",
        ),
        (
            "agent_session.confidence",
            "certain | likely | possible | null",
        ),
        ("agent_session.agent", "text | null"),
        ("agent_session.agent_id", "text | null"),
        ("agent_session.parent_agent_id", "text | null"),
        ("kind", "http | websocket | tunnel"),
        ("state", "open | completed | failed | interrupted"),
        ("method", "text"),
        ("url", "text"),
        ("host", "text"),
        ("port", "number"),
        ("path", "text | null"),
        ("status", "number | null"),
        ("proto", "text | null"),
        ("upstream_proto", "text | null"),
        ("route.action", "intercept | tunnel | block"),
        ("route.rule", "text"),
        ("duration_ms", "number | null"),
        ("ttfb_ms", "number | null"),
        ("sizes.request_bytes", "number | null"),
        ("sizes.response_bytes", "number | null"),
        ("error.side", "text | null"),
        ("error.stage", "text | null"),
        ("error.kind", "text | null"),
        ("error.message", "text | null"),
        ("error.replied_status", "number | null"),
        ("truncated", "true | false"),
        ("danger_unverified", "true | false"),
        ("redaction", "basic | none"),
        ("tags", "list of texts"),
        ("note", "text | null"),
    ];

    /// The shape of a row.
    #[must_use]
    pub fn new(row: &FlowRow) -> Self {
        Self {
            id: row.id.to_string(),
            uuid: row.uuid.clone(),
            time: rfc3339(row.started_at),
            session: row.id.run.to_string(),
            traffic_type: row.traffic_type.as_str(),
            agent_session: row.session.as_ref().map(SessionItem::new),
            kind: row.kind.as_str(),
            state: row.state.as_str(),
            method: row.method.clone(),
            url: row.url.clone(),
            host: row.host.clone(),
            port: row.port,
            path: Some(row.path.clone()).filter(|path| !path.is_empty()),
            status: row.status,
            proto: row.client_version.clone(),
            upstream_proto: row.upstream_version.clone(),
            route: RouteItem {
                action: row.route_action.clone(),
                rule: row.route_rule.clone(),
            },
            duration_ms: row.duration_ms,
            ttfb_ms: row.first_byte_ms,
            sizes: Sizes {
                request_bytes: row.request_bytes,
                response_bytes: row.response_bytes,
            },
            error: row.error.as_ref().map(ErrorItem::new),
            truncated: row.truncated,
            danger_unverified: row.danger_unverified,
            redaction: row.redaction.as_str(),
            tags: row.tags.clone(),
            note: row.note.clone(),
        }
    }
}

impl SessionItem {
    fn new(mark: &SessionMark) -> Self {
        Self {
            id: mark.id.clone(),
            method: mark.method.as_str(),
            confidence: mark.method.confidence().as_str(),
            agent: mark.agent.clone(),
            agent_id: mark.agent_id.clone(),
            parent_agent_id: mark.parent_agent_id.clone(),
        }
    }
}

impl FlowDocument {
    /// The shape of a flow, with the bodies of request and response where they were asked for.
    #[must_use]
    pub fn new(flow: &FlowDetail, bodies: Option<(Option<&Body>, Option<&Body>)>) -> Self {
        let row = &flow.row;
        let request = MessageItem {
            trailers: flow.request_trailers.clone(),
            body_bytes: row.request_bytes,
            kept_bytes: flow.request_kept_bytes,
            body: Asked::new(bodies.map(|(request, _)| request)),
            ..MessageItem::of_head(&flow.request)
        };
        let response = flow.response.as_ref().map(|head| MessageItem {
            trailers: flow.response_trailers.clone(),
            body_bytes: row.response_bytes,
            kept_bytes: flow.response_kept_bytes,
            body: Asked::new(bodies.map(|(_, response)| response)),
            ..MessageItem::of_head(head)
        });
        let informational = flow.informational.iter().map(|head| InformationalItem {
            start_line: head.start_line.clone(),
            headers: head.fields.clone(),
        });
        Self {
            schema: FLOW,
            item: FlowItem::new(row),
            request,
            response,
            informational: informational.collect(),
            timing: Timing::new(flow),
            client: flow.client.as_ref().map(ClientItem::new),
            upstream: flow.upstream.as_ref().map(UpstreamItem::new),
            gateway: flow.gateway.as_ref().map(GatewayItem::new),
            messages: None,
        }
    }

    /// With what a WebSocket carried, and the payloads where they were asked for. `messages` are
    /// the first of them, or all.
    #[must_use]
    pub fn with_messages(
        mut self,
        counts: MessageCounts,
        messages: &[StreamMessage],
        payloads: bool,
    ) -> Self {
        let item = |message| StreamMessageItem::new(message, payloads);
        self.messages = Some(MessageList {
            from_client: counts.from_client,
            from_upstream: counts.from_upstream,
            items: messages.iter().map(item).collect(),
        });
        self
    }
}

impl StreamMessageItem {
    fn new(message: &StreamMessage, payload: bool) -> Self {
        let data = || {
            let (encoding, data) = encoded(&message.payload);
            MessageData { encoding, data }
        };
        Self {
            sequence: message.sequence,
            sender: message.sender.clone(),
            time: exact_rfc3339(message.at),
            kind: message.kind.clone(),
            close_code: message.close_code,
            bytes: message.bytes,
            wire_bytes: message.wire_bytes,
            frames: message.frames,
            coding: message.coding.clone(),
            complete: message.complete,
            truncated: message.is_truncated(),
            data: payload.then(data),
        }
    }
}

impl MessageItem {
    fn of_head(head: &HeadView) -> Self {
        Self {
            start_line: head.start_line.clone(),
            headers: head.fields.clone(),
            trailers: Vec::new(),
            head_bytes: head.bytes,
            body_bytes: None,
            kept_bytes: None,
            body: Asked::Not,
        }
    }
}

impl Asked<BodyDocument> {
    #[expect(
        clippy::option_option,
        reason = "not asked for and none there are written differently"
    )]
    fn new(body: Option<Option<&Body>>) -> Self {
        match body {
            None => Self::Not,
            Some(body) => Self::For(body.map(BodyDocument::new)),
        }
    }

    fn is_not(&self) -> bool {
        matches!(self, Self::Not)
    }
}

/// Bytes as text, and how: those that are no UTF-8 become base64.
fn encoded(bytes: &[u8]) -> (&'static str, String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => ("utf8", text.to_owned()),
        Err(_) => ("base64", base64(bytes)),
    }
}

impl BodyDocument {
    /// The shape of a body. Give one whose bytes are decoded where it is to be read; bytes that
    /// are no UTF-8 become base64.
    #[must_use]
    pub fn new(body: &Body) -> Self {
        let (encoding, data) = encoded(&body.bytes);
        Self {
            encoding,
            bytes: body.seen,
            truncated: body.truncated,
            content_type: body.content_type.clone(),
            content_encoding: body.content_encoding.clone(),
            data,
        }
    }
}

impl Timing {
    fn new(flow: &FlowDetail) -> Self {
        let client = flow.client.as_ref();
        let upstream = flow.upstream.as_ref();
        let exact = |at: Option<Timestamp>| at.map(exact_rfc3339);
        Self {
            accepted_at: exact(client.map(|client| client.accepted_at)),
            client_tls_done_at: exact(client.and_then(|client| client.tls_done_at)),
            started_at: exact_rfc3339(flow.row.started_at),
            dial_started_at: exact(upstream.map(|upstream| upstream.dial_started_at)),
            connected_at: exact(upstream.map(|upstream| upstream.connected_at)),
            upstream_tls_done_at: exact(upstream.and_then(|upstream| upstream.tls_done_at)),
            upstream_ready_at: exact(flow.upstream_ready_at),
            upstream_reused: flow.upstream_reused,
            request_sent_at: exact(flow.request_sent_at),
            response_started_at: exact(flow.response_started_at),
            response_ended_at: exact(flow.response_ended_at),
            ended_at: exact(flow.row.ended_at),
        }
    }
}

impl GatewayItem {
    fn new(gateway: &GatewayView) -> Self {
        Self {
            route: gateway.route.clone(),
            url: gateway.url.clone(),
            request_id: gateway.request_id.clone(),
        }
    }
}

impl ErrorItem {
    fn new(error: &ErrorView) -> Self {
        Self {
            side: error.side.clone(),
            stage: error.stage.clone(),
            kind: error.kind.clone(),
            message: error.text.clone(),
            replied_status: error.replied_status,
        }
    }
}

/// A moment as RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    format!("{:.3}", moment(at))
}

/// A moment as RFC 3339 in UTC with microseconds.
pub(crate) fn exact_rfc3339(at: Timestamp) -> String {
    format!("{:.6}", moment(at))
}

/// A moment beyond what a calendar holds becomes the nearest one that it does hold.
fn moment(at: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(at.0).unwrap_or(match at.0 > 0 {
        true => jiff::Timestamp::MAX,
        false => jiff::Timestamp::MIN,
    })
}

/// Base64 with padding (RFC 4648 section 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut bits = [0; 4];
        for (place, byte) in bits.iter_mut().skip(1).zip(group) {
            *place = *byte;
        }
        let bits = u32::from_be_bytes(bits);
        for sixth in 0..4_usize {
            let letter = (bits >> (18 - 6 * sixth)) & 63;
            match sixth <= group.len() {
                true => out.push(char::from(LETTERS[usize::from(letter as u8)])),
                false => out.push('='),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_times() {
        assert_eq!(
            rfc3339(Timestamp(1_772_442_511_402_999)),
            "2026-03-02T09:08:31.402Z"
        );
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert!(rfc3339(Timestamp(i64::MAX)).starts_with("9999-12-"));
    }

    #[test]
    fn writes_base64() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn a_body_is_text_where_it_can_be() {
        let body = |bytes: &[u8]| Body {
            bytes: bytes.to_vec(),
            seen: Some(9),
            truncated: true,
            content_encoding: None,
            content_type: None,
        };
        let json = |bytes: &[u8]| serde_json::to_value(BodyDocument::new(&body(bytes))).unwrap();
        assert_eq!(json("ü".as_bytes())["data"], "ü");
        assert_eq!(json(b"\xff")["encoding"], "base64");
        assert_eq!(json(b"\xff")["bytes"], 9);
        assert_eq!(json(b"\xff")["truncated"], true);
    }
}
