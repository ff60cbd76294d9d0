//! Removes what is old: flows, or their bodies alone, and what then nothing refers to.
//!
//! It works beside the writer of this or another process, in small transactions with pauses between
//! them, so that nobody waits long. It can end after any of them: what is left refers to nothing that
//! is gone. Flows that are open or that somebody marked stay, and so do those that an archive does not
//! have yet.

mod live;

use std::path::Path;
use std::thread;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use traffic::Timestamp;

use self::live::Live;
use crate::limits::{REMOVAL_PAUSE, REMOVAL_ROWS_MAX, VACUUM_PAGES_MAX};
use crate::row_number::first_row_at;
use crate::{StoreError, database};

/// What is to be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Flows that started from then on; `None`: all.
    pub flows_since: Option<Timestamp>,
    /// Bodies of flows that started from then on.
    pub bodies_since: Option<Timestamp>,
    /// Bytes that what is stored may take. Of more, the oldest bodies go first, then the oldest flows.
    pub bytes_max: Option<u64>,
}

/// What is removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Flows.
    pub flows: u64,
    /// Of flows that stay: those whose bodies go.
    pub bodiless: u64,
    /// Bytes that bodies take, as stored.
    pub body_bytes: u64,
    /// Flows that are old enough but stay, since somebody marked them.
    pub marked: u64,
}

/// How far a removal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Flows that were dealt with.
    pub done: u64,
    /// Flows that there are to deal with.
    pub all: u64,
}

/// Removes what is old from a SQLite file.
#[derive(Debug)]
pub struct Remover {
    connection: Connection,
}

/// The rows of `flows` that are meant: flows before the first go, bodies of those before the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    flows: i64,
    bodies: i64,
}

impl Cut {
    /// Nothing goes.
    const NOTHING: Self = Self {
        flows: i64::MIN,
        bodies: i64::MIN,
    };
}

/// Of rows of `flows` before `?1` those that may go.
const REMOVABLE: &str = "id < ?1 AND state <> 'open' AND id NOT IN (SELECT flow FROM annotations)";

impl Remover {
    /// Opens an existing file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::NotFound {
                path: path.to_owned(),
            });
        }
        let connection = database::open_for_writing(path)?;
        Ok(Self { connection })
    }

    /// What would be removed. Reads all flows.
    pub fn plan(&self, keep: &Keep) -> Result<Removal, StoreError> {
        let snapshot = self.connection.unchecked_transaction()?;
        let cut = cut(&snapshot, keep)?;
        let count = |sql: &str, before: i64| -> rusqlite::Result<u64> {
            let count: i64 = snapshot.query_row(sql, [before], |row| row.get(0))?;
            Ok(u64::try_from(count).unwrap_or_default())
        };
        let flows = count(
            &format!("SELECT count(*) FROM flows WHERE {REMOVABLE}"),
            cut.flows,
        )?;
        let with_bodies = count(
            &format!("SELECT count(*) FROM flows WHERE {REMOVABLE} AND {HAS_BODY}"),
            cut.bodies.max(cut.flows),
        )?;
        let of_removed = count(
            &format!("SELECT count(*) FROM flows WHERE {REMOVABLE} AND {HAS_BODY}"),
            cut.flows,
        )?;
        let marked = count(
            "SELECT count(*) FROM annotations WHERE flow < ?1",
            cut.flows.max(cut.bodies),
        )?;
        let live = Live::read(&snapshot, cut)?;
        let removal = Removal {
            flows,
            bodiless: with_bodies - of_removed,
            body_bytes: live.dead_bytes(&snapshot)?,
            marked,
        };
        snapshot.finish()?;
        Ok(removal)
    }

    /// Removes it. `progress` is told after each step, and says whether to go on.
    pub fn remove(
        &mut self,
        keep: &Keep,
        mut progress: impl FnMut(Progress) -> bool,
    ) -> Result<Removal, StoreError> {
        let planned = self.plan(keep)?;
        let cut = cut(&self.connection, keep)?;
        let mut removed = Removal {
            marked: planned.marked,
            ..Removal::default()
        };
        let all = planned.flows + planned.bodiless;
        let mut goes_on = true;
        for (before, whole) in [(cut.flows, true), (cut.bodies, false)] {
            let mut after = i64::MIN;
            while goes_on {
                let transaction = begin(&mut self.connection)?;
                let rows = next_rows(&transaction, after, before, whole)?;
                let Some(last) = rows.last() else {
                    break;
                };
                after = *last;
                for row in &rows {
                    match whole {
                        true => remove_flow(&transaction, *row)?,
                        false => remove_bodies(&transaction, *row)?,
                    }
                }
                transaction.commit()?;
                let count = rows.len() as u64;
                match whole {
                    true => removed.flows += count,
                    false => removed.bodiless += count,
                }
                let done = removed.flows + removed.bodiless;
                goes_on = progress(Progress { done, all });
                thread::sleep(REMOVAL_PAUSE);
            }
        }
        let done = removed.flows + removed.bodiless;
        if goes_on && done > 0 {
            removed.body_bytes = self.sweep(cut, || progress(Progress { done, all }))?;
        }
        Ok(removed)
    }

    /// Removes what nothing refers to any more: whoever removed flows by other means asks for it.
    pub(crate) fn sweep_all(path: &Path) -> Result<u64, StoreError> {
        Self::open(path)?.sweep(Cut::NOTHING, || true)
    }

    /// Removes what nothing refers to any more; answers the bytes that bodies took. What an end before
    /// time leaves is removed the next time.
    fn sweep(&mut self, cut: Cut, mut goes_on: impl FnMut() -> bool) -> Result<u64, StoreError> {
        let mut live = {
            let snapshot = self.connection.unchecked_transaction()?;
            Live::read(&snapshot, Cut::NOTHING)?
        };
        let mut bytes = 0;
        let mut after = 0;
        loop {
            let transaction = begin(&mut self.connection)?;
            live.heed_changes(&transaction)?;
            let swept = live.sweep_bodies(&transaction, after)?;
            transaction.commit()?;
            bytes += swept.bytes;
            let Some(last) = swept.last else { break };
            if !goes_on() {
                return Ok(bytes);
            }
            after = last;
            thread::sleep(REMOVAL_PAUSE);
        }
        let mut after = i64::MIN;
        loop {
            let transaction = begin(&mut self.connection)?;
            let last = sweep_arrivals(&transaction, after, cut.flows)?;
            transaction.commit()?;
            let Some(last) = last else { break };
            after = last;
            thread::sleep(REMOVAL_PAUSE);
        }
        let transaction = begin(&mut self.connection)?;
        live.heed_changes(&transaction)?;
        live.sweep_connections(&transaction)?;
        transaction.commit()?;
        self.give_back()?;
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
}

/// Of a row of `flows`: whether something of its bodies is stored.
const HAS_BODY: &str = "(request_body IS NOT NULL OR response_body IS NOT NULL
   OR EXISTS (SELECT 1 FROM messages WHERE flow = flows.id AND kept > 0)
   OR EXISTS (SELECT 1 FROM body_parts WHERE flow = flows.id))";

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Up to which rows something goes.
fn cut(connection: &Connection, keep: &Keep) -> Result<Cut, StoreError> {
    let row_of = |since: Option<Timestamp>| since.map_or(i64::MIN, first_row_at);
    let mut cut = Cut {
        flows: row_of(keep.flows_since),
        bodies: row_of(keep.bodies_since),
    };
    if let Some(bytes_max) = keep.bytes_max {
        heed_size(connection, bytes_max, &mut cut)?;
    }
    // What an archive does not have yet stays; of an arrival that it has in part, all.
    let awaited: Option<i64> = connection
        .query_row(
            "SELECT min(first_id) FROM arrivals WHERE number > (SELECT min(arrival) FROM archives)",
            (),
            |row| row.get(0),
        )
        .optional()?
        .flatten();
    if let Some(awaited) = awaited {
        cut.flows = cut.flows.min(awaited);
        cut.bodies = cut.bodies.min(awaited);
    }
    Ok(cut)
}

/// Moves the cut so far that what stays takes no more than so many bytes.
fn heed_size(connection: &Connection, bytes_max: u64, cut: &mut Cut) -> Result<(), StoreError> {
    let pages = |name: &str| -> rusqlite::Result<u64> {
        let pages: i64 = connection.pragma_query_value(None, name, |row| row.get(0))?;
        Ok(u64::try_from(pages).unwrap_or_default())
    };
    let page = pages("page_size")?;
    let used = (pages("page_count")?.saturating_sub(pages("freelist_count")?)) * page;
    let mut excess = used.saturating_sub(bytes_max);
    if excess == 0 {
        return Ok(());
    }
    let bodies = "coalesce((SELECT length(data) FROM bodies WHERE id = request_body), 0)
       + coalesce((SELECT length(data) FROM bodies WHERE id = response_body), 0)
       + coalesce((SELECT sum(length(data)) FROM body_parts WHERE flow = flows.id), 0)
       + coalesce((SELECT sum(kept) FROM messages WHERE flow = flows.id), 0)";
    // A row takes its detail and some hundred bytes in all tables together.
    for (sum, place) in [
        (bodies, &mut cut.bodies),
        (
            "length(detail) + length(path) + length(query) + 200",
            &mut cut.flows,
        ),
    ] {
        let sql = format!("SELECT id, {sum} FROM flows WHERE {REMOVABLE} AND id >= ?2 ORDER BY id");
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query((i64::MAX, *place))?;
        while excess > 0
            && let Some(row) = rows.next()?
        {
            let bytes: i64 = row.get(1)?;
            excess = excess.saturating_sub(u64::try_from(bytes).unwrap_or_default());
            let id: i64 = row.get(0)?;
            *place = id.saturating_add(1);
        }
    }
    Ok(())
}

/// The next flows that go, or whose bodies go.
fn next_rows(
    connection: &Connection,
    after: i64,
    before: i64,
    whole: bool,
) -> rusqlite::Result<Vec<i64>> {
    let bodies = if whole { "" } else { " AND " };
    let condition = if whole { "" } else { HAS_BODY };
    connection
        .prepare_cached(&format!(
            "SELECT id FROM flows WHERE {REMOVABLE} AND id > ?2{bodies}{condition}
             ORDER BY id LIMIT {REMOVAL_ROWS_MAX}"
        ))?
        .query_map((before, after), |row| row.get(0))?
        .collect()
}

fn remove_flow(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM endings WHERE flow = ?1",
        "DELETE FROM messages WHERE flow = ?1",
        "DELETE FROM body_parts WHERE flow = ?1",
        "DELETE FROM flows WHERE id = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([row])?;
    }
    Ok(())
}

fn remove_bodies(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    for sql in [
        "UPDATE messages SET data = NULL, body = NULL, kept = 0 WHERE flow = ?1 AND kept > 0",
        "DELETE FROM body_parts WHERE flow = ?1",
        "UPDATE flows SET request_body = NULL, response_body = NULL, truncated = 1 WHERE id = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([row])?;
    }
    Ok(())
}

/// Removes rows of `arrivals` of which no flow is left; answers the last that was looked at. The last
/// row of all stays: its number says how far the record is.
fn sweep_arrivals(
    connection: &Connection,
    after: i64,
    before: i64,
) -> rusqlite::Result<Option<i64>> {
    let numbers: Vec<i64> = connection
        .prepare_cached(&format!(
            "SELECT number FROM arrivals WHERE number > ?1 AND first_id < ?2
               AND number < (SELECT max(number) FROM arrivals)
             ORDER BY number LIMIT {REMOVAL_ROWS_MAX}"
        ))?
        .query_map((after, before), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut remove = connection.prepare_cached(
        "DELETE FROM arrivals WHERE number = ?1 AND NOT EXISTS (
           SELECT 1 FROM flows WHERE id BETWEEN first_id AND last_id AND run_id = arrivals.run_id
         )",
    )?;
    for number in &numbers {
        remove.execute([number])?;
    }
    Ok(numbers.last().copied())
}
