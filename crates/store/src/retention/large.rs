//! Bodies and messages that go for their size, whatever the age of their flow.

use rusqlite::Connection;

use super::{Cut, REMOVABLE};

/// Of a row of `flows`: whether a body or message of it has more bytes than `?3`.
pub(super) const HAS_LARGE: &str = "(
     EXISTS (SELECT 1 FROM bodies WHERE bodies.id IN (request_body, response_body) AND size > ?3)
     OR EXISTS (SELECT 1 FROM messages WHERE flow = flows.id AND kept > ?3)
     OR EXISTS (SELECT 1 FROM body_parts WHERE flow = flows.id GROUP BY message HAVING sum(size) > ?3)
   )";

/// Notes in `temp.large` the flows before a row which lose bodies for their size alone.
pub(super) fn find(connection: &Connection, cut: Cut, before: i64) -> rusqlite::Result<()> {
    if cut.body_bytes == i64::MAX {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO temp.large SELECT id FROM flows WHERE {REMOVABLE} AND id >= ?2 AND {HAS_LARGE}"
    );
    let old = cut.flows.max(cut.bodies);
    connection.execute(&sql, (before, old, cut.body_bytes))?;
    Ok(())
}

/// Removes those bodies and messages of a flow that have more bytes; below 0, all.
pub(super) fn remove_bodies(
    connection: &Connection,
    row: i64,
    more_than: i64,
) -> rusqlite::Result<()> {
    for sql in [
        "UPDATE messages SET data = NULL, body = NULL, kept = 0 WHERE flow = ?1 AND kept > max(?2, 0)",
        "DELETE FROM body_parts WHERE flow = ?1 AND message IN (
           SELECT message FROM body_parts WHERE flow = ?1 GROUP BY message HAVING sum(size) > ?2
         )",
        "UPDATE flows SET truncated = 1,
           request_body = (SELECT id FROM bodies WHERE bodies.id = request_body AND size <= ?2),
           response_body = (SELECT id FROM bodies WHERE bodies.id = response_body AND size <= ?2)
         WHERE id = ?1",
    ] {
        connection.prepare_cached(sql)?.execute((row, more_than))?;
    }
    Ok(())
}
