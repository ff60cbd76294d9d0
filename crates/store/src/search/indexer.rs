//! Fills the index while nothing else is to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::{debug, warn};

use super::TextIndex;
use super::index::newest_arrival;
use crate::StoreError;
use crate::database::open_for_reading;
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

fn fill_until_stopped(record: &Path, stop: &Stop) -> Result<(), StoreError> {
    // To make the index is work as well: a schema, files that are synchronized. It waits for its time too.
    let reading = open_for_reading(record)?;
    let mut newest = newest_arrival(&reading)?;
    let mut time = wait_for_time(stop, &mut newest, || newest_arrival(&reading))?;
    if time == Time::Ended {
        return Ok(());
    }
    drop(reading);
    let mut index = TextIndex::open(record)?;
    while time != Time::Ended && fill_for_a_while(&mut index, newest, time == Time::Idle, stop)? {
        time = wait_for_time(stop, &mut newest, || index.newest_arrival())?;
    }
    Ok(())
}

/// What the thread may do now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Time {
    /// Nothing came for a while.
    Idle,
    /// Flows come all the time.
    Busy,
    /// The thread is to end.
    Ended,
}

/// Waits until there is time to fill the index. `newest` is the newest arrival that is known.
fn wait_for_time(
    stop: &Stop,
    newest: &mut i64,
    look: impl Fn() -> Result<i64, StoreError>,
) -> Result<Time, StoreError> {
    let mut waited = Duration::ZERO;
    loop {
        if stop.wait(INDEX_IDLE_FOR) {
            return Ok(Time::Ended);
        }
        let arrival = look()?;
        if std::mem::replace(newest, arrival) == arrival {
            return Ok(Time::Idle);
        }
        waited += INDEX_IDLE_FOR;
        if waited >= INDEX_WAITS_MAX {
            return Ok(Time::Busy);
        }
    }
}

/// Fills the index as long as nothing comes, or for one such period; false if the thread is to end.
#[expect(
    clippy::disallowed_methods,
    reason = "how long a step took, to rest as long; nothing depends on it"
)]
fn fill_for_a_while(
    index: &mut TextIndex,
    newest: i64,
    is_idle: bool,
    stop: &Stop,
) -> Result<bool, StoreError> {
    let period = Instant::now();
    loop {
        let begun = Instant::now();
        let flows = index.step()?;
        let took = begun.elapsed();
        debug!(flows, ?took, "texts were indexed");
        let is_over = flows == 0 || index.newest_arrival()? != newest;
        if is_over && (is_idle || period.elapsed() > INDEX_IDLE_FOR) {
            return Ok(true);
        }
        let rest = if is_idle { took / 4 } else { took * 3 };
        if stop.wait(rest) {
            return Ok(false);
        }
    }
}
