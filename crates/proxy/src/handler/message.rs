//! What a handler sees of the traffic.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use traffic::process::{Ancestor, Container};
use traffic::rules::redact::Redaction;
use traffic::wire::encoding::{self, Note};
use traffic::{ClientAddress, ListenAddress, Sender};
use uuid::Uuid;

use super::Subject;
use crate::destination::Destination;

/// A request, before it is sent on.
///
/// Hop-by-hop fields (RFC 9110 section 7.6.1) are left out, they do not go on either.
#[derive(Clone, Debug, PartialEq)]
pub struct RawRequest {
    /// For example `POST`.
    pub method: String,
    /// Path and query, for example `/v1/messages?beta=true`.
    pub path: String,
    /// The fields. Names are lower case, values of one name are in the order they came.
    pub headers: HeaderMap,
    /// The body, if `body.buffer_request_bodies` is set and the handler wants it of this request;
    /// otherwise empty, and the body passes without being held. Content codings (gzip and the like) are
    /// undone.
    pub body: Bytes,
    /// What is to be known of `body` besides.
    pub body_view: BodyView,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host and port asked for, for example `api.openai.com:443`.
    pub authority: String,
    /// The connection it came on.
    pub connection_meta: Arc<ConnectionMeta>,
}

/// A response that passed.
#[derive(Clone, Debug, PartialEq)]
pub struct RawResponse {
    /// The status code.
    pub status: u16,
    /// The fields, as in [`RawRequest`].
    pub headers: HeaderMap,
    /// The body, at most `body.max_size_bytes` of it, content codings undone. Empty for streams,
    /// whose pieces are told one by one.
    pub body: Bytes,
    /// What is to be known of `body` besides.
    pub body_view: BodyView,
    /// The connection that the request came on.
    pub connection_meta: Arc<ConnectionMeta>,
}

/// How a body that is shown relates to the one that passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyView {
    /// The body was larger than what is shown. What went over the wire was whole.
    pub truncated: bool,
    /// Why the content coding could not be undone; the body is then shown as it came.
    pub encoding_error: Option<String>,
}

/// A piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamChunk {
    /// The connection, or HTTP/2 stream, that it belongs to.
    pub connection_id: Uuid,
    /// The data of a server-sent event, a line, a message.
    pub payload: Bytes,
    /// Grows by one with each piece of the same direction, from 0.
    pub sequence: u64,
    /// What it is.
    pub frame_kind: FrameKind,
    /// Who sent it.
    pub sender: Sender,
    /// It was larger than what is shown.
    pub truncated: bool,
}

/// What a piece of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameKind {
    /// The data of a server-sent event.
    SseData,
    /// A line of NDJSON.
    NdjsonLine,
    /// A gRPC message, without its prefix, decompressed.
    GrpcMessage,
    /// A message of an AWS event stream: its payload.
    EventStreamMessage,
    /// A text message of a WebSocket, its fragments joined, decompressed.
    WebSocketText,
    /// A binary message of a WebSocket.
    WebSocketBinary,
    /// A close frame of a WebSocket: two octets of code and the reason.
    WebSocketClose,
}

impl FrameKind {
    /// The stable name, for example `sse_data`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SseData => "sse_data",
            Self::NdjsonLine => "ndjson_line",
            Self::GrpcMessage => "grpc_message",
            Self::EventStreamMessage => "eventstream_message",
            Self::WebSocketText => "websocket_text",
            Self::WebSocketBinary => "websocket_binary",
            Self::WebSocketClose => "websocket_close",
        }
    }
}

impl fmt::Display for FrameKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// What is known of a client's connection.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionMeta {
    /// Names the connection, or the HTTP/2 stream, in all callbacks. Unique across restarts.
    pub connection_id: Uuid,
    /// Between which addresses.
    pub socket_family: SocketFamily,
    /// The process that connected, where it is known: not yet in `on_connection_open`, but in
    /// every question to the handler. See [`ProxyConfig::attribution`](crate::ProxyConfig).
    pub process_info: Option<ProcessInfo>,
    /// What the client's TLS handshake with us settled; `None` before it and without TLS.
    pub tls_info: Option<TlsInfo>,
}

/// Between which addresses a client is connected; `local` is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketFamily {
    /// TCP over IPv4.
    TcpV4 {
        /// Our end.
        local: SocketAddrV4,
        /// The client's end.
        remote: SocketAddrV4,
    },
    /// TCP over IPv6.
    TcpV6 {
        /// Our end.
        local: SocketAddrV6,
        /// The client's end.
        remote: SocketAddrV6,
    },
    /// A Unix-domain socket.
    UnixDomain {
        /// Where we listen.
        path: Option<PathBuf>,
    },
}

impl SocketFamily {
    /// The family of a connection that was accepted at `local`.
    #[must_use]
    pub fn new(local: &ListenAddress, remote: ClientAddress) -> Self {
        match (local, remote) {
            (ListenAddress::Tcp(local), ClientAddress::Tcp(remote)) => Self::tcp(*local, remote),
            (ListenAddress::Unix(path), _) => Self::UnixDomain {
                path: Some(path.clone()),
            },
            (ListenAddress::Tcp(_), ClientAddress::Unix(_)) => Self::UnixDomain { path: None },
        }
    }

    fn tcp(local: SocketAddr, remote: SocketAddr) -> Self {
        match (local, remote) {
            (SocketAddr::V4(local), SocketAddr::V4(remote)) => Self::TcpV4 { local, remote },
            (local, remote) => Self::TcpV6 {
                local: v6(local),
                remote: v6(remote),
            },
        }
    }

    /// The stable name: `tcp_v4`, `tcp_v6` or `unix_domain`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::TcpV4 { .. } => "tcp_v4",
            Self::TcpV6 { .. } => "tcp_v6",
            Self::UnixDomain { .. } => "unix_domain",
        }
    }
}

fn v6(address: SocketAddr) -> SocketAddrV6 {
    match address {
        SocketAddr::V6(address) => address,
        SocketAddr::V4(address) => {
            SocketAddrV6::new(address.ip().to_ipv6_mapped(), address.port(), 0, 0)
        }
    }
}

/// What the client's TLS handshake settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// The name the client asked for.
    pub sni: Option<String>,
    /// The protocol chosen by ALPN, for example `h2`.
    pub negotiated_proto: Option<String>,
    /// The JA3 fingerprint of the ClientHello, if `tls.capture_fingerprint` is set.
    pub ja3: Option<String>,
    /// The JA4 fingerprint of the ClientHello, if `tls.capture_fingerprint` is set.
    pub ja4: Option<String>,
}

/// The process at the client's end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// The process id.
    pub pid: u32,
    /// The bundle identifier; on macOS only.
    pub bundle_id: Option<String>,
    /// The file name of the executable.
    pub exe_name: Option<String>,
    /// The path of the executable.
    pub exe_path: Option<PathBuf>,
    /// The id of its parent.
    pub parent_pid: Option<u32>,
    /// Its arguments, the name of the program the first of them; known credentials are masked.
    pub command_line: Vec<String>,
    /// Parent, grandparent and so on, the nearest first, as far as they could be read.
    pub ancestors: Vec<Ancestor>,
    /// The container it runs in, where its control group names one.
    pub container: Option<Container>,
    /// The user it acts as; `None` if it cannot be told.
    pub uid: Option<u32>,
}

impl From<&traffic::ProcessInfo> for ProcessInfo {
    fn from(found: &traffic::ProcessInfo) -> Self {
        Self {
            pid: found.pid,
            bundle_id: found.bundle_id.clone(),
            exe_name: Some(found.exe_name.clone()),
            exe_path: found.exe_path.as_ref().map(PathBuf::from),
            parent_pid: found.parent_pid,
            command_line: found.masked_command_line(Redaction::Basic),
            ancestors: found.ancestors.clone(),
            container: found.container.clone(),
            uid: found.uid,
        }
    }
}

impl RawRequest {
    /// The head of a request to this upstream, without its body.
    pub(crate) fn new(
        method: impl Into<String>,
        path: String,
        headers: HeaderMap,
        to: &Destination,
        subject: &Subject,
    ) -> Self {
        Self {
            method: method.into(),
            path,
            headers,
            body: Bytes::new(),
            body_view: BodyView::default(),
            scheme: to.scheme.as_str(),
            authority: to.target.to_string(),
            connection_meta: Arc::clone(&subject.meta),
        }
    }
}

impl BodyView {
    /// A body with its content codings undone, at most `bytes_max` octets of it.
    pub(crate) fn decoded(
        headers: &HeaderMap,
        body: Bytes,
        truncated: bool,
        bytes_max: usize,
    ) -> (Bytes, Self) {
        let names: Vec<&str> = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        if names.is_empty() {
            let view = Self {
                truncated,
                encoding_error: None,
            };
            return (body, view);
        }
        let decoded = encoding::decode(&names.join(","), &body, bytes_max);
        let cut = matches!(decoded.note, Some(Note::TooLarge { .. }));
        // The end of a coding is missing where the body was cut.
        let error = decoded.note.filter(|_| !cut && !truncated);
        let view = Self {
            truncated: truncated || cut,
            encoding_error: error.map(|note| note.to_string()),
        };
        (Bytes::from(decoded.bytes.into_owned()), view)
    }
}
