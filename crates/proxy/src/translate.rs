//! Carries one flow where the two sides do not speak the same version, and where both speak
//! HTTP/2: heads are turned over, bodies pass as payload, piece by piece, never collected.

mod body;
pub(crate) mod heads;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response};
use parking_lot::Mutex;
use traffic::{Failure, FailureKind, Head, Scheme, Side, Stage, Target, Version};

use crate::clock;
use crate::connection::Engine;
use crate::deadline::Deadline;
use crate::error;
use crate::http1::body::Framing;
use crate::http1::connection::{Http1, ReadError};
use crate::http1::head::{self, BodyLength, RequestHead};
pub(crate) use crate::http1::relay::Broken;
use crate::http1::relay::Reuse;
use crate::http2::client::{Http2Upstream, StreamGuard};
use crate::limits::{HALF_CLOSED, INFORMATIONAL_MAX, READ_BYTES};
use crate::max_forwards::MaxForwards;
use crate::tap::Flow;
use crate::upstream::{Http1Upstream, Lease, Offer, Upstream};
use body::{Coding, Fault, Outgoing, Sink, Source, carry};

/// A request that came in HTTP/1, its head consumed, its body still to come.
pub(crate) struct Http1Request<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) bytes: &'a Bytes,
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
    pub(crate) body: RecvStream,
    pub(crate) target: &'a Target,
    pub(crate) scheme: Scheme,
}

/// The client's end of the response.
enum Reply<'a, 'c> {
    Http1 {
        connection: &'a Mutex<&'c mut Http1>,
        version: Version,
        stays: bool,
        is_head: bool,
    },
    Http2(&'a mut SendResponse<Bytes>),
}

/// The upstream's end of the response.
enum Incoming<'a, 'c> {
    Http1 {
        connection: &'a Mutex<&'c mut Http1>,
        is_head: bool,
    },
    Http2(h2::client::ResponseFuture),
}

/// A response head that came.
enum Arrived<'a, 'c> {
    Informational(Response<()>, Head),
    Final(Box<Final<'a, 'c>>),
}

struct Final<'a, 'c> {
    response: Response<()>,
    text: Head,
    body: Source<'a, 'c>,
    until_close: bool,
    upstream_stays: bool,
}

/// What both directions of a flow share while it runs.
struct Course<'f, 'r> {
    flow: Mutex<&'f mut Flow<'r>>,
    /// Grows with every step of progress.
    moved: AtomicU64,
    /// The request has passed: what the client sends now is its next one.
    uploaded: &'f AtomicBool,
    /// More of the request is waited for, and the upstream would take it.
    awaits_client: AtomicBool,
    client_ended: AtomicBool,
    responded: AtomicBool,
    until_close: AtomicBool,
}

/// What is known after a response passed whole.
struct Done {
    until_close: bool,
    upstream_stays: bool,
}

/// Carries a request of an HTTP/1 client.
pub(crate) async fn from_http1(
    client: &mut Http1,
    message: Http1Request<'_>,
    lease: Lease,
    upstream: &Upstream,
    flow: &mut Flow<'_>,
    engine: &Arc<Engine>,
) -> Result<Reuse, Broken> {
    let head = message.head;
    let is_head = message.bytes.get(head.method.clone()) == Some(b"HEAD");
    let request = heads::from_http1_request(&message).map_err(Broken::before)?;
    let stays = head.keep_alive && head.version == Version::Http11 && !engine.stop.is_asked();
    let connection = Mutex::new(client);
    let source = Source::Http1 {
        connection: &connection,
        framing: Framing::new(head.body),
        side: Side::Client,
    };
    let reply = Reply::Http1 {
        connection: &connection,
        version: head.version,
        stays,
        is_head,
    };
    let sent = AtomicBool::new(false);
    let attempt = Attempt::new(&request, &source, &lease);
    let done = run(
        request, head.body, source, reply, lease, upstream, flow, engine, &sent,
    )
    .await;
    let done = match done {
        Err(broken) if !message.repeated && attempt.may_be_repeated(&broken) => {
            let request = heads::from_http1_request(&message).map_err(Broken::before)?;
            let acquired = attempt.acquire_again(upstream, Offer::Http1, engine);
            let lease = acquired.await.map_err(Broken::before)?;
            let reply = Reply::Http1 {
                connection: &connection,
                version: head.version,
                stays,
                is_head,
            };
            let none = Source::Nothing;
            run(
                request, head.body, none, reply, lease, upstream, flow, engine, &sent,
            )
            .await?
        }
        done => done?,
    };
    let upload_whole = sent.load(Ordering::Relaxed);
    Ok(Reuse {
        client: stays && !done.until_close && upload_whole,
        upstream: false,
        until_close: done.until_close,
    })
}

/// Carries a request of an HTTP/2 client.
pub(crate) async fn from_http2(
    message: Http2Request<'_>,
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
    } = message;
    let length =
        heads::body_length(&parts.headers, body.is_end_stream()).map_err(Broken::before)?;
    let request = heads::for_upstream(parts, target, scheme).map_err(Broken::before)?;
    let source = Source::Http2 {
        body,
        side: Side::Client,
    };
    let sent = AtomicBool::new(false);
    let attempt = Attempt::new(&request, &source, &lease);
    let copy = attempt.bodiless.then(|| request.clone());
    let reply = Reply::Http2(&mut *respond);
    let done = run(
        request, length, source, reply, lease, upstream, flow, engine, &sent,
    )
    .await;
    match (done, copy) {
        (Err(broken), Some(request)) if attempt.may_be_repeated(&broken) => {
            // A client that has lost interest does not keep a dial going.
            let reset = std::future::poll_fn(|cx| respond.poll_reset(cx));
            let lease = tokio::select! {
                biased;
                reset = reset => {
                    let fault = client_reset(reset.unwrap_or(Reason::CANCEL));
                    let reason = fault.reason;
                    return Err(Broken { reason, ..Broken::before(fault.failure) });
                }
                lease = attempt.acquire_again(upstream, Offer::Any, engine) => {
                    lease.map_err(Broken::before)?
                }
            };
            let (none, reply) = (Source::Nothing, Reply::Http2(respond));
            run(
                request, length, none, reply, lease, upstream, flow, engine, &sent,
            )
            .await?;
            Ok(())
        }
        (done, _) => done.map(|_done| ()),
    }
}

/// What decides whether a request that broke off is sent a second time.
struct Attempt {
    bodiless: bool,
    /// Sending it twice does no more than sending it once (RFC 9110 section 9.2.1).
    safe: bool,
    /// On an HTTP/1.1 connection that had served before.
    kept: bool,
}

impl Attempt {
    fn new(request: &Request<()>, source: &Source<'_, '_>, lease: &Lease) -> Self {
        let method = request.method();
        Self {
            bodiless: source.is_ended(),
            safe: matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS),
            kept: matches!(lease, Lease::Http1(held) if held.served),
        }
    }

    fn may_be_repeated(&self, broken: &Broken) -> bool {
        if !self.bodiless || broken.responded || broken.failure.side != Side::Upstream {
            return false;
        }
        // The upstream has not processed it, whatever its method (RFC 9113 section 8.7).
        if broken.reason == Some(Reason::REFUSED_STREAM) {
            return true;
        }
        let kind = broken.failure.kind;
        let closed = matches!(kind, FailureKind::Reset | FailureKind::ClosedEarly);
        self.kept && self.safe && closed
    }

    /// A connection for the second time: never another kept one of HTTP/1.1.
    async fn acquire_again(
        &self,
        upstream: &Upstream,
        offer: Offer,
        engine: &Engine,
    ) -> Result<Lease, Failure> {
        match self.kept {
            true => engine.upstreams.connect(upstream, offer).await,
            false => engine.upstreams.acquire(upstream, offer).await,
        }
    }
}

/// Sends the request on the lease and the response back.
#[expect(
    clippy::too_many_arguments,
    reason = "the two ends of both directions, each used once"
)]
async fn run<'s, 'c>(
    request: Request<()>,
    length: BodyLength,
    source: Source<'s, 'c>,
    reply: Reply<'s, 'c>,
    lease: Lease,
    upstream: &Upstream,
    flow: &mut Flow<'_>,
    engine: &Arc<Engine>,
    sent: &AtomicBool,
) -> Result<Done, Broken> {
    match ready_way(lease, upstream, flow, engine).await? {
        Way::Http1(mut held) => {
            flow.upstream(&held.facts, held.served);
            held.served = true;
            let coding = match length {
                BodyLength::Chunked | BodyLength::UntilClose => Coding::Chunked,
                BodyLength::None | BodyLength::Exactly(_) => Coding::AsItIs,
            };
            let is_head = request.method() == Method::HEAD;
            heads::write_request(&request, coding, &mut held.http1.output);
            let connection = Mutex::new(&mut held.http1);
            let sink = Sink::Http1 {
                connection: &connection,
                coding,
                side: Side::Upstream,
            };
            let incoming = Incoming::Http1 {
                connection: &connection,
                is_head,
            };
            let done = both(source, sink, incoming, reply, flow, engine, sent).await?;
            let whole = sent.load(Ordering::Relaxed);
            if done.upstream_stays && whole && held.http1.input.is_empty() {
                engine.upstreams.give_back(upstream, held);
            }
            Ok(done)
        }
        Way::Http2(ReadySender {
            shared,
            mut sender,
            _guard,
        }) => {
            let ended = source.is_ended();
            let (response, mut stream) = match sender.send_request(request, ended) {
                Ok(begun) => begun,
                Err(error) => {
                    if error.is_io() || error.is_go_away() {
                        shared.retire();
                    }
                    let fault = Fault::from_h2(Side::Upstream, Stage::Request, &error);
                    return Err(Broken {
                        reason: fault.reason,
                        ..Broken::before(fault.failure)
                    });
                }
            };
            let sink = Sink::Http2 {
                stream: Outgoing::Lent(&mut stream),
                side: Side::Upstream,
            };
            let incoming = Incoming::Http2(response);
            let done = both(source, sink, incoming, reply, flow, engine, sent).await;
            if let Err(broken) = &done
                && broken.failure.side == Side::Upstream
                && broken.failure.kind == FailureKind::TimedOut
            {
                // A connection that died in silence would swallow the next requests too.
                shared.retire();
            }
            if let Err(broken) = &done
                && broken.failure.side == Side::Client
                && let Some(reason) = broken.reason
            {
                stream.send_reset(reason);
            }
            done
        }
    }
}

/// A connection that takes a request now.
enum Way {
    Http1(Box<Http1Upstream>),
    Http2(ReadySender),
}

struct ReadySender {
    shared: Arc<Http2Upstream>,
    sender: h2::client::SendRequest<Bytes>,
    _guard: StreamGuard,
}

/// Waits until the connection takes a request. If it is going away, no byte of the request was
/// sent, and another connection is tried.
async fn ready_way(
    mut lease: Lease,
    upstream: &Upstream,
    flow: &mut Flow<'_>,
    engine: &Arc<Engine>,
) -> Result<Way, Broken> {
    for left in (0..2).rev() {
        let shared = match lease {
            Lease::Http1(held) => return Ok(Way::Http1(held)),
            Lease::Http2(shared) => shared,
        };
        let (sender, guard, reused) = shared.begin();
        match tokio::time::timeout(engine.timeouts.idle_body, sender.ready()).await {
            Ok(Ok(sender)) => {
                flow.upstream(&shared.facts, reused);
                return Ok(Way::Http2(ReadySender {
                    shared,
                    sender,
                    _guard: guard,
                }));
            }
            Ok(Err(_)) => shared.retire(),
            Err(_) => {
                let what = "had no free stream for too long";
                return Err(Broken::before(error::timed_out(
                    Side::Upstream,
                    Stage::Request,
                    what,
                )));
            }
        }
        if left == 0 {
            break;
        }
        lease = engine
            .upstreams
            .connect(upstream, Offer::Any)
            .await
            .map_err(Broken::before)?;
    }
    let text = "the upstream ended its HTTP/2 connections before a request could be sent";
    let failure = error::failure(
        Side::Upstream,
        Stage::Request,
        FailureKind::ClosedEarly,
        text,
    );
    Err(Broken::before(failure))
}

/// Both directions at once, until the response is whole.
async fn both(
    source: Source<'_, '_>,
    sink: Sink<'_, '_>,
    incoming: Incoming<'_, '_>,
    reply: Reply<'_, '_>,
    flow: &mut Flow<'_>,
    engine: &Engine,
    sent: &AtomicBool,
) -> Result<Done, Broken> {
    let course = Course {
        flow: Mutex::new(flow),
        moved: AtomicU64::new(0),
        uploaded: sent,
        awaits_client: AtomicBool::new(false),
        client_ended: AtomicBool::new(false),
        responded: AtomicBool::new(false),
        until_close: AtomicBool::new(false),
    };
    let mut upload = pin!(upload(source, sink, &course));
    let mut download = pin!(download(incoming, reply, &course));
    let mut deadline = Deadline::after(engine.timeouts.idle_body);
    let mut uploading = true;
    let mut refused: Option<Fault> = None;
    let mut moved = 0;
    let result = std::future::poll_fn(|cx| {
        if uploading {
            match upload.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => {
                    uploading = false;
                    sent.store(true, Ordering::Relaxed);
                }
                Poll::Ready(Err(fault)) if fault.failure.side == Side::Client => {
                    return Poll::Ready(Err(fault));
                }
                // The upstream takes no more; it may have answered before it stopped.
                Poll::Ready(Err(fault)) => {
                    uploading = false;
                    refused = Some(fault);
                }
                Poll::Pending => {}
            }
        }
        if let Poll::Ready(result) = download.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        let moved_now = course.moved.load(Ordering::Relaxed);
        if moved_now != moved {
            moved = moved_now;
            let ended = course.client_ended.load(Ordering::Relaxed);
            deadline.set(if ended {
                HALF_CLOSED.min(engine.timeouts.idle_body)
            } else {
                engine.timeouts.idle_body
            });
        }
        ready!(deadline.poll_passed(cx));
        Poll::Ready(Err(course.stalled(uploading).into()))
    })
    .await;
    result.map_err(|fault| {
        let responded = course.responded.load(Ordering::Relaxed);
        let fault = match refused {
            Some(refused) if !responded && fault.failure.side == Side::Upstream => refused,
            _ => fault,
        };
        Broken {
            failure: fault.failure,
            responded,
            until_close: course.until_close.load(Ordering::Relaxed),
            reason: fault.reason,
        }
    })
}

impl Course<'_, '_> {
    /// Who was waited for when nothing happened any more.
    fn stalled(&self, uploading: bool) -> Failure {
        if self.client_ended.load(Ordering::Relaxed) {
            return error::closed_early(Side::Client, Stage::Response, "and did not wait");
        }
        if !uploading {
            return error::timed_out(Side::Upstream, Stage::Response, "sent nothing for too long");
        }
        if !self.awaits_client.load(Ordering::Relaxed) {
            return error::timed_out(Side::Upstream, Stage::Request, "took nothing for too long");
        }
        error::timed_out(
            Side::Client,
            Stage::Request,
            "sent nothing of the body for too long",
        )
    }
}

async fn upload(
    source: Source<'_, '_>,
    sink: Sink<'_, '_>,
    course: &Course<'_, '_>,
) -> Result<(), Fault> {
    if source.is_ended() {
        sink.flush_head().await?;
        course.flow.lock().request_ended(None);
        return Ok(());
    }
    let seen = |data: &Bytes| {
        course.flow.lock().request_bytes(data);
        course.awaits_client.store(false, Ordering::Relaxed);
        course.moved.fetch_add(1, Ordering::Relaxed);
    };
    let waits = || course.awaits_client.store(true, Ordering::Relaxed);
    let trailers = carry(source, sink, seen, waits).await?;
    course.flow.lock().request_ended(trailers);
    Ok(())
}

async fn download(
    mut incoming: Incoming<'_, '_>,
    mut reply: Reply<'_, '_>,
    course: &Course<'_, '_>,
) -> Result<Done, Fault> {
    let mut interim = 0;
    let last = loop {
        let arrived = std::future::poll_fn(|cx| {
            if let Poll::Ready(arrived) = incoming.poll_head(cx) {
                return Poll::Ready(arrived);
            }
            course.flow.lock().hand_over();
            reply.poll_client(cx, course).map(Err)
        });
        course.moved.fetch_add(1, Ordering::Relaxed);
        match arrived.await? {
            Arrived::Informational(response, text) => {
                interim += 1;
                if response.status() == 101 || interim > INFORMATIONAL_MAX {
                    let text = "an interim response that was not asked for";
                    return Err(error::failure(
                        Side::Upstream,
                        Stage::Response,
                        FailureKind::Malformed,
                        text,
                    )
                    .into());
                }
                course.flow.lock().informational(|| text);
                reply.informational(response)?;
            }
            Arrived::Final(last) => break last,
        }
    };
    let Final {
        response,
        text,
        body,
        until_close,
        upstream_stays,
    } = *last;
    course.flow.lock().response_started(clock::now(), || text);
    course.responded.store(true, Ordering::Relaxed);
    let ended = body.is_ended();
    let length = heads::content_length(response.headers());
    let (sink, closes) = reply.start(response, ended)?;
    course.until_close.store(closes, Ordering::Relaxed);
    let passed = AtomicU64::new(0);
    let seen = |data: &Bytes| {
        course.flow.lock().response_bytes(data);
        course.moved.fetch_add(1, Ordering::Relaxed);
        passed.fetch_add(data.len() as u64, Ordering::Relaxed);
    };
    let trailers = if ended {
        sink.flush_head().await?;
        None
    } else {
        match carry(body, sink, seen, || course.flow.lock().hand_over()).await {
            Ok(trailers) => trailers,
            // A client that has every octet it was promised may close the stream before the end
            // of it is told in a frame of its own, as curl does.
            Err(fault)
                if fault.failure.side == Side::Client
                    && length == Some(passed.load(Ordering::Relaxed)) =>
            {
                None
            }
            Err(fault) => return Err(fault),
        }
    };
    course.flow.lock().response_ended(trailers);
    // A body that ends with the upstream's connection may have been given another end.
    Ok(Done {
        until_close: closes,
        upstream_stays: upstream_stays && !until_close,
    })
}

impl<'a, 'c> Incoming<'a, 'c> {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrived<'a, 'c>, Fault>> {
        match self {
            Self::Http1 {
                connection,
                is_head,
            } => poll_http1_head(connection, *is_head, cx),
            Self::Http2(response) => {
                let from_h2 =
                    |error: &h2::Error| Fault::from_h2(Side::Upstream, Stage::Response, error);
                if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
                    let interim = interim.map_err(|error| from_h2(&error))?;
                    let text = heads::response_text(interim.status(), interim.headers());
                    return Poll::Ready(Ok(Arrived::Informational(interim, text)));
                }
                let arrived = ready!(pin!(response).poll(cx)).map_err(|error| from_h2(&error))?;
                let (parts, body) = arrived.into_parts();
                let text = heads::response_text(parts.status, &parts.headers);
                Poll::Ready(Ok(Arrived::Final(Box::new(Final {
                    response: Response::from_parts(parts, ()),
                    text,
                    body: Source::Http2 {
                        body,
                        side: Side::Upstream,
                    },
                    until_close: false,
                    upstream_stays: true,
                }))))
            }
        }
    }
}

fn poll_http1_head<'a, 'c>(
    connection: &'a Mutex<&'c mut Http1>,
    is_head: bool,
    cx: &mut Context<'_>,
) -> Poll<Result<Arrived<'a, 'c>, Fault>> {
    let mut held = connection.lock();
    let bad = |error| error::bad_head(Side::Upstream, Stage::Response, error);
    let length = loop {
        match held.find_head() {
            Ok(Some(length)) => break length,
            Ok(None) => {}
            Err(ReadError::Head(error)) => return Poll::Ready(Err(bad(error).into())),
            Err(ReadError::Closed | ReadError::TimedOut(_) | ReadError::Broken) => {}
        }
        match ready!(held.poll_fill(cx)) {
            Ok(0) => {
                let failure =
                    error::closed_early(Side::Upstream, Stage::Response, "before it answered");
                return Poll::Ready(Err(failure.into()));
            }
            Ok(_) => {}
            Err(error) => {
                let failure = error::broken(Side::Upstream, Stage::Response, &error);
                return Poll::Ready(Err(failure.into()));
            }
        }
    };
    let bytes = Bytes::copy_from_slice(held.input.get(..length).unwrap_or_default());
    held.consume(length);
    let method: &[u8] = if is_head { b"HEAD" } else { b"GET" };
    let head = head::parse_response(&bytes, method, Vec::new()).map_err(bad)?;
    let response = heads::from_http1_response(&head, &bytes)?;
    let text = Head {
        version: head.version,
        text: bytes,
    };
    if head.status < 200 {
        return Poll::Ready(Ok(Arrived::Informational(response, text)));
    }
    Poll::Ready(Ok(Arrived::Final(Box::new(Final {
        response,
        text,
        body: Source::Http1 {
            connection,
            framing: Framing::new(head.body),
            side: Side::Upstream,
        },
        until_close: head.body == BodyLength::UntilClose,
        upstream_stays: head.keep_alive,
    }))))
}

impl<'a, 'c> Reply<'a, 'c> {
    fn informational(&mut self, response: Response<()>) -> Result<(), Fault> {
        match self {
            // HTTP/1.0 has no interim responses (RFC 9110 section 15.2).
            Self::Http1 {
                version: Version::Http10,
                ..
            } => Ok(()),
            Self::Http1 { connection, .. } => {
                let mut held = connection.lock();
                heads::write_response(&response, Coding::AsItIs, false, &mut held.output);
                Ok(())
            }
            Self::Http2(respond) => respond
                .send_informational(response)
                .map_err(|error| Fault::from_h2(Side::Client, Stage::Response, &error)),
        }
    }

    /// Sends the final head; says with what the body is to be written, and whether the end of
    /// the connection will be the end of the body.
    fn start(self, mut response: Response<()>, ended: bool) -> Result<(Sink<'a, 'c>, bool), Fault> {
        match self {
            Self::Http1 {
                connection,
                version,
                stays,
                is_head,
            } => {
                let sized = response.headers().contains_key(CONTENT_LENGTH);
                let bodiless = is_head || matches!(response.status().as_u16(), 204 | 304);
                if response.status() == 204 {
                    response.headers_mut().remove(CONTENT_LENGTH);
                }
                let (coding, closes) = match (ended || sized, version) {
                    _ if bodiless => (Coding::Nothing, false),
                    (true, _) => (Coding::AsItIs, false),
                    (false, Version::Http10) => (Coding::AsItIs, true),
                    (false, Version::Http11 | Version::Http2) => (Coding::Chunked, false),
                };
                if ended && !sized && !bodiless {
                    // HTTP/2 ends a stream with its head; here the end of the connection would
                    // be waited for (RFC 9112 section 6.3).
                    let none = HeaderValue::from_static("0");
                    response.headers_mut().insert(CONTENT_LENGTH, none);
                }
                let close = closes || !stays;
                if closes {
                    connection.lock().reset_on_drop(true);
                }
                heads::write_response(&response, coding, close, &mut connection.lock().output);
                Ok((
                    Sink::Http1 {
                        connection,
                        coding,
                        side: Side::Client,
                    },
                    closes,
                ))
            }
            Self::Http2(respond) => {
                let stream = respond
                    .send_response(response, ended)
                    .map_err(|error| Fault::from_h2(Side::Client, Stage::Response, &error))?;
                Ok((
                    Sink::Http2 {
                        stream: Outgoing::Own(stream),
                        side: Side::Client,
                    },
                    false,
                ))
            }
        }
    }

    /// Ready once the client is gone, while its response is awaited.
    fn poll_client(&mut self, cx: &mut Context<'_>, course: &Course<'_, '_>) -> Poll<Fault> {
        match self {
            Self::Http1 { connection, .. } => {
                let mut held = connection.lock();
                if let Poll::Ready(Err(error)) = held.poll_drain(cx) {
                    return Poll::Ready(
                        error::broken(Side::Client, Stage::Response, &error).into(),
                    );
                }
                // Before the request has passed, the upload reads the connection.
                if !course.uploaded.load(Ordering::Relaxed)
                    || held.read_ended
                    || held.input.len() >= READ_BYTES
                {
                    return Poll::Pending;
                }
                match ready!(held.poll_fill(cx)) {
                    Ok(0) => {
                        // It may still read: it gets a moment, see `HALF_CLOSED`.
                        course.client_ended.store(true, Ordering::Relaxed);
                        course.moved.fetch_add(1, Ordering::Relaxed);
                        Poll::Pending
                    }
                    Ok(_) => Poll::Pending,
                    Err(error) => {
                        Poll::Ready(error::broken(Side::Client, Stage::Response, &error).into())
                    }
                }
            }
            Self::Http2(respond) => match ready!(respond.poll_reset(cx)) {
                Ok(reason) => Poll::Ready(client_reset(reason)),
                Err(error) => Poll::Ready(Fault::from_h2(Side::Client, Stage::Response, &error)),
            },
        }
    }
}

pub(crate) fn client_reset(reason: Reason) -> Fault {
    let text = format!("the client reset the stream: {reason}");
    let failure = error::failure(Side::Client, Stage::Response, FailureKind::Reset, text);
    Fault {
        failure,
        reason: Some(reason),
    }
}

impl Broken {
    /// Broken off before anything was answered.
    fn before(failure: Failure) -> Self {
        Self {
            failure,
            responded: false,
            until_close: false,
            reason: None,
        }
    }
}
