//! Between the engine and the thread of the analyzers: a queue with bounds.
//!
//! A flow is taken whole or with a note: once its start was queued its end is too, whatever was
//! lost between them, so that nothing is waited for in vain. What is queued beyond the bounds are
//! such ends alone, one for each flow that is under way.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{Condvar, Mutex};
use traffic::wire::stream::StreamItem;
use traffic::wire::websocket::Observation;
use traffic::{Event, FlowId, FlowKind, Streamed};

use super::pipeline::AnalysisCounts;
use crate::limits::{ANALYSIS_EVENTS_MAX, ANALYSIS_QUEUE_BYTES_MAX};
use crate::tap::{ReadStreams, Watcher};

/// Takes events from the engine, and gives them to one taker.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    counts: Arc<AnalysisCounts>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Queued>,
    bytes: usize,
    /// Flows whose start was queued: how many of their events were lost.
    flows: HashMap<FlowId, u64>,
    closed: bool,
}

/// An event, and how many of its flow were lost before it; told with the end of the flow.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) event: Event,
    pub(super) lost: u64,
}

/// What became of an event.
enum Taken {
    /// It is queued, or nobody wants it.
    Yes,
    /// It is lost.
    EventLost,
    /// It began a flow, of which nothing will be told.
    FlowLost,
}

impl Queue {
    pub(super) fn new(counts: Arc<AnalysisCounts>) -> Self {
        Self {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            counts,
        }
    }

    /// Nothing is taken any more; what is queued is still given.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.changed.notify_one();
    }

    /// Waits for events, and gives all there are; `None` after the last.
    pub(super) fn take(&self) -> Option<VecDeque<Queued>> {
        let mut waiting = self.waiting.lock();
        while waiting.events.is_empty() {
            if waiting.closed {
                return None;
            }
            self.changed.wait(&mut waiting);
        }
        waiting.bytes = 0;
        Some(std::mem::take(&mut waiting.events))
    }
}

impl Watcher for Queue {
    fn handle_events(&self, events: &mut Vec<Event>) {
        let mut waiting = self.waiting.lock();
        for event in events.drain(..) {
            let count = match waiting.push(event) {
                Taken::Yes => continue,
                Taken::EventLost => &self.counts.events_lost,
                Taken::FlowLost => &self.counts.flows_lost,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    fn streams(&self) -> ReadStreams {
        ReadStreams::All
    }
}

impl Waiting {
    /// Takes an event if there is room.
    fn push(&mut self, event: Event) -> Taken {
        let bytes = bytes_of(&event);
        let has_room = !self.closed
            && self.events.len() < ANALYSIS_EVENTS_MAX
            && self.bytes + bytes <= ANALYSIS_QUEUE_BYTES_MAX;
        let mut lost = 0;
        match &event {
            // Of a tunnel nothing is told, so nothing of it is missed.
            Event::FlowStarted(started) if started.kind == FlowKind::Tunnel => return Taken::Yes,
            Event::FlowStarted(started) if has_room => {
                self.flows.insert(started.flow, 0);
            }
            Event::FlowStarted(_) => return Taken::FlowLost,
            Event::FlowEnded { flow, .. } => match self.flows.remove(flow) {
                Some(count) => lost = count,
                None => return Taken::Yes,
            },
            Event::CertificateRefused(_) | Event::Lost { .. } => return Taken::Yes,
            event => match event.flow().and_then(|flow| self.flows.get_mut(&flow)) {
                None => return Taken::Yes,
                Some(_) if has_room => {}
                Some(lost) => {
                    *lost += 1;
                    return Taken::EventLost;
                }
            },
        }
        self.bytes += bytes;
        self.events.push_back(Queued { event, lost });
        Taken::Yes
    }
}

/// What an event holds, about.
fn bytes_of(event: &Event) -> usize {
    let payload = match event {
        Event::FlowStarted(started) => started.head.text.len(),
        Event::RequestData { data, .. } | Event::ResponseData { data, .. } => data.len(),
        Event::Informational { head, .. } | Event::ResponseStarted { head, .. } => head.text.len(),
        Event::Streamed { item, .. } => match &**item {
            Streamed::Body(StreamItem::Message(message)) => message.payload.len(),
            Streamed::WebSocket(Observation::Message(message)) => message.payload.len(),
            _ => 0,
        },
        Event::Rerouted(rerouted) => rerouted.url.len(),
        Event::UpstreamChosen { .. }
        | Event::RequestEnded { .. }
        | Event::ResponseEnded { .. }
        | Event::BodyCut { .. }
        | Event::FlowEnded { .. }
        | Event::CertificateRefused(_)
        | Event::Lost { .. } => 0,
    };
    payload + size_of::<Queued>()
}
