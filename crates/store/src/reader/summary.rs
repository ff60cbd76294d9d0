//! Reads runs, and what the flows of a run sum up to.

use std::cmp::Reverse;
use std::collections::HashMap;

use rusqlite::{Connection, Row, params_from_iter};
use serde::Deserialize;
use traffic::Timestamp;

use super::row::{bytes, milliseconds, time};
use super::select::Conditions;
use crate::{
    FailureGroup, FlowRef, HostCount, Percentiles, Run, RunId, RunKind, RunSummary, StoreError,
};

const RUN_COLUMNS: &str = "id, uuid, kind, name, argv, pid, started_at, ended_at, exit_code, signal, \
    (SELECT last_seq FROM arrivals WHERE run_id = runs.id ORDER BY first_seq DESC LIMIT 1) AS flows";

/// Hosts that a summary names.
pub(crate) const HOSTS_MAX: usize = 100;
/// Groups of failures that it names.
pub(crate) const FAILURES_MAX: usize = 50;
/// Slow flows that it names.
pub(crate) const SLOWEST_MAX: usize = 5;

/// Reads a run.
pub(super) fn read_run(connection: &Connection, run: RunId) -> Result<Option<Run>, StoreError> {
    let sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([run.as_str()])?;
    rows.next()?.map(run_of_row).transpose()
}

/// Reads the newest runs.
pub(super) fn read_runs(connection: &Connection, limit: usize) -> Result<Vec<Run>, StoreError> {
    let sql = format!("SELECT {RUN_COLUMNS} FROM runs ORDER BY number DESC LIMIT ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        runs.push(run_of_row(row)?);
    }
    Ok(runs)
}

/// Sums up a run, in one pass over its flows.
pub(super) fn read(connection: &Connection, run: Run) -> Result<RunSummary, StoreError> {
    let mut conditions = Conditions::default();
    conditions.add_run(Some(run.id));
    let sql = format!(
        "SELECT seq, kind, state, status_code, truncated, danger_unverified, host, duration_us,
           first_byte_us, request_body_size, response_body_size, tunnel_bytes_sent,
           tunnel_bytes_received, route_action = 'block' OR coalesce(error_type, '') = 'blocked'
         FROM flows_shown WHERE {}",
        conditions.sql()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(conditions.values()))?;
    let mut sums = Sums::default();
    while let Some(row) = rows.next()? {
        sums.add(row)?;
    }
    let lost_events: i64 = connection
        .prepare_cached("SELECT coalesce(sum(events), 0) FROM gaps WHERE run_id = ?1")?
        .query_row([run.id.as_str()], |row| row.get(0))?;
    let failures = read_failures(connection, run.id)?;
    Ok(sums.finish(run, u64::try_from(lost_events).unwrap_or(0), failures))
}

/// The sums so far. Of each flow sixteen bytes stay, for the percentiles.
#[derive(Default)]
struct Sums {
    requests: u64,
    ok: u64,
    error_status: u64,
    failed: u64,
    blocked: u64,
    open: u64,
    interrupted: u64,
    tunnels: u64,
    tunnel_bytes: u64,
    request_bytes: u64,
    response_bytes: u64,
    truncated: u64,
    danger_unverified: u64,
    durations: Vec<i64>,
    first_bytes: Vec<i64>,
    /// Duration and number, the slowest first.
    slowest: Vec<(i64, u64)>,
    /// Flows, and those of them that failed.
    hosts: HashMap<String, (u64, u64)>,
}

impl Sums {
    fn add(&mut self, row: &Row<'_>) -> Result<(), StoreError> {
        let kind = text(row, 1)?;
        let (is_http, is_tunnel) = (kind == "http", kind == "tunnel");
        let state = text(row, 2)?;
        let status: Option<u16> = row.get(3)?;
        let duration: Option<i64> = row.get(7)?;
        let is_blocked: bool = row.get(13)?;
        let size = |column: usize| {
            let size: Option<i64> = row.get(column)?;
            Ok::<u64, StoreError>(size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0))
        };
        let is_completed = state == "completed";
        let is_failed = state == "failed";
        if is_tunnel {
            self.tunnels += 1;
        } else {
            self.requests += 1;
            self.ok += u64::from(is_completed && status.is_some_and(|status| status < 400));
            self.error_status +=
                u64::from(is_completed && status.is_some_and(|status| status >= 400));
        }
        // How long a WebSocket stays open says nothing about how fast its server is.
        if is_http {
            if status.is_some() {
                self.durations.extend(duration);
                self.first_bytes.extend(row.get::<_, Option<i64>>(8)?);
            }
            if let Some(duration) = duration {
                self.add_slow(duration, size(0)?);
            }
        }
        self.failed += u64::from(is_failed && !is_blocked);
        self.blocked += u64::from(is_blocked);
        self.open += u64::from(state == "open");
        self.interrupted += u64::from(state == "interrupted");
        self.truncated += u64::from(row.get::<_, bool>(4)?);
        self.danger_unverified += u64::from(row.get::<_, bool>(5)?);
        self.request_bytes += size(9)?;
        self.response_bytes += size(10)?;
        self.tunnel_bytes += size(11)? + size(12)?;
        let host = text(row, 6)?;
        let counts = match self.hosts.get_mut(host) {
            Some(counts) => counts,
            None => self.hosts.entry(host.to_owned()).or_default(),
        };
        counts.0 += 1;
        counts.1 += u64::from(is_failed);
        Ok(())
    }

    fn add_slow(&mut self, duration: i64, seq: u64) {
        let place = self.slowest.partition_point(|(known, before)| {
            (Reverse(*known), *before) < (Reverse(duration), seq)
        });
        if place < SLOWEST_MAX {
            self.slowest.insert(place, (duration, seq));
            self.slowest.truncate(SLOWEST_MAX);
        }
    }

    fn finish(mut self, run: Run, lost_events: u64, failures: Vec<FailureGroup>) -> RunSummary {
        RunSummary {
            requests: self.requests,
            ok: self.ok,
            error_status: self.error_status,
            failed: self.failed,
            blocked: self.blocked,
            open: self.open,
            interrupted: self.interrupted,
            tunnels: self.tunnels,
            tunnel_bytes: self.tunnel_bytes,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            duration_ms: percentiles(&mut self.durations),
            first_byte_ms: percentiles(&mut self.first_bytes),
            hosts_total: u64::try_from(self.hosts.len()).unwrap_or(u64::MAX),
            hosts: most_used(self.hosts),
            slowest: self
                .slowest
                .iter()
                .map(|(duration, seq)| {
                    (
                        FlowRef {
                            run: run.id,
                            seq: *seq,
                        },
                        milliseconds(*duration),
                    )
                })
                .collect(),
            lost_events,
            truncated_flows: self.truncated,
            danger_unverified: self.danger_unverified,
            failures,
            run,
        }
    }
}

/// The hosts with the most flows.
fn most_used(hosts: HashMap<String, (u64, u64)>) -> Vec<HostCount> {
    let mut hosts: Vec<HostCount> = hosts
        .into_iter()
        .map(|(host, (flows, failed))| HostCount {
            host,
            flows,
            failed,
        })
        .collect();
    hosts.sort_unstable_by(|left, right| {
        let order = right.flows.cmp(&left.flows);
        order.then_with(|| left.host.cmp(&right.host))
    });
    hosts.truncate(HOSTS_MAX);
    hosts
}

/// Percentiles (nearest rank) of time spans in microseconds.
pub(super) fn percentiles(spans: &mut [i64]) -> Option<Percentiles> {
    let mut rank = |percent: usize| {
        let place = (spans.len() * percent).div_ceil(100).checked_sub(1)?;
        let (_, span, _) = spans.select_nth_unstable(place);
        Some(milliseconds(*span))
    };
    Some(Percentiles {
        p50: rank(50)?,
        p95: rank(95)?,
    })
}

fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, StoreError> {
    let text = row.get_ref(column)?.as_str();
    text.map_err(|error| StoreError::Damaged {
        detail: format!("a column of flows is no text: {error}"),
    })
}

/// The text of a group is that of its first flow: SQLite takes bare columns from the row of `min`.
fn read_failures(connection: &Connection, run: RunId) -> Result<Vec<FailureGroup>, StoreError> {
    let mut conditions = Conditions::default();
    conditions.add_run(Some(run));
    let sql = format!(
        "SELECT host, error_side, error_stage, error_type, error_message,
           CASE error_side WHEN 'client' THEN (SELECT process_name FROM client_connections AS client
             WHERE client.id = client_connection) END AS program,
           min(seq) AS seq, count(*) AS flows
         FROM flows_shown WHERE state = 'failed' AND {}
         GROUP BY host, error_side, error_stage, error_type, program
         ORDER BY flows DESC, seq LIMIT {FAILURES_MAX}",
        conditions.sql()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(conditions.values()))?;
    let mut failures = Vec::new();
    while let Some(row) = rows.next()? {
        failures.push(FailureGroup {
            host: row.get("host")?,
            side: row.get("error_side")?,
            stage: row.get("error_stage")?,
            kind: row.get("error_type")?,
            program: row.get("program")?,
            text: row.get("error_message")?,
            flows: bytes(row, "flows")?.unwrap_or(0),
            example: flow(run, row)?,
        });
    }
    Ok(failures)
}

fn flow(run: RunId, row: &Row<'_>) -> Result<FlowRef, StoreError> {
    Ok(FlowRef {
        run,
        seq: bytes(row, "seq")?.unwrap_or(0),
    })
}

fn run_of_row(row: &Row<'_>) -> Result<Run, StoreError> {
    let id: String = row.get("id")?;
    let argv: String = row.get("argv")?;
    let kind: String = row.get("kind")?;
    Ok(Run {
        id: id.parse()?,
        uuid: row.get("uuid")?,
        name: row.get("name")?,
        argv: json_of_run(&id, &argv)?,
        kind: RunKind::from_name(&kind),
        pid: row.get("pid")?,
        started_at: Timestamp(row.get("started_at")?),
        ended_at: time(row, "ended_at")?,
        exit_code: row.get("exit_code")?,
        signal: row.get("signal")?,
        flows: bytes(row, "flows")?.unwrap_or(0),
    })
}

/// A column of a run that holds JSON.
pub(super) fn json_of_run<T: for<'j> Deserialize<'j>>(
    id: &str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged {
        detail: format!("what is known of run {id} is not JSON: {error}"),
    })
}
