//! The proxy as a whole: binds, accepts, and stops in order. What the engine runs on is replaced
//! whole when the configuration is reloaded.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use traffic::ListenAddress;

use crate::admission::{Attempts, Gatekeeper};
use crate::clock;
use crate::config::{AutoBypass, ProxyConfig};
use crate::connection::{self, Engine};
use crate::entrance::Entrance;
use crate::governor::Clients;
use crate::handler::{Gate, HandlerCounts, InterceptHandler};
use crate::hops::Pseudonym;
use crate::limits::{CONNECTIONS_MAX, LEAVES_MAX, POOL_SWEEP, PROCESS_LOOKUPS_DRAIN};
use crate::listen::{Accepted, Listening, ListeningSocket, Sockets};
use crate::metrics::{Counters, Metrics};
use crate::process::Attribution;
use crate::rejections::Rejections;
use crate::shutdown::{Stopper, Tasks};
use crate::tap::{FlowCount, Tap, Watcher};
use crate::tls::authority::Authority;
use crate::tls::client_side::ClientSide;
use crate::tls::leaf::{LeafCache, LeafError};
use crate::tls::upstream_side::TrustError;
use crate::upstream::dial::Dialer;
use crate::upstream::{Legs, Upstreams};

/// A proxy that is bound to its addresses and ready to serve.
#[derive(Debug)]
pub struct Proxy {
    listening: Listening,
    control: Control,
    clients: Arc<Tasks>,
}

/// Changes a proxy while it runs. Cheap to clone; it does not keep the proxy running.
#[derive(Clone, Debug)]
pub struct Control {
    lasting: Arc<Lasting>,
    current: Arc<Mutex<Generation>>,
    /// Engines of earlier configurations that may still serve a connection.
    earlier: Arc<Mutex<Vec<Weak<Engine>>>>,
}

/// What outlasts a reload.
#[derive(Debug)]
struct Lasting {
    own_addresses: Vec<SocketAddr>,
    pseudonym: Pseudonym,
    /// What was asked for, and what it became.
    listen: Vec<ListenAddress>,
    bound: Vec<ListenAddress>,
    sockets: Sockets,
    watcher: Option<Arc<dyn Watcher>>,
    gate: Option<Arc<Gate>>,
    flows: Arc<FlowCount>,
    connections: Arc<AtomicU64>,
    upstream_tasks: Arc<Tasks>,
    attribution: Arc<Attribution>,
    lookups: Arc<Tasks>,
    counters: Arc<Counters>,
    clients: Arc<Clients>,
    attempts: Arc<Attempts>,
    rejections: Arc<Rejections>,
}

/// What runs on one configuration. Client connections keep theirs to their end.
#[derive(Debug)]
struct Generation {
    engine: Arc<Engine>,
    stopper: Stopper,
    authority: Arc<Authority>,
    leaves: Arc<LeafCache>,
}

/// Why a proxy could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// There is no listener, so nobody could reach it.
    #[error("there is nothing to listen on")]
    NoListener,
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: ListenAddress,
        /// Why.
        source: io::Error,
    },
    /// The trust towards upstreams cannot be set up.
    #[error("cannot set up the trust towards upstreams")]
    Trust(#[from] TrustError),
    /// The key for leaf certificates, or the certificate of a listener, cannot be made.
    #[error("cannot make leaf certificates")]
    Leaves(#[from] LeafError),
}

/// Why a configuration was not taken. What ran before runs on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// It changes what cannot change while the proxy runs.
    #[error("{} cannot change while the proxy runs: restart it", names.join(", "))]
    Fixed {
        /// The names of the settings.
        names: Vec<&'static str>,
    },
    /// The trust towards upstreams cannot be set up.
    #[error("cannot set up the trust towards upstreams")]
    Trust(#[from] TrustError),
    /// The key for leaf certificates, or the certificate of a listener, cannot be made.
    #[error("cannot make leaf certificates")]
    Leaves(#[from] LeafError),
}

/// How a proxy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Client connections that were cut because they did not end within the drain deadline.
    pub connections_cut: usize,
    /// Connection ids of which the handler had not been told everything by then. Their closes
    /// were told.
    pub callbacks_cut: usize,
}

impl Proxy {
    /// Binds all listeners and makes everything ready. Events go to `watcher`, if there is one.
    ///
    /// # Errors
    /// If an address is taken or not ours, or the trust towards upstreams cannot be set up.
    pub async fn bind(
        config: ProxyConfig,
        watcher: Option<Arc<dyn Watcher>>,
    ) -> Result<Self, BindError> {
        Self::bind_with(config, watcher, None, Vec::new()).await
    }

    /// As [`Proxy::bind`], on sockets that listen already: each of `handed` is used for the listener
    /// whose address it has, and closed if there is none.
    ///
    /// # Errors
    /// As [`Proxy::bind`].
    pub async fn bind_to(
        config: ProxyConfig,
        watcher: Option<Arc<dyn Watcher>>,
        handed: Vec<ListeningSocket>,
    ) -> Result<Self, BindError> {
        Self::bind_with(config, watcher, None, handed).await
    }

    /// As [`Proxy::bind`], with a handler that decides about requests and is told of what passes.
    ///
    /// # Errors
    /// As [`Proxy::bind`].
    pub async fn bind_with_handler(
        config: ProxyConfig,
        handler: impl InterceptHandler,
        watcher: Option<Arc<dyn Watcher>>,
    ) -> Result<Self, BindError> {
        let counts = Arc::new(HandlerCounts::default());
        let gate = Gate::new(handler, config.handler.clone(), counts);
        Self::bind_with(config, watcher, Some(gate), Vec::new()).await
    }

    async fn bind_with(
        config: ProxyConfig,
        watcher: Option<Arc<dyn Watcher>>,
        gate: Option<Arc<Gate>>,
        handed: Vec<ListeningSocket>,
    ) -> Result<Self, BindError> {
        if config.listeners.is_empty() {
            return Err(BindError::NoListener);
        }
        let listen = addresses(&config);
        let listening = Listening::bind(listen.iter(), handed).await;
        let listening = listening.map_err(|(address, source)| BindError::Listen {
            address: address.clone(),
            source,
        })?;
        let bound: Vec<ListenAddress> = listening.addresses().cloned().collect();
        let mut own_addresses = config.own_addresses.clone();
        own_addresses.extend(bound.iter().filter_map(ListenAddress::tcp));
        let lasting = Lasting {
            own_addresses,
            pseudonym: Pseudonym::new(),
            listen,
            bound,
            sockets: listening.sockets(),
            watcher,
            gate,
            flows: Arc::default(),
            connections: Arc::new(AtomicU64::new(1)),
            upstream_tasks: Arc::default(),
            attribution: Arc::default(),
            lookups: Arc::default(),
            counters: Arc::default(),
            clients: Arc::default(),
            attempts: Arc::default(),
            rejections: Arc::default(),
        };
        let generation = Generation::new(config, &lasting, None)?;
        Ok(Self {
            listening,
            control: Control {
                lasting: Arc::new(lasting),
                current: Arc::new(Mutex::new(generation)),
                earlier: Arc::default(),
            },
            clients: Arc::default(),
        })
    }

    /// The first TCP address that it listens on, with the port that the system chose if it was
    /// asked for any. `None` if it listens on Unix-domain sockets only.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.addresses().iter().find_map(ListenAddress::tcp)
    }

    /// All addresses that it listens on, in the order of `ProxyConfig::listeners`.
    #[must_use]
    pub fn addresses(&self) -> &[ListenAddress] {
        self.control.addresses()
    }

    /// What changes the proxy while it runs.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Serves until `stop` is done, then stops accepting, lets flows end within the drain
    /// deadline, and cuts what is left.
    ///
    /// Dropping it cuts every connection at once.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send) -> Drained {
        let stop = async {
            stop.await;
            None
        };
        self.serve_until(stop).await
    }

    /// The same; `stop` may bring a drain deadline of its own.
    ///
    /// Dropping it cuts every connection at once.
    pub async fn serve_until(self, stop: impl Future<Output = Option<Duration>> + Send) -> Drained {
        // In a task of its own. The caller may be on a thread that runs no tasks, which would have
        // to be woken for each connection, and to wake another to hand it over.
        let accepting = Tasks::default();
        let (control, clients) = (self.control.clone(), Arc::clone(&self.clients));
        accepting.spawn("accepting", accept_all(self.listening, control, clients));
        let drain = stop.await;
        accepting.drain(Duration::ZERO, || ()).await;
        self.control.current.lock().stopper.stop();
        let engine = self.control.engine();
        let deadline = Instant::now() + drain.unwrap_or(engine.timeouts.drain);
        let left = || deadline.saturating_duration_since(Instant::now());
        let connections_cut = self.clients.drain(left(), || engine.tap.stop()).await;
        let lasting = &self.control.lasting;
        let callbacks_cut = match &lasting.gate {
            Some(gate) => gate.finish(left()).await,
            None => 0,
        };
        lasting.upstream_tasks.drain(Duration::ZERO, || ()).await;
        lasting.lookups.drain(PROCESS_LOOKUPS_DRAIN, || ()).await;
        Drained {
            connections_cut,
            callbacks_cut,
        }
    }
}

impl Control {
    /// Takes another configuration, whole or not at all. Connections that are open keep the one
    /// they began with and end in order: idle ones now, such that have not carried a request yet half a second
    /// later if none comes, others after the flows they carry. What begins afterwards runs on the new one.
    ///
    /// # Errors
    /// If it cannot be set up, or changes what cannot change: the addresses of listeners and the
    /// addresses that are oriel's own. The previous configuration then stays.
    pub fn reload(&self, config: ProxyConfig) -> Result<(), ReloadError> {
        let mut names = Vec::new();
        if addresses(&config) != self.lasting.listen {
            names.push("listeners");
        }
        let own = |address| self.lasting.own_addresses.contains(address);
        if !config.own_addresses.iter().all(own) {
            names.push("own_addresses");
        }
        if !names.is_empty() {
            return Err(ReloadError::Fixed { names });
        }
        let mut current = self.current.lock();
        let next = Generation::new(config, &self.lasting, Some(&current))?;
        let previous = std::mem::replace(&mut *current, next);
        previous.stopper.stop();
        self.earlier.lock().push(Arc::downgrade(&previous.engine));
        Ok(())
    }

    /// All addresses that the proxy listens on, in the order of `ProxyConfig::listeners`.
    #[must_use]
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.lasting.bound
    }

    /// A duplicate of each socket that the proxy listens on, for [`Proxy::bind_to`] of a process that
    /// takes its place. Both accept from then on. None once the proxy has stopped.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn sockets(&self) -> io::Result<Vec<ListeningSocket>> {
        self.lasting.sockets.duplicate()
    }

    /// Leaves the files of Unix-domain sockets where they are when the proxy ends: they are another
    /// process's now.
    pub fn leave_socket_files(&self) {
        self.lasting.sockets.leave_files();
    }

    /// What the proxy has done so far, and what it is doing. It looks at every upstream host that is
    /// remembered, so it is for a look every few seconds, not for every request.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let mut metrics = self.lasting.counters.snapshot();
        let current = self.current.lock();
        metrics.leaves.held = current.leaves.held() as u64;
        let engines = std::iter::once(Arc::clone(&current.engine));
        drop(current);
        let earlier: Vec<_> = self
            .earlier
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for engine in engines.chain(earlier) {
            let pool = engine.upstreams.in_use();
            metrics.pool.in_use += pool.in_use;
            metrics.pool.idle += pool.idle;
        }
        if let Some(gate) = &self.lasting.gate {
            gate.fill_in(&mut metrics);
        }
        metrics
    }

    /// Closes upstream connections that were idle for too long.
    fn sweep(&self) {
        self.engine().upstreams.sweep();
        self.earlier.lock().retain(|engine| {
            let engine = engine.upgrade();
            engine.inspect(|engine| engine.upstreams.sweep()).is_some()
        });
    }

    fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.current.lock().engine)
    }
}

impl Lasting {
    /// What each listener asks for first.
    fn entrances(
        &self,
        config: &ProxyConfig,
        leaves: &Arc<LeafCache>,
    ) -> Result<Vec<Entrance>, SetUpError> {
        let entrances = config.listeners.iter().map(|listener| {
            let admission = listener.admission.as_ref();
            let keeper = admission
                .map(|admission| Gatekeeper::new(admission, &self.attempts, &self.counters));
            Entrance::new(listener, leaves, config.min_tls_version, keeper)
        });
        Ok(entrances.collect::<Result<_, _>>()?)
    }

    /// A handler that is shown answers may want more of them than the record.
    fn body_bytes_kept(&self, config: &ProxyConfig) -> u64 {
        let shows_bodies = |gate: &Arc<Gate>| gate.interests.response_bodies;
        match self.gate.as_ref().is_some_and(shows_bodies) {
            true => config
                .body_bytes_kept
                .max(config.handler.body_bytes_max as u64),
            false => config.body_bytes_kept,
        }
    }

    /// True if somebody wants to know the processes behind connections.
    fn asks_for_processes(&self, config: &ProxyConfig) -> bool {
        let watches_flows = |watcher: &Arc<dyn Watcher>| watcher.watches_flows();
        self.watcher.as_ref().is_some_and(watches_flows)
            || self.gate.is_some()
            || config.rejections.auto_bypass == AutoBypass::Process
    }
}

impl Generation {
    /// Makes everything ready. Leaves are kept from the one before if the authority is the same.
    fn new(
        config: ProxyConfig,
        lasting: &Lasting,
        before: Option<&Self>,
    ) -> Result<Self, SetUpError> {
        let same = before.filter(|before| Arc::ptr_eq(&before.authority, &config.authority));
        let leaves = match same {
            Some(before) => Arc::clone(&before.leaves),
            None => {
                let leaves = LeafCache::new(Arc::clone(&config.authority), LEAVES_MAX)?;
                Arc::new(leaves.counted(&lasting.counters.leaves))
            }
        };
        let entrances = lasting.entrances(&config, &leaves)?;
        let body_bytes_kept = lasting.body_bytes_kept(&config);
        let attribution = config.attribution;
        let attribution = attribution.filter(|_| lasting.asks_for_processes(&config));
        let (stopper, stop) = Stopper::new();
        let dialer = Dialer::new(
            lasting.own_addresses.clone(),
            config.dial_guard,
            config.timeouts.connect,
            config.dial_again,
        );
        let gate = lasting.gate.as_ref();
        let gate = gate.map(|gate| gate.with_limits(config.handler));
        let engine = Engine {
            rules: config.rules,
            gateways: config.gateways,
            local_site: config.local_site,
            connect_ports: config.connect_ports,
            entrances,
            client_side: ClientSide::new(Arc::clone(&leaves), clock::now, config.min_tls_version),
            upstreams: Upstreams::new(
                dialer,
                Legs::new(
                    config.upstream_proxies,
                    &config.upstream_trust,
                    config.min_tls_version,
                    &config.client_certificates,
                    lasting.pseudonym.clone(),
                )?,
                config.pool,
                config.alt_svc,
                config.timeouts.clone(),
                Arc::clone(&lasting.upstream_tasks),
                Arc::clone(&lasting.counters),
            ),
            tap: Tap::new(
                lasting.watcher.clone(),
                body_bytes_kept,
                Arc::clone(&lasting.flows),
                Arc::clone(&lasting.counters),
                gate.clone(),
            ),
            gate,
            sni_mismatch: config.sni_mismatch,
            rejections: Arc::clone(&lasting.rejections),
            rejection_rules: config.rejections,
            attribution: attribution.map(|limit| (Arc::clone(&lasting.attribution), limit)),
            lookups: Arc::clone(&lasting.lookups),
            stop,
            connections: Arc::clone(&lasting.connections),
            counters: Arc::clone(&lasting.counters),
            clients: Arc::clone(&lasting.clients),
            governor: config.governor,
            timeouts: config.timeouts,
        };
        Ok(Self {
            engine: Arc::new(engine),
            stopper,
            authority: config.authority,
            leaves,
        })
    }
}

/// Why a configuration cannot run.
enum SetUpError {
    Trust(TrustError),
    Leaves(LeafError),
}

impl From<TrustError> for SetUpError {
    fn from(error: TrustError) -> Self {
        Self::Trust(error)
    }
}

impl From<LeafError> for SetUpError {
    fn from(error: LeafError) -> Self {
        Self::Leaves(error)
    }
}

impl From<SetUpError> for BindError {
    fn from(error: SetUpError) -> Self {
        match error {
            SetUpError::Trust(error) => Self::Trust(error),
            SetUpError::Leaves(error) => Self::Leaves(error),
        }
    }
}

impl From<SetUpError> for ReloadError {
    fn from(error: SetUpError) -> Self {
        match error {
            SetUpError::Trust(error) => Self::Trust(error),
            SetUpError::Leaves(error) => Self::Leaves(error),
        }
    }
}

fn addresses(config: &ProxyConfig) -> Vec<ListenAddress> {
    let listeners = config.listeners.iter();
    listeners.map(|listener| listener.address.clone()).collect()
}

/// Has every connection that comes served, and sweeps now and then. Dropping it loses none that was
/// accepted.
async fn accept_all(mut listening: Listening, control: Control, clients: Arc<Tasks>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut sweep = tokio::time::interval(POOL_SWEEP);
    loop {
        let accepted = tokio::select! {
            _ = sweep.tick() => {
                control.sweep();
                continue;
            }
            accepted = accept(&mut listening, &permits) => accepted,
        };
        let (accepted, permit) = accepted;
        let engine = control.engine();
        clients.spawn("client connection", async move {
            // In a box: a task is moved from hand to hand until it runs, and once it is over.
            Box::pin(connection::run(accepted, engine)).await;
            drop(permit);
        });
    }
}

/// The next connection, once there is room for it. Dropping it loses none.
async fn accept(
    listening: &mut Listening,
    permits: &Arc<Semaphore>,
) -> (Accepted, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed.
    let permit = Arc::clone(permits).acquire_owned().await.ok();
    (listening.accept().await, permit)
}
