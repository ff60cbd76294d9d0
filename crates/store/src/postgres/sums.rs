//! What sessions, and flows that match, sum up to; the server does the sums.

use postgres::Row;

use super::row::{bytes, get, time};
use super::summary::percentiles;
use crate::StoreError;
use crate::reader::select::{Conditions, Dialect};
use crate::reader::{Session, Stats, StatsGroup, StatsKey};

/// The sessions that have flows, those first that were seen last; `$1` is how many at most. An archive as an
/// older oriel left it is nameless.
pub(super) fn sessions_sql(is_nameless: bool) -> String {
    let name = match is_nameless {
        true => "NULL::text",
        false => {
            "(SELECT nullif(name, '') FROM session_names WHERE session_names.session_id = flows.session_id)"
        }
    };
    format!("SELECT session_id, {name} AS name, {SESSIONS}")
}

/// What follows the id and the name.
const SESSIONS: &str =
    "(array_agg(agent ORDER BY start_time, number) FILTER (WHERE agent IS NOT NULL))[1] AS agent,
    min(start_time) AS started_at, max(start_time) AS last_at, count(*) AS flows,
    count(*) FILTER (WHERE traffic_type = 'llm') AS llm_flows,
    count(*) FILTER (WHERE state = 'failed' OR status_code >= 400) AS failed,
    count(DISTINCT run_id) AS runs, count(DISTINCT agent_id) AS agents,
    coalesce(sum(request_body_size), 0)::bigint AS request_bytes,
    coalesce(sum(response_body_size), 0)::bigint AS response_bytes
  FROM flows WHERE session_id IS NOT NULL GROUP BY session_id
  ORDER BY last_at DESC, session_id COLLATE \"C\" LIMIT $1";

/// Reads a row of [`sessions_sql`].
pub(super) fn read_session(row: &Row) -> Result<Session, StoreError> {
    let number = |column| bytes(row, column).map(Option::unwrap_or_default);
    Ok(Session {
        id: get(row, "session_id")?,
        name: get(row, "name")?,
        agent: get(row, "agent")?,
        started_at: time(row, "started_at")?,
        last_at: time(row, "last_at")?,
        flows: number("flows")?,
        llm_flows: number("llm_flows")?,
        failed: number("failed")?,
        runs: number("runs")?,
        agents: number("agents")?,
        request_bytes: number("request_bytes")?,
        response_bytes: number("response_bytes")?,
    })
}

/// The sums of all groups, and of all flows. `percentile_disc` is the nearest rank.
pub(super) fn stats_sql(by: StatsKey, conditions: &Conditions) -> String {
    format!(
        "SELECT group_key, grouping(group_key) = 1 AS is_total, count(*) AS flows,
           count(*) FILTER (WHERE status_code >= 400) AS error_status,
           count(*) FILTER (WHERE state = 'failed') AS failed,
           coalesce(sum(coalesce(tunnel_bytes_sent, request_body_size)), 0)::bigint AS request_bytes,
           coalesce(sum(coalesce(tunnel_bytes_received, response_body_size)), 0)::bigint AS response_bytes,
           percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY duration_us)
             FILTER (WHERE status_code IS NOT NULL) AS durations,
           percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY first_byte_us)
             FILTER (WHERE status_code IS NOT NULL) AS first_bytes
         FROM (SELECT *, {} AS group_key FROM flows WHERE {}) AS flows
         GROUP BY GROUPING SETS ((group_key), ())",
        by.sql(Dialect::Postgres),
        conditions.sql()
    )
}

/// Reads the rows of [`stats_sql`].
pub(super) fn read_stats(by: StatsKey, rows: &[Row]) -> Result<Stats, StoreError> {
    let (mut groups, mut total) = (Vec::new(), StatsGroup::default());
    for row in rows {
        let number = |column| bytes(row, column).map(Option::unwrap_or_default);
        let group = StatsGroup {
            key: get(row, "group_key")?,
            flows: number("flows")?,
            error_status: number("error_status")?,
            failed: number("failed")?,
            request_bytes: number("request_bytes")?,
            response_bytes: number("response_bytes")?,
            duration_ms: percentiles(row, "durations")?,
            first_byte_ms: percentiles(row, "first_bytes")?,
        };
        match get(row, "is_total")? {
            true => total = group,
            false => groups.push(group),
        }
    }
    Ok(Stats::of(by, groups, total))
}
