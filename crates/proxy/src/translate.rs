//! Carries one flow where the two sides do not speak the same version, and where both speak
//! HTTP/2: heads are turned over, bodies pass as payload, piece by piece, never collected.
//!
//! A request is attempted once, in some cases twice (`attempt`), on a connection that takes it
//! (`ready`). Then both directions run at once (`course`): the request's body goes up (`upload`),
//! the response comes head by head (`incoming`), and its last head and body go down (`download`)
//! to the client (`reply`). What is written in which form is known to `heads` and `body`.

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
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request};
use parking_lot::Mutex;
use traffic::{FailureKind, Scheme, Side, Stage, Target, Version};

use crate::connection::Engine;
use crate::http1::body::Framing;
use crate::http1::connection::Http1;
use crate::http1::head::{BodyLength, RequestHead};
use crate::http1::relay::Reuse;
use crate::max_forwards::MaxForwards;
use crate::tap::Flow;
use crate::upstream::{Http1Upstream, Lease, Offer, Upstream};
use attempt::Attempt;
use body::{Coding, Outgoing, Sink, Source};
use course::{Done, Ends};
pub(crate) use fault::{Broken, Fault, client_reset};
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
    request: Request<()>,
    length: BodyLength,
    source: Source<'a, 'c>,
    reply: Reply<'a, 'c>,
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
        Ok(Message {
            request: heads::from_http1_request(&asked).map_err(Broken::before)?,
            length: head.body,
            source,
            reply: Reply::Http1 {
                connection: &connection,
                version: head.version,
                stays,
                is_head,
            },
        })
    };
    let first = message(Source::Http1 {
        connection: &connection,
        framing: Framing::new(head.body),
        side: Side::Client,
    })?;
    let attempt = Attempt::new(&first, &lease);
    let mut passage = Passage {
        upstream,
        flow,
        engine,
    };
    let done = match passage.carry(first, lease).await {
        Err(broken) if !asked.repeated && attempt.may_be_repeated(&broken) => {
            let again = message(Source::Nothing)?;
            let acquired = attempt.acquire_again(upstream, Offer::Http1, engine);
            let lease = acquired.await.map_err(Broken::before)?;
            passage.carry(again, lease).await?
        }
        done => done?,
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
    let length = heads::body_length(&parts.headers, body.is_ended()).map_err(Broken::before)?;
    let request = heads::for_upstream(parts, target, scheme).map_err(Broken::before)?;
    let first = Message {
        request,
        length,
        source: match body {
            RequestBody::Passing(body) => Source::Http2 {
                body,
                side: Side::Client,
            },
            RequestBody::Held { data, trailers } => Source::Held { data, trailers },
        },
        reply: Reply::Http2(&mut *respond),
    };
    let attempt = Attempt::new(&first, &lease);
    let copy = attempt.bodiless.then(|| first.request.clone());
    let mut passage = Passage {
        upstream,
        flow,
        engine,
    };
    match (passage.carry(first, lease).await, copy) {
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
                source: Source::Nothing,
                reply: Reply::Http2(respond),
            };
            passage.carry(again, lease).await.map(|_done| ())
        }
        (done, _) => done.map(|_done| ()),
    }
}

impl Passage<'_, '_> {
    /// Sends the message on the lease and the response back.
    async fn carry(&mut self, message: Message<'_, '_>, lease: Lease) -> Result<Done, Broken> {
        match ready_way(lease, self.upstream, self.flow, self.engine).await? {
            Way::Http1(held) => self.over_http1(message, held).await,
            Way::Http2(ready) => self.over_http2(message, ready).await,
        }
    }

    async fn over_http1(
        &mut self,
        message: Message<'_, '_>,
        mut held: Box<Http1Upstream>,
    ) -> Result<Done, Broken> {
        self.flow.upstream(&held.facts, held.served);
        held.served = true;
        let coding = match message.length {
            BodyLength::Chunked | BodyLength::UntilClose => Coding::Chunked,
            BodyLength::None | BodyLength::Exactly(_) => Coding::AsItIs,
        };
        heads::write_request(&message.request, coding, &mut held.http1.output);
        let connection = Mutex::new(&mut held.http1);
        let ends = Ends {
            source: message.source,
            sink: Sink::Http1 {
                connection: &connection,
                coding,
                side: Side::Upstream,
            },
            incoming: Incoming::Http1 {
                connection: &connection,
                is_head: message.request.method() == Method::HEAD,
            },
            reply: message.reply,
            hides_http3: self.upstream.hides_http3,
        };
        let done = course::run(ends, self.flow, self.engine.timeouts.idle_body).await?;
        if done.response.upstream_stays && done.uploaded && held.http1.input.is_empty() {
            self.engine.upstreams.give_back(self.upstream, held);
        }
        Ok(done)
    }

    async fn over_http2(
        &mut self,
        message: Message<'_, '_>,
        ready: ReadySender,
    ) -> Result<Done, Broken> {
        let ReadySender {
            shared,
            mut sender,
            _guard,
        } = ready;
        let ended = message.source.is_ended();
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
        let ends = Ends {
            source: message.source,
            sink: Sink::Http2 {
                stream: Outgoing::Lent(&mut stream),
                side: Side::Upstream,
            },
            incoming: Incoming::Http2(response),
            reply: message.reply,
            hides_http3: self.upstream.hides_http3,
        };
        let done = course::run(ends, self.flow, self.engine.timeouts.idle_body).await;
        let Err(broken) = &done else {
            return done;
        };
        match (broken.failure.side, broken.reason) {
            // A connection that died in silence would swallow the next requests too.
            (Side::Upstream, _) if broken.failure.kind == FailureKind::TimedOut => shared.retire(),
            (Side::Client, Some(reason)) => stream.send_reset(reason),
            _ => {}
        }
        done
    }
}
