//! In which version responses came, and with what in them: one row for many flows.

use rusqlite::Connection;

use super::recent::Recent;
use crate::limits::{REMEMBERED_CONTENT_TYPE_BYTES_MAX, REMEMBERED_RESPONSE_KINDS_MAX};

/// What is known to be stored.
#[derive(Debug)]
pub(crate) struct ResponseKinds {
    /// The one that was stored or found last: most responses are like the one before.
    last: Option<(ResponseKind, i64)>,
    rows: Recent<ResponseKind, i64>,
}

/// The columns of a row of `response_kinds`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ResponseKind {
    version: Option<String>,
    content_type: Option<String>,
}

impl Default for ResponseKinds {
    fn default() -> Self {
        Self {
            last: None,
            rows: Recent::new(REMEMBERED_RESPONSE_KINDS_MAX),
        }
    }
}

impl ResponseKinds {
    /// Forgets what is stored: a write was undone, or another process may have removed it.
    pub(crate) fn forget(&mut self) {
        self.last = None;
        self.rows.clear();
    }

    /// The row for a response with these; none if nothing is known of it.
    pub(crate) fn store(
        &mut self,
        connection: &Connection,
        version: Option<&str>,
        content_type: Option<&str>,
    ) -> rusqlite::Result<Option<i64>> {
        if version.is_none() && content_type.is_none() {
            return Ok(None);
        }
        if let Some((last, row)) = &self.last
            && last.version.as_deref() == version
            && last.content_type.as_deref() == content_type
        {
            return Ok(Some(*row));
        }
        let kind = ResponseKind {
            version: version.map(str::to_owned),
            content_type: content_type.map(str::to_owned),
        };
        if let Some(row) = self.rows.find(&kind) {
            let row = *row;
            self.last = Some((kind, row));
            return Ok(Some(row));
        }
        let row = insert(connection, &kind)?;
        // What is remembered is bounded, and upstreams say what they like.
        if content_type.is_none_or(|text| text.len() <= REMEMBERED_CONTENT_TYPE_BYTES_MAX) {
            self.rows.insert(kind.clone(), row);
            self.last = Some((kind, row));
        }
        Ok(Some(row))
    }
}

fn insert(connection: &Connection, kind: &ResponseKind) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("INSERT INTO response_kinds (version, content_type) VALUES (?1, ?2)")?
        .insert((&kind.version, &kind.content_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(connection: &Connection) -> i64 {
        let sql = "SELECT count(*) FROM response_kinds";
        connection.query_row(sql, (), |row| row.get(0)).unwrap()
    }

    #[test]
    fn one_row_stands_for_many_flows() {
        let connection = Connection::open_in_memory().unwrap();
        let table = "CREATE TABLE response_kinds (
            id INTEGER PRIMARY KEY, version TEXT, content_type TEXT)";
        connection.execute(table, ()).unwrap();
        let mut kinds = ResponseKinds::default();
        let mut store =
            |version, content_type| kinds.store(&connection, version, content_type).unwrap();
        let html = store(Some("HTTP/1.1"), Some("text/html"));
        let bare = store(Some("HTTP/1.1"), None);
        assert_ne!(html, bare);
        assert_eq!(store(Some("HTTP/1.1"), Some("text/html")), html);
        assert_eq!(store(Some("HTTP/1.1"), Some("text/html")), html);
        assert_eq!(store(Some("HTTP/1.1"), None), bare);
        assert_ne!(store(Some("HTTP/2"), Some("text/html")), html);
        assert_ne!(store(None, Some("text/html")), html);
        assert_eq!(store(None, None), None);
        assert_eq!(count(&connection), 4);
        // A long one is not remembered.
        let long = "x".repeat(REMEMBERED_CONTENT_TYPE_BYTES_MAX + 1);
        assert_ne!(store(None, Some(&long)), store(None, Some(&long)));
        kinds.forget();
        assert_ne!(
            kinds.store(&connection, Some("HTTP/1.1"), None).unwrap(),
            bare
        );
    }
}
