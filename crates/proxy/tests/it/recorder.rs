//! Keeps every event, and waits for those that a test asks for.

use oriel_proxy::{ReadStreams, Watcher};
use parking_lot::Mutex;
use tokio::sync::watch;
use traffic::wire::websocket::Observation;
use traffic::{
    BodySize, Event, Failure, FlowId, FlowStarted, Outcome, Sender, Streamed, UpstreamFacts,
};

use crate::soon;

/// A watcher that keeps all it is told.
#[derive(Debug)]
pub(crate) struct Recorder {
    of_flows: bool,
    events: Mutex<Vec<Event>>,
    ended: watch::Sender<usize>,
    told: watch::Sender<usize>,
}

/// What was told of one flow.
#[derive(Debug)]
pub(crate) struct FlowSeen {
    pub(crate) started: FlowStarted,
    pub(crate) events: Vec<Event>,
}

impl Watcher for Recorder {
    fn handle_events(&self, events: &mut Vec<Event>) {
        let is_end = |event: &&Event| matches!(event, Event::FlowEnded { .. });
        let ended = events.iter().filter(is_end).count();
        let told = events.len();
        self.events.lock().append(events);
        self.ended.send_modify(|count| *count += ended);
        self.told.send_modify(|count| *count += told);
    }

    fn watches_flows(&self) -> bool {
        self.of_flows
    }

    fn streams(&self) -> ReadStreams {
        ReadStreams::WebSockets
    }
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            of_flows: true,
            events: Mutex::default(),
            ended: watch::Sender::new(0),
            told: watch::Sender::new(0),
        }
    }

    /// One that watches no flows.
    pub(crate) fn of_no_flows() -> Self {
        Self {
            of_flows: false,
            ..Self::new()
        }
    }

    /// All events so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    /// All flows so far, in the order in which they began.
    pub(crate) fn flows(&self) -> Vec<FlowSeen> {
        let events = self.events.lock();
        let started = events.iter().filter_map(|event| match event {
            Event::FlowStarted(started) => Some(FlowStarted::clone(started)),
            _ => None,
        });
        started
            .map(|started| FlowSeen {
                events: of_flow(&events, started.flow),
                started,
            })
            .collect()
    }

    /// Waits until so many flows have ended, and gives all flows.
    pub(crate) async fn ended(&self, count: usize) -> Vec<FlowSeen> {
        let mut ended = self.ended.subscribe();
        let reached = ended.wait_for(|ended| *ended >= count);
        soon(reached).await.unwrap();
        self.flows()
    }

    /// Waits until one event is as wanted.
    pub(crate) async fn told(&self, wanted: impl Fn(&Event) -> bool) {
        let mut told = self.told.subscribe();
        let reached = told.wait_for(|_| self.events.lock().iter().any(&wanted));
        soon(reached).await.unwrap();
    }

    /// The one flow there was, after its end.
    pub(crate) async fn only_flow(&self) -> FlowSeen {
        let mut flows = self.ended(1).await;
        assert_eq!(flows.len(), 1, "{flows:#?}");
        flows.remove(0)
    }
}

fn of_flow(events: &[Event], flow: FlowId) -> Vec<Event> {
    let is_of = |event: &&Event| event.flow() == Some(flow);
    events.iter().filter(is_of).cloned().collect()
}

impl FlowSeen {
    /// How the flow ended; fails if it ended never, or twice.
    pub(crate) fn outcome(&self) -> &Outcome {
        let mut outcomes = self.events.iter().filter_map(|event| match event {
            Event::FlowEnded { outcome, .. } => Some(outcome),
            _ => None,
        });
        let outcome = outcomes.next().expect("the flow has ended");
        assert!(outcomes.next().is_none(), "the flow ended twice: {self:#?}");
        outcome
    }

    /// Why the flow failed, and with which status the client was told.
    pub(crate) fn failure(&self) -> (&Failure, Option<u16>) {
        let Outcome::Failed { failure, replied } = self.outcome() else {
            unreachable!("the flow went well: {self:#?}");
        };
        (failure, *replied)
    }

    pub(crate) fn completed(&self) -> bool {
        *self.outcome() == Outcome::Completed
    }

    /// Bytes that passed a tunnel, from the client and from the upstream.
    pub(crate) fn tunnelled(&self) -> Option<(u64, u64)> {
        self.events.iter().find_map(|event| match event {
            Event::FlowEnded { tunnelled, .. } => *tunnelled,
            _ => None,
        })
    }

    /// The upstream connection that carried it last.
    pub(crate) fn upstream(&self) -> &UpstreamFacts {
        let chosen = self.events.iter().rev().find_map(|event| match event {
            Event::UpstreamChosen { upstream, .. } => Some(upstream),
            _ => None,
        });
        chosen.expect("the flow has reached an upstream")
    }

    pub(crate) fn request_body(&self) -> Vec<u8> {
        let data = |event: &Event| match event {
            Event::RequestData { data, .. } => data.to_vec(),
            _ => Vec::new(),
        };
        self.events.iter().flat_map(data).collect()
    }

    pub(crate) fn response_body(&self) -> Vec<u8> {
        let data = |event: &Event| match event {
            Event::ResponseData { data, .. } => data.to_vec(),
            _ => Vec::new(),
        };
        self.events.iter().flat_map(data).collect()
    }

    /// What was read out of a WebSocket, by who sent it.
    pub(crate) fn observed(&self, from: Sender) -> Vec<Observation> {
        let observed = |event: &Event| match event {
            Event::Streamed { sender, item, .. } if *sender == from => match &**item {
                Streamed::WebSocket(observation) => Some(observation.clone()),
                _ => None,
            },
            _ => None,
        };
        self.events.iter().filter_map(observed).collect()
    }

    /// The sizes of both bodies, where they came to their end.
    pub(crate) fn sizes(&self) -> (Option<BodySize>, Option<BodySize>) {
        let mut sizes = (None, None);
        for event in &self.events {
            match event {
                Event::RequestEnded { size, .. } => sizes.0 = Some(*size),
                Event::ResponseEnded { size, .. } => sizes.1 = Some(*size),
                _ => {}
            }
        }
        sizes
    }

    /// How much there was of bodies that were cut.
    pub(crate) fn cut(&self) -> Vec<(Sender, BodySize)> {
        let cut = self.events.iter().filter_map(|event| match event {
            Event::BodyCut { sender, size, .. } => Some((*sender, *size)),
            _ => None,
        });
        cut.collect()
    }

    /// The kinds of its events, in order; several pieces of a body count as one.
    pub(crate) fn course(&self) -> String {
        let mut names: Vec<&str> = self.events.iter().map(name).collect();
        names.dedup();
        names.join(" ")
    }
}

/// The size of a body of which all that passed was kept.
pub(crate) fn passed(bytes: u64) -> BodySize {
    BodySize {
        seen: bytes,
        kept: bytes,
    }
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::FlowStarted(_) => "started",
        Event::UpstreamChosen { .. } => "upstream",
        Event::Rerouted(_) => "rerouted",
        Event::RequestData { .. } => "request-data",
        Event::RequestEnded { .. } => "request-ended",
        Event::Informational { .. } => "informational",
        Event::ResponseStarted { .. } => "response",
        Event::ResponseData { .. } => "response-data",
        Event::Streamed { .. } => "streamed",
        Event::ResponseEnded { .. } => "response-ended",
        Event::BodyCut {
            sender: Sender::Client,
            ..
        } => "request-cut",
        Event::BodyCut {
            sender: Sender::Upstream,
            ..
        } => "response-cut",
        Event::FlowEnded { .. } => "ended",
        Event::Lost { .. } => "lost",
        Event::CertificateRefused(_) => "certificate refused",
    }
}
