//! A row of `flows`, written by the names of its columns.

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, ToSql, ffi, params_from_iter};
use traffic::Timestamp;

use crate::StoreError;
use crate::row_number::{first_row_at, stored_start};

/// Inserts a row of `flows` under the first number that is free for a flow which started then; answers it.
pub(super) fn insert_row(
    connection: &Connection,
    at: Timestamp,
    columns: &[(&str, Value)],
) -> Result<i64, StoreError> {
    let sql = format!(
        "INSERT INTO flows ({}, start_time, id) VALUES ({}, ?, ?)",
        names(columns),
        marks(columns)
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut row = first_row_at(at);
    loop {
        let start = stored_start(row, at);
        match statement.execute(params_from_iter(values(columns, &[&start, &row]))) {
            Ok(_) => return Ok(row),
            Err(error) if is_row_taken(&error) => row = row.saturating_add(1),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Changes these columns of a row of `flows`.
pub(super) fn update_row(
    connection: &Connection,
    row: i64,
    columns: &[(&str, Value)],
) -> rusqlite::Result<usize> {
    let sql = format!(
        "UPDATE flows SET ({}) = ({}) WHERE id = ?",
        names(columns),
        marks(columns)
    );
    connection
        .prepare_cached(&sql)?
        .execute(params_from_iter(values(columns, &[&row])))
}

fn names(columns: &[(&str, Value)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

fn marks(columns: &[(&str, Value)]) -> String {
    vec!["?"; columns.len()].join(", ")
}

/// What the columns hold, and what follows them.
fn values<'c>(
    columns: &'c [(&str, Value)],
    rest: &'c [&dyn ToSql],
) -> impl Iterator<Item = &'c dyn ToSql> {
    let values = columns.iter().map(|(_, value)| value as &dyn ToSql);
    values.chain(rest.iter().copied())
}

/// Whether the number of a row is in use.
fn is_row_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        error.code == ErrorCode::ConstraintViolation
            && error.extended_code == ffi::SQLITE_CONSTRAINT_PRIMARYKEY
    })
}
