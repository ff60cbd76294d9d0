//! Serves one client connection that speaks HTTP/2. Its streams run as futures in this one task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use traffic::{
    ConnectionFacts, Failure, FailureKind, FlowKind, Front, Scheme, Side, Stage, Target,
};

use crate::admission::Login;
use crate::connect::{self, Asked, ConnectAnswer, ConnectAsked};
use crate::connection::Engine;
use crate::deadline::Deadline;
use crate::destination::{Destination, Scope};
use crate::error;
use crate::gateway::{self, Told};
use crate::handler::LocalResponse;
use crate::hops::Hops;
use crate::http2::patience::Patience;
use crate::http2::tunnel::Http2Tunnel;
use crate::http2::verdict::{self, Passed, Verdict};
use crate::limits::{
    HEAD_BYTES_MAX, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_RESETS_MAX, HTTP2_SEND_BUFFER_BYTES,
    HTTP2_STREAM_WINDOW_BYTES, HTTP2_STREAMS_MAX, HTTP2_STREAMS_UNDER_WAY_MAX,
};
use crate::max_forwards::{self, MaxForwards};
use crate::metrics::Protocol;
use crate::refuse::Refusal;
use crate::stream::{Replay, Transport, Wire};
use crate::tap::{Flow, Reporter};
use crate::translate::{self, Broken, Http2Request, RequestBody, heads};
use crate::upstream::Offer;

/// A CONNECT on a stream, to be answered.
pub(crate) struct ConnectStream {
    body: RecvStream,
    respond: SendResponse<Bytes>,
}

/// Serves the connection to its end. `facts` are there where the proxy itself was addressed.
///
/// It is boxed: what comes through a tunnel on one of its streams may be HTTP/2 again, and the box
/// ends the recursion of types.
pub(crate) fn serve<'a>(
    transport: Transport,
    scope: Scope,
    facts: Option<ConnectionFacts>,
    engine: &'a Arc<Engine>,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    Box::pin(async move {
        let mut settings = settings();
        if matches!(scope, Scope::Inside(_)) {
            // A WebSocket on a stream (RFC 8441 section 3).
            settings.enable_connect_protocol();
        }
        let handshake = settings.handshake(transport);
        match tokio::time::timeout(engine.timeouts.head, handshake).await {
            Ok(Ok(connection)) => drive(connection, &scope, facts.as_ref(), engine).await,
            Ok(Err(error)) => tracing::debug!(%error, "no HTTP/2 with a client"),
            Err(_) => tracing::debug!("a client did not finish the HTTP/2 preface in time"),
        }
    })
}

/// What a client is told of how we speak HTTP/2.
fn settings() -> h2::server::Builder {
    let mut settings = h2::server::Builder::new();
    settings
        .initial_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .max_send_buffer_size(HTTP2_SEND_BUFFER_BYTES)
        .max_concurrent_reset_streams(HTTP2_RESETS_MAX)
        .max_pending_accept_reset_streams(HTTP2_RESETS_MAX);
    settings
}

/// Answers what a client asks for with this refusal until it goes, for at most `limit`.
pub(crate) async fn turn_away(transport: Transport, refusal: &Refusal, limit: std::time::Duration) {
    let refusing = async {
        let mut connection = settings().handshake(transport).await?;
        while let Some(asked) = connection.accept().await {
            let (request, mut respond) = asked?;
            refuse(&mut respond, refusal, request.method() != Method::HEAD);
            connection.graceful_shutdown();
        }
        Ok::<(), h2::Error>(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(limit, refusing).await {
        tracing::debug!(%error, "a client that was turned away broke off");
    }
}

/// Drives the connection and its streams until both are done.
async fn drive(
    mut connection: Connection<Transport, Bytes>,
    scope: &Scope,
    facts: Option<&ConnectionFacts>,
    engine: &Arc<Engine>,
) {
    let mut streams = FuturesUnordered::new();
    let mut deadline = Deadline::after(engine.timeouts.idle_client);
    let mut stop = std::pin::pin!(engine.stop.asked());
    let mut leaving = false;
    let mut patience = Patience::new();
    std::future::poll_fn(|cx| {
        loop {
            if !leaving && stop.as_mut().poll(cx).is_ready() {
                leaving = true;
                connection.graceful_shutdown();
            }
            let mut moved = false;
            while streams.len() < HTTP2_STREAMS_UNDER_WAY_MAX {
                match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        moved = true;
                        streams.push(stream(request, respond, scope, facts, engine));
                    }
                    Poll::Ready(Some(Err(_)) | None) => {
                        let_streams_end(&mut streams, cx);
                        return Poll::Ready(());
                    }
                    Poll::Pending => break,
                }
            }
            if streams.len() >= HTTP2_STREAMS_UNDER_WAY_MAX && connection.poll_closed(cx).is_ready()
            {
                let_streams_end(&mut streams, cx);
                return Poll::Ready(());
            }
            while let Poll::Ready(Some(end)) = streams.poll_next_unpin(cx) {
                moved = true;
                if end == StreamEnd::Abandoned && !patience.allows_reset() {
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    return Poll::Ready(());
                }
            }
            if !streams.is_empty() || moved {
                deadline.set(engine.timeouts.idle_client);
            }
            if !moved {
                return poll_idle(cx, &mut deadline, !leaving && streams.is_empty()).map(|()| {
                    connection.graceful_shutdown();
                });
            }
        }
    })
    .await;
    // Says goodbye where it can still be said.
    let closed = std::future::poll_fn(|cx| connection.poll_closed(cx));
    let _said = tokio::time::timeout(crate::limits::LINGER, closed).await;
}

/// Has the streams learn that their connection is gone: some had given their client all it asked
/// for. Those that are left then are cut with the connection.
fn let_streams_end(
    streams: &mut FuturesUnordered<impl Future<Output = StreamEnd>>,
    cx: &mut Context<'_>,
) {
    while let Poll::Ready(Some(_ended)) = streams.poll_next_unpin(cx) {}
}

/// Ready once a connection without streams was idle for too long.
fn poll_idle(cx: &mut Context<'_>, deadline: &mut Deadline, counts: bool) -> Poll<()> {
    if !counts {
        return Poll::Pending;
    }
    deadline.poll_passed(cx)
}

/// How a stream ended, as far as the connection has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamEnd {
    Served,
    /// The client reset it before it was answered.
    Abandoned,
}

/// Serves one stream.
async fn stream(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    scope: &Scope,
    facts: Option<&ConnectionFacts>,
    engine: &Arc<Engine>,
) -> StreamEnd {
    let mut reporter = engine.tap.reporter(Protocol::Http2);
    let (parts, body) = request.into_parts();
    let mut login = match scope {
        Scope::Front(_) => None,
        Scope::Inside(inside) => inside.login.clone(),
    };
    if let Scope::Front(front) = scope {
        let said = parts.headers.get(http::header::PROXY_AUTHORIZATION);
        match front.admit(|| said.map(HeaderValue::as_bytes)).await {
            Ok(admitted) => login = admitted,
            Err(refusal) => {
                let with_body = parts.method != Method::HEAD;
                refuse(&mut respond, &refusal, with_body);
                return StreamEnd::Served;
            }
        }
    }
    let websocket = heads::asks_for_websocket(&parts);
    if parts.method == Method::CONNECT && !websocket {
        let tunnel = Tunnel {
            parts,
            body,
            respond,
            login,
        };
        connect(tunnel, scope, facts, engine, reporter).await;
        return StreamEnd::Served;
    }
    let is_head = parts.method == Method::HEAD;
    let mut to = match destination(&parts, scope, login.as_deref(), engine) {
        Ok(to) => to,
        Err(failure) => {
            refuse(&mut respond, &Refusal::new(&failure, None), !is_head);
            return StreamEnd::Served;
        }
    };
    if let Some(site) = to.local_site(scope, engine) {
        let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let page = site.answer(parts.method.as_str().as_bytes(), path);
        send_local(&mut respond, &page, is_head);
        return StreamEnd::Served;
    }
    let mut opening = to.opening();
    if websocket {
        opening.kind = FlowKind::WebSocket;
    }
    let head = || heads::request_text(&parts);
    let mut flow = reporter.start(&opening, head);
    if let Some(failure) = to.refused(scope, engine) {
        answer(&mut respond, flow, failure, &to, is_head);
        return StreamEnd::Served;
    }
    if let Some(MaxForwards::Answer(what)) = heads::max_forwards(&parts) {
        answer_for_upstream(&mut respond, flow, &head().text, what);
        return StreamEnd::Served;
    }
    let mut passed = Passed {
        parts,
        body: RequestBody::Passing(body),
        hold: None,
    };
    if let Scope::Inside(inside) = scope
        && inside.reverse
    {
        heads::forget_authority(&mut passed.parts);
    }
    if let Some(subject) = scope.subject() {
        let (subject, lane) = subject.stream(flow.id());
        flow.attach(lane);
        if subject.gate.interests.requests {
            flow.hand_over();
            let subject = subject.identified().await;
            match verdict::ask(passed, &mut to, &subject, engine).await {
                Verdict::Pass(on) => passed = *on,
                Verdict::Respond(response, failure) => {
                    answer_locally(&mut respond, flow, *response, failure, is_head);
                    return StreamEnd::Served;
                }
                Verdict::Refuse(failure) => {
                    answer(&mut respond, flow, failure, &to, is_head);
                    return StreamEnd::Served;
                }
                Verdict::Abandoned(failure) => {
                    flow.fail(failure, None);
                    return StreamEnd::Abandoned;
                }
            }
        }
    }
    let websocket = heads::asks_for_websocket(&passed.parts);
    match reroute(
        &mut passed.parts,
        &mut to,
        websocket,
        login.as_deref(),
        engine,
    ) {
        Ok(Some(told)) => flow.rerouted(told),
        Ok(None) => {}
        Err(failure) => {
            answer(&mut respond, flow, failure, &to, is_head);
            return StreamEnd::Served;
        }
    }
    if !websocket {
        // The handler may have made another request of it.
        passed.parts.extensions.remove::<h2::ext::Protocol>();
    }
    let message = Http2Request {
        parts: passed.parts,
        body: passed.body,
        target: &to.target,
        scheme: to.scheme,
    };
    flow.turn_to_upstream();
    let upstream = match websocket {
        true => engine.upstreams.for_websocket(&to.upstream),
        false => Arc::clone(&to.upstream),
    };
    let lease = match engine.upstreams.ready(&upstream, Offer::Any) {
        Some(lease) if !websocket => Ok(lease),
        _ => {
            flow.hand_over();
            let lease = async {
                match websocket {
                    true => translate::lease_for_websocket(&upstream, engine).await,
                    false => engine.upstreams.connect(&upstream, Offer::Any).await,
                }
            };
            // A client that has lost interest does not keep a dial going.
            let reset = std::future::poll_fn(|cx| respond.poll_reset(cx));
            tokio::select! {
                biased;
                reset = reset => {
                    let reason = reset.unwrap_or(Reason::CANCEL);
                    flow.fail(translate::client_reset(reason).failure, None);
                    return StreamEnd::Abandoned;
                }
                lease = lease => lease,
            }
        }
    };
    let result = match lease {
        Ok(lease) => {
            translate::from_http2(message, &mut respond, lease, &upstream, &mut flow, engine).await
        }
        Err(failure) => {
            answer(&mut respond, flow, failure, &to, is_head);
            return StreamEnd::Served;
        }
    };
    let broken = match result {
        Ok(()) => {
            flow.complete();
            return StreamEnd::Served;
        }
        Err(broken) => broken,
    };
    let abandoned =
        broken.failure.side == Side::Client && broken.reason.is_some() && !broken.responded;
    broken_off(&mut respond, flow, broken, &to, is_head);
    match abandoned {
        true => StreamEnd::Abandoned,
        false => StreamEnd::Served,
    }
}

/// Turns a request to a gateway, where a route says so.
fn reroute(
    parts: &mut Parts,
    to: &mut Arc<Destination>,
    websocket: bool,
    login: Option<&Login>,
    engine: &Engine,
) -> Result<Option<Told>, Failure> {
    // What HTTP/1.1 asks for with GET (RFC 8441 section 5).
    let method = if websocket {
        &Method::GET
    } else {
        &parts.method
    };
    let path = parts.uri.path_and_query().map_or("*", PathAndQuery::as_str);
    let Some(rerouted) = gateway::reroute(to, method.as_str(), path, login, engine)? else {
        return Ok(None);
    };
    heads::forget_authority(parts);
    rerouted.edit.http2_head(parts)?;
    *to = rerouted.to;
    Ok(Some(rerouted.told))
}

/// A request for a tunnel.
struct Tunnel {
    parts: Parts,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    /// By what the client was admitted, where it had to say who it is.
    login: Option<Arc<Login>>,
}

/// Answers a CONNECT; inside an opened connection, and without a target, with no.
async fn connect(
    tunnel: Tunnel,
    scope: &Scope,
    facts: Option<&ConnectionFacts>,
    engine: &Arc<Engine>,
    reporter: Reporter,
) {
    let Tunnel {
        parts,
        body,
        mut respond,
        login,
    } = tunnel;
    let connect = match (facts, connect_target(&parts)) {
        (Some(facts), Ok(target)) => {
            let head = heads::request_text(&parts);
            let answer = ConnectAnswer::Http2(ConnectStream { body, respond });
            ConnectAsked {
                target,
                hops: Hops::of_connect(&head.text),
                head,
                facts: facts.clone(),
                subject: scope.subject().cloned(),
                process: scope.process().cloned(),
                login,
                answer,
            }
        }
        (None, _) => {
            let text = "CONNECT inside an intercepted connection is not supported";
            let failure = error::failure(Side::Oriel, Stage::Front, FailureKind::Unsupported, text);
            return refuse(&mut respond, &Refusal::new(&failure, None), true);
        }
        (Some(_), Err(failure)) => {
            return refuse(&mut respond, &Refusal::new(&failure, None), true);
        }
    };
    let asked = Asked {
        connect,
        reporter,
        place: None,
    };
    connect::connect(Box::new(asked), engine).await;
}

fn connect_target(parts: &Parts) -> Result<Target, Failure> {
    let authority = parts
        .uri
        .authority()
        .map_or("", |authority| authority.as_str());
    Target::parse_with_port(authority)
        .map_err(|error| malformed(format!("CONNECT to {authority:?}: {error}")))
}

/// Finds where the request goes and what decided it.
fn destination(
    parts: &Parts,
    scope: &Scope,
    login: Option<&Login>,
    engine: &Engine,
) -> Result<Arc<Destination>, Failure> {
    let front = match scope {
        Scope::Inside(inside) => return Ok(Arc::clone(&inside.to)),
        Scope::Front(front) => front,
    };
    let scheme = match parts.uri.scheme_str() {
        Some("https") => Scheme::Https,
        _ => Scheme::Http,
    };
    let host = parts.headers.get(http::header::HOST);
    let authority = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => host.and_then(|host| host.to_str().ok()).unwrap_or_default(),
    };
    let target = Target::parse(authority, scheme.default_port())
        .map_err(|error| malformed(format!("the authority {authority:?}: {error}")))?;
    let connection = front.of(Front::AbsoluteForm, login);
    Ok(Destination::named(target, scheme, &connection, engine))
}

fn answer(
    respond: &mut SendResponse<Bytes>,
    flow: Flow<'_>,
    failure: Failure,
    to: &Destination,
    is_head: bool,
) {
    let refusal = Refusal::new(&failure, Some(&to.target));
    refuse(respond, &refusal, !is_head);
    flow.fail(failure, Some(refusal.status));
}

/// Answers a request as the handler wants it.
fn answer_locally(
    respond: &mut SendResponse<Bytes>,
    mut flow: Flow<'_>,
    response: LocalResponse,
    failure: Option<Box<Failure>>,
    is_head: bool,
) {
    let head = response.http2_head();
    let text = heads::response_text(head.status(), head.headers());
    flow.response_started(|| text);
    let body = response.payload(is_head);
    flow.response_bytes(&body);
    flow.response_ended(None);
    match failure {
        Some(failure) => flow.fail(*failure, Some(response.status)),
        None => flow.complete(),
    }
    send_local(respond, &response, is_head);
}

/// Sends an answer that was made here.
fn send_local(respond: &mut SendResponse<Bytes>, response: &LocalResponse, is_head: bool) {
    let body = response.payload(is_head);
    // The client may be gone; then nobody is to be told.
    if let Ok(mut stream) = respond.send_response(response.http2_head(), body.is_empty())
        && !body.is_empty()
    {
        let _sent = stream.send_data(body, true);
    }
}

/// Answers a request that may go no further (RFC 9110 section 7.6.2).
fn answer_for_upstream(
    respond: &mut SendResponse<Bytes>,
    mut flow: Flow<'_>,
    head: &[u8],
    what: max_forwards::Asked,
) {
    let answer = max_forwards::Answer::new(what, head);
    let mut response = Response::builder();
    for (name, value) in answer.fields() {
        response = response.header(name, value);
    }
    let Ok(response) = response.body(()) else {
        return;
    };
    let text = heads::response_text(response.status(), response.headers());
    flow.response_started(|| text);
    flow.response_bytes(&answer.body);
    flow.response_ended(None);
    flow.complete();
    // The client may be gone; then nobody is to be told.
    if let Ok(mut body) = respond.send_response(response, answer.body.is_empty())
        && !answer.body.is_empty()
    {
        let _sent = body.send_data(answer.body, true);
    }
}

/// Ends a flow that broke off: with a reply of ours if the client has seen nothing yet, otherwise
/// by resetting its stream.
fn broken_off(
    respond: &mut SendResponse<Bytes>,
    flow: Flow<'_>,
    broken: Broken,
    to: &Destination,
    is_head: bool,
) {
    let client_left = broken.failure.side == Side::Client
        && !matches!(
            broken.failure.kind,
            FailureKind::Malformed | FailureKind::TimedOut
        );
    if client_left || broken.responded {
        respond.send_reset(broken.reason.unwrap_or(Reason::INTERNAL_ERROR));
        return flow.fail(broken.failure, None);
    }
    if let Some(reason) = broken.reason {
        // The upstream reset the stream before it answered: the client is told the same.
        respond.send_reset(reason);
        return flow.fail(broken.failure, None);
    }
    answer(respond, flow, broken.failure, to, is_head);
}

/// Sends a reply of our own; an answer to HEAD has no body.
fn refuse(respond: &mut SendResponse<Bytes>, refusal: &Refusal, with_body: bool) {
    let mut response = Response::builder()
        .status(StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_GATEWAY));
    for (name, value) in refusal.fields() {
        response = response.header(name, value);
    }
    // The client may be gone; then nobody is to be told.
    let Ok(response) = response.body(()) else {
        return;
    };
    if let Ok(mut body) = respond.send_response(response, !with_body)
        && with_body
    {
        let _sent = body.send_data(Bytes::from(refusal.body.clone()), true);
    }
}

fn malformed(text: impl Into<String>) -> Failure {
    error::failure(Side::Client, Stage::Front, FailureKind::Malformed, text)
}

impl ConnectStream {
    /// Says yes and hands over the bytes that follow.
    pub(crate) fn accept(mut self) -> Result<Replay, std::io::Error> {
        let outgoing = self
            .respond
            .send_response(Response::new(()), false)
            .map_err(std::io::Error::other)?;
        Ok(Replay::new(Wire::Http2(Http2Tunnel::new(
            self.body, outgoing,
        ))))
    }

    /// Says no.
    pub(crate) fn refuse(mut self, refusal: &Refusal) {
        refuse(&mut self.respond, refusal, true);
    }
}
