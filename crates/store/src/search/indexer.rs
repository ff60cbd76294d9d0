//! Fills the index while nothing else is to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::{debug, warn};

use super::TextIndex;
use crate::StoreError;
use crate::limits::{INDEX_IDLE_FOR, INDEX_LOOK_EVERY, INDEX_WAITS_MAX};

/// A thread that fills the index of a record: when no flow came for a while, or after a longer one a
/// quarter of the time. Dropping it ends the thread after the step it is at.
#[derive(Debug)]
pub struct TextIndexer {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    wanted: Mutex<bool>,
    told: Condvar,
}

impl TextIndexer {
    /// Begins to fill the index of a record. A failure is tried again.
    pub fn spawn(record: PathBuf) -> Result<Self, StoreError> {
        let stop = Arc::new(Stop::default());
        let thread = thread::Builder::new()
            .name("oriel-index".to_owned())
            .spawn({
                let stop = Arc::clone(&stop);
                move || fill(&record, &stop)
            });
        let thread = thread.map_err(|error| StoreError::Io {
            source: Box::new(error),
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for TextIndexer {
    fn drop(&mut self) {
        *self.stop.wanted.lock() = true;
        self.stop.told.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic was told on stderr; the index is filled again by whoever is next.
            let _ended = thread.join();
        }
    }
}

impl Stop {
    /// Waits; true if the thread is to end.
    fn wait(&self, period: Duration) -> bool {
        let mut wanted = self.wanted.lock();
        if !*wanted {
            self.told.wait_for(&mut wanted, period);
        }
        *wanted
    }
}

fn fill(record: &Path, stop: &Stop) {
    let mut pause = INDEX_LOOK_EVERY;
    while !stop.wait(pause) {
        match fill_until_stopped(record, stop) {
            Ok(()) => return,
            Err(StoreError::Locked) => {}
            Err(error) => {
                warn!(%error, "texts cannot be indexed now");
                // It is of use for searching only.
                pause = INDEX_WAITS_MAX;
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a step took, to rest as long; nothing depends on it"
)]
fn fill_until_stopped(record: &Path, stop: &Stop) -> Result<(), StoreError> {
    let mut index = TextIndex::open(record)?;
    let mut newest = index.newest_arrival()?;
    let mut busy = Duration::ZERO;
    loop {
        if stop.wait(INDEX_IDLE_FOR) {
            return Ok(());
        }
        let arrival = index.newest_arrival()?;
        let is_idle = arrival == newest;
        newest = arrival;
        busy += INDEX_IDLE_FOR;
        if !is_idle && busy < INDEX_WAITS_MAX {
            continue;
        }
        busy = Duration::ZERO;
        // As long as nothing comes, or for one such period.
        let period = Instant::now();
        loop {
            let begun = Instant::now();
            let flows = index.step()?;
            let took = begun.elapsed();
            debug!(flows, ?took, "texts were indexed");
            let is_over = flows == 0 || index.newest_arrival()? != newest;
            if is_over && (is_idle || period.elapsed() > INDEX_IDLE_FOR) {
                break;
            }
            let rest = if is_idle { took / 4 } else { took * 3 };
            if stop.wait(rest) {
                return Ok(());
            }
        }
    }
}
