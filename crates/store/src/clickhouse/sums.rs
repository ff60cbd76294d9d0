//! What sessions, and flows that match, sum up to; the server does the sums.

use serde::Deserialize;
use traffic::Timestamp;

use super::summary::percentiles;
use crate::reader::select::{Conditions, Dialect};
use crate::reader::{Session, Stats, StatsGroup, StatsKey};

/// The sessions that have flows, those first that were seen last, so many at most. An archive as an older
/// oriel left it is nameless.
pub(super) fn sessions_sql(is_nameless: bool, limit: i64) -> String {
    let sums = format!("{SESSIONS} LIMIT {limit}");
    match is_nameless {
        true => format!("SELECT *, NULL AS name FROM ({sums}) ORDER BY last DESC, id"),
        false => format!(
            "SELECT sums.*, nullIf(names.name, '') AS name FROM ({sums}) AS sums
             LEFT JOIN session_names AS names ON names.session_id = sums.id ORDER BY last DESC, id"
        ),
    }
}

const SESSIONS: &str = "SELECT assumeNotNull(session_id) AS id,
    argMinIf(agent, (start_time, number), agent IS NOT NULL) AS program,
    toUnixTimestamp64Micro(min(start_time)) AS started,
    toUnixTimestamp64Micro(max(start_time)) AS last,
    count() AS flows, countIf(traffic_type = 'llm') AS llm_flows,
    countIf(state = 'failed' OR coalesce(status_code, 0) >= 400) AS failed,
    uniqExact(run_uuid) AS runs, uniqExact(agent_id) AS agents,
    sum(coalesce(request_body_size, 0)) AS request_bytes,
    sum(coalesce(response_body_size, 0)) AS response_bytes
  FROM flows WHERE session_id IS NOT NULL GROUP BY session_id
  ORDER BY last DESC, id";

/// A row of [`sessions_sql`].
#[derive(Deserialize)]
pub(super) struct SessionSums {
    id: String,
    name: Option<String>,
    program: Option<String>,
    started: i64,
    last: i64,
    flows: u64,
    llm_flows: u64,
    failed: u64,
    runs: u64,
    agents: u64,
    request_bytes: u64,
    response_bytes: u64,
}

impl SessionSums {
    /// The session.
    pub(super) fn into_session(self) -> Session {
        Session {
            id: self.id,
            name: self.name,
            agent: self.program,
            started_at: Timestamp(self.started),
            last_at: Timestamp(self.last),
            flows: self.flows,
            llm_flows: self.llm_flows,
            failed: self.failed,
            runs: self.runs,
            agents: self.agents,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
        }
    }
}

/// The sums of all groups, and of all flows. The lists that percentiles (nearest rank) are taken from stay
/// with the server.
pub(super) fn stats_sql(by: StatsKey, conditions: &Conditions) -> String {
    format!(
        "SELECT * EXCEPT (durations, first_bytes) FROM (
           SELECT group_key, grouping(group_key) = 1 AS is_total, count() AS flows,
             countIf(coalesce(status_code, 0) >= 400) AS error_status,
             countIf(state = 'failed') AS failed,
             sum(coalesce(tunnel_bytes_sent, request_body_size, 0)) AS request_bytes,
             sum(coalesce(tunnel_bytes_received, response_body_size, 0)) AS response_bytes,
             arraySort(groupArrayIf(assumeNotNull(duration_us), status_code IS NOT NULL AND duration_us IS NOT NULL)) AS durations,
             arraySort(groupArrayIf(assumeNotNull(first_byte_us), status_code IS NOT NULL AND first_byte_us IS NOT NULL)) AS first_bytes,
             durations[toUInt64(ceil(length(durations) * 0.5))] AS duration_p50,
             durations[toUInt64(ceil(length(durations) * 0.95))] AS duration_p95,
             first_bytes[toUInt64(ceil(length(first_bytes) * 0.5))] AS first_byte_p50,
             first_bytes[toUInt64(ceil(length(first_bytes) * 0.95))] AS first_byte_p95,
             length(durations) AS timed,
             length(first_bytes) AS begun
           FROM (
             SELECT toNullable({}) AS group_key, state, status_code, duration_us, first_byte_us,
               tunnel_bytes_sent, tunnel_bytes_received, request_body_size, response_body_size
             FROM flows WHERE {}
           )
           GROUP BY GROUPING SETS ((group_key), ())
         )",
        by.sql(Dialect::ClickHouse),
        conditions.sql()
    )
}

/// A row of [`stats_sql`].
#[derive(Deserialize)]
pub(super) struct GroupSums {
    group_key: Option<String>,
    is_total: u8,
    flows: u64,
    error_status: u64,
    failed: u64,
    request_bytes: u64,
    response_bytes: u64,
    duration_p50: i64,
    duration_p95: i64,
    first_byte_p50: i64,
    first_byte_p95: i64,
    timed: u64,
    begun: u64,
}

/// The answer to [`stats_sql`].
pub(super) fn stats(by: StatsKey, rows: Vec<GroupSums>) -> Stats {
    let (mut groups, mut total) = (Vec::new(), StatsGroup::default());
    for row in rows {
        let group = StatsGroup {
            key: row.group_key,
            flows: row.flows,
            error_status: row.error_status,
            failed: row.failed,
            request_bytes: row.request_bytes,
            response_bytes: row.response_bytes,
            duration_ms: percentiles(row.timed, row.duration_p50, row.duration_p95),
            first_byte_ms: percentiles(row.begun, row.first_byte_p50, row.first_byte_p95),
        };
        match row.is_total {
            0 => groups.push(group),
            _ => total = group,
        }
    }
    Stats::of(by, groups, total)
}
