//! ONE client connection from its first byte to its last. Read this first.
//!
//! accepted → what the listener asks for (`entrance.rs`) → front (whom does the client want?) →
//! first bytes, looked at and not consumed → route (pure) → block, tunnel or intercept → TLS →
//! requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use traffic::rules::gateway::GatewayRoutes;
use traffic::rules::private::Reach;
use traffic::rules::route::Rules;
use traffic::wire::client_hello::ClientHello;
use traffic::{
    Action, ClientAddress, ConnectionFacts, ConnectionId, Failure, Front, ListenAddress, NoTls,
    Route, Target,
};

use crate::admission::{Door, Gatekeeper, Guest, Login};
use crate::clock;
use crate::config::{self, ConnectPorts, Governor, ListenerMode, ReverseTo, SniMismatch, Timeouts};
use crate::connect::{self, Asked, ConnectAnswer, ConnectAsked, Opened};
use crate::destination::{Destination, FrontFacts, Scope};
use crate::entrance::{self, Entrance, Refused};
use crate::first_bytes::{self, Spoken};
use crate::governor::{self, Clients, Place};
use crate::handler::{Cut, Gate, LaneKey, Subject};
use crate::hops::Hops;
use crate::http1::connection::Http1;
use crate::http1::serve::{self as http1, Served};
use crate::http2::serve as http2;
use crate::limits::LINGER;
use crate::listen::Accepted;
use crate::local_site::LocalSite;
use crate::metrics::{Counters, Protocol};
use crate::process::{Attribution, ConnectionProcess};
use crate::refuse::Refusal;
use crate::rejections::Rejections;
use crate::shutdown::{Stop, Tasks};
use crate::socks5;
use crate::stream::{Replay, Transport};
use crate::tap::{Reporter, Tap};
use crate::tls::client_side::{ClientAlpn, ClientSide};
use crate::upstream::Upstreams;

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
    pub(crate) gateways: GatewayRoutes,
    pub(crate) local_site: Option<Arc<LocalSite>>,
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
    /// is answered with it, if it is to go there.
    pub(crate) dial_failure: Mutex<Option<Failure>>,
    /// Who asks, where a handler is to know.
    pub(crate) subject: Option<Subject>,
    /// By what the client was admitted, where it had to say who it is.
    pub(crate) guest: Option<Guest>,
    /// The client takes oriel for the upstream, and so names oriel as the host.
    pub(crate) reverse: bool,
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

    /// The site that answers for this target, if it is here.
    pub(crate) fn local_site(&self, target: &Target) -> Option<&LocalSite> {
        self.local_site.as_deref().filter(|site| site.is_at(target))
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

impl Entered {
    /// What is known of it with every request that names its target.
    fn front(&self, gatekeeper: Option<&Arc<Gatekeeper>>) -> FrontFacts {
        let (subject, process) = (self.subject.clone(), self.process.clone());
        FrontFacts::new(&self.facts, subject, process, gatekeeper.cloned())
    }
}

/// Follows one accepted connection to its end, or until it is cut by a panic of the handler.
pub(crate) async fn run(accepted: Accepted, engine: Arc<Engine>) {
    let _counted = engine.counters.connection();
    let cut = engine.gate.as_ref().and_then(|gate| gate.cut());
    let Some(cut) = cut else {
        return follow(accepted, None, &engine).await;
    };
    tokio::select! {
        biased;
        () = follow(accepted, Some(&cut), &engine) => {}
        () = cut.asked() => {}
    }
}

async fn follow(accepted: Accepted, cut: Option<&Arc<Cut>>, engine: &Arc<Engine>) {
    let Some(entrance) = engine.entrances.get(accepted.listener) else {
        return;
    };
    // In boxes, so that a connection holds the room of the step that it is at, and for idling
    // between two requests as little as there can be.
    let entered = tokio::select! {
        biased;
        entered = Box::pin(enter(accepted, cut, entrance, engine)) => entered,
        () = engine.stop.asked_while_fresh() => return,
    };
    match (entered, &entrance.mode) {
        (Ok(entered), ListenerMode::Forward) => {
            let asked = Box::pin(front(entered, entrance.gatekeeper.as_ref(), engine)).await;
            if let Some(asked) = asked {
                connect::connect(asked, engine).await;
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
    cut: Option<&Arc<Cut>>,
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
    let mut facts = ConnectionFacts {
        connection,
        client_address,
        proxy_address: accepted.proxy_address,
        accepted_at,
        front: Front::Connect,
        user: None,
        process: None,
        hello: None,
        tls: Err(NoTls::PlainHttp),
        tls_done_at: None,
    };
    let max = engine.governor.connections_per_client_max;
    let Some(place) = engine.clients.admit(client_address, max) else {
        engine.counters.turned_away();
        if let Some(side) = &entrance.tls {
            let limit = engine.timeouts.tls;
            let hello = entrance::read_hello(&mut wire, limit).await?;
            let alpn = connect::offered(&hello);
            wire = entrance::open_tls(wire, side, alpn, &mut facts, limit).await?;
        }
        return Err(Refused::TooMany(Box::new(wire)));
    };
    let process = match named {
        None => engine.process_behind(connection, client_address, &facts.proxy_address),
        // What connected is the load balancer.
        Some(_) => None,
    };
    facts.process = process.as_ref().map(|process| process.known());
    let mut reporter = engine.tap.reporter(Protocol::Http1);
    let mut subject = engine.gate.as_ref().map(|gate| {
        let (subject, lane) = Subject::open(gate, &facts, process.clone(), cut.map(Arc::clone));
        reporter.attach(lane);
        subject
    });
    let mut dial_failure = None;
    if let Some(side) = &entrance.tls {
        let limit = engine.timeouts.tls;
        let hello = entrance::read_hello(&mut wire, limit).await?;
        let alpn;
        (alpn, dial_failure) = offer(&hello, &entrance.mode, engine).await;
        facts.hello = Some(hello);
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

/// What a client that speaks TLS to a listener is offered, and why the upstream of a reverse one could
/// not be asked, where it could not.
async fn offer(
    hello: &ClientHello,
    mode: &ListenerMode,
    engine: &Engine,
) -> (ClientAlpn, Option<Failure>) {
    match mode {
        ListenerMode::Forward => (connect::offered(hello), None),
        ListenerMode::Reverse(to) => {
            let (hosts, host) = (&engine.upstreams, to.target.host.clone());
            let upstream = hosts.host(to.scheme, &to.target, host, Reach::Everywhere);
            connect::agree(hello, &upstream, engine).await
        }
    }
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
    mut entered: Box<Entered>,
    gatekeeper: Option<&Arc<Gatekeeper>>,
    engine: &Arc<Engine>,
) -> Option<Box<Asked>> {
    match spoken(&mut entered.wire, engine).await? {
        Spoken::Socks => socks(entered, gatekeeper, engine).await,
        Spoken::Http1 => http(entered, gatekeeper, engine).await,
        Spoken::Http2 => {
            let scope = Scope::Front(entered.front(gatekeeper));
            let transport = Transport::Plain(entered.wire);
            http2::serve(transport, scope, Some(entered.facts), engine).await;
            None
        }
    }
}

/// Reads whom a client of SOCKS 5 wants.
async fn socks(
    entered: Box<Entered>,
    gatekeeper: Option<&Arc<Gatekeeper>>,
    engine: &Arc<Engine>,
) -> Option<Box<Asked>> {
    let Entered {
        mut wire,
        mut facts,
        subject,
        process,
        reporter,
        dial_failure: _,
        place,
    } = *entered;
    let door = gatekeeper.map(|keeper| Door {
        keeper,
        client: facts.client_address,
    });
    let asked = socks5::read_request(&mut wire, door, engine.timeouts.head).await;
    let asked = asked.inspect_err(|error| tracing::debug!(%error, "no SOCKS request"));
    let (target, login) = asked.ok()?;
    facts.front = Front::Socks5;
    let connect = ConnectAsked {
        head: socks5::head(&target),
        target: Arc::new(target),
        facts,
        hops: Hops::default(),
        subject,
        process,
        guest: guest(gatekeeper, login.map(Arc::new)),
        answer: ConnectAnswer::Socks5(wire),
    };
    Some(Box::new(Asked {
        connect,
        reporter,
        place: Some(place),
    }))
}

/// Serves the requests of a client, up to a CONNECT.
async fn http(
    entered: Box<Entered>,
    gatekeeper: Option<&Arc<Gatekeeper>>,
    engine: &Arc<Engine>,
) -> Option<Box<Asked>> {
    let scope = Scope::Front(entered.front(gatekeeper));
    let Entered {
        wire,
        facts,
        subject,
        process,
        mut reporter,
        dial_failure: _,
        place,
    } = *entered;
    let client = Box::new(Http1::new(Transport::Plain(wire), BytesMut::new()));
    let served = http1::serve(client, scope, engine, &mut reporter).await;
    let Served::Connect {
        client,
        target,
        head,
        login,
    } = served
    else {
        return None;
    };
    let connect = ConnectAsked {
        target: Arc::new(target),
        hops: Hops::of_connect(&head.text),
        head,
        facts,
        subject,
        process,
        guest: guest(gatekeeper, login),
        answer: ConnectAnswer::Http1(client),
    };
    Some(Box::new(Asked {
        connect,
        reporter,
        place: Some(place),
    }))
}

/// Who was admitted, and by whom, where somebody is asked.
fn guest(gatekeeper: Option<&Arc<Gatekeeper>>, login: Option<Arc<Login>>) -> Option<Guest> {
    let keeper = Arc::clone(gatekeeper?);
    login.map(|login| Guest { login, keeper })
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
        guest: None,
        reverse: true,
    });
    let opened = Opened {
        transport: Transport::Plain(wire),
        inside,
        is_http2: spoken == Spoken::Http2,
    };
    connect::serve(opened, engine, &mut reporter).await;
}

/// What the client speaks; `None` if the engine stops before that is clear.
async fn spoken(wire: &mut Replay, engine: &Engine) -> Option<Spoken> {
    tokio::select! {
        biased;
        spoken = first_bytes::spoken(wire, engine.timeouts.head) => Some(spoken),
        () = engine.stop.asked_while_fresh() => None,
    }
}
