//! What waits to be told of one connection id, and the task that tells it in order.
//!
//! The callbacks that only tell are not waited for by the traffic: they are queued here, within
//! bounds, and a task per connection id calls them one after the other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::sync::Notify;
use traffic::{ConnectionId, Head};
use uuid::Uuid;

use super::cut::Cut;
use super::gate::{Fault, Gate};
use super::held::Hold;
use super::observer::Observed;
use super::{BodyView, ConnectionMeta, Interests, RawResponse, StreamChunk};
use crate::limits::{DISPATCH_BYTES_MAX, DISPATCH_ITEMS_MAX};

/// What a lane belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LaneKey {
    Connection(ConnectionId),
    /// One HTTP/2 stream, by its connection id.
    Stream(Uuid),
}

/// One connection id, from its opening to its close, which is told when the lane is dropped.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Under the limits that the connection began with.
    pub(super) gate: Arc<Gate>,
    key: LaneKey,
    pub(super) inner: Arc<Inner>,
    /// Of the flows that begin.
    pub(super) wanted: Interests,
    /// What is known of the flow that is under way.
    pub(super) observed: Option<Box<Observed>>,
}

/// What waits to be told of one connection id. It is told in order by a task that is started when
/// there is something to tell.
pub(crate) struct Inner {
    pub(super) id: Uuid,
    meta: Mutex<Arc<ConnectionMeta>>,
    queue: Mutex<Queue>,
    /// Something is in the queue, or it has ended.
    changed: Notify,
    /// Everything in the queue was told.
    told: Notify,
    closed: AtomicBool,
    /// What ends the client connection, where a panic is to do so.
    cut: Option<Arc<Cut>>,
}

/// What is to be told, the oldest first.
struct Queue {
    work: VecDeque<Work>,
    /// One that was taken out is being told.
    telling: bool,
    hold: Hold,
    state: Telling,
}

/// The task of one connection id. However it ends, the close is told.
struct Teller {
    gate: Arc<Gate>,
    inner: Arc<Inner>,
}

/// How far the telling of one connection id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    /// Nothing was to be told yet.
    Unstarted,
    Running,
    /// The lane was dropped, or its task ended: nothing more is taken. The close is told by whoever
    /// ends the telling.
    Ended,
}

/// One thing to be told, as it is queued.
#[derive(Debug)]
pub(super) enum Work {
    Response(Box<Passed>),
    WebSocketStart(Box<Passed>),
    Chunk(Box<StreamChunk>),
    StreamEnd,
}

/// A response as it passed.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) head: Head,
    /// Content codings and all.
    pub(super) body: Bytes,
    /// Something is missing at its end.
    pub(super) truncated: bool,
    pub(super) meta: Arc<ConnectionMeta>,
}

/// One thing to be told, as a handler gets it.
#[derive(Debug)]
pub(super) enum Told {
    Response(RawResponse),
    WebSocketStart(RawResponse),
    Chunk(Box<StreamChunk>),
    StreamEnd,
}

impl Queue {
    fn new(hold: Hold) -> Self {
        Self {
            work: VecDeque::new(),
            telling: false,
            hold,
            state: Telling::Unstarted,
        }
    }
}

impl Inner {
    pub(super) fn new(meta: &Arc<ConnectionMeta>, hold: Hold, cut: Option<Arc<Cut>>) -> Arc<Self> {
        Arc::new(Self {
            id: meta.connection_id,
            meta: Mutex::new(Arc::clone(meta)),
            queue: Mutex::new(Queue::new(hold)),
            changed: Notify::new(),
            told: Notify::new(),
            closed: AtomicBool::new(false),
            cut,
        })
    }

    /// What is known of the connection now.
    pub(super) fn meta(&self) -> Arc<ConnectionMeta> {
        Arc::clone(&self.meta.lock())
    }

    /// More became known of the connection; gives all that is known now.
    pub(super) fn learn(&self, change: impl FnOnce(&mut ConnectionMeta)) -> Arc<ConnectionMeta> {
        let mut meta = self.meta.lock();
        change(Arc::make_mut(&mut meta));
        Arc::clone(&meta)
    }

    /// What ends the client connection, where a panic is to do so.
    pub(super) fn cut(&self) -> Option<Arc<Cut>> {
        self.cut.clone()
    }

    /// Queues what is to be told. False if it was dropped because the handler is too far behind, or
    /// nothing more is told.
    fn push(self: &Arc<Self>, gate: &Arc<Gate>, work: Work) -> bool {
        let mut queue = self.queue.lock();
        if queue.state == Telling::Ended {
            return false;
        }
        let full = queue.work.len() >= DISPATCH_ITEMS_MAX
            || queue.hold.own() + work.bytes() > DISPATCH_BYTES_MAX
            || !queue.hold.grow(work.bytes());
        if full && work.may_be_dropped() {
            gate.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if queue.state == Telling::Unstarted {
            self.start(gate);
            queue.state = Telling::Running;
        }
        queue.work.push_back(work);
        gate.counts.queued.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
        true
    }

    /// Starts the task that tells.
    fn start(self: &Arc<Self>, gate: &Arc<Gate>) {
        let teller = Teller {
            gate: Arc::clone(gate),
            inner: Arc::clone(self),
        };
        gate.tasks
            .spawn("handler", async move { teller.run().await });
    }

    /// Takes nothing more. The close is told once all that is queued was.
    pub(super) fn end(&self, gate: &Gate) {
        let before = std::mem::replace(&mut self.queue.lock().state, Telling::Ended);
        match before {
            // The task ends once it has told what is queued.
            Telling::Running => self.changed.notify_one(),
            Telling::Unstarted => gate.close(self),
            Telling::Ended => {}
        }
    }

    /// True the first time only: whoever gets it tells the close.
    pub(super) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    /// Waits until nothing is left to be told, for as long as one callback may take. What waits
    /// behind one that takes longer is dropped then, but for an end; so that the wait is over after
    /// three times as long at the most.
    ///
    /// Dropping it drops nothing that is queued.
    pub(super) async fn catch_up(&self, gate: &Gate) {
        if self.is_idle() {
            return;
        }
        let limit = gate.limits.response_timeout;
        if tokio::time::timeout(limit, self.all_told()).await.is_err() {
            self.drop_waiting(gate);
            self.all_told().await;
        }
    }

    /// Drops what waits to be told, but for ends.
    fn drop_waiting(&self, gate: &Gate) {
        let mut queue = self.queue.lock();
        let waiting = std::mem::take(&mut queue.work);
        let (dropped, kept): (VecDeque<Work>, VecDeque<Work>) =
            waiting.into_iter().partition(Work::may_be_dropped);
        queue.work = kept;
        queue.hold.shrink(dropped.iter().map(Work::bytes).sum());
        let count = dropped.len() as u64;
        gate.counts.queued.fetch_sub(count, Ordering::Relaxed);
        gate.counts.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Waits until nothing is left to be told.
    async fn all_told(&self) {
        while !self.is_idle() {
            // Made before the queue is looked at again, so that no notice is missed.
            let told = self.told.notified();
            if !self.is_idle() {
                told.await;
            }
        }
    }

    fn is_idle(&self) -> bool {
        let queue = self.queue.lock();
        queue.work.is_empty() && !queue.telling
    }
}

impl Teller {
    async fn run(self) {
        let Self { gate, inner } = &self;
        loop {
            let (next, ended) = {
                let mut queue = inner.queue.lock();
                let next = queue.work.pop_front();
                queue.telling = next.is_some();
                if let Some(next) = &next {
                    queue.hold.shrink(next.bytes());
                    gate.counts.queued.fetch_sub(1, Ordering::Relaxed);
                }
                (next, queue.state == Telling::Ended)
            };
            match next {
                Some(work) => self.tell(work).await,
                None if ended => return,
                None => {
                    inner.told.notify_waiters();
                    inner.changed.notified().await;
                }
            }
        }
    }

    /// Tells one thing. What goes wrong is counted, and the next is told all the same: a stream that
    /// was begun has its end told, even where a panic ends the connection.
    async fn tell(&self, work: Work) {
        let Self { gate, inner } = self;
        let mut hold = gate.hold();
        let Some(told) = work.into_told(gate.limits.body_bytes_max, &mut hold) else {
            return;
        };
        let telling = async { gate.handler.tell(inner.id, &told).await };
        let outcome = gate.within(gate.limits.response_timeout, telling).await;
        if let (Err(Fault::Panicked(_)), Some(cut)) = (outcome, &inner.cut) {
            tracing::error!("a handler panicked, which ends the connection it was told of");
            cut.ask();
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let left = {
            let mut queue = self.inner.queue.lock();
            queue.state = Telling::Ended;
            queue.telling = false;
            let held = queue.hold.own();
            queue.hold.shrink(held);
            std::mem::take(&mut queue.work).len() as u64
        };
        self.gate.counts.queued.fetch_sub(left, Ordering::Relaxed);
        self.inner.told.notify_waiters();
        self.gate.close(&self.inner);
    }
}

impl Lane {
    pub(super) fn new(gate: &Arc<Gate>, key: LaneKey, inner: Arc<Inner>) -> Self {
        Self {
            gate: Arc::clone(gate),
            key,
            inner,
            wanted: gate.interests,
            observed: None,
        }
    }

    /// What is wanted of the flows that begin from now on.
    pub(crate) fn wants(&self) -> Interests {
        self.wanted
    }

    /// No more than this is wanted of the flows that begin from now on.
    pub(crate) fn want(&mut self, wanted: Interests) {
        self.wanted = wanted;
    }

    /// What waits to be told of it.
    pub(super) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.inner)
    }

    /// Queues what is to be told. False if it was dropped.
    pub(super) fn tell(&self, work: Work) -> bool {
        self.inner.push(&self.gate, work)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.gate.forget(self.key);
        self.inner.end(&self.gate);
    }
}

impl Work {
    /// What it holds, for the bound of the queue.
    fn bytes(&self) -> usize {
        match self {
            Self::Response(passed) | Self::WebSocketStart(passed) => passed.body.len(),
            Self::Chunk(chunk) => chunk.payload.len(),
            Self::StreamEnd => 0,
        }
    }

    /// An end is always told of what was begun.
    fn may_be_dropped(&self) -> bool {
        !matches!(self, Self::StreamEnd)
    }

    /// What a handler gets of it: of a body at most `bytes_max` octets, for which `hold` has to have
    /// room. `None` if it is no response.
    fn into_told(self, bytes_max: usize, hold: &mut Hold) -> Option<Told> {
        Some(match self {
            Self::Response(passed) => Told::Response(passed.into_response(bytes_max, hold)?),
            Self::WebSocketStart(passed) => {
                Told::WebSocketStart(passed.into_response(bytes_max, hold)?)
            }
            Self::Chunk(chunk) => Told::Chunk(chunk),
            Self::StreamEnd => Told::StreamEnd,
        })
    }
}

impl Passed {
    fn into_response(self, bytes_max: usize, hold: &mut Hold) -> Option<RawResponse> {
        let headers: HeaderMap = self
            .head
            .fields()
            .filter_map(|(name, value)| {
                let name = HeaderName::from_bytes(name).ok()?;
                Some((name, HeaderValue::from_bytes(value).ok()?))
            })
            .collect();
        let (mut body, mut body_view) =
            BodyView::decoded(&headers, self.body, self.truncated, bytes_max);
        if !hold.grow(body.len()) {
            body = Bytes::new();
            body_view.truncated = true;
        }
        Some(RawResponse {
            status: self.head.status()?,
            headers,
            body,
            body_view,
            connection_meta: self.meta,
        })
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Inner")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
