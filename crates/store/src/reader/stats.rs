//! Sums over flows, grouped by one of their properties. Each kind of database does the sums itself.

use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::{Connection, Row, params_from_iter};
use traffic::rules::filter::Filter;

use super::row::bytes;
use super::select::{Conditions, Dialect};
use super::summary::percentiles;
use crate::{Percentiles, StoreError};

/// By what flows are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatsKey {
    /// The host that was asked for.
    Host,
    /// `llm`, `mcp`, `web`, `other` or `unknown`.
    TrafficType,
    /// The program that asked, where it is known.
    Agent,
    /// The session of an agent.
    Session,
    /// The run.
    Run,
    /// The method.
    Method,
    /// The status code.
    Status,
    /// The name of the failure, of flows that did not pass whole.
    Error,
    /// The name that the client said to the proxy.
    User,
    /// The oriel that recorded its run.
    Instance,
    /// The person or account that its run was recorded for.
    Owner,
    /// The name of the client's process.
    Process,
    /// What people tagged it with: a flow with several tags is in several groups.
    Tag,
    /// The day of the start, in UTC.
    Day,
    /// The hour of the start, in UTC.
    Hour,
}

/// What a group of flows sums up to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatsGroup {
    /// What they have in common; `None` where it is not known.
    pub key: Option<String>,
    /// How many they are.
    pub flows: u64,
    /// Of these, with a status from 400 on.
    pub error_status: u64,
    /// Of these, that did not pass whole.
    pub failed: u64,
    /// Body bytes of requests, and bytes of tunnels from clients.
    pub request_bytes: u64,
    /// Body bytes of responses, and bytes of tunnels from upstreams.
    pub response_bytes: u64,
    /// From start to end, of those that were answered.
    pub duration_ms: Option<Percentiles>,
    /// From start to the first byte of the response.
    pub first_byte_ms: Option<Percentiles>,
}

/// All groups, and all flows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// The largest first; days and hours in their order.
    pub groups: Vec<StatsGroup>,
    /// All of them together.
    pub total: StatsGroup,
}

impl StatsKey {
    /// All there are.
    pub const ALL: [Self; 15] = [
        Self::Host,
        Self::TrafficType,
        Self::Agent,
        Self::Session,
        Self::Run,
        Self::Method,
        Self::Status,
        Self::Error,
        Self::User,
        Self::Instance,
        Self::Owner,
        Self::Process,
        Self::Tag,
        Self::Day,
        Self::Hour,
    ];

    /// The key of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.as_str() == name)
    }

    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::TrafficType => "type",
            Self::Agent => "agent",
            Self::Session => "session",
            Self::Run => "run",
            Self::Method => "method",
            Self::Status => "status",
            Self::Error => "error",
            Self::User => "user",
            Self::Instance => "instance",
            Self::Owner => "owner",
            Self::Process => "process",
            Self::Tag => "tag",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }

    /// What the flows of a group have in common, as a text. Of tags it makes a row each; in SQLite the
    /// rows come from [`StatsKey::of_file`].
    pub(crate) fn sql(self, dialect: Dialect) -> &'static str {
        match self {
            Self::Host => "host",
            Self::TrafficType => "traffic_type",
            Self::Agent => "agent",
            Self::Session => "session_id",
            Self::Run => "run_id",
            Self::Method => "method",
            Self::Status => match dialect {
                Dialect::Sqlite | Dialect::Postgres => "CAST(status_code AS text)",
                Dialect::ClickHouse => "toString(status_code)",
            },
            Self::Error => "error_type",
            Self::User => match dialect {
                Dialect::Sqlite => {
                    "(SELECT client_user FROM client_connections WHERE id = client_connection)"
                }
                Dialect::Postgres | Dialect::ClickHouse => "client_user",
            },
            Self::Instance => match dialect {
                Dialect::Sqlite => {
                    "(SELECT json_extract(origin, '$.instance') FROM runs WHERE id = run_id)"
                }
                Dialect::Postgres | Dialect::ClickHouse => "instance",
            },
            Self::Owner => match dialect {
                Dialect::Sqlite => {
                    "(SELECT json_extract(origin, '$.user') FROM runs WHERE id = run_id)"
                }
                Dialect::Postgres | Dialect::ClickHouse => "\"user\"",
            },
            Self::Process => match dialect {
                Dialect::Sqlite => {
                    "(SELECT process_name FROM client_connections WHERE id = client_connection)"
                }
                Dialect::Postgres | Dialect::ClickHouse => "process_name",
            },
            Self::Tag => match dialect {
                Dialect::Sqlite => "tag",
                Dialect::Postgres => {
                    "unnest(CASE flow_tags WHEN '{}' THEN ARRAY[NULL]::text[] ELSE flow_tags END)"
                }
                Dialect::ClickHouse => {
                    "arrayJoin(if(empty(flow_tags), [NULL], CAST(flow_tags, 'Array(Nullable(String))')))"
                }
            },
            Self::Day => match dialect {
                Dialect::Sqlite => "strftime('%Y-%m-%d', start_time / 1000000, 'unixepoch')",
                Dialect::Postgres => "to_char(start_time, 'YYYY-MM-DD')",
                Dialect::ClickHouse => "formatDateTime(start_time, '%Y-%m-%d', 'UTC')",
            },
            Self::Hour => match dialect {
                Dialect::Sqlite => "strftime('%Y-%m-%dT%H:00Z', start_time / 1000000, 'unixepoch')",
                Dialect::Postgres => "to_char(start_time, 'YYYY-MM-DD\"T\"HH24\":00Z\"')",
                Dialect::ClickHouse => "formatDateTime(start_time, '%Y-%m-%dT%H:00Z', 'UTC')",
            },
        }
    }

    /// The rows that are grouped, of the flows in a file that meet conditions.
    fn of_file(self, conditions: &str) -> String {
        let flows = format!("flows_shown WHERE {conditions}");
        match self {
            Self::Tag => format!(
                "(SELECT flows.*, each.value AS tag
                   FROM (SELECT * FROM {flows}) AS flows LEFT JOIN json_each(flows.tags) AS each)"
            ),
            _ => flows,
        }
    }

    fn is_time(self) -> bool {
        matches!(self, Self::Day | Self::Hour)
    }
}

impl Stats {
    /// Puts the groups in order.
    pub(crate) fn of(by: StatsKey, mut groups: Vec<StatsGroup>, total: StatsGroup) -> Self {
        groups.sort_unstable_by(|left, right| {
            let by_size = right.flows.cmp(&left.flows);
            match by.is_time() {
                true => left.key.cmp(&right.key),
                false => by_size.then_with(|| left.key.cmp(&right.key)),
            }
        });
        Self { groups, total }
    }
}

/// Sums up the flows of a file that match. SQLite knows no percentiles: it gathers the time spans of a
/// group, sixteen bytes of each flow.
pub(super) fn read(
    connection: &Connection,
    by: StatsKey,
    filter: Option<&Filter>,
) -> Result<Stats, StoreError> {
    let mut conditions = Conditions::default();
    conditions.add_filter(filter);
    let sql = format!(
        "SELECT {} AS group_key, count(*) AS flows,
           sum(coalesce(status_code, 0) >= 400) AS error_status, sum(state = 'failed') AS failed,
           sum(coalesce(tunnel_bytes_sent, request_body_size, 0)) AS request_bytes,
           sum(coalesce(tunnel_bytes_received, response_body_size, 0)) AS response_bytes,
           spans(iif(status_code IS NULL, NULL, duration_us)) AS durations,
           spans(iif(status_code IS NULL, NULL, first_byte_us)) AS first_bytes
         FROM {} GROUP BY group_key",
        by.sql(Dialect::Sqlite),
        by.of_file(conditions.sql())
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(conditions.values()))?;
    let (mut groups, mut total) = (Vec::new(), Sums::default());
    while let Some(row) = rows.next()? {
        let sums = Sums::read(row)?;
        total.add(&sums);
        groups.push(sums.finish());
    }
    Ok(Stats::of(by, groups, total.finish()))
}

/// The sums of one group, with the time spans that its percentiles are of.
#[derive(Default)]
struct Sums {
    group: StatsGroup,
    durations: Vec<i64>,
    first_bytes: Vec<i64>,
}

impl Sums {
    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let number = |column| Ok::<_, StoreError>(bytes(row, column)?.unwrap_or(0));
        Ok(Self {
            group: StatsGroup {
                key: row.get("group_key")?,
                flows: number("flows")?,
                error_status: number("error_status")?,
                failed: number("failed")?,
                request_bytes: number("request_bytes")?,
                response_bytes: number("response_bytes")?,
                duration_ms: None,
                first_byte_ms: None,
            },
            durations: read_spans(row, "durations")?,
            first_bytes: read_spans(row, "first_bytes")?,
        })
    }

    fn add(&mut self, other: &Self) {
        let (sums, others) = (&mut self.group, &other.group);
        sums.flows += others.flows;
        sums.error_status += others.error_status;
        sums.failed += others.failed;
        sums.request_bytes += others.request_bytes;
        sums.response_bytes += others.response_bytes;
        self.durations.extend_from_slice(&other.durations);
        self.first_bytes.extend_from_slice(&other.first_bytes);
    }

    fn finish(mut self) -> StatsGroup {
        self.group.duration_ms = percentiles(&mut self.durations);
        self.group.first_byte_ms = percentiles(&mut self.first_bytes);
        self.group
    }
}

/// The aggregate function `spans(number)`: all numbers of a group, eight bytes each.
struct Spans;

impl Aggregate<Vec<u8>, Vec<u8>> for Spans {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn step(&self, context: &mut Context<'_>, spans: &mut Vec<u8>) -> rusqlite::Result<()> {
        if let Some(span) = context.get::<Option<i64>>(0)? {
            spans.extend_from_slice(&span.to_ne_bytes());
        }
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, spans: Option<Vec<u8>>) -> rusqlite::Result<Vec<u8>> {
        Ok(spans.unwrap_or_default())
    }
}

fn read_spans(row: &Row<'_>, column: &str) -> Result<Vec<i64>, StoreError> {
    let (spans, _) = row
        .get_ref(column)?
        .as_blob_or_null()
        .map_err(rusqlite::Error::from)?
        .unwrap_or_default()
        .as_chunks();
    Ok(spans.iter().map(|span| i64::from_ne_bytes(*span)).collect())
}

/// Adds the function that sums need.
pub(super) fn add_functions(connection: &Connection) -> Result<(), StoreError> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_aggregate_function("spans", 1, flags, Spans)?;
    Ok(())
}
