//! The messages of a WebSocket.

use super::parts;
use super::writing::Writing;
use crate::limits::INLINE_MESSAGE_BYTES_MAX;
use crate::{FlowRecord, Message, StoreError, StreamMessage};

impl Writing<'_, '_> {
    /// Stores the messages that are not there. One that is stored does not change.
    pub(super) fn write_messages(&mut self, row: i64, flow: &FlowRecord) -> Result<(), StoreError> {
        if flow.messages.is_empty() {
            return Ok(());
        }
        let known: i64 = self
            .connection
            .prepare_cached("SELECT coalesce(max(sequence), 0) FROM messages WHERE flow = ?1")?
            .query_row([row], |row| row.get(0))?;
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO messages (flow, sequence, sender, at_us, kind, close_code, size, wire_size,
               frames, coding, complete, kept, data, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
             ON CONFLICT DO NOTHING",
        )?;
        let start = flow.detail.row.started_at;
        for message in &flow.messages {
            let sequence = parts::integer(message.sequence);
            if sequence <= known {
                continue;
            }
            let (data, body) = self.place_payload(message)?;
            statement.execute(rusqlite::params![
                row,
                sequence,
                message.sender,
                message.at.0.saturating_sub(start.0),
                message.kind,
                message.close_code,
                parts::integer(message.bytes),
                parts::integer(message.wire_bytes),
                parts::integer(message.frames),
                message.coding,
                message.complete,
                parts::integer_of(message.payload.len()),
                data,
                body,
            ])?;
        }
        Ok(())
    }

    /// What stands in the row of a message: the payload itself, or the row of a body, if it is large.
    fn place_payload<'m>(
        &mut self,
        message: &'m StreamMessage,
    ) -> Result<(Option<&'m [u8]>, Option<i64>), StoreError> {
        let payload = &*message.payload;
        if payload.is_empty() {
            return Ok((None, None));
        }
        if payload.len() <= INLINE_MESSAGE_BYTES_MAX {
            return Ok((Some(payload), None));
        }
        let of = match &*message.sender {
            "client" => Message::Request,
            _ => Message::Response,
        };
        Ok((None, Some(self.bodies.store_bytes(of, payload)?)))
    }
}
