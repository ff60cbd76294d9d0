//! Copies what the file of this machine records to an archive, in the background.
//!
//! The file is the outbox: how far the archive has it is noted in the file itself, after the archive
//! has made a batch durable. So a crash, or an archive that is away, costs a batch that is sent twice,
//! and the archive takes twice for once. Traffic never waits for any of it: this thread only reads
//! what the writer has stored. Of several oriels on one file, one copies for all.

mod cursor;
mod lease;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp as Now;
use parking_lot::{Condvar, Mutex};
use traffic::Timestamp;

use self::cursor::Outbox;
pub(crate) use self::cursor::{count_waiting, read_gaps};
use self::lease::Lease;
use crate::limits::{
    SHIP_FLOWS_MAX, SHIP_PAUSE, SHIP_RETRY_PAUSE_MAX, SHIP_RETRY_PAUSE_MIN, SHIP_RUNS_MAX,
    SHIP_STATUS_PAUSE,
};
use crate::{Archive, ArchiveBatch, FlowRecord, Location, Origin, RunRecord, StoreError, database};

/// What is copied where.
#[derive(Clone, Debug)]
pub struct ShipperOptions {
    /// The file of this machine.
    pub file: PathBuf,
    /// The archive.
    pub archive: Location,
    /// Whose flows they are; runs that say so themselves keep what they say.
    pub origin: Origin,
}

/// A thread that copies to an archive.
#[derive(Debug)]
pub struct Shipper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Looks at a shipper while it works. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ShipperWatch {
    shared: Arc<Shared>,
}

/// How copying goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShipperStatus {
    /// The archive, without its password.
    pub archive: String,
    /// What it does now.
    pub state: ShipperState,
    /// Flows that the archive does not have as they are now.
    pub depth: u64,
    /// Bytes of the file of this machine, which holds them.
    pub outbox_bytes: u64,
    /// Flows copied since this began, those that were copied again included.
    pub copied: u64,
    /// Flows that the archive refused for what is in them.
    pub refused: u64,
    /// Flows that are not copied, since what is stored of them cannot be read.
    pub unreadable: u64,
    /// When the archive last took something.
    pub acknowledged_at: Option<Timestamp>,
    /// What went wrong last, as one line, and when.
    pub last_error: Option<(Timestamp, String)>,
}

/// What a shipper does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShipperState {
    /// Nothing is known yet.
    Starting,
    /// The archive has everything.
    Idle,
    /// It copies.
    Copying,
    /// Something went wrong; it tries again soon.
    Failing,
    /// Another oriel copies what this file holds.
    Elsewhere,
    /// It has ended.
    Stopped,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told when a stop is asked for, and when the thread has ended.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    status: ShipperStatus,
    /// When to stop, whatever is left then.
    stop_at: Option<Instant>,
}

impl Shipper {
    /// Starts copying. That the archive cannot be reached is no error here: it is told in the status,
    /// and tried again.
    pub fn start(options: ShipperOptions) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                status: ShipperStatus {
                    archive: options.archive.to_string(),
                    state: ShipperState::Starting,
                    depth: 0,
                    outbox_bytes: 0,
                    copied: 0,
                    refused: 0,
                    unreadable: 0,
                    acknowledged_at: None,
                    last_error: None,
                },
                stop_at: None,
            }),
            changed: Condvar::new(),
        });
        let thread = thread::Builder::new().name("oriel-ship".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                copy_until_stopped(&options, &shared);
                shared.state.lock().status.state = ShipperState::Stopped;
                shared.changed.notify_all();
            }
        });
        let thread = thread.map_err(|error| StoreError::Io {
            source: Box::new(error),
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// For whoever shows how it goes.
    #[must_use]
    pub fn watch(&self) -> ShipperWatch {
        ShipperWatch {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Copies what the file holds now and ends, or gives up at the deadline, or when the archive cannot
    /// be used: what is left stays in the file, and goes with the next oriel on it.
    pub fn stop(mut self, within: Duration) -> ShipperStatus {
        let deadline = instant() + within;
        let mut state = self.shared.state.lock();
        state.stop_at = Some(deadline);
        self.shared.changed.notify_all();
        // A connection that hangs is not waited for.
        let grace = deadline + SHIP_PAUSE;
        while state.status.state != ShipperState::Stopped {
            if self
                .shared
                .changed
                .wait_until(&mut state, grace)
                .timed_out()
            {
                break;
            }
        }
        let status = state.status.clone();
        drop(state);
        if status.state == ShipperState::Stopped
            && let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that copies to the archive panicked");
        }
        status
    }
}

impl Drop for Shipper {
    /// Lets the thread end; only [`Shipper::stop`] waits for it.
    fn drop(&mut self) {
        self.shared.state.lock().stop_at = Some(instant());
        self.shared.changed.notify_all();
    }
}

impl ShipperWatch {
    /// How it goes.
    #[must_use]
    pub fn status(&self) -> ShipperStatus {
        self.shared.state.lock().status.clone()
    }
}

impl ShipperState {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Copying => "copying",
            Self::Failing => "failing",
            Self::Elsewhere => "elsewhere",
            Self::Stopped => "stopped",
        }
    }
}

impl Shared {
    /// Waits, but not beyond a stop; answers whether to go on.
    fn pause(&self, pause: Duration) -> bool {
        let mut state = self.state.lock();
        if state.stop_at.is_none() {
            self.changed.wait_for(&mut state, pause);
        }
        state.stop_at.is_none()
    }

    fn stop_at(&self) -> Option<Instant> {
        self.state.lock().stop_at
    }

    fn update(&self, change: impl FnOnce(&mut ShipperStatus)) {
        change(&mut self.state.lock().status);
    }
}

/// What one round did.
enum Round {
    /// It copied, and there may be more.
    Copied,
    /// There was nothing.
    Nothing,
    /// Another oriel copies.
    Elsewhere,
}

fn copy_until_stopped(options: &ShipperOptions, shared: &Shared) {
    let mut copier = Copier {
        options,
        shared,
        outbox: None,
        archive: None,
        runs: HashMap::new(),
        counted_at: None,
    };
    let mut pause = SHIP_RETRY_PAUSE_MIN;
    loop {
        // What is there when a stop is asked for still goes.
        let stop_at = shared.stop_at();
        if stop_at.is_some_and(|at| at <= instant()) {
            return;
        }
        match copier.round() {
            Ok(Round::Copied) => {
                pause = SHIP_RETRY_PAUSE_MIN;
                shared.update(|status| status.state = ShipperState::Copying);
            }
            Ok(Round::Nothing | Round::Elsewhere) if stop_at.is_some() => return,
            Ok(round) => {
                pause = SHIP_RETRY_PAUSE_MIN;
                shared.update(|status| {
                    status.state = match round {
                        Round::Elsewhere => ShipperState::Elsewhere,
                        Round::Copied | Round::Nothing => ShipperState::Idle,
                    };
                });
                shared.pause(SHIP_PAUSE);
            }
            Err(error) => {
                copier.note(&error);
                if stop_at.is_some() {
                    return;
                }
                shared.pause(pause);
                pause = (pause * 2).min(SHIP_RETRY_PAUSE_MAX);
            }
        }
    }
}

struct Copier<'o> {
    options: &'o ShipperOptions,
    shared: &'o Shared,
    outbox: Option<(Outbox, Lease)>,
    archive: Option<Box<dyn Archive>>,
    /// Runs with the origin that the archive is told, by their UUIDs.
    runs: HashMap<String, (Arc<RunRecord>, Arc<RunRecord>)>,
    counted_at: Option<Instant>,
}

impl Copier<'_> {
    /// Copies one batch.
    fn round(&mut self) -> Result<Round, StoreError> {
        let Some(mut batch) = self.read()? else {
            return Ok(Round::Elsewhere);
        };
        if batch.content.is_empty() {
            if let Some((outbox, _)) = &mut self.outbox
                && outbox.is_behind(&batch)
            {
                outbox.acknowledge(&batch, &[])?;
                self.note_unreadable(&batch);
                return Ok(Round::Copied);
            }
            self.count(false)?;
            return Ok(Round::Nothing);
        }
        self.name_origin(&mut batch.content);
        let archive = match &mut self.archive {
            Some(archive) => archive,
            place => {
                let mut archive = self.options.archive.open_archive()?;
                archive.migrate()?;
                place.insert(archive)
            }
        };
        let refused = write(archive.as_mut(), &batch.content)?;
        let flows = number(batch.content.flows.len());
        let Some((outbox, _)) = &mut self.outbox else {
            return Ok(Round::Nothing);
        };
        outbox.acknowledge(&batch, &refused)?;
        let is_failing = self.shared.state.lock().status.state == ShipperState::Failing;
        if is_failing {
            tracing::info!(archive = %self.options.archive, "flows are copied again");
        }
        self.shared.update(|status| {
            status.copied += flows - number(refused.len());
            status.refused += number(refused.len());
            status.acknowledged_at = Some(now());
        });
        self.note_unreadable(&batch);
        self.count(is_failing)?;
        Ok(Round::Copied)
    }

    /// The next batch; `None` if another oriel copies.
    fn read(&mut self) -> Result<Option<cursor::Batch>, StoreError> {
        let (outbox, _) = match &mut self.outbox {
            Some(outbox) => outbox,
            place => {
                let Some(lease) = Lease::take(&self.options.file, &self.options.archive)? else {
                    return Ok(None);
                };
                let connection = database::open_for_writing(&self.options.file)?;
                let outbox = Outbox::open(connection, &self.options.archive.to_string())?;
                place.insert((outbox, lease))
            }
        };
        outbox.next(SHIP_FLOWS_MAX).map(Some)
    }

    fn name_origin(&mut self, batch: &mut ArchiveBatch) {
        let runs = batch.runs.iter_mut();
        let of_flows = batch.flows.iter_mut().map(|flow| &mut flow.run);
        let of_gaps = batch.gaps.iter_mut().map(|gap| &mut gap.run);
        for run in runs.chain(of_flows).chain(of_gaps) {
            if run.origin != Origin::default() {
                continue;
            }
            match self.runs.get(&run.uuid) {
                Some((known, named)) if known == run => *run = Arc::clone(named),
                _ => {
                    let named = Arc::new(RunRecord {
                        origin: self.options.origin.clone(),
                        ..RunRecord::clone(run)
                    });
                    let known = std::mem::replace(run, Arc::clone(&named));
                    if self.runs.len() >= SHIP_RUNS_MAX {
                        self.runs.clear();
                    }
                    self.runs.insert(known.uuid.clone(), (known, named));
                }
            }
        }
    }

    /// Tells of flows that are not copied, since they cannot be read.
    fn note_unreadable(&self, batch: &cursor::Batch) {
        let Some(last) = batch.unreadable.last() else {
            return;
        };
        let text = format!("{} is not copied: {}", last.flow, last.why);
        self.shared.update(|status| {
            status.unreadable += number(batch.unreadable.len());
            status.last_error = Some((now(), text));
        });
    }

    /// Counts what waits, now and then.
    fn count(&mut self, at_once: bool) -> Result<(), StoreError> {
        let is_due = |at: Instant| at.elapsed() >= SHIP_STATUS_PAUSE;
        if !at_once && !self.counted_at.is_none_or(is_due) {
            return Ok(());
        }
        if let Some((outbox, _)) = &self.outbox {
            let (depth, outbox_bytes) = outbox.count()?;
            self.shared.update(|status| {
                status.depth = depth;
                status.outbox_bytes = outbox_bytes;
            });
        }
        self.counted_at = Some(instant());
        Ok(())
    }

    /// Tells what went wrong. The connection is not used again.
    fn note(&mut self, error: &StoreError) {
        self.archive = None;
        let text = error.in_one_line();
        let before = self.shared.state.lock().status.last_error.clone();
        let is_new = before.is_none_or(|(_, before)| before != text);
        let was_failing = self.shared.state.lock().status.state == ShipperState::Failing;
        if is_new || !was_failing {
            tracing::warn!(archive = %self.options.archive, error = text, "flows wait to be copied");
        }
        self.shared.update(|status| {
            status.state = ShipperState::Failing;
            status.last_error = Some((now(), text));
        });
        if let Err(error) = self.count(true) {
            tracing::debug!(%error, "what waits to be copied could not be counted");
        }
    }
}

/// Writes a batch; answers the flows that the archive refuses for what is in them. One such flow must
/// not keep the others back, so the batch is halved until it is found.
fn write(
    archive: &mut dyn Archive,
    batch: &ArchiveBatch,
) -> Result<Vec<(FlowRecord, String)>, StoreError> {
    let detail = match archive.write(batch) {
        Ok(()) => return Ok(Vec::new()),
        Err(StoreError::NotStorable { detail }) => detail,
        Err(error) => return Err(error),
    };
    match batch.flows.as_slice() {
        [] => Err(StoreError::NotStorable { detail }),
        [flow] if batch.runs.is_empty() && batch.gaps.is_empty() && batch.sessions.is_empty() => {
            Ok(vec![(flow.clone(), detail)])
        }
        flows => {
            let rest = ArchiveBatch {
                runs: batch.runs.clone(),
                flows: Vec::new(),
                gaps: batch.gaps.clone(),
                sessions: batch.sessions.clone(),
            };
            if !rest.is_empty() {
                archive.write(&rest)?;
            }
            let mut refused = Vec::new();
            let (left, right) = flows.split_at(flows.len() / 2);
            for half in [left, right].into_iter().filter(|half| !half.is_empty()) {
                let half = ArchiveBatch {
                    flows: half.to_vec(),
                    ..ArchiveBatch::default()
                };
                refused.extend(write(archive, &half)?);
            }
            Ok(refused)
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, beside any runtime"
)]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

fn now() -> Timestamp {
    Timestamp(Now::now().as_microsecond())
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::tests::events;
    use crate::{
        Annotate, AnnotateError, Annotation, ArchiveStatus, Doomed, Marker, Migrated, NewRun,
        Progress, Reader, Redaction, Removal, RunKind, Store, StoreOptions,
    };

    /// Refuses flows with certain numbers.
    #[derive(Debug, Default)]
    struct Picky {
        refuses: Vec<u64>,
        stored: Vec<u64>,
        runs: usize,
    }

    impl Archive for Picky {
        fn migrate(&mut self) -> Result<Migrated, StoreError> {
            Ok(Migrated { from: 1, to: 1 })
        }

        fn write(&mut self, batch: &ArchiveBatch) -> Result<(), StoreError> {
            let numbers = batch.flows.iter().map(|flow| flow.detail.row.id.seq);
            if numbers.clone().any(|seq| self.refuses.contains(&seq)) {
                return Err(StoreError::NotStorable {
                    detail: "not this".to_owned(),
                });
            }
            self.stored.extend(numbers);
            self.runs += batch.runs.len();
            Ok(())
        }

        fn plan_removal(&mut self, _doomed: &Doomed<'_>) -> Result<Removal, StoreError> {
            unreachable!("nothing is removed by who copies")
        }

        fn remove(
            &mut self,
            _doomed: &Doomed<'_>,
            _progress: &mut dyn FnMut(Progress) -> bool,
        ) -> Result<Removal, StoreError> {
            unreachable!("nothing is removed by who copies")
        }

        fn annotate(
            &mut self,
            _uuid: &str,
            _change: &Annotate,
        ) -> Result<Option<Annotation>, AnnotateError> {
            unreachable!("nothing is said by who copies")
        }

        fn rename_session(&mut self, _id: &str, _name: &str) -> Result<bool, StoreError> {
            unreachable!("nothing is said by who copies")
        }

        fn merge_sessions(&mut self, _into: &str, _other: &str) -> Result<bool, StoreError> {
            unreachable!("nothing is said by who copies")
        }

        fn status(&mut self) -> Result<ArchiveStatus, StoreError> {
            Err(StoreError::Deadline)
        }
    }

    fn run() -> Arc<RunRecord> {
        Arc::new(RunRecord {
            uuid: "u".to_owned(),
            id: "aaaa".parse().unwrap(),
            name: None,
            argv: Vec::new(),
            kind: RunKind::Run,
            pid: 1,
            started_at: Timestamp(0),
            ended_at: None,
            exit_code: None,
            signal: None,
            origin: Origin::default(),
        })
    }

    fn flows(count: u64) -> Vec<FlowRecord> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("oriel.db");
        let store = Store::open(&path, StoreOptions::new(Redaction::Basic)).unwrap();
        let run = store.begin_run(NewRun {
            name: None,
            argv: Vec::new(),
            started_at: Timestamp(0),
            kind: RunKind::Run,
        });
        let recorder = store.recorder(run.unwrap());
        for number in 1..=count {
            recorder.handle_events(&mut events(number));
        }
        store.close().unwrap();
        let reader = Reader::open(&path).unwrap();
        reader.records(Marker::default(), 100).unwrap().flows
    }

    #[test]
    fn one_flow_that_is_refused_keeps_no_other_back() {
        let flows = flows(9);
        for refuses in [vec![], vec![1], vec![9], vec![3, 4], (1..=9).collect()] {
            let mut archive = Picky {
                refuses: refuses.clone(),
                ..Picky::default()
            };
            let batch = ArchiveBatch {
                runs: vec![run()],
                flows: flows.clone(),
                ..ArchiveBatch::default()
            };
            let refused = write(&mut archive, &batch).unwrap();
            let refused: Vec<u64> = refused
                .iter()
                .map(|(flow, _)| flow.detail.row.id.seq)
                .collect();
            assert_eq!(refused, refuses);
            let stored: Vec<u64> = (1..=9).filter(|seq| !refuses.contains(seq)).collect();
            assert_eq!(archive.stored, stored);
            assert_eq!(archive.runs, 1);
        }
    }
}
