//! The queue between the engine's tasks and the writer thread. Bounded in bytes and in events;
//! pushing never waits for the writer.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use traffic::wire::stream::StreamItem;
use traffic::wire::websocket::Observation;
use traffic::{Event, FlowId, Streamed};

use super::number_hash::NumberHash;
use crate::limits::{
    GATHER, GATHER_BYTES_MAX, GATHER_FULL_PART, QUEUE_BODILESS_PART, QUEUE_ENDS_MAX,
};
use crate::recorder::{Losses, Queued};
use crate::{EndRun, RunId, StoreError};

/// What one event takes in the queue besides the body bytes it carries: itself, its head and its
/// share of what it points to.
const EVENT_BYTES: usize = size_of::<Event>() + 64;

/// What waits for the writer, in order. The events lie in one list, so that who reports and who writes
/// go through memory in a line, and neither asks for any per flow.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) items: Vec<Item>,
    /// Of all [`Item::Events`], in their order.
    pub(crate) events: Vec<Event>,
}

/// Something that waits.
#[derive(Debug)]
pub(crate) enum Item {
    /// What the engine reported: so many events.
    Events(RunId, usize),
    /// Batches were dropped here.
    Gap(RunId, Dropped),
    /// The run is over.
    End(RunId, EndRun),
}

/// Batches that were dropped, but for the ends of flows in them: a flow whose end is missing would stay
/// open as long as its run.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    pub(crate) losses: Losses,
    /// Ends of flows that began before.
    pub(crate) ends: Vec<Event>,
    /// Flows that began in these batches and go on. Nobody hears of them, so their ends are of no use.
    unheard: HashSet<FlowId, NumberHash>,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Wakes the writer.
    arrived: Condvar,
    /// Wakes who waits for the writer.
    settled: Condvar,
    /// Wakes who waits for room.
    room: Condvar,
    bytes_max: usize,
    events_max: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: Batch,
    /// Bodies that were dropped since the writer looked, by run.
    dropped: Vec<(RunId, Losses)>,
    /// What the events take.
    bytes: usize,
    /// Ends of flows in all [`Item::Gap`].
    ends: usize,
    /// What the writer took and did not store yet.
    taken: Queued,
    /// How often something was pushed.
    pushed: u64,
    /// Up to which of these the rows are durable, or were given up.
    done: u64,
    /// The writer waits to be woken; otherwise it looks by itself.
    writer_sleeps: bool,
    /// Someone waits: do not gather.
    hurry: bool,
    /// Someone waits until all is durable: put nothing off.
    flushing: bool,
    closing: bool,
    losses: Losses,
    /// Why nothing is stored at present.
    trouble: Option<Trouble>,
    /// Why what is stored goes to the spool at present.
    detour: Option<Trouble>,
}

/// Why the last try to write failed; kept in words, since an error cannot be given out twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Locked,
    DiskFull,
    Other(String),
}

/// What the writer took.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) batch: Batch,
    /// Bodies that were dropped out of events, by run. The events tell where.
    pub(crate) dropped: Vec<(RunId, Losses)>,
    /// All of it is to be durable before the ticket is given back.
    pub(crate) whole: bool,
    /// To be given to [`Queue::settle`].
    pub(crate) ticket: u64,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize, events_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            arrived: Condvar::new(),
            settled: Condvar::new(),
            room: Condvar::new(),
            bytes_max,
            events_max,
        }
    }

    /// Queues events, or what of them fits: first without body bytes, then not at all. The list is
    /// empty afterwards.
    pub(crate) fn push_events(&self, run: RunId, events: &mut Vec<Event>) {
        let bytes = events_bytes(events);
        self.push_what_fits(self.state.lock(), run, events, bytes);
    }

    /// Queues events if all of them fit; otherwise leaves them where they are, and says no.
    pub(crate) fn offer_events(&self, run: RunId, events: &mut Vec<Event>) -> bool {
        let bytes = events_bytes(events);
        let state = self.state.lock();
        let fits = self.has_room(&state, bytes, events.len());
        if fits {
            self.push_what_fits(state, run, events, bytes);
        }
        fits
    }

    /// Waits until events fit, then queues them; after `patience` what of them fits.
    pub(crate) fn push_events_within(
        &self,
        run: RunId,
        events: &mut Vec<Event>,
        patience: Duration,
    ) {
        let bytes = events_bytes(events);
        let mut state = self.state.lock();
        let waits =
            |state: &mut State| !state.closing && !self.has_room(state, bytes, events.len());
        self.room.wait_while_for(&mut state, waits, patience);
        self.push_what_fits(state, run, events, bytes);
    }

    /// Whether so much fits; more than is ever allowed counts as fitting when there is nothing else.
    fn has_room(&self, state: &State, bytes: usize, events: usize) -> bool {
        let waiting = state.waiting.events.len();
        waiting == 0
            || (state.bytes + bytes <= self.bytes_with_bodies_max()
                && waiting + events <= self.events_max)
    }

    fn bytes_with_bodies_max(&self) -> usize {
        self.bytes_max - self.bytes_max / QUEUE_BODILESS_PART
    }

    fn push_what_fits(
        &self,
        mut state: MutexGuard<'_, State>,
        run: RunId,
        events: &mut Vec<Event>,
        mut bytes: usize,
    ) {
        if state.bytes + bytes > self.bytes_with_bodies_max() {
            let dropped = drop_bodies(events);
            state.note_dropped(run, dropped);
            bytes = events_bytes(events);
        }
        let count = state.waiting.events.len() + events.len();
        if state.bytes + bytes > self.bytes_max || count > self.events_max {
            state.drop_batch(run, events);
            return;
        }
        state.bytes += bytes;
        state.waiting.push_events(run, events);
        let full = state.bytes > GATHER_BYTES_MAX.min(self.bytes_max / GATHER_FULL_PART)
            || count > self.events_max / GATHER_FULL_PART;
        self.note_pushed(state, full);
    }

    pub(crate) fn push_end(&self, run: RunId, end: EndRun) {
        let mut state = self.state.lock();
        state.waiting.items.push(Item::End(run, end));
        self.note_pushed(state, true);
    }

    /// Something was pushed: wakes the writer if it is to look now.
    fn note_pushed(&self, mut state: MutexGuard<'_, State>, hurry: bool) {
        state.pushed += 1;
        let wake = state.writer_sleeps || (hurry && !state.hurry);
        state.hurry |= hurry;
        state.writer_sleeps = false;
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
    }

    /// Waits until all that was pushed before is durable.
    pub(crate) fn flush(&self, deadline: Duration) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let ticket = state.pushed;
        if state.done >= ticket {
            return Ok(());
        }
        state.hurry = true;
        state.flushing = true;
        state.writer_sleeps = false;
        self.arrived.notify_one();
        let timeout =
            self.settled
                .wait_while_for(&mut state, |state| state.done < ticket, deadline);
        if !timeout.timed_out() {
            return Ok(());
        }
        Err(state
            .trouble
            .clone()
            .map_or(StoreError::Deadline, Into::into))
    }

    /// Why nothing can be stored.
    pub(crate) fn trouble(&self) -> Option<StoreError> {
        self.state.lock().trouble.clone().map(Into::into)
    }

    /// Why what is stored goes to the spool.
    pub(crate) fn detour(&self) -> Option<StoreError> {
        self.state.lock().detour.clone().map(Into::into)
    }

    pub(crate) fn queued(&self) -> Queued {
        let state = self.state.lock();
        let waiting = state.queued();
        Queued {
            events: waiting.events + state.taken.events,
            bytes: waiting.bytes + state.taken.bytes,
        }
    }

    pub(crate) fn losses(&self) -> Losses {
        self.state.lock().losses
    }

    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.hurry = true;
        state.writer_sleeps = false;
        self.arrived.notify_one();
    }

    /// For the writer: sleeps until something arrives, or no longer than `patience`; gathers a little,
    /// takes all. `None` when the store closes and nothing is left. `empty` is memory to use again.
    pub(crate) fn take(&self, empty: Batch, patience: Option<Duration>) -> Option<Taken> {
        let mut state = self.state.lock();
        let mut is_patient = true;
        while state.waiting.items.is_empty() && is_patient && !state.flushing {
            if state.closing {
                return None;
            }
            state.writer_sleeps = true;
            match patience {
                None => self.arrived.wait(&mut state),
                Some(patience) => {
                    is_patient = !self.arrived.wait_for(&mut state, patience).timed_out();
                }
            }
        }
        state.writer_sleeps = false;
        if !state.hurry && is_patient {
            self.arrived
                .wait_while_for(&mut state, |state| !state.hurry, GATHER);
        }
        state.hurry = state.closing;
        let whole = std::mem::take(&mut state.flushing) || state.closing;
        state.taken = state.queued();
        state.bytes = 0;
        state.ends = 0;
        self.room.notify_all();
        Some(Taken {
            batch: std::mem::replace(&mut state.waiting, empty),
            dropped: std::mem::take(&mut state.dropped),
            whole,
            ticket: state.pushed,
        })
    }

    /// For the writer: what it took is stored or given up. All up to the ticket is, unless there is none.
    /// `detour` is why it is not in the database.
    pub(crate) fn settle(&self, ticket: Option<u64>, given_up: Losses, detour: Option<Trouble>) {
        let mut state = self.state.lock();
        state.done = ticket.unwrap_or(state.done);
        state.taken = Queued::default();
        state.trouble = None;
        state.detour = detour;
        state.losses.add(given_up);
        drop(state);
        self.settled.notify_all();
    }

    /// Why what comes is not in the database, if that is known before or after all that is pushed.
    pub(crate) fn note_detour(&self, detour: Option<Trouble>) {
        self.state.lock().detour = detour;
    }

    /// For the writer: a write failed. Waits before the next try; true if the store closes.
    pub(crate) fn pause(&self, trouble: Trouble, pause: Duration) -> bool {
        let mut state = self.state.lock();
        state.trouble = Some(trouble);
        if !state.closing {
            self.arrived
                .wait_while_for(&mut state, |state| !state.closing, pause);
        }
        state.closing
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Locked => Self::Locked,
            Trouble::DiskFull => Self::DiskFull,
            Trouble::Other(said) => Self::Io {
                source: said.into(),
            },
        }
    }
}

impl Batch {
    pub(super) fn push_events(&mut self, run: RunId, events: &mut Vec<Event>) {
        match self.items.last_mut() {
            Some(Item::Events(last, count)) if *last == run => *count += events.len(),
            _ => self.items.push(Item::Events(run, events.len())),
        }
        self.events.append(events);
    }

    /// Forgets what is in it, and keeps the memory for as much as the writer usually takes.
    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.events.clear();
        self.events.shrink_to(GATHER_BYTES_MAX / EVENT_BYTES);
    }
}

impl State {
    fn queued(&self) -> Queued {
        Queued {
            events: self.waiting.events.len() as u64,
            bytes: self.bytes as u64,
        }
    }

    fn note_dropped(&mut self, run: RunId, lost: Losses) {
        if lost == Losses::default() {
            return;
        }
        self.losses.add(lost);
        match self.dropped.iter_mut().find(|(known, _)| *known == run) {
            Some((_, losses)) => losses.add(lost),
            None => self.dropped.push((run, lost)),
        }
    }

    /// Drops events, which are none afterwards.
    fn drop_batch(&mut self, run: RunId, events: &mut Vec<Event>) {
        // Gaps that follow each other are one, so that they cannot fill the queue either.
        let mut dropped = match self.waiting.items.pop() {
            Some(Item::Gap(last, dropped)) if last == run => dropped,
            other => {
                self.waiting.items.extend(other);
                self.pushed += 1;
                Dropped::default()
            }
        };
        let body_bytes = u64::try_from(body_bytes(events)).unwrap_or(u64::MAX);
        let count = events.len();
        let room = QUEUE_ENDS_MAX.saturating_sub(self.ends);
        let kept = dropped.take_ends(events, room);
        self.ends += kept;
        let lost = Losses {
            events: u64::try_from(count - kept).unwrap_or(u64::MAX),
            body_bytes,
        };
        self.losses.add(lost);
        dropped.losses.add(lost);
        self.waiting.items.push(Item::Gap(run, dropped));
    }
}

impl Dropped {
    /// Keeps of these events the ends of flows that began before, at most so many; answers how many.
    fn take_ends(&mut self, events: &mut Vec<Event>, room: usize) -> usize {
        let mut kept = 0;
        for event in events.drain(..) {
            match &event {
                Event::FlowStarted(started) if self.unheard.len() < QUEUE_ENDS_MAX => {
                    self.unheard.insert(started.flow);
                }
                Event::FlowEnded { flow, .. } if !self.unheard.remove(flow) && kept < room => {
                    self.ends.push(event);
                    kept += 1;
                }
                _ => {}
            }
        }
        kept
    }
}

fn body_bytes(events: &[Event]) -> usize {
    let sizes = events.iter().map(|event| match event {
        Event::RequestData { data, .. } | Event::ResponseData { data, .. } => data.len(),
        Event::FlowStarted(started) => started.head.text.len(),
        Event::ResponseStarted { head, .. } | Event::Informational { head, .. } => head.text.len(),
        Event::Streamed { item, .. } => message_bytes(item),
        _ => 0,
    });
    sizes.sum()
}

/// What an item of a stream takes in memory.
fn message_bytes(item: &Streamed) -> usize {
    let payload = match item {
        Streamed::WebSocket(Observation::Message(message)) => message.payload.len(),
        Streamed::Body(StreamItem::Message(message)) => message.payload.len(),
        // Control frames have 125 octets at most.
        _ => 0,
    };
    size_of::<Streamed>() + payload
}

fn events_bytes(events: &[Event]) -> usize {
    events.len() * EVENT_BYTES + body_bytes(events)
}

/// Takes the bytes out of body events and messages. An empty one stays: it tells that something is
/// missing.
fn drop_bodies(events: &mut [Event]) -> Losses {
    let mut dropped = Losses::default();
    for event in events {
        let data = match event {
            Event::RequestData { data, .. } | Event::ResponseData { data, .. } => data,
            Event::Streamed { item, .. } => match &mut **item {
                Streamed::WebSocket(Observation::Message(message)) => &mut message.payload,
                _ => continue,
            },
            _ => continue,
        };
        if !data.is_empty() {
            dropped.events += 1;
            dropped.body_bytes += u64::try_from(data.len()).unwrap_or(u64::MAX);
            *data = Bytes::new();
        }
    }
    dropped
}
