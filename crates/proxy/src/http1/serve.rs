//! Serves one client connection that speaks HTTP/1.1: reads its requests one after the other,
//! finds whom each wants, and has it carried there.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use traffic::wire::websocket::handshake::{self, Upgrade};
use traffic::{Failure, FailureKind, FlowKind, Head, Scheme, Side, Stage, Target, Version};

use crate::admission::Login;
use crate::connection::{Engine, Inside};
use crate::destination::{Destination, FrontFacts, Scope};
use crate::error;
use crate::gateway::{self, Told};
use crate::handler::{Hold, LocalResponse};
use crate::http1::connection::{Http1, ReadError};
use crate::http1::head::{self, BodyLength, Line, Replaced, RequestHead};
use crate::http1::hold::Held;
use crate::http1::relay::{Broken, Relay, Relayed, Reuse};
use crate::http1::verdict::{self, Verdict};
use crate::limits::LINGER;
use crate::max_forwards::{self, MaxForwards};
use crate::refuse::Refusal;
use crate::tap::{Flow, Reporter};
use crate::translate;
use crate::upstream::{Forwarded, Lease, Offer};
use crate::websocket::{self, End, Ends};

/// What a served connection ended with.
pub(crate) enum Served {
    /// It is closed.
    Closed,
    /// The client asked for a tunnel to a target; its head was consumed.
    Connect {
        client: Box<Http1>,
        target: Target,
        head: Head,
        /// By what the client was admitted, where it had to say who it is.
        login: Option<Arc<Login>>,
    },
}

/// Where one request goes, and how it asks there.
pub(super) struct Plan {
    pub(super) to: Arc<Destination>,
    /// The path and query to ask for, as octets of the head.
    path: std::ops::Range<usize>,
    /// Path to ask for where the client named none.
    bare: bool,
    /// Replaces the Host field (RFC 9112 section 3.2.2).
    host: Option<String>,
}

/// One request and where it goes.
pub(super) struct Asked {
    pub(super) request: RequestHead,
    pub(super) bytes: Vec<u8>,
    pub(super) plan: Plan,
    /// By what the client was admitted, where it had to say who it is.
    login: Option<Arc<Login>>,
    /// Of a body that was held; it stays until the request is done.
    pub(super) hold: Option<Hold>,
}

/// How a request ended for the client's connection.
enum Next {
    /// The next request may come.
    Request,
    /// It is closed in order.
    Close,
    /// It ends where it is: closing it in order would pass for a whole message.
    Cut,
}

/// Serves the connection to its end, or to a CONNECT.
pub(crate) async fn serve(
    mut client: Box<Http1>,
    scope: Scope,
    engine: &Arc<Engine>,
    reporter: &mut Reporter,
) -> Served {
    let mut idle = engine.timeouts.head;
    let mut stop = std::pin::pin!(engine.stop.asked());
    loop {
        let length = tokio::select! {
            biased;
            read = client.read_head(idle, engine.timeouts.head) => read,
            () = &mut stop => {
                client.close(LINGER).await;
                return Served::Closed;
            }
        };
        let length = match length {
            Ok(length) => length,
            Err(error) => {
                refuse_unread(*client, error).await;
                return Served::Closed;
            }
        };
        idle = engine.timeouts.idle_client;
        let lines = std::mem::take(&mut client.lines);
        let bytes = client.input.get(..length).unwrap_or_default();
        let request = match head::parse_request(bytes, lines) {
            Ok(request) => request,
            Err(error) => {
                refuse_unread(*client, ReadError::Head(error)).await;
                return Served::Closed;
            }
        };
        // Kept for as long as the request may have to be sent again.
        let bytes = client.take_head(length);
        let admitted = match &scope {
            Scope::Front(front) => front.admit(|| proxy_authorization(&request, &bytes)).await,
            Scope::Inside(inside) => Ok(inside.login.clone()),
        };
        let login = match admitted {
            Ok(login) => login,
            Err(refusal) => {
                refusal.write(false, true, &mut client.output);
                client.close(LINGER).await;
                return Served::Closed;
            }
        };
        if bytes.get(request.method.clone()) == Some(b"CONNECT") {
            match connect_target(&scope, &request, &bytes) {
                Ok(target) => {
                    let head = Head {
                        version: request.version,
                        text: bytes.into(),
                    };
                    return Served::Connect {
                        client,
                        target,
                        head,
                        login,
                    };
                }
                Err(failure) => {
                    refuse_early(*client, &failure, None).await;
                    return Served::Closed;
                }
            }
        }
        let plan = match plan(&scope, &request, &bytes, engine) {
            Ok(plan) => plan,
            Err(failure) => {
                refuse_early(*client, &failure, None).await;
                return Served::Closed;
            }
        };
        let asked = Asked {
            request,
            bytes,
            plan,
            login,
            hold: None,
        };
        match forward(&mut client, asked, &scope, engine, reporter).await {
            Next::Request => {}
            Next::Close => {
                client.close(LINGER).await;
                return Served::Closed;
            }
            Next::Cut => return Served::Closed,
        }
    }
}

/// Answers what is no request, where there is something to answer.
async fn refuse_unread(mut client: Http1, error: ReadError) {
    let (failure, status) = match error {
        ReadError::Closed | ReadError::Broken | ReadError::TimedOut(0) => return,
        ReadError::TimedOut(_) => {
            let what = "did not finish the request head in time";
            (error::timed_out(Side::Client, Stage::Front, what), 408)
        }
        ReadError::Head(error) => (
            error::bad_head(Side::Client, Stage::Front, error),
            error.status(),
        ),
    };
    tracing::debug!(%failure.text, "refused a request");
    Refusal::with_status(&failure, None, status).write(false, true, &mut client.output);
    client.close(LINGER).await;
}

async fn refuse_early(mut client: Http1, failure: &Failure, target: Option<&Target>) {
    tracing::debug!(%failure.text, "refused a request");
    Refusal::new(failure, target).write(false, true, &mut client.output);
    client.close(LINGER).await;
}

/// Who the client says it is.
fn proxy_authorization<'b>(request: &RequestHead, bytes: &'b [u8]) -> Option<&'b [u8]> {
    let is_it = |line: &&Line| {
        let name = bytes.get(line.start..line.name_end).unwrap_or_default();
        name.eq_ignore_ascii_case(b"proxy-authorization")
    };
    let line = request.lines.iter().find(is_it)?;
    bytes.get(line.value.clone())
}

fn connect_target(scope: &Scope, request: &RequestHead, bytes: &[u8]) -> Result<Target, Failure> {
    if matches!(scope, Scope::Inside(_)) {
        return Err(error::failure(
            Side::Oriel,
            Stage::Front,
            FailureKind::Unsupported,
            "CONNECT inside an intercepted connection is not supported",
        ));
    }
    if !matches!(request.body, BodyLength::None | BodyLength::Exactly(0)) {
        return Err(malformed("a CONNECT request has no body"));
    }
    let target = utf8(bytes, request.target.clone())?;
    Target::parse_with_port(target)
        .map_err(|error| malformed(format!("CONNECT to {target:?}: {error}")))
}

/// Finds where the request goes and what decided it.
fn plan(
    scope: &Scope,
    request: &RequestHead,
    bytes: &[u8],
    engine: &Engine,
) -> Result<Plan, Failure> {
    let target = utf8(bytes, request.target.clone())?;
    match scope {
        Scope::Inside(inside) => plan_inside(inside, request, target),
        Scope::Front(facts) => plan_front(facts, request, bytes, target, engine),
    }
}

fn plan_inside(inside: &Arc<Inside>, request: &RequestHead, target: &str) -> Result<Plan, Failure> {
    let (path, host) = match Absolute::split(target)? {
        None => (request.target.clone(), None),
        Some(absolute) => {
            let asked = absolute.target()?;
            let is_other = asked != inside.to.target || absolute.scheme != inside.to.scheme;
            // At a reverse listener it is oriel that the client names.
            if is_other && !inside.reverse {
                return Err(malformed(format!(
                    "the request asks for {asked} on a connection to {}",
                    inside.to.target
                )));
            }
            (
                absolute.path_within(&request.target),
                Some(absolute.authority.to_owned()),
            )
        }
    };
    let host = match host {
        Some(host) if !inside.reverse => Some(host),
        // HTTP/1.0 can do without one (RFC 9112 section 3.2).
        None if !inside.reverse && request.host.is_some() => None,
        _ => Some(inside.to.target.authority(inside.to.scheme)),
    };
    Ok(Plan {
        to: Arc::clone(&inside.to),
        bare: path.is_empty(),
        path,
        host,
    })
}

fn plan_front(
    facts: &FrontFacts,
    request: &RequestHead,
    bytes: &[u8],
    target: &str,
    engine: &Engine,
) -> Result<Plan, Failure> {
    let (scheme, asked, path, host, connection) = match Absolute::split(target)? {
        Some(absolute) => (
            absolute.scheme,
            absolute.target()?,
            absolute.path_within(&request.target),
            Some(absolute.authority.to_owned()),
            &facts.absolute,
        ),
        None => {
            let host = request.host.and_then(|at| request.lines.get(at));
            let host = host.ok_or_else(|| malformed("the request names no host"))?;
            let host = utf8(bytes, host.value.clone())?;
            let asked = Target::parse(host, Scheme::Http.default_port())
                .map_err(|error| malformed(format!("the Host field {host:?}: {error}")))?;
            (
                Scheme::Http,
                asked,
                request.target.clone(),
                None,
                &facts.origin,
            )
        }
    };
    Ok(Plan {
        to: Destination::named(asked, scheme, connection, engine),
        bare: path.is_empty(),
        path,
        host,
    })
}

/// A request target in absolute form.
struct Absolute<'a> {
    scheme: Scheme,
    authority: &'a str,
    path: &'a str,
}

impl<'a> Absolute<'a> {
    /// `None` for the other forms.
    fn split(target: &'a str) -> Result<Option<Self>, Failure> {
        if target.starts_with('/') || target == "*" {
            return Ok(None);
        }
        let Some((scheme, rest)) = target.split_once("://") else {
            return Err(malformed("the request target is neither a path nor a URL"));
        };
        let scheme = if scheme.eq_ignore_ascii_case("http") {
            Scheme::Http
        } else if scheme.eq_ignore_ascii_case("https") {
            Scheme::Https
        } else {
            return Err(malformed(format!(
                "the scheme {scheme:?} is not http or https"
            )));
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        Ok(Some(Self {
            scheme,
            authority,
            path,
        }))
    }

    fn target(&self) -> Result<Target, Failure> {
        Target::parse(self.authority, self.scheme.default_port())
            .map_err(|error| malformed(format!("the URL's host {:?}: {error}", self.authority)))
    }

    /// Where the path stands, given where the whole target stands.
    fn path_within(&self, target: &std::ops::Range<usize>) -> std::ops::Range<usize> {
        target.end - self.path.len()..target.end
    }
}

/// Has one request carried to its upstream and its response back.
async fn forward(
    client: &mut Http1,
    mut asked: Asked,
    scope: &Scope,
    engine: &Arc<Engine>,
    reporter: &mut Reporter,
) -> Next {
    if let Some(site) = asked.plan.to.local_site(scope, engine) {
        let method = asked.bytes.get(asked.request.method.clone());
        let page = site.answer(method.unwrap_or_default(), &asked.path_text());
        write_local(client, &asked, &page);
        return drain(client, &asked).await;
    }
    let mut opening = asked.plan.to.opening();
    if asked.upgrade().is_some() {
        opening.kind = FlowKind::WebSocket;
    }
    let mut flow = reporter.start(&opening, || Head {
        version: asked.request.version,
        text: Bytes::copy_from_slice(&asked.bytes),
    });
    if let Some(failure) = asked.plan.to.refused(scope, engine) {
        return answer(client, &asked, flow, failure).await;
    }
    let forwards = asked.max_forwards();
    if let Some(MaxForwards::Answer(what)) = forwards {
        return answer_for_upstream(client, &asked, flow, what).await;
    }
    if let Some(subject) = scope.subject()
        && subject.gate.interests.requests
    {
        flow.hand_over();
        let subject = subject.identified().await;
        match verdict::ask(client, &mut asked, &subject, engine).await {
            Verdict::Pass => {}
            Verdict::Respond(response, failure) => {
                return respond(client, &asked, flow, *response, failure).await;
            }
            Verdict::Refuse(failure) => return answer(client, &asked, flow, failure).await,
        }
    }
    match asked.reroute(engine) {
        Ok(Some(told)) => flow.rerouted(told),
        Ok(None) => {}
        Err(failure) => return answer(client, &asked, flow, failure).await,
    }
    let upgrade = asked.upgrade();
    if upgrade.is_some() {
        head::pass_upgrade(&mut asked.request.lines, &asked.bytes);
    }
    let Asked { request, plan, .. } = &asked;
    flow.turn_to_upstream();
    let for_websocket;
    let upstream = match upgrade {
        None => &plan.to.upstream,
        Some(_) => {
            for_websocket = engine.upstreams.for_websocket(&plan.to.upstream);
            &for_websocket
        }
    };
    let mut lease = match engine.upstreams.ready(upstream, Offer::Http1) {
        Some(lease) => Ok(lease),
        None => {
            flow.hand_over();
            engine.upstreams.connect(upstream, Offer::Http1).await
        }
    };
    let mut repeated = false;
    loop {
        let mut held = match lease {
            Ok(Lease::Http1(held)) => held,
            Ok(other) => {
                let mut message = asked.message(forwards, repeated);
                message.upgrade = upgrade.as_ref();
                let carried =
                    translate::from_http1(client, message, other, upstream, &mut flow, engine);
                // In a box, as below, so that connections which never need it hold no room for it.
                return match Box::pin(carried).await {
                    Ok(reuse) => finish(client, asked, flow, reuse),
                    Err(broken) => broken_off(client, &asked, flow, broken).await,
                };
            }
            Err(failure) => return answer(client, &asked, flow, failure).await,
        };
        flow.upstream(&held.facts, held.served);
        let reused = std::mem::replace(&mut held.served, true);
        write_head(&asked, upstream.forwarded.as_ref(), &mut held.http1.output);
        let stays = request.keep_alive && !engine.stop.is_asked();
        let relay = Relay::new(
            client,
            &mut held.http1,
            &mut flow,
            request,
            asked.is_head(),
            engine.timeouts.idle_body,
            stays,
        );
        let relay = relay.hiding_http3(upstream.hides_http3);
        let relay = relay.forwarded(upstream.forwarded.as_ref());
        match relay.asking_for(upgrade.as_ref()).run().await {
            Ok(Relayed::Switched(accepted)) => {
                flow.websocket_opened(&accepted);
                let ends = Ends {
                    client: End::Http1(client),
                    upstream: End::Http1(&mut held.http1),
                };
                let carried = websocket::run(ends, &mut flow, engine.timeouts.idle_body);
                return match Box::pin(carried).await {
                    Ok(()) => {
                        flow.complete();
                        Next::Close
                    }
                    Err(broken) => broken_off(client, &asked, flow, broken).await,
                };
            }
            Ok(Relayed::Whole(reuse)) => {
                if reuse.upstream {
                    engine.upstreams.give_back(upstream, held);
                }
                return finish(client, asked, flow, reuse);
            }
            Err(broken) if reused && !repeated && asked.may_be_repeated() && is_stale(&broken) => {
                repeated = true;
                // It is of no use any more, and another may need its place.
                drop(held);
                lease = engine.upstreams.connect(upstream, Offer::Http1).await;
            }
            Err(broken) => return broken_off(client, &asked, flow, broken).await,
        }
    }
}

impl Asked {
    /// The request in the terms of the translation.
    pub(super) fn message(
        &self,
        forwards: Option<MaxForwards>,
        repeated: bool,
    ) -> translate::Http1Request<'_> {
        translate::Http1Request {
            head: &self.request,
            bytes: &self.bytes,
            path: self.path_text(),
            forwards,
            repeated,
            host: self.plan.host.as_deref(),
            target: &self.plan.to.target,
            scheme: self.plan.to.scheme,
            upgrade: None,
        }
    }

    pub(super) fn method_text(&self) -> Cow<'_, str> {
        let method = self.bytes.get(self.request.method.clone());
        String::from_utf8_lossy(method.unwrap_or_default())
    }

    /// The path and query to ask for.
    pub(super) fn path_text(&self) -> String {
        self.plan.path_text(&self.bytes)
    }

    pub(super) fn has_body(&self) -> bool {
        !matches!(self.request.body, BodyLength::None | BodyLength::Exactly(0))
    }

    /// Turns the request to a gateway, where a route says so.
    fn reroute(&mut self, engine: &Engine) -> Result<Option<Told>, Failure> {
        if engine.gateways.is_empty() {
            return Ok(None);
        }
        let method = utf8(&self.bytes, self.request.method.clone())?;
        let path = self.path_text();
        let to = &self.plan.to;
        let Some(rerouted) = gateway::reroute(to, method, &path, self.login.as_deref(), engine)?
        else {
            return Ok(None);
        };
        let bytes = rerouted.edit.http1_head(&self.request, &self.bytes, &path);
        let request = head::parse_request(&bytes, Vec::new())
            .map_err(|error| error::bad_head(Side::Client, Stage::Front, error))?;
        self.replace(request, bytes);
        self.plan.to = rerouted.to;
        self.plan.host = Some(rerouted.authority);
        Ok(Some(rerouted.told))
    }

    /// Another head in place of the one that came; it names a path.
    pub(super) fn replace(&mut self, request: RequestHead, bytes: Vec<u8>) {
        self.plan.path = request.target.clone();
        self.plan.bare = false;
        self.request = request;
        self.bytes = bytes;
    }

    /// Drops a body that was held: the request goes nowhere, and the next one can follow.
    pub(super) fn forget_body(&mut self, client: &mut Http1, held: Option<&Held>) {
        if let Some(held) = held {
            client.consume(held.raw);
            self.request.body = BodyLength::None;
        }
    }

    /// The WebSocket that it asks for. A request with a body asks for none: where its body ends
    /// and the WebSocket begins could be understood in two ways.
    fn upgrade(&self) -> Option<handshake::Asked> {
        let Self { request, bytes, .. } = self;
        if request.upgrade.is_none() || request.version != Version::Http11 || self.has_body() {
            return None;
        }
        let method = bytes.get(request.method.clone())?;
        match handshake::read_upgrade(method, head::fields(&request.lines, bytes)) {
            Upgrade::WebSocket(asked) => Some(asked),
            Upgrade::No | Upgrade::Flawed(_) => None,
        }
    }

    fn max_forwards(&self) -> Option<MaxForwards> {
        let line = self.request.lines.get(self.request.max_forwards?)?;
        let method = self.bytes.get(self.request.method.clone())?;
        max_forwards::read(method, self.bytes.get(line.value.clone())?)
    }

    /// Whether another request may follow one that was not sent on: what follows an unread body
    /// cannot be found.
    fn stays(&self) -> bool {
        self.request.keep_alive && self.request.body == BodyLength::None
    }

    fn is_head(&self) -> bool {
        self.bytes.get(self.request.method.clone()) == Some(b"HEAD")
    }

    /// True if sending it twice does no more than sending it once (RFC 9110 section 9.2.1).
    fn may_be_repeated(&self) -> bool {
        let method = self.bytes.get(self.request.method.clone());
        self.request.body == BodyLength::None
            && matches!(method, Some(b"GET" | b"HEAD" | b"OPTIONS"))
    }
}

impl Plan {
    /// The path and query to ask for.
    fn path_text(&self, bytes: &[u8]) -> String {
        let path = String::from_utf8_lossy(bytes.get(self.path.clone()).unwrap_or_default());
        match path.starts_with(['/', '*']) {
            true => path.into_owned(),
            false => format!("/{path}"),
        }
    }
}

/// True if a kept connection was closed by the upstream before it saw the request, as far as can
/// be known; the request is safe to repeat (RFC 9110 section 9.2.2).
fn is_stale(broken: &Broken) -> bool {
    let closed = matches!(
        broken.failure.kind,
        FailureKind::Reset | FailureKind::ClosedEarly
    );
    closed && !broken.responded && broken.failure.side == Side::Upstream
}

fn write_head(asked: &Asked, forwarded: Option<&Forwarded>, out: &mut Vec<u8>) {
    let Asked {
        request,
        bytes,
        plan,
        ..
    } = asked;
    let part = |range: std::ops::Range<usize>| bytes.get(range).unwrap_or_default();
    let path = part(plan.path.clone());
    // `OPTIONS http://host` asks about the server as a whole (RFC 9112 section 3.2.4).
    let is_options = part(request.method.clone()) == b"OPTIONS";
    let about_all = is_options && (plan.bare || path == b"*");
    let (missing, path): (&[u8], _) = match (plan.bare, about_all, forwarded) {
        (_, true, None) => (b"*", &b""[..]),
        (_, true, Some(_)) => (b"", &b""[..]),
        (true, false, _) => (b"/", path),
        (false, false, _) if path.starts_with(b"?") => (b"/", path),
        (false, false, _) => (b"", path),
    };
    let start = [
        part(request.method.clone()),
        b" ",
        forwarded.map_or(&b""[..], |forwarded| forwarded.origin.as_bytes()),
        missing,
        path,
        b" HTTP/1.1\r\n",
    ];
    let host = plan.host.as_deref().map(str::as_bytes);
    let forwards = match asked.max_forwards() {
        Some(MaxForwards::Forward(left)) => Some(left.to_string()),
        Some(MaxForwards::Answer(_)) | None => None,
    };
    let replaced = Replaced {
        host,
        max_forwards: forwards.as_deref().map(str::as_bytes),
    };
    head::write_request(request, bytes, &start, replaced, out);
    if let Some(host) = host
        && request.host.is_none()
    {
        out.extend_from_slice(b"Host: ");
        out.extend_from_slice(host);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(line) = forwarded.and_then(|forwarded| forwarded.authorization.as_ref()) {
        out.extend_from_slice(line.reveal().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Ends a flow that went well.
fn finish(client: &mut Http1, asked: Asked, flow: Flow<'_>, reuse: Reuse) -> Next {
    flow.complete();
    if reuse.until_close {
        client.reset_on_drop(false);
    }
    client.reuse(asked.bytes, asked.request.lines);
    if reuse.client {
        Next::Request
    } else {
        Next::Close
    }
}

/// Ends a flow that broke off: with a reply of ours if the client has seen nothing yet, otherwise
/// by cutting its connection.
async fn broken_off(client: &mut Http1, asked: &Asked, flow: Flow<'_>, broken: Broken) -> Next {
    let client_left = broken.failure.side == Side::Client
        && !matches!(
            broken.failure.kind,
            FailureKind::Malformed | FailureKind::TimedOut
        );
    if client_left {
        // One that only ended its side may still read: the end must not pass for the body's.
        if broken.responded && broken.until_close {
            client.reset_on_drop(true);
        }
        flow.fail(broken.failure, None);
        return Next::Cut;
    }
    if broken.responded {
        flow.fail(broken.failure, None);
        // What came before the break still belongs to the client.
        let _written = client.drain(LINGER).await;
        if broken.until_close {
            client.reset_on_drop(true);
        }
        return Next::Cut;
    }
    let refusal = Refusal::new(&broken.failure, Some(&asked.plan.to.target));
    refusal.write(false, !asked.is_head(), &mut client.output);
    flow.fail(broken.failure, Some(refusal.status));
    Next::Close
}

/// Answers a request that was not sent on.
async fn answer(client: &mut Http1, asked: &Asked, flow: Flow<'_>, failure: Failure) -> Next {
    let refusal = Refusal::new(&failure, Some(&asked.plan.to.target));
    refusal.write(asked.stays(), !asked.is_head(), &mut client.output);
    flow.fail(failure, Some(refusal.status));
    drain(client, asked).await
}

/// Answers a request as the handler wants it.
async fn respond(
    client: &mut Http1,
    asked: &Asked,
    mut flow: Flow<'_>,
    response: LocalResponse,
    failure: Option<Box<Failure>>,
) -> Next {
    let (text, body) = write_local(client, asked, &response);
    flow.response_started(|| Head {
        version: Version::Http11,
        text: text.into(),
    });
    flow.response_bytes(&body);
    flow.response_ended(None);
    match failure {
        Some(failure) => flow.fail(*failure, Some(response.status)),
        None => flow.complete(),
    }
    drain(client, asked).await
}

/// Writes an answer that was made here, and gives its head and its body.
fn write_local(client: &mut Http1, asked: &Asked, response: &LocalResponse) -> (Vec<u8>, Bytes) {
    let text = response.http1_head(asked.stays());
    let body = response.payload(asked.is_head());
    client.output.extend_from_slice(&text);
    client.output.extend_from_slice(&body);
    (text, body)
}

/// Sends what was written in answer to a request that was not sent on.
async fn drain(client: &mut Http1, asked: &Asked) -> Next {
    match client.drain(LINGER).await {
        Ok(()) if asked.stays() => Next::Request,
        _ => Next::Close,
    }
}

/// Answers a request that may go no further (RFC 9110 section 7.6.2).
async fn answer_for_upstream(
    client: &mut Http1,
    asked: &Asked,
    mut flow: Flow<'_>,
    what: max_forwards::Asked,
) -> Next {
    let answer = max_forwards::Answer::new(what, &asked.bytes);
    let mut text = b"HTTP/1.1 200 OK\r\n".to_vec();
    for (name, value) in answer.fields() {
        text.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !asked.stays() {
        text.extend_from_slice(b"Connection: close\r\n");
    }
    text.extend_from_slice(b"\r\n");
    client.output.extend_from_slice(&text);
    client.output.extend_from_slice(&answer.body);
    flow.response_started(|| Head {
        version: Version::Http11,
        text: text.into(),
    });
    flow.response_bytes(&answer.body);
    flow.response_ended(None);
    flow.complete();
    drain(client, asked).await
}

fn utf8(bytes: &[u8], range: std::ops::Range<usize>) -> Result<&str, Failure> {
    std::str::from_utf8(bytes.get(range).unwrap_or_default())
        .map_err(|_error| malformed("the request target or Host field is not UTF-8"))
}

fn malformed(text: impl Into<String>) -> Failure {
    error::failure(Side::Client, Stage::Front, FailureKind::Malformed, text)
}
