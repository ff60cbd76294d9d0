//! The reading side: answers questions about a database, with or without a proxy running.
//!
//! Each answer is read in one snapshot; other processes may be writing meanwhile.

pub(crate) mod backend;
mod changes;
pub(crate) mod detail;
mod file;
mod messages;
mod packed;
pub(crate) mod page;
pub(crate) mod records;
pub(crate) mod resolve;
pub(crate) mod row;
pub(crate) mod select;
mod sessions;
mod stats;
pub(crate) mod summary;

use std::path::Path;

use traffic::rules::filter::Filter;

use self::backend::Backend;
pub use self::changes::{Changes, Marker};
use self::file::FileBackend;
pub use self::page::{Cursor, Order, Page, Query, SortKey};
pub(crate) use self::resolve::{flow_of_uuid, row_of};
pub use self::sessions::Session;
pub use self::stats::{Stats, StatsGroup, StatsKey};
use crate::clickhouse::ClickHouseBackend;
use crate::postgres::PostgresBackend;
use crate::{
    Body, FlowDetail, FlowRecord, FlowRef, Hits, Location, Message, Records, Run, RunId,
    RunSummary, Search, StoreError, StreamMessage, UnknownId,
};

/// A database that is read.
#[derive(Debug)]
pub struct Reader {
    backend: Box<dyn Backend>,
}

impl Reader {
    /// Opens an existing database for reading; other processes may be writing to it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            backend: Box::new(FileBackend::open(path)?),
        })
    }

    /// Opens what is at a location.
    pub fn open_at(location: &Location) -> Result<Self, StoreError> {
        match location {
            Location::File(path) => Self::open(path),
            Location::Postgres(url) => Ok(Self {
                backend: Box::new(PostgresBackend::connect(url)?),
            }),
            Location::ClickHouse(url) => Ok(Self {
                backend: Box::new(ClickHouseBackend::connect(url)?),
            }),
        }
    }

    /// One page of flows.
    pub fn flows(&self, query: &Query) -> Result<Page, StoreError> {
        self.check_words(query.filter.as_ref())?;
        self.backend.flows(query)
    }

    /// Flows whose texts have some words. They are found in the index of texts as it is: see
    /// [`crate::TextIndex`].
    pub fn search(&self, search: &Search) -> Result<Hits, StoreError> {
        self.check_words(search.filter.as_ref())?;
        self.backend.search(search)?.ok_or(StoreError::NoTexts)
    }

    /// Everything about one flow but its bodies.
    pub fn flow(&self, flow: FlowRef) -> Result<FlowDetail, StoreError> {
        let found = self.backend.flow(flow)?;
        found.map_or_else(|| Err(self.unknown(flow)), Ok)
    }

    /// The body of one message of a flow, as received; `None` if it had none.
    pub fn body(&self, flow: FlowRef, message: Message) -> Result<Option<Body>, StoreError> {
        let found = self.backend.body(flow, message)?;
        found.map_or_else(|| Err(self.unknown(flow)), Ok)
    }

    /// What a WebSocket carried after the message with number `after`, in order: at most a thousand
    /// messages, and at most `limit`.
    pub fn messages(
        &self,
        flow: FlowRef,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StreamMessage>, StoreError> {
        let found = self.backend.messages(flow, after, limit)?;
        found.map_or_else(|| Err(self.unknown(flow)), Ok)
    }

    /// One run.
    pub fn run(&self, run: RunId) -> Result<Run, StoreError> {
        self.backend.run(run)?.ok_or_else(|| {
            StoreError::UnknownId(UnknownId::NoRun {
                text: run.to_string(),
            })
        })
    }

    /// The runs, the newest first.
    pub fn runs(&self, limit: usize) -> Result<Vec<Run>, StoreError> {
        self.backend.runs(limit)
    }

    /// What a run sums up to.
    pub fn summary(&self, run: RunId) -> Result<RunSummary, StoreError> {
        let run = self.run(run)?;
        self.backend.summary(run)
    }

    /// The flow that a typed id means: `k7q2.31`, `@last.31`, `@-2.31`, a name or the start of a
    /// run's id instead of it, or a UUID.
    pub fn resolve(&self, id: &str) -> Result<FlowRef, StoreError> {
        self.backend.resolve(id)
    }

    /// The run that a typed id means: `k7q2`, `@last`, `@-2` (the one before the last), a name, or
    /// the start of an id.
    pub fn resolve_run(&self, id: &str) -> Result<RunId, StoreError> {
        self.backend.resolve_run(id)
    }

    /// The present end of the record, for [`Reader::changes_since`]. `Marker::default()` is its
    /// beginning.
    pub fn marker(&self) -> Result<Marker, StoreError> {
        self.backend.marker()
    }

    /// Flows that are new or changed since a marker, at most a thousand; ask again if there may be
    /// more. Costs two index lookups when nothing changed.
    pub fn changes_since(
        &self,
        marker: Marker,
        filter: Option<&Filter>,
    ) -> Result<Changes, StoreError> {
        self.check_words(filter)?;
        self.backend.changes_since(marker, filter)
    }

    /// Flows that are new or changed since a marker, with everything that is known of them: at most
    /// `limit` new and as many changed ones, and about [`crate::limits::RECORDS_BYTES_MAX`] bytes. Ask
    /// again until there are none.
    pub fn records(&self, marker: Marker, limit: usize) -> Result<Records, StoreError> {
        self.backend.records(marker, limit)
    }

    /// One flow with everything that is known of it, its bodies and messages too: memory holds all of it.
    pub fn record(&self, flow: FlowRef) -> Result<FlowRecord, StoreError> {
        let found = self.backend.record(flow)?;
        found.map_or_else(|| Err(self.unknown(flow)), Ok)
    }

    /// The sessions of agents that have flows, those first that were seen last.
    pub fn sessions(&self, limit: usize) -> Result<Vec<Session>, StoreError> {
        self.backend.sessions(limit)
    }

    /// What the flows that match sum up to, in groups.
    pub fn stats(&self, by: StatsKey, filter: Option<&Filter>) -> Result<Stats, StoreError> {
        self.check_words(filter)?;
        let mut stats = self.backend.stats(by, filter)?;
        if by == StatsKey::Tag {
            // A flow is in the group of each of its tags, and counts once among all.
            stats.total = self.backend.stats(StatsKey::Run, filter)?.total;
        }
        Ok(stats)
    }

    /// A filter that asks for words needs an index of texts.
    fn check_words(&self, filter: Option<&Filter>) -> Result<(), StoreError> {
        match filter.is_some_and(Filter::asks_for_words) && !self.backend.has_texts()? {
            true => Err(StoreError::NoTexts),
            false => Ok(()),
        }
    }

    fn unknown(&self, flow: FlowRef) -> StoreError {
        match self.backend.run(flow.run) {
            Ok(Some(run)) => StoreError::UnknownId(UnknownId::NoFlow {
                run: flow.run,
                flows: run.flows,
            }),
            Ok(None) => StoreError::UnknownId(UnknownId::NoRun {
                text: flow.run.to_string(),
            }),
            Err(error) => error,
        }
    }
}
