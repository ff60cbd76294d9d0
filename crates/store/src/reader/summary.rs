//! Reads runs, and what the flows of a run sum up to.

use rusqlite::{Connection, Row};
use traffic::Timestamp;

use super::row::{bytes, time};
use crate::{
    FailureGroup, FlowRef, HostCount, Percentiles, Run, RunId, RunKind, RunSummary, StoreError,
};

const RUN_COLUMNS: &str = "id, uuid, kind, name, argv, pid, started_at, ended_at, exit_code, signal, \
    (SELECT coalesce(max(seq), 0) FROM flows WHERE run_id = runs.id) AS flows";

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

/// Sums up a run.
pub(super) fn read(connection: &Connection, run: Run) -> Result<RunSummary, StoreError> {
    let id = run.id;
    let mut summary = read_counts(connection, run)?;
    summary.duration_ms = percentiles(connection, id, "end_time - start_time")?;
    summary.first_byte_ms = percentiles(connection, id, "response_started_at - start_time")?;
    summary.hosts = read_hosts(connection, id)?;
    summary.slowest = read_slowest(connection, id)?;
    summary.failures = read_failures(connection, id)?;
    Ok(summary)
}

/// What one pass over the flows tells.
fn read_counts(connection: &Connection, run: Run) -> Result<RunSummary, StoreError> {
    const BLOCKED: &str = "(route_action = 'block' OR coalesce(error_type, '') = 'blocked')";
    let sql = format!(
        "SELECT
           count(*) FILTER (WHERE kind = 'http') AS requests,
           count(*) FILTER (WHERE kind = 'http' AND state = 'completed' AND status_code < 400) AS ok,
           count(*) FILTER (WHERE kind = 'http' AND state = 'completed' AND status_code >= 400) AS error_status,
           count(*) FILTER (WHERE state = 'failed' AND NOT {BLOCKED}) AS failed,
           count(*) FILTER (WHERE {BLOCKED}) AS blocked,
           count(*) FILTER (WHERE state = 'open') AS open,
           count(*) FILTER (WHERE state = 'interrupted') AS interrupted,
           count(*) FILTER (WHERE kind = 'tunnel') AS tunnels,
           coalesce(sum(coalesce(tunnel_bytes_sent, 0) + coalesce(tunnel_bytes_received, 0)), 0) AS tunnel_bytes,
           coalesce(sum(request_body_size), 0) AS request_bytes,
           coalesce(sum(response_body_size), 0) AS response_bytes,
           count(DISTINCT host) AS hosts_total,
           count(*) FILTER (WHERE request_body_kept < request_body_size
             OR response_body_kept < response_body_size) AS truncated_flows,
           count(*) FILTER (WHERE danger_unverified) AS danger_unverified,
           (SELECT coalesce(sum(events), 0) FROM gaps WHERE run_id = ?1) AS lost_events
         FROM flows WHERE run_id = ?1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([run.id.as_str()])?;
    let row = rows.next()?.ok_or_else(|| StoreError::Damaged {
        detail: "a sum has no row".to_owned(),
    })?;
    let count = |column: &str| bytes(row, column).map(Option::unwrap_or_default);
    Ok(RunSummary {
        requests: count("requests")?,
        ok: count("ok")?,
        error_status: count("error_status")?,
        failed: count("failed")?,
        blocked: count("blocked")?,
        open: count("open")?,
        interrupted: count("interrupted")?,
        tunnels: count("tunnels")?,
        tunnel_bytes: count("tunnel_bytes")?,
        request_bytes: count("request_bytes")?,
        response_bytes: count("response_bytes")?,
        duration_ms: None,
        first_byte_ms: None,
        hosts: Vec::new(),
        hosts_total: count("hosts_total")?,
        slowest: Vec::new(),
        lost_events: count("lost_events")?,
        truncated_flows: count("truncated_flows")?,
        danger_unverified: count("danger_unverified")?,
        failures: Vec::new(),
        run,
    })
}

/// Percentiles (nearest rank) of a time span of HTTP requests that were answered.
fn percentiles(
    connection: &Connection,
    run: RunId,
    span: &str,
) -> Result<Option<Percentiles>, StoreError> {
    let sql = format!(
        "WITH spans AS (
           SELECT {span} AS micros FROM flows
           WHERE run_id = ?1 AND kind = 'http' AND status_code IS NOT NULL AND {span} IS NOT NULL
         ), ranked AS (
           SELECT micros, row_number() OVER (ORDER BY micros) AS rank, count(*) OVER () AS total FROM spans
         )
         SELECT min(micros) FILTER (WHERE rank * 100 >= total * 50),
                min(micros) FILTER (WHERE rank * 100 >= total * 95) FROM ranked"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let (half, most): (Option<i64>, Option<i64>) =
        statement.query_row([run.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(half.zip(most).map(|(half, most)| Percentiles {
        p50: super::row::milliseconds(half),
        p95: super::row::milliseconds(most),
    }))
}

fn read_hosts(connection: &Connection, run: RunId) -> Result<Vec<HostCount>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT host, count(*) AS flows, count(*) FILTER (WHERE state = 'failed') AS failed
         FROM flows WHERE run_id = ?1 GROUP BY host ORDER BY flows DESC, host LIMIT 100",
    )?;
    let mut rows = statement.query([run.as_str()])?;
    let mut hosts = Vec::new();
    while let Some(row) = rows.next()? {
        hosts.push(HostCount {
            host: row.get("host")?,
            flows: bytes(row, "flows")?.unwrap_or(0),
            failed: bytes(row, "failed")?.unwrap_or(0),
        });
    }
    Ok(hosts)
}

fn read_slowest(connection: &Connection, run: RunId) -> Result<Vec<(FlowRef, f64)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, duration_ms FROM flows
         WHERE run_id = ?1 AND kind = 'http' AND duration_ms IS NOT NULL
         ORDER BY duration_ms DESC, seq LIMIT 5",
    )?;
    let mut rows = statement.query([run.as_str()])?;
    let mut slowest = Vec::new();
    while let Some(row) = rows.next()? {
        slowest.push((flow(run, row)?, row.get("duration_ms")?));
    }
    Ok(slowest)
}

/// The text of a group is that of its first flow: SQLite takes bare columns from the row of `min`.
fn read_failures(connection: &Connection, run: RunId) -> Result<Vec<FailureGroup>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT host, error_side, error_stage, error_type, error_message, min(seq) AS seq, count(*) AS flows
         FROM flows WHERE run_id = ?1 AND state = 'failed'
         GROUP BY host, error_side, error_stage, error_type
         ORDER BY flows DESC, seq LIMIT 50",
    )?;
    let mut rows = statement.query([run.as_str()])?;
    let mut failures = Vec::new();
    while let Some(row) = rows.next()? {
        failures.push(FailureGroup {
            host: row.get("host")?,
            side: row.get("error_side")?,
            stage: row.get("error_stage")?,
            kind: row.get("error_type")?,
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
        argv: serde_json::from_str(&argv).map_err(|error| StoreError::Damaged {
            detail: format!("the command of run {id} is not JSON: {error}"),
        })?,
        kind: RunKind::from_name(&kind),
        pid: row.get("pid")?,
        started_at: Timestamp(row.get("started_at")?),
        ended_at: time(row, "ended_at")?,
        exit_code: row.get("exit_code")?,
        signal: row.get("signal")?,
        flows: bytes(row, "flows")?.unwrap_or(0),
    })
}
