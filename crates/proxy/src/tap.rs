//! Where the engine reports: events are collected per connection and handed over in batches, and
//! the engine goes on. Where nobody watches flows all of it is one branch.

mod flow;
mod large_bodies;
mod outline;
mod repeats;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use traffic::{CertificateRefused, Event, Head, Version};

pub(crate) use self::flow::{Flow, Opening};
use self::large_bodies::LargeBodies;
use self::repeats::Told;
pub(crate) use self::repeats::{BothWays, Repeats};
use crate::handler::{Gate, Interests, Lane};
use crate::limits::EVENTS_KEPT;
use crate::metrics::{Counters, Protocol};

/// Takes what the engine reports.
pub trait Watcher: Send + Sync + std::fmt::Debug + 'static {
    /// Takes a batch of events out of the list; what it leaves there is dropped. Events of one flow come
    /// in order and in order of batches.
    ///
    /// The list is used again, so that a batch costs no memory of its own: a watcher that keeps the events
    /// moves them to a list of its own ([`Vec::append`]).
    ///
    /// It is called on the engine's own tasks and must return at once: queue, never wait. What
    /// cannot be queued is to be dropped, counted, and told as [`Event::Lost`].
    fn handle_events(&self, events: &mut Vec<Event>);

    /// Whether flows are to be told, which costs time for each. A watcher that says no hears only of
    /// what belongs to no flow, such as [`Event::CertificateRefused`], and the programs in it are not
    /// looked for. The answer must not change.
    fn watches_flows(&self) -> bool {
        true
    }

    /// Which streams are to be read message by message, and told as [`Event::Streamed`]. Asked
    /// once.
    fn streams(&self) -> ReadStreams {
        ReadStreams::None
    }
}

/// Which streams are read message by message while they pass.
///
/// The payload of a body that streams is told as well, as of any other. The bytes of a WebSocket are
/// only counted once its messages are told, unless nobody can tell any more where its frames begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadStreams {
    /// None.
    #[default]
    None,
    /// WebSockets. Of a message at most as much is told as of a body (`body_bytes_kept`).
    WebSockets,
    /// WebSockets, server-sent events, NDJSON, gRPC and AWS event streams, in both directions.
    All,
}

/// The engine's end of the watcher, shared by all connections.
#[derive(Debug)]
pub(crate) struct Tap {
    watcher: Option<Arc<dyn Watcher>>,
    /// The watcher wants to be told of flows.
    tells_watcher: bool,
    /// The watcher does, or the handler.
    watches_flows: bool,
    streams: ReadStreams,
    kept_max: u64,
    flows: Arc<FlowCount>,
    counters: Arc<Counters>,
    /// The handler. It is told of handshakes that failed, watched or not.
    gate: Option<Arc<Gate>>,
    bodies: LargeBodies,
}

/// What all flows of one proxy share, over all its configurations.
#[derive(Debug, Default)]
pub(crate) struct FlowCount {
    begun: AtomicU64,
    /// The proxy is stopping, so a flow that is cut was cut by us.
    stopping: AtomicBool,
}

/// Events of one connection on their way to the watcher.
#[derive(Debug)]
pub(crate) struct Reporter {
    tap: Arc<Tap>,
    /// What its requests come in.
    spoken: Protocol,
    events: Vec<Event>,
    /// What was told last.
    told: Told,
    /// The connection or stream as the handler knows it, which is told of what is handed over. It is
    /// told of its close once the last event was.
    lane: Option<Lane>,
}

impl Tap {
    pub(crate) fn new(
        watcher: Option<Arc<dyn Watcher>>,
        kept_max: u64,
        flows: Arc<FlowCount>,
        counters: Arc<Counters>,
        gate: Option<Arc<Gate>>,
    ) -> Arc<Self> {
        let of_flows = watcher.as_ref().filter(|watcher| watcher.watches_flows());
        let wanted = gate.as_ref().map(|gate| gate.interests);
        Arc::new(Self {
            tells_watcher: of_flows.is_some(),
            watches_flows: of_flows.is_some() || wanted.is_some_and(Interests::in_flows),
            streams: match wanted {
                Some(wanted) if wanted.stream_chunks => ReadStreams::All,
                _ => of_flows.map_or(ReadStreams::None, |watcher| watcher.streams()),
            },
            watcher,
            kept_max,
            flows,
            counters,
            gate,
            bodies: LargeBodies::default(),
        })
    }

    pub(crate) fn stop(&self) {
        self.flows.stopping.store(true, Ordering::Relaxed);
    }

    /// For one connection.
    pub(crate) fn reporter(self: &Arc<Self>, spoken: Protocol) -> Reporter {
        self.reporter_with(spoken, Told::Here(BothWays::default()))
    }

    /// For one stream of an HTTP/2 connection, of which that was told.
    pub(crate) fn stream_reporter(self: &Arc<Self>, told: &Arc<Mutex<BothWays>>) -> Reporter {
        self.reporter_with(Protocol::Http2, Told::Shared(Arc::clone(told)))
    }

    fn reporter_with(self: &Arc<Self>, spoken: Protocol, told: Told) -> Reporter {
        Reporter {
            tap: Arc::clone(self),
            spoken,
            events: Vec::new(),
            told,
            lane: None,
        }
    }
}

impl Reporter {
    /// Keeps the lane of the handler until the end.
    pub(crate) fn attach(&mut self, lane: Lane) {
        self.lane = Some(lane);
    }

    /// No more than this is wanted by the handler of the flows that begin from now on.
    pub(crate) fn want(&mut self, wanted: Interests) {
        if self
            .lane
            .as_ref()
            .is_some_and(|lane| lane.wants() != wanted)
        {
            // What began before is wanted as it was.
            self.hand_over();
            if let Some(lane) = &mut self.lane {
                lane.want(wanted);
            }
        }
    }

    /// Hands over what was collected.
    pub(crate) fn hand_over(&mut self) {
        if self.events.is_empty() {
            return;
        }
        if let Some(lane) = &mut self.lane {
            lane.observe(&self.events);
        }
        if let Some(watcher) = &self.tap.watcher {
            if !self.tap.tells_watcher {
                self.events.retain(|event| event.flow().is_none());
            }
            if !self.events.is_empty() {
                watcher.handle_events(&mut self.events);
            }
        }
        self.events.clear();
        self.events.shrink_to(EVENTS_KEPT);
    }

    /// Tells that a program will not take our certificate.
    pub(crate) fn certificate_refused(&mut self, told: CertificateRefused) {
        if self.tap.watcher.is_some() {
            self.events.push(Event::CertificateRefused(Box::new(told)));
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// Trailer lines as an event carries them; `None` if there are none.
pub(crate) fn trailers(version: Version, text: &[u8]) -> Option<Head> {
    (!text.is_empty()).then(|| Head::trailers(version, text))
}
