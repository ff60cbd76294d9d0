//! Answers questions about an archive.
//!
//! What is new is known by when it was written. Who follows is told of it with a delay: the clocks of
//! servers differ a little, and rows become visible a moment after they got their time.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::types::Value as Stored;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use traffic::Timestamp;
use traffic::rules::filter::{Filter, Words};
use uuid::Uuid;

use super::row::{
    MESSAGE_COLUMNS, ROW_COLUMNS, RUN_COLUMNS, ReadDetail, ReadFlow, ReadMessage, ReadRun, bytes,
    run_id,
};
use super::server::{Server, Value};
use super::sums::SessionSums;
use super::{migrate, summary, sums};
use crate::archive::{Listed, read_page};
use crate::limits::{
    CHANGES_ROWS_MAX, CLICKHOUSE_RECORDS_AT_ONCE, CLICKHOUSE_SETTLING, PAGE_MESSAGES_MAX,
    RECORDS_BYTES_MAX,
};
use crate::reader::backend::Backend;
use crate::reader::resolve::{self, CANDIDATES_MAX, Ids, Naming};
use crate::reader::select::{Conditions, Dialect};
use crate::reader::{Changes, Marker, Page, Query, Session, Stats, StatsKey};
use crate::search::archive::{self, WordIndex};
use crate::{
    Body, FlowDetail, FlowRecord, FlowRef, FlowRow, Hits, Message, Records, Run, RunId, RunRecord,
    RunSummary, Search, StoreError, StreamMessage,
};

/// The bodies of a flow, in base64.
const BODIES: &str = "base64Encode(request_body) AS request_content, base64Encode(response_body) AS response_content";

/// An archive that is read; oriels may be writing to it.
#[derive(Debug)]
pub(crate) struct ClickHouseBackend {
    server: Server,
    /// Steps of the schema that are applied.
    schema: u32,
}

/// Messages of WebSockets, by the UUIDs of those.
type Messages = HashMap<String, Vec<StreamMessage>>;

#[derive(Deserialize)]
struct Count {
    count: u64,
}

#[derive(Deserialize)]
struct OfRun {
    run_id: String,
    seq: u64,
}

/// The last flow that is told of, and when it was written.
#[derive(Deserialize)]
struct End {
    written: i64,
    number: i64,
}

impl End {
    fn marker(&self) -> Marker {
        Marker {
            arrival: self.written,
            begun_row: self.number,
            ..Marker::default()
        }
    }
}

/// A flow and when it was written.
#[derive(Deserialize)]
struct Written<T> {
    written: i64,
    #[serde(flatten)]
    read: T,
}

impl ClickHouseBackend {
    /// Connects to the database that a URL names; it has to have our schema.
    pub(crate) fn connect(url: &str) -> Result<Self, StoreError> {
        let server = Server::parse(url)?;
        server.check_version()?;
        let schema = migrate::applied(&server)?;
        if schema == 0 {
            return Err(StoreError::NotFound {
                path: server.place().into(),
            });
        }
        Ok(Self { server, schema })
    }

    /// Of a server whose tables are up to date.
    pub(super) fn of(server: Server) -> Self {
        Self {
            server,
            schema: migrate::known(),
        }
    }

    /// Whether there are no names of sessions.
    fn is_nameless(&self) -> bool {
        self.schema < migrate::WITH_SESSIONS
    }

    fn conditions(&self) -> Conditions {
        Conditions::new(Dialect::ClickHouse).nameless(self.is_nameless())
    }

    /// Rows of a `SELECT` with the values of its conditions.
    pub(super) fn select<T: DeserializeOwned>(
        &self,
        sql: &str,
        conditions: &Conditions,
    ) -> Result<Vec<T>, StoreError> {
        let values: Vec<Value<'_>> = conditions.values().iter().map(value).collect();
        self.server.rows(sql, &values)
    }

    /// A flow with these columns besides those of a list; `None` if there is none of that id.
    fn detail(&self, columns: &str, flow: FlowRef) -> Result<Option<ReadDetail>, StoreError> {
        let sql = format!(
            "SELECT {ROW_COLUMNS}, {columns} FROM flows
             WHERE run_id = {{p1:String}} AND seq = {{p2:Int64}} LIMIT 1"
        );
        let values = [Value::Text(flow.run.as_str()), Value::Number(seq(flow))];
        Ok(self.server.rows(&sql, &values)?.pop())
    }

    /// The runs with how many flows they have.
    fn with_flows(&self, runs: Vec<ReadRun>) -> Result<Vec<Run>, StoreError> {
        let mut found = Vec::with_capacity(runs.len());
        for run in runs {
            let flows = self.flows_of(run.id()?)?;
            found.push(run.into_run(flows)?);
        }
        Ok(found)
    }

    /// What was written behind a marker and has settled, in order: conditions, and the order.
    fn since(&self, marker: Marker) -> (Conditions, &'static str) {
        let mut conditions = self.conditions();
        conditions.add(
            "(toUnixTimestamp64Micro(created_at), number) > (?, ?)",
            [marker.arrival, marker.begun_row].map(Stored::from),
        );
        let settling = CLICKHOUSE_SETTLING.as_millis();
        conditions.add(
            &format!("created_at <= now64(6) - toIntervalMillisecond({settling})"),
            [],
        );
        (conditions, "created_at, number")
    }

    /// The messages of those that are WebSockets, by their UUIDs.
    fn messages_of<'f>(
        &self,
        flows: impl Iterator<Item = &'f ReadFlow>,
    ) -> Result<Messages, StoreError> {
        let mut found = Messages::new();
        for flow in flows.filter(|flow| flow.is_socket()) {
            let sql = format!(
                "SELECT {MESSAGE_COLUMNS} FROM messages WHERE trace_id = {{p1:String}} ORDER BY sequence"
            );
            let rows: Vec<ReadMessage> = self.server.rows(&sql, &[Value::Text(flow.uuid())])?;
            let messages = rows.into_iter().map(ReadMessage::into_message);
            found.insert(flow.uuid().to_owned(), messages.collect::<Result<_, _>>()?);
        }
        Ok(found)
    }

    /// A flow with everything, from what was read of it.
    fn record_of(
        &self,
        mut read: ReadDetail,
        messages: &mut Messages,
        runs: &mut HashMap<RunId, Arc<RunRecord>>,
    ) -> Result<FlowRecord, StoreError> {
        let body = |content: Option<String>| content.as_deref().map(bytes).transpose();
        let request_body = body(read.request_content.take())?;
        let response_body = body(read.response_content.take())?;
        let detail = read.into_detail()?;
        let run = match runs.get(&detail.row.id.run) {
            Some(run) => Arc::clone(run),
            None => {
                let run = self.run_record(detail.row.id.run)?;
                runs.insert(run.id, Arc::clone(&run));
                run
            }
        };
        Ok(FlowRecord {
            run,
            request_body,
            response_body,
            messages: messages.remove(&detail.row.uuid).unwrap_or_default(),
            detail,
        })
    }

    /// Flows by their start and UUID, with these columns besides those of a list; a body that is not among
    /// them is as if there were none.
    pub(super) fn records_named(
        &self,
        flows: &[(Timestamp, &str)],
        columns: &str,
    ) -> Result<Vec<FlowRecord>, StoreError> {
        let starts = || flows.iter().map(|(started_at, _)| started_at.0);
        let (Some(first), Some(last)) = (starts().min(), starts().max()) else {
            return Ok(Vec::new());
        };
        // Rows lie in the order of their start.
        let mut conditions = Conditions::new(Dialect::ClickHouse);
        let at = Dialect::ClickHouse.time();
        conditions.add(
            &format!("start_time BETWEEN {at} AND {at}"),
            [first, last].map(Stored::from),
        );
        let uuids = flows
            .iter()
            .map(|(_, uuid)| Stored::from((*uuid).to_owned()));
        let places = vec!["?"; flows.len()].join(", ");
        conditions.add(&format!("trace_id IN ({places})"), uuids);
        let sql = format!(
            "SELECT {ROW_COLUMNS}, {columns} FROM flows WHERE {}",
            conditions.sql()
        );
        let read: Vec<ReadDetail> = self.select(&sql, &conditions)?;
        let mut messages = self.messages_of(read.iter().map(|read| &read.flow))?;
        let mut runs = HashMap::new();
        read.into_iter()
            .map(|read| self.record_of(read, &mut messages, &mut runs))
            .collect()
    }

    fn run_record(&self, run: RunId) -> Result<Arc<RunRecord>, StoreError> {
        let run: ReadRun = self.server.one(
            &format!("SELECT {RUN_COLUMNS} FROM runs WHERE id = {{p1:String}} LIMIT 1"),
            &[Value::Text(run.as_str())],
        )?;
        run.into_record().map(Arc::new)
    }
}

impl Backend for ClickHouseBackend {
    fn flows(&self, query: &Query) -> Result<Page, StoreError> {
        read_page(&mut &*self, query, None)
    }

    fn sessions(&self, limit: usize) -> Result<Vec<Session>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = sums::sessions_sql(self.is_nameless(), limit);
        let found: Vec<SessionSums> = self.server.rows(&sql, &[])?;
        Ok(found.into_iter().map(SessionSums::into_session).collect())
    }

    fn stats(&self, by: StatsKey, filter: Option<&Filter>) -> Result<Stats, StoreError> {
        let mut conditions = self.conditions();
        conditions.add_filter(filter);
        let rows = self.select(&sums::stats_sql(by, &conditions), &conditions)?;
        Ok(sums::stats(by, rows))
    }

    fn has_texts(&self) -> Result<bool, StoreError> {
        Ok(self.schema >= migrate::WITH_WORDS)
    }

    fn search(&self, search: &Search) -> Result<Option<Hits>, StoreError> {
        archive::find(self, search)
    }

    fn flow(&self, flow: FlowRef) -> Result<Option<FlowDetail>, StoreError> {
        self.detail("detail", flow)?
            .map(ReadDetail::into_detail)
            .transpose()
    }

    fn body(&self, flow: FlowRef, message: Message) -> Result<Option<Option<Body>>, StoreError> {
        let Some(read) = self.detail(&format!("detail, {BODIES}"), flow)? else {
            return Ok(None);
        };
        let (content, seen) = match message {
            Message::Request => (&read.request_content, read.flow.request_body_size),
            Message::Response => (&read.response_content, read.flow.response_body_size),
        };
        let content = content.as_deref().map(bytes).transpose()?;
        let content = content.unwrap_or_default();
        Ok(Some(read.into_detail()?.body(message, content, seen)))
    }

    fn messages(
        &self,
        flow: FlowRef,
        after: u64,
        limit: usize,
    ) -> Result<Option<Vec<StreamMessage>>, StoreError> {
        let Some(flow) = self.detail("detail", flow)? else {
            return Ok(None);
        };
        let sql = format!(
            "SELECT {MESSAGE_COLUMNS} FROM messages
             WHERE trace_id = {{p1:String}} AND sequence > {{p2:Int64}}
             ORDER BY sequence LIMIT {}",
            limit.min(PAGE_MESSAGES_MAX)
        );
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let values = [Value::Text(flow.flow.uuid()), Value::Number(after)];
        let rows: Vec<ReadMessage> = self.server.rows(&sql, &values)?;
        let messages = rows.into_iter().map(ReadMessage::into_message);
        messages.collect::<Result<_, _>>().map(Some)
    }

    fn run(&self, run: RunId) -> Result<Option<Run>, StoreError> {
        let sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE id = {{p1:String}} LIMIT 1");
        let found = self.server.rows(&sql, &[Value::Text(run.as_str())])?;
        Ok(self.with_flows(found)?.pop())
    }

    fn runs(&self, limit: usize) -> Result<Vec<Run>, StoreError> {
        let sql = format!(
            "SELECT {RUN_COLUMNS} FROM runs ORDER BY {} LIMIT {limit}",
            Dialect::ClickHouse.newest_run_first()
        );
        self.with_flows(self.server.rows(&sql, &[])?)
    }

    fn summary(&self, run: Run) -> Result<RunSummary, StoreError> {
        summary::read(&self.server, run)
    }

    fn resolve(&self, id: &str) -> Result<FlowRef, StoreError> {
        resolve::flow(self, id)
    }

    fn resolve_run(&self, id: &str) -> Result<RunId, StoreError> {
        resolve::run(self, id)
    }

    fn marker(&self) -> Result<Marker, StoreError> {
        let (conditions, _) = self.since(Marker::default());
        let sql = format!(
            "SELECT toUnixTimestamp64Micro(created_at) AS written, number FROM flows WHERE {}
             ORDER BY created_at DESC, number DESC LIMIT 1",
            conditions.sql()
        );
        let end: Vec<End> = self.select(&sql, &conditions)?;
        Ok(end.first().map(End::marker).unwrap_or_default())
    }

    fn changes_since(
        &self,
        marker: Marker,
        filter: Option<&Filter>,
    ) -> Result<Changes, StoreError> {
        // How far it goes is settled first, without regard to the filter, so that the marker moves on.
        let (conditions, order) = self.since(marker);
        let sql = format!(
            "SELECT written, number FROM (
               SELECT toUnixTimestamp64Micro(created_at) AS written, number FROM flows WHERE {}
               ORDER BY {order} LIMIT {CHANGES_ROWS_MAX}
             ) ORDER BY written DESC, number DESC LIMIT 1",
            conditions.sql()
        );
        let end: Vec<End> = self.select(&sql, &conditions)?;
        let Some(end) = end.first() else {
            return Ok(Changes {
                rows: Vec::new(),
                marker,
            });
        };
        let (mut conditions, _) = self.since(marker);
        conditions.add(
            "(toUnixTimestamp64Micro(created_at), number) <= (?, ?)",
            [end.written, end.number].map(Stored::from),
        );
        conditions.add_filter(filter);
        let sql = format!(
            "SELECT {ROW_COLUMNS} FROM flows WHERE {} ORDER BY start_time, number",
            conditions.sql()
        );
        let rows: Vec<ReadFlow> = self.select(&sql, &conditions)?;
        Ok(Changes {
            rows: rows
                .into_iter()
                .map(ReadFlow::into_row)
                .collect::<Result<_, _>>()?,
            marker: end.marker(),
        })
    }

    fn records(&self, marker: Marker, limit: usize) -> Result<Records, StoreError> {
        let mut records = Records {
            flows: Vec::new(),
            marker,
        };
        let mut runs: HashMap<RunId, Arc<RunRecord>> = HashMap::new();
        let mut held = 0_usize;
        while records.flows.len() < limit.max(1) && held < RECORDS_BYTES_MAX {
            let (conditions, order) = self.since(records.marker);
            let at_once = (limit.max(1) - records.flows.len()).min(CLICKHOUSE_RECORDS_AT_ONCE);
            let sql = format!(
                "SELECT toUnixTimestamp64Micro(created_at) AS written, {ROW_COLUMNS}, detail, {BODIES}
                 FROM flows WHERE {} ORDER BY {order} LIMIT {at_once}",
                conditions.sql()
            );
            let read: Vec<Written<ReadDetail>> = self.select(&sql, &conditions)?;
            if read.is_empty() {
                break;
            }
            let mut messages = self.messages_of(read.iter().map(|written| &written.read.flow))?;
            for Written { written, read } in read {
                if held >= RECORDS_BYTES_MAX {
                    break;
                }
                records.marker.arrival = written;
                records.marker.begun_row = read.flow.number;
                let record = self.record_of(read, &mut messages, &mut runs)?;
                held = held.saturating_add(record.bytes());
                records.flows.push(record);
            }
        }
        Ok(records)
    }
}

impl Listed for &ClickHouseBackend {
    const DIALECT: Dialect = Dialect::ClickHouse;

    fn is_nameless(&self) -> bool {
        ClickHouseBackend::is_nameless(self)
    }

    fn count(&mut self, conditions: &Conditions) -> Result<u64, StoreError> {
        let sql = format!(
            "SELECT count() AS count FROM flows WHERE {}",
            conditions.sql()
        );
        let counts: Vec<Count> = self.select(&sql, conditions)?;
        Ok(counts.first().map_or(0, |counts| counts.count))
    }

    fn rows(
        &mut self,
        conditions: &Conditions,
        order: &str,
    ) -> Result<Vec<(FlowRow, i64)>, StoreError> {
        let sql = format!(
            "SELECT {ROW_COLUMNS} FROM flows WHERE {} {order}",
            conditions.sql()
        );
        let rows: Vec<ReadFlow> = self.select(&sql, conditions)?;
        let numbered = |row: ReadFlow| {
            let number = row.number;
            Ok((row.into_row()?, number))
        };
        rows.into_iter().map(numbered).collect()
    }
}

impl WordIndex for ClickHouseBackend {
    fn with_words(&self, query: &Query, words: &Words) -> Result<Page, StoreError> {
        read_page(&mut &*self, query, Some(words))
    }

    fn records_of(&self, rows: &[FlowRow]) -> Result<Vec<FlowRecord>, StoreError> {
        let flows: Vec<_> = rows
            .iter()
            .map(|row| (row.started_at, &*row.uuid))
            .collect();
        self.records_named(&flows, &format!("detail, {BODIES}"))
    }
}

impl Ids for ClickHouseBackend {
    fn runs(&self, naming: Naming, text: &str) -> Result<Vec<RunId>, StoreError> {
        let condition = match naming {
            Naming::Id => "id = lower({p1:String})",
            Naming::Name => "name = {p1:String}",
            Naming::Beginning => "startsWith(id, lower({p1:String}))",
        };
        let sql = format!(
            "SELECT {RUN_COLUMNS} FROM runs WHERE {condition} ORDER BY {} LIMIT {CANDIDATES_MAX}",
            Dialect::ClickHouse.newest_run_first()
        );
        let found: Vec<ReadRun> = self.server.rows(&sql, &[Value::Text(text)])?;
        found.iter().map(ReadRun::id).collect()
    }

    fn run_before(&self, newer: u32) -> Result<Option<RunId>, StoreError> {
        let sql = format!(
            "SELECT {RUN_COLUMNS} FROM runs ORDER BY {} LIMIT 1 OFFSET {newer}",
            Dialect::ClickHouse.newest_run_first()
        );
        let found: Vec<ReadRun> = self.server.rows(&sql, &[])?;
        found.first().map(ReadRun::id).transpose()
    }

    fn flows_of(&self, run: RunId) -> Result<u64, StoreError> {
        // Of no rows the largest is 0.
        let sql = "SELECT max(seq) AS count FROM flows WHERE run_id = {p1:String}";
        let Count { count } = self.server.one(sql, &[Value::Text(run.as_str())])?;
        Ok(count)
    }

    fn has_flow(&self, flow: FlowRef) -> Result<bool, StoreError> {
        let sql = "SELECT count() AS count FROM flows
            WHERE run_id = {p1:String} AND seq = {p2:Int64}";
        let values = [Value::Text(flow.run.as_str()), Value::Number(seq(flow))];
        let Count { count } = self.server.one(sql, &values)?;
        Ok(count > 0)
    }

    fn flow_of_uuid(&self, uuid: Uuid) -> Result<Option<FlowRef>, StoreError> {
        let sql = "SELECT run_id, seq FROM flows WHERE trace_id = {p1:String} LIMIT 1";
        let uuid = uuid.hyphenated().to_string();
        let found: Vec<OfRun> = self.server.rows(sql, &[Value::Text(&uuid)])?;
        let flow = |found: &OfRun| {
            Ok(FlowRef {
                run: run_id(&found.run_id)?,
                seq: found.seq,
            })
        };
        found.first().map(flow).transpose()
    }
}

/// A value of conditions.
fn value(stored: &Stored) -> Value<'_> {
    match stored {
        Stored::Integer(number) => Value::Number(*number),
        Stored::Text(text) => Value::Text(text),
        // Conditions have none of these.
        Stored::Null | Stored::Real(_) | Stored::Blob(_) => Value::Number(0),
    }
}

fn seq(flow: FlowRef) -> i64 {
    i64::try_from(flow.seq).unwrap_or(i64::MAX)
}
