//! A stored flow as the reader hands it out: plain values, absent knowledge as `None`.

use traffic::rules::redact::Redaction;
use traffic::{Front, Timestamp};

use crate::{FlowRef, SessionMethod, TrafficType};

/// What a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowKind {
    /// One HTTP request with its response.
    Http,
    /// A request to open a WebSocket, with what passed through it.
    WebSocket,
    /// Bytes that passed unopened.
    Tunnel,
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// It has not ended.
    Open,
    /// It passed whole.
    Completed,
    /// It did not.
    Failed,
    /// The process that recorded it ended before the flow did.
    Interrupted,
}

/// One of the two messages of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// What the client sent.
    Request,
    /// What the upstream answered.
    Response,
}

/// A flow as a list shows it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FlowRow {
    /// The id people type.
    pub id: FlowRef,
    /// UUIDv7.
    pub uuid: String,
    /// What it is.
    pub kind: FlowKind,
    /// How far it is.
    pub state: FlowState,
    /// When its first byte was seen.
    #[serde(with = "crate::plain::time")]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(with = "crate::plain::some_time")]
    pub ended_at: Option<Timestamp>,
    /// From start to end; `None` while it is open.
    pub duration_ms: Option<f64>,
    /// From start to the first byte of the response.
    pub first_byte_ms: Option<f64>,
    /// The method; `CONNECT` for a tunnel that was asked for so.
    pub method: String,
    /// The URL with credentials masked; `host:port` for a tunnel.
    pub url: String,
    /// The host that was asked for.
    pub host: String,
    /// The port that was asked for.
    pub port: u16,
    /// The path of the URL without its query; empty for a tunnel.
    pub path: String,
    /// The status code of the final response.
    pub status: Option<u16>,
    /// The HTTP version the client spoke, for example `HTTP/2`.
    pub client_version: Option<String>,
    /// The HTTP version the upstream spoke.
    pub upstream_version: Option<String>,
    /// What it is for.
    #[serde(with = "crate::plain::traffic_type")]
    pub traffic_type: TrafficType,
    /// The session of an agent that it belongs to.
    pub session: Option<SessionMark>,
    /// `intercept`, `tunnel` or `block`.
    pub route_action: String,
    /// The rule that decided.
    pub route_rule: String,
    /// Body bytes of the request that passed; for a tunnel the bytes from the client.
    pub request_bytes: Option<u64>,
    /// Body bytes of the response that passed; for a tunnel the bytes from the upstream.
    pub response_bytes: Option<u64>,
    /// Media type of the response body.
    pub response_content_type: Option<String>,
    /// True if a body was not kept whole.
    pub truncated: bool,
    /// Why it failed.
    pub error: Option<ErrorView>,
    /// True if the upstream's certificate was not verified.
    pub danger_unverified: bool,
    /// True if credentials were stored as they came.
    #[serde(with = "crate::plain::redaction")]
    pub redaction: Redaction,
    /// What people marked it with, sorted.
    pub tags: Vec<String>,
    /// What people noted about it.
    pub note: Option<String>,
}

/// How a flow belongs to the session of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct SessionMark {
    /// The id of the session, as its program made it, or of the one that it was merged into.
    pub id: String,
    /// How that is known.
    #[serde(with = "crate::plain::session_method")]
    pub method: SessionMethod,
    /// The program that sent it, for example `claude-code`, where that is known.
    pub agent: Option<String>,
    /// The agent within the session that asked; `None` is the one that the user talks to.
    pub agent_id: Option<String>,
    /// The agent that started it; `None` is the one that the user talks to.
    pub parent_agent_id: Option<String>,
}

/// Why a flow failed. The names are those of [`traffic::Failure`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ErrorView {
    /// On whose side.
    pub side: String,
    /// At which step.
    pub stage: String,
    /// What kind.
    pub kind: String,
    /// One sentence.
    pub text: String,
    /// The status of the reply that oriel itself gave.
    pub replied_status: Option<u16>,
}

/// Where a request went in the place of the upstream that it was meant for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GatewayView {
    /// The name of the route that decided.
    pub route: String,
    /// The URL that was asked for, masked.
    pub url: String,
    /// The id of the request that the gateway was told.
    pub request_id: Option<String>,
}

/// Everything that is known of a flow but its bodies.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FlowDetail {
    /// What a list shows.
    pub row: FlowRow,
    /// Scheme of the URL.
    pub scheme: String,
    /// The request's head; `None` if it could not be read.
    pub request: HeadView,
    /// The response's head.
    pub response: Option<HeadView>,
    /// Interim responses (1xx), in order.
    pub informational: Vec<HeadView>,
    /// Trailer fields of the request.
    pub request_trailers: Vec<(String, String)>,
    /// Trailer fields of the response.
    pub response_trailers: Vec<(String, String)>,
    /// Media type of the request body.
    pub request_content_type: Option<String>,
    /// Bytes of the request body that are stored.
    pub request_kept_bytes: Option<u64>,
    /// Bytes of the response body that are stored.
    pub response_kept_bytes: Option<u64>,
    /// When the upstream connection was ready for this flow.
    #[serde(with = "crate::plain::some_time")]
    pub upstream_ready_at: Option<Timestamp>,
    /// True if the upstream connection had served before.
    pub upstream_reused: Option<bool>,
    /// When the last byte of the request was sent on.
    #[serde(with = "crate::plain::some_time")]
    pub request_sent_at: Option<Timestamp>,
    /// When the first byte of the response was seen.
    #[serde(with = "crate::plain::some_time")]
    pub response_started_at: Option<Timestamp>,
    /// When the last byte of the response was sent on.
    #[serde(with = "crate::plain::some_time")]
    pub response_ended_at: Option<Timestamp>,
    /// The client's connection.
    pub client: Option<ConnectionView>,
    /// The upstream's connection.
    pub upstream: Option<UpstreamView>,
    /// Where the request went in the place of its upstream, if it did.
    pub gateway: Option<GatewayView>,
    /// How many messages the client and the upstream of a WebSocket sent, control frames included;
    /// `None` if nothing passed.
    pub messages: Option<MessageCounts>,
}

/// Messages of a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MessageCounts {
    /// That the client sent.
    pub from_client: u64,
    /// That the upstream sent.
    pub from_upstream: u64,
}

/// What a WebSocket carried: a message, a control frame, or a rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StreamMessage {
    /// From 1 on within the flow, in the order in which they were seen whole.
    pub sequence: u64,
    /// `client` or `upstream`.
    pub sender: String,
    /// When its last byte was seen.
    #[serde(with = "crate::plain::time")]
    pub at: Timestamp,
    /// `text`, `binary`, `ping`, `pong`, `close`, or `problem` for a broken rule, which the payload
    /// names.
    pub kind: String,
    /// Of a close frame.
    pub close_code: Option<u16>,
    /// Bytes of the payload, inflated.
    pub bytes: u64,
    /// Bytes of the payload as they passed.
    pub wire_bytes: u64,
    /// Frames it came in.
    pub frames: u64,
    /// What the payload is: `plain`, `inflated`, `inflated_in_part`, `deflated` where it could not be
    /// inflated, `unknown` where an extension gave it a form of its own.
    pub coding: String,
    /// False if its last frame never came.
    pub complete: bool,
    /// What was kept of the payload.
    #[serde(with = "crate::plain::bytes")]
    pub payload: Vec<u8>,
}

/// The head of a message. A field value that is no UTF-8 is read as Latin-1.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HeadView {
    /// The start line.
    pub start_line: String,
    /// Names and values in the order and case of the wire.
    pub fields: Vec<(String, String)>,
    /// Size of the head as received.
    pub bytes: u64,
}

/// The client's connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ConnectionView {
    /// How the client said whom it wants; a name of [`traffic::Front`].
    pub front: String,
    /// Where the client connects from: `127.0.0.1:50000` or `unix:pid=4711,uid=1000`.
    pub client_address: String,
    /// Where oriel was reached: `127.0.0.1:6743` or `unix:/run/oriel.sock`.
    pub proxy_address: String,
    /// When the connection was accepted.
    #[serde(with = "crate::plain::time")]
    pub accepted_at: Timestamp,
    /// When the TLS handshake with the client was done.
    #[serde(with = "crate::plain::some_time")]
    pub tls_done_at: Option<Timestamp>,
    /// TLS with the client.
    pub tls: Option<TlsView>,
    /// Why there is none: `plain_http`, `tunnelled` or `handshake_failed`.
    pub no_tls: Option<String>,
    /// The name in the ClientHello, also where TLS was not opened.
    pub sni: Option<String>,
    /// True if it is not the host that was asked for.
    pub sni_differs: bool,
    /// The JA3 fingerprint of the ClientHello: an MD5 in hexadecimal digits.
    pub ja3: Option<String>,
    /// Its JA4 fingerprint.
    pub ja4: Option<String>,
    /// The name that the client said, where clients have to say who they are.
    pub user: Option<String>,
    /// The process at the client's end.
    pub process: Option<ProcessView>,
    /// Why it is not known; a name of [`traffic::AttributionError`]. `None` beside no process:
    /// nobody looked, or the answer did not come in time.
    pub no_process: Option<String>,
}

impl ConnectionView {
    /// On whose behalf oriel stood there: `forward` for the client's, `reverse` for the upstream's.
    #[must_use]
    pub fn proxy_direction(&self) -> &'static str {
        // The other fronts are all ways to ask a proxy.
        let front = match self.front.as_str() {
            "reverse" => Front::Reverse,
            _ => Front::Connect,
        };
        front.direction().as_str()
    }
}

/// The process at the client's end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ProcessView {
    /// Its number.
    pub pid: u32,
    /// File name of its program.
    pub name: String,
    /// Path of its program.
    pub path: Option<String>,
    /// Its arguments, with credentials masked as the flow says.
    pub command_line: Vec<String>,
    /// Parent, grandparent and so on, the nearest first.
    pub ancestors: Vec<AncestorView>,
    /// Id of the container it runs in.
    pub container: Option<String>,
}

/// A process from which another descends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct AncestorView {
    /// Its number.
    pub pid: u32,
    /// File name of its program.
    pub name: String,
}

/// The upstream's connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct UpstreamView {
    /// The address dialled: the upstream's, or the proxy's.
    pub address: String,
    /// Our end of the connection.
    pub local_address: String,
    /// The URL of the upstream proxy that it goes through, without credentials.
    pub proxy: Option<String>,
    /// When resolving and dialling began.
    #[serde(with = "crate::plain::time")]
    pub dial_started_at: Timestamp,
    /// When the TCP connection stood.
    #[serde(with = "crate::plain::time")]
    pub connected_at: Timestamp,
    /// When the TLS handshake was done.
    #[serde(with = "crate::plain::some_time")]
    pub tls_done_at: Option<Timestamp>,
    /// TLS with the upstream.
    pub tls: Option<TlsView>,
}

/// What a TLS handshake settled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct TlsView {
    /// For example `TLSv1.3`.
    pub version: String,
    /// The cipher suite.
    pub cipher: String,
    /// The name asked for.
    pub sni: Option<String>,
    /// The protocol chosen.
    pub alpn: Option<String>,
    /// The certificate shown.
    pub certificate: Option<CertificateView>,
    /// True if the certificate was not verified.
    pub danger_unverified: bool,
}

/// A short view of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct CertificateView {
    /// Distinguished name of the subject.
    pub subject: String,
    /// Distinguished name of the issuer.
    pub issuer: String,
    /// Valid from, in microseconds since the Unix epoch.
    pub not_before: i64,
    /// Valid to, in microseconds since the Unix epoch.
    pub not_after: i64,
    /// Names and addresses it is for.
    pub names: Vec<String>,
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub sha256: String,
    /// Certificates the server sent.
    pub chain_length: usize,
}

/// A body, as received: still content-encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The bytes that were kept.
    pub bytes: Vec<u8>,
    /// How many bytes passed; `None` while it is not known.
    pub seen: Option<u64>,
    /// True if not all of them were kept.
    pub truncated: bool,
    /// Value of the content-encoding field, for example `gzip`; `None` if the body has none.
    pub content_encoding: Option<String>,
    /// Value of the content-type field.
    pub content_type: Option<String>,
}

impl SessionMark {
    pub(crate) fn of(identity: llm::Identity) -> Self {
        Self {
            id: identity.session,
            method: identity.method,
            agent: identity.agent.map(str::to_owned),
            agent_id: identity.agent_id,
            parent_agent_id: identity.parent_agent_id,
        }
    }
}

impl FlowKind {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::WebSocket => "websocket",
            Self::Tunnel => "tunnel",
        }
    }
}

impl StreamMessage {
    /// True if less was kept than passed.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        let kept = u64::try_from(self.payload.len()).unwrap_or(u64::MAX);
        !self.complete || kept < self.bytes
    }
}

impl Message {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

impl FlowState {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// As a row of `flows` says it: that it is completed, as most are, takes no byte.
    pub(crate) fn stored_name(self) -> &'static str {
        match self {
            Self::Completed => "",
            Self::Open | Self::Failed | Self::Interrupted => self.as_str(),
        }
    }
}

impl FlowDetail {
    /// The body of a message, of which this was kept and so many bytes passed; `None` if it had none.
    pub(crate) fn body(
        &self,
        message: Message,
        content: Vec<u8>,
        seen: Option<u64>,
    ) -> Option<Body> {
        // What a WebSocket carried is kept as messages.
        let is_socket = self.row.kind == FlowKind::WebSocket;
        if content.is_empty() && (seen.unwrap_or(0) == 0 || is_socket) {
            return None;
        }
        let kept = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let head = match message {
            Message::Request => Some(&self.request),
            Message::Response => self.response.as_ref(),
        };
        let field = |name| head.and_then(|head| head.field(name)).map(str::to_owned);
        Some(Body {
            bytes: content,
            seen,
            truncated: match seen {
                Some(seen) => kept < seen,
                None => matches!(self.row.state, FlowState::Open | FlowState::Interrupted),
            },
            content_encoding: field("content-encoding"),
            content_type: field("content-type"),
        })
    }
}

impl HeadView {
    /// The first value of a field, whatever the case of its name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }
}
