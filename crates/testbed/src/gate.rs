//! A gate between two tasks of a test: one waits, the other opens. It stands where a sleep would
//! otherwise guess.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Closed at first; once open it stays open. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    // A closed semaphore wakes all who wait, and refuses all who come later: an open gate.
    semaphore: Arc<Semaphore>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(0)),
        }
    }

    /// Lets everyone through, now and later.
    pub fn open(&self) {
        self.semaphore.close();
    }

    /// Whether the gate has been opened.
    pub fn is_open(&self) -> bool {
        self.semaphore.is_closed()
    }

    /// Waits until the gate is open. Dropping the future only stops waiting.
    pub async fn wait(&self) {
        let refused = self.semaphore.acquire().await;
        debug_assert!(refused.is_err(), "a gate never hands out permits");
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}
