//! The writing side: opens the database, owns the writer thread, begins and ends runs.

use std::path::Path;

use traffic::rules::redact::Redaction;

use crate::limits::{QUEUE_BYTES_MAX, QUEUE_EVENTS_MAX};
use crate::{EndRun, NewRun, Recorder, RunId, StoreError};

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Which credentials are masked before anything is stored.
    pub redaction: Redaction,
    /// Bytes that may wait for the writer.
    pub queue_bytes_max: usize,
    /// Events that may wait for the writer.
    pub queue_events_max: usize,
}

/// A database that is written to.
#[derive(Debug)]
pub struct Store {}

impl StoreOptions {
    /// The bounds of [`crate::limits`]; what is masked has no default.
    #[must_use]
    pub fn new(redaction: Redaction) -> Self {
        Self {
            redaction,
            queue_bytes_max: QUEUE_BYTES_MAX,
            queue_events_max: QUEUE_EVENTS_MAX,
        }
    }
}

impl Store {
    /// Opens the database file, creating it and its folder (for the owner only) where needed.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let _ = (path, options);
        Ok(Self {})
    }

    /// Begins a run and gives it an id.
    pub fn begin_run(&self, run: NewRun) -> Result<RunId, StoreError> {
        let _ = run;
        Ok(RunId::from_random(0))
    }

    /// Takes the events of a run that this store began.
    #[must_use]
    pub fn recorder(&self, run: RunId) -> Recorder {
        Recorder::new(run)
    }

    /// Notes how a run ended. Flush its recorder first.
    pub fn end_run(&self, run: RunId, end: EndRun) -> Result<(), StoreError> {
        let _ = (run, end);
        Ok(())
    }

    /// Writes what is queued and joins the writer thread.
    pub fn close(self) -> Result<(), StoreError> {
        Ok(())
    }
}
