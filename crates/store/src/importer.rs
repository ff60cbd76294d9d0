//! Writes flows that come from elsewhere into a SQLite file: from an archive, another file, an import.
//!
//! A flow is known by the UUID of its run and its number in it, so that doing it twice changes nothing.
//! Oriels that write to the file at the same time are not disturbed.

mod connections;
mod flow;
mod messages;
mod parts;
mod places;
mod row;
mod runs;
mod stored;
mod writing;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use self::connections::Connections;
use self::places::Places;
pub(crate) use self::runs::{insert_run, place_own_run};
use self::writing::Writing;
use crate::ingest::bodies::{Bodies, Remembered};
use crate::ingest::response_kind::ResponseKinds;
use crate::process::ProcessMark;
use crate::{
    ArchiveBatch, FlowRecord, GapRecord, RunId, RunRecord, SessionName, StoreError, database,
    interrupted,
};

/// A SQLite file that takes flows from elsewhere.
#[derive(Debug)]
pub struct Importer {
    connection: Connection,
    known: Known,
    bodies: Remembered,
}

/// What was done with flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Flows that were not there.
    pub added: u64,
    /// Flows that were there, and less was known of them.
    pub changed: u64,
    /// Flows that were there as they are.
    pub unchanged: u64,
}

/// The rows that flows share, as far as they are known to be stored.
#[derive(Debug, Default)]
struct Known {
    /// The ids of runs here, by their UUIDs.
    runs: HashMap<String, RunId>,
    places: Places,
    response_kinds: ResponseKinds,
    connections: Connections,
}

/// What is stored in one transaction.
#[derive(Clone, Copy, Debug)]
struct Batch<'b> {
    runs: &'b [Arc<RunRecord>],
    flows: &'b [FlowRecord],
    gaps: &'b [GapRecord],
    sessions: &'b [SessionName],
}

/// What happens to a flow that is stored already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meeting {
    /// It becomes what comes, unless less is known of that.
    Replace,
    /// One that was stored with its end stays, and so does one of which as much is known. Of another the
    /// beginnings of bodies may be there, and what comes is the rest.
    Complete,
}

impl Importer {
    /// Opens the file, creating it and its folder (for the owner only) where needed.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::new(database::open_for_writing(path)?))
    }

    /// Tries once to open the file, and never waits longer than this for others that write.
    pub(crate) fn open_once(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        Ok(Self::new(database::open_once(path, patience)?))
    }

    fn new(connection: Connection) -> Self {
        Self {
            connection,
            known: Known::default(),
            bodies: Remembered::default(),
        }
    }

    /// The id that a run with this UUID has here, once a flow of it was stored.
    #[must_use]
    pub fn run_id(&self, uuid: &str) -> Option<RunId> {
        self.known.runs.get(uuid).copied()
    }

    /// Stores flows, all or none; they are durable when this returns. Nothing of them is masked here.
    pub fn insert(&mut self, flows: &[FlowRecord]) -> Result<Imported, StoreError> {
        let batch = Batch {
            runs: &[],
            flows,
            gaps: &[],
            sessions: &[],
        };
        self.store(batch, Meeting::Replace)
    }

    /// Stores flows, runs and gaps, all or none.
    pub fn insert_batch(&mut self, batch: &ArchiveBatch) -> Result<Imported, StoreError> {
        self.store(batch.into(), Meeting::Replace)
    }

    /// Stores what the writer of this file could not: flows that ended, of which the file may have the
    /// beginning.
    pub(crate) fn complete(&mut self, batch: &ArchiveBatch) -> Result<Imported, StoreError> {
        self.store(batch.into(), Meeting::Complete)
    }

    /// Notes which process writes a run, if that is not known.
    pub(crate) fn note_process(&self, uuid: &str, process: &ProcessMark) -> Result<(), StoreError> {
        runs::note_process(&self.connection, uuid, process)
    }

    /// Marks flows that a process left open when it died.
    pub(crate) fn mark_interrupted(&self) -> Result<(), StoreError> {
        interrupted::mark_interrupted(&self.connection)
    }

    fn store(&mut self, batch: Batch<'_>, meeting: Meeting) -> Result<Imported, StoreError> {
        let stored = self.store_in_transaction(batch, meeting);
        if stored.is_err() {
            // What was remembered may have been taken back.
            self.known.forget();
        }
        stored
    }

    fn store_in_transaction(
        &mut self,
        batch: Batch<'_>,
        meeting: Meeting,
    ) -> Result<Imported, StoreError> {
        let transaction =
            Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        // It is put back if all goes well; what a failure takes back is not to be remembered.
        let mut bodies = Bodies::new(&transaction, std::mem::take(&mut self.bodies))?;
        if bodies.heed_removals()? {
            self.known.forget();
        }
        let mut writing = Writing::new(&transaction, meeting, bodies, &mut self.known);
        let imported = writing.write(batch)?;
        let bodies = writing.end()?;
        transaction.commit()?;
        self.bodies = bodies;
        Ok(imported)
    }
}

impl Known {
    /// Forgets what is stored: a write was undone, or another process may have removed it.
    fn forget(&mut self) {
        self.runs.clear();
        self.places.forget();
        self.response_kinds.forget();
        self.connections.forget();
    }
}

impl<'b> From<&'b ArchiveBatch> for Batch<'b> {
    fn from(batch: &'b ArchiveBatch) -> Self {
        Self {
            runs: &batch.runs,
            flows: &batch.flows,
            gaps: &batch.gaps,
            sessions: &batch.sessions,
        }
    }
}
