//! The contract between the engine and whoever embeds it to decide and to watch.
//!
//! A handler is asked before anything of a request is sent upstream, and told of everything else
//! afterwards. What it is asked is waited for, within a deadline; what it is told is queued in
//! order and never holds up what it is told of. The next request on the same HTTP/1.1 connection
//! is asked about once the queue is empty, so that a response always belongs to the request before
//! it. That wait is none of the time for the decision. It lasts no longer than one callback may take
//! that is told something; what waits behind a slower one is dropped then, but for an end.
//!
//! # Order
//! For each connection id:
//!
//! 1. [`on_connection_open`](InterceptHandler::on_connection_open), once;
//! 2. [`should_intercept_tls`](InterceptHandler::should_intercept_tls), once, if the client asks
//!    for a tunnel to a host whose TLS the configuration lets be opened;
//! 3. for each request, one after the other: [`interests_in`](InterceptHandler::interests_in), by which
//!    of the rest only what is wanted comes, and [`on_request`](InterceptHandler::on_request), then one of
//!    - [`on_response`](InterceptHandler::on_response), once, with the whole body (up to the
//!      configured limit); this too for an answer that the handler gave itself, or
//!    - for a streamed response (server-sent events, NDJSON, gRPC, AWS event streams)
//!      `on_response` with an empty body when its head came, then
//!      [`on_stream_chunk`](InterceptHandler::on_stream_chunk) for each piece, then
//!      [`on_stream_end`](InterceptHandler::on_stream_end), once, or
//!    - for a WebSocket [`on_websocket_start`](InterceptHandler::on_websocket_start), once, then
//!      chunks and the end as above, or
//!    - nothing, where the request was refused by the engine or broke off before it was answered;
//! 4. [`on_connection_close`](InterceptHandler::on_connection_close), once, last.
//!
//! An HTTP/2 connection carries many requests at once, so each of its streams has a connection id
//! of its own with the same order, besides the id of the connection that carries them. A stream that
//! carries a tunnel has one too, for the tunnel and for what comes through it.
//! Pieces of a streamed request (a gRPC client stream) come as chunks too, numbered on their own.
//!
//! [`on_tls_failure`](InterceptHandler::on_tls_failure) comes once for each flow that failed by a
//! handshake, on either side.
//!
//! # Exactly once
//! The open and the close of an id come once each, the close last, however the connection ends: in
//! order, by an error, by a panic of the handler, by a shutdown that cuts it. A stream of which
//! anything was told is told to have ended, once. Pieces are numbered without a gap as long as
//! none is dropped. What is told is dropped only where the handler is more than
//! [`DISPATCH_ITEMS_MAX`](crate::limits::DISPATCH_ITEMS_MAX) callbacks behind on one id, where it
//! would hold up the next request, or where too much memory is held; it is counted, and ends are never
//! among it. A shutdown that runs out of
//! time drops what is not told yet, says so, and tells the closes all the same.
//!
//! # When a handler fails
//! A handler that panics or does not answer in time has its request blocked, unless
//! [`OnError::Allow`] was asked for. Panics do not leave the callback; they are counted. Where they
//! are to (`recover_from_panics = false`), one ends the client connection that the callback was about,
//! with all streams of it, and no other; what is queued is told all the same, then the close.

mod answer;
mod cut;
mod edit;
mod erased;
mod gate;
mod held;
mod lane;
mod local;
mod message;
mod observer;
mod subject;

use std::future::Future;

use uuid::Uuid;

pub(crate) use answer::Answer;
pub(crate) use cut::Cut;
pub(crate) use gate::{Gate, HandlerCounts};
pub use gate::{HandlerLimits, OnError};
pub(crate) use held::Hold;
pub(crate) use lane::{Lane, LaneKey};
pub use message::{
    BodyView, ConnectionMeta, FrameKind, ProcessInfo, RawRequest, RawResponse, SocketFamily,
    StreamChunk, TlsInfo,
};
pub(crate) use subject::Subject;
pub use traffic::Sender;
pub use traffic::process::{Ancestor, Container, ContainerRuntime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use traffic::Target;

/// What a handler wants to be asked and told: of all requests ([`InterceptHandler::interests`]), or of
/// one ([`InterceptHandler::interests_in`]). What is not wanted of any costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interests {
    /// Ask [`InterceptHandler::on_request`].
    pub requests: bool,
    /// Give `on_request` the body, not only the head, where bodies are held
    /// (`body.buffer_request_bodies`). The body of a request of which only the head is wanted is not
    /// held.
    pub request_bodies: bool,
    /// Tell [`InterceptHandler::on_response`] and [`InterceptHandler::on_websocket_start`].
    pub responses: bool,
    /// Give `on_response` the body, not only the head.
    pub response_bodies: bool,
    /// Tell [`InterceptHandler::on_stream_chunk`] and [`InterceptHandler::on_stream_end`].
    pub stream_chunks: bool,
}

impl Interests {
    /// Everything; what a handler has that says nothing.
    pub const ALL: Self = Self {
        requests: true,
        request_bodies: true,
        responses: true,
        response_bodies: true,
        stream_chunks: true,
    };

    /// The heads of requests, to decide about them.
    pub const REQUEST_HEADS: Self = Self {
        requests: true,
        ..Self::NONE
    };

    /// Nothing but connections and their handshakes.
    pub const NONE: Self = Self {
        requests: false,
        request_bodies: false,
        responses: false,
        response_bodies: false,
        stream_chunks: false,
    };

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests && other.requests,
            request_bodies: self.request_bodies && other.request_bodies,
            responses: self.responses && other.responses,
            response_bodies: self.response_bodies && other.response_bodies,
            stream_chunks: self.stream_chunks && other.stream_chunks,
        }
    }

    /// Whether anything is told of a request once it was decided about.
    pub(crate) fn in_flows(self) -> bool {
        self.responses || self.stream_chunks
    }
}

/// Decides about requests, and is told what happens. Every callback has a default that does
/// nothing and lets everything pass. See the [module](self) for the order of the calls.
///
/// Callbacks that are not `async` run on the engine's own threads and must return at once;
/// `should_intercept_tls` alone may block, it runs on one of
/// [`INTERCEPT_QUESTIONS_MAX`](crate::limits::INTERCEPT_QUESTIONS_MAX) threads for such work.
pub trait InterceptHandler: Send + Sync + 'static {
    /// What this handler wants to be asked and told at all. Read once, when the proxy is built.
    fn interests(&self) -> Interests {
        Interests::ALL
    }

    /// What it wants of one request, out of [`interests`](Self::interests): the body of a call of a
    /// model, say, of other requests the head, and nothing of downloads. Asked once per request,
    /// before anything of it is held. If it panics and the panic stays in the callback, all is wanted.
    ///
    /// ```
    /// use oriel_proxy::{InterceptHandler, Interests, RequestLine};
    ///
    /// struct ReadsPrompts;
    ///
    /// impl InterceptHandler for ReadsPrompts {
    ///     fn interests_in(&self, request: &RequestLine<'_>) -> Interests {
    ///         match request.path.starts_with("/v1/messages") {
    ///             true => Interests::ALL,
    ///             false => Interests::REQUEST_HEADS,
    ///         }
    ///     }
    /// }
    /// ```
    fn interests_in(&self, request: &RequestLine<'_>) -> Interests {
        let _ = request;
        Interests::ALL
    }

    /// Whether the TLS of a connection to `host` is to be opened; `false` tunnels it. Asked only
    /// for hosts that the configuration lets be opened. The process is known for clients on this
    /// machine, where attribution is on and found it.
    fn should_intercept_tls(&self, host: &str, process_info: Option<&ProcessInfo>) -> bool {
        let _ = (host, process_info);
        true
    }

    /// A TLS handshake failed: with the client (it does not trust our certificate, say) or with
    /// the upstream. `error` is a sentence for people.
    fn on_tls_failure(&self, host: &str, error: &str) {
        let _ = (host, error);
    }

    /// Decides about a request before any byte of it is sent on.
    fn on_request(&self, request: &RawRequest) -> impl Future<Output = HandlerDecision> + Send {
        let _ = request;
        async { HandlerDecision::Allow }
    }

    /// A WebSocket was opened; `response` is the upstream's answer to the handshake.
    fn on_websocket_start(&self, response: &RawResponse) -> impl Future<Output = ()> + Send {
        let _ = response;
        async {}
    }

    /// A piece of a stream passed: a server-sent event, a line, a message.
    fn on_stream_chunk(&self, chunk: &StreamChunk) -> impl Future<Output = ()> + Send {
        let _ = chunk;
        async {}
    }

    /// The stream is over, in order or not.
    fn on_stream_end(&self, connection_id: Uuid) -> impl Future<Output = ()> + Send {
        let _ = connection_id;
        async {}
    }

    /// A response passed whole, or the head of a streamed one.
    fn on_response(&self, response: &RawResponse) -> impl Future<Output = ()> + Send {
        let _ = response;
        async {}
    }

    /// A client connected, or opened an HTTP/2 stream.
    fn on_connection_open(&self, meta: &ConnectionMeta) {
        let _ = meta;
    }

    /// It is gone; nothing more is told of this id.
    fn on_connection_close(&self, connection_id: Uuid) {
        let _ = connection_id;
    }
}

/// What a request asks for, to tell by whether its head, its body or nothing of it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestLine<'a> {
    /// For example `POST`. A WebSocket is opened by `GET` in HTTP/1.1 and by `CONNECT` in HTTP/2.
    pub method: &'a str,
    /// The host and port asked for.
    pub target: &'a Target,
    /// Path and query, for example `/v1/messages?beta=true`.
    pub path: &'a str,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandlerDecision {
    /// It goes on as it came.
    Allow,
    /// It is answered with this status and body (`text/plain`) and goes nowhere. A status that is
    /// no final one (200 to 599) becomes 403.
    Block {
        /// For example 403 or 451.
        status: u16,
        /// Shown to the client.
        body: Bytes,
    },
    /// It goes on changed.
    Edit(Box<RequestEdit>),
    /// It is answered here, and goes nowhere.
    Respond(Box<LocalResponse>),
    /// It goes to another upstream, as it came.
    Redirect(Box<Target>),
}

/// Changes to a request. What is not named stays as it came, byte for byte on HTTP/1.1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestEdit {
    /// The method. One cannot be made HEAD or CONNECT, nor these another: the client would take the
    /// response for one with, or without, a body.
    pub method: Option<String>,
    /// Path and query.
    pub path: Option<String>,
    /// Fields to take out, all lines of that name.
    pub remove: Vec<HeaderName>,
    /// Fields to set: the first line of that name gets the value in its place, others of the name
    /// go; where there is none, it is added at the end. `Host`, `Content-Length`,
    /// `Transfer-Encoding` and other fields that frame the message or name its connection cannot
    /// be set.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Another body in place of the one that came. It needs `body.buffer_request_bodies`: a body
    /// that is on its way cannot be replaced.
    pub body: Option<Bytes>,
    /// Another upstream.
    pub upstream: Option<Target>,
}

/// An answer made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalResponse {
    /// 200 to 599.
    pub status: u16,
    /// Fields; the framing is added, so those that frame the message are left out.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}
