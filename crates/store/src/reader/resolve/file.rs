//! What a SQLite file knows of ids.

use rusqlite::{Connection, OptionalExtension};
use traffic::Timestamp;
use uuid::Uuid;

use super::{CANDIDATES_MAX, Ids, Naming};
use crate::row_number::{first_row_at, last_row_at};
use crate::{FlowRef, RunId, StoreError, UnknownId};

/// The ids of a file.
pub(in crate::reader) struct FileIds<'c>(pub(in crate::reader) &'c Connection);

impl Ids for FileIds<'_> {
    fn runs(&self, naming: Naming, text: &str) -> Result<Vec<RunId>, StoreError> {
        let condition = match naming {
            Naming::Id => "id = ?1 COLLATE NOCASE",
            Naming::Name => "name = ?1",
            // Not LIKE, to which some characters mean something.
            Naming::Beginning => "substr(id, 1, length(?1)) = lower(?1)",
        };
        let sql = format!(
            "SELECT id FROM runs WHERE {condition} ORDER BY number DESC LIMIT {CANDIDATES_MAX}"
        );
        let mut statement = self.0.prepare_cached(&sql)?;
        let mut found = statement.query([text])?;
        let mut runs = Vec::new();
        while let Some(row) = found.next()? {
            let id: String = row.get(0)?;
            runs.push(id.parse()?);
        }
        Ok(runs)
    }

    fn run_before(&self, newer: u32) -> Result<Option<RunId>, StoreError> {
        let found: Option<String> = self
            .0
            .prepare_cached("SELECT id FROM runs ORDER BY number DESC LIMIT 1 OFFSET ?1")?
            .query_row([newer], |row| row.get(0))
            .optional()?;
        Ok(found.map(|id| id.parse()).transpose()?)
    }

    fn flows_of(&self, run: RunId) -> Result<u64, StoreError> {
        Ok(flows_of(self.0, run)?)
    }

    fn has_flow(&self, flow: FlowRef) -> Result<bool, StoreError> {
        let number = i64::try_from(flow.seq).unwrap_or(i64::MAX);
        let exists = self
            .0
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM arrivals WHERE run_id = ?1 AND first_seq <= ?2 AND last_seq >= ?2)",
            )?
            .query_row((flow.run.as_str(), number), |row| row.get(0))?;
        Ok(exists)
    }

    /// A version 7 UUID holds the time of the flow in milliseconds, so that it needs no index.
    fn flow_of_uuid(&self, uuid: Uuid) -> Result<Option<FlowRef>, StoreError> {
        let (high, _) = uuid.as_u64_pair();
        let millis = i64::try_from(high >> 16).unwrap_or(i64::MAX);
        let from = millis.saturating_mul(1000);
        let found: Option<(String, i64)> = self
            .0
            .prepare_cached(
                "SELECT run_id, seq FROM flows_shown WHERE id BETWEEN ?1 AND ?2 AND trace_id = ?3",
            )?
            .query_row(
                (
                    first_row_at(Timestamp(from)),
                    last_row_at(Timestamp(from.saturating_add(999))),
                    uuid.hyphenated().to_string(),
                ),
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let Some((run, seq)) = found else {
            return Ok(None);
        };
        Ok(Some(FlowRef {
            run: run.parse()?,
            seq: u64::try_from(seq).unwrap_or(0),
        }))
    }
}

/// How many flows a run has. They are numbered without gaps.
fn flows_of(connection: &Connection, run: RunId) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(
        "SELECT coalesce((SELECT last_seq FROM arrivals WHERE run_id = ?1 ORDER BY first_seq DESC LIMIT 1), 0)
         FROM runs WHERE id = ?1",
    )?;
    let flows: i64 = statement.query_row([run.as_str()], |row| row.get(0))?;
    Ok(u64::try_from(flows).unwrap_or(0))
}

/// The flow that has this UUID; `None` too if it is no UUID.
pub(crate) fn flow_of_uuid(
    connection: &Connection,
    uuid: &str,
) -> Result<Option<FlowRef>, StoreError> {
    match Uuid::try_parse(uuid) {
        Ok(uuid) => FileIds(connection).flow_of_uuid(uuid),
        Err(_) => Ok(None),
    }
}

/// The row of a flow.
pub(crate) fn row_of(connection: &Connection, flow: FlowRef) -> Result<i64, StoreError> {
    let seq = i64::try_from(flow.seq).unwrap_or(i64::MAX);
    let found: Option<i64> = connection
        .prepare_cached(
            "WITH arrival AS (
               SELECT first_id, last_id FROM arrivals WHERE run_id = ?1 AND first_seq <= ?2
               ORDER BY first_seq DESC LIMIT 1
             )
             SELECT id FROM flows WHERE run_id = ?1 AND seq = ?2
               AND id BETWEEN (SELECT first_id FROM arrival) AND (SELECT last_id FROM arrival)",
        )?
        .query_row((flow.run.as_str(), seq), |row| row.get(0))
        .optional()?;
    match found {
        Some(row) => Ok(row),
        None => {
            let flows = flows_of(connection, flow.run)?;
            let run = flow.run;
            Err(UnknownId::NoFlow { run, flows }.into())
        }
    }
}
