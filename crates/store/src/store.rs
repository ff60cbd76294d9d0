//! The writing side: opens the database, owns the writer thread, begins and ends runs.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use llm::Interpreter;
use parking_lot::Mutex;
use rusqlite::Connection;
use traffic::rules::capture::CaptureRules;
use traffic::rules::pattern::HostPatterns;
use traffic::rules::redact::Redaction;
use uuid::Uuid;

use crate::ingest::queue::Queue;
use crate::ingest::record_file::RecordFile;
use crate::ingest::{Orders, write_queue};
use crate::limits::{
    BUSY_TIMEOUT, CLOSE_TIMEOUT, QUEUE_BYTES_MAX, QUEUE_EVENTS_MAX, SPOOL_AFTER, SPOOL_BYTES_MAX,
};
use crate::process::ProcessMark;
use crate::spool::Spool;
use crate::{
    EndRun, Losses, NewRun, Origin, Recorder, RunId, RunRecord, StoreError, database, importer,
    ingest, interrupted,
};

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Which credentials are masked before anything is stored.
    pub redaction: Redaction,
    /// Hosts where models are asked, besides those that are known.
    pub llm_hosts: HostPatterns,
    /// What is kept of what is reported: no flows of some hosts, less of some bodies.
    pub capture: CaptureRules,
    /// Bytes that may wait for the writer.
    pub queue_bytes_max: usize,
    /// Events that may wait for the writer.
    pub queue_events_max: usize,
    /// Bytes that flows may take in the folder `spool` beside the file while that cannot be written; 0:
    /// they wait in the queue only. What is there already is merged all the same.
    pub spool_bytes_max: u64,
}

/// A database that is written to. Several processes may write to one file at the same time.
#[derive(Debug)]
pub struct Store {
    redaction: Redaction,
    queue: Arc<Queue>,
    /// For runs that begin; all else is written by the thread. `None` if it could not be opened.
    connection: Option<Mutex<Connection>>,
    writer: Option<JoinHandle<Result<(), StoreError>>>,
    spool: Arc<Spool>,
}

impl StoreOptions {
    /// The bounds of [`crate::limits`], and all is kept; what is masked has no default.
    #[must_use]
    pub fn new(redaction: Redaction) -> Self {
        Self {
            redaction,
            llm_hosts: HostPatterns::default(),
            capture: CaptureRules::default(),
            queue_bytes_max: QUEUE_BYTES_MAX,
            queue_events_max: QUEUE_EVENTS_MAX,
            spool_bytes_max: SPOOL_BYTES_MAX,
        }
    }
}

impl Store {
    /// Opens the database file, creating it and its folder (for the owner only) where needed, and
    /// starts the writer thread. What an earlier process left in the spool is merged in the background.
    ///
    /// If the file is locked, the disk is full or the file fails, and there may be a spool, this succeeds
    /// all the same: what is recorded goes to the spool until the file can be opened
    /// ([`Recorder::detour`] says why).
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let spool = Arc::new(Spool::new(path, options.spool_bytes_max));
        let queue = Arc::new(Queue::new(
            options.queue_bytes_max,
            options.queue_events_max,
        ));
        let (connection, file) = match open_twice(path, &spool) {
            Ok((connection, writing)) => (Some(connection), RecordFile::opened(path, writing)),
            Err(error) if spool.is_allowed() && error.may_pass() => {
                queue.note_detour(Some(ingest::trouble(&error)));
                (None, RecordFile::closed(path, error))
            }
            Err(error) => return Err(error),
        };
        let orders = Orders {
            redaction: options.redaction,
            interpreter: Interpreter::new(options.llm_hosts),
            rules: Arc::new(options.capture),
            spool: Some(Arc::clone(&spool)),
        };
        let writer = thread::Builder::new()
            .name("oriel-store".to_owned())
            .spawn({
                let queue = Arc::clone(&queue);
                move || write_queue(&file, &queue, &orders)
            });
        let writer = writer.map_err(|error| StoreError::Io {
            source: Box::new(error),
        })?;
        Ok(Self {
            redaction: options.redaction,
            queue,
            connection: connection.map(Mutex::new),
            writer: Some(writer),
            spool,
        })
    }

    /// Begins a run and gives it an id. Credentials in its arguments are masked too.
    ///
    /// If the database cannot be written now, the run is stored later; [`Recorder::run`] tells if it
    /// got another id by that.
    pub fn begin_run(&self, run: NewRun) -> Result<RunId, StoreError> {
        let uuid = Uuid::now_v7();
        let mut record = RunRecord {
            uuid: uuid.to_string(),
            id: RunId::from_random(uuid.as_u64_pair().1),
            name: run.name,
            argv: self.redaction.mask_arguments(&run.argv),
            kind: run.kind,
            pid: std::process::id(),
            started_at: run.started_at,
            ended_at: None,
            exit_code: None,
            signal: None,
            origin: Origin::default(),
        };
        let is_stored = match self.store_run(&record) {
            Ok(Some(id)) => {
                record.id = id;
                true
            }
            Ok(None) => false,
            Err(error) if self.spool.is_allowed() && error.may_pass() => false,
            Err(error) => return Err(error),
        };
        let id = record.id;
        self.spool.runs.add(record, is_stored);
        Ok(id)
    }

    /// Stores a new run; answers the id that was free, `None` if the database was not open from the
    /// beginning.
    fn store_run(&self, run: &RunRecord) -> Result<Option<RunId>, StoreError> {
        let Some(connection) = &self.connection else {
            return Ok(None);
        };
        let own = Some(ProcessMark::own());
        importer::insert_run(&connection.lock(), run, own.as_ref()).map(Some)
    }

    /// Takes the events of a run that this store began.
    #[must_use]
    pub fn recorder(&self, run: RunId) -> Recorder {
        Recorder::new(run, Arc::clone(&self.queue), Arc::clone(&self.spool))
    }

    /// Notes how a run ended, behind all that was recorded of it, and waits until that is durable.
    /// Flows that are still open are stored as interrupted.
    pub fn end_run(&self, run: RunId, end: EndRun) -> Result<(), StoreError> {
        self.queue.push_end(run, end);
        self.queue.flush(CLOSE_TIMEOUT)
    }

    /// What could not be recorded so far.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.queue.losses()
    }

    /// Writes what is queued, merges the spool as far as that goes within [`CLOSE_TIMEOUT`], and joins
    /// the writer thread.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.queue.close();
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(StoreError::Io {
                source: "the writer thread panicked".into(),
            }),
            None => Ok(()),
        }
    }
}

impl Drop for Store {
    /// Lets the writer thread end; only [`Store::close`] waits for it.
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Opens the file for runs that begin, and for the writer.
fn open_twice(path: &Path, spool: &Spool) -> Result<(Connection, Connection), StoreError> {
    let patience = match spool.is_allowed() {
        true => SPOOL_AFTER,
        false => BUSY_TIMEOUT,
    };
    let connection = database::open_within(path, patience)?;
    interrupted::mark_interrupted(&connection).map_err(|error| error.at(path))?;
    Ok((connection, database::open_within(path, patience)?))
}
