//! What becomes of a CONNECT, or of what SOCKS 5 asks for: refused, tunnelled, or opened; and what
//! an opened connection is served with.

mod alpn;
mod intercept;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use traffic::rules::route::{Facts, Opening as FirstBytes};
use traffic::{
    Action, ConnectionFacts, Failure, FailureKind, FlowKind, Head, NoTls, ProcessInfo, Route,
    Scheme, Side, Stage, Target,
};

pub(crate) use alpn::{agree, offered};

use crate::admission::Guest;
use crate::clock;
use crate::config::ConnectPorts;
use crate::connection::{Engine, Inside};
use crate::destination::{self, Scope};
use crate::error;
use crate::governor::Place;
use crate::handler::Subject;
use crate::hops::Hops;
use crate::http1::connection::Http1;
use crate::http1::serve as http1;
use crate::http2::serve as http2;
use crate::http2::stream::ConnectStream;
use crate::limits::LINGER;
use crate::process::ConnectionProcess;
use crate::refuse::Refusal;
use crate::socks5;
use crate::stream::{Replay, Transport};
use crate::tap::{Opening, Reporter};
use crate::tunnel;
use crate::upstream::{Asker, Dialled};

/// A request for a tunnel, and the means to answer it.
pub(crate) struct ConnectAsked {
    pub(crate) target: Arc<Target>,
    pub(crate) head: Head,
    pub(crate) facts: ConnectionFacts,
    /// What it came through.
    pub(crate) hops: Hops,
    pub(crate) subject: Option<Subject>,
    pub(crate) process: Option<Arc<ConnectionProcess>>,
    /// By what the client was admitted, where it had to say who it is.
    pub(crate) guest: Option<Guest>,
    pub(crate) answer: ConnectAnswer,
}

/// Where the answer to a CONNECT goes.
pub(crate) enum ConnectAnswer {
    Http1(Box<Http1>),
    Http2(ConnectStream),
    Socks5(Replay),
}

/// A connection, or a stream of one, whose client wants a tunnel.
pub(crate) struct Asked {
    pub(crate) connect: ConnectAsked,
    pub(crate) reporter: Reporter,
    /// Among the connections of its client, unless who serves the connection holds it.
    pub(crate) place: Option<Place>,
}

/// Answers a CONNECT: refuses it, tunnels it, or opens what comes through it and serves that.
pub(crate) async fn connect(asked: Box<Asked>, engine: &Arc<Engine>) {
    let Asked {
        mut connect,
        mut reporter,
        place: _place,
    } = *asked;
    connect.facts.user = connect
        .guest
        .as_ref()
        .and_then(|guest| guest.login.told_name().map(Into::into));
    // So that the room for opening is given back before the first request.
    if let Some(opened) = Box::pin(open(connect, engine, &mut reporter)).await {
        serve(opened, engine, &mut reporter).await;
    }
}

/// Does with a CONNECT what the rules say; nothing is left to do unless they open it.
async fn open(
    mut asked: ConnectAsked,
    engine: &Arc<Engine>,
    reporter: &mut Reporter,
) -> Option<Opened> {
    if engine.local_site(&asked.target).is_some() {
        return intercept::intercept(asked, engine, reporter).await;
    }
    let mut route = engine.rules.route(&Facts {
        target: &asked.target,
        opening: FirstBytes::Unseen,
    });
    if route.action == Action::Intercept && !engine.client_side.permits(&asked.target.host) {
        let outside = engine.rules.route_outside_constraints();
        // If it is to be tunnelled, there may still be plain HTTP in it to be seen.
        if outside.action == Action::Block {
            route = outside;
        }
    }
    if let Some(failure) = refused(&asked, &route, engine) {
        refuse(asked, route, failure, reporter).await;
        return None;
    }
    match route.action {
        Action::Block => {
            let failure = destination::blocked(&asked.target, &route);
            refuse(asked, route, failure, reporter).await;
        }
        Action::Tunnel => tunnel_early(asked, route, engine, reporter).await,
        Action::Intercept => match declined(&mut asked, engine).await {
            Ok(None) => return intercept::intercept(asked, engine, reporter).await,
            Ok(Some(route)) => tunnel_early(asked, route, engine, reporter).await,
            Err(failure) => refuse(asked, route, failure, reporter).await,
        },
    }
    None
}

/// The route of a connection that is not to be opened: its client will not take our certificate,
/// or the handler does not want it.
async fn declined(asked: &mut ConnectAsked, engine: &Engine) -> Result<Option<Route>, Failure> {
    let (host, scope) = (&asked.target.host, engine.rejection_rules.auto_bypass);
    if engine.rejections.knows(host) {
        let process = found(asked.process.as_deref()).await;
        if let Some(rule) = engine.rejections.bypass(host, process.as_deref(), scope) {
            let action = Action::Tunnel;
            return Ok(Some(Route { action, rule }));
        }
    }
    let Some(subject) = &mut asked.subject else {
        return Ok(None);
    };
    *subject = subject.identified().await.into_owned();
    let (host, process) = (asked.target.host.to_string(), &subject.meta.process_info);
    let opened = subject.gate.should_intercept(host, process.clone()).await?;
    Ok((!opened).then(|| Route {
        action: Action::Tunnel,
        rule: "the handler".to_owned(),
    }))
}

/// The process, once it is known; waits for the lookup that began with the connection.
async fn found(process: Option<&ConnectionProcess>) -> Option<Arc<ProcessInfo>> {
    process?.find().await.ok()
}

fn refused(asked: &ConnectAsked, route: &Route, engine: &Engine) -> Option<Failure> {
    let target = &asked.target;
    if let Some(failure) = destination::own(target, engine) {
        return Some(failure);
    }
    if let Some(failure) = engine.upstreams.refuse_return(&asked.hops, target) {
        return Some(failure);
    }
    let allowed = match &engine.connect_ports {
        ConnectPorts::Any => true,
        ConnectPorts::Only(ports) => ports.contains(&target.port),
    };
    if route.action == Action::Block {
        return None;
    }
    if allowed {
        let dialer = &engine.upstreams.dialer;
        let reach = dialer.reach_of(asked.facts.client_address);
        let denied = dialer.refuse_address(target, reach).err();
        return denied.or_else(|| engine.busy(1));
    }
    let text = format!("CONNECT to port {} is not allowed", target.port);
    Some(error::failure(
        Side::Oriel,
        Stage::Route,
        FailureKind::PortNotAllowed,
        text,
    ))
}

/// Tells the client no, before anything was opened.
async fn refuse(asked: ConnectAsked, route: Route, failure: Failure, reporter: &mut Reporter) {
    let facts = Arc::new(asked.facts);
    let route = Arc::new(route);
    let opening = tunnel_opening(&facts, &asked.target, &route, Scheme::Https);
    let flow = reporter.start(&opening, |_| asked.head.clone());
    let replied = asked.answer.refuse(&failure, &asked.target).await;
    flow.fail(failure, replied);
}

/// Tunnels a host that is not to be opened: it is dialled first, so that the client hears of a
/// host that cannot be reached.
async fn tunnel_early(
    mut asked: ConnectAsked,
    route: Route,
    engine: &Arc<Engine>,
    reporter: &mut Reporter,
) {
    asked.facts.tls = Err(NoTls::Tunnelled);
    let asker = asker(&asked.facts, asked.hops.clone(), engine);
    let dialled = match engine.upstreams.tunnel_to(&asked.target, &asker).await {
        Ok(dialled) => dialled,
        Err(failure) => return refuse(asked, route, failure, reporter).await,
    };
    let Ok(wire) = asked.answer.accept(engine.timeouts.head).await else {
        return;
    };
    let facts = Arc::new(asked.facts);
    let route = Arc::new(route);
    let opening = tunnel_opening(&facts, &asked.target, &route, Scheme::Https);
    pass(wire, dialled, &opening, &asked.head, engine, reporter).await;
}

/// For whom a target is dialled.
fn asker(facts: &ConnectionFacts, hops: Hops, engine: &Engine) -> Asker {
    let reach = engine.upstreams.dialer.reach_of(facts.client_address);
    Asker { reach, hops }
}

/// A connection whose requests can be read.
pub(crate) struct Opened {
    pub(crate) transport: Transport,
    pub(crate) inside: Arc<Inside>,
    pub(crate) is_http2: bool,
}

/// Serves the requests of a connection that was opened.
pub(crate) async fn serve(opened: Opened, engine: &Arc<Engine>, reporter: &mut Reporter) {
    let Opened {
        transport,
        inside,
        is_http2,
    } = opened;
    if is_http2 {
        http2::serve(transport, Scope::Inside(inside), None, engine).await;
        return;
    }
    let client = Box::new(Http1::new(transport, BytesMut::new()));
    let _closed = http1::serve(client, Scope::Inside(inside), engine, reporter).await;
}

fn tunnel_opening<'a>(
    facts: &'a Arc<ConnectionFacts>,
    target: &'a Arc<Target>,
    route: &'a Arc<Route>,
    scheme: Scheme,
) -> Opening<'a> {
    Opening {
        at: Some(clock::now()),
        kind: FlowKind::Tunnel,
        connection: facts,
        scheme,
        target,
        route,
        in_outline: false,
    }
}

/// Passes bytes until both sides have ended.
async fn pass(
    wire: Replay,
    (upstream, dialled): (Replay, Dialled),
    opening: &Opening<'_>,
    head: &Head,
    engine: &Engine,
    reporter: &mut Reporter,
) {
    let mut flow = reporter.start(opening, |_| head.clone());
    flow.upstream(&dialled.facts(None, None), false);
    flow.hand_over();
    tunnel::run(wire, upstream, engine.timeouts.idle_body, flow.passed()).await;
    flow.end_tunnel();
}

impl ConnectAnswer {
    /// Says yes and hands over the bytes that follow.
    async fn accept(self, limit: Duration) -> Result<Replay, std::io::Error> {
        match self {
            Self::Http1(mut client) => {
                client
                    .output
                    .extend_from_slice(b"HTTP/1.1 200 Connection established\r\n\r\n");
                client.drain(limit).await?;
                let (transport, input) = client.into_parts();
                match transport {
                    Transport::Plain(replay) => Ok(replay.put_back(input)),
                    // A CONNECT inside an opened connection was refused before.
                    Transport::Tls(_) => Err(std::io::ErrorKind::Unsupported.into()),
                }
            }
            Self::Http2(stream) => stream.accept(),
            Self::Socks5(wire) => socks5::accept(wire, limit).await,
        }
    }

    /// Says no, and with which status if it is one.
    async fn refuse(self, failure: &Failure, target: &Target) -> Option<u16> {
        let refusal = Refusal::new(failure, Some(target));
        match self {
            Self::Http1(mut client) => {
                refusal.write(false, true, &mut client.output);
                client.close(LINGER).await;
            }
            Self::Http2(stream) => stream.refuse(&refusal),
            Self::Socks5(wire) => {
                socks5::refuse(wire, failure).await;
                return None;
            }
        }
        Some(refusal.status)
    }
}
