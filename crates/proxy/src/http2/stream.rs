//! Serves one stream of an HTTP/2 connection: one request with its response, or one tunnel.

use std::sync::Arc;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response};
use parking_lot::Mutex;
use traffic::{
    ConnectionFacts, Failure, FailureKind, FlowKind, Front, Head, Scheme, Side, Stage, Target,
    Version,
};

use crate::admission::Login;
use crate::connect::{self, ConnectAnswer, ConnectAsked};
use crate::connection::Engine;
use crate::destination::{Destination, Scope};
use crate::error;
use crate::gateway::{self, Told};
use crate::handler::Hold;
use crate::hops::Hops;
use crate::http2::responder::{Responder, Unserved};
use crate::http2::tunnel::Http2Tunnel;
use crate::http2::verdict;
use crate::max_forwards::{Answer, MaxForwards};
use crate::metrics;
use crate::refuse::Refusal;
use crate::stream::{Replay, Wire};
use crate::tap::{BothWays, Flow, Reporter};
use crate::translate::{self, Http2Request, RequestBody, heads};
use crate::upstream::{Lease, Offer, Upstream};

/// How a stream ended, as far as the connection has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamEnd {
    Served,
    /// The client reset it before it was answered.
    Abandoned,
}

/// A CONNECT on a stream, to be answered.
pub(crate) struct ConnectStream {
    body: RecvStream,
    responder: Responder,
}

/// A request that was read, and what is known of it.
pub(super) struct Asked {
    pub(super) parts: Parts,
    pub(super) body: RequestBody,
    /// Of a body that was held; it stays until the request is done.
    pub(super) hold: Option<Hold>,
    /// Where it goes; a handler or a gateway may change it.
    pub(super) to: Arc<Destination>,
    /// By what the client was admitted, where it had to say who it is.
    login: Option<Arc<Login>>,
}

/// Serves one stream. `facts` are there where the proxy itself was addressed; `told` is what was told last of
/// the connection.
pub(super) async fn serve(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    scope: &Scope,
    facts: Option<&ConnectionFacts>,
    told: &Arc<Mutex<BothWays>>,
    engine: &Arc<Engine>,
) -> StreamEnd {
    let (parts, body) = request.into_parts();
    let mut responder = Responder::new(respond, &parts.method);
    let said = || parts.headers.get(PROXY_AUTHORIZATION);
    let login = match scope.admit(|| said().map(HeaderValue::as_bytes)).await {
        Ok(login) => login,
        Err(refusal) => {
            responder.refuse(&refusal);
            return StreamEnd::Served;
        }
    };
    if parts.method == Method::CONNECT && !heads::asks_for_websocket(&parts) {
        let stream = ConnectStream { body, responder };
        connect(&parts, stream, login, scope, facts, engine).await;
        return StreamEnd::Served;
    }
    let to = match destination(&parts, scope, login.as_deref(), engine) {
        Ok(to) => to,
        Err(failure) => {
            responder.refuse(&Refusal::new(&failure, None));
            return StreamEnd::Served;
        }
    };
    if let Some(site) = to.local_site(scope, engine) {
        let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        responder.answer(&site.answer(parts.method.as_str().as_bytes(), path));
        return StreamEnd::Served;
    }
    let asked = Asked {
        parts,
        body: RequestBody::Passing(body),
        hold: None,
        to,
        login,
    };
    let reporter = engine.tap.stream_reporter(told);
    asked.forward(responder, scope, engine, reporter).await
}

/// Answers a CONNECT; inside an opened connection, and without a target, with no.
async fn connect(
    parts: &Parts,
    stream: ConnectStream,
    login: Option<Arc<Login>>,
    scope: &Scope,
    facts: Option<&ConnectionFacts>,
    engine: &Arc<Engine>,
) {
    let (target, facts) = match (connect_target(parts), facts) {
        (Ok(target), Some(facts)) => (target, facts),
        (_, None) => {
            let text = "CONNECT inside an intercepted connection is not supported";
            let failure = error::failure(Side::Oriel, Stage::Front, FailureKind::Unsupported, text);
            return stream.refuse(&Refusal::new(&failure, None));
        }
        (Err(failure), Some(_)) => return stream.refuse(&Refusal::new(&failure, None)),
    };
    let head = heads::request_text(parts);
    let mut reporter = engine.tap.reporter(metrics::Protocol::Http2);
    // Tunnels on one connection have nothing to do with each other.
    let subject = scope.subject().map(|subject| {
        let (subject, lane) = subject.stream();
        reporter.attach(lane);
        subject
    });
    let connect = ConnectAsked {
        target: Arc::new(target),
        hops: Hops::of_connect(&head.text),
        head,
        facts: facts.clone(),
        subject,
        process: scope.process().cloned(),
        guest: scope.guest(login),
        answer: ConnectAnswer::Http2(stream),
    };
    let asked = connect::Asked {
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
    let host = parts.headers.get(HOST);
    let authority = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => host.and_then(|host| host.to_str().ok()).unwrap_or_default(),
    };
    let target = Target::parse(authority, scheme.default_port())
        .map_err(|error| malformed(format!("the authority {authority:?}: {error}")))?;
    let connection = front.of(Front::AbsoluteForm, login);
    Ok(Destination::named(target, scheme, &connection, engine))
}

fn malformed(text: impl Into<String>) -> Failure {
    error::failure(Side::Client, Stage::Front, FailureKind::Malformed, text)
}

impl Asked {
    /// Makes a flow of the request: has it carried to its upstream and its response back, or
    /// answers it here.
    async fn forward(
        mut self,
        mut responder: Responder,
        scope: &Scope,
        engine: &Arc<Engine>,
        mut reporter: Reporter,
    ) -> StreamEnd {
        let mut opening = self.to.opening();
        if heads::asks_for_websocket(&self.parts) {
            opening.kind = FlowKind::WebSocket;
        }
        let mut flow = reporter.start(&opening, |told| Head {
            version: Version::Http2,
            text: told.written(|text| heads::write_request_text(&self.parts, text)),
        });
        let way = self
            .find_way(&mut responder.respond, &mut flow, scope, engine)
            .await;
        let Self {
            parts,
            body,
            hold: _hold,
            to,
            ..
        } = self;
        let carried = match way {
            Ok((upstream, lease)) => {
                let request = Http2Request {
                    parts,
                    body,
                    target: &to.target,
                    scheme: to.scheme,
                };
                let respond = &mut responder.respond;
                translate::from_http2(request, respond, lease, &upstream, &mut flow, engine)
                    .await
                    .map_err(Unserved::BrokenOff)
            }
            Err(why) => Err(why),
        };
        match carried {
            Ok(()) => {
                flow.complete();
                StreamEnd::Served
            }
            Err(why) => {
                let stall = engine.timeouts.idle_body;
                // In a box: what is answered by its upstream holds no room for it.
                Box::pin(responder.end(flow, why, &to.target, stall)).await
            }
        }
    }

    /// Finds out where the request is to go, if it may, and waits for a connection there.
    async fn find_way(
        &mut self,
        respond: &mut SendResponse<Bytes>,
        flow: &mut Flow<'_>,
        scope: &Scope,
        engine: &Engine,
    ) -> Result<(Arc<Upstream>, Lease), Unserved> {
        self.decide(flow, scope, engine).await?;
        let now = flow.turn_to_upstream();
        let websocket = heads::asks_for_websocket(&self.parts);
        let upstream = match websocket {
            true => engine.upstreams.for_websocket(&self.to.upstream),
            false => Arc::clone(&self.to.upstream),
        };
        let lease = match engine.upstreams.ready(&upstream, Offer::Any, now) {
            Some(lease) if !websocket => lease,
            _ => {
                flow.hand_over();
                lease(&upstream, websocket, respond, engine).await?
            }
        };
        Ok((upstream, lease))
    }

    /// Decides whether the request goes on, as what and where to.
    async fn decide(
        &mut self,
        flow: &mut Flow<'_>,
        scope: &Scope,
        engine: &Engine,
    ) -> Result<(), Unserved> {
        if let Some(failure) = self.to.refused(engine) {
            return Err(failure.into());
        }
        let dial_failure = scope.take_dial_failure();
        if let Some(MaxForwards::Answer(what)) = heads::max_forwards(&self.parts) {
            let head = heads::request_text(&self.parts);
            return Err(Unserved::AnsweredForUpstream(Answer::new(what, &head.text)));
        }
        if let Scope::Inside(inside) = scope
            && inside.reverse
        {
            heads::forget_authority(&mut self.parts);
        }
        if let Some(subject) = scope.subject() {
            let wanted = verdict::wanted(self, subject);
            let (subject, mut lane) = subject.stream();
            lane.want(wanted);
            flow.attach(lane);
            if wanted.requests && !self.to.bypassed {
                flow.hand_over();
                let subject = subject.identified().await;
                verdict::ask(self, (&subject, wanted), engine).await?;
            }
        }
        if let Some(told) = self.reroute(engine)? {
            flow.rerouted(told);
        }
        if let Some(failure) = dial_failure.filter(|_| self.to.is_as_opened(scope)) {
            return Err(failure.into());
        }
        if !heads::asks_for_websocket(&self.parts) {
            // The handler may have made another request of it.
            self.parts.extensions.remove::<Protocol>();
        }
        Ok(())
    }

    /// Turns the request to a gateway, where a route says so.
    fn reroute(&mut self, engine: &Engine) -> Result<Option<Told>, Failure> {
        // What HTTP/1.1 asks for with GET (RFC 8441 section 5).
        let method = match heads::asks_for_websocket(&self.parts) {
            true => &Method::GET,
            false => &self.parts.method,
        };
        let path = self.parts.uri.path_and_query();
        let path = path.map_or("*", PathAndQuery::as_str);
        let login = self.login.as_deref();
        let Some(rerouted) = gateway::reroute(&self.to, method.as_str(), path, login, engine)?
        else {
            return Ok(None);
        };
        heads::forget_authority(&mut self.parts);
        rerouted.edit.http2_head(&mut self.parts)?;
        self.to = rerouted.to;
        Ok(Some(rerouted.told))
    }
}

/// Waits for a connection to the upstream; a client that has lost interest does not keep a dial
/// going.
async fn lease(
    upstream: &Upstream,
    websocket: bool,
    respond: &mut SendResponse<Bytes>,
    engine: &Engine,
) -> Result<Lease, Unserved> {
    let lease = async {
        match websocket {
            true => translate::lease_for_websocket(upstream, engine).await,
            false => engine.upstreams.connect(upstream, Offer::Any).await,
        }
    };
    let reset = std::future::poll_fn(|cx| respond.poll_reset(cx));
    tokio::select! {
        biased;
        reset = reset => {
            let reason = reset.unwrap_or(Reason::CANCEL);
            Err(Unserved::Abandoned(translate::client_reset(reason).failure))
        }
        lease = lease => lease.map_err(Unserved::Refused),
    }
}

impl ConnectStream {
    /// Says yes and hands over the bytes that follow.
    pub(crate) fn accept(mut self) -> Result<Replay, std::io::Error> {
        let respond = &mut self.responder.respond;
        let outgoing = respond
            .send_response(Response::new(()), false)
            .map_err(std::io::Error::other)?;
        let tunnel = Http2Tunnel::new(self.body, outgoing);
        Ok(Replay::new(Wire::Http2(tunnel)))
    }

    /// Says no.
    pub(crate) fn refuse(mut self, refusal: &Refusal) {
        self.responder.refuse(refusal);
    }
}
