//! What the engine reports, as a closed list. Events of one flow come in the order given here;
//! events of different flows interleave.

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::stream::StreamItem;
use crate::wire::websocket::{Observation, Sender};
use crate::{
    ConnectionFacts, Failure, FlowId, Head, Host, Route, Scheme, Target, Timestamp, UpstreamFacts,
};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A flow began: a request head was read, or a tunnel was asked for.
    FlowStarted(Box<FlowStarted>),
    /// An upstream connection was chosen for the flow. Comes again if the request was retried.
    UpstreamChosen {
        /// The flow.
        flow: FlowId,
        /// When it was ready for this flow.
        at: Timestamp,
        /// True if the connection had served before.
        reused: bool,
        /// The connection.
        upstream: Arc<UpstreamFacts>,
    },
    /// The request goes to a gateway in the place of the upstream that it was meant for.
    Rerouted(Box<Rerouted>),
    /// Payload of the request, as received (content-encoded, without transfer coding). At most
    /// `body_bytes_kept` of each body are reported.
    RequestData {
        /// The flow.
        flow: FlowId,
        /// When it was seen.
        at: Timestamp,
        /// The bytes.
        data: Bytes,
    },
    /// The request was sent on to its end.
    RequestEnded {
        /// The flow.
        flow: FlowId,
        /// When its last byte was sent on.
        at: Timestamp,
        /// How large the body was.
        size: BodySize,
        /// Trailer fields, where there were any.
        trailers: Option<Box<Head>>,
    },
    /// An interim response (1xx) passed.
    Informational {
        /// The flow.
        flow: FlowId,
        /// When it was seen.
        at: Timestamp,
        /// Its head.
        head: Head,
    },
    /// The head of the final response was read.
    ResponseStarted {
        /// The flow.
        flow: FlowId,
        /// When its first byte was seen.
        at: Timestamp,
        /// Its head.
        head: Head,
    },
    /// Payload of the response; see [`Event::RequestData`].
    ResponseData {
        /// The flow.
        flow: FlowId,
        /// When it was seen.
        at: Timestamp,
        /// The bytes.
        data: Bytes,
    },
    /// A message of a stream, or of a WebSocket, passed; told only to who asks for it. The bytes
    /// that it was read from are told besides, as data.
    Streamed {
        /// The flow.
        flow: FlowId,
        /// When its last byte was seen.
        at: Timestamp,
        /// Who sent it.
        sender: Sender,
        /// The message.
        item: Box<Streamed>,
    },
    /// The response was sent on to its end.
    ResponseEnded {
        /// The flow.
        flow: FlowId,
        /// When its last byte was sent on.
        at: Timestamp,
        /// How large the body was.
        size: BodySize,
        /// Trailer fields, where there were any.
        trailers: Option<Box<Head>>,
    },
    /// The flow failed before a body was whole. Told of a body of which something passed, and of that of a
    /// response whose head did, right before [`Event::FlowEnded`].
    BodyCut {
        /// The flow.
        flow: FlowId,
        /// When.
        at: Timestamp,
        /// Whose body it is.
        sender: Sender,
        /// How much of it there was.
        size: BodySize,
    },
    /// The flow is over; nothing more is reported of it.
    FlowEnded {
        /// The flow.
        flow: FlowId,
        /// When.
        at: Timestamp,
        /// How it ended.
        outcome: Outcome,
        /// For a tunnel: bytes passed from the client and from the upstream.
        tunnelled: Option<(u64, u64)>,
    },
    /// A program does not take the certificate for a host; told once it is plain.
    CertificateRefused(Box<CertificateRefused>),
    /// Events were dropped because the watcher fell behind: a gap in the record.
    Lost {
        /// When the gap was noticed.
        at: Timestamp,
        /// Events dropped.
        events: u64,
    },
}

/// A program refused the certificate for a host again and again, and will not take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRefused {
    /// When it did last.
    pub at: Timestamp,
    /// The host it asked for.
    pub host: Host,
    /// The path or name of the program; `None` if it is not known which it is.
    pub program: Option<String>,
    /// How often it did.
    pub times: u32,
    /// Until when connections pass unopened because of it, where that is switched on.
    pub bypassed_until: Option<Timestamp>,
}

/// How a flow began.
#[derive(Clone, Debug)]
pub struct FlowStarted {
    /// The flow.
    pub flow: FlowId,
    /// When the first byte of it was seen.
    pub at: Timestamp,
    /// A request with its response, or a tunnel.
    pub kind: FlowKind,
    /// The client's side.
    pub connection: Arc<ConnectionFacts>,
    /// The scheme of the URL; `Https` for a tunnel that begins with a ClientHello.
    pub scheme: Scheme,
    /// Whom the client asked for.
    pub target: Arc<Target>,
    /// What was decided, and the rule that decided.
    pub route: Arc<Route>,
    /// The request head; for a tunnel the CONNECT request, or `CONNECT host:port SOCKS/5` for what
    /// was asked for by SOCKS, which has no head.
    pub head: Head,
}

/// Where a request went in the place of the upstream that it was meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rerouted {
    /// The flow.
    pub flow: FlowId,
    /// When that was decided.
    pub at: Timestamp,
    /// The name of the route that decided.
    pub route: String,
    /// The URL that was asked for there.
    pub url: String,
    /// The id of the request that the gateway was told.
    pub request_id: Option<String>,
}

/// What was read out of a stream.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Streamed {
    /// Of a body that streams: a server-sent event, a line, a gRPC message.
    Body(StreamItem),
    /// Of a WebSocket.
    WebSocket(Observation),
}

/// What a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowKind {
    /// One HTTP request with its response.
    Http,
    /// A request to open a WebSocket, with what passed through it if it was opened.
    WebSocket,
    /// Bytes that passed unopened.
    Tunnel,
}

/// How much of a body there was, in bytes of payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodySize {
    /// Bytes that passed.
    pub seen: u64,
    /// Bytes that were reported, from the start on. Less than `seen`: the capture is truncated.
    pub kept: u64,
}

/// How a flow ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Request and response passed whole, or the tunnel was closed in order.
    Completed,
    /// It did not.
    Failed {
        /// Why.
        failure: Box<Failure>,
        /// The status of the reply that oriel itself gave the client, where it could.
        replied: Option<u16>,
    },
}

impl Event {
    /// The flow the event belongs to; none for a gap.
    #[must_use]
    pub fn flow(&self) -> Option<FlowId> {
        match self {
            Self::FlowStarted(started) => Some(started.flow),
            Self::Rerouted(rerouted) => Some(rerouted.flow),
            Self::UpstreamChosen { flow, .. }
            | Self::RequestData { flow, .. }
            | Self::RequestEnded { flow, .. }
            | Self::Informational { flow, .. }
            | Self::ResponseStarted { flow, .. }
            | Self::ResponseData { flow, .. }
            | Self::Streamed { flow, .. }
            | Self::ResponseEnded { flow, .. }
            | Self::BodyCut { flow, .. }
            | Self::FlowEnded { flow, .. } => Some(*flow),
            Self::CertificateRefused(_) | Self::Lost { .. } => None,
        }
    }
}
