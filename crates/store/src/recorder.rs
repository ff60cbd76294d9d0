//! The hot side of the store: takes events on the engine's tasks and returns at once.

use std::sync::Arc;
use std::time::Duration;

use traffic::Event;

use crate::ingest::queue::Queue;
use crate::spool::{Spool, Spooled};
use crate::{RunId, StoreError};

/// Takes the events of one run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// As it was begun as.
    run: RunId,
    queue: Arc<Queue>,
    spool: Arc<Spool>,
}

/// What could not be recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Events dropped.
    pub events: u64,
    /// Bytes of heads and bodies in them.
    pub body_bytes: u64,
}

/// What is in memory only: it waits for the writer, or is being written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Events.
    pub events: u64,
    /// Bytes of memory that they take.
    pub bytes: u64,
}

impl Recorder {
    pub(crate) fn new(run: RunId, queue: Arc<Queue>, spool: Arc<Spool>) -> Self {
        Self { run, queue, spool }
    }

    /// The run: the id that it has now. It changes if it began while the database could not be used, and
    /// another run turns out to have the id there, which is once in a million per run that is stored.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.spool.runs.id_of(self.run)
    }

    /// Queues events for the writer; never waits for it. When the queue is full body bytes are
    /// dropped first, then whole batches; what is dropped is counted and stored as a gap. The list is
    /// empty afterwards.
    pub fn handle_events(&self, events: &mut Vec<Event>) {
        self.queue.push_events(self.run, events);
    }

    /// Queues events if there is room for all of them; otherwise leaves them in the list, and says no.
    #[must_use]
    pub fn offer_events(&self, events: &mut Vec<Event>) -> bool {
        self.queue.offer_events(self.run, events)
    }

    /// Waits for room, at most so long, and then does as [`Self::handle_events`]: for a thread that may
    /// wait.
    pub fn handle_events_within(&self, events: &mut Vec<Event>, patience: Duration) {
        self.queue.push_events_within(self.run, events, patience);
    }

    /// Waits until all that was queued before is durable, or was given up and counted.
    pub fn flush(&self, deadline: Duration) -> Result<(), StoreError> {
        self.queue.flush(deadline)
    }

    /// Why nothing can be stored now, in the database or in the spool: what came since then waits in the
    /// queue. Nothing is lost by that until it is full. `None` once a try has succeeded.
    #[must_use]
    pub fn trouble(&self) -> Option<StoreError> {
        self.queue.trouble()
    }

    /// Why the database cannot be written now, while what comes is stored in the spool. `None` once it
    /// can be.
    #[must_use]
    pub fn detour(&self) -> Option<StoreError> {
        self.queue.detour()
    }

    /// What is not stored yet, over all runs of this store.
    #[must_use]
    pub fn queued(&self) -> Queued {
        self.queue.queued()
    }

    /// What is in the spool beside the database, over all processes that write to it. Looks at the folder.
    #[must_use]
    pub fn spooled(&self) -> Spooled {
        self.spool.usage()
    }

    /// What could not be recorded so far, over all runs of this store.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.queue.losses()
    }
}

impl Losses {
    pub(crate) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.body_bytes += other.body_bytes;
    }
}
