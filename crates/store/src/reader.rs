//! The reading side: answers questions about a database, with or without a proxy running.
//!
//! Each answer is read in one snapshot; other processes may be writing meanwhile.

mod changes;
mod detail;
mod messages;
mod packed;
mod page;
mod resolve;
mod row;
mod select;
mod summary;

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};
use traffic::rules::filter::Filter;

pub use self::changes::{Changes, Marker};
pub use self::page::{Cursor, Order, Page, Query, SortKey};
use crate::database::open_for_reading;
use crate::{
    Body, FlowDetail, FlowRef, Message, Run, RunId, RunSummary, StoreError, StreamMessage,
    UnknownId,
};

/// A database that is read.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Reader {
    /// Opens an existing database for reading; other processes may be writing to it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = open_for_reading(path)?;
        select::add_functions(&connection)?;
        Ok(Self { connection })
    }

    /// One page of flows.
    pub fn flows(&self, query: &Query) -> Result<Page, StoreError> {
        self.snapshot(|| page::read(&self.connection, query))
    }

    /// Everything about one flow but its bodies.
    pub fn flow(&self, flow: FlowRef) -> Result<FlowDetail, StoreError> {
        let found = self.snapshot(|| detail::read(&self.connection, flow))?;
        found.map_or_else(|| Err(self.unknown(flow)), Ok)
    }

    /// The body of one message of a flow, as received; `None` if it had none.
    pub fn body(&self, flow: FlowRef, message: Message) -> Result<Option<Body>, StoreError> {
        let found = self.snapshot(|| detail::read_body(&self.connection, flow, message))?;
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
        let read = || messages::read(&self.connection, flow, after, limit);
        self.snapshot(read)?
            .map_or_else(|| Err(self.unknown(flow)), Ok)
    }

    /// One run.
    pub fn run(&self, run: RunId) -> Result<Run, StoreError> {
        summary::read_run(&self.connection, run)?.ok_or_else(|| {
            StoreError::UnknownId(UnknownId::NoRun {
                text: run.to_string(),
            })
        })
    }

    /// The runs, the newest first.
    pub fn runs(&self, limit: usize) -> Result<Vec<Run>, StoreError> {
        summary::read_runs(&self.connection, limit)
    }

    /// What a run sums up to.
    pub fn summary(&self, run: RunId) -> Result<RunSummary, StoreError> {
        let run = self.run(run)?;
        self.snapshot(|| summary::read(&self.connection, run))
    }

    /// The flow that a typed id means: `k7q2.31`, `@last.31`, `@-2.31`, a name or the start of a
    /// run's id instead of it, or a UUID.
    pub fn resolve(&self, id: &str) -> Result<FlowRef, StoreError> {
        resolve::flow(&self.connection, id)
    }

    /// The run that a typed id means: `k7q2`, `@last`, `@-2` (the one before the last), a name, or
    /// the start of an id.
    pub fn resolve_run(&self, id: &str) -> Result<RunId, StoreError> {
        resolve::run(&self.connection, id)
    }

    /// The present end of the record, for [`Reader::changes_since`]. `Marker::default()` is its
    /// beginning.
    pub fn marker(&self) -> Result<Marker, StoreError> {
        changes::marker(&self.connection)
    }

    /// Flows that are new or changed since a marker, at most a thousand; ask again if there may be
    /// more. Costs two index lookups when nothing changed.
    pub fn changes_since(
        &self,
        marker: Marker,
        filter: Option<&Filter>,
    ) -> Result<Changes, StoreError> {
        self.snapshot(|| changes::read(&self.connection, marker, filter))
    }

    /// Runs several statements on one state of the database.
    fn snapshot<T>(&self, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let transaction = self.connection.unchecked_transaction()?;
        let answer = read();
        // Nothing was written; that the snapshot ends is all there is to it.
        transaction.finish()?;
        answer
    }

    fn unknown(&self, flow: FlowRef) -> StoreError {
        let flows = resolve::flows_of(&self.connection, flow.run).optional();
        match flows {
            Ok(Some(flows)) => StoreError::UnknownId(UnknownId::NoFlow {
                run: flow.run,
                flows,
            }),
            Ok(None) => StoreError::UnknownId(UnknownId::NoRun {
                text: flow.run.to_string(),
            }),
            Err(error) => error.into(),
        }
    }
}
