//! Writes flows that come from elsewhere into a SQLite file: from an archive, another file, an import.
//!
//! A flow is known by the UUID of its run and its number in it, so that doing it twice changes nothing.
//! Oriels that write to the file at the same time are not disturbed.

mod connections;
mod parts;
mod places;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{
    Connection, ErrorCode, OptionalExtension, ToSql, Transaction, TransactionBehavior, ffi,
    params_from_iter,
};
use uuid::Uuid;

use self::connections::Connections;
use self::places::Places;
use crate::flow_record::trace_bits;
use crate::ingest::arrivals::Arrivals;
use crate::ingest::bodies::{Bodies, Remembered, read_body, read_parts};
use crate::ingest::meaning::{MarkRow, place_mark, place_session};
use crate::limits::INLINE_MESSAGE_BYTES_MAX;
use crate::process::ProcessMark;
use crate::reader::detail;
use crate::reader::records::read_run;
use crate::row_number::first_row_at;
use crate::{
    Annotation, ArchiveBatch, FlowDetail, FlowKind, FlowRecord, FlowRef, FlowState, GapRecord,
    Message, RunId, RunRecord, SessionMark, StoreError, annotate, database, interrupted,
};

/// Tries to find a run id that is free. There are a million of them.
const RUN_ID_TRIES_MAX: usize = 1000;

/// A SQLite file that takes flows from elsewhere.
#[derive(Debug)]
pub struct Importer {
    connection: Connection,
    /// The ids of runs here, by their UUIDs.
    runs: HashMap<String, RunId>,
    places: Places,
    connections: Connections,
    bodies: Remembered,
}

/// What was done with flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Flows that were not there.
    pub added: u64,
    /// Flows that were there, and less was known of them.
    pub changed: u64,
    /// Flows that were there as they are.
    pub unchanged: u64,
}

impl Importer {
    /// Opens the file, creating it and its folder (for the owner only) where needed.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::new(database::open_for_writing(path)?))
    }

    /// Tries once to open the file, and never waits longer than this for others that write.
    pub(crate) fn open_once(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        Ok(Self::new(database::open_once(path, patience)?))
    }

    fn new(connection: Connection) -> Self {
        Self {
            connection,
            runs: HashMap::new(),
            places: Places::default(),
            connections: Connections::default(),
            bodies: Remembered::default(),
        }
    }

    /// The id that a run with this UUID has here, once a flow of it was stored.
    #[must_use]
    pub fn run_id(&self, uuid: &str) -> Option<RunId> {
        self.runs.get(uuid).copied()
    }

    /// Stores flows, all or none; they are durable when this returns. Nothing of them is masked here.
    pub fn insert(&mut self, flows: &[FlowRecord]) -> Result<Imported, StoreError> {
        self.insert_parts(&[], flows, &[], Meeting::Replace)
    }

    /// Stores flows, runs and gaps, all or none.
    pub fn insert_batch(&mut self, batch: &ArchiveBatch) -> Result<Imported, StoreError> {
        self.insert_parts(&batch.runs, &batch.flows, &batch.gaps, Meeting::Replace)
    }

    /// Stores what the writer of this file could not: flows that ended, of which the file may have the
    /// beginning.
    pub(crate) fn complete(&mut self, batch: &ArchiveBatch) -> Result<Imported, StoreError> {
        self.insert_parts(&batch.runs, &batch.flows, &batch.gaps, Meeting::Complete)
    }

    /// Notes which process writes a run, if that is not known.
    pub(crate) fn note_process(&self, uuid: &str, process: &ProcessMark) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE runs SET process_start = ?2, process_space = ?3
                 WHERE uuid = ?1 AND process_start IS NULL AND process_space IS NULL",
            )?
            .execute((uuid, process.start, &process.space))?;
        Ok(())
    }

    /// Marks flows that a process left open when it died.
    pub(crate) fn mark_interrupted(&self) -> Result<(), StoreError> {
        interrupted::mark_interrupted(&self.connection)
    }

    fn insert_parts(
        &mut self,
        runs: &[Arc<RunRecord>],
        flows: &[FlowRecord],
        gaps: &[GapRecord],
        meeting: Meeting,
    ) -> Result<Imported, StoreError> {
        let done = self.insert_all(runs, flows, gaps, meeting);
        if done.is_err() {
            // What was remembered may have been taken back.
            self.runs.clear();
            self.places.forget();
            self.connections.forget();
        }
        done
    }

    fn insert_all(
        &mut self,
        runs: &[Arc<RunRecord>],
        flows: &[FlowRecord],
        gaps: &[GapRecord],
        meeting: Meeting,
    ) -> Result<Imported, StoreError> {
        let transaction =
            Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        // It is put back if all goes well; what a failure takes back is not to be remembered.
        let mut bodies = Bodies::new(&transaction, std::mem::take(&mut self.bodies))?;
        if bodies.heed_removals()? {
            self.runs.clear();
            self.places.forget();
            self.connections.forget();
        }
        let mut writing = Writing {
            connection: &transaction,
            meeting,
            bodies,
            arrivals: Arrivals::default(),
            runs: &mut self.runs,
            places: &mut self.places,
            connections: &mut self.connections,
        };
        for run in runs {
            // Known or not: it may have ended.
            writing.runs.remove(&run.uuid);
            writing.run(run)?;
        }
        let mut imported = Imported::default();
        for flow in flows {
            let count = match writing.write(flow)? {
                Done::Added => &mut imported.added,
                Done::Changed => &mut imported.changed,
                Done::Unchanged => &mut imported.unchanged,
            };
            *count += 1;
        }
        for gap in gaps {
            writing.write_gap(gap)?;
        }
        let known = writing.end()?;
        transaction.commit()?;
        self.bodies = known;
        Ok(imported)
    }
}

/// What happens to a flow that is stored already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meeting {
    /// It becomes what comes, unless less is known of that.
    Replace,
    /// One that was stored with its end stays, and so does one of which as much is known. Of another the
    /// beginnings of bodies may be there, and what comes is the rest.
    Complete,
}

/// One transaction.
struct Writing<'c, 'i> {
    connection: &'c Connection,
    meeting: Meeting,
    bodies: Bodies<'c>,
    arrivals: Arrivals,
    runs: &'i mut HashMap<String, RunId>,
    places: &'i mut Places,
    connections: &'i mut Connections,
}

enum Done {
    Added,
    Changed,
    Unchanged,
}

/// A flow that is stored.
struct Stored {
    row: i64,
    request_body: Option<i64>,
    response_body: Option<i64>,
}

impl Stored {
    fn body(&self, message: Message) -> Option<i64> {
        match message {
            Message::Request => self.request_body,
            Message::Response => self.response_body,
        }
    }
}

impl Writing<'_, '_> {
    /// Stores what is stored once per transaction; answers which bodies are known to be stored.
    fn end(mut self) -> Result<Remembered, StoreError> {
        self.arrivals.store(self.connection)?;
        Ok(self.bodies.into_remembered())
    }

    fn write(&mut self, flow: &FlowRecord) -> Result<Done, StoreError> {
        let run = self.run(&flow.run)?;
        let id = FlowRef {
            run,
            seq: flow.detail.row.id.seq,
        };
        let Some(stored) = self.find(id)? else {
            self.insert(id, flow)?;
            return Ok(Done::Added);
        };
        let is_known = match self.meeting {
            Meeting::Replace => self.is_known(id, flow)?,
            Meeting::Complete => !self.is_completed_by(id, flow)?,
        };
        if is_known {
            return Ok(Done::Unchanged);
        }
        self.update(&stored, run, flow)?;
        Ok(Done::Changed)
    }

    fn run(&mut self, run: &RunRecord) -> Result<RunId, StoreError> {
        if let Some(id) = self.runs.get(&run.uuid) {
            return Ok(*id);
        }
        let id = place_run(self.connection, run)?;
        self.runs.insert(run.uuid.clone(), id);
        Ok(id)
    }

    /// Stores a gap, unless it is there. Its number is of the file it is from.
    fn write_gap(&mut self, gap: &GapRecord) -> Result<(), StoreError> {
        let run = self.run(&gap.run)?;
        self.connection
            .prepare_cached(
                "INSERT INTO gaps (run_id, at, reason, events, body_bytes) SELECT ?1, ?2, ?3, ?4, ?5
                 WHERE NOT EXISTS (SELECT 1 FROM gaps WHERE run_id = ?1 AND at = ?2 AND reason = ?3
                   AND events = ?4 AND body_bytes = ?5)",
            )?
            .execute((
                run.as_str(),
                gap.at.0,
                &gap.reason,
                parts::integer(gap.events),
                parts::integer(gap.body_bytes),
            ))?;
        Ok(())
    }

    fn find(&self, id: FlowRef) -> Result<Option<Stored>, StoreError> {
        let sql = format!(
            "SELECT id, request_body, response_body FROM ({})",
            detail::FLOW
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found = statement
            .query_row((id.run.as_str(), detail::seq(id)), |row| {
                Ok(Stored {
                    row: row.get(0)?,
                    request_body: row.get(1)?,
                    response_body: row.get(2)?,
                })
            })
            .optional()?;
        Ok(found)
    }

    /// Whether nothing is new. A flow that is stored as ended does not open again.
    fn is_known(&self, id: FlowRef, flow: &FlowRecord) -> Result<bool, StoreError> {
        let Some(mut known) = detail::read(self.connection, id)? else {
            return Ok(false);
        };
        known.row.id = flow.detail.row.id;
        let reopens =
            flow.detail.row.state == FlowState::Open && known.row.state != FlowState::Open;
        // A flow that is open has bodies and messages in the making.
        let is_same = known == flow.detail && known.row.state != FlowState::Open;
        Ok(is_same || reopens)
    }

    /// Whether what comes tells more than what is stored: the end of a flow, or while it is open the
    /// head of its response. One that was only found to be interrupted has no end.
    fn is_completed_by(&self, id: FlowRef, flow: &FlowRecord) -> Result<bool, StoreError> {
        let Some(known) = detail::read(self.connection, id)? else {
            return Ok(true);
        };
        let has_ended = known.request_kept_bytes.is_some();
        let is_answered = known.row.status.is_some();
        Ok(!has_ended
            && match flow.detail.row.state {
                FlowState::Open => !is_answered && flow.detail.row.status.is_some(),
                _ => true,
            })
    }

    fn insert(&mut self, id: FlowRef, flow: &FlowRecord) -> Result<(), StoreError> {
        let detail = &flow.detail;
        let asked = parts::Asked::of(detail);
        let bits = Uuid::try_parse(&detail.row.uuid).unwrap_or_else(|_| Uuid::now_v7());
        let bits = trace_bits(&bits);
        let later = self.later(id.run, flow, None)?;
        let sql = format!(
            "INSERT INTO flows (id, run_id, seq, start_time, trace_bits, path, query, {LATER_COLUMNS})
             VALUES (?, ?, ?, ?, ?, ?, ?, {LATER_VALUES})"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut row = first_row_at(detail.row.started_at);
        loop {
            let once: [&dyn ToSql; 7] = [
                &row,
                &id.run.as_str(),
                &detail::seq(id),
                &detail.row.started_at.0,
                &bits,
                &asked.path,
                &asked.query,
            ];
            let values = once.into_iter().chain(later.values(detail));
            match statement.execute(params_from_iter(values)) {
                Ok(_) => break,
                Err(error) if is_row_taken(&error) => row = row.saturating_add(1),
                Err(error) => return Err(error.into()),
            }
        }
        self.arrivals.note(id.run, id.seq, row);
        self.write_ending(row, detail)?;
        annotate::write(self.connection, row, &Annotation::of(&detail.row))?;
        self.write_messages(row, flow)
    }

    fn update(&mut self, stored: &Stored, run: RunId, flow: &FlowRecord) -> Result<(), StoreError> {
        let detail = &flow.detail;
        let later = self.later(run, flow, Some(stored))?;
        let sql = format!("UPDATE flows SET ({LATER_COLUMNS}) = ({LATER_VALUES}) WHERE id = ?");
        let row: [&dyn ToSql; 1] = [&stored.row];
        let values = later.values(detail).into_iter().chain(row);
        self.connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(values))?;
        // A body that was in parts is whole now; with no more to come its parts stay.
        for (message, body) in [
            (Message::Request, later.request_body),
            (Message::Response, later.response_body),
        ] {
            if body.is_some() || self.meeting == Meeting::Replace {
                self.connection
                    .prepare_cached("DELETE FROM body_parts WHERE flow = ?1 AND message = ?2")?
                    .execute((stored.row, message.as_str()))?;
            }
        }
        self.connection
            .prepare_cached("INSERT INTO flow_changes (flow) VALUES (?1)")?
            .execute([stored.row])?;
        self.write_ending(stored.row, detail)?;
        annotate::write(self.connection, stored.row, &Annotation::of(&detail.row))?;
        self.write_messages(stored.row, flow)
    }

    /// What may change until a flow ends.
    fn later(
        &mut self,
        run: RunId,
        flow: &FlowRecord,
        stored: Option<&Stored>,
    ) -> Result<Later, StoreError> {
        let detail = &flow.detail;
        let is_tunnel = detail.row.kind == FlowKind::Tunnel;
        let size = |bytes: Option<u64>| bytes.filter(|_| !is_tunnel).map(parts::integer);
        let asked = parts::Asked::of(detail);
        Ok(Later {
            place: self.places.store(self.connection, detail, &asked)?,
            state: detail.row.state.as_str(),
            client: self
                .connections
                .client(self.connection, run, detail.client.as_ref())?,
            upstream: match &detail.upstream {
                Some(upstream) => {
                    let version = detail.row.upstream_version.as_deref();
                    Some(
                        self.connections
                            .upstream(self.connection, run, upstream, version)?,
                    )
                }
                None => None,
            },
            request_body: self.body(Message::Request, flow.request_body.as_deref(), stored)?,
            request_size: size(detail.row.request_bytes),
            response_body: self.body(Message::Response, flow.response_body.as_deref(), stored)?,
            response_size: size(detail.row.response_bytes),
            first_byte_us: parts::first_byte_us(detail),
            duration_us: parts::duration_us(detail),
            detail: parts::pack(detail),
            session: self.session(detail.row.session.as_ref())?,
        })
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
        if let Some(known) = stored.body(message)
            && read_body(self.connection, known)? == body
        {
            return Ok(Some(known));
        }
        Ok(Some(self.bodies.store_bytes(message, body)?))
    }

    fn write_ending(&self, row: i64, detail: &FlowDetail) -> Result<(), StoreError> {
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
        self.connection
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

    /// Stores the messages that are not there. One that is stored does not change.
    fn write_messages(&mut self, row: i64, flow: &FlowRecord) -> Result<(), StoreError> {
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
            let payload = &*message.payload;
            let (data, body) = match payload.len() {
                0 => (None, None),
                1..=INLINE_MESSAGE_BYTES_MAX => (Some(payload), None),
                _ => {
                    let of = match &*message.sender {
                        "client" => Message::Request,
                        _ => Message::Response,
                    };
                    (None, Some(self.bodies.store_bytes(of, payload)?))
                }
            };
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
                parts::integer_of(payload.len()),
                data,
                body,
            ])?;
        }
        Ok(())
    }
}

/// The columns of a flow that may change until it ends, in the order of [`Later::values`].
const LATER_COLUMNS: &str = "place, state, client_connection, upstream_connection, status_code,
    response_version, response_content_type, first_byte_us, request_body, request_body_size,
    response_body, response_body_size, truncated, duration_us, detail, session";
const LATER_VALUES: &str = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?";

/// What stands in these columns, but for what is in the flow's detail as it is.
struct Later {
    place: i64,
    state: &'static str,
    client: i64,
    upstream: Option<i64>,
    first_byte_us: Option<i64>,
    request_body: Option<i64>,
    request_size: Option<i64>,
    response_body: Option<i64>,
    response_size: Option<i64>,
    duration_us: Option<i64>,
    detail: Vec<u8>,
    session: Option<i64>,
}

impl Later {
    fn values<'v>(&'v self, detail: &'v FlowDetail) -> [&'v dyn ToSql; 16] {
        [
            &self.place,
            &self.state,
            &self.client,
            &self.upstream,
            &detail.row.status,
            &detail.row.upstream_version,
            &detail.row.response_content_type,
            &self.first_byte_us,
            &self.request_body,
            &self.request_size,
            &self.response_body,
            &self.response_size,
            &detail.row.truncated,
            &self.duration_us,
            &self.detail,
            &self.session,
        ]
    }
}

/// Finds or makes the row of a run; answers its id here.
fn place_run(connection: &Connection, run: &RunRecord) -> Result<RunId, StoreError> {
    let mut statement = connection.prepare_cached("SELECT id FROM runs WHERE uuid = ?1")?;
    let known: Option<String> = statement
        .query_row([&run.uuid], |row| row.get(0))
        .optional()?;
    match known {
        Some(id) => {
            let id: RunId = id.parse()?;
            end_run(connection, id, run)?;
            Ok(id)
        }
        None => insert_run(connection, run, None),
    }
}

/// Finds or makes the row of a run of this process; answers its id here.
pub(crate) fn place_own_run(connection: &Connection, run: &RunRecord) -> Result<RunId, StoreError> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let id = place_run(&transaction, run)?;
    let own = ProcessMark::own();
    // Another process may have made the row of what it found in the spool.
    transaction
        .prepare_cached("UPDATE runs SET process_start = ?2, process_space = ?3 WHERE id = ?1")?
        .execute((id.as_str(), own.start, &own.space))?;
    transaction.commit()?;
    Ok(id)
}

/// Notes the end of a run that is known. What is known already stays.
fn end_run(connection: &Connection, id: RunId, run: &RunRecord) -> Result<(), StoreError> {
    let known = read_run(connection, id)?;
    if run.ended_at.is_some() && known.is_some_and(|known| known.ended_at.is_none()) {
        connection
            .prepare_cached(
                "UPDATE runs SET ended_at = ?2, exit_code = ?3, signal = ?4 WHERE id = ?1",
            )?
            .execute((
                id.as_str(),
                run.ended_at.map(|at| at.0),
                run.exit_code,
                run.signal,
            ))?;
    }
    Ok(())
}

/// Makes the row of a run, of a process that may be known to live; answers its id here.
pub(crate) fn insert_run(
    connection: &Connection,
    run: &RunRecord,
    process: Option<&ProcessMark>,
) -> Result<RunId, StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO runs (id, uuid, kind, name, argv, pid, started_at, ended_at, exit_code, signal,
           origin, process_start, process_space)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    let argv = serde_json::to_string(&run.argv).expect("texts are JSON");
    let origin = (run.origin != crate::Origin::default())
        .then(|| serde_json::to_string(&run.origin).expect("texts are JSON"));
    let mut id = run.id;
    for _ in 0..RUN_ID_TRIES_MAX {
        let inserted = statement.execute((
            id.as_str(),
            &run.uuid,
            run.kind.as_str(),
            &run.name,
            &argv,
            run.pid,
            run.started_at.0,
            run.ended_at.map(|at| at.0),
            run.exit_code,
            run.signal,
            &origin,
            process.and_then(|process| process.start),
            process.and_then(|process| process.space.as_ref()),
        ));
        match inserted {
            Ok(_) => return Ok(id),
            // The id is taken: the UUID was looked for in the same transaction.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                id = RunId::from_random(Uuid::now_v7().as_u64_pair().1);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Damaged {
        detail: "no run id is free".to_owned(),
    })
}

/// Whether the number of a row is in use.
fn is_row_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        error.code == ErrorCode::ConstraintViolation
            && error.extended_code == ffi::SQLITE_CONSTRAINT_PRIMARYKEY
    })
}
