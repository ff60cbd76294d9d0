//! What the flows of a run sum up to; the server does the sums.

use postgres::{Row, Transaction};

use super::row::{bytes, get};
use crate::reader::row::milliseconds;
use crate::reader::summary::{FAILURES_MAX, HOSTS_MAX, SLOWEST_MAX};
use crate::{FailureGroup, FlowRef, HostCount, Percentiles, Run, RunSummary, StoreError};

/// `percentile_disc` is the nearest rank. How long a WebSocket stays open says nothing about how fast
/// its server is.
const SUMS: &str = "SELECT
    count(*) FILTER (WHERE NOT is_tunnel) AS requests,
    count(*) FILTER (WHERE NOT is_tunnel AND state = 'completed' AND status_code < 400) AS ok,
    count(*) FILTER (WHERE NOT is_tunnel AND state = 'completed' AND status_code >= 400) AS error_status,
    count(*) FILTER (WHERE state = 'failed' AND NOT is_blocked) AS failed,
    count(*) FILTER (WHERE is_blocked) AS blocked,
    count(*) FILTER (WHERE state = 'open') AS open,
    count(*) FILTER (WHERE state = 'interrupted') AS interrupted,
    count(*) FILTER (WHERE is_tunnel) AS tunnels,
    (coalesce(sum(tunnel_bytes_sent), 0) + coalesce(sum(tunnel_bytes_received), 0))::bigint AS tunnel_bytes,
    coalesce(sum(request_body_size), 0)::bigint AS request_bytes,
    coalesce(sum(response_body_size), 0)::bigint AS response_bytes,
    percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY duration_us)
      FILTER (WHERE kind = 'http' AND status_code IS NOT NULL) AS durations,
    percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY first_byte_us)
      FILTER (WHERE kind = 'http' AND status_code IS NOT NULL) AS first_bytes,
    count(DISTINCT host) AS hosts_total,
    count(*) FILTER (WHERE truncated) AS truncated_flows,
    count(*) FILTER (WHERE danger_unverified) AS danger_unverified,
    (SELECT coalesce(sum(events), 0)::bigint FROM gaps WHERE run_id = $1) AS lost_events
  FROM (
    SELECT *, kind = 'tunnel' AS is_tunnel,
      route_action = 'block' OR coalesce(error_type, '') = 'blocked' AS is_blocked
    FROM flows WHERE run_id = $1
  ) AS flows";

/// Sums up a run. `failed` tells what an error means.
pub(super) fn read(
    transaction: &mut Transaction<'_>,
    run: Run,
    failed: impl Fn(postgres::Error) -> StoreError,
) -> Result<RunSummary, StoreError> {
    let id = run.id;
    let mut query = |sql: &str| transaction.query(sql, &[&id.as_str()]).map_err(&failed);
    let sums = query(SUMS)?;
    let sums = sums.first().ok_or_else(|| StoreError::Damaged {
        detail: "a sum has no row".to_owned(),
    })?;
    let number = |column| bytes(sums, column).map(Option::unwrap_or_default);
    let hosts = query(&format!(
        "SELECT host, count(*) AS flows, count(*) FILTER (WHERE state = 'failed') AS failed
         FROM flows WHERE run_id = $1 GROUP BY host
         ORDER BY count(*) DESC, host COLLATE \"C\" LIMIT {HOSTS_MAX}"
    ))?;
    let slowest = query(&format!(
        "SELECT seq, duration_us FROM flows
         WHERE run_id = $1 AND kind = 'http' AND duration_us IS NOT NULL
         ORDER BY duration_us DESC, seq LIMIT {SLOWEST_MAX}"
    ))?;
    let flow = |row: &Row| {
        let seq = bytes(row, "seq")?.unwrap_or(0);
        Ok::<_, StoreError>(FlowRef { run: id, seq })
    };
    let failures = query(&format!(
        "SELECT host, error_side, error_stage, error_type, program, min(seq) AS seq, count(*) AS flows,
           (array_agg(error_message ORDER BY seq))[1] AS error_message
         FROM (
           SELECT *, CASE error_side WHEN 'client' THEN process_name END AS program
           FROM flows WHERE run_id = $1 AND state = 'failed' AND error_side IS NOT NULL
         ) AS failed
         GROUP BY host, error_side, error_stage, error_type, program
         ORDER BY count(*) DESC, min(seq) LIMIT {FAILURES_MAX}"
    ))?;
    Ok(RunSummary {
        run,
        requests: number("requests")?,
        ok: number("ok")?,
        error_status: number("error_status")?,
        failed: number("failed")?,
        blocked: number("blocked")?,
        open: number("open")?,
        interrupted: number("interrupted")?,
        tunnels: number("tunnels")?,
        tunnel_bytes: number("tunnel_bytes")?,
        request_bytes: number("request_bytes")?,
        response_bytes: number("response_bytes")?,
        duration_ms: percentiles(sums, "durations")?,
        first_byte_ms: percentiles(sums, "first_bytes")?,
        hosts_total: number("hosts_total")?,
        hosts: hosts.iter().map(host).collect::<Result<_, _>>()?,
        slowest: slowest
            .iter()
            .map(|row| Ok((flow(row)?, milliseconds(get(row, "duration_us")?))))
            .collect::<Result<_, StoreError>>()?,
        lost_events: number("lost_events")?,
        truncated_flows: number("truncated_flows")?,
        danger_unverified: number("danger_unverified")?,
        failures: failures
            .iter()
            .map(|row| failure(row, flow(row)?))
            .collect::<Result<_, StoreError>>()?,
    })
}

/// A column that has two of them.
pub(super) fn percentiles(row: &Row, column: &str) -> Result<Option<Percentiles>, StoreError> {
    let spans: Option<Vec<Option<i64>>> = get(row, column)?;
    Ok(match spans.as_deref() {
        Some([Some(p50), Some(p95)]) => Some(Percentiles {
            p50: milliseconds(*p50),
            p95: milliseconds(*p95),
        }),
        _ => None,
    })
}

fn host(row: &Row) -> Result<HostCount, StoreError> {
    Ok(HostCount {
        host: get(row, "host")?,
        flows: bytes(row, "flows")?.unwrap_or(0),
        failed: bytes(row, "failed")?.unwrap_or(0),
    })
}

fn failure(row: &Row, example: FlowRef) -> Result<FailureGroup, StoreError> {
    Ok(FailureGroup {
        host: get(row, "host")?,
        side: get(row, "error_side")?,
        stage: get(row, "error_stage")?,
        kind: get(row, "error_type")?,
        program: get(row, "program")?,
        text: get(row, "error_message")?,
        flows: bytes(row, "flows")?.unwrap_or(0),
        example,
    })
}
