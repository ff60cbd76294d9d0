//! The rows of one flow.

use rusqlite::Connection;
use rusqlite::types::Value;
use uuid::Uuid;

use super::Meeting;
use super::parts::{self, Asked};
use super::row::{insert_row, update_row};
use super::stored::{BodyRows, Stored};
use super::writing::Writing;
use crate::flow_record::trace_bits;
use crate::ingest::bodies::{read_body, read_parts};
use crate::ingest::meaning::{MarkRow, place_mark, place_session};
use crate::reader::detail::seq;
use crate::{
    Annotation, FlowDetail, FlowKind, FlowRecord, FlowRef, Message, RunId, SessionMark, StoreError,
    annotate,
};

impl Writing<'_, '_> {
    /// Stores a flow that is not there.
    pub(super) fn insert(&mut self, run: RunId, flow: &FlowRecord) -> Result<(), StoreError> {
        let detail = &flow.detail;
        let id = FlowRef {
            run,
            seq: detail.row.id.seq,
        };
        let asked = Asked::of(detail);
        let uuid = Uuid::try_parse(&detail.row.uuid).unwrap_or_else(|_| Uuid::now_v7());
        let bodies = self.bodies(flow, None)?;
        let mut columns = vec![
            ("run_id", run.as_str().to_owned().into()),
            ("seq", seq(id).into()),
            ("trace_bits", trace_bits(&uuid).into()),
            ("path", asked.path.to_owned().into()),
            ("query", asked.query.to_owned().into()),
        ];
        columns.extend(self.later_columns(run, detail, &asked, bodies)?);
        let row = insert_row(self.connection, detail.row.started_at, &columns)?;
        self.arrivals.note(run, id.seq, row);
        self.write_beside(row, flow)
    }

    /// Stores what comes of a flow that is there.
    pub(super) fn update(
        &mut self,
        stored: &Stored,
        run: RunId,
        flow: &FlowRecord,
    ) -> Result<(), StoreError> {
        let detail = &flow.detail;
        let bodies = self.bodies(flow, Some(stored))?;
        let mut columns = Vec::from(self.later_columns(run, detail, &Asked::of(detail), bodies)?);
        // An older oriel has these here, and they would hide what is in the row of the kind.
        columns
            .extend(["response_version", "response_content_type"].map(|name| (name, Value::Null)));
        update_row(self.connection, stored.row, &columns)?;
        // A body that was in parts is whole now; with no more to come its parts stay.
        for message in [Message::Request, Message::Response] {
            if bodies.of(message).is_some() || self.meeting == Meeting::Replace {
                self.connection
                    .prepare_cached("DELETE FROM body_parts WHERE flow = ?1 AND message = ?2")?
                    .execute((stored.row, message.as_str()))?;
            }
        }
        self.connection
            .prepare_cached("INSERT INTO flow_changes (flow) VALUES (?1)")?
            .execute([stored.row])?;
        self.write_beside(stored.row, flow)
    }

    /// What is in rows of its own that name the flow's.
    fn write_beside(&mut self, row: i64, flow: &FlowRecord) -> Result<(), StoreError> {
        write_ending(self.connection, row, &flow.detail)?;
        annotate::write(self.connection, row, &Annotation::of(&flow.detail.row))?;
        self.write_messages(row, flow)
    }

    /// The columns that may change until a flow ends, with what they hold.
    fn later_columns(
        &mut self,
        run: RunId,
        detail: &FlowDetail,
        asked: &Asked<'_>,
        bodies: BodyRows,
    ) -> Result<[(&'static str, Value); 15], StoreError> {
        let row = &detail.row;
        let body_size = |bytes: Option<u64>| {
            let is_tunnel = row.kind == FlowKind::Tunnel;
            bytes.filter(|_| !is_tunnel).map(parts::integer)
        };
        let content_type = row.response_content_type.as_deref();
        let version = row.upstream_version.as_deref();
        let kinds = &mut self.known.response_kinds;
        let response_kind = kinds.store(self.connection, version, content_type)?;
        let place = self.known.places.store(self.connection, detail, asked)?;
        let connections = &mut self.known.connections;
        let client = connections.client(self.connection, run, detail.client.as_ref())?;
        let upstream = connections.upstream(self.connection, run, detail)?;
        Ok([
            ("place", place.into()),
            ("state", row.state.stored_name().to_owned().into()),
            ("client_connection", client.into()),
            ("upstream_connection", upstream.into()),
            ("status_code", row.status.into()),
            ("response_kind", response_kind.into()),
            ("first_byte_us", parts::first_byte_us(detail).into()),
            ("request_body", bodies.request.into()),
            ("request_body_size", body_size(row.request_bytes).into()),
            ("response_body", bodies.response.into()),
            ("response_body_size", body_size(row.response_bytes).into()),
            ("truncated", row.truncated.into()),
            ("duration_us", parts::duration_us(detail).into()),
            ("detail", parts::pack(detail).into()),
            ("session", self.session(row.session.as_ref())?.into()),
        ])
    }

    /// The row that tells how a flow belongs to a session.
    fn session(&self, mark: Option<&SessionMark>) -> Result<Option<i64>, StoreError> {
        let Some(mark) = mark else {
            return Ok(None);
        };
        let agent = mark.agent.as_deref();
        let session = place_session(self.connection, &mark.id, agent)?;
        let row = MarkRow {
            method: mark.method,
            agent,
            agent_id: mark.agent_id.as_deref(),
            parent_agent_id: mark.parent_agent_id.as_deref(),
        };
        Ok(Some(place_mark(self.connection, session, &row)?))
    }

    fn bodies(
        &mut self,
        flow: &FlowRecord,
        stored: Option<&Stored>,
    ) -> Result<BodyRows, StoreError> {
        let request = flow.request_body.as_deref();
        let response = flow.response_body.as_deref();
        Ok(BodyRows {
            request: self.body(Message::Request, request, stored)?,
            response: self.body(Message::Response, response, stored)?,
        })
    }

    /// Stores a body, unless the flow has it already.
    fn body(
        &mut self,
        message: Message,
        body: Option<&[u8]>,
        stored: Option<&Stored>,
    ) -> Result<Option<i64>, StoreError> {
        let Some(body) = body.filter(|body| !body.is_empty()) else {
            return Ok(None);
        };
        let Some(stored) = stored else {
            return Ok(Some(self.bodies.store_bytes(message, body)?));
        };
        if self.meeting == Meeting::Complete {
            let mut whole = read_parts(self.connection, stored.row, message)?;
            whole.extend_from_slice(body);
            return Ok(Some(self.bodies.store_bytes(message, &whole)?));
        }
        if let Some(known) = stored.bodies.of(message)
            && read_body(self.connection, known)? == body
        {
            return Ok(Some(known));
        }
        Ok(Some(self.bodies.store_bytes(message, body)?))
    }
}

/// What a tunnel and a failure tell at their end.
fn write_ending(connection: &Connection, row: i64, detail: &FlowDetail) -> Result<(), StoreError> {
    let error = detail.row.error.as_ref();
    let tunnel = |bytes: Option<u64>| {
        let is_tunnel = detail.row.kind == FlowKind::Tunnel;
        bytes.filter(|_| is_tunnel).map(parts::integer)
    };
    let sent = tunnel(detail.row.request_bytes);
    let received = tunnel(detail.row.response_bytes);
    if error.is_none() && sent.is_none() && received.is_none() {
        return Ok(());
    }
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO endings (flow, tunnel_bytes_sent, tunnel_bytes_received,
               error_side, error_stage, error_type, error_message, replied_status)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            row,
            sent,
            received,
            error.map(|error| &error.side),
            error.map(|error| &error.stage),
            error.map(|error| &error.kind),
            error.map(|error| &error.text),
            error.and_then(|error| error.replied_status),
        ))?;
    Ok(())
}
