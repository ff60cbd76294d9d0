//! Where one request goes and whether it may: what is asked in both HTTP versions before a flow is
//! carried.

use std::sync::{Arc, OnceLock};

use traffic::rules::gateway::Gateway;
use traffic::rules::private::Reach;
use traffic::rules::route::{Facts, Opening as FirstBytes};
use traffic::{
    Action, ConnectionFacts, Failure, FailureKind, FlowKind, Front, Route, Scheme, Side, Stage,
    Target,
};

use crate::admission::{Gatekeeper, Guest, Login};
use crate::connection::{Engine, Inside};
use crate::error;
use crate::handler::Subject;
use crate::local_site::LocalSite;
use crate::process::ConnectionProcess;
use crate::refuse::Refusal;
use crate::tap::Opening;
use crate::upstream::{Asker, Upstream};

/// Where the requests of a connection go.
pub(crate) enum Scope {
    /// The proxy itself was addressed: every request names its target.
    Front(FrontFacts),
    /// A connection that was opened: all requests go to one target.
    Inside(Arc<Inside>),
}

/// What is known of a connection to the proxy itself.
#[derive(Clone)]
pub(crate) struct FrontFacts {
    /// Who asks, where a handler is to know.
    pub(crate) subject: Option<Subject>,
    /// What finds the process behind it, where it is to be found.
    pub(crate) process: Option<Arc<ConnectionProcess>>,
    /// Whom clients have to say who they are, if they have to.
    pub(crate) gatekeeper: Option<Arc<Gatekeeper>>,
    absolute: Arc<ConnectionFacts>,
    origin: Arc<ConnectionFacts>,
    /// With who asked first; mostly nobody else asks on the same connection.
    named: OnceLock<Arc<ConnectionFacts>>,
}

/// Where one request goes, and what decided it.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) target: Arc<Target>,
    pub(crate) scheme: Scheme,
    pub(crate) route: Arc<Route>,
    pub(crate) connection: Arc<ConnectionFacts>,
    pub(crate) upstream: Arc<Upstream>,
    /// The host is never to be looked into, though what is asked of it comes in clear: of its
    /// requests nothing is told but that they were, and nobody is asked about them.
    pub(crate) bypassed: bool,
}

impl Scope {
    /// Who asks, where a handler is to know.
    pub(crate) fn subject(&self) -> Option<&Subject> {
        match self {
            Self::Front(front) => front.subject.as_ref(),
            Self::Inside(inside) => inside.subject.as_ref(),
        }
    }

    /// Why the upstream could not be reached when the connection was opened. The first request alone
    /// is told of it; later ones dial again.
    pub(crate) fn take_dial_failure(&self) -> Option<Failure> {
        match self {
            Self::Inside(inside) => inside.dial_failure.lock().take(),
            Self::Front(_) => None,
        }
    }

    /// What finds the process behind a connection to the proxy itself.
    pub(crate) fn process(&self) -> Option<&Arc<ConnectionProcess>> {
        match self {
            Self::Front(front) => front.process.as_ref(),
            Self::Inside(_) => None,
        }
    }

    /// Who asks, where clients have to say it; otherwise what a request is answered with that is not
    /// served. `said` is the value of its `Proxy-Authorization`, which counts at the front alone:
    /// inside a connection that was opened, the login counts by which it was, for as long as it is
    /// right.
    pub(crate) async fn admit<'s>(
        &self,
        said: impl FnOnce() -> Option<&'s [u8]>,
    ) -> Result<Option<Arc<Login>>, Refusal> {
        match self {
            Self::Front(front) => front.admit(said).await,
            Self::Inside(inside) => match &inside.guest {
                Some(guest) => {
                    let client = inside.to.connection.client_address;
                    let still = guest.still_admitted(client).await;
                    let refusal = |failure| refusal(&failure, &guest.keeper);
                    still.map_err(refusal)?;
                    Ok(Some(Arc::clone(&guest.login)))
                }
                None => Ok(None),
            },
        }
    }

    /// Who was admitted at the front, to be asked for again.
    pub(crate) fn guest(&self, login: Option<Arc<Login>>) -> Option<Guest> {
        let Self::Front(front) = self else {
            return None;
        };
        let keeper = Arc::clone(front.gatekeeper.as_ref()?);
        login.map(|login| Guest { login, keeper })
    }
}

impl FrontFacts {
    /// What is told of the connection with a request under this front.
    pub(crate) fn of(&self, front: Front, login: Option<&Login>) -> Arc<ConnectionFacts> {
        let anonymous = match front {
            Front::OriginForm => &self.origin,
            _ => &self.absolute,
        };
        let Some(user) = login.and_then(Login::told_name) else {
            return Arc::clone(anonymous);
        };
        let with_name = || {
            Arc::new(ConnectionFacts {
                user: Some(user.into()),
                ..ConnectionFacts::clone(anonymous)
            })
        };
        let first = self.named.get_or_init(with_name);
        match first.front == anonymous.front && first.user.as_deref() == Some(user) {
            true => Arc::clone(first),
            false => with_name(),
        }
    }

    /// Who asks, by the value of `Proxy-Authorization`, where clients have to say it; otherwise what
    /// a request is answered with that is not served.
    async fn admit<'s>(
        &self,
        said: impl FnOnce() -> Option<&'s [u8]>,
    ) -> Result<Option<Arc<Login>>, Refusal> {
        let Some(gatekeeper) = &self.gatekeeper else {
            return Ok(None);
        };
        let login = said().and_then(Login::from_field);
        // In a box: who is not asked holds no room for it.
        let admitted = Box::pin(gatekeeper.admit(login, self.absolute.client_address)).await;
        admitted
            .map(|login| Some(Arc::new(login)))
            .map_err(|failure| refusal(&failure, gatekeeper))
    }

    pub(crate) fn new(
        connection: &ConnectionFacts,
        subject: Option<Subject>,
        process: Option<Arc<ConnectionProcess>>,
        gatekeeper: Option<Arc<Gatekeeper>>,
    ) -> Self {
        let with = |front| {
            Arc::new(ConnectionFacts {
                front,
                ..connection.clone()
            })
        };
        Self {
            subject,
            process,
            gatekeeper,
            absolute: with(Front::AbsoluteForm),
            origin: with(Front::OriginForm),
            named: OnceLock::new(),
        }
    }
}

impl Destination {
    /// The target that a request to the proxy itself names.
    pub(crate) fn named(
        target: Target,
        scheme: Scheme,
        connection: &Arc<ConnectionFacts>,
        engine: &Engine,
    ) -> Arc<Self> {
        let route = engine.rules.route(&Facts {
            target: &target,
            opening: FirstBytes::PlainHttp,
        });
        let reach = engine.upstreams.dialer.reach_of(connection.client_address);
        let host = target.host.clone();
        Arc::new(Self {
            upstream: engine.upstreams.host(scheme, &target, host, reach),
            bypassed: engine.rules.bypasses(&target),
            target: Arc::new(target),
            scheme,
            route: Arc::new(route),
            connection: Arc::clone(connection),
        })
    }

    /// The target that a client of a forward listener asked for, under a route that was decided.
    pub(crate) fn asked_for(
        target: Arc<Target>,
        scheme: Scheme,
        route: &Arc<Route>,
        connection: &Arc<ConnectionFacts>,
        by: (&Engine, Asker),
    ) -> Arc<Self> {
        Self::new(target, scheme, route, connection, by)
    }

    /// Another target, under a route that was decided for the one asked for. It is not the client
    /// that names it.
    pub(crate) fn redirected(
        target: Target,
        scheme: Scheme,
        route: &Arc<Route>,
        connection: &Arc<ConnectionFacts>,
        engine: &Engine,
    ) -> Arc<Self> {
        Self::new(
            Arc::new(target),
            scheme,
            route,
            connection,
            (engine, Reach::Everywhere.into()),
        )
    }

    fn new(
        target: Arc<Target>,
        scheme: Scheme,
        route: &Arc<Route>,
        connection: &Arc<ConnectionFacts>,
        (engine, asker): (&Engine, Asker),
    ) -> Arc<Self> {
        let host = target.host.clone();
        Arc::new(Self {
            upstream: engine.upstreams.host(scheme, &target, host, asker),
            target,
            scheme,
            route: Arc::clone(route),
            connection: Arc::clone(connection),
            bypassed: false,
        })
    }

    /// A gateway in the place of a destination, for the same connection and under the same route.
    pub(crate) fn at_gateway(gateway: &Gateway, before: &Self, engine: &Engine) -> Arc<Self> {
        Arc::new(Self {
            target: Arc::new(gateway.url.target().clone()),
            scheme: gateway.url.scheme(),
            route: Arc::clone(&before.route),
            connection: Arc::clone(&before.connection),
            upstream: Self::gateway(gateway, engine),
            bypassed: before.bypassed,
        })
    }

    /// The connections to a gateway.
    pub(crate) fn gateway(gateway: &Gateway, engine: &Engine) -> Arc<Upstream> {
        let target = gateway.url.target();
        let (scheme, host) = (gateway.url.scheme(), target.host.clone());
        match gateway.direct {
            true => engine.upstreams.host_directly(scheme, target, host),
            false => engine
                .upstreams
                .host(scheme, target, host, Reach::Everywhere),
        }
    }

    /// What a flow to it begins with; it begins when it is reported.
    pub(crate) fn opening(&self) -> Opening<'_> {
        Opening {
            at: None,
            kind: FlowKind::Http,
            connection: &self.connection,
            scheme: self.scheme,
            target: &self.target,
            route: &self.route,
            in_outline: self.bypassed,
        }
    }

    /// The site that answers in the place of an upstream, if it is here.
    pub(crate) fn local_site<'e>(
        &self,
        scope: &Scope,
        engine: &'e Engine,
    ) -> Option<&'e LocalSite> {
        match scope {
            Scope::Inside(inside) if inside.reverse => None,
            _ => engine.local_site(&self.target),
        }
    }

    /// Why a request is not even tried.
    pub(crate) fn refused(&self, engine: &Engine) -> Option<Failure> {
        if let Some(failure) = own(&self.target, engine) {
            return Some(failure);
        }
        if self.route.action == Action::Block {
            return Some(blocked(&self.target, &self.route));
        }
        engine.busy(0)
    }

    /// True if it is the upstream that the connection was opened for: neither the handler nor a
    /// gateway has turned the request elsewhere.
    pub(crate) fn is_as_opened(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Inside(inside) => Arc::ptr_eq(&self.upstream, &inside.to.upstream),
            Scope::Front(_) => false,
        }
    }
}

/// What a request is answered with whose client is not admitted.
fn refusal(failure: &Failure, keeper: &Gatekeeper) -> Refusal {
    tracing::debug!(%failure.text, "refused a request");
    Refusal::new(failure, None).in_realm(keeper.realm())
}

/// The failure of a target that is oriel itself.
pub(crate) fn own(target: &Target, engine: &Engine) -> Option<Failure> {
    engine.upstreams.dialer.is_own(target).then(|| {
        let text = format!("{target} is oriel itself");
        error::failure(Side::Oriel, Stage::Route, FailureKind::Loop, text)
    })
}

/// The failure of a target that the route blocks.
pub(crate) fn blocked(target: &Target, route: &Route) -> Failure {
    let text = format!("{target} is blocked by {}", route.rule);
    error::failure(Side::Oriel, Stage::Route, FailureKind::Blocked, text)
}
