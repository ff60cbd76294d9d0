//! What one proxy counts of itself, and how it is told: as plain numbers, and as OpenMetrics text.
//!
//! Where it stands: beside the path of the bytes. Whoever does something adds one to a number with
//! a relaxed atomic operation; nothing is locked, nothing is shared between two proxies, and what
//! is costly to find out is found out when it is asked for. The numbers of one snapshot are read
//! one after the other, so a flow that ends meanwhile may be in some and not in others.

mod histogram;
mod openmetrics;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use histogram::Durations;
pub use histogram::{Bucket, Histogram};
use traffic::{
    Action, AttributionError, Failure, FailureKind, FlowKind, Outcome, ProcessAnswer, Side,
};

/// What is counted over the life of one proxy, all its configurations together.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connections: Live,
    turned_away: AtomicU64,
    logins_refused: AtomicU64,
    logins_barred: AtomicU64,
    flows: Live,
    /// By route, protocol and outcome; see [`FlowGroup`].
    ended: [[[AtomicU64; 3]; 4]; 3],
    pub(crate) client_handshakes: AttemptCounts,
    pub(crate) upstream_handshakes: AttemptCounts,
    pub(crate) dials: AttemptCounts,
    upstream_timeouts: AtomicU64,
    process_failures: AtomicU64,
    process_timeouts: AtomicU64,
    pub(crate) leaves: Arc<LeafCounts>,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    client_tunnel_bytes: AtomicU64,
    upstream_tunnel_bytes: AtomicU64,
    added_latency: Durations,
}

/// How many there were, and how many there are.
#[derive(Debug, Default)]
struct Live {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// How often something went well, and how often not.
#[derive(Debug, Default)]
pub(crate) struct AttemptCounts {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// How the cache of leaf certificates fared.
#[derive(Debug, Default)]
pub(crate) struct LeafCounts {
    pub(crate) found: AtomicU64,
    pub(crate) made: AtomicU64,
}

/// Counts one connection as long as it lives.
#[derive(Debug)]
pub(crate) struct ConnectionGuard(Arc<Counters>);

/// What a proxy has done so far, and what it is doing.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// Client connections that are open.
    pub active_connections: u64,
    /// Client connections so far, those included.
    pub total_connections: u64,
    /// Client connections that were refused because their client had too many.
    pub refused_connections: u64,
    /// Logins to forward listeners that were wrong.
    pub refused_logins: u64,
    /// Logins that were not looked at, because their client had been wrong too often.
    pub barred_logins: u64,
    /// Flows that are under way: requests, WebSockets and tunnels.
    pub active_flows: u64,
    /// Flows that have ended, for each group of which there was one.
    pub flows: Vec<FlowGroup>,
    /// TLS handshakes with clients.
    pub client_handshakes: Attempts,
    /// TLS handshakes with upstreams.
    pub upstream_handshakes: Attempts,
    /// TCP connections to upstreams, name resolution included.
    pub dials: Attempts,
    /// Connections to upstreams that did not come about: failed dials and handshakes.
    pub upstream_connect_error_count: u64,
    /// Flows that failed because an upstream took too long.
    pub upstream_timeout_count: u64,
    /// Processes of clients that were not found; lookups that took too long are not among them.
    pub process_attribution_failure_count: u64,
    /// Lookups of processes that took too long.
    pub process_attribution_timeout_count: u64,
    /// The cache of leaf certificates.
    pub leaves: Leaves,
    /// Connections to upstreams.
    pub pool: PoolUse,
    /// Payload that passed.
    pub bytes: PayloadBytes,
    /// How often the handler panicked.
    pub handler_panic_count: u64,
    /// How often the handler did not answer in time.
    pub handler_timeout_count: u64,
    /// Callbacks that were dropped because the handler was too far behind.
    pub dropped_dispatch_work_count: u64,
    /// Callbacks that wait for the handler.
    pub queued_callbacks: u64,
    /// Bytes held for the handler: bodies that wait to be whole, and what waits to be told.
    pub held_bytes: u64,
    /// How long requests were here before the engine turned to their upstream: reading the rules
    /// and waiting for the handler, and for their bodies where they are held.
    pub added_latency: Histogram,
}

/// Flows that have ended, of one kind and in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlowGroup {
    /// What the rules said.
    pub route: Action,
    /// What was spoken with the client.
    pub protocol: Protocol,
    /// How they ended.
    pub outcome: FlowOutcome,
    /// How many.
    pub count: u64,
}

/// What a flow was carried in, on the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/1.0.
    Http1,
    /// A stream of HTTP/2.
    Http2,
    /// A WebSocket, in either.
    WebSocket,
    /// Bytes that are not looked at.
    Tunnel,
}

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowOutcome {
    /// Whole.
    Completed,
    /// It was not allowed: by the rules, by the handler, or by a limit.
    Refused,
    /// It broke off.
    Failed,
}

/// How often something went well, and how often not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// It went well.
    pub succeeded: u64,
    /// It did not.
    pub failed: u64,
}

/// The cache of leaf certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaves {
    /// Look-ups that found one.
    pub found: u64,
    /// Leaves that had to be made.
    pub made: u64,
    /// Leaves held now.
    pub held: u64,
}

/// Connections to upstreams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// In use: an HTTP/1.1 connection that carries a flow, or an HTTP/2 connection.
    pub in_use: u64,
    /// Kept for the next flow.
    pub idle: u64,
}

/// Payload that passed, in bytes. Bodies count as they pass, tunnels when they end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadBytes {
    /// Bodies of requests.
    pub requests: u64,
    /// Bodies of responses.
    pub responses: u64,
    /// Through tunnels, from clients.
    pub tunnelled_from_clients: u64,
    /// Through tunnels, from upstreams.
    pub tunnelled_from_upstreams: u64,
}

const ROUTES: [Action; 3] = [Action::Intercept, Action::Tunnel, Action::Block];

impl Protocol {
    const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::WebSocket, Self::Tunnel];

    /// Of a flow of this kind on a connection of this protocol.
    pub(crate) fn of(kind: FlowKind, spoken: Self) -> Self {
        match kind {
            FlowKind::Http => spoken,
            FlowKind::WebSocket => Self::WebSocket,
            FlowKind::Tunnel => Self::Tunnel,
        }
    }

    /// The stable name, for example `http1`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::WebSocket => "websocket",
            Self::Tunnel => "tunnel",
        }
    }
}

impl FlowOutcome {
    const ALL: [Self; 3] = [Self::Completed, Self::Refused, Self::Failed];

    fn of(outcome: &Outcome) -> Self {
        let Outcome::Failed { failure, .. } = outcome else {
            return Self::Completed;
        };
        match failure.kind {
            FailureKind::Blocked
            | FailureKind::RequestBlocked
            | FailureKind::AddressDenied
            | FailureKind::PortNotAllowed
            | FailureKind::SniMismatch
            | FailureKind::Loop
            | FailureKind::Busy
            | FailureKind::HandlerFailed => Self::Refused,
            _ => Self::Failed,
        }
    }

    /// The stable name, for example `completed`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Counters {
    /// A connection was accepted; it is open as long as the guard lives.
    pub(crate) fn connection(self: &Arc<Self>) -> ConnectionGuard {
        self.connections.begin();
        ConnectionGuard(Arc::clone(self))
    }

    /// A login to a forward listener was wrong.
    pub(crate) fn login_refused(&self) {
        add(&self.logins_refused, 1);
    }

    /// A login was not looked at, because its client had been wrong too often.
    pub(crate) fn login_barred(&self) {
        add(&self.logins_barred, 1);
    }

    /// It was refused, because its client had too many.
    pub(crate) fn turned_away(&self) {
        add(&self.turned_away, 1);
    }

    pub(crate) fn active_flows(&self) -> u64 {
        self.flows.active()
    }

    pub(crate) fn flow_begun(&self) {
        self.flows.begin();
    }

    pub(crate) fn flow_ended(&self, route: Action, protocol: Protocol, outcome: &Outcome) {
        self.flows.end();
        if let Outcome::Failed { failure, .. } = outcome
            && is_upstream_timeout(failure)
        {
            add(&self.upstream_timeouts, 1);
        }
        let count = self
            .ended
            .get(route_index(route))
            .and_then(|protocols| protocols.get(protocol as usize))
            .and_then(|outcomes| outcomes.get(FlowOutcome::of(outcome) as usize));
        if let Some(count) = count {
            add(count, 1);
        }
    }

    /// The process of a client was looked for. That of another machine's is none's failure.
    pub(crate) fn process_looked_for(&self, answer: &ProcessAnswer) {
        match answer {
            Ok(_) | Err(AttributionError::NotLocal) => {}
            Err(AttributionError::TimedOut) => add(&self.process_timeouts, 1),
            Err(_) => add(&self.process_failures, 1),
        }
    }

    /// Payload of bodies passed.
    pub(crate) fn passed(&self, request: u64, response: u64) {
        if request > 0 {
            add(&self.request_bytes, request);
        }
        if response > 0 {
            add(&self.response_bytes, response);
        }
    }

    /// A tunnel ended.
    pub(crate) fn tunnelled(&self, from_client: u64, from_upstream: u64) {
        add(&self.client_tunnel_bytes, from_client);
        add(&self.upstream_tunnel_bytes, from_upstream);
    }

    /// A request was here for so long before the engine turned to its upstream.
    pub(crate) fn added(&self, latency: Duration) {
        self.added_latency.add(latency);
    }

    /// What is counted here; the rest is filled in by who knows it.
    pub(crate) fn snapshot(&self) -> Metrics {
        let upstream_handshakes = self.upstream_handshakes.snapshot();
        let dials = self.dials.snapshot();
        Metrics {
            active_connections: self.connections.active(),
            total_connections: get(&self.connections.begun),
            refused_connections: get(&self.turned_away),
            refused_logins: get(&self.logins_refused),
            barred_logins: get(&self.logins_barred),
            active_flows: self.flows.active(),
            flows: self.groups(),
            client_handshakes: self.client_handshakes.snapshot(),
            upstream_handshakes,
            dials,
            upstream_connect_error_count: dials.failed + upstream_handshakes.failed,
            upstream_timeout_count: get(&self.upstream_timeouts),
            process_attribution_failure_count: get(&self.process_failures),
            process_attribution_timeout_count: get(&self.process_timeouts),
            leaves: Leaves {
                found: get(&self.leaves.found),
                made: get(&self.leaves.made),
                held: 0,
            },
            bytes: PayloadBytes {
                requests: get(&self.request_bytes),
                responses: get(&self.response_bytes),
                tunnelled_from_clients: get(&self.client_tunnel_bytes),
                tunnelled_from_upstreams: get(&self.upstream_tunnel_bytes),
            },
            added_latency: self.added_latency.snapshot(),
            ..Metrics::default()
        }
    }

    fn groups(&self) -> Vec<FlowGroup> {
        let mut groups = Vec::new();
        for (route, protocols) in ROUTES.into_iter().zip(&self.ended) {
            for (protocol, outcomes) in Protocol::ALL.into_iter().zip(protocols) {
                for (outcome, count) in FlowOutcome::ALL.into_iter().zip(outcomes) {
                    groups.push(FlowGroup {
                        route,
                        protocol,
                        outcome,
                        count: get(count),
                    });
                }
            }
        }
        groups.retain(|group| group.count > 0);
        groups
    }
}

impl Live {
    fn begin(&self) {
        add(&self.begun, 1);
    }

    fn end(&self) {
        add(&self.ended, 1);
    }

    /// The end is read first, so that it is never above the beginning.
    fn active(&self) -> u64 {
        let ended = get(&self.ended);
        get(&self.begun).saturating_sub(ended)
    }
}

impl AttemptCounts {
    pub(crate) fn count(&self, succeeded: bool) {
        let count = match succeeded {
            true => &self.succeeded,
            false => &self.failed,
        };
        add(count, 1);
    }

    fn snapshot(&self) -> Attempts {
        Attempts {
            succeeded: get(&self.succeeded),
            failed: get(&self.failed),
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.connections.end();
    }
}

fn route_index(route: Action) -> usize {
    match route {
        Action::Intercept => 0,
        Action::Tunnel => 1,
        Action::Block => 2,
    }
}

fn is_upstream_timeout(failure: &Failure) -> bool {
    (failure.side, failure.kind) == (Side::Upstream, FailureKind::TimedOut)
}

pub(crate) fn add(count: &AtomicU64, by: u64) {
    count.fetch_add(by, Ordering::Relaxed);
}

pub(crate) fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
