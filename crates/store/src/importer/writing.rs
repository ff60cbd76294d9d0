//! One transaction: which flows it adds, which it changes, and which it leaves as they are.

use rusqlite::Connection;

use super::stored::Stored;
use super::{Batch, Imported, Known, Meeting, parts, runs};
use crate::ingest::arrivals::Arrivals;
use crate::ingest::bodies::{Bodies, Remembered};
use crate::sessions::name_nameless;
use crate::{FlowRecord, GapRecord, RunId, RunRecord, StoreError};

/// A transaction, and what it needs to know.
pub(super) struct Writing<'c, 'i> {
    pub(super) connection: &'c Connection,
    pub(super) meeting: Meeting,
    pub(super) bodies: Bodies<'c>,
    pub(super) arrivals: Arrivals,
    pub(super) known: &'i mut Known,
}

impl<'c, 'i> Writing<'c, 'i> {
    pub(super) fn new(
        connection: &'c Connection,
        meeting: Meeting,
        bodies: Bodies<'c>,
        known: &'i mut Known,
    ) -> Self {
        Self {
            connection,
            meeting,
            bodies,
            arrivals: Arrivals::default(),
            known,
        }
    }

    /// Stores all of a batch.
    pub(super) fn write(&mut self, batch: Batch<'_>) -> Result<Imported, StoreError> {
        for run in batch.runs {
            // Known or not: it may have ended.
            self.known.runs.remove(&run.uuid);
            self.run(run)?;
        }
        let mut imported = Imported::default();
        for flow in batch.flows {
            self.write_flow(flow, &mut imported)?;
        }
        for gap in batch.gaps {
            self.write_gap(gap)?;
        }
        name_nameless(self.connection, batch.sessions)?;
        Ok(imported)
    }

    /// Stores what is stored once per transaction; answers which bodies are known to be stored.
    pub(super) fn end(mut self) -> Result<Remembered, StoreError> {
        self.arrivals.store(self.connection)?;
        Ok(self.bodies.into_remembered())
    }

    fn write_flow(&mut self, flow: &FlowRecord, imported: &mut Imported) -> Result<(), StoreError> {
        let run = self.run(&flow.run)?;
        match Stored::find(self.connection, run, &flow.detail)? {
            None => {
                self.insert(run, flow)?;
                imported.added += 1;
            }
            Some(stored) if stored.lacks(&flow.detail, self.meeting) => {
                self.update(&stored, run, flow)?;
                imported.changed += 1;
            }
            Some(_) => imported.unchanged += 1,
        }
        Ok(())
    }

    fn run(&mut self, run: &RunRecord) -> Result<RunId, StoreError> {
        if let Some(id) = self.known.runs.get(&run.uuid) {
            return Ok(*id);
        }
        let id = runs::place_run(self.connection, run)?;
        self.known.runs.insert(run.uuid.clone(), id);
        Ok(id)
    }

    /// Stores a gap, unless it is there. Its number is of the file it is from.
    fn write_gap(&mut self, gap: &GapRecord) -> Result<(), StoreError> {
        let run = self.run(&gap.run)?;
        self.connection
            .prepare_cached(
                "INSERT INTO gaps (run_id, at, reason, events, body_bytes) SELECT ?1, ?2, ?3, ?4, ?5
                 WHERE NOT EXISTS (SELECT 1 FROM gaps WHERE run_id = ?1 AND at = ?2 AND reason = ?3
                   AND events = ?4 AND body_bytes = ?5)",
            )?
            .execute((
                run.as_str(),
                gap.at.0,
                &gap.reason,
                parts::integer(gap.events),
                parts::integer(gap.body_bytes),
            ))?;
        Ok(())
    }
}
