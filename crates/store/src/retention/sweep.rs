//! Removes what nothing refers to any more, once flows are gone.
//!
//! What may go is read without a lock, which may take seconds; then it goes in small steps, each of which
//! looks once more.

use std::thread;

use rusqlite::Connection;
use traffic::Timestamp;

use super::live::Live;
use super::{Cut, Remover, begin};
use crate::StoreError;
use crate::limits::{REMOVAL_PAUSE, REMOVAL_ROWS_MAX, VACUUM_PAGES_MAX};
use crate::process::ProcessMark;
use crate::row_number::started_at;
use crate::search::TextIndex;

impl Remover {
    /// Removes what nothing refers to any more; answers the bytes that bodies took. What an end before
    /// time leaves is removed the next time.
    pub(super) fn sweep(
        &mut self,
        cut: Cut,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<u64, StoreError> {
        let (mut live, bodies, arrivals) = {
            let snapshot = self.connection.unchecked_transaction()?;
            let live = Live::read(&snapshot, Cut::NOTHING)?;
            let bodies = live.unneeded_bodies(&snapshot)?;
            (live, bodies, empty_arrivals(&snapshot, cut)?)
        };
        let mut bytes = 0;
        for bodies in bodies.chunks(REMOVAL_ROWS_MAX) {
            let transaction = begin(&mut self.connection)?;
            live.heed_changes(&transaction)?;
            bytes += live.sweep_bodies(&transaction, bodies)?;
            transaction.commit()?;
            if !goes_on() {
                return Ok(bytes);
            }
            thread::sleep(REMOVAL_PAUSE);
        }
        for arrivals in arrivals.chunks(REMOVAL_ROWS_MAX) {
            let transaction = begin(&mut self.connection)?;
            sweep_arrivals(&transaction, arrivals)?;
            transaction.commit()?;
            thread::sleep(REMOVAL_PAUSE);
        }
        let transaction = begin(&mut self.connection)?;
        live.heed_changes(&transaction)?;
        live.sweep_shared(&transaction)?;
        sweep_sessions(&transaction)?;
        sweep_gaps(&transaction, started_at(cut.flows))?;
        sweep_runs(&transaction, started_at(cut.flows))?;
        transaction.commit()?;
        self.give_back()?;
        self.sweep_texts();
        Ok(bytes)
    }

    /// Gives free pages back to the file system, a few at a time.
    fn give_back(&self) -> Result<(), StoreError> {
        loop {
            let free: i64 = self
                .connection
                .pragma_query_value(None, "freelist_count", |row| row.get(0))?;
            let kind: i64 = self
                .connection
                .pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
            // A file of an older oriel keeps its free pages and fills them again.
            if free == 0 || kind != 2 {
                return Ok(());
            }
            let sql = format!("PRAGMA incremental_vacuum({VACUUM_PAGES_MAX})");
            let mut statement = self.connection.prepare(&sql)?;
            let mut rows = statement.query(())?;
            while rows.next()?.is_some() {}
            thread::sleep(REMOVAL_PAUSE);
        }
    }

    /// The flows are gone whether this goes well or not; the next removal does what it leaves.
    fn sweep_texts(&self) {
        match TextIndex::open_existing(&self.path) {
            Ok(None) => {}
            Ok(Some(mut index)) => {
                if let Err(error) = index.forget_removed() {
                    tracing::warn!(%error, "texts of removed flows stay in the index for now");
                }
            }
            Err(error) => tracing::warn!(%error, "the index of texts cannot be opened"),
        }
    }
}

/// Rows of `arrivals` of which no flow is left. The last row of all stays: its number says how far the
/// record is.
fn empty_arrivals(connection: &Connection, cut: Cut) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare(
            "SELECT number FROM arrivals
             WHERE first_id < max(?1, (SELECT coalesce(max(flow), ?1) FROM temp.doomed) + 1)
               AND number < (SELECT max(number) FROM arrivals)
               AND NOT EXISTS (
                 SELECT 1 FROM flows WHERE id BETWEEN first_id AND last_id AND run_id = arrivals.run_id
               )",
        )?
        .query_map([cut.flows], |row| row.get(0))?
        .collect()
}

fn sweep_arrivals(connection: &Connection, numbers: &[i64]) -> rusqlite::Result<()> {
    let mut remove = connection.prepare_cached(
        "DELETE FROM arrivals WHERE number = ?1 AND NOT EXISTS (
           SELECT 1 FROM flows WHERE id BETWEEN first_id AND last_id AND run_id = arrivals.run_id
         )",
    )?;
    for number in numbers {
        remove.execute([number])?;
    }
    Ok(())
}

/// A session that was merged into another stays as long as that one.
fn sweep_sessions(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM sessions
         WHERE coalesce(merged_into, number) NOT IN (SELECT session FROM session_marks)",
        (),
    )?;
    Ok(())
}

/// Losses from before the oldest flow. The last row stays: the next one must have a larger number, by which
/// archives know what they have.
fn sweep_gaps(connection: &Connection, before: Timestamp) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM gaps WHERE at < ?1 AND id < (SELECT max(id) FROM gaps)
           AND id <= coalesce((SELECT min(gap) FROM archives), id)",
        [before.0],
    )?;
    Ok(())
}

/// Runs that are over and of which nothing is left, if the archives know of them.
fn sweep_runs(connection: &Connection, before: Timestamp) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(
        "SELECT number, ended_at IS NOT NULL, pid, process_start, process_space FROM runs
         WHERE started_at < ?1 AND coalesce(ended_at, started_at) < ?1
           AND NOT EXISTS (SELECT 1 FROM arrivals WHERE run_id = runs.id)
           AND NOT EXISTS (SELECT 1 FROM gaps WHERE run_id = runs.id)
           AND NOT EXISTS (
             SELECT 1 FROM archives WHERE NOT EXISTS (
               SELECT 1 FROM archived_runs WHERE archive = archives.id AND run = runs.number
                 AND (ended = 1 OR runs.ended_at IS NULL)
             )
           )",
    )?;
    let mut rows = statement.query([before.0])?;
    let mut over: Vec<i64> = Vec::new();
    while let Some(row) = rows.next()? {
        let mark = ProcessMark {
            pid: row.get(2)?,
            start: row.get(3)?,
            space: row.get(4)?,
        };
        if row.get(1)? || mark.has_ended() {
            over.push(row.get(0)?);
        }
    }
    for sql in [
        "DELETE FROM archived_runs WHERE run = ?1",
        "DELETE FROM runs WHERE number = ?1",
    ] {
        let mut remove = connection.prepare(sql)?;
        for run in &over {
            remove.execute([run])?;
        }
    }
    Ok(())
}
