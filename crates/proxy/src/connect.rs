//! What becomes of a CONNECT, or of what SOCKS 5 asks for: refused, tunnelled, or opened; and what
//! an opened connection is served with.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio_rustls::{TlsAcceptor, TlsStream};
use traffic::rules::route::{Facts, Opening as FirstBytes};
use traffic::wire::client_hello::ClientHello;
use traffic::{
    Action, ConnectionFacts, Failure, FailureKind, FlowKind, Head, Host, NoTls, ProcessInfo, Route,
    Scheme, Side, Stage, Target,
};

use crate::admission::Login;
use crate::clock;
use crate::config::{ConnectPorts, SniMismatch};
use crate::connection::{Engine, Inside};
use crate::destination::{self, Destination, Scope};
use crate::error;
use crate::first_bytes::{self, Begins};
use crate::governor::Place;
use crate::handler::Subject;
use crate::hops::Hops;
use crate::http1::connection::Http1;
use crate::http1::serve as http1;
use crate::http2::serve as http2;
use crate::limits::LINGER;
use crate::process::ConnectionProcess;
use crate::refuse::Refusal;
use crate::socks5;
use crate::stream::{Replay, Transport};
use crate::tap::{Opening, Reporter};
use crate::tls::client_side::{self, ClientAlpn};
use crate::tls::upstream_side;
use crate::tunnel;
use crate::upstream::{Asker, Dialled, Lease, Offer, Speaks, Upstream};

/// A request for a tunnel, and the means to answer it.
pub(crate) struct ConnectAsked {
    pub(crate) target: Target,
    pub(crate) head: Head,
    pub(crate) facts: ConnectionFacts,
    /// What it came through.
    pub(crate) hops: Hops,
    pub(crate) subject: Option<Subject>,
    pub(crate) process: Option<Arc<ConnectionProcess>>,
    /// By what the client was admitted, where it had to say who it is.
    pub(crate) login: Option<Arc<Login>>,
    pub(crate) answer: ConnectAnswer,
}

/// Where the answer to a CONNECT goes.
pub(crate) enum ConnectAnswer {
    Http1(Box<Http1>),
    Http2(http2::ConnectStream),
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
        .login
        .as_ref()
        .and_then(|login| login.told_name().map(Into::into));
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
        return intercept(asked, engine, reporter).await;
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
        refuse(asked, route, failure, engine, reporter).await;
        return None;
    }
    match route.action {
        Action::Block => {
            let failure = destination::blocked(&asked.target, &route);
            refuse(asked, route, failure, engine, reporter).await;
        }
        Action::Tunnel => tunnel_early(asked, route, engine, reporter).await,
        Action::Intercept => match declined(&mut asked, engine).await {
            Ok(None) => return intercept(asked, engine, reporter).await,
            Ok(Some(route)) => tunnel_early(asked, route, engine, reporter).await,
            Err(failure) => refuse(asked, route, failure, engine, reporter).await,
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
    *subject = subject.identified().await;
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
async fn refuse(
    asked: ConnectAsked,
    route: Route,
    failure: Failure,
    _engine: &Engine,
    reporter: &mut Reporter,
) {
    let facts = Arc::new(asked.facts);
    let route = Arc::new(route);
    let opening = tunnel_opening(&facts, &asked.target, &route, Scheme::Https);
    let flow = reporter.start(&opening, || asked.head.clone());
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
        Err(failure) => return refuse(asked, route, failure, engine, reporter).await,
    };
    let Ok(wire) = asked.answer.accept(engine.timeouts.head).await else {
        return;
    };
    let facts = Arc::new(asked.facts);
    let route = Arc::new(route);
    let opening = tunnel_opening(&facts, &asked.target, &route, Scheme::Https);
    pass(wire, dialled, &opening, &asked.head, engine, reporter).await;
}

/// Opens a connection that is to be seen, or finds that it cannot be.
async fn intercept(
    asked: ConnectAsked,
    engine: &Arc<Engine>,
    reporter: &mut Reporter,
) -> Option<Opened> {
    let ConnectAsked {
        target,
        head,
        mut facts,
        hops,
        subject,
        process,
        login,
        answer,
    } = asked;
    let mut wire = answer.accept(engine.timeouts.head).await.ok()?;
    let begins = first_bytes::read(&mut wire, engine.timeouts.head).await;
    let route = route_begun(&begins, &target, engine);
    let scheme = if matches!(begins, Begins::PlainHttp | Begins::PlainHttp2) {
        Scheme::Http
    } else {
        Scheme::Https
    };
    let mut misnamed = None;
    if let Begins::Tls(hello) = &begins {
        facts.hello = Some(Arc::clone(hello));
        if engine.sni_mismatch == SniMismatch::Deny && hello.names_another_than(&target.host) {
            misnamed = hello.sni.clone();
        }
    }
    let route = Arc::new(route);
    if let Some(sni) = misnamed {
        client_side::refuse_name(&mut wire, engine.timeouts.tls).await;
        let text = format!("the ClientHello names {sni}, and the CONNECT request {target}");
        let kind = FailureKind::SniMismatch;
        let failure = error::failure(Side::Oriel, Stage::Route, kind, text);
        facts.tls = Err(NoTls::HandshakeFailed);
        let facts = Arc::new(facts);
        let opening = tunnel_opening(&facts, &target, &route, scheme);
        reporter.start(&opening, || head).fail(failure, None);
        return None;
    }
    match (begins, route.action) {
        (Begins::Nothing, _) => {
            let facts = Arc::new(facts);
            let opening = tunnel_opening(&facts, &target, &route, scheme);
            reporter.start(&opening, || head).end_tunnel();
        }
        (Begins::Unfinished, _) => {
            let facts = Arc::new(facts);
            let opening = tunnel_opening(&facts, &target, &route, scheme);
            let what = "did not finish its ClientHello in time";
            let failure = error::timed_out(Side::Client, Stage::Tls, what);
            reporter.start(&opening, || head).fail(failure, None);
        }
        (_, Action::Block) => {
            let facts = Arc::new(facts);
            let opening = tunnel_opening(&facts, &target, &route, scheme);
            let failure = destination::blocked(&target, &route);
            reporter.start(&opening, || head).fail(failure, None);
        }
        (Begins::Tls(hello), Action::Intercept) if speaks_http(&hello) => {
            let unopened = Unopened {
                target,
                head,
                facts,
                hops,
                subject,
                process,
                login,
                route,
                hello,
            };
            return open_tls(unopened, wire, engine, reporter).await;
        }
        (begins @ (Begins::PlainHttp | Begins::PlainHttp2), Action::Intercept) => {
            let asker = asker(&facts, hops, engine);
            let (by, to) = ((subject, login), (&target, scheme, asker));
            let inside = inside(to, facts, route, by, engine);
            let is_http2 = matches!(begins, Begins::PlainHttp2);
            return Some(Opened {
                transport: Transport::Plain(wire),
                inside,
                is_http2,
            });
        }
        (_, action) => {
            let route = match action {
                Action::Intercept => Arc::new(not_http()),
                Action::Tunnel | Action::Block => route,
            };
            facts.tls = Err(NoTls::Tunnelled);
            let facts = Arc::new(facts);
            let opening = tunnel_opening(&facts, &target, &route, scheme);
            let asker = asker(&facts, hops, engine);
            match engine.upstreams.tunnel_to(&target, &asker).await {
                Ok(dialled) => pass(wire, dialled, &opening, &head, engine, reporter).await,
                Err(failure) => reporter.start(&opening, || head).fail(failure, None),
            }
        }
    }
    None
}

/// The route of a connection by its first bytes.
fn route_begun(begins: &Begins, target: &Target, engine: &Engine) -> Route {
    let permits = |hello| engine.client_side.permits(&server_name(hello, target));
    if engine.local_site(target).is_some() {
        let action = match begins {
            Begins::PlainHttp | Begins::PlainHttp2 => Action::Intercept,
            Begins::Tls(hello) if speaks_http(hello) && permits(hello) => Action::Intercept,
            // There is nobody behind it that it could be passed to.
            _ => Action::Block,
        };
        let rule = "the local site".to_owned();
        return Route { action, rule };
    }
    let route = engine.rules.route(&Facts {
        target,
        opening: begins.opening(),
    });
    match (begins, route.action) {
        (Begins::Tls(hello), Action::Intercept) if !permits(hello) => {
            engine.rules.route_outside_constraints()
        }
        _ => route,
    }
}

/// True if HTTP is among what the client wants to speak; a client that says nothing may.
fn speaks_http(hello: &ClientHello) -> bool {
    let is_http = |name: &Vec<u8>| {
        matches!(
            name.as_slice(),
            b"h2" | b"http/1.1" | b"http/1.0" | b"http/0.9"
        )
    };
    hello.alpn.is_empty() || hello.alpn.iter().any(is_http)
}

fn not_http() -> Route {
    Route {
        action: Action::Tunnel,
        rule: "no HTTP in the ALPN of the ClientHello".to_owned(),
    }
}

/// A connection whose requests can be read.
pub(crate) struct Opened {
    pub(crate) transport: Transport,
    pub(crate) inside: Arc<Inside>,
    pub(crate) is_http2: bool,
}

/// A connection whose TLS is to be ended here.
struct Unopened {
    target: Target,
    head: Head,
    facts: ConnectionFacts,
    hops: Hops,
    subject: Option<Subject>,
    process: Option<Arc<ConnectionProcess>>,
    login: Option<Arc<Login>>,
    route: Arc<Route>,
    hello: Arc<ClientHello>,
}

/// For whom the client wants a certificate.
fn server_name(hello: &ClientHello, target: &Target) -> Host {
    let named = hello.sni.as_deref().and_then(|name| Host::parse(name).ok());
    named.unwrap_or_else(|| target.host.clone())
}

/// Ends TLS towards the client, offering what the upstream speaks.
async fn open_tls(
    unopened: Unopened,
    wire: Replay,
    engine: &Arc<Engine>,
    reporter: &mut Reporter,
) -> Option<Opened> {
    let Unopened {
        target,
        head,
        mut facts,
        hops,
        subject,
        process,
        login,
        route,
        hello,
    } = unopened;
    let server_name = server_name(&hello, &target);
    let asker = asker(&facts, hops, engine);
    let hosts = &engine.upstreams;
    let upstream = hosts.host(Scheme::Https, &target, server_name.clone(), asker);
    let gateway = engine.gateways.of_host(&target);
    let (alpn, dial_failure) = match (engine.local_site(&target), gateway) {
        (Some(_), _) => (offered(&hello), None),
        // Its requests go to a gateway, or some do, which the host need not be there for. Which of the
        // two a request cannot reach is told when it is turned to one.
        (None, Some(gateway)) => {
            let gateway = Destination::gateway(gateway, engine);
            (agree(&hello, &gateway, engine).await.0, None)
        }
        (None, None) => agree(&hello, &upstream, engine).await,
    };
    let config = engine.client_side.server_config(&server_name, alpn);
    let handshake = TlsAcceptor::from(config).accept(wire);
    let handshake = tokio::time::timeout(engine.timeouts.tls, handshake).await;
    let is_tls = matches!(handshake, Ok(Ok(_)));
    engine.counters.client_handshakes.count(is_tls);
    let failure = match handshake {
        Ok(Ok(tls)) => {
            engine.rejections.accepted(facts.process.as_ref());
            let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            let sni = hello.sni.as_deref();
            facts.tls = Ok(upstream_side::facts(tls.get_ref().1, sni, false));
            facts.tls_done_at = Some(clock::now());
            let subject = subject.map(|subject| subject.with_tls(&facts));
            let to = Destination {
                target,
                scheme: Scheme::Https,
                route,
                connection: Arc::new(facts),
                upstream,
            };
            let inside = Arc::new(Inside {
                to: Arc::new(to),
                dial_failure: Mutex::new(dial_failure),
                subject,
                login,
                reverse: false,
            });
            let transport = Transport::Tls(Box::new(TlsStream::Server(tls)));
            return Some(Opened {
                transport,
                inside,
                is_http2,
            });
        }
        Ok(Err(error)) => {
            let (kind, text) = client_side::client_failure(&error, &hello);
            let failure = error::failure(Side::Client, Stage::Tls, kind, text);
            match kind {
                FailureKind::ClientDistrusts => {
                    let process = found(process.as_deref()).await;
                    count_refusal(failure, &target.host, process.as_deref(), engine, reporter)
                }
                _ => failure,
            }
        }
        Err(_) => error::timed_out(
            Side::Client,
            Stage::Tls,
            "did not finish the TLS handshake in time",
        ),
    };
    facts.tls = Err(NoTls::HandshakeFailed);
    let facts = Arc::new(facts);
    let opening = tunnel_opening(&facts, &target, &route, Scheme::Https);
    reporter.start(&opening, || head).fail(failure, None);
    None
}

/// Counts that a client refused our certificate, and says so once it is plain that it will not
/// take it.
fn count_refusal(
    mut failure: Failure,
    host: &Host,
    process: Option<&ProcessInfo>,
    engine: &Engine,
    reporter: &mut Reporter,
) -> Failure {
    let rules = &engine.rejection_rules;
    let refused = engine
        .rejections
        .refused(host, process, rules, clock::now());
    if refused.pinned {
        failure.kind = FailureKind::ClientPinned;
        failure
            .text
            .push_str("; the same process takes oriel's certificates for others");
    }
    if let Some(told) = refused.told {
        reporter.certificate_refused(told);
    }
    failure
}

/// Finds out what the upstream speaks, by dialling it if it is not known, and so what the client
/// is offered. A connection may be opened by this; no byte of a request is sent.
pub(crate) async fn agree(
    hello: &ClientHello,
    upstream: &Upstream,
    engine: &Engine,
) -> (ClientAlpn, Option<Failure>) {
    let offered = offered(hello);
    if offered != ClientAlpn::Both {
        return (offered, None);
    }
    match upstream.speaks() {
        Speaks::Http1 => (ClientAlpn::Http11, None),
        Speaks::Http2 | Speaks::OnlyHttp2 => (ClientAlpn::Both, None),
        Speaks::Unknown => match engine.upstreams.acquire(upstream, Offer::Any).await {
            Ok(Lease::Http1(lease)) => {
                engine.upstreams.give_back(upstream, lease);
                (ClientAlpn::Http11, None)
            }
            Ok(Lease::Http2(_)) => (ClientAlpn::Both, None),
            Err(failure) => (ClientAlpn::Both, Some(failure)),
        },
    }
}

/// What the client offers of what we speak.
pub(crate) fn offered(hello: &ClientHello) -> ClientAlpn {
    let offers = |protocol: &[u8]| hello.alpn.iter().any(|name| name == protocol);
    match (offers(b"h2"), offers(b"http/1.1")) {
        (true, _) => ClientAlpn::Both,
        (false, true) => ClientAlpn::Http11,
        // A client of HTTP/1.0 is served without a word about it.
        (false, false) => ClientAlpn::None,
    }
}

/// For whom a target is dialled.
fn asker(facts: &ConnectionFacts, hops: Hops, engine: &Engine) -> Asker {
    let reach = engine.upstreams.dialer.reach_of(facts.client_address);
    Asker { reach, hops }
}

fn inside(
    (target, scheme, asker): (&Target, Scheme, Asker),
    facts: ConnectionFacts,
    route: Arc<Route>,
    (subject, login): (Option<Subject>, Option<Arc<Login>>),
    engine: &Engine,
) -> Arc<Inside> {
    let facts = Arc::new(facts);
    Arc::new(Inside {
        to: Destination::asked_for(target.clone(), scheme, &route, &facts, (engine, asker)),
        dial_failure: Mutex::new(None),
        subject,
        login,
        reverse: false,
    })
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
    target: &'a Target,
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
    let mut flow = reporter.start(opening, || head.clone());
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
