//! The writing side: opens the database, owns the writer thread, begins and ends runs.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use llm::Interpreter;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode};
use traffic::rules::capture::CaptureRules;
use traffic::rules::pattern::HostPatterns;
use traffic::rules::redact::Redaction;
use uuid::Uuid;

use crate::database;
use crate::ingest::queue::Queue;
use crate::ingest::{Orders, write_queue};
use crate::limits::{
    CHANGES_KEPT, CLOSE_TIMEOUT, QUEUE_BYTES_MAX, QUEUE_EVENTS_MAX, SPOOL_BYTES_MAX,
};
use crate::process::ProcessMark;
use crate::spool::Spool;
use crate::{EndRun, Losses, NewRun, Origin, Recorder, RunId, RunRecord, StoreError};

/// Tries to find a run id that is free. There are a million of them.
const RUN_ID_TRIES_MAX: usize = 1000;

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
    /// For what is not flows; flows are written by the thread only.
    connection: Mutex<Connection>,
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
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let connection = database::open_for_writing(path)?;
        mark_interrupted(&connection)?;
        let writing = database::open_for_writing(path)?;
        let queue = Arc::new(Queue::new(
            options.queue_bytes_max,
            options.queue_events_max,
        ));
        let spool = Arc::new(Spool::new(path, options.spool_bytes_max));
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
                move || write_queue(&writing, &queue, &orders)
            });
        let writer = writer.map_err(|error| StoreError::Io {
            source: Box::new(error),
        })?;
        Ok(Self {
            redaction: options.redaction,
            queue,
            connection: Mutex::new(connection),
            writer: Some(writer),
            spool,
        })
    }

    /// Begins a run and gives it an id. Credentials in its arguments are masked too.
    pub fn begin_run(&self, run: NewRun) -> Result<RunId, StoreError> {
        let connection = self.connection.lock();
        let mark = ProcessMark::own();
        let masked = self.redaction.mask_arguments(&run.argv);
        let argv = serde_json::to_string(&masked).expect("texts are JSON");
        for _ in 0..RUN_ID_TRIES_MAX {
            let uuid = Uuid::now_v7();
            let id = RunId::from_random(uuid.as_u64_pair().1);
            let inserted = connection.execute(
                "INSERT INTO runs (id, uuid, kind, name, argv, pid, process_start, process_space, started_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                (
                    id.as_str(),
                    uuid.to_string(),
                    run.kind.as_str(),
                    &run.name,
                    &argv,
                    mark.pid,
                    mark.start,
                    &mark.space,
                    run.started_at.0,
                ),
            );
            match inserted {
                Ok(_) => {
                    self.spool.add_run(RunRecord {
                        uuid: uuid.to_string(),
                        id,
                        name: run.name,
                        argv: masked,
                        kind: run.kind,
                        pid: std::process::id(),
                        started_at: run.started_at,
                        ended_at: None,
                        exit_code: None,
                        signal: None,
                        origin: Origin::default(),
                    });
                    return Ok(id);
                }
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Damaged {
            detail: "no run id is free".to_owned(),
        })
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

fn is_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

/// Marks flows that a process left open when it died, and forgets old changes.
fn mark_interrupted(connection: &Connection) -> Result<(), StoreError> {
    let mut statement = connection.prepare(
        "SELECT id, pid, process_start, process_space FROM runs
         WHERE id IN (SELECT DISTINCT run_id FROM flows WHERE state = 'open')",
    )?;
    let runs: Vec<(String, ProcessMark)> = statement
        .query_map((), |row| {
            let mark = ProcessMark {
                pid: row.get(1)?,
                start: row.get(2)?,
                space: row.get(3)?,
            };
            Ok((row.get(0)?, mark))
        })?
        .collect::<Result<_, _>>()?;
    for (run, mark) in runs {
        if mark.has_ended() {
            let transaction = connection.unchecked_transaction()?;
            transaction.execute(
                "INSERT INTO flow_changes (flow) SELECT id FROM flows WHERE run_id = ?1 AND state = 'open'",
                [&run],
            )?;
            transaction.execute(
                "UPDATE flows SET state = 'interrupted' WHERE run_id = ?1 AND state = 'open'",
                [&run],
            )?;
            transaction.commit()?;
        }
    }
    connection.execute(
        // What an archive has not got yet is kept for it.
        "DELETE FROM flow_changes WHERE change <= (SELECT max(change) FROM flow_changes) - ?1
           AND change <= coalesce((SELECT min(change) FROM archives), change)",
        [CHANGES_KEPT],
    )?;
    Ok(())
}
