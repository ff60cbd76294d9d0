//! Writes flows as rows: prepared statements, one transaction at a time.

use std::fmt::Write as _;

use rusqlite::Connection;
use traffic::rules::redact::Redaction;
use traffic::{FlowKind, Outcome, Scheme};

use super::assemble::{End, Flow, Gap, MessageState};
use super::binder::{Binder, Into, Statements};
use super::bodies::{Bodies, read_parts};
use super::connections::Connections;
use super::head::{HeadTexts, push_json};
use super::place::Place;
use super::trace_id::TraceIds;
use crate::limits::REJOINED_BODY_BYTES_MAX;
use crate::{EndRun, Message, RunId, StoreError};

/// Columns that are known when a flow starts, in the order in which they are bound.
const FIRST_COLUMNS: [&str; 24] = [
    "id",
    "run_id",
    "seq",
    "trace_id",
    "kind",
    "route_action",
    "route_rule",
    "redaction",
    "method",
    "url",
    "scheme",
    "host",
    "port",
    "path",
    "request_line",
    "request_version",
    "request_headers",
    "request_head_size",
    "request_content_type",
    "start_time",
    "client_connection",
    "client_ip",
    "is_https",
    "created_at",
];

/// Columns that may change until the flow ends, in the order in which they are bound.
const LATER_COLUMNS: [&str; 34] = [
    "state",
    "request_body",
    "request_body_size",
    "request_body_kept",
    "request_sent_at",
    "request_trailers",
    "response_body",
    "response_body_size",
    "response_body_kept",
    "response_ended_at",
    "response_trailers",
    "upstream_connection",
    "upstream_ready_at",
    "upstream_reused",
    "server_ip",
    "server_port",
    "danger_unverified",
    "status_code",
    "response_line",
    "response_version",
    "response_headers",
    "response_head_size",
    "response_content_type",
    "response_started_at",
    "informational",
    "end_time",
    "duration_ms",
    "tunnel_bytes_sent",
    "tunnel_bytes_received",
    "error_side",
    "error_stage",
    "error_type",
    "error_message",
    "replied_status",
];

/// The statements of the writer and what they remember.
pub(crate) struct Rows<'c> {
    connection: &'c Connection,
    redaction: Redaction,
    statements: Statements<'c>,
    bodies: Bodies<'c>,
    connections: Connections<'c>,
    trace_ids: TraceIds,
    /// The last row of `flows` that was given out, by any process.
    last_row: i64,
    /// Changes when another process wrote.
    data_version: i64,
    /// When the batch is written.
    now: i64,
    texts: HeadTexts,
    place: Place,
}

impl<'c> Rows<'c> {
    pub(crate) fn prepare(
        connection: &'c Connection,
        redaction: Redaction,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            connection,
            redaction,
            statements: Statements::prepare(connection, &FIRST_COLUMNS, &LATER_COLUMNS)?,
            bodies: Bodies::new(connection)?,
            connections: Connections::new(connection)?,
            trace_ids: TraceIds::new(),
            last_row: 0,
            data_version: -1,
            now: 0,
            texts: HeadTexts::default(),
            place: Place::default(),
        })
    }

    /// Begins a batch.
    pub(crate) fn begin(&mut self) -> Result<(), StoreError> {
        self.cached("BEGIN IMMEDIATE")?.execute(())?;
        let (last_row, data_version, now) = self
            .cached(
                "SELECT value, (SELECT data_version FROM pragma_data_version()),
                   CAST(unixepoch('subsec') * 1000000 AS INTEGER)
                 FROM counters WHERE name = 'flow'",
            )?
            .query_row((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        if data_version != self.data_version {
            self.bodies.forget();
        }
        self.last_row = last_row;
        self.data_version = data_version;
        self.now = now;
        Ok(())
    }

    /// Makes a batch durable.
    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        self.cached("UPDATE counters SET value = ?1 WHERE name = 'flow'")?
            .execute([self.last_row])?;
        self.cached("COMMIT")?.execute(())?;
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
        self.statements.forget();
    }

    /// Stores a flow that is over.
    pub(crate) fn store_ended(&mut self, flow: &Flow) -> Result<(), StoreError> {
        match flow.row {
            Some(row) => {
                let bodies = (
                    self.end_body(row, flow, Message::Request)?,
                    self.end_body(row, flow, Message::Response)?,
                );
                self.update_flow(row, flow, bodies)
            }
            None => {
                let bodies = (
                    self.bodies.store(&flow.request.chunks)?,
                    self.bodies.store(&flow.response.chunks)?,
                );
                self.insert_flow(flow, bodies).map(drop)
            }
        }
    }

    /// Stores a flow that is not over yet; answers its row.
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
        let now = self.now;
        self.cached(
            "INSERT INTO gaps (run_id, at, reason, events, body_bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            run.as_str(),
            now,
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
            return Ok(self.bodies.store(&body.chunks)?);
        }
        if body.kept_bytes() > REJOINED_BODY_BYTES_MAX {
            self.move_body(row, message, body)?;
            return Ok(None);
        }
        let mut content = read_parts(self.connection, row, message)?;
        for chunk in &body.chunks {
            content.extend_from_slice(chunk);
        }
        let stored = self.bodies.store_bytes(&content)?;
        self.cached("DELETE FROM body_parts WHERE flow = ?1 AND message = ?2")?
            .execute((row, message.as_str()))?;
        Ok(Some(stored))
    }

    fn insert_flow(
        &mut self,
        flow: &Flow,
        bodies: (Option<i64>, Option<i64>),
    ) -> Result<i64, StoreError> {
        let row = self.last_row + 1;
        self.bind_first(row, flow)?;
        self.bind_later(Into::New, FIRST_COLUMNS.len(), flow, bodies)?;
        self.statements.execute(Into::New)?;
        self.last_row = row;
        Ok(row)
    }

    fn update_flow(
        &mut self,
        row: i64,
        flow: &Flow,
        bodies: (Option<i64>, Option<i64>),
    ) -> Result<(), StoreError> {
        self.bind_later(Into::Stored, 0, flow, bodies)?;
        let mut to = self.statements.binder(Into::Stored, LATER_COLUMNS.len());
        to.put(row)?;
        self.statements.execute(Into::Stored)?;
        self.cached("INSERT INTO flow_changes (flow) VALUES (?1)")?
            .execute([row])?;
        Ok(())
    }

    fn bind_first(&mut self, row: i64, flow: &Flow) -> Result<(), StoreError> {
        let started = &*flow.started;
        self.texts.read(&started.head, self.redaction);
        self.place.read(started, &self.texts.line);
        let client = self.connections.client(flow.run, &started.connection)?;
        let mut to = self.statements.binder(Into::New, 0);
        to.put(row)?;
        to.put_shared(flow.run.as_str())?;
        to.put(integer(flow.seq))?;
        to.put(self.trace_ids.next(started.at))?;
        to.put_shared(match started.kind {
            FlowKind::Http => "http",
            FlowKind::Tunnel => "tunnel",
        })?;
        to.put_shared(started.route.action.as_str())?;
        to.put_shared(&started.route.rule)?;
        to.put_shared(self.redaction.as_str())?;
        to.put_shared(&self.place.method)?;
        to.put_shared(&self.place.url)?;
        to.put_shared(started.scheme.as_str())?;
        to.put_shared(&self.place.host)?;
        to.put(started.target.port)?;
        to.put_shared(&self.place.path)?;
        to.put_shared(&self.texts.line)?;
        to.put_shared(started.head.version.as_str())?;
        to.put_shared(&self.texts.fields)?;
        to.put(integer_of(started.head.text.len()))?;
        to.put_some_shared(self.texts.content_type())?;
        to.put(started.at.0)?;
        to.put(client.row)?;
        to.put_shared(&client.ip)?;
        to.put(started.scheme == Scheme::Https)?;
        to.put(self.now)?;
        Ok(())
    }

    fn bind_later(
        &mut self,
        into: Into,
        start: usize,
        flow: &Flow,
        (request_body, response_body): (Option<i64>, Option<i64>),
    ) -> Result<(), StoreError> {
        let mut to = self.statements.binder(into, start);
        to.put_shared(state_name(flow))?;
        to.put_message(
            &flow.request,
            request_body,
            flow.end.is_some(),
            self.redaction,
        )?;
        to.put_message(
            &flow.response,
            response_body,
            flow.end.is_some(),
            self.redaction,
        )?;
        match &flow.upstream {
            Some(upstream) => {
                let stored = self.connections.upstream(flow.run, &upstream.facts)?;
                let tls = upstream.facts.tls.as_ref();
                to.put(stored.row)?;
                to.put(upstream.at.0)?;
                to.put(upstream.reused)?;
                to.put_shared(&stored.ip)?;
                to.put(upstream.facts.address.port())?;
                to.put(tls.is_some_and(|tls| tls.danger_unverified))?;
            }
            None => {
                to.skip(5)?;
                to.put(false)?;
            }
        }
        match &flow.response_head {
            Some((at, head)) => {
                self.texts.read(head, self.redaction);
                to.put_some(head.status())?;
                to.put_shared(&self.texts.line)?;
                to.put_shared(head.version.as_str())?;
                to.put_shared(&self.texts.fields)?;
                to.put(integer_of(head.text.len()))?;
                to.put_some_shared(self.texts.content_type())?;
                to.put(at.0)?;
            }
            None => to.skip(7)?,
        }
        to.put_some(informational_json(flow, self.redaction))?;
        to.put_end(flow)?;
        Ok(())
    }

    fn cached(&self, sql: &str) -> rusqlite::Result<rusqlite::CachedStatement<'c>> {
        self.connection.prepare_cached(sql)
    }
}

/// What of a row is bound in groups.
impl Binder<'_, '_> {
    /// The five columns of one message: body, size, kept, end, trailers.
    fn put_message(
        &mut self,
        message: &MessageState,
        body: Option<i64>,
        over: bool,
        redaction: Redaction,
    ) -> rusqlite::Result<()> {
        self.put_some(body)?;
        let end = message.end.as_ref();
        self.put_some(end.map(|end| integer(end.size.seen)))?;
        let kept = over.then(|| integer(message.kept_bytes()));
        self.put_some(kept)?;
        self.put_some(end.map(|end| end.at.0))?;
        let trailers = end.and_then(|end| end.trailers.as_ref());
        self.put_some(trailers.map(|trailers| {
            let mut texts = HeadTexts::default();
            texts.read(trailers, redaction);
            texts.fields
        }))
    }

    /// The nine columns of the end.
    fn put_end(&mut self, flow: &Flow) -> rusqlite::Result<()> {
        let Some(End::Reported {
            at,
            outcome,
            tunnelled,
        }) = &flow.end
        else {
            return self.skip(9);
        };
        self.put(at.0)?;
        self.put(milliseconds(at.micros_since(flow.started.at)))?;
        self.put_some(tunnelled.map(|(sent, _)| integer(sent)))?;
        self.put_some(tunnelled.map(|(_, received)| integer(received)))?;
        let Outcome::Failed { failure, replied } = outcome else {
            return self.skip(5);
        };
        self.put(failure.side.as_str())?;
        self.put(failure.stage.as_str())?;
        self.put(failure.kind.as_str())?;
        self.put(&*failure.text)?;
        self.put_some(*replied)
    }
}

fn state_name(flow: &Flow) -> &'static str {
    match &flow.end {
        None => "open",
        Some(End::Interrupted) => "interrupted",
        Some(End::Reported { outcome, .. }) => match outcome {
            Outcome::Completed => "completed",
            Outcome::Failed { .. } => "failed",
        },
    }
}

fn informational_json(flow: &Flow, redaction: Redaction) -> Option<String> {
    if flow.informational.is_empty() {
        return None;
    }
    let mut out = String::from("[");
    let mut texts = HeadTexts::default();
    for head in &flow.informational {
        texts.read(head, redaction);
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str("{\"line\":");
        push_json(&mut out, &texts.line);
        let size = head.text.len();
        write!(out, ",\"headers\":{},\"size\":{size}}}", texts.fields).expect("a String takes all");
    }
    out.push(']');
    Some(out)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 microseconds are 285 years"
)]
fn milliseconds(micros: i64) -> f64 {
    micros as f64 / 1000.0
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn integer_of(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
