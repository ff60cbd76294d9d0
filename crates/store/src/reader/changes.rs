//! What changed since a follower looked last. New flows are found by their row number, flows that
//! changed by a list of changes: neither costs the writer an index.

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
    row: i64,
    change: i64,
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
        "SELECT coalesce((SELECT max(id) FROM flows), 0),
           coalesce((SELECT max(change) FROM flow_changes), 0)",
    )?;
    Ok(statement.query_row((), |row| {
        Ok(Marker {
            row: row.get(0)?,
            change: row.get(1)?,
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
        "(id > ? AND id <= ? OR id IN (SELECT flow FROM flow_changes WHERE change > ? AND change <= ?))",
        [since.row, until.row, since.change, until.change].map(Value::from),
    );
    if let Some(filter) = filter {
        conditions.add_filter(filter);
    }
    let sql = format!(
        "SELECT {ROW_COLUMNS} FROM flows WHERE {} ORDER BY start_time, id",
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
    let sql = format!(
        "SELECT coalesce((SELECT max(id) FROM (SELECT id FROM flows WHERE id > ?1 ORDER BY id LIMIT {CHANGES_ROWS_MAX})), ?1),
           coalesce((SELECT max(change) FROM (SELECT change FROM flow_changes WHERE change > ?2 ORDER BY change LIMIT {CHANGES_ROWS_MAX})), ?2)"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row((since.row, since.change), |row| {
        Ok(Marker {
            row: row.get(0)?,
            change: row.get(1)?,
        })
    })?)
}
