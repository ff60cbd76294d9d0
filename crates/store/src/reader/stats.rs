//! Sums over flows, grouped by one of their properties.

use std::collections::HashMap;

use traffic::rules::filter::Filter;

use super::backend::Backend;
use super::summary::percentiles;
use super::{Order, Query, SortKey};
use crate::limits::PAGE_ROWS_MAX;
use crate::{FlowRow, FlowState, Percentiles, StoreError};

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
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }

    fn of(self, row: &FlowRow) -> Option<String> {
        let session = row.session.as_ref();
        let start = |form: &str| {
            let at = jiff::Timestamp::from_microsecond(row.started_at.0).ok()?;
            Some(at.strftime(form).to_string())
        };
        match self {
            Self::Host => Some(row.host.clone()),
            Self::TrafficType => Some(row.traffic_type.as_str().to_owned()),
            Self::Agent => session?.agent.clone(),
            Self::Session => Some(session?.id.clone()),
            Self::Run => Some(row.id.run.to_string()),
            Self::Method => Some(row.method.clone()),
            Self::Status => row.status.map(|status| status.to_string()),
            Self::Day => start("%Y-%m-%d"),
            Self::Hour => start("%Y-%m-%dT%H:00Z"),
        }
    }

    fn is_time(self) -> bool {
        matches!(self, Self::Day | Self::Hour)
    }
}

/// The sums of one group so far. Of each flow sixteen bytes stay, for the percentiles.
#[derive(Default)]
struct Sums {
    group: StatsGroup,
    durations: Vec<i64>,
    first_bytes: Vec<i64>,
}

impl Sums {
    fn add(&mut self, row: &FlowRow) {
        let group = &mut self.group;
        group.flows += 1;
        group.error_status += u64::from(row.status.is_some_and(|status| status >= 400));
        group.failed += u64::from(row.state == FlowState::Failed);
        group.request_bytes += row.request_bytes.unwrap_or(0);
        group.response_bytes += row.response_bytes.unwrap_or(0);
        if row.status.is_some() {
            let ended = row.ended_at.map(|at| at.micros_since(row.started_at));
            self.durations.extend(ended);
            self.first_bytes.extend(row.first_byte_ms.map(micros));
        }
    }

    fn finish(mut self, key: Option<String>) -> StatsGroup {
        self.group.key = key;
        self.group.duration_ms = percentiles(&mut self.durations);
        self.group.first_byte_ms = percentiles(&mut self.first_bytes);
        self.group
    }
}

/// Sums up the flows that match, page by page.
pub(super) fn read(
    backend: &dyn Backend,
    by: StatsKey,
    filter: Option<Filter>,
) -> Result<Stats, StoreError> {
    let mut groups: HashMap<Option<String>, Sums> = HashMap::new();
    let mut total = Sums::default();
    each_flow(backend, filter, |row| {
        groups.entry(by.of(row)).or_default().add(row);
        total.add(row);
    })?;
    let mut groups: Vec<StatsGroup> = groups
        .into_iter()
        .map(|(key, sums)| sums.finish(key))
        .collect();
    groups.sort_unstable_by(|left, right| {
        let by_size = right.flows.cmp(&left.flows);
        match by.is_time() {
            true => left.key.cmp(&right.key),
            false => by_size.then_with(|| left.key.cmp(&right.key)),
        }
    });
    Ok(Stats {
        groups,
        total: total.finish(None),
    })
}

/// Hands over the flows that match, the oldest first.
pub(super) fn each_flow(
    backend: &(impl Backend + ?Sized),
    filter: Option<Filter>,
    mut take: impl FnMut(&FlowRow),
) -> Result<(), StoreError> {
    let mut query = Query {
        filter,
        order: Order {
            by: SortKey::Time,
            ascending: true,
        },
        limit: PAGE_ROWS_MAX,
        ..Query::default()
    };
    loop {
        let page = backend.flows(&query)?;
        page.rows.iter().for_each(&mut take);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(()),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "2^53 microseconds are 285 years"
)]
fn micros(millis: f64) -> i64 {
    (millis * 1000.0).round() as i64
}
