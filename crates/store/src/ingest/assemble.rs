//! Puts the events of a flow together. Pure: events in, flows out, in any interleaving.
//!
//! What is open is bounded: the number of flows by `OPEN_FLOWS_MAX`, their bodies by moving them
//! out (the caller asks [`Assembler::held_bytes`] and spills).

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use traffic::rules::capture::CaptureRules;
use traffic::{
    BodySize, Event, FlowId, FlowStarted, Head, Outcome, Rerouted, Sender, Streamed, Timestamp,
    UpstreamFacts,
};

use super::messages::Messages;
use super::number_hash::NumberHash;
use crate::limits::{INFORMATIONAL_MAX, OPEN_FLOWS_MAX};
use crate::recorder::Losses;
use crate::{Message, RunId};

/// Flows of all runs that one store records.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// What is kept at all.
    rules: Arc<CaptureRules>,
    runs: Vec<RunFlows>,
    /// Flows that ended, in the order of ending.
    #[expect(
        clippy::vec_box,
        reason = "they come out of their boxes in `open`: none is moved as a whole"
    )]
    pub(crate) ended: Vec<Box<Flow>>,
    /// Body bytes of open flows that are in memory.
    held_bytes: usize,
}

/// What is known of one run's flows.
#[derive(Debug)]
pub(crate) struct RunFlows {
    pub(crate) run: RunId,
    pub(crate) open: HashMap<FlowId, Box<Flow>, NumberHash>,
    /// Open flows that changed since they were stored; some may have ended since.
    pub(crate) changed: Vec<FlowId>,
    /// Flows with messages that were not stored yet; some may have ended since.
    pub(crate) telling: Vec<FlowId>,
    /// What is missing and was not stored yet.
    pub(crate) gaps: Vec<Gap>,
    next_seq: u64,
    /// Open flows of which nothing is kept.
    excluded: HashSet<FlowId, NumberHash>,
}

/// Something that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) reason: GapReason,
    pub(crate) losses: Losses,
}

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GapReason {
    /// The writer fell behind.
    QueueFull,
    /// The engine said so.
    Engine,
    /// Events came of a flow whose beginning is missing.
    FlowUnknown,
    /// The database refused a batch for what is in it.
    NotStorable,
}

/// One flow as far as it is known.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Its row, if it is stored already.
    pub(crate) row: Option<i64>,
    pub(crate) run: RunId,
    pub(crate) seq: u64,
    pub(crate) started: Box<FlowStarted>,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) rerouted: Option<Box<Rerouted>>,
    pub(crate) request: MessageState,
    pub(crate) response_head: Option<(Timestamp, Head)>,
    pub(crate) response: MessageState,
    pub(crate) informational: Vec<Head>,
    /// Of a WebSocket.
    pub(crate) messages: Messages,
    pub(crate) end: Option<End>,
    /// It is in the list of changed flows.
    listed: bool,
    /// A batch was stored without it.
    put_off: bool,
}

/// The upstream connection of a flow.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) at: Timestamp,
    pub(crate) reused: bool,
    pub(crate) facts: Arc<UpstreamFacts>,
}

/// How a flow ended.
#[derive(Debug)]
pub(crate) enum End {
    /// As the engine reported.
    Reported {
        at: Timestamp,
        outcome: Outcome,
        tunnelled: Option<(u64, u64)>,
    },
    /// Its run ended first.
    Interrupted,
}

/// The body of one message and how it ended.
#[derive(Debug)]
pub(crate) struct MessageState {
    /// Bytes that are kept at most.
    keep_max: u64,
    /// Bytes in memory. Most bodies come in one piece.
    pub(crate) chunks: SmallVec<[Bytes; 1]>,
    /// Bytes that were moved to the database before.
    pub(crate) moved_bytes: u64,
    /// Bytes in memory, summed up.
    pub(crate) held_bytes: usize,
    /// Something in the middle is missing: nothing behind it is kept.
    holed: bool,
    ending: Ending,
}

/// How a message ended.
#[derive(Debug, Default)]
enum Ending {
    /// It did not, as far as is known.
    #[default]
    Open,
    Whole(MessageEnd),
    /// It was cut after so many bytes.
    Cut(u64),
}

/// The end of a whole message.
#[derive(Debug)]
pub(crate) struct MessageEnd {
    pub(crate) at: Timestamp,
    pub(crate) size: BodySize,
    pub(crate) trailers: Option<Box<Head>>,
}

impl Assembler {
    pub(crate) fn new(rules: Arc<CaptureRules>) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Takes one event of a run.
    pub(crate) fn handle_event(&mut self, run: RunId, event: Event) {
        let index = self.index(run);
        let Some(flows) = self.runs.get_mut(index) else {
            return;
        };
        match event {
            Event::FlowStarted(started) => flows.start(started, &self.rules),
            Event::FlowEnded {
                flow,
                at,
                outcome,
                tunnelled,
            } => {
                let Some(mut ended) = flows.open.remove(&flow) else {
                    if !flows.excluded.remove(&flow) {
                        flows.note_gap(GapReason::FlowUnknown, one_event());
                    }
                    return;
                };
                self.held_bytes -= ended.request.held_bytes + ended.response.held_bytes;
                ended.end = Some(End::Reported {
                    at,
                    outcome,
                    tunnelled,
                });
                self.ended.push(ended);
            }
            Event::Lost { events, .. } => {
                let losses = Losses {
                    events,
                    body_bytes: 0,
                };
                flows.note_gap(GapReason::Engine, losses);
                flows.hole_all();
            }
            // It is of no flow; those it tells of are recorded as what they are.
            Event::CertificateRefused(_) => {}
            event => self.held_bytes += flows.update(event, &self.rules),
        }
    }

    /// Batches of a run were dropped here.
    pub(crate) fn handle_gap(&mut self, run: RunId, losses: Losses) {
        let index = self.index(run);
        if let Some(flows) = self.runs.get_mut(index) {
            flows.note_gap(GapReason::QueueFull, losses);
            flows.hole_all();
        }
    }

    /// Bodies of a run were dropped; empty events tell which.
    pub(crate) fn note_dropped_bodies(&mut self, run: RunId, losses: Losses) {
        let index = self.index(run);
        if let Some(flows) = self.runs.get_mut(index) {
            flows.note_gap(GapReason::QueueFull, losses);
        }
    }

    /// A run is over: what is open of it will not end any more.
    pub(crate) fn handle_run_end(&mut self, run: RunId) {
        let index = self.index(run);
        let Some(flows) = self.runs.get_mut(index) else {
            return;
        };
        let mut left: Vec<Box<Flow>> = flows.open.drain().map(|(_, flow)| flow).collect();
        flows.changed.clear();
        flows.telling.clear();
        flows.excluded.clear();
        left.sort_unstable_by_key(|flow| flow.seq);
        for mut flow in left {
            self.held_bytes -= flow.request.held_bytes + flow.response.held_bytes;
            flow.end = Some(End::Interrupted);
            self.ended.push(flow);
        }
    }

    /// Whether open flows were put off that are open still.
    pub(crate) fn has_put_off(&self) -> bool {
        let mut changed = self.runs.iter().flat_map(RunFlows::changed_flows);
        changed.any(|flow| flow.put_off)
    }

    /// Body bytes of open flows that are in memory.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Runs with what is open of them.
    pub(crate) fn runs(&self) -> &[RunFlows] {
        &self.runs
    }

    /// Everything that was pending is stored, but for open flows that are put off: forget it. `rows` are the
    /// new rows of open flows, `moved` says that their bodies went to the database.
    pub(crate) fn settle(&mut self, rows: &HashMap<(RunId, FlowId), i64>, moved: bool) {
        self.ended.clear();
        for flows in &mut self.runs {
            flows.gaps.clear();
            let (run, open) = (flows.run, &mut flows.open);
            flows.changed.retain(|id| {
                let Some(flow) = open.get_mut(id) else {
                    return false;
                };
                flow.put_off = flow.row.is_none() && !rows.contains_key(&(run, *id));
                flow.listed = flow.put_off;
                flow.put_off
            });
            for flow in flows.telling.drain(..) {
                if let Some(flow) = flows.open.get_mut(&flow) {
                    flow.messages.pending.clear();
                }
            }
        }
        for ((run, flow), row) in rows {
            let flows = self.runs.iter_mut().find(|flows| flows.run == *run);
            if let Some(flow) = flows.and_then(|flows| flows.open.get_mut(flow)) {
                flow.row = Some(*row);
            }
        }
        if moved {
            self.held_bytes = 0;
            for flow in self
                .runs
                .iter_mut()
                .flat_map(|flows| flows.open.values_mut())
            {
                flow.request.forget_moved();
                flow.response.forget_moved();
            }
        }
    }

    /// These flows that ended first are stored; with the last of them, what is missing is too. What is
    /// open, and what is new of that, stays.
    pub(crate) fn settle_ended(&mut self, count: usize) {
        self.ended.drain(..count.min(self.ended.len()));
        if !self.ended.is_empty() {
            return;
        }
        for flows in &mut self.runs {
            let open = &flows.open;
            flows.gaps.clear();
            flows.changed.retain(|id| open.contains_key(id));
            flows.telling.retain(|id| open.contains_key(id));
        }
    }

    /// If open flows hold more than this in memory, keeps nothing more of their bodies and messages until
    /// they end. Answers what that loses, counted in flows, and notes it.
    pub(crate) fn bound_open(&mut self, bytes_max: usize) -> Losses {
        let mut lost = Losses::default();
        let told: usize = self.runs.iter().map(RunFlows::told_bytes).sum();
        if self.held_bytes + told <= bytes_max {
            return lost;
        }
        for flows in &mut self.runs {
            let cut = flows.open.values_mut().map(|flow| flow.stop_keeping());
            let losses = Losses {
                events: cut.filter(|cut| *cut).count() as u64,
                body_bytes: 0,
            };
            if losses.events > 0 {
                lost.add(losses);
                flows.note_gap(GapReason::QueueFull, losses);
            }
        }
        lost
    }

    /// A run has another id from now on.
    pub(crate) fn rename_run(&mut self, from: RunId, to: RunId) {
        let ended = self.ended.iter_mut();
        for flow in ended.filter(|flow| flow.run == from) {
            flow.run = to;
        }
        if let Some(flows) = self.runs.iter_mut().find(|flows| flows.run == from) {
            flows.run = to;
            for flow in flows.open.values_mut() {
                flow.run = to;
            }
        }
    }

    /// What is pending cannot be stored at all: forget it, but for a note of it that is stored
    /// with the next batch. Answers what that loses, counted in flows.
    pub(crate) fn give_up(&mut self) -> Losses {
        let ended: Vec<RunId> = self.ended.iter().map(|flow| flow.run).collect();
        for flows in &mut self.runs {
            // What is open is tried again when there is more of it, and not before.
            for flow in flows.changed.drain(..) {
                if let Some(flow) = flows.open.get_mut(&flow) {
                    flow.listed = false;
                }
            }
        }
        self.settle(&HashMap::new(), false);
        let mut lost = Losses::default();
        for run in ended {
            lost.add(one_event());
            let index = self.index(run);
            if let Some(flows) = self.runs.get_mut(index) {
                flows.note_gap(GapReason::NotStorable, one_event());
            }
        }
        lost
    }

    fn index(&mut self, run: RunId) -> usize {
        match self.runs.iter().position(|flows| flows.run == run) {
            Some(index) => index,
            None => {
                self.runs.push(RunFlows {
                    run,
                    open: HashMap::default(),
                    changed: Vec::new(),
                    telling: Vec::new(),
                    gaps: Vec::new(),
                    next_seq: 1,
                    excluded: HashSet::default(),
                });
                self.runs.len() - 1
            }
        }
    }
}

impl RunFlows {
    fn start(&mut self, started: Box<FlowStarted>, rules: &CaptureRules) {
        if rules.excludes(&started.target) {
            // Beyond the bound its further events are those of an unknown flow.
            if self.excluded.len() < OPEN_FLOWS_MAX {
                self.excluded.insert(started.flow);
            }
            return;
        }
        if self.open.len() >= OPEN_FLOWS_MAX {
            self.note_gap(GapReason::QueueFull, one_event());
            return;
        }
        let flow = started.flow;
        let Entry::Vacant(place) = self.open.entry(flow) else {
            // The engine never does this; if it did, the flow that is known stays.
            self.note_gap(GapReason::FlowUnknown, one_event());
            return;
        };
        place.insert(Box::new(Flow {
            row: None,
            run: self.run,
            seq: self.next_seq,
            request: MessageState {
                keep_max: rules
                    .body_bytes_kept(&started.target, || started.head.field("content-type")),
                ..MessageState::default()
            },
            started,
            upstream: None,
            rerouted: None,
            response_head: None,
            response: MessageState::default(),
            informational: Vec::new(),
            messages: Messages::default(),
            end: None,
            listed: true,
            put_off: false,
        }));
        self.next_seq += 1;
        self.changed.push(flow);
    }

    /// Takes an event in the middle of a flow; answers how many body bytes it brought.
    fn update(&mut self, event: Event, rules: &CaptureRules) -> usize {
        let id = event.flow();
        let Some((id, flow)) = id.and_then(|id| Some((id, self.open.get_mut(&id)?))) else {
            if !id.is_some_and(|id| self.excluded.contains(&id)) {
                self.note_gap(GapReason::FlowUnknown, one_event());
            }
            return 0;
        };
        let mut shown = false;
        let mut held = 0;
        match event {
            Event::UpstreamChosen {
                at,
                reused,
                upstream,
                ..
            } => {
                flow.upstream = Some(Upstream {
                    at,
                    reused,
                    facts: upstream,
                });
            }
            Event::Streamed {
                at, sender, item, ..
            } => {
                // Of a body the bytes are kept that it was read from.
                let keep_max = match sender {
                    Sender::Client => flow.request.keep_max,
                    Sender::Upstream => flow.response.keep_max,
                };
                if let Streamed::WebSocket(item) = *item
                    && flow.messages.keep(at, sender, item, keep_max)
                {
                    self.telling.push(id);
                }
            }
            Event::Rerouted(rerouted) => flow.rerouted = Some(rerouted),
            Event::RequestData { data, .. } => held = flow.request.keep(data),
            Event::ResponseData { data, .. } => held = flow.response.keep(data),
            Event::RequestEnded {
                at, size, trailers, ..
            } => flow.request.ending = Ending::Whole(MessageEnd { at, size, trailers }),
            Event::ResponseEnded {
                at, size, trailers, ..
            } => flow.response.ending = Ending::Whole(MessageEnd { at, size, trailers }),
            Event::BodyCut { sender, size, .. } => {
                let message = match sender {
                    Sender::Client => &mut flow.request,
                    Sender::Upstream => &mut flow.response,
                };
                message.ending = Ending::Cut(size.seen);
            }
            Event::Informational { head, .. } => {
                if flow.informational.len() < INFORMATIONAL_MAX {
                    flow.informational.push(head);
                }
            }
            Event::ResponseStarted { at, head, .. } => {
                flow.response.keep_max =
                    rules.body_bytes_kept(&flow.started.target, || head.field("content-type"));
                flow.response_head = Some((at, head));
                shown = true;
            }
            Event::FlowStarted(_)
            | Event::FlowEnded { .. }
            | Event::CertificateRefused(_)
            | Event::Lost { .. } => {}
        }
        if shown && !flow.listed {
            flow.listed = true;
            self.changed.push(id);
        }
        held
    }

    /// Something is missing of an unknown flow: no body that is open can be relied on any more.
    fn hole_all(&mut self) {
        for flow in self.open.values_mut() {
            flow.request.holed |= flow.request.whole().is_none();
            flow.response.holed |= flow.response.whole().is_none();
            flow.messages.note_gap();
        }
    }

    /// Open flows that changed since they were stored in the database.
    pub(crate) fn changed_flows(&self) -> impl Iterator<Item = &Flow> {
        self.changed
            .iter()
            .filter_map(|id| self.open.get(id).map(Box::as_ref))
    }

    /// Bytes of messages of open flows that wait to be stored.
    fn told_bytes(&self) -> usize {
        let telling = self.telling.iter().filter_map(|id| self.open.get(id));
        telling.map(|flow| flow.messages.pending_bytes()).sum()
    }

    fn note_gap(&mut self, reason: GapReason, losses: Losses) {
        match self.gaps.iter_mut().find(|gap| gap.reason == reason) {
            Some(gap) => gap.losses.add(losses),
            None => self.gaps.push(Gap { reason, losses }),
        }
    }
}

impl Flow {
    /// The body of one of its messages.
    pub(crate) fn message(&self, message: Message) -> &MessageState {
        match message {
            Message::Request => &self.request,
            Message::Response => &self.response,
        }
    }

    /// Whether storing it may wait for the next batch: most flows that are open have ended by then, and are
    /// written once.
    pub(crate) fn may_be_put_off(&self) -> bool {
        self.row.is_none() && !self.put_off && self.messages.pending.is_empty()
    }

    /// Bytes that it holds in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let bodies = self.request.held_bytes + self.response.held_bytes;
        self.head_bytes() + bodies + self.messages.pending_bytes()
    }

    /// Bytes of its heads.
    pub(crate) fn head_bytes(&self) -> usize {
        let response = self.response_head.as_ref();
        self.started.head.text.len() + response.map_or(0, |(_, head)| head.text.len())
    }

    /// Keeps no more of its bodies and messages; false if it kept none before.
    fn stop_keeping(&mut self) -> bool {
        let before = self.request.holed && self.response.holed;
        self.request.holed = true;
        self.response.holed = true;
        self.messages.stop_keeping();
        !before
    }

    /// Microseconds since it started.
    pub(crate) fn micros_to(&self, at: Timestamp) -> i64 {
        at.micros_since(self.started.at)
    }
}

impl Default for MessageState {
    fn default() -> Self {
        Self {
            keep_max: u64::MAX,
            chunks: SmallVec::new(),
            moved_bytes: 0,
            held_bytes: 0,
            holed: false,
            ending: Ending::default(),
        }
    }
}

impl MessageState {
    /// Keeps a piece, unless one before it is missing; an empty piece says that one is.
    fn keep(&mut self, mut data: Bytes) -> usize {
        if data.is_empty() {
            self.holed = true;
        }
        if self.holed {
            return 0;
        }
        let room = self.keep_max.saturating_sub(self.kept_bytes());
        data.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        if data.is_empty() {
            return 0;
        }
        let length = data.len();
        self.held_bytes += length;
        self.chunks.push(data);
        length
    }

    fn forget_moved(&mut self) {
        self.moved_bytes += u64::try_from(self.held_bytes).unwrap_or(u64::MAX);
        self.held_bytes = 0;
        self.chunks = SmallVec::new();
    }

    /// Bytes kept so far, in memory and in the database.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.moved_bytes
            .saturating_add(u64::try_from(self.held_bytes).unwrap_or(u64::MAX))
    }

    /// Bytes that passed; `None` as long as it is not known.
    pub(crate) fn size(&self) -> Option<u64> {
        match &self.ending {
            Ending::Open => None,
            Ending::Whole(end) => Some(end.size.seen),
            Ending::Cut(passed) => Some(*passed),
        }
    }

    /// Its end, if it came to it.
    pub(crate) fn whole(&self) -> Option<&MessageEnd> {
        match &self.ending {
            Ending::Whole(end) => Some(end),
            Ending::Open | Ending::Cut(_) => None,
        }
    }

    /// Whether fewer bytes were kept than passed.
    pub(crate) fn is_cut(&self) -> bool {
        self.size().is_some_and(|size| self.kept_bytes() < size)
    }
}

impl GapReason {
    /// The stable name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Engine => "engine",
            Self::FlowUnknown => "flow_unknown",
            Self::NotStorable => "not_storable",
        }
    }
}

fn one_event() -> Losses {
    Losses {
        events: 1,
        body_bytes: 0,
    }
}
