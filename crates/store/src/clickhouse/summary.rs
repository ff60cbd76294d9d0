//! What the flows of a run sum up to; the server does the sums.

use serde::Deserialize;

use super::server::{Server, Value};
use crate::reader::row::milliseconds;
use crate::reader::summary::{FAILURES_MAX, HOSTS_MAX, SLOWEST_MAX};
use crate::{FailureGroup, FlowRef, HostCount, Percentiles, Run, RunSummary, StoreError};

/// How long a WebSocket stays open says nothing about how fast its server is.
const SUMS: &str = "SELECT
    countIf(NOT is_tunnel) AS requests,
    countIf(NOT is_tunnel AND state = 'completed' AND coalesce(status_code < 400, FALSE)) AS ok,
    countIf(NOT is_tunnel AND state = 'completed' AND coalesce(status_code >= 400, FALSE)) AS error_status,
    countIf(state = 'failed' AND NOT is_blocked) AS failed,
    countIf(is_blocked) AS blocked,
    countIf(state = 'open') AS open,
    countIf(state = 'interrupted') AS interrupted,
    countIf(is_tunnel) AS tunnels,
    sum(coalesce(tunnel_bytes_sent, 0)) + sum(coalesce(tunnel_bytes_received, 0)) AS tunnel_bytes,
    sum(coalesce(request_body_size, 0)) AS request_bytes,
    sum(coalesce(response_body_size, 0)) AS response_bytes,
    arraySort(groupArrayIf(assumeNotNull(duration_us), is_timed AND duration_us IS NOT NULL)) AS durations,
    arraySort(groupArrayIf(assumeNotNull(first_byte_us), is_timed AND first_byte_us IS NOT NULL)) AS first_bytes,
    durations[toUInt64(ceil(length(durations) * 0.5))] AS duration_p50,
    durations[toUInt64(ceil(length(durations) * 0.95))] AS duration_p95,
    first_bytes[toUInt64(ceil(length(first_bytes) * 0.5))] AS first_byte_p50,
    first_bytes[toUInt64(ceil(length(first_bytes) * 0.95))] AS first_byte_p95,
    length(durations) AS timed,
    length(first_bytes) AS begun,
    uniqExact(host) AS hosts_total,
    countIf(truncated) AS truncated_flows,
    countIf(danger_unverified) AS unverified_flows
  FROM (
    SELECT *, kind = 'tunnel' AS is_tunnel, kind = 'http' AND status_code IS NOT NULL AS is_timed,
      route_action = 'block' OR coalesce(error_type, '') = 'blocked' AS is_blocked
    FROM flows WHERE run_id = {p1:String}
  )";

#[derive(Deserialize)]
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
    duration_p50: i64,
    duration_p95: i64,
    first_byte_p50: i64,
    first_byte_p95: i64,
    timed: u64,
    begun: u64,
    hosts_total: u64,
    truncated_flows: u64,
    unverified_flows: u64,
}

#[derive(Deserialize)]
struct Lost {
    events: u64,
}

#[derive(Deserialize)]
struct Host {
    host: String,
    flows: u64,
    failed: u64,
}

#[derive(Deserialize)]
struct Slow {
    seq: u64,
    duration_us: i64,
}

#[derive(Deserialize)]
struct Failed {
    host: String,
    error_side: String,
    error_stage: String,
    error_type: String,
    program: Option<String>,
    text: String,
    first: u64,
    flows: u64,
}

/// Sums up a run.
pub(super) fn read(server: &Server, run: Run) -> Result<RunSummary, StoreError> {
    let id = run.id;
    let values = [Value::Text(id.as_str())];
    let flow = |seq| FlowRef { run: id, seq };
    // The lists that percentiles are taken from stay with the server.
    let sums: Sums = server.one(
        &format!("SELECT * EXCEPT (durations, first_bytes) FROM ({SUMS})"),
        &values,
    )?;
    let hosts: Vec<Host> = server.rows(
        &format!(
            "SELECT host, count() AS flows, countIf(state = 'failed') AS failed
             FROM flows WHERE run_id = {{p1:String}} GROUP BY host
             ORDER BY flows DESC, host LIMIT {HOSTS_MAX}"
        ),
        &values,
    )?;
    let slowest: Vec<Slow> = server.rows(
        &format!(
            "SELECT seq, duration_us FROM flows
             WHERE run_id = {{p1:String}} AND kind = 'http' AND duration_us IS NOT NULL
             ORDER BY duration_us DESC, seq LIMIT {SLOWEST_MAX}"
        ),
        &values,
    )?;
    let failures: Vec<Failed> = server.rows(
        &format!(
            "SELECT host, coalesce(error_side, '') AS error_side, coalesce(error_stage, '') AS error_stage,
               coalesce(error_type, '') AS error_type, program, min(seq) AS first, count() AS flows,
               argMin(coalesce(error_message, ''), seq) AS text
             FROM (
               SELECT *, if(error_side = 'client', process_name, NULL) AS program
               FROM flows
               WHERE run_id = {{p1:String}} AND state = 'failed' AND error_side IS NOT NULL
             )
             GROUP BY host, error_side, error_stage, error_type, program
             ORDER BY flows DESC, first LIMIT {FAILURES_MAX}"
        ),
        &values,
    )?;
    let sql = "SELECT sum(events) AS events FROM gaps WHERE run_id = {p1:String}";
    let lost: Lost = server.one(sql, &values)?;
    Ok(RunSummary {
        run,
        requests: sums.requests,
        ok: sums.ok,
        error_status: sums.error_status,
        failed: sums.failed,
        blocked: sums.blocked,
        open: sums.open,
        interrupted: sums.interrupted,
        tunnels: sums.tunnels,
        tunnel_bytes: sums.tunnel_bytes,
        request_bytes: sums.request_bytes,
        response_bytes: sums.response_bytes,
        duration_ms: percentiles(sums.timed, sums.duration_p50, sums.duration_p95),
        first_byte_ms: percentiles(sums.begun, sums.first_byte_p50, sums.first_byte_p95),
        hosts_total: sums.hosts_total,
        hosts: hosts
            .into_iter()
            .map(|host| HostCount {
                host: host.host,
                flows: host.flows,
                failed: host.failed,
            })
            .collect(),
        slowest: slowest
            .iter()
            .map(|slow| (flow(slow.seq), milliseconds(slow.duration_us)))
            .collect(),
        lost_events: lost.events,
        truncated_flows: sums.truncated_flows,
        danger_unverified: sums.unverified_flows,
        failures: failures
            .into_iter()
            .map(|failed| FailureGroup {
                host: failed.host,
                side: failed.error_side,
                stage: failed.error_stage,
                kind: failed.error_type,
                program: failed.program,
                text: failed.text,
                flows: failed.flows,
                example: flow(failed.first),
            })
            .collect(),
    })
}

/// These percentiles of so many.
pub(super) fn percentiles(count: u64, p50: i64, p95: i64) -> Option<Percentiles> {
    (count > 0).then(|| Percentiles {
        p50: milliseconds(p50),
        p95: milliseconds(p95),
    })
}
