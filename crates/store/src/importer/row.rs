//! A row of `flows`, written by the names of its columns.

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, ToSql, ffi, params_from_iter};

use crate::StoreError;

/// Inserts a row of `flows` under the first number from this one on that is free; answers it.
pub(super) fn insert_row(
    connection: &Connection,
    mut row: i64,
    columns: &[(&str, Value)],
) -> Result<i64, StoreError> {
    let sql = format!(
        "INSERT INTO flows ({}, id) VALUES ({}, ?)",
        names(columns),
        marks(columns)
    );
    let mut statement = connection.prepare_cached(&sql)?;
    loop {
        match statement.execute(params_from_iter(values(columns, &row))) {
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
        .execute(params_from_iter(values(columns, &row)))
}

fn names(columns: &[(&str, Value)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

fn marks(columns: &[(&str, Value)]) -> String {
    vec!["?"; columns.len()].join(", ")
}

/// What the columns hold, and the number of the row.
fn values<'c>(columns: &'c [(&str, Value)], row: &'c i64) -> impl Iterator<Item = &'c dyn ToSql> {
    let values = columns.iter().map(|(_, value)| value as &dyn ToSql);
    values.chain([row as &dyn ToSql])
}

/// Whether the number of a row is in use.
fn is_row_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        error.code == ErrorCode::ConstraintViolation
            && error.extended_code == ffi::SQLITE_CONSTRAINT_PRIMARYKEY
    })
}
