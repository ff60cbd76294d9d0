//! Answers questions about an archive.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use postgres::types::ToSql;
use postgres::{IsolationLevel, Row, Transaction};
use rusqlite::types::Value;
use traffic::rules::filter::{Filter, Words};
use uuid::Uuid;

use super::connect::Purpose;
use super::pool::{Pool, Pooled};
use super::row::{
    ROW_COLUMNS, RUN_COLUMNS, bytes, get, read_detail, read_message, read_row, read_run,
    read_run_record, run_id,
};
use super::{migrate, summary, sums};
use crate::archive::{Listed, read_page};
use crate::limits::{
    CHANGES_ROWS_MAX, PAGE_MESSAGES_MAX, POSTGRES_FEW_FLOWS_MAX, POSTGRES_RECORDS_AT_ONCE,
    RECORDS_BYTES_MAX,
};
use crate::reader::backend::Backend;
use crate::reader::resolve::{self, CANDIDATES_MAX, Ids, Naming};
use crate::reader::select::{Conditions, Dialect};
use crate::reader::{Changes, Marker, Page, Query, Session, Stats, StatsKey};
use crate::search::archive::{self, WordIndex};
use crate::{
    Body, FlowDetail, FlowKind, FlowRecord, FlowRef, FlowRow, Hits, Message, Records, Run, RunId,
    RunRecord, RunSummary, Search, StoreError, StreamMessage,
};

/// A body as one column, whole.
const BODIES: &str = "coalesce(request_body, oriel_body(request_chunks)) AS request_content, \
    coalesce(response_body, oriel_body(response_chunks)) AS response_content";

/// An archive that is read; oriels may be writing to it.
pub(crate) struct PostgresBackend {
    pool: Arc<Pool>,
    /// Steps of the schema that are applied.
    schema: u32,
}

impl PostgresBackend {
    /// Connects to the database that a URL names; it has to have our schema.
    pub(crate) fn connect(url: &str) -> Result<Self, StoreError> {
        let pool = Pool::of(url)?;
        let mut connected = pool.get(Purpose::Read)?;
        let (connection, server) = connected.parts();
        let schema = migrate::applied(&mut connection.client, server)?;
        if schema == 0 {
            return Err(StoreError::NotFound {
                path: server.place().into(),
            });
        }
        drop(connected);
        Ok(Self { pool, schema })
    }

    fn failed(&self, error: postgres::Error) -> StoreError {
        match self.pool.server().failed(error) {
            // Here it was the question.
            StoreError::NotStorable { detail } => StoreError::Io {
                source: detail.into(),
            },
            error => error,
        }
    }

    /// Whether there are no names of sessions.
    fn is_nameless(&self) -> bool {
        self.schema < migrate::WITH_SESSIONS
    }

    fn conditions(&self) -> Conditions {
        Conditions::new(Dialect::Postgres).nameless(self.is_nameless())
    }

    fn connection(&self) -> Result<Pooled, StoreError> {
        self.pool.get(Purpose::Read)
    }

    fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        let rows = self.connection()?.parts().0.client.query(sql, values);
        rows.map_err(|error| self.failed(error))
    }

    fn query_opt(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, StoreError> {
        let row = self.connection()?.parts().0.client.query_opt(sql, values);
        row.map_err(|error| self.failed(error))
    }

    /// Runs several statements on one state of the database.
    fn snapshot<T>(
        &self,
        read: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection()?;
        let mut transaction = connection
            .parts()
            .0
            .client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .map_err(|error| self.failed(error))?;
        let answer = read(&mut transaction)?;
        transaction.commit().map_err(|error| self.failed(error))?;
        Ok(answer)
    }

    fn select(
        &self,
        transaction: &mut Transaction<'_>,
        sql: &str,
        conditions: &Conditions,
    ) -> Result<Vec<Row>, StoreError> {
        let values = values(conditions);
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value as _).collect();
        let rows = transaction.query(sql, &values);
        rows.map_err(|error| self.failed(error))
    }

    /// A flow with these columns; `None` if there is none of that id.
    fn flow_row(&self, columns: &str, flow: FlowRef) -> Result<Option<Row>, StoreError> {
        let sql = format!("SELECT {columns} FROM flows WHERE run_id = $1 AND seq = $2 LIMIT 1");
        self.query_opt(&sql, &[&flow.run.as_str(), &seq(flow)])
    }
}

impl Backend for PostgresBackend {
    fn flows(&self, query: &Query) -> Result<Page, StoreError> {
        self.list(query, None)
    }

    fn sessions(&self, limit: usize) -> Result<Vec<Session>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.query(&sums::sessions_sql(self.is_nameless()), &[&limit])?;
        rows.iter().map(sums::read_session).collect()
    }

    fn stats(&self, by: StatsKey, filter: Option<&Filter>) -> Result<Stats, StoreError> {
        let mut conditions = self.conditions();
        conditions.add_filter(filter);
        let sql = sums::stats_sql(by, &conditions);
        self.snapshot(|transaction| {
            let rows = self.select(transaction, &sql, &conditions)?;
            sums::read_stats(by, &rows)
        })
    }

    fn has_texts(&self) -> Result<bool, StoreError> {
        Ok(self.schema >= migrate::WITH_WORDS)
    }

    fn search(&self, search: &Search) -> Result<Option<Hits>, StoreError> {
        archive::find(self, search)
    }

    fn flow(&self, flow: FlowRef) -> Result<Option<FlowDetail>, StoreError> {
        let row = self.flow_row(&format!("{ROW_COLUMNS}, detail"), flow)?;
        row.map(|row| read_detail(&row)).transpose()
    }

    fn body(&self, flow: FlowRef, message: Message) -> Result<Option<Option<Body>>, StoreError> {
        let row = self.flow_row(&format!("{ROW_COLUMNS}, detail, {BODIES}"), flow)?;
        row.map(|row| read_body(&row, message)).transpose()
    }

    fn messages(
        &self,
        flow: FlowRef,
        after: u64,
        limit: usize,
    ) -> Result<Option<Vec<StreamMessage>>, StoreError> {
        let Some(row) = self.flow_row("trace_id", flow)? else {
            return Ok(None);
        };
        let flow: &str = get(&row, "trace_id")?;
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit.min(PAGE_MESSAGES_MAX)).unwrap_or(i64::MAX);
        let sql = "SELECT * FROM messages WHERE trace_id = $1 AND sequence > $2
            ORDER BY sequence LIMIT $3";
        let rows = self.query(sql, &[&flow, &after, &limit])?;
        rows.iter()
            .map(read_message)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn run(&self, run: RunId) -> Result<Option<Run>, StoreError> {
        let sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE id = $1");
        let row = self.query_opt(&sql, &[&run.as_str()])?;
        row.map(|row| read_run(&row)).transpose()
    }

    fn runs(&self, limit: usize) -> Result<Vec<Run>, StoreError> {
        let sql = format!("SELECT {RUN_COLUMNS} FROM runs ORDER BY number DESC LIMIT $1");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.query(&sql, &[&limit])?.iter().map(read_run).collect()
    }

    fn summary(&self, run: Run) -> Result<RunSummary, StoreError> {
        self.snapshot(|transaction| summary::read(transaction, run, |error| self.failed(error)))
    }

    fn resolve(&self, id: &str) -> Result<FlowRef, StoreError> {
        resolve::flow(self, id)
    }

    fn resolve_run(&self, id: &str) -> Result<RunId, StoreError> {
        resolve::run(self, id)
    }

    fn marker(&self) -> Result<Marker, StoreError> {
        let sql = "SELECT coalesce(max(number), 0) AS number FROM batches";
        let row = self.query_opt(sql, &[])?;
        Ok(Marker {
            arrival: row.map_or(Ok(0), |row| get(&row, "number"))?,
            ..Marker::default()
        })
    }

    fn changes_since(
        &self,
        marker: Marker,
        filter: Option<&Filter>,
    ) -> Result<Changes, StoreError> {
        self.snapshot(|transaction| self.read_changes(transaction, marker, filter))
    }

    fn records(&self, marker: Marker, limit: usize) -> Result<Records, StoreError> {
        self.snapshot(|transaction| {
            let mut reading = Reading::new(self, transaction, limit.max(1), marker);
            reading.read()?;
            Ok(reading.records)
        })
    }
}

impl Ids for PostgresBackend {
    fn runs(&self, naming: Naming, text: &str) -> Result<Vec<RunId>, StoreError> {
        // No text of the server has it, and no parameter may.
        if text.contains('\0') {
            return Ok(Vec::new());
        }
        let condition = match naming {
            Naming::Id => "id = lower($1)",
            Naming::Name => "name = $1",
            Naming::Beginning => "left(id, length($1)) = lower($1)",
        };
        let sql = format!(
            "SELECT id FROM runs WHERE {condition} ORDER BY number DESC LIMIT {CANDIDATES_MAX}"
        );
        let rows = self.query(&sql, &[&text])?;
        rows.iter().map(|row| run_id(row, "id")).collect()
    }

    fn run_before(&self, newer: u32) -> Result<Option<RunId>, StoreError> {
        let sql = "SELECT id FROM runs ORDER BY number DESC LIMIT 1 OFFSET $1";
        let row = self.query_opt(sql, &[&i64::from(newer)])?;
        row.map(|row| run_id(&row, "id")).transpose()
    }

    fn flows_of(&self, run: RunId) -> Result<u64, StoreError> {
        let sql = "SELECT max(seq) AS flows FROM flows WHERE run_id = $1";
        let row = self.query_opt(sql, &[&run.as_str()])?;
        let flows = row.map(|row| bytes(&row, "flows")).transpose()?;
        Ok(flows.flatten().unwrap_or(0))
    }

    fn has_flow(&self, flow: FlowRef) -> Result<bool, StoreError> {
        Ok(self.flow_row("seq", flow)?.is_some())
    }

    fn flow_of_uuid(&self, uuid: Uuid) -> Result<Option<FlowRef>, StoreError> {
        let sql = "SELECT run_id, seq FROM flows WHERE trace_id = $1";
        let row = self.query_opt(sql, &[&uuid.hyphenated().to_string()])?;
        let flow = |row: Row| {
            Ok(FlowRef {
                run: run_id(&row, "run_id")?,
                seq: bytes(&row, "seq")?.unwrap_or(0),
            })
        };
        row.map(flow).transpose()
    }
}

impl WordIndex for PostgresBackend {
    fn with_words(&self, query: &Query, words: &Words) -> Result<Page, StoreError> {
        self.list(query, Some(words))
    }

    fn records_of(&self, rows: &[FlowRow]) -> Result<Vec<FlowRecord>, StoreError> {
        let uuids: Vec<&str> = rows.iter().map(|row| &*row.uuid).collect();
        let sql =
            format!("SELECT {ROW_COLUMNS}, detail, {BODIES} FROM flows WHERE trace_id = ANY($1)");
        self.snapshot(|transaction| {
            let mut reading = Reading::new(self, transaction, rows.len(), Marker::default());
            for row in &reading.query(&sql, &[&uuids])? {
                reading.take(row)?;
            }
            Ok(reading.records.flows)
        })
    }
}

/// One state of the archive.
struct Snapshot<'b, 't, 'c> {
    backend: &'b PostgresBackend,
    transaction: &'t mut Transaction<'c>,
}

impl Listed for Snapshot<'_, '_, '_> {
    const DIALECT: Dialect = Dialect::Postgres;

    fn is_nameless(&self) -> bool {
        self.backend.is_nameless()
    }

    fn count(&mut self, conditions: &Conditions) -> Result<u64, StoreError> {
        let sql = format!(
            "SELECT count(*) AS flows FROM flows WHERE {}",
            conditions.sql()
        );
        let rows = self.backend.select(self.transaction, &sql, conditions)?;
        let count = rows.first().map(|row| bytes(row, "flows")).transpose()?;
        Ok(count.flatten().unwrap_or(0))
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
        let rows = self.backend.select(self.transaction, &sql, conditions)?;
        let numbered = |row| Ok((read_row(row)?, get(row, "number")?));
        rows.iter().map(numbered).collect()
    }
}

impl PostgresBackend {
    fn list(&self, query: &Query, words: Option<&Words>) -> Result<Page, StoreError> {
        let of_filter = || query.filter.as_ref().and_then(Filter::words_of_all);
        self.snapshot(|transaction| {
            if let Some(words) = words.or_else(of_filter) {
                self.plan_for(transaction, words)?;
            }
            let mut snapshot = Snapshot {
                backend: self,
                transaction,
            };
            read_page(&mut snapshot, query, words)
        })
    }

    /// A word that it has not counted the planner takes for a frequent one, and looks for the newest flows
    /// that have it through all flows. Where few flows have the words, that is ruled out.
    fn plan_for(&self, transaction: &mut Transaction<'_>, words: &Words) -> Result<(), StoreError> {
        let mut conditions = Conditions::new(Dialect::Postgres);
        conditions.add_words(words);
        let sql = format!(
            "SELECT count(*) AS flows FROM (SELECT FROM flows WHERE {} LIMIT {}) AS few",
            conditions.sql(),
            POSTGRES_FEW_FLOWS_MAX + 1
        );
        transaction
            .batch_execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off")
            .map_err(|error| self.failed(error))?;
        let rows = self.select(transaction, &sql, &conditions)?;
        let count = rows.first().map(|row| bytes(row, "flows")).transpose()?;
        let settings = match count.flatten() <= Some(POSTGRES_FEW_FLOWS_MAX) {
            true => "SET LOCAL enable_seqscan = DEFAULT",
            false => "SET LOCAL enable_seqscan = DEFAULT; SET LOCAL enable_indexscan = DEFAULT",
        };
        transaction
            .batch_execute(settings)
            .map_err(|error| self.failed(error))
    }

    fn read_changes(
        &self,
        transaction: &mut Transaction<'_>,
        since: Marker,
        filter: Option<&Filter>,
    ) -> Result<Changes, StoreError> {
        // Counted together with those before it, a batch is taken while they fit. One always is.
        let sql = format!(
            "SELECT max(number) AS number FROM (
               SELECT number, sum(flows) OVER earlier AS flows, row_number() OVER earlier AS place
               FROM (SELECT * FROM batches WHERE number > $1 ORDER BY number LIMIT {CHANGES_ROWS_MAX}) AS next
               WINDOW earlier AS (ORDER BY number)
             ) AS counted WHERE flows <= {CHANGES_ROWS_MAX} OR place = 1"
        );
        let until = transaction.query_one(&sql, &[&since.arrival]);
        let until = until.map_err(|error| self.failed(error))?;
        let Some(until) = get::<Option<i64>>(&until, "number")? else {
            return Ok(Changes {
                rows: Vec::new(),
                marker: since,
            });
        };
        let mut conditions = self.conditions();
        conditions.add(
            "batch IN (SELECT batch FROM batches WHERE number > ? AND number <= ?)",
            [since.arrival, until].map(Value::from),
        );
        conditions.add_filter(filter);
        let sql = format!(
            "SELECT {ROW_COLUMNS} FROM flows WHERE {} ORDER BY start_time, number",
            conditions.sql()
        );
        let rows = self.select(transaction, &sql, &conditions)?;
        Ok(Changes {
            rows: rows.iter().map(read_row).collect::<Result<_, _>>()?,
            marker: Marker {
                arrival: until,
                ..Marker::default()
            },
        })
    }
}

/// One look for flows with everything.
struct Reading<'b, 't, 'c> {
    backend: &'b PostgresBackend,
    transaction: &'t mut Transaction<'c>,
    limit: usize,
    /// Of the flows so far.
    bytes: usize,
    runs: HashMap<RunId, Arc<RunRecord>>,
    records: Records,
}

impl<'b, 't, 'c> Reading<'b, 't, 'c> {
    fn new(
        backend: &'b PostgresBackend,
        transaction: &'t mut Transaction<'c>,
        limit: usize,
        marker: Marker,
    ) -> Self {
        Self {
            backend,
            transaction,
            limit,
            bytes: 0,
            runs: HashMap::new(),
            records: Records {
                flows: Vec::new(),
                marker,
            },
        }
    }

    fn read(&mut self) -> Result<(), StoreError> {
        let sql = format!(
            "SELECT number, batch FROM batches WHERE number > $1 ORDER BY number LIMIT {CHANGES_ROWS_MAX}"
        );
        let arrival = self.records.marker.arrival;
        let batches = self.query(&sql, &[&arrival])?;
        for row in &batches {
            let (number, batch) = (get(row, "number")?, get(row, "batch")?);
            if self.is_full() || !self.read_batch(number, batch)? {
                break;
            }
            self.records.marker = Marker {
                arrival: number,
                ..Marker::default()
            };
        }
        Ok(())
    }

    /// Reads the flows of a batch, a few at once since their bodies may be large; answers whether
    /// those were all.
    fn read_batch(&mut self, number: i64, batch: i64) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT {ROW_COLUMNS}, detail, {BODIES} FROM flows
             WHERE batch = $1 AND number > $2 ORDER BY number LIMIT $3"
        );
        loop {
            let marker = &self.records.marker;
            let after = match marker.begun == number {
                true => marker.begun_row,
                false => i64::MIN,
            };
            let at_once = (self.limit - self.records.flows.len()).min(POSTGRES_RECORDS_AT_ONCE);
            let at_once = i64::try_from(at_once).unwrap_or(i64::MAX);
            let rows = self.query(&sql, &[&batch, &after, &at_once])?;
            if rows.is_empty() {
                return Ok(true);
            }
            for row in &rows {
                if self.is_full() {
                    return Ok(false);
                }
                self.take(row)?;
                self.records.marker.begun = number;
                self.records.marker.begun_row = get(row, "number")?;
            }
            if self.is_full() {
                return Ok(false);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.records.flows.len() >= self.limit || self.bytes >= RECORDS_BYTES_MAX
    }

    fn take(&mut self, row: &Row) -> Result<(), StoreError> {
        let detail = read_detail(row)?;
        let messages = match detail.row.kind {
            FlowKind::WebSocket => {
                let sql = "SELECT * FROM messages WHERE trace_id = $1 ORDER BY sequence";
                let rows = self.query(sql, &[&detail.row.uuid])?;
                rows.iter().map(read_message).collect::<Result<_, _>>()?
            }
            FlowKind::Http | FlowKind::Tunnel => Vec::new(),
        };
        let record = FlowRecord {
            run: self.run(detail.row.id.run)?,
            request_body: get(row, "request_content")?,
            response_body: get(row, "response_content")?,
            messages,
            detail,
        };
        self.bytes = self.bytes.saturating_add(record.bytes());
        self.records.flows.push(record);
        Ok(())
    }

    fn run(&mut self, id: RunId) -> Result<Arc<RunRecord>, StoreError> {
        if let Some(run) = self.runs.get(&id) {
            return Ok(Arc::clone(run));
        }
        let sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE id = $1");
        let found = self.query(&sql, &[&id.as_str()])?;
        let run = found.first().ok_or_else(|| StoreError::Damaged {
            detail: format!("run {id} is missing"),
        })?;
        let run = read_run_record(run)?;
        self.runs.insert(id, Arc::clone(&run));
        Ok(run)
    }

    fn query(&mut self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        let rows = self.transaction.query(sql, values);
        rows.map_err(|error| self.backend.failed(error))
    }
}

fn read_body(row: &Row, message: Message) -> Result<Option<Body>, StoreError> {
    let name = message.as_str();
    let content: Option<Vec<u8>> = get(row, &format!("{name}_content"))?;
    let seen = bytes(row, &format!("{name}_body_size"))?;
    Ok(read_detail(row)?.body(message, content.unwrap_or_default(), seen))
}

/// The values of conditions. U+0000, which no parameter may have, becomes what it is stored as.
pub(super) fn values(conditions: &Conditions) -> Vec<Box<dyn ToSql + Sync>> {
    let values = conditions.values().iter();
    values
        .map(|value| -> Box<dyn ToSql + Sync> {
            match value {
                Value::Integer(number) => Box::new(*number),
                Value::Text(text) => Box::new(super::copy::storable(text).into_owned()),
                Value::Null | Value::Real(_) | Value::Blob(_) => Box::new(None::<i64>),
            }
        })
        .collect()
}

fn seq(flow: FlowRef) -> i64 {
    i64::try_from(flow.seq).unwrap_or(i64::MAX)
}

/// Without the password.
impl fmt::Debug for PostgresBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresBackend")
            .field(&self.pool.server().place())
            .finish()
    }
}
