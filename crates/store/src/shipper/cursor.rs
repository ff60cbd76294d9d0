//! What of a file an archive does not have yet, and how far it has it. Both are in the file.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use traffic::Timestamp;

use crate::limits::{SHIP_GAPS_MAX, SHIP_RUNS_MAX};
use crate::reader::Marker;
use crate::reader::records::{self, Unreadable, run_record};
use crate::sessions::names_of;
use crate::{ArchiveBatch, FlowRecord, GapRecord, Records, RunId, RunRecord, StoreError};

/// A file, as the outbox of one archive.
#[derive(Debug)]
pub(super) struct Outbox {
    connection: Connection,
    /// The archive.
    name: String,
    /// Row of `archives`; `None`: it has taken nothing yet, so that nothing stays for it either.
    archive: Option<i64>,
    marker: Marker,
    /// All gaps up to this one were copied.
    gap: i64,
}

/// What goes at once, and what is noted when it went.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) content: ArchiveBatch,
    /// Flows that are left out, since they cannot be read.
    pub(super) unreadable: Vec<Unreadable>,
    marker: Marker,
    gap: i64,
    /// Numbers of the runs, and whether they have ended.
    runs: Vec<(i64, bool)>,
}

impl Outbox {
    /// Opens the outbox of the archive of this name. The file does not know of one that has never taken
    /// anything: a name that was mistyped keeps nothing.
    pub(super) fn open(connection: Connection, name: &str) -> Result<Self, StoreError> {
        let known = connection
            .query_row(
                "SELECT id, arrival, begun, begun_row, change, gap FROM archives WHERE name = ?1",
                [name],
                |row| {
                    let marker = Marker {
                        arrival: row.get(1)?,
                        begun: row.get(2)?,
                        begun_row: row.get(3)?,
                        change: row.get(4)?,
                    };
                    Ok((Some(row.get(0)?), marker, row.get(5)?))
                },
            )
            .optional()?;
        let (archive, marker, gap) = known.unwrap_or_default();
        Ok(Self {
            connection,
            name: name.to_owned(),
            archive,
            marker,
            gap,
        })
    }

    /// What goes next, all of one state of the file.
    pub(super) fn next(&mut self, limit: usize) -> Result<Batch, StoreError> {
        let transaction = self.connection.transaction()?;
        let (Records { flows, marker }, unreadable) =
            records::read_what_is_whole(&transaction, self.marker, limit)?;
        let runs = read_runs(&transaction, self.archive)?;
        let gaps = read_gaps(&transaction, self.gap)?;
        let sessions = flows.iter().filter_map(FlowRecord::session);
        let sessions = names_of(&transaction, sessions)?;
        transaction.finish()?;
        Ok(Batch {
            gap: gaps.last().map_or(self.gap, |gap| gap.number),
            runs: runs
                .iter()
                .map(|(number, run)| (*number, run.ended_at.is_some()))
                .collect(),
            content: ArchiveBatch {
                runs: runs.into_iter().map(|(_, run)| run).collect(),
                flows,
                gaps,
                sessions,
            },
            unreadable,
            marker,
        })
    }

    /// Whether a batch has nothing for the archive, and what was left out of it, or was removed since, is to
    /// be noted all the same.
    pub(super) fn is_behind(&self, batch: &Batch) -> bool {
        self.archive.is_some() && self.marker != batch.marker
    }

    /// Notes that a batch went. Flows that were refused or cannot be read are a gap.
    pub(super) fn acknowledge(
        &mut self,
        batch: &Batch,
        refused: &[(FlowRecord, String)],
    ) -> Result<(), StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (flow, why) in refused {
            let id = flow.detail.row.id;
            tracing::error!(flow = %id, why, "the archive refuses a flow");
            insert_gap(&transaction, id.run, "refused_by_archive", flow.bytes())?;
        }
        for Unreadable { flow, why } in &batch.unreadable {
            tracing::error!(%flow, why, "a flow cannot be read, and is not copied");
            insert_gap(&transaction, flow.run, "unreadable", 0)?;
        }
        // Somebody may have had the file forget the archive meanwhile.
        let archive: i64 = transaction.query_row(
            "INSERT INTO archives (name, arrival, begun, begun_row, change, gap, acknowledged)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, CAST(unixepoch('subsec') * 1000000 AS INTEGER))
             ON CONFLICT (name) DO UPDATE SET arrival = excluded.arrival, begun = excluded.begun,
               begun_row = excluded.begun_row, change = excluded.change, gap = excluded.gap,
               acknowledged = excluded.acknowledged
             RETURNING id",
            (
                &self.name,
                batch.marker.arrival,
                batch.marker.begun,
                batch.marker.begun_row,
                batch.marker.change,
                batch.gap,
            ),
            |row| row.get(0),
        )?;
        for (number, ended) in &batch.runs {
            transaction.execute(
                "INSERT OR REPLACE INTO archived_runs (archive, run, ended) VALUES (?1, ?2, ?3)",
                (archive, number, ended),
            )?;
        }
        transaction.commit()?;
        self.archive = Some(archive);
        self.marker = batch.marker;
        self.gap = batch.gap;
        Ok(())
    }

    /// Flows that wait, and the bytes of the file.
    pub(super) fn count(&self) -> Result<(u64, u64), StoreError> {
        let depth = count_waiting(&self.connection, self.marker)?;
        let bytes: i64 = self.connection.query_row(
            "SELECT (page_count - freelist_count) * page_size
             FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()",
            (),
            |row| row.get(0),
        )?;
        Ok((depth, u64::try_from(bytes).unwrap_or(0)))
    }
}

/// Notes that the archive does not get a flow.
fn insert_gap(
    connection: &Connection,
    run: RunId,
    reason: &str,
    body_bytes: usize,
) -> rusqlite::Result<()> {
    let body_bytes = i64::try_from(body_bytes).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT INTO gaps (run_id, at, reason, events, body_bytes)
             VALUES (?1, CAST(unixepoch('subsec') * 1000000 AS INTEGER), ?2, 1, ?3)",
        )?
        .execute((run.as_str(), reason, body_bytes))?;
    Ok(())
}

/// Flows behind a marker. Rows lie in the order of time, so that what changed and came before what is
/// new was copied once; an arrival that is begun counts whole.
pub(crate) fn count_waiting(connection: &Connection, marker: Marker) -> Result<u64, StoreError> {
    let depth: i64 = connection
        .prepare_cached(
            "WITH new AS (SELECT * FROM arrivals WHERE number > ?1)
             SELECT coalesce((SELECT sum(last_seq - first_seq + 1) FROM new), 0)
               + (SELECT count(DISTINCT flow) FROM flow_changes
                  WHERE change > ?2 AND flow < coalesce((SELECT min(first_id) FROM new), flow + 1))",
        )?
        .query_row((marker.arrival, marker.change), |row| row.get(0))?;
    Ok(u64::try_from(depth).unwrap_or(0))
}

/// Runs that the archive does not have, or not with their end.
fn read_runs(
    connection: &Connection,
    archive: Option<i64>,
) -> Result<Vec<(i64, Arc<RunRecord>)>, StoreError> {
    let sql = format!(
        "SELECT runs.* FROM runs LEFT JOIN archived_runs ON archive = ?1 AND run = runs.number
         WHERE run IS NULL OR (ended = 0 AND ended_at IS NOT NULL)
         ORDER BY number LIMIT {SHIP_RUNS_MAX}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([archive])?;
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        runs.push((row.get("number")?, Arc::new(run_record(row)?)));
    }
    Ok(runs)
}

/// Losses that were noted behind this one, some at a time.
pub(crate) fn read_gaps(connection: &Connection, after: i64) -> Result<Vec<GapRecord>, StoreError> {
    let sql = format!(
        "SELECT id, run_id, at, reason, events, body_bytes FROM gaps WHERE id > ?1 ORDER BY id
         LIMIT {SHIP_GAPS_MAX}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([after])?;
    let mut gaps = Vec::new();
    while let Some(row) = rows.next()? {
        let number = |column| row.get(column).map(|number: i64| number.unsigned_abs());
        let run: RunId = row.get::<_, String>(1)?.parse()?;
        // The run of a gap may have been removed.
        let Some(run) = records::read_run(connection, run)? else {
            continue;
        };
        gaps.push(GapRecord {
            number: row.get(0)?,
            run: Arc::new(run),
            at: Timestamp(row.get(2)?),
            reason: row.get(3)?,
            events: number(4)?,
            body_bytes: number(5)?,
        });
    }
    Ok(gaps)
}
