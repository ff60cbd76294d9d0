//! Writes flows as rows: prepared statements, one transaction at a time.

use std::time::Duration;

use llm::Interpreter;
use rusqlite::{Connection, ErrorCode, ffi};
use traffic::rules::redact::Redaction;
use traffic::{Outcome, Timestamp};

use super::arrivals::Arrivals;
use super::assemble::{End, Flow, Gap, MessageState};
use super::binder::{Binder, Into, Statements};
use super::bodies::{Bodies, Remembered, read_parts};
use super::connections::Connections;
use super::head::{Heads, ReadHead, mask};
use super::meaning::{Known, Meanings};
use super::messages::MessageRows;
use super::place::{Asked, Places};
use super::repeated::Repeated;
use super::response_kind::ResponseKinds;
use super::trace_id::TraceBits;
use crate::detail::{Field, put_bytes, put_number, put_time};
use crate::limits::REJOINED_BODY_BYTES_MAX;
use crate::row_number::{first_row_at, stored_start};
use crate::{EndRun, FlowState, Message, RunId, StoreError, database};

/// Columns that are known when a flow starts, in the order in which they are bound.
const FIRST_COLUMNS: [&str; 7] = [
    "id",
    "start_time",
    "run_id",
    "seq",
    "trace_bits",
    "path",
    "query",
];

/// Columns that may change until the flow ends, in the order in which they are bound.
const LATER_COLUMNS: [&str; 15] = [
    "place",
    "session",
    "state",
    "client_connection",
    "upstream_connection",
    "status_code",
    "response_kind",
    "first_byte_us",
    "request_body",
    "request_body_size",
    "response_body",
    "response_body_size",
    "truncated",
    "duration_us",
    "detail",
];

/// The statements of the writer and what they remember.
pub(crate) struct Rows<'c> {
    connection: &'c Connection,
    redaction: Redaction,
    statements: Statements<'c>,
    bodies: Bodies<'c>,
    messages: MessageRows<'c>,
    connections: Connections<'c>,
    places: Places<'c>,
    response_kinds: ResponseKinds,
    meanings: Meanings<'c>,
    trace_bits: TraceBits,
    arrivals: Arrivals,
    /// The last row of this batch.
    last_row: i64,
    /// Changes when another connection wrote.
    data_version: i64,
    // Memory that is used again: a head that is too large to be remembered, and the packed part of a
    // row.
    large_head: ReadHead,
    detail: Vec<u8>,
}

impl<'c> Rows<'c> {
    pub(crate) fn prepare(
        connection: &'c Connection,
        redaction: Redaction,
        interpreter: Interpreter,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            connection,
            redaction,
            statements: Statements::prepare(connection, &FIRST_COLUMNS, &LATER_COLUMNS)?,
            bodies: Bodies::new(connection, Remembered::default())?,
            messages: MessageRows::prepare(connection)?,
            connections: Connections::new(connection, redaction)?,
            places: Places::new(connection, redaction)?,
            response_kinds: ResponseKinds::default(),
            meanings: Meanings::new(connection, interpreter),
            trace_bits: TraceBits::new(),
            arrivals: Arrivals::default(),
            last_row: i64::MIN,
            data_version: -1,
            large_head: ReadHead::default(),
            detail: Vec::new(),
        })
    }

    /// Begins a batch.
    pub(crate) fn begin(&mut self) -> Result<(), StoreError> {
        self.cached("BEGIN IMMEDIATE")?.execute(())?;
        let data_version = self
            .cached("PRAGMA data_version")?
            .query_row((), |row| row.get(0))?;
        if data_version != self.data_version && self.bodies.heed_removals()? {
            self.connections.forget_rows();
            self.places.forget();
            self.response_kinds.forget();
            self.meanings.forget();
        }
        self.last_row = i64::MIN;
        self.data_version = data_version;
        self.arrivals.clear();
        Ok(())
    }

    /// Writes a page as it is: a batch with nothing in it would succeed on a full disk.
    pub(crate) fn try_to_write(&self) -> Result<(), StoreError> {
        database::mark(self.connection)
    }

    /// How long to wait at most before there is something to do without a flow.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.connections.patience()
    }

    /// Whether there is something to store without a flow.
    pub(crate) fn has_late_processes(&self) -> bool {
        self.connections.has_late_processes()
    }

    /// Makes a batch durable.
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        self.connections.store_processes()?;
        self.arrivals.store(self.connection)?;
        self.cached("COMMIT")?.execute(())?;
        self.connections.settle();
        Ok(())
    }

    /// Takes back what was written since the batch began.
    pub(crate) fn undo(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a failed batch could not be taken back");
        }
        self.bodies.forget();
        self.connections.forget();
        self.places.forget();
        self.response_kinds.forget();
        self.meanings.forget();
        self.statements.forget();
    }

    /// Stores a flow that is over and has no row; answers its row. In one batch the flows that have none come in the
    /// order in which they started.
    pub(crate) fn insert_ended(&mut self, flow: &Flow) -> Result<i64, StoreError> {
        let bodies = (
            self.bodies.store(Message::Request, &flow.request.chunks)?,
            self.bodies
                .store(Message::Response, &flow.response.chunks)?,
        );
        self.insert_flow(flow, bodies)
    }

    /// Stores the messages of a flow that wait for it.
    pub(crate) fn insert_messages(&mut self, row: i64, flow: &Flow) -> Result<(), StoreError> {
        for told in &flow.messages.pending {
            let at_us = |at| flow.micros_to(at);
            self.messages.insert(row, at_us, told, &mut self.bodies)?;
        }
        Ok(())
    }

    /// Stores the end of a flow that has a row.
    pub(crate) fn update_ended(&mut self, row: i64, flow: &Flow) -> Result<(), StoreError> {
        let bodies = (
            self.end_body(row, flow, Message::Request)?,
            self.end_body(row, flow, Message::Response)?,
        );
        self.update_flow(row, flow, bodies)
    }

    /// Stores a flow that is not over yet; answers its row. The order is that of
    /// [`Self::insert_ended`].
    pub(crate) fn insert_open(&mut self, flow: &Flow) -> Result<i64, StoreError> {
        self.insert_flow(flow, (None, None))
    }

    /// Stores what is new of a flow that is not over yet.
    pub(crate) fn update_open(&mut self, row: i64, flow: &Flow) -> Result<(), StoreError> {
        self.update_flow(row, flow, (None, None))
    }

    /// Moves what memory holds of a body to the database.
    pub(crate) fn move_body(
        &mut self,
        row: i64,
        message: Message,
        body: &MessageState,
    ) -> Result<(), StoreError> {
        if body.held_bytes == 0 {
            return Ok(());
        }
        let content = body.chunks.concat();
        let packed = self.bodies.pack(&content);
        self.connection
            .prepare_cached(
                "INSERT INTO body_parts (flow, message, codec, size, data)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((
                row,
                message.as_str(),
                packed.codec(),
                integer_of(content.len()),
                packed.data(),
            ))?;
        Ok(())
    }

    /// Stores what is missing of a run.
    pub(crate) fn insert_gap(&self, run: RunId, gap: &Gap) -> Result<(), StoreError> {
        self.cached(
            "INSERT INTO gaps (run_id, at, reason, events, body_bytes)
             VALUES (?1, CAST(unixepoch('subsec') * 1000000 AS INTEGER), ?2, ?3, ?4)",
        )?
        .execute((
            run.as_str(),
            gap.reason.as_str(),
            integer(gap.losses.events),
            integer(gap.losses.body_bytes),
        ))?;
        Ok(())
    }

    /// Stores how a run ended.
    pub(crate) fn end_run(&self, run: RunId, end: EndRun) -> Result<(), StoreError> {
        self.cached("UPDATE runs SET ended_at = ?2, exit_code = ?3, signal = ?4 WHERE id = ?1")?
            .execute((run.as_str(), end.ended_at.0, end.exit_code, end.signal))?;
        Ok(())
    }

    /// Stores the body of a message that was moved in parts, as one content unless it is large.
    fn end_body(
        &mut self,
        row: i64,
        flow: &Flow,
        message: Message,
    ) -> Result<Option<i64>, StoreError> {
        let body = flow.message(message);
        if body.moved_bytes == 0 {
            return Ok(self.bodies.store(message, &body.chunks)?);
        }
        if body.kept_bytes() > REJOINED_BODY_BYTES_MAX {
            self.move_body(row, message, body)?;
            return Ok(None);
        }
        let mut content = read_parts(self.connection, row, message)?;
        for chunk in &body.chunks {
            content.extend_from_slice(chunk);
        }
        let stored = self.bodies.store_bytes(message, &content)?;
        self.cached("DELETE FROM body_parts WHERE flow = ?1 AND message = ?2")?
            .execute((row, message.as_str()))?;
        Ok(Some(stored))
    }

    fn insert_flow(
        &mut self,
        flow: &Flow,
        bodies: (Option<i64>, Option<i64>),
    ) -> Result<i64, StoreError> {
        let mut row = first_row_at(flow.started.at).max(self.last_row.saturating_add(1));
        let known = self.bind(Into::New, row, flow, bodies)?;
        while let Err(error) = self.statements.execute(Into::New) {
            // A flow of another batch or process started in the same microsecond.
            if !is_row_taken(&error) {
                return Err(error.into());
            }
            row = row.saturating_add(1);
            put_row(
                &mut self.statements.binder(Into::New, 0),
                row,
                flow.started.at,
            )?;
        }
        self.last_row = row;
        self.arrivals.note(flow.run, flow.seq, row);
        self.connections.note_flow(&flow.started.connection, row);
        self.insert_ending(row, flow)?;
        self.meanings.link(row, flow, &known)?;
        Ok(row)
    }

    fn update_flow(
        &mut self,
        row: i64,
        flow: &Flow,
        bodies: (Option<i64>, Option<i64>),
    ) -> Result<(), StoreError> {
        let known = self.bind(Into::Stored, row, flow, bodies)?;
        self.statements.execute(Into::Stored)?;
        self.insert_ending(row, flow)?;
        self.cached("INSERT INTO flow_changes (flow) VALUES (?1)")?
            .execute([row])?;
        self.meanings.link(row, flow, &known)
    }

    /// Stores what a tunnel and a failure tell at their end.
    fn insert_ending(&self, row: i64, flow: &Flow) -> Result<(), StoreError> {
        let Some(End::Reported {
            outcome, tunnelled, ..
        }) = &flow.end
        else {
            return Ok(());
        };
        let (failure, replied) = match outcome {
            Outcome::Failed { failure, replied } => (Some(failure), *replied),
            Outcome::Completed if tunnelled.is_none() => return Ok(()),
            Outcome::Completed => (None, None),
        };
        self.cached(
            "INSERT INTO endings (flow, tunnel_bytes_sent, tunnel_bytes_received, error_side,
               error_stage, error_type, error_message, replied_status)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            row,
            tunnelled.map(|(sent, _)| integer(sent)),
            tunnelled.map(|(_, received)| integer(received)),
            failure.as_ref().map(|failure| failure.side.as_str()),
            failure.as_ref().map(|failure| failure.stage.as_str()),
            failure.as_ref().map(|failure| failure.kind.as_str()),
            failure.as_ref().map(|failure| failure.text.as_str()),
            replied,
        ))?;
        Ok(())
    }

    /// Binds what is known of a flow by now, in the order of the columns.
    fn bind(
        &mut self,
        into: Into,
        row: i64,
        flow: &Flow,
        (request_body, response_body): (Option<i64>, Option<i64>),
    ) -> Result<Known, StoreError> {
        let detail = &mut self.detail;
        detail.clear();
        // One large head should not hold its memory for good.
        detail.shrink_to(64 * 1024);
        let started = &*flow.started;
        let client = self.connections.client(flow.run, started)?;
        let request = client
            .heads
            .read(&started.head, self.redaction, &mut self.large_head);
        put_number(
            detail,
            Field::RequestHeadSize,
            size(started.head.text.len()),
        );
        put_bytes(detail, Field::RequestHead, &request.packed);
        let mut repeated = request.repeated.take();
        repeated = repeated.filter(|repeated| repeated.is(flow));
        let (asked, known, place) = match &repeated {
            Some(repeated) => repeated.found(),
            None => {
                let asked = Asked::read(started.kind, &request.line);
                let known = self.meanings.read(flow, &asked, request)?;
                let method = asked.method;
                let place = self.places.store(started, method, known.traffic_type)?;
                (asked, known, place)
            }
        };

        let mut to = self.statements.binder(into, 0);
        if let Into::New = into {
            put_row(&mut to, row, started.at)?;
            to.put_text(flow.run.as_str())?;
            to.put_integer(integer(flow.seq))?;
            to.put_integer(self.trace_bits.next())?;
            to.put_text(asked.path)?;
            to.put_text(asked.query)?;
        }
        to.put_integer(place)?;
        to.put_some_integer(known.mark.map(|mark| mark.row))?;
        to.put_text(state(flow).stored_name())?;
        to.put_integer(client.row)?;
        if repeated.is_none() && request.is_again {
            repeated = Repeated::of(flow, &asked, &known, place);
        }
        request.repeated = repeated;
        let response = flow.response_head.as_ref();
        let mut no_heads = Heads::default();
        let heads = match &flow.upstream {
            Some(upstream) => {
                let head = response.map(|(_, head)| head);
                let stored = self.connections.upstream(flow.run, &upstream.facts, head)?;
                to.put_integer(stored.row)?;
                put_time(detail, Field::UpstreamReadyAt, flow.micros_to(upstream.at));
                put_number(detail, Field::UpstreamReused, upstream.reused.into());
                &mut stored.heads
            }
            None => {
                to.put_null()?;
                &mut no_heads
            }
        };
        match response {
            Some((at, head)) => {
                let read = heads.read(head, self.redaction, &mut self.large_head);
                to.put_some_integer(read.status.map(i64::from))?;
                let (version, content_type) = (head.version.as_str(), read.content_type.as_deref());
                let kinds = &mut self.response_kinds;
                to.put_some_integer(kinds.store(self.connection, Some(version), content_type)?)?;
                to.put_integer(flow.micros_to(*at))?;
                put_number(detail, Field::ResponseHeadSize, size(head.text.len()));
                put_bytes(detail, Field::ResponseHead, &read.packed);
            }
            None => to.put_nulls(3)?,
        }
        to.put_some_integer(request_body)?;
        to.put_some_integer(flow.request.size().map(integer))?;
        to.put_some_integer(response_body)?;
        to.put_some_integer(flow.response.size().map(integer))?;
        let is_over = flow.end.is_some();
        // What was read message by message is not kept a second time as it was on the wire.
        let is_cut = match flow.messages.count() {
            0 => flow.request.is_cut() || flow.response.is_cut(),
            _ => flow.messages.is_cut(),
        };
        to.put_integer((is_over && is_cut).into())?;
        to.put_some_integer(match flow.end {
            Some(End::Reported { at, .. }) => Some(flow.micros_to(at)),
            Some(End::Interrupted) | None => None,
        })?;
        pack_messages(flow, self.redaction, detail);
        to.put_bytes(detail)?;
        if let Into::Stored = into {
            to.put_integer(row)?;
        }
        Ok(known)
    }

    fn cached(&self, sql: &str) -> rusqlite::Result<rusqlite::CachedStatement<'c>> {
        self.connection.prepare_cached(sql)
    }
}

/// Packs what is known of the messages besides their heads.
fn pack_messages(flow: &Flow, redaction: Redaction, detail: &mut Vec<u8>) {
    for (message, ended_at, kept, trailers) in [
        (
            &flow.request,
            Field::RequestEndedAt,
            Field::RequestKept,
            Field::RequestTrailers,
        ),
        (
            &flow.response,
            Field::ResponseEndedAt,
            Field::ResponseKept,
            Field::ResponseTrailers,
        ),
    ] {
        if let Some(end) = message.whole() {
            put_time(detail, ended_at, flow.micros_to(end.at));
            if let Some(head) = &end.trailers {
                put_bytes(detail, trailers, &mask(head, redaction));
            }
        }
        if flow.end.is_some() {
            put_number(detail, kept, message.kept_bytes());
        }
    }
    if let Some(rerouted) = &flow.rerouted {
        put_bytes(detail, Field::GatewayRoute, rerouted.route.as_bytes());
        let url = redaction.mask_url(rerouted.url.as_bytes());
        put_bytes(detail, Field::GatewayUrl, &url);
        if let Some(id) = &rerouted.request_id {
            put_bytes(detail, Field::GatewayRequestId, id.as_bytes());
        }
    }
    if flow.messages.count() > 0 {
        let [from_client, from_upstream] = flow.messages.by_sender();
        put_number(detail, Field::MessagesFromClient, from_client);
        put_number(detail, Field::MessagesFromUpstream, from_upstream);
    }
    for head in &flow.informational {
        put_number(detail, Field::InformationalSize, size(head.text.len()));
        put_bytes(detail, Field::Informational, &mask(head, redaction));
    }
}

/// Binds `id` and `start_time`.
fn put_row(to: &mut Binder<'_, '_>, row: i64, at: Timestamp) -> rusqlite::Result<()> {
    to.put_integer(row)?;
    to.put_integer(stored_start(row, at))
}

fn state(flow: &Flow) -> FlowState {
    match &flow.end {
        None => FlowState::Open,
        Some(End::Interrupted) => FlowState::Interrupted,
        Some(End::Reported { outcome, .. }) => match outcome {
            Outcome::Completed => FlowState::Completed,
            Outcome::Failed { .. } => FlowState::Failed,
        },
    }
}

/// Whether the number of a row is in use.
fn is_row_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        error.code == ErrorCode::ConstraintViolation
            && error.extended_code == ffi::SQLITE_CONSTRAINT_PRIMARYKEY
    })
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn integer_of(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn size(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
