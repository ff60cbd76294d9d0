//! What changed since a follower looked last. New flows are found by what arrived, flows that changed
//! by a list of changes: neither costs the writer an entry per new flow.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use traffic::rules::filter::Filter;

use super::row::{ROW_COLUMNS, read_row};
use super::select::Conditions;
use crate::limits::CHANGES_ROWS_MAX;
use crate::{FlowRow, StoreError};

/// How far a follower has read. Comes from [`crate::Reader::marker`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marker {
    /// All arrivals up to this one were read.
    pub(crate) arrival: i64,
    /// Of this later one, if it is not 0, the flows up to the row `begun_row` were. Only
    /// [`crate::Reader::records`] stops within an arrival.
    pub(crate) begun: i64,
    pub(crate) begun_row: i64,
    /// All changes up to this one were read.
    pub(crate) change: i64,
}

/// What changed since a marker.
#[derive(Clone, Debug)]
pub struct Changes {
    /// New flows and flows that changed, each once, in the order of their time.
    pub rows: Vec<FlowRow>,
    /// Where to go on.
    pub marker: Marker,
}

/// The present end.
pub(super) fn marker(connection: &Connection) -> Result<Marker, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT coalesce((SELECT max(number) FROM arrivals), 0),
           coalesce((SELECT max(change) FROM flow_changes), 0)",
    )?;
    Ok(statement.query_row((), |row| {
        Ok(Marker {
            arrival: row.get(0)?,
            change: row.get(1)?,
            ..Marker::default()
        })
    })?)
}

/// What changed, at most `CHANGES_ROWS_MAX` new and as many changed flows.
pub(super) fn read(
    connection: &Connection,
    since: Marker,
    filter: Option<&Filter>,
) -> Result<Changes, StoreError> {
    let until = bounded(connection, since)?;
    if until == since {
        return Ok(Changes {
            rows: Vec::new(),
            marker: since,
        });
    }
    let mut conditions = Conditions::default();
    conditions.add(
        "id IN (
           SELECT flows.id FROM arrivals CROSS JOIN flows
             ON flows.id BETWEEN first_id AND last_id AND flows.run_id = arrivals.run_id
             AND seq BETWEEN first_seq AND last_seq
           WHERE number > ? AND number <= ?
           UNION SELECT flow FROM flow_changes WHERE change > ? AND change <= ?
         )",
        [since.arrival, until.arrival, since.change, until.change].map(Value::from),
    );
    conditions.add_filter(filter);
    let sql = format!(
        "SELECT {ROW_COLUMNS} FROM flows_shown WHERE {} ORDER BY id",
        conditions.sql()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params_from_iter(conditions.values()))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        rows.push(read_row(row)?);
    }
    Ok(Changes {
        rows,
        marker: until,
    })
}

fn bounded(connection: &Connection, since: Marker) -> Result<Marker, StoreError> {
    // Counted together with those before it, an arrival is taken while they fit. One always does.
    let sql = format!(
        "SELECT
           coalesce((SELECT max(number) FROM (
             SELECT number, sum(last_seq - first_seq + 1) OVER (ORDER BY number) AS flows
             FROM (SELECT * FROM arrivals WHERE number > ?1 ORDER BY number LIMIT {CHANGES_ROWS_MAX})
           ) WHERE flows <= {CHANGES_ROWS_MAX}), ?1),
           coalesce((SELECT max(change) FROM (
             SELECT change FROM flow_changes WHERE change > ?2 ORDER BY change LIMIT {CHANGES_ROWS_MAX}
           )), ?2)"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row((since.arrival, since.change), |row| {
        Ok(Marker {
            arrival: row.get(0)?,
            change: row.get(1)?,
            ..since
        })
    })?)
}
