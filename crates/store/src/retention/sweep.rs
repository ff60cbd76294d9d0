//! Removes what nothing refers to any more, once flows are gone.
//!
//! What may go is read without a lock, which may take seconds; then it goes in small steps, each of which
//! looks once more.

use std::thread;

use rusqlite::Connection;
use traffic::Timestamp;

use super::live::{Live, Shared, tell_writers};
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
        let sweep_bodies = |connection: &Connection, rows: &[i64]| {
            live.heed_changes(connection)?;
            bytes += live.sweep_bodies(connection, rows)?;
            Ok(())
        };
        let is_done = self.in_steps(&bodies, &mut goes_on, sweep_bodies)?
            && self.in_steps(&arrivals, &mut goes_on, sweep_arrivals)?
            && self.sweep_shared(&mut live, &mut goes_on)?
            && self.sweep_rest(started_at(cut.flows), &mut goes_on)?;
        if !is_done {
            return Ok(bytes);
        }
        self.give_back()?;
        self.sweep_texts();
        Ok(bytes)
    }

    /// Does something to all these rows, some in each transaction; answers whether it came to the end.
    fn in_steps(
        &mut self,
        rows: &[i64],
        goes_on: &mut impl FnMut() -> bool,
        mut step: impl FnMut(&Connection, &[i64]) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        for rows in rows.chunks(REMOVAL_ROWS_MAX) {
            let transaction = begin(&mut self.connection)?;
            step(&transaction, rows)?;
            transaction.commit()?;
            if !goes_on() {
                return Ok(false);
            }
            thread::sleep(REMOVAL_PAUSE);
        }
        Ok(true)
    }

    /// Removes connections, places, marks and kinds of responses that no flow is of.
    fn sweep_shared(
        &mut self,
        live: &mut Live,
        goes_on: &mut impl FnMut() -> bool,
    ) -> Result<bool, StoreError> {
        for table in Shared::ALL {
            let rows = live.unneeded(&self.connection, table)?;
            let sweep = |connection: &Connection, rows: &[i64]| {
                live.heed_changes(connection)?;
                live.sweep_shared(connection, table, rows)
            };
            if !self.in_steps(&rows, goes_on, sweep)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes sessions, losses and runs of which nothing is left.
    fn sweep_rest(
        &mut self,
        before: Timestamp,
        goes_on: &mut impl FnMut() -> bool,
    ) -> Result<bool, StoreError> {
        let sessions = unneeded_sessions(&self.connection)?;
        if !self.in_steps(&sessions, goes_on, sweep_sessions)? {
            return Ok(false);
        }
        let gaps = old_gaps(&self.connection, before)?;
        if !self.in_steps(&gaps, goes_on, sweep_gaps)? {
            return Ok(false);
        }
        let runs = runs_that_are_over(&self.connection, before)?;
        self.in_steps(&runs, goes_on, sweep_runs)
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

fn sweep_arrivals(connection: &Connection, numbers: &[i64]) -> Result<(), StoreError> {
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
const UNNEEDED_SESSION: &str =
    "coalesce(merged_into, number) NOT IN (SELECT session FROM session_marks)";

fn unneeded_sessions(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let sql = format!("SELECT number FROM sessions WHERE {UNNEEDED_SESSION}");
    numbers(connection, &sql, ())
}

/// Removes those of these sessions that are unneeded still. Whoever writes is told.
fn sweep_sessions(connection: &Connection, sessions: &[i64]) -> Result<(), StoreError> {
    let sql = format!("DELETE FROM sessions WHERE number = ?1 AND {UNNEEDED_SESSION}");
    let mut remove = connection.prepare_cached(&sql)?;
    for session in sessions {
        remove.execute([session])?;
    }
    tell_writers(connection)
}

/// Losses from before the oldest flow. The last row stays: the next one must have a larger number, by which
/// archives know what they have.
fn old_gaps(connection: &Connection, before: Timestamp) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT id FROM gaps WHERE at < ?1 AND id < (SELECT max(id) FROM gaps)
         AND id <= coalesce((SELECT min(gap) FROM archives), id)";
    numbers(connection, sql, [before.0])
}

fn sweep_gaps(connection: &Connection, gaps: &[i64]) -> Result<(), StoreError> {
    let mut remove = connection.prepare_cached("DELETE FROM gaps WHERE id = ?1")?;
    for gap in gaps {
        remove.execute([gap])?;
    }
    Ok(())
}

/// Runs that are over and of which nothing is left, if the archives know of them.
fn runs_that_are_over(connection: &Connection, before: Timestamp) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare(&format!(
        "SELECT number, ended_at IS NOT NULL, pid, process_start, process_space FROM runs
         WHERE started_at < ?1 AND coalesce(ended_at, started_at) < ?1 AND {IS_EMPTY}
           AND NOT EXISTS (
             SELECT 1 FROM archives WHERE NOT EXISTS (
               SELECT 1 FROM archived_runs WHERE archive = archives.id AND run = runs.number
                 AND (ended = 1 OR runs.ended_at IS NULL)
             )
           )"
    ))?;
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
    Ok(over)
}

/// Of a row of `runs`: nothing is left of it.
const IS_EMPTY: &str = "NOT EXISTS (SELECT 1 FROM arrivals WHERE run_id = runs.id)
   AND NOT EXISTS (SELECT 1 FROM gaps WHERE run_id = runs.id)";

/// Removes those of these runs that are empty still: of one that is over flows may come from the spool, or from
/// another record.
fn sweep_runs(connection: &Connection, runs: &[i64]) -> Result<(), StoreError> {
    let sql = format!("DELETE FROM runs WHERE number = ?1 AND {IS_EMPTY}");
    let mut remove = connection.prepare_cached(&sql)?;
    let mut forget = connection.prepare_cached("DELETE FROM archived_runs WHERE run = ?1")?;
    for run in runs {
        if remove.execute([run])? > 0 {
            forget.execute([run])?;
        }
    }
    Ok(())
}

fn numbers(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare(sql)?
        .query_map(parameters, |row| row.get(0))?
        .collect()
}
