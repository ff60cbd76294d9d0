//! Opens what comes through a CONNECT that is to be seen: looks at how it begins, ends TLS, and hands
//! over a connection whose requests can be read. What cannot be opened is tunnelled or ended here,
//! and reported.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_rustls::{TlsAcceptor, TlsStream};
use traffic::rules::route::Facts;
use traffic::wire::client_hello::ClientHello;
use traffic::{
    Action, ConnectionFacts, Failure, FailureKind, Head, Host, NoTls, ProcessInfo, Route, Scheme,
    Side, Stage, Target,
};

use super::{ConnectAsked, Opened, alpn, asker, found, pass, tunnel_opening};
use crate::admission::Guest;
use crate::clock;
use crate::config::SniMismatch;
use crate::connection::{Engine, Inside};
use crate::destination::{self, Destination};
use crate::error;
use crate::first_bytes::{self, Begins};
use crate::handler::Subject;
use crate::process::ConnectionProcess;
use crate::stream::{Replay, Transport};
use crate::tap::Reporter;
use crate::tls::client_side::{self, ClientAlpn};
use crate::tls::settled;
use crate::upstream::{Asker, Upstream};

/// A connection whose client was told yes, and which has begun.
struct Begun {
    target: Arc<Target>,
    /// Of the CONNECT.
    head: Head,
    facts: ConnectionFacts,
    asker: Asker,
    subject: Option<Subject>,
    process: Option<Arc<ConnectionProcess>>,
    guest: Option<Guest>,
    scheme: Scheme,
    route: Arc<Route>,
}

/// Opens a connection that is to be seen, or finds that it cannot be.
pub(super) async fn intercept(
    asked: ConnectAsked,
    engine: &Arc<Engine>,
    reporter: &mut Reporter,
) -> Option<Opened> {
    let mut wire = asked.answer.accept(engine.timeouts.head).await.ok()?;
    let begins = first_bytes::read(&mut wire, engine.timeouts.head).await;
    let mut begun = Begun {
        asker: asker(&asked.facts, asked.hops, engine),
        scheme: match begins {
            Begins::PlainHttp | Begins::PlainHttp2 => Scheme::Http,
            _ => Scheme::Https,
        },
        route: Arc::new(route(&begins, &asked.target, engine)),
        target: asked.target,
        head: asked.head,
        facts: asked.facts,
        subject: asked.subject,
        process: asked.process,
        guest: asked.guest,
    };
    if let Begins::Tls(hello) = &begins {
        begun.facts.hello = Some(Arc::clone(hello));
        if let Some(failure) = begun.misnamed(hello, engine) {
            client_side::refuse_name(&mut wire, engine.timeouts.tls).await;
            begun.fail_handshake(failure, reporter);
            return None;
        }
    }
    match (begins, begun.route.action) {
        (Begins::Nothing, _) => begun.end(None, reporter),
        (Begins::Unfinished, _) => {
            let what = "did not finish its ClientHello in time";
            let failure = error::timed_out(Side::Client, Stage::Tls, what);
            begun.end(Some(failure), reporter);
        }
        (_, Action::Block) => {
            let failure = destination::blocked(&begun.target, &begun.route);
            begun.end(Some(failure), reporter);
        }
        (_, Action::Tunnel) => begun.tunnel(wire, engine, reporter).await,
        (Begins::Tls(hello), Action::Intercept) if speaks_http(&hello) => {
            return begun.open_tls(&hello, wire, engine, reporter).await;
        }
        (Begins::PlainHttp, Action::Intercept) => return Some(begun.open(wire, false, engine)),
        (Begins::PlainHttp2, Action::Intercept) => return Some(begun.open(wire, true, engine)),
        (Begins::Tls(_) | Begins::Silent | Begins::Other, Action::Intercept) => {
            begun.route = Arc::new(not_http());
            begun.tunnel(wire, engine, reporter).await;
        }
    }
    None
}

/// The route of a connection by its first bytes.
fn route(begins: &Begins, target: &Target, engine: &Engine) -> Route {
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

/// For whom the client wants a certificate.
fn server_name(hello: &ClientHello, target: &Target) -> Host {
    let named = hello.sni.as_deref().and_then(|name| Host::parse(name).ok());
    named.unwrap_or_else(|| target.host.clone())
}

impl Begun {
    /// Why a connection whose ClientHello names another host than was asked for is not opened.
    fn misnamed(&self, hello: &ClientHello, engine: &Engine) -> Option<Failure> {
        let target = &self.target;
        if engine.sni_mismatch != SniMismatch::Deny || !hello.names_another_than(&target.host) {
            return None;
        }
        let sni = hello.sni.as_deref()?;
        let text = format!("the ClientHello names {sni}, and the CONNECT request {target}");
        let kind = FailureKind::SniMismatch;
        Some(error::failure(Side::Oriel, Stage::Route, kind, text))
    }

    /// A connection that speaks HTTP without TLS.
    fn open(self, wire: Replay, is_http2: bool, engine: &Engine) -> Opened {
        let by = (engine, self.asker);
        let facts = Arc::new(self.facts);
        let to = Destination::asked_for(self.target, self.scheme, &self.route, &facts, by);
        let inside = Inside {
            to,
            dial_failure: Mutex::new(None),
            subject: self.subject,
            guest: self.guest,
            reverse: false,
        };
        Opened {
            transport: Transport::Plain(wire),
            inside: Arc::new(inside),
            is_http2,
        }
    }

    /// Ends TLS towards the client, offering what the upstream speaks.
    async fn open_tls(
        self,
        hello: &ClientHello,
        mut wire: Replay,
        engine: &Engine,
        reporter: &mut Reporter,
    ) -> Option<Opened> {
        let server_name = server_name(hello, &self.target);
        let (hosts, asker) = (&engine.upstreams, self.asker.clone());
        let upstream = hosts.host(self.scheme, &self.target, server_name.clone(), asker);
        let (alpn, dial_failure) = self.offer(hello, &upstream, engine).await;
        let config = engine.client_side.server_config(&server_name, alpn);
        wire.withhold_last_flight();
        let handshake = TlsAcceptor::from(config).accept(wire);
        let handshake = tokio::time::timeout(engine.timeouts.tls, handshake).await;
        let is_tls = matches!(handshake, Ok(Ok(_)));
        engine.counters.client_handshakes.count(is_tls);
        let failure = match handshake {
            Ok(Ok(mut tls)) => {
                tls.get_mut().0.send_last_flight_with_next();
                engine.rejections.accepted(self.facts.process.as_ref());
                return Some(self.opened(tls, hello, upstream, dial_failure));
            }
            Ok(Err(error)) => match engine.client_side.own_failure(&error, &server_name) {
                Some(failure) => failure,
                None => self.refused(&error, hello, engine, reporter).await,
            },
            Err(_) => {
                let what = "did not finish the TLS handshake in time";
                error::timed_out(Side::Client, Stage::Tls, what)
            }
        };
        self.fail_handshake(failure, reporter);
        None
    }

    /// What the client is offered, and why the upstream could not be asked, where it could not.
    async fn offer(
        &self,
        hello: &ClientHello,
        upstream: &Upstream,
        engine: &Engine,
    ) -> (ClientAlpn, Option<Failure>) {
        if engine.local_site(&self.target).is_some() {
            return (alpn::offered(hello), None);
        }
        match engine.gateways.of_host(&self.target) {
            // Its requests go to a gateway, or some do, which the host need not be there for. Which
            // of the two a request cannot reach is told when it is turned to one.
            Some(gateway) => {
                let gateway = Destination::gateway(gateway, engine);
                (alpn::agree(hello, &gateway, engine).await.0, None)
            }
            None => alpn::agree(hello, upstream, engine).await,
        }
    }

    /// A connection whose TLS ends here.
    fn opened(
        mut self,
        tls: tokio_rustls::server::TlsStream<Replay>,
        hello: &ClientHello,
        upstream: Arc<Upstream>,
        dial_failure: Option<Failure>,
    ) -> Opened {
        let session = tls.get_ref().1;
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        self.facts.tls = Ok(settled::facts(session, hello.sni.as_deref()));
        self.facts.tls_done_at = Some(clock::now());
        let subject = self.subject.map(|subject| subject.with_tls(&self.facts));
        let to = Destination {
            target: self.target,
            scheme: self.scheme,
            route: self.route,
            connection: Arc::new(self.facts),
            upstream,
            bypassed: false,
        };
        let inside = Inside {
            to: Arc::new(to),
            dial_failure: Mutex::new(dial_failure),
            subject,
            guest: self.guest,
            reverse: false,
        };
        Opened {
            transport: Transport::Tls(Box::new(TlsStream::Server(tls))),
            inside: Arc::new(inside),
            is_http2,
        }
    }

    /// Why the client broke off the handshake.
    async fn refused(
        &self,
        error: &std::io::Error,
        hello: &ClientHello,
        engine: &Engine,
        reporter: &mut Reporter,
    ) -> Failure {
        let (kind, text) = client_side::client_failure(error, hello);
        let failure = error::failure(Side::Client, Stage::Tls, kind, text);
        if kind != FailureKind::ClientDistrusts {
            return failure;
        }
        let process = found(self.process.as_deref()).await;
        count_refusal(
            failure,
            &self.target.host,
            process.as_deref(),
            engine,
            reporter,
        )
    }

    /// Passes on what was not opened.
    async fn tunnel(mut self, wire: Replay, engine: &Engine, reporter: &mut Reporter) {
        self.facts.tls = Err(NoTls::Tunnelled);
        let facts = Arc::new(self.facts);
        let opening = tunnel_opening(&facts, &self.target, &self.route, self.scheme);
        match engine.upstreams.tunnel_to(&self.target, &self.asker).await {
            Ok(dialled) => pass(wire, dialled, &opening, &self.head, engine, reporter).await,
            Err(failure) => reporter.start(&opening, |_| self.head).fail(failure, None),
        }
    }

    fn fail_handshake(mut self, failure: Failure, reporter: &mut Reporter) {
        self.facts.tls = Err(NoTls::HandshakeFailed);
        self.end(Some(failure), reporter);
    }

    /// Reports a connection that nothing passed through.
    fn end(self, failure: Option<Failure>, reporter: &mut Reporter) {
        let facts = Arc::new(self.facts);
        let opening = tunnel_opening(&facts, &self.target, &self.route, self.scheme);
        let flow = reporter.start(&opening, |_| self.head);
        match failure {
            Some(failure) => flow.fail(failure, None),
            None => flow.end_tunnel(),
        }
    }
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
