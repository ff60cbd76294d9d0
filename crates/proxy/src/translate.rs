//! Carries one flow where the two sides do not speak the same version, and where both speak
//! HTTP/2: heads are turned over, bodies pass as payload, piece by piece, never collected.
//!
//! A request comes from a client of either version (`from_http1`, `from_http2`). It is attempted
//! once, in some cases twice (`attempt`), on a connection that takes it (`ready`). Then both directions run at once (`course`): the request's body goes up (`upload`),
//! the response comes head by head (`incoming`), and its last head and body go down (`download`)
//! to the client (`reply`). What is written in which form is known to `heads` and `body`.
//!
//! A WebSocket is asked for in the same way, and refused by an answer like any other. What an open
//! one carries is passed on by [`crate::websocket`].

mod attempt;
mod body;
mod course;
mod download;
mod fault;
mod from_http1;
mod from_http2;
pub(crate) mod heads;
mod incoming;
mod ready;
mod reply;
mod upload;

use std::sync::Arc;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request};
use parking_lot::Mutex;
use traffic::wire::websocket::handshake;
use traffic::wire::websocket::handshake::Accepted;
use traffic::{Failure, FailureKind, Side, Stage};

use crate::connection::Engine;
use crate::error;
use crate::http1::head::BodyLength;
use crate::http2::client::StreamGuard;
use crate::tap::Flow;
use crate::tls;
use crate::upstream::{Http1Upstream, Lease, Offer, Upstream};
use crate::websocket::{self, End, Ends};
use body::{Coding, Outgoing, Sink, Source};
use course::Done;
use download::Opening;
pub(crate) use fault::{Broken, Fault, client_reset, stage};
pub(crate) use from_http1::{Http1Request, from_http1};
pub(crate) use from_http2::{Http2Request, RequestBody, from_http2};
use incoming::Incoming;
use ready::{ReadySender, Way, ready_way};
use reply::Reply;

/// A request as it is sent, whatever it came in, with the way back to who asked.
struct Message<'a, 'c> {
    /// One that asks for a WebSocket is an extended CONNECT (RFC 8441 section 4).
    request: Request<()>,
    length: BodyLength,
    source: Source<'a, 'c>,
    reply: Reply<'a, 'c>,
}

/// How a message passed.
enum Carried {
    Whole(Done),
    /// It has opened a WebSocket.
    Opened(Opened),
}

/// A WebSocket that was opened. Nothing that it carries has passed yet.
struct Opened {
    accepted: Accepted,
    /// Where an HTTP/2 client is written to.
    client: Option<SendStream<Bytes>>,
    upstream: Carrier,
}

/// What carries a WebSocket on the upstream's side.
enum Carrier {
    Http1(Box<Http1Upstream>),
    Http2 {
        incoming: RecvStream,
        outgoing: SendStream<Bytes>,
        /// Counts the stream while it lives.
        _guard: StreamGuard,
    },
}

/// Where a message goes, and the flow that it is.
struct Passage<'p, 'r> {
    upstream: &'p Upstream,
    flow: &'p mut Flow<'r>,
    engine: &'p Arc<Engine>,
}

/// A connection for a WebSocket that an HTTP/2 client asks for: as a stream where the upstream takes
/// it so, otherwise of its own, in HTTP/1.1.
pub(crate) async fn lease_for_websocket(
    upstream: &Upstream,
    engine: &Engine,
) -> Result<Lease, Failure> {
    let limit = engine.timeouts.tls;
    match engine.upstreams.acquire(upstream, Offer::Any).await? {
        Lease::Http2(shared) if !shared.takes_websockets(limit).await => {
            engine.upstreams.acquire(upstream, Offer::Http1).await
        }
        lease => Ok(lease),
    }
}

impl Passage<'_, '_> {
    /// Sends the message on the lease and the response back.
    async fn carry(&mut self, message: Message<'_, '_>, lease: Lease) -> Result<Carried, Broken> {
        match ready_way(lease, self.upstream, self.flow, self.engine).await? {
            Way::Http1(held) => self.over_http1(message, held).await,
            Way::Http2(ready) => self.over_http2(message, ready).await,
        }
    }

    async fn over_http1(
        &mut self,
        message: Message<'_, '_>,
        mut held: Box<Http1Upstream>,
    ) -> Result<Carried, Broken> {
        self.flow.upstream(&held.facts, held.served);
        held.served = true;
        let coding = match message.length {
            BodyLength::Chunked | BodyLength::UntilClose => Coding::Chunked,
            BodyLength::None | BodyLength::Exactly(_) => Coding::AsItIs,
        };
        let upgrade = message.opens().then(|| handshake::make_key(tls::nonce()));
        let key = upgrade.as_ref().map(|(key, _)| key.as_str());
        let forwarded = self.upstream.forwarded.as_ref();
        let output = &mut held.http1.output;
        heads::write_request(&message.request, coding, key, forwarded, output);
        let connection = Mutex::new(&mut held.http1);
        let ends = course::Ends {
            source: message.source,
            sink: Sink::Http1 {
                connection: &connection,
                coding,
                side: Side::Upstream,
            },
            incoming: Incoming::Http1 {
                connection: &connection,
                is_head: message.request.method() == Method::HEAD,
                upgrade: upgrade.as_ref().map(|(_, asked)| asked),
                forwarded,
            },
            reply: message.reply,
            hides_http3: self.upstream.hides_http3,
        };
        let run = course::run(ends, self.flow, self.engine.timeouts.idle_body).await;
        let mut done = run.map_err(|mut broken| {
            // Of a head that did not come whole.
            broken.answered |= !held.http1.input.is_empty();
            broken
        })?;
        if let Some(opening) = done.response.opening.take() {
            return Ok(Carried::Opened(Opened {
                accepted: opening.accepted,
                client: opening.client,
                upstream: Carrier::Http1(held),
            }));
        }
        if done.response.upstream_stays && done.uploaded && held.http1.input.is_empty() {
            self.engine.upstreams.give_back(self.upstream, held);
        }
        Ok(Carried::Whole(done))
    }

    async fn over_http2(
        &mut self,
        message: Message<'_, '_>,
        ready: ReadySender,
    ) -> Result<Carried, Broken> {
        let ReadySender {
            shared,
            mut sender,
            _guard,
        } = ready;
        let opens = message.opens();
        if opens && !shared.takes_websockets(self.engine.timeouts.tls).await {
            let text = "the upstream speaks HTTP/2 alone, and takes no WebSockets over it";
            let (side, stage) = (Side::Upstream, Stage::Request);
            let failure = error::failure(side, stage, FailureKind::Unsupported, text);
            return Err(Broken::before(failure));
        }
        let ended = !opens && message.source.is_ended();
        let (response, mut stream) = match sender.send_request(message.request, ended) {
            Ok(begun) => begun,
            Err(error) => {
                if error.is_io() || error.is_go_away() {
                    shared.retire();
                }
                let fault = Fault::from_h2(Side::Upstream, Stage::Request, &error);
                return Err(fault.before_response());
            }
        };
        let ends = course::Ends {
            source: message.source,
            sink: Sink::Http2 {
                stream: Outgoing::Lent(&mut stream),
                side: Side::Upstream,
            },
            incoming: Incoming::Http2 { response, opens },
            reply: message.reply,
            hides_http3: self.upstream.hides_http3,
        };
        let mut done = match course::run(ends, self.flow, self.engine.timeouts.idle_body).await {
            Ok(done) => done,
            Err(broken) => {
                match (broken.failure.side, broken.reason) {
                    // Not the stream alone: what broke, or died in silence, would swallow the next
                    // requests too.
                    (Side::Upstream, None) => shared.retire(),
                    (Side::Client, Some(reason)) => stream.send_reset(reason),
                    _ => {}
                }
                return Err(broken);
            }
        };
        match done.response.opening.take() {
            Some(Opening {
                accepted,
                client,
                incoming: Some(incoming),
            }) => Ok(Carried::Opened(Opened {
                accepted,
                client,
                upstream: Carrier::Http2 {
                    incoming,
                    outgoing: stream,
                    _guard,
                },
            })),
            _ => Ok(Carried::Whole(done)),
        }
    }
}

impl Message<'_, '_> {
    /// True if it asks for a WebSocket.
    fn opens(&self) -> bool {
        matches!(self.source, Source::Later)
    }
}

impl Carrier {
    /// Passes what the WebSocket carries, to its end.
    async fn run(
        &mut self,
        client: End<'_>,
        accepted: &Accepted,
        passage: Passage<'_, '_>,
    ) -> Result<(), Broken> {
        let Passage { flow, engine, .. } = passage;
        flow.websocket_opened(accepted);
        let idle = engine.timeouts.idle_body;
        match self {
            Self::Http1(held) => {
                let upstream = End::Http1(&mut held.http1);
                websocket::run(Ends { client, upstream }, flow, idle).await
            }
            Self::Http2 {
                incoming, outgoing, ..
            } => {
                let upstream = End::Http2 { incoming, outgoing };
                let passed = websocket::run(Ends { client, upstream }, flow, idle).await;
                if let Err(broken) = &passed {
                    outgoing.send_reset(broken.reason.unwrap_or(Reason::CANCEL));
                }
                passed
            }
        }
    }
}
