//! Reads flows with everything that is known of them, in the order in which they came or changed: for
//! whoever copies them to another database or file.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row};
use traffic::Timestamp;

use super::changes::Marker;
use super::detail::{Connections, FLOW, read_content, read_flow, seq};
use super::messages;
use super::summary::json_of_run;
use crate::limits::{RECORDS_BYTES_MAX, RECORDS_RUNS_MAX};
use crate::{
    FlowKind, FlowRecord, FlowRef, Message, Records, RunId, RunKind, RunRecord, StoreError,
};

/// Flows of one arrival behind the row where an earlier look ended.
const ARRIVED: &str = "SELECT * FROM flows_shown
    WHERE id BETWEEN max(?1, ?2) AND ?3 AND run_id = ?4 AND seq BETWEEN ?5 AND ?6
    ORDER BY id";

const BY_ROW: &str = "SELECT * FROM flows_shown WHERE id = ?1";

/// Reads at most `limit` new and as many changed flows.
pub(crate) fn read(
    connection: &Connection,
    since: Marker,
    limit: usize,
) -> Result<Records, StoreError> {
    Reading::new(connection, since, limit).read()
}

/// Like [`read`], but goes on behind flows that cannot be read for what is stored of them; answers these too.
pub(crate) fn read_what_is_whole(
    connection: &Connection,
    since: Marker,
    limit: usize,
) -> Result<(Records, Vec<Unreadable>), StoreError> {
    let mut unreadable = Vec::new();
    let mut reading = Reading::new(connection, since, limit);
    reading.unreadable = Some(&mut unreadable);
    let records = reading.read()?;
    Ok((records, unreadable))
}

/// A flow that cannot be read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) flow: FlowRef,
    /// In one line.
    pub(crate) why: String,
}

/// Reads one flow; `None` if there is none of that id.
pub(super) fn read_one(
    connection: &Connection,
    flow: FlowRef,
) -> Result<Option<FlowRecord>, StoreError> {
    let mut statement = connection.prepare_cached(FLOW)?;
    let mut rows = statement.query((flow.run.as_str(), seq(flow)))?;
    let row = rows.next()?;
    row.map(|row| Whole::new(connection).read(row)).transpose()
}

/// Reads flows with everything that is known of them, and remembers what those it read have in common.
pub(crate) struct Whole<'c> {
    connection: &'c Connection,
    connections: Connections,
    runs: HashMap<RunId, Arc<RunRecord>>,
}

/// One look.
struct Reading<'c, 'u> {
    connection: &'c Connection,
    /// Where flows go that cannot be read; `None`: they are an error.
    unreadable: Option<&'u mut Vec<Unreadable>>,
    whole: Whole<'c>,
    limit: usize,
    marker: Marker,
    flows: Vec<FlowRecord>,
    /// Of the flows so far.
    bytes: usize,
    /// Their rows.
    rows: HashSet<i64>,
}

/// A row of `arrivals`.
struct Arrival {
    number: i64,
    run: String,
    seqs: (i64, i64),
    rows: (i64, i64),
}

impl<'c> Reading<'c, '_> {
    fn new(connection: &'c Connection, since: Marker, limit: usize) -> Self {
        Self {
            connection,
            unreadable: None,
            whole: Whole::new(connection),
            limit: limit.max(1),
            marker: since,
            flows: Vec::new(),
            bytes: 0,
            rows: HashSet::new(),
        }
    }

    fn read(mut self) -> Result<Records, StoreError> {
        self.read_arrivals()?;
        self.read_changes()?;
        Ok(Records {
            flows: self.flows,
            marker: self.marker,
        })
    }

    fn read_arrivals(&mut self) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, run_id, first_seq, last_seq, first_id, last_id FROM arrivals
             WHERE number > ?1 ORDER BY number",
        )?;
        let mut arrivals = statement.query([self.marker.arrival])?;
        while let Some(row) = arrivals.next()? {
            let arrival = Arrival {
                number: row.get(0)?,
                run: row.get(1)?,
                seqs: (row.get(2)?, row.get(3)?),
                rows: (row.get(4)?, row.get(5)?),
            };
            if self.is_full(0) {
                break;
            }
            if !self.read_arrival(&arrival)? {
                break;
            }
            self.marker.arrival = arrival.number;
            (self.marker.begun, self.marker.begun_row) = (0, 0);
        }
        Ok(())
    }

    /// Reads the flows of an arrival; answers whether those were all.
    fn read_arrival(&mut self, arrival: &Arrival) -> Result<bool, StoreError> {
        let from = match self.marker.begun == arrival.number {
            true => self.marker.begun_row.saturating_add(1),
            false => i64::MIN,
        };
        let mut statement = self.connection.prepare_cached(ARRIVED)?;
        let mut rows = statement.query((
            arrival.rows.0,
            from,
            arrival.rows.1,
            &arrival.run,
            arrival.seqs.0,
            arrival.seqs.1,
        ))?;
        while let Some(row) = rows.next()? {
            if self.is_full(0) {
                return Ok(false);
            }
            let id = self.take(row)?;
            (self.marker.begun, self.marker.begun_row) = (arrival.number, id);
        }
        Ok(true)
    }

    fn read_changes(&mut self) -> Result<(), StoreError> {
        let arrived = self.flows.len();
        let mut statement = self.connection.prepare_cached(
            "SELECT change, flow FROM flow_changes WHERE change > ?1 ORDER BY change",
        )?;
        let mut changed = self.connection.prepare_cached(BY_ROW)?;
        let mut changes = statement.query([self.marker.change])?;
        while let Some(change) = changes.next()? {
            if self.is_full(arrived) {
                break;
            }
            let flow: i64 = change.get(1)?;
            if !self.rows.contains(&flow) {
                let mut rows = changed.query([flow])?;
                if let Some(row) = rows.next()? {
                    self.take(row)?;
                }
            }
            self.marker.change = change.get(0)?;
        }
        Ok(())
    }

    /// Whether no further flow fits, `before` flows not counted.
    fn is_full(&self, before: usize) -> bool {
        self.flows.len() - before >= self.limit || self.bytes >= RECORDS_BYTES_MAX
    }

    /// Takes a row of `flows_shown`; answers its number.
    fn take(&mut self, row: &Row<'_>) -> Result<i64, StoreError> {
        let id = row.get("id")?;
        match (self.whole.read(row), &mut self.unreadable) {
            (Ok(record), _) => {
                self.bytes = self.bytes.saturating_add(record.bytes());
                self.flows.push(record);
            }
            (Err(error), Some(unreadable)) if error.is_of_what_is_stored() => {
                unreadable.push(Unreadable {
                    flow: FlowRef {
                        run: row.get::<_, String>("run_id")?.parse()?,
                        seq: row.get::<_, i64>("seq")?.unsigned_abs(),
                    },
                    why: error.in_one_line(),
                });
            }
            (Err(error), _) => return Err(error),
        }
        self.rows.insert(id);
        Ok(id)
    }
}

impl<'c> Whole<'c> {
    pub(crate) fn new(connection: &'c Connection) -> Self {
        Self {
            connection,
            connections: Connections::default(),
            runs: HashMap::new(),
        }
    }

    /// Reads a flow by its row; `None` if it was removed.
    pub(crate) fn read_by_row(&mut self, id: i64) -> Result<Option<FlowRecord>, StoreError> {
        let mut statement = self.connection.prepare_cached(BY_ROW)?;
        let mut rows = statement.query([id])?;
        let row = rows.next()?;
        row.map(|row| self.read(row)).transpose()
    }

    /// Reads a row of `flows_shown`, and all that belongs to it.
    pub(crate) fn read(&mut self, row: &Row<'_>) -> Result<FlowRecord, StoreError> {
        let detail = read_flow(self.connection, row, &mut self.connections)?;
        let body = |message| {
            let content = read_content(self.connection, row, message)?;
            Ok::<_, StoreError>((!content.is_empty()).then_some(content))
        };
        Ok(FlowRecord {
            run: self.run(detail.row.id.run)?,
            request_body: body(Message::Request)?,
            response_body: body(Message::Response)?,
            messages: match detail.row.kind {
                FlowKind::WebSocket => {
                    messages::read_all(self.connection, row.get("id")?, &detail.row)?
                }
                FlowKind::Http | FlowKind::Tunnel => Vec::new(),
            },
            detail,
        })
    }

    fn run(&mut self, id: RunId) -> Result<Arc<RunRecord>, StoreError> {
        if let Some(run) = self.runs.get(&id) {
            return Ok(Arc::clone(run));
        }
        let run = read_run(self.connection, id)?.ok_or_else(|| StoreError::Damaged {
            detail: format!("run {id} is missing"),
        })?;
        let run = Arc::new(run);
        self.runs.insert(id, Arc::clone(&run));
        Ok(run)
    }
}

/// Reads a run; `None` if there is none of that id.
pub(crate) fn read_run(
    connection: &Connection,
    run: RunId,
) -> Result<Option<RunRecord>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT * FROM runs WHERE id = ?1")?;
    let run = statement
        .query_row([run.as_str()], |row| Ok(run_record(row)))
        .optional()?;
    run.transpose()
}

/// Runs with larger numbers than this, some at a time.
pub(crate) fn runs_after(
    connection: &Connection,
    number: i64,
) -> Result<Vec<(i64, Arc<RunRecord>)>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT * FROM runs WHERE number > ?1 ORDER BY number LIMIT ?2")?;
    let limit = i64::try_from(RECORDS_RUNS_MAX).unwrap_or(i64::MAX);
    let mut rows = statement.query((number, limit))?;
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        runs.push((row.get("number")?, Arc::new(run_record(row)?)));
    }
    Ok(runs)
}

/// A row of `runs`.
pub(crate) fn run_record(row: &Row<'_>) -> Result<RunRecord, StoreError> {
    let id: String = row.get("id")?;
    let kind: String = row.get("kind")?;
    let origin: Option<String> = row.get("origin")?;
    let ended_at: Option<i64> = row.get("ended_at")?;
    Ok(RunRecord {
        uuid: row.get("uuid")?,
        name: row.get("name")?,
        argv: json_of_run(&id, &row.get::<_, String>("argv")?)?,
        kind: RunKind::from_name(&kind),
        pid: row.get("pid")?,
        started_at: Timestamp(row.get("started_at")?),
        ended_at: ended_at.map(Timestamp),
        exit_code: row.get("exit_code")?,
        signal: row.get("signal")?,
        origin: match origin {
            Some(origin) => json_of_run(&id, &origin)?,
            None => crate::Origin::default(),
        },
        id: id.parse()?,
    })
}
