//! ONE client connection from its first byte to its last. Read this first.
//!
//! accepted → what the listener asks for (`entrance.rs`) → front (whom does the client want?) → first bytes, looked at and not consumed → route
//! (pure) → block, tunnel or intercept → TLS → requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};
use traffic::rules::route::{Facts, Opening as FirstBytes, Rules};
use traffic::wire::client_hello::ClientHello;
use traffic::{
    Action, ClientAddress, ConnectionFacts, ConnectionId, Failure, FailureKind, FlowKind, Front,
    Head, Host, ListenAddress, NoTls, ProcessInfo, Route, Scheme, Side, Stage, Target,
};

use crate::clock;
use crate::config::{
    self, ConnectPorts, Credentials, Governor, ListenerMode, ReverseTo, SniMismatch, Timeouts,
};
use crate::destination::{self, Destination, FrontFacts, Scope};
use crate::entrance::{self, Entrance, Refused};
use crate::error;
use crate::first_bytes::{self, Begins, Spoken};
use crate::governor::{self, Clients, Place};
use crate::handler::{Gate, LaneKey, Subject};
use crate::http1::connection::Http1;
use crate::http1::serve::{self as http1, Served};
use crate::http2::serve as http2;
use crate::limits::LINGER;
use crate::listen::Accepted;
use crate::metrics::{Counters, Protocol};
use crate::process::{Attribution, ConnectionProcess};
use crate::refuse::Refusal;
use crate::rejections::Rejections;
use crate::shutdown::{Stop, Tasks};
use crate::socks5;
use crate::stream::{Replay, Transport};
use crate::tap::{Opening, Reporter, Tap};
use crate::tls::client_side::{self, ClientAlpn, ClientSide};
use crate::tls::upstream_side;
use crate::tunnel;
use crate::upstream::{HostKey, Lease, Offer, Speaks, Upstream, Upstreams};

/// What all connections of one engine share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) rules: Arc<Rules>,
    pub(crate) connect_ports: ConnectPorts,
    /// By the number of the listener.
    pub(crate) entrances: Vec<Entrance>,
    pub(crate) timeouts: Timeouts,
    pub(crate) client_side: ClientSide,
    pub(crate) upstreams: Upstreams,
    pub(crate) tap: Arc<Tap>,
    pub(crate) sni_mismatch: SniMismatch,
    pub(crate) rejections: Arc<Rejections>,
    pub(crate) rejection_rules: config::Rejections,
    /// The handler, if there is one.
    pub(crate) gate: Option<Arc<Gate>>,
    /// What finds the processes behind connections, where they are to be found.
    pub(crate) attribution: Option<(Arc<Attribution>, Duration)>,
    /// Where it does so.
    pub(crate) lookups: Arc<Tasks>,
    pub(crate) stop: Stop,
    pub(crate) connections: Arc<AtomicU64>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) governor: Governor,
}

/// A connection that was opened to one target.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) to: Arc<Destination>,
    /// Why the upstream could not be reached when the connection was opened; the first request
    /// is answered with it.
    pub(crate) dial_failure: Mutex<Option<Failure>>,
    /// Who asks, where a handler is to know.
    pub(crate) subject: Option<Subject>,
    /// The client takes oriel for the upstream, and so names oriel as the host.
    pub(crate) reverse: bool,
}

/// A request for a tunnel, and the means to answer it.
pub(crate) struct ConnectAsked {
    pub(crate) target: Target,
    pub(crate) head: Head,
    pub(crate) facts: ConnectionFacts,
    pub(crate) subject: Option<Subject>,
    pub(crate) process: Option<Arc<ConnectionProcess>>,
    pub(crate) answer: ConnectAnswer,
}

/// Where the answer to a CONNECT goes.
pub(crate) enum ConnectAnswer {
    Http1(Box<Http1>),
    Http2(http2::ConnectStream),
    Socks5(Replay),
}

impl Engine {
    /// Why there is no room for another flow, of which `uncounted` are not among those that have
    /// begun yet.
    pub(crate) fn busy(&self, uncounted: u64) -> Option<Failure> {
        let max = self.governor.flows_max;
        let under_way = self.counters.active_flows() + uncounted;
        (under_way > max as u64).then(|| {
            governor::busy(format!(
                "{max} requests and tunnels are under way, which is as many as allowed"
            ))
        })
    }

    /// Has the process behind an accepted connection found, beside its traffic. Soon: a client
    /// that has gone cannot be found any more.
    fn process_behind(
        &self,
        connection: ConnectionId,
        client: ClientAddress,
        proxy: &ListenAddress,
    ) -> Option<Arc<ConnectionProcess>> {
        let (attribution, limit) = self.attribution.as_ref()?;
        let attribution = Arc::clone(attribution);
        let process = match (client, proxy) {
            (ClientAddress::Tcp(client), ListenAddress::Tcp(proxy)) => {
                ConnectionProcess::of_tcp(attribution, client, *proxy)
            }
            (ClientAddress::Unix(peer), _) => {
                ConnectionProcess::of_unix(attribution, peer.pid?, peer.uid)
            }
            (ClientAddress::Tcp(_), ListenAddress::Unix(_)) => return None,
        };
        let process = Arc::new(process.within(*limit));
        let (wanted, gate) = (Arc::clone(&process), self.gate.clone());
        let counters = Arc::clone(&self.counters);
        self.lookups.spawn("process of a client", async move {
            let found = wanted.find().await;
            counters.process_looked_for(&found);
            if let (Ok(found), Some(gate)) = (found, gate) {
                gate.learn_process(LaneKey::Connection(connection), &found);
            }
        });
        Some(process)
    }
}

/// A connection that is let in and may say whom it wants.
struct Entered {
    wire: Replay,
    facts: ConnectionFacts,
    subject: Option<Subject>,
    process: Option<Arc<ConnectionProcess>>,
    reporter: Reporter,
    /// Why the one upstream could not be reached, if that was tried already.
    dial_failure: Option<Failure>,
    /// Among the connections of its client.
    place: Place,
}

/// A connection, or a stream of one, whose client wants a tunnel.
pub(crate) struct Asked {
    pub(crate) connect: ConnectAsked,
    pub(crate) reporter: Reporter,
    /// Among the connections of its client, unless who serves the connection holds it.
    pub(crate) place: Option<Place>,
}

/// Follows one accepted connection to its end.
pub(crate) async fn run(accepted: Accepted, engine: Arc<Engine>) {
    let engine = &engine;
    let _counted = engine.counters.connection();
    let Some(entrance) = engine.entrances.get(accepted.listener) else {
        return;
    };
    // In boxes, so that a connection holds the room of the step that it is at, and for idling
    // between two requests as little as there can be.
    let entered = tokio::select! {
        biased;
        entered = Box::pin(enter(accepted, entrance, engine)) => entered,
        () = engine.stop.asked() => return,
    };
    match (entered, &entrance.mode) {
        (Ok(entered), ListenerMode::Forward) => {
            let asked = Box::pin(front(entered, entrance.credentials.as_ref(), engine)).await;
            if let Some(asked) = asked {
                connect(asked, engine).await;
            }
        }
        (Ok(entered), ListenerMode::Reverse(to)) => {
            Box::pin(reverse(entered, to, engine)).await;
        }
        (Err(Refused::TooMany(wire)), _) => Box::pin(turn_away(*wire, engine)).await,
        (Err(error), _) => tracing::debug!(%error, "a connection was not let in"),
    }
}

/// Passes what the listener asks for before anything else: the header of a load balancer, TLS.
async fn enter(
    accepted: Accepted,
    entrance: &Entrance,
    engine: &Arc<Engine>,
) -> Result<Box<Entered>, Refused> {
    let accepted_at = clock::now();
    let connection = ConnectionId(engine.connections.fetch_add(1, Ordering::Relaxed));
    let mut wire = Replay::new(accepted.wire);
    let named = match entrance.proxy_protocol {
        true => entrance::read_header(&mut wire, engine.timeouts.head).await?,
        false => None,
    };
    let client_address = named.unwrap_or(accepted.client_address);
    let max = engine.governor.connections_per_client_max;
    let Some(place) = engine.clients.admit(client_address, max) else {
        engine.counters.turned_away();
        return Err(match entrance.tls {
            None => Refused::TooMany(Box::new(wire)),
            // A handshake is more than it is to cost.
            Some(_) => Refused::Busy,
        });
    };
    let process = match named {
        None => engine.process_behind(connection, client_address, &accepted.proxy_address),
        // What connected is the load balancer.
        Some(_) => None,
    };
    let mut facts = ConnectionFacts {
        connection,
        client_address,
        proxy_address: accepted.proxy_address,
        accepted_at,
        front: Front::Connect,
        process: process.as_ref().map(|process| process.known()),
        hello: None,
        tls: Err(NoTls::PlainHttp),
        tls_done_at: None,
    };
    let mut reporter = engine.tap.reporter(Protocol::Http1);
    let mut subject = engine.gate.as_ref().map(|gate| {
        let (subject, lane) = Subject::open(gate, &facts, process.clone());
        reporter.attach(lane);
        subject
    });
    let mut dial_failure = None;
    if let Some(side) = &entrance.tls {
        let hello = entrance::read_hello(&mut wire, engine.timeouts.tls).await?;
        let alpn = match &entrance.mode {
            ListenerMode::Forward => offered(&hello),
            ListenerMode::Reverse(to) => {
                let upstream = engine.upstreams.host(HostKey {
                    scheme: to.scheme,
                    server_name: to.target.host.clone(),
                    target: to.target.clone(),
                });
                let (alpn, failure) = agree(&hello, &upstream, engine).await;
                dial_failure = failure;
                alpn
            }
        };
        facts.hello = Some(hello);
        let limit = engine.timeouts.tls;
        wire = entrance::open_tls(wire, side, alpn, &mut facts, limit).await?;
        subject = subject.map(|subject| subject.with_tls(&facts));
    }
    Ok(Box::new(Entered {
        wire,
        facts,
        subject,
        process,
        reporter,
        dial_failure,
        place,
    }))
}

/// Tells a client that has too many connections to come again, once it has asked for something.
async fn turn_away(mut wire: Replay, engine: &Engine) {
    let max = engine.governor.connections_per_client_max;
    let text = format!("{max} connections of this client are open, which is as many as allowed");
    let failure = governor::busy(text);
    let refusal = Refusal::new(&failure, None);
    let limit = engine.timeouts.head;
    match spoken(&mut wire, engine).await {
        None => {}
        Some(Spoken::Http2) => http2::turn_away(Transport::Plain(wire), &refusal, limit).await,
        Some(Spoken::Socks) => {
            let asked = socks5::read_request(&mut wire, None, limit).await;
            if asked.is_ok() {
                socks5::refuse(wire, &failure).await;
            }
        }
        Some(Spoken::Http1) => {
            let mut client = Http1::new(Transport::Plain(wire), BytesMut::new());
            if client.read_head(limit, limit).await.is_ok() {
                let is_head = client.input.starts_with(b"HEAD ");
                refusal.write(false, !is_head, &mut client.output);
                client.close(LINGER).await;
            }
        }
    }
}

/// Learns whom the client wants, and serves it unless it wants a tunnel.
async fn front(
    entered: Box<Entered>,
    credentials: Option<&Credentials>,
    engine: &Arc<Engine>,
) -> Option<Box<Asked>> {
    let Entered {
        mut wire,
        mut facts,
        subject,
        process,
        mut reporter,
        dial_failure: _,
        place,
    } = *entered;
    let spoken = spoken(&mut wire, engine).await?;
    let connect = if spoken == Spoken::Socks {
        let asked = socks5::read_request(&mut wire, credentials, engine.timeouts.head).await;
        let target = match asked {
            Ok(target) => target,
            Err(error) => {
                tracing::debug!(%error, "no SOCKS request");
                return None;
            }
        };
        facts.front = Front::Socks5;
        ConnectAsked {
            head: socks5::head(&target),
            target,
            facts,
            subject,
            process,
            answer: ConnectAnswer::Socks5(wire),
        }
    } else {
        let front = FrontFacts::new(
            &facts,
            subject.clone(),
            process.clone(),
            credentials.cloned(),
        );
        let (scope, transport) = (Scope::Front(front), Transport::Plain(wire));
        if spoken == Spoken::Http2 {
            http2::serve(transport, scope, Some(facts), engine).await;
            return None;
        }
        let client = Box::new(Http1::new(transport, BytesMut::new()));
        match http1::serve(client, scope, engine, &mut reporter).await {
            Served::Closed => return None,
            Served::Connect {
                client,
                target,
                head,
            } => ConnectAsked {
                target,
                head,
                facts,
                subject,
                process,
                answer: ConnectAnswer::Http1(client),
            },
        }
    };
    Some(Box::new(Asked {
        connect,
        reporter,
        place: Some(place),
    }))
}

/// Serves a client that takes oriel for the upstream. It is served whatever the rules say of the
/// upstream: who stands a listener in front of it wants that.
async fn reverse(entered: Box<Entered>, to: &ReverseTo, engine: &Arc<Engine>) {
    let Entered {
        mut wire,
        mut facts,
        subject,
        process: _,
        mut reporter,
        dial_failure,
        place: _place,
    } = *entered;
    let Some(spoken) = spoken(&mut wire, engine).await else {
        return;
    };
    facts.front = Front::Reverse;
    let route = Arc::new(Route {
        action: Action::Intercept,
        rule: "the reverse listener".to_owned(),
    });
    let (target, scheme, facts) = (to.target.clone(), to.scheme, Arc::new(facts));
    let inside = Arc::new(Inside {
        to: Destination::redirected(target, scheme, &route, &facts, engine),
        dial_failure: Mutex::new(dial_failure),
        subject,
        reverse: true,
    });
    let opened = Opened {
        transport: Transport::Plain(wire),
        inside,
        is_http2: spoken == Spoken::Http2,
    };
    serve(opened, engine, &mut reporter).await;
}

/// What the client speaks; `None` if the engine stops before that is clear.
async fn spoken(wire: &mut Replay, engine: &Engine) -> Option<Spoken> {
    tokio::select! {
        biased;
        spoken = first_bytes::spoken(wire, engine.timeouts.head) => Some(spoken),
        () = engine.stop.asked() => None,
    }
}

/// Answers a CONNECT: refuses it, tunnels it, or opens what comes through it and serves that.
pub(crate) async fn connect(asked: Box<Asked>, engine: &Arc<Engine>) {
    let Asked {
        connect,
        mut reporter,
        place: _place,
    } = *asked;
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
    let route = engine.rules.route(&Facts {
        target: &asked.target,
        opening: FirstBytes::Unseen,
    });
    if let Some(failure) = refused(&asked.target, &route, engine) {
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

fn refused(target: &Target, route: &Route, engine: &Engine) -> Option<Failure> {
    if let Some(failure) = destination::own(target, engine) {
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
        return engine.busy(1);
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
    let dialled = match engine.upstreams.dial(&asked.target).await {
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
        subject,
        process,
        answer,
    } = asked;
    let mut wire = answer.accept(engine.timeouts.head).await.ok()?;
    let begins = first_bytes::read(&mut wire, engine.timeouts.head).await;
    let route = engine.rules.route(&Facts {
        target: &target,
        opening: begins.opening(),
    });
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
                subject,
                process,
                route,
                hello,
            };
            return open_tls(unopened, wire, engine, reporter).await;
        }
        (begins @ (Begins::PlainHttp | Begins::PlainHttp2), Action::Intercept) => {
            let inside = inside(&target, scheme, facts, route, subject, engine);
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
            match engine.upstreams.dial(&target).await {
                Ok(dialled) => pass(wire, dialled, &opening, &head, engine, reporter).await,
                Err(failure) => reporter.start(&opening, || head).fail(failure, None),
            }
        }
    }
    None
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
struct Opened {
    transport: Transport,
    inside: Arc<Inside>,
    is_http2: bool,
}

/// A connection whose TLS is to be ended here.
struct Unopened {
    target: Target,
    head: Head,
    facts: ConnectionFacts,
    subject: Option<Subject>,
    process: Option<Arc<ConnectionProcess>>,
    route: Arc<Route>,
    hello: Arc<ClientHello>,
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
        subject,
        process,
        route,
        hello,
    } = unopened;
    let server_name = match &hello.sni {
        Some(name) => Host::parse(name).unwrap_or_else(|_error| target.host.clone()),
        None => target.host.clone(),
    };
    let key = HostKey {
        scheme: Scheme::Https,
        target: target.clone(),
        server_name: server_name.clone(),
    };
    let upstream = engine.upstreams.host(key);
    let (alpn, dial_failure) = agree(&hello, &upstream, engine).await;
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
async fn agree(
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
fn offered(hello: &ClientHello) -> ClientAlpn {
    let offers = |protocol: &[u8]| hello.alpn.iter().any(|name| name == protocol);
    match (offers(b"h2"), offers(b"http/1.1")) {
        (true, _) => ClientAlpn::Both,
        (false, true) => ClientAlpn::Http11,
        // A client of HTTP/1.0 is served without a word about it.
        (false, false) => ClientAlpn::None,
    }
}

fn inside(
    target: &Target,
    scheme: Scheme,
    facts: ConnectionFacts,
    route: Arc<Route>,
    subject: Option<Subject>,
    engine: &Engine,
) -> Arc<Inside> {
    let facts = Arc::new(facts);
    Arc::new(Inside {
        to: Destination::redirected(target.clone(), scheme, &route, &facts, engine),
        dial_failure: Mutex::new(None),
        subject,
        reverse: false,
    })
}

/// Serves the requests of a connection that was opened.
async fn serve(opened: Opened, engine: &Arc<Engine>, reporter: &mut Reporter) {
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
    (stream, dialled): (TcpStream, crate::upstream::Dialled),
    opening: &Opening<'_>,
    head: &Head,
    engine: &Engine,
    reporter: &mut Reporter,
) {
    let mut flow = reporter.start(opening, || head.clone());
    flow.upstream(&dialled.facts(None, None), false);
    flow.hand_over();
    tunnel::run(wire, stream, engine.timeouts.idle_body, flow.passed()).await;
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
