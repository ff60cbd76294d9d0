//! The runs of this process, which what is in the spool names by itself.
//!
//! A run is known everywhere by its UUID. Its short id has to be free in the database, and that cannot be
//! asked while the database cannot be used. So a run that begins then takes an id that is free in most
//! cases, and its flows go into the spool with the whole run. The writer stores the run before the first
//! thing that it writes to the database itself; if the id is another run's there, it takes a new one, and
//! from then on everything of the run has that. Events name the run as it was begun as.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{RunId, RunRecord};

/// The runs that a store began.
#[derive(Debug, Default)]
pub(crate) struct OwnRuns {
    runs: Mutex<Vec<OwnRun>>,
}

#[derive(Debug)]
struct OwnRun {
    /// How events name it.
    begun_as: RunId,
    /// With the id that it has now.
    record: Arc<RunRecord>,
    is_stored: bool,
}

impl OwnRuns {
    /// Notes a run; whether the database has it.
    pub(crate) fn add(&self, record: RunRecord, is_stored: bool) {
        self.runs.lock().push(OwnRun {
            begun_as: record.id,
            record: Arc::new(record),
            is_stored,
        });
    }

    /// Those whose present id is wanted.
    pub(crate) fn with_ids(&self, wanted: impl Fn(RunId) -> bool) -> Vec<Arc<RunRecord>> {
        let runs = self.runs.lock();
        let records = runs.iter().map(|run| &run.record);
        records
            .filter(|record| wanted(record.id))
            .cloned()
            .collect()
    }

    /// Those that the database does not have yet, in the order in which they began.
    pub(crate) fn not_stored(&self) -> Vec<Arc<RunRecord>> {
        let runs = self.runs.lock();
        let missing = runs.iter().filter(|run| !run.is_stored);
        missing.map(|run| Arc::clone(&run.record)).collect()
    }

    /// The database has a run, under this id.
    pub(crate) fn note_stored(&self, uuid: &str, id: RunId) {
        let mut runs = self.runs.lock();
        if let Some(run) = runs.iter_mut().find(|run| run.record.uuid == uuid) {
            Arc::make_mut(&mut run.record).id = id;
            run.is_stored = true;
        }
    }

    /// The id that a run has now.
    pub(crate) fn id_of(&self, begun_as: RunId) -> RunId {
        let runs = self.runs.lock();
        let run = runs.iter().find(|run| run.begun_as == begun_as);
        run.map_or(begun_as, |run| run.record.id)
    }
}
