//! Reads what a WebSocket carried.

use rusqlite::{Connection, Row};
use traffic::Timestamp;

use super::detail::{FLOW, seq};
use super::packed::Detail;
use super::row::after as later;
use crate::detail::Field;
use crate::ingest::bodies;
use crate::limits::PAGE_MESSAGES_MAX;
use crate::{FlowRef, FlowRow, MessageCounts, StoreError, StreamMessage};

/// Reads messages of a flow; `None` if there is no such flow.
pub(super) fn read(
    connection: &Connection,
    flow: FlowRef,
    after: u64,
    limit: usize,
) -> Result<Option<Vec<StreamMessage>>, StoreError> {
    let mut statement = connection.prepare_cached(FLOW)?;
    let mut rows = statement.query((flow.run.as_str(), seq(flow)))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let id: i64 = row.get("id")?;
    let start = Timestamp(row.get("start_time")?);
    let mut statement = connection.prepare_cached(
        "SELECT * FROM messages WHERE flow = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit.min(PAGE_MESSAGES_MAX)).unwrap_or(i64::MAX);
    let mut rows = statement.query((id, after, limit))?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        messages.push(read_message(connection, row, start)?);
    }
    Ok(Some(messages))
}

/// All that is kept of a flow, whose row it is.
pub(super) fn read_all(
    connection: &Connection,
    row: i64,
    flow: &FlowRow,
) -> Result<Vec<StreamMessage>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM messages WHERE flow = ?1 ORDER BY sequence")?;
    let mut rows = statement.query([row])?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        messages.push(read_message(connection, row, flow.started_at)?);
    }
    Ok(messages)
}

fn read_message(
    connection: &Connection,
    row: &Row<'_>,
    start: Timestamp,
) -> Result<StreamMessage, StoreError> {
    let number = |column| row.get(column).map(|number: i64| number.unsigned_abs());
    let body: Option<i64> = row.get("body")?;
    let payload = match body {
        Some(body) => bodies::read_body(connection, body)?,
        None => row.get::<_, Option<Vec<u8>>>("data")?.unwrap_or_default(),
    };
    Ok(StreamMessage {
        sequence: number("sequence")?,
        sender: row.get("sender")?,
        at: later(start, row.get("at_us")?),
        kind: row.get("kind")?,
        close_code: row.get("close_code")?,
        bytes: number("size")?,
        wire_bytes: number("wire_size")?,
        frames: number("frames")?,
        coding: row.get("coding")?,
        complete: row.get("complete")?,
        payload,
    })
}

/// How many messages a flow has: as it was told at its end, or as they are stored so far.
pub(super) fn count(
    connection: &Connection,
    flow: i64,
    detail: &Detail<'_>,
) -> Result<Option<MessageCounts>, StoreError> {
    let from_client = detail.number(Field::MessagesFromClient);
    let from_upstream = detail.number(Field::MessagesFromUpstream);
    let counts = match (from_client, from_upstream) {
        (Some(from_client), Some(from_upstream)) => MessageCounts {
            from_client,
            from_upstream,
        },
        _ => {
            let mut statement = connection.prepare_cached(
                "SELECT count(*) FILTER (WHERE sender = 'client'),
                        count(*) FILTER (WHERE sender = 'upstream')
                 FROM messages WHERE flow = ?1",
            )?;
            statement.query_row([flow], |row| {
                Ok(MessageCounts {
                    from_client: row.get::<_, i64>(0)?.unsigned_abs(),
                    from_upstream: row.get::<_, i64>(1)?.unsigned_abs(),
                })
            })?
        }
    };
    let some = counts.from_client + counts.from_upstream > 0;
    Ok(some.then_some(counts))
}
