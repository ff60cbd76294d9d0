//! What an id that a person typed means.

use rusqlite::{Connection, OptionalExtension};
use traffic::Timestamp;
use uuid::Uuid;

use crate::row_number::{first_row_at, last_row_at};
use crate::{FlowRef, RunId, StoreError, UnknownId};

/// How many runs are named when an id may mean several.
const CANDIDATES_MAX: usize = 8;

/// The flow that is meant.
pub(super) fn flow(connection: &Connection, text: &str) -> Result<FlowRef, StoreError> {
    if let Ok(uuid) = Uuid::try_parse(text) {
        return flow_of_uuid(connection, uuid, text);
    }
    let numbered = text.rsplit_once('.');
    let numbered = numbered.and_then(|(run, seq)| Some((run, seq.parse::<u64>().ok()?)));
    let Some((run_text, seq)) = numbered else {
        let run = run(connection, text)?;
        let flows = flows_of(connection, run)?;
        return Err(UnknownId::RunNotFlow { run, flows }.into());
    };
    let run = run(connection, run_text)?;
    let number = i64::try_from(seq).unwrap_or(i64::MAX);
    let exists: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM arrivals WHERE run_id = ?1 AND first_seq <= ?2 AND last_seq >= ?2)",
        )?
        .query_row((run.as_str(), number), |row| row.get(0))?;
    if !exists {
        let flows = flows_of(connection, run)?;
        return Err(UnknownId::NoFlow { run, flows }.into());
    }
    Ok(FlowRef { run, seq })
}

/// The run that is meant.
pub(super) fn run(connection: &Connection, text: &str) -> Result<RunId, StoreError> {
    if let Some(place) = text.strip_prefix('@') {
        return run_of_place(connection, place, text);
    }
    let exact = runs(connection, "id = ?1 COLLATE NOCASE", text)?;
    let named = || runs(connection, "name = ?1", text);
    let begun = || match text.is_empty() {
        true => Ok(Vec::new()),
        // Not LIKE, to which some characters mean something.
        false => runs(connection, "substr(id, 1, length(?1)) = lower(?1)", text),
    };
    let mut found = exact;
    if found.is_empty() {
        found = named()?;
    }
    if found.is_empty() {
        found = begun()?;
    }
    match found.as_slice() {
        [] => Err(UnknownId::NoRun {
            text: text.to_owned(),
        }
        .into()),
        [run] => Ok(*run),
        _ => Err(UnknownId::Ambiguous {
            text: text.to_owned(),
            candidates: found,
        }
        .into()),
    }
}

/// How many flows a run has. They are numbered without gaps.
pub(super) fn flows_of(connection: &Connection, run: RunId) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(
        "SELECT coalesce((SELECT last_seq FROM arrivals WHERE run_id = ?1 ORDER BY first_seq DESC LIMIT 1), 0)
         FROM runs WHERE id = ?1",
    )?;
    let flows: i64 = statement.query_row([run.as_str()], |row| row.get(0))?;
    Ok(u64::try_from(flows).unwrap_or(0))
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

/// `last` is the last run, `-1` too, `-2` the one before.
fn run_of_place(connection: &Connection, place: &str, text: &str) -> Result<RunId, StoreError> {
    let not_an_id = || UnknownId::NotAnId {
        text: text.to_owned(),
    };
    let back: u32 = match place {
        "last" => 1,
        place => {
            let digits = place.strip_prefix('-').ok_or_else(not_an_id)?;
            digits.parse().map_err(|_error| not_an_id())?
        }
    };
    let offset = back.checked_sub(1).ok_or_else(not_an_id)?;
    let found: Option<String> = connection
        .prepare_cached("SELECT id FROM runs ORDER BY number DESC LIMIT 1 OFFSET ?1")?
        .query_row([offset], |row| row.get(0))
        .optional()?;
    let found = found.ok_or_else(|| UnknownId::NoRun {
        text: text.to_owned(),
    })?;
    Ok(found.parse()?)
}

fn runs(connection: &Connection, condition: &str, text: &str) -> Result<Vec<RunId>, StoreError> {
    let sql = format!(
        "SELECT id FROM runs WHERE {condition} ORDER BY number DESC LIMIT {CANDIDATES_MAX}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query([text])?;
    let mut runs = Vec::new();
    while let Some(row) = found.next()? {
        let id: String = row.get(0)?;
        runs.push(id.parse()?);
    }
    Ok(runs)
}

/// A version 7 UUID holds the time of the flow in milliseconds, so that it needs no index.
fn flow_of_uuid(connection: &Connection, uuid: Uuid, text: &str) -> Result<FlowRef, StoreError> {
    let (high, _) = uuid.as_u64_pair();
    let millis = i64::try_from(high >> 16).unwrap_or(i64::MAX);
    let from = millis.saturating_mul(1000);
    let found: Option<(String, i64)> = connection
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
    let (run, seq) = found.ok_or_else(|| UnknownId::NoRun {
        text: text.to_owned(),
    })?;
    Ok(FlowRef {
        run: run.parse()?,
        seq: u64::try_from(seq).unwrap_or(0),
    })
}
