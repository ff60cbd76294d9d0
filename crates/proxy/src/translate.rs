//! Carries one flow where the two sides do not speak the same version, and where both speak
//! HTTP/2: heads are turned over, bodies pass as payload, piece by piece, never collected.
//!
//! A request is attempted once, in some cases twice (`attempt`), on a connection that takes it
//! (`ready`). Then both directions run at once (`course`): the request's body goes up (`upload`),
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
pub(crate) mod heads;
mod incoming;
mod ready;
mod reply;
mod upload;

use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request};
use parking_lot::Mutex;
use traffic::wire::websocket::handshake;
use traffic::wire::websocket::handshake::Accepted;
use traffic::{Failure, FailureKind, Scheme, Side, Stage, Target, Version};

use crate::connection::Engine;
use crate::error;
use crate::http1::body::Framing;
use crate::http1::connection::Http1;
use crate::http1::head::{BodyLength, RequestHead};
use crate::http1::relay::Reuse;
use crate::http2::client::StreamGuard;
use crate::max_forwards::MaxForwards;
use crate::tap::Flow;
use crate::tls;
use crate::upstream::{Http1Upstream, Lease, Offer, Upstream};
use crate::websocket::{self, End, Ends};
use attempt::Attempt;
use body::{Coding, Outgoing, Sink, Source};
use course::Done;
use download::Opening;
pub(crate) use fault::{Broken, Fault, client_reset, stage};
use incoming::Incoming;
use ready::{ReadySender, Way, ready_way};
use reply::Reply;

/// A request that came in HTTP/1, its head consumed, its body still to come.
pub(crate) struct Http1Request<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) bytes: &'a [u8],
    pub(crate) path: String,
    /// What replaces the Max-Forwards field.
    pub(crate) forwards: Option<MaxForwards>,
    /// It was sent once already.
    pub(crate) repeated: bool,
    /// The host of a request in absolute form: it replaces the Host field.
    pub(crate) host: Option<&'a str>,
    pub(crate) target: &'a Target,
    pub(crate) scheme: Scheme,
    /// The WebSocket that it asks for.
    pub(crate) upgrade: Option<&'a handshake::Asked>,
}

/// A request that came in HTTP/2.
pub(crate) struct Http2Request<'a> {
    pub(crate) parts: http::request::Parts,
    pub(crate) body: RequestBody,
    pub(crate) target: &'a Target,
    pub(crate) scheme: Scheme,
}

/// The body of a request that came in HTTP/2.
pub(crate) enum RequestBody {
    /// Still on its way.
    Passing(RecvStream),
    /// Whole, because it was looked at.
    Held {
        data: Bytes,
        trailers: Option<HeaderMap>,
    },
}

impl RequestBody {
    fn is_ended(&self) -> bool {
        match self {
            Self::Passing(body) => body.is_end_stream(),
            Self::Held { data, trailers } => data.is_empty() && trailers.is_none(),
        }
    }
}

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

/// Carries a request of an HTTP/1 client.
pub(crate) async fn from_http1(
    client: &mut Http1,
    asked: Http1Request<'_>,
    lease: Lease,
    upstream: &Upstream,
    flow: &mut Flow<'_>,
    engine: &Arc<Engine>,
) -> Result<Reuse, Broken> {
    let head = asked.head;
    let is_head = asked.bytes.get(head.method.clone()) == Some(b"HEAD");
    let stays = head.keep_alive && head.version == Version::Http11 && !engine.stop.is_asked();
    let connection = Mutex::new(client);
    let message = |source| {
        let mut request = heads::from_http1_request(&asked).map_err(Broken::before)?;
        if asked.upgrade.is_some() {
            heads::ask_for_websocket(&mut request);
        }
        Ok(Message {
            request,
            length: head.body,
            source,
            reply: Reply::Http1 {
                connection: &connection,
                version: head.version,
                stays,
                is_head,
                upgrade: asked.upgrade,
            },
        })
    };
    let source = match asked.upgrade {
        Some(_) => Source::Later,
        None => Source::Http1 {
            connection: &connection,
            framing: Framing::new(head.body),
            side: Side::Client,
        },
    };
    let first = message(source)?;
    let attempt = Attempt::new(&first, &lease);
    let mut passage = Passage {
        upstream,
        flow,
        engine,
    };
    let carried = match passage.carry(first, lease).await {
        Err(broken) if !asked.repeated && attempt.may_be_repeated(&broken) => {
            let again = message(match asked.upgrade {
                Some(_) => Source::Later,
                None => Source::Nothing,
            })?;
            let acquired = attempt.acquire_again(upstream, Offer::Http1, engine);
            let lease = acquired.await.map_err(Broken::before)?;
            passage.carry(again, lease).await?
        }
        carried => carried?,
    };
    let done = match carried {
        Carried::Whole(done) => done,
        Carried::Opened(mut opened) => {
            let client = End::Http1(connection.into_inner());
            opened
                .upstream
                .run(client, &opened.accepted, passage)
                .await?;
            return Ok(Reuse {
                client: false,
                upstream: false,
                until_close: false,
            });
        }
    };
    let until_close = done.response.until_close;
    Ok(Reuse {
        client: stays && !until_close && done.uploaded,
        upstream: false,
        until_close,
    })
}

/// Carries a request of an HTTP/2 client.
pub(crate) async fn from_http2(
    asked: Http2Request<'_>,
    respond: &mut SendResponse<Bytes>,
    lease: Lease,
    upstream: &Upstream,
    flow: &mut Flow<'_>,
    engine: &Arc<Engine>,
) -> Result<(), Broken> {
    let Http2Request {
        parts,
        body,
        target,
        scheme,
    } = asked;
    let websocket = heads::asks_for_websocket(&parts);
    let length = match websocket {
        true => BodyLength::None,
        false => heads::body_length(&parts.headers, body.is_ended()).map_err(Broken::before)?,
    };
    let request = heads::for_upstream(parts, target, scheme).map_err(Broken::before)?;
    let (source, incoming) = match body {
        RequestBody::Passing(body) if websocket => (Source::Later, Some(body)),
        RequestBody::Passing(body) => {
            let side = Side::Client;
            (Source::Http2 { body, side }, None)
        }
        RequestBody::Held { data, trailers } => (Source::Held { data, trailers }, None),
    };
    let first = Message {
        request,
        length,
        source,
        reply: Reply::Http2(&mut *respond),
    };
    let attempt = Attempt::new(&first, &lease);
    let copy = attempt.bodiless.then(|| first.request.clone());
    let mut passage = Passage {
        upstream,
        flow,
        engine,
    };
    let carried = match (passage.carry(first, lease).await, copy) {
        (Err(broken), Some(request)) if attempt.may_be_repeated(&broken) => {
            // A client that has lost interest does not keep a dial going.
            let reset = std::future::poll_fn(|cx| respond.poll_reset(cx));
            let lease = tokio::select! {
                biased;
                reset = reset => {
                    return Err(client_reset(reset.unwrap_or(Reason::CANCEL)).before_response());
                }
                lease = attempt.acquire_again(upstream, Offer::Any, engine) => {
                    lease.map_err(Broken::before)?
                }
            };
            let again = Message {
                request,
                length,
                source: match incoming {
                    Some(_) => Source::Later,
                    None => Source::Nothing,
                },
                reply: Reply::Http2(respond),
            };
            passage.carry(again, lease).await?
        }
        (carried, _) => carried?,
    };
    match (carried, incoming) {
        (Carried::Opened(mut opened), Some(mut incoming)) => {
            let Some(outgoing) = &mut opened.client else {
                return Ok(());
            };
            let client = End::Http2 {
                incoming: &mut incoming,
                outgoing,
            };
            opened.upstream.run(client, &opened.accepted, passage).await
        }
        (Carried::Whole(_) | Carried::Opened(_), _) => Ok(()),
    }
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
        let mut done = course::run(ends, self.flow, self.engine.timeouts.idle_body).await?;
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
        let broken = match course::run(ends, self.flow, self.engine.timeouts.idle_body).await {
            Ok(mut done) => {
                return Ok(match done.response.opening.take() {
                    Some(Opening {
                        accepted,
                        client,
                        incoming: Some(incoming),
                    }) => Carried::Opened(Opened {
                        accepted,
                        client,
                        upstream: Carrier::Http2 {
                            incoming,
                            outgoing: stream,
                            _guard,
                        },
                    }),
                    _ => Carried::Whole(done),
                });
            }
            Err(broken) => broken,
        };
        match (broken.failure.side, broken.reason) {
            // Not the stream alone: what broke, or died in silence, would swallow the next requests
            // too.
            (Side::Upstream, None) => shared.retire(),
            (Side::Client, Some(reason)) => stream.send_reset(reason),
            _ => {}
        }
        Err(broken)
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
