//! What waits to be told of one connection id, and the task that tells it in order.
//!
//! The callbacks that only tell are not waited for by the traffic: they are queued here, within
//! bounds, and a task per connection id calls them one after the other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use traffic::{ConnectionId, FlowId};
use uuid::Uuid;

use super::gate::Gate;
use super::held::Hold;
use super::{ConnectionMeta, RawResponse, StreamChunk};
use crate::limits::{DISPATCH_BYTES_MAX, DISPATCH_ITEMS_MAX};

/// What a lane belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LaneKey {
    Connection(ConnectionId),
    /// One HTTP/2 stream.
    Flow(FlowId),
}

/// One connection id, from its opening to its close, which is told when the lane is dropped.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(super) gate: Arc<Gate>,
    pub(super) key: LaneKey,
    pub(super) inner: Arc<Inner>,
}

/// What waits to be told of one connection id. It is told in order by a task that is started when
/// there is something to tell.
pub(crate) struct Inner {
    pub(super) id: Uuid,
    pub(super) meta: Mutex<Arc<ConnectionMeta>>,
    queue: Mutex<Queue>,
    /// Something is in the queue, or it has ended.
    changed: Notify,
    /// Everything in the queue was told.
    told: Notify,
    closed: AtomicBool,
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
    /// The lane was dropped: nothing more is taken.
    Ended,
}

/// One thing to be told.
#[derive(Debug)]
pub(crate) enum Work {
    Response(Box<RawResponse>),
    WebSocketStart(Box<RawResponse>),
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
    pub(super) fn new(meta: &Arc<ConnectionMeta>, hold: Hold) -> Arc<Self> {
        Arc::new(Self {
            id: meta.connection_id,
            meta: Mutex::new(Arc::clone(meta)),
            queue: Mutex::new(Queue::new(hold)),
            changed: Notify::new(),
            told: Notify::new(),
            closed: AtomicBool::new(false),
        })
    }

    /// Queues what is to be told. False if it was dropped because the handler is too far behind, or
    /// nothing more is told.
    pub(super) fn push(self: &Arc<Self>, gate: &Arc<Gate>, work: Work) -> bool {
        let mut queue = self.queue.lock();
        let full = queue.work.len() >= DISPATCH_ITEMS_MAX
            || queue.hold.own() + work.bytes() > DISPATCH_BYTES_MAX
            || !queue.hold.grow(work.bytes());
        if full && work.may_be_dropped() {
            gate.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        match queue.state {
            Telling::Unstarted => self.start(gate),
            Telling::Running => {}
            Telling::Ended => return false,
        }
        queue.state = Telling::Running;
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

    /// True the first time only: whoever gets it tells the close.
    pub(super) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    /// Waits until nothing is left to be told.
    pub(super) async fn all_told(&self) {
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
                Some(work) => {
                    let told = gate.handler.tell(inner.id, &work);
                    // What went wrong was counted; the next is told all the same.
                    let _told = gate.within(gate.limits.response_timeout, told).await;
                }
                None if ended => return,
                None => {
                    inner.told.notify_waiters();
                    inner.changed.notified().await;
                }
            }
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.inner.queue.lock().work).len() as u64;
        self.gate.counts.queued.fetch_sub(left, Ordering::Relaxed);
        self.gate.close(&self.inner);
    }
}

impl Lane {
    /// What waits to be told of it.
    pub(super) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.inner)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.gate.lanes.lock().remove(&self.key);
        let before = std::mem::replace(&mut self.inner.queue.lock().state, Telling::Ended);
        match before {
            // The task ends once it has told what is queued.
            Telling::Running => self.inner.changed.notify_one(),
            Telling::Unstarted | Telling::Ended => self.gate.close(&self.inner),
        }
    }
}

impl Work {
    /// What it holds, for the bound of the queue.
    fn bytes(&self) -> usize {
        match self {
            Self::Response(response) | Self::WebSocketStart(response) => response.body.len(),
            Self::Chunk(chunk) => chunk.payload.len(),
            Self::StreamEnd => 0,
        }
    }

    /// An end is always told of what was begun.
    fn may_be_dropped(&self) -> bool {
        !matches!(self, Self::StreamEnd)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Inner")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
