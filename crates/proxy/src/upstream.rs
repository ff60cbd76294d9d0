//! Upstream connections: kept per host, reused, dialled where none is free.
//!
//! An HTTP/1.1 connection serves one flow at a time and is leased; an HTTP/2 connection serves
//! many and is shared. What a host speaks is remembered, so that a later client can be offered the
//! same without dialling first.
//!
//! Connections are never shared between legs (`upstream/leg.rs`): what came directly is not used for
//! what goes through a proxy, nor through one proxy for what goes through another.

mod connect;
pub(crate) mod dial;
#[cfg(target_os = "linux")]
mod hosts_file;
mod http_connect;
mod leg;
mod legs;
mod nesting;
mod resolve;
mod socks5;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use traffic::rules::private::Reach;
use traffic::{Failure, FailureKind, Host, Scheme, Side, Stage, Target, UpstreamFacts};

use crate::config::{AltSvc, Pool, Timeouts};
use crate::error;
use crate::hops::Hops;
use crate::http1::connection::Http1;
use crate::http2::client::Http2Upstream;
use crate::limits::{HTTP2_CONNECTIONS_PER_TARGET_MAX, POOL_HOSTS_MAX};
use crate::metrics::{Counters, PoolUse};
use crate::shutdown::Tasks;
use crate::stream::Transport;
use crate::tls::certificate::ReadCertificates;
use crate::tls::upstream_side::UpstreamAlpn;
use crate::upstream::dial::Dialer;
pub(crate) use connect::Dialled;
pub(crate) use leg::Forwarded;
use leg::{Leg, LegId};
pub(crate) use legs::Legs;

/// All upstream connections of one engine.
#[derive(Debug)]
pub(crate) struct Upstreams {
    pub(crate) dialer: Dialer,
    legs: Legs,
    pool: Pool,
    alt_svc: AltSvc,
    timeouts: Timeouts,
    tasks: Arc<Tasks>,
    counters: Arc<Counters>,
    certificates: ReadCertificates,
    hosts: Mutex<HashMap<HostKey, Arc<Upstream>>>,
}

/// What makes two connections exchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct HostKey {
    scheme: Scheme,
    target: Target,
    /// The name that TLS asks for and verifies; the client's SNI where it sent one.
    server_name: Host,
    leg: LegId,
    asker: Asker,
    /// Requests name their target each, as the proxy on the way wants it.
    forwarded: bool,
}

/// For whom connections are dialled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asker {
    /// What may be dialled: what a local client reached is not a stranger's.
    pub(crate) reach: Reach,
    /// What it came through, which a proxy on the way is told.
    pub(crate) hops: Hops,
}

impl From<Reach> for Asker {
    fn from(reach: Reach) -> Self {
        let hops = Hops::default();
        Self { reach, hops }
    }
}

impl HostKey {
    fn new(leg: &Leg, scheme: Scheme, target: &Target, server_name: Host, asker: Asker) -> Self {
        let asker = match leg.tells_hops() {
            true => asker,
            false => asker.reach.into(),
        };
        Self {
            scheme,
            target: target.clone(),
            server_name,
            leg: leg.id,
            asker,
            forwarded: scheme == Scheme::Http,
        }
    }
}

/// The connections to one host.
#[derive(Debug)]
pub(crate) struct Upstream {
    key: HostKey,
    leg: Arc<Leg>,
    /// How requests are sent, where the proxy on the way is told of each.
    pub(crate) forwarded: Option<Forwarded>,
    /// Its offers of HTTP/3 are taken out of responses.
    pub(crate) hides_http3: bool,
    speaks: AtomicU8,
    /// A permit for each connection in use: leased, or shared. Idle ones hold none; there are
    /// never more of them than permits are free.
    permits: Arc<Semaphore>,
    connections_max: usize,
    /// Boxed, so that a lease moves by its address.
    #[expect(clippy::vec_box, reason = "leases come and go with every request")]
    idle: Mutex<Vec<Box<Http1Upstream>>>,
    shared: Mutex<Vec<Arc<Http2Upstream>>>,
    /// Held while an HTTP/2 connection is dialled, so that a burst of streams dials one;
    /// holds the last failure and when it was.
    dialling: tokio::sync::Mutex<Option<(Instant, Failure)>>,
    last_used: Mutex<Instant>,
}

/// What a host is known to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Unknown,
    /// HTTP/1.1, and not HTTP/2.
    Http1,
    /// HTTP/2, and perhaps HTTP/1.1.
    Http2,
    /// HTTP/2, and not HTTP/1.1.
    OnlyHttp2,
}

/// What the client's side can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// HTTP/1.1; HTTP/2 only if the host speaks nothing else.
    Http1,
    /// Either.
    Any,
}

/// An HTTP/1.1 connection to an upstream.
#[derive(Debug)]
pub(crate) struct Http1Upstream {
    pub(crate) http1: Http1,
    pub(crate) facts: Arc<UpstreamFacts>,
    /// True if it served a flow before this one.
    pub(crate) served: bool,
    idle_since: Instant,
    /// `None` while it is idle.
    permit: Option<OwnedSemaphorePermit>,
}

/// A connection to send one request on.
#[derive(Debug)]
pub(crate) enum Lease {
    Http1(Box<Http1Upstream>),
    Http2(Arc<Http2Upstream>),
}

/// Whether a connection may be dialled.
enum Room {
    Free(OwnedSemaphorePermit),
    /// No; this one is to be used.
    Taken(Lease),
}

impl Upstreams {
    pub(crate) fn new(
        dialer: Dialer,
        legs: Legs,
        pool: Pool,
        alt_svc: AltSvc,
        timeouts: Timeouts,
        tasks: Arc<Tasks>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            dialer,
            legs,
            pool,
            alt_svc,
            timeouts,
            tasks,
            counters,
            certificates: ReadCertificates::default(),
            hosts: Mutex::default(),
        }
    }

    /// Why what came through these is not passed on, if it was passed on from here before.
    pub(crate) fn refuse_return(&self, hops: &Hops, target: &Target) -> Option<Failure> {
        self.legs.pseudonym.refuse(hops, target)
    }

    /// The connections to one host; `server_name` is the name that TLS asks for and verifies.
    pub(crate) fn host(
        &self,
        scheme: Scheme,
        target: &Target,
        server_name: Host,
        asker: impl Into<Asker>,
    ) -> Arc<Upstream> {
        let leg = self.legs.to(target);
        let key = HostKey::new(leg, scheme, target, server_name, asker.into());
        self.host_by(key, leg)
    }

    /// The same without a proxy, whatever the rules about those say of the host.
    pub(crate) fn host_directly(
        &self,
        scheme: Scheme,
        target: &Target,
        server_name: Host,
    ) -> Arc<Upstream> {
        let leg = &self.legs.direct;
        let everywhere = Reach::Everywhere.into();
        let key = HostKey::new(leg, scheme, target, server_name, everywhere);
        self.host_by(key, leg)
    }

    /// The connections on which a WebSocket can be asked for: a proxy does not switch to what it
    /// does not speak, so it is asked for a tunnel (RFC 6455 section 4.1).
    pub(crate) fn for_websocket(&self, upstream: &Arc<Upstream>) -> Arc<Upstream> {
        if upstream.forwarded.is_none() {
            return Arc::clone(upstream);
        }
        let key = HostKey {
            forwarded: false,
            ..upstream.key.clone()
        };
        self.host_by(key, &upstream.leg)
    }

    fn host_by(&self, key: HostKey, leg: &Arc<Leg>) -> Arc<Upstream> {
        let mut hosts = self.hosts.lock();
        if let Some(upstream) = hosts.get(&key) {
            *upstream.last_used.lock() = Instant::now();
            return Arc::clone(upstream);
        }
        if hosts.len() >= POOL_HOSTS_MAX {
            forget_longest_unused(&mut hosts);
        }
        let connections_max = self.pool.connections_per_target_max;
        let connections_max = connections_max.clamp(1, Semaphore::MAX_PERMITS);
        let upstream = Arc::new(Upstream {
            leg: Arc::clone(leg),
            forwarded: match key.forwarded {
                true => leg.forwarded(&key.target, &key.asker.hops, &self.legs.pseudonym),
                false => None,
            },
            key: key.clone(),
            hides_http3: self.alt_svc.hides_http3(&key.target),
            speaks: AtomicU8::new(Speaks::Unknown as u8),
            permits: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            idle: Mutex::default(),
            shared: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
            last_used: Mutex::new(Instant::now()),
        });
        hosts.insert(key, Arc::clone(&upstream));
        upstream
    }

    /// A connection for one request: an idle or shared one, or a new one.
    ///
    /// Dropping it abandons a dial that it began.
    pub(crate) async fn acquire(
        &self,
        upstream: &Upstream,
        offer: Offer,
    ) -> Result<Lease, Failure> {
        match self.ready(upstream, offer, Instant::now()) {
            Some(lease) => Ok(lease),
            None => self.connect(upstream, offer).await,
        }
    }

    /// An idle or shared connection, if there is one.
    pub(crate) fn ready(&self, upstream: &Upstream, offer: Offer, now: Instant) -> Option<Lease> {
        let speaks = upstream.speaks();
        if (offer == Offer::Http1 || speaks == Speaks::Http1)
            && let Some(lease) = self.idle(upstream, now)
        {
            return Some(Lease::Http1(lease));
        }
        if offer == Offer::Any || speaks == Speaks::OnlyHttp2 {
            return upstream.shared().map(Lease::Http2);
        }
        None
    }

    /// Like [`Upstreams::acquire`], but always a new connection where it is HTTP/1.1: the request
    /// found a kept one closed.
    ///
    /// In a box: dialling is rare, and the room that it takes would be held by every connection
    /// whose requests may lead to it, however long it idles.
    pub(crate) async fn connect(
        &self,
        upstream: &Upstream,
        offer: Offer,
    ) -> Result<Lease, Failure> {
        Box::pin(self.connect_as_known(upstream, offer)).await
    }

    async fn connect_as_known(&self, upstream: &Upstream, offer: Offer) -> Result<Lease, Failure> {
        if upstream.key.scheme == Scheme::Http {
            return self.connect_plain(upstream).await;
        }
        match (offer, upstream.speaks()) {
            (Offer::Http1, Speaks::Unknown | Speaks::Http1 | Speaks::Http2) => {
                match self.connect_tls(upstream, UpstreamAlpn::Http11).await {
                    Err(refused) if refused.alpn => {
                        upstream.learn(Speaks::OnlyHttp2);
                        self.connect_shared(upstream).await
                    }
                    result => result.map_err(Into::into),
                }
            }
            (Offer::Any, Speaks::Http1) => self
                .connect_tls(upstream, UpstreamAlpn::Both)
                .await
                .map_err(Into::into),
            (_, Speaks::OnlyHttp2) | (Offer::Any, Speaks::Http2 | Speaks::Unknown) => {
                self.connect_shared(upstream).await
            }
        }
    }

    /// Connects offering HTTP/2, once for a burst of flows that want it. They share a failure as
    /// they would share the connection.
    async fn connect_shared(&self, upstream: &Upstream) -> Result<Lease, Failure> {
        let asked = Instant::now();
        let mut last = upstream.dialling.lock().await;
        if let Some(shared) = upstream.shared() {
            return Ok(Lease::Http2(shared));
        }
        if let Some((at, failure)) = &*last
            && *at >= asked
        {
            return Err(failure.clone());
        }
        if upstream.speaks() == Speaks::Http1 {
            // The burst has learned that there is nothing to share.
            drop(last);
            return match self.idle(upstream, Instant::now()) {
                Some(lease) => Ok(Lease::Http1(lease)),
                None => self
                    .connect_tls(upstream, UpstreamAlpn::Both)
                    .await
                    .map_err(Into::into),
            };
        }
        let result = self.connect_tls(upstream, UpstreamAlpn::Both).await;
        result.map_err(|refused| {
            *last = Some((Instant::now(), refused.failure.clone()));
            refused.failure
        })
    }

    /// Takes a connection back after its flow; it may serve the next one.
    pub(crate) fn give_back(&self, upstream: &Upstream, mut lease: Box<Http1Upstream>) {
        lease.idle_since = Instant::now();
        // Free once the lease lies among the idle ones: who waits for it finds it there.
        let _permit = lease.permit.take();
        let mut idle = upstream.idle.lock();
        if idle.len() < self.pool.idle_per_target_max {
            lease.http1.rest();
            idle.push(lease);
        }
    }

    /// How many connections there are.
    pub(crate) fn in_use(&self) -> PoolUse {
        let hosts: Vec<Arc<Upstream>> = self.hosts.lock().values().cloned().collect();
        let mut pool = PoolUse::default();
        for upstream in hosts {
            let free = upstream.permits.available_permits();
            pool.in_use += upstream.connections_max.saturating_sub(free) as u64;
            pool.idle += upstream.idle.lock().len() as u64;
        }
        pool
    }

    /// Closes what was idle for too long. Called every few seconds.
    pub(crate) fn sweep(&self) {
        let hosts: Vec<Arc<Upstream>> = self.hosts.lock().values().cloned().collect();
        for upstream in hosts {
            let kept = |lease: &mut Box<Http1Upstream>| {
                lease.idle_since.elapsed() < self.pool.idle && lease.http1.is_quiet()
            };
            upstream.idle.lock().retain_mut(kept);
            let live = |shared: &mut Arc<Http2Upstream>| shared.stays(self.pool.idle);
            upstream.shared.lock().retain_mut(live);
        }
    }

    /// The most recently used idle connection that is still open.
    fn idle(&self, upstream: &Upstream, now: Instant) -> Option<Box<Http1Upstream>> {
        if upstream.idle.lock().is_empty() {
            return None;
        }
        self.idle_with(upstream, upstream.try_permit()?, now).ok()
    }

    /// The same; gives the permit back if there is none.
    fn idle_with(
        &self,
        upstream: &Upstream,
        permit: OwnedSemaphorePermit,
        now: Instant,
    ) -> Result<Box<Http1Upstream>, OwnedSemaphorePermit> {
        loop {
            let Some(mut lease) = upstream.idle.lock().pop() else {
                return Err(permit);
            };
            if now.duration_since(lease.idle_since) < self.pool.idle && lease.http1.is_quiet() {
                lease.permit = Some(permit);
                return Ok(lease);
            }
        }
    }

    /// Room for one more connection. Where there is none, the first that comes free is waited for.
    async fn room(&self, upstream: &Upstream) -> Result<Room, Failure> {
        let permit = match upstream.try_permit() {
            Some(permit) => permit,
            None => {
                if let Some(shared) = upstream.shared() {
                    return Ok(Room::Taken(Lease::Http2(shared)));
                }
                let permit = self.wait_for_permit(upstream).await?;
                match self.idle_with(upstream, permit, Instant::now()) {
                    Ok(lease) => return Ok(Room::Taken(Lease::Http1(lease))),
                    Err(permit) => permit,
                }
            }
        };
        upstream.close_excess();
        Ok(Room::Free(permit))
    }

    async fn wait_for_permit(&self, upstream: &Upstream) -> Result<OwnedSemaphorePermit, Failure> {
        let permit = Arc::clone(&upstream.permits).acquire_owned();
        // The semaphore is never closed, so only the time can run out.
        let waited = tokio::time::timeout(self.timeouts.connect, permit).await;
        waited.ok().and_then(Result::ok).ok_or_else(|| {
            let (count, target) = (upstream.connections_max, &upstream.key.target);
            let text = format!("all {count} connections to {target} that are allowed are in use");
            error::failure(Side::Oriel, Stage::Dial, FailureKind::Busy, text)
        })
    }
}

impl Upstream {
    /// What the host is known to speak.
    pub(crate) fn speaks(&self) -> Speaks {
        match self.speaks.load(Ordering::Relaxed) {
            1 => Speaks::Http1,
            2 => Speaks::Http2,
            3 => Speaks::OnlyHttp2,
            _ => Speaks::Unknown,
        }
    }

    fn learn(&self, speaks: Speaks) {
        self.speaks.store(speaks as u8, Ordering::Relaxed);
    }

    /// Takes a connection that many requests may use.
    fn share(&self, connection: &Arc<Http2Upstream>) {
        if self.speaks() != Speaks::OnlyHttp2 {
            self.learn(Speaks::Http2);
        }
        let mut connections = self.shared.lock();
        connections.retain(|known| known.is_open());
        connections.push(Arc::clone(connection));
    }

    fn shared_max(&self) -> usize {
        HTTP2_CONNECTIONS_PER_TARGET_MAX.min(self.connections_max)
    }

    fn try_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// Closes idle connections, the oldest first, until there are no more than permits are free.
    fn close_excess(&self) {
        let mut idle = self.idle.lock();
        let excess = idle.len().saturating_sub(self.permits.available_permits());
        idle.drain(..excess);
    }

    /// A shared connection with a free stream; the fullest list is used as it is.
    fn shared(&self) -> Option<Arc<Http2Upstream>> {
        let mut connections = self.shared.lock();
        connections.retain(|known| known.is_open());
        let free = connections.iter().find(|known| known.has_room());
        match free {
            Some(free) => Some(Arc::clone(free)),
            None if connections.len() >= self.shared_max() => connections
                .iter()
                .min_by_key(|known| known.streams())
                .map(Arc::clone),
            None => None,
        }
    }
}

impl Http1Upstream {
    fn new(transport: Transport, facts: Arc<UpstreamFacts>, permit: OwnedSemaphorePermit) -> Self {
        Self {
            http1: Http1::new(transport, bytes::BytesMut::new()),
            facts,
            served: false,
            idle_since: Instant::now(),
            permit: Some(permit),
        }
    }
}

fn forget_longest_unused(hosts: &mut HashMap<HostKey, Arc<Upstream>>) {
    let oldest = hosts
        .iter()
        .min_by_key(|(_, upstream)| *upstream.last_used.lock());
    if let Some(key) = oldest.map(|(key, _)| key.clone()) {
        hosts.remove(&key);
    }
}
