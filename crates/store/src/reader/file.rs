//! Reads a SQLite file.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use traffic::rules::filter::Filter;

use super::backend::Backend;
use super::resolve::FileIds;
use super::{
    Changes, Marker, Page, Query, Session, Stats, StatsKey, changes, detail, messages, page,
    records, resolve, select, sessions, stats, summary,
};
use crate::database::open_for_reading;
use crate::{
    Body, FlowDetail, FlowRecord, FlowRef, Hits, Message, Records, Run, RunId, RunSummary, Search,
    StoreError, StreamMessage, search,
};

/// A SQLite file that is read; other processes may be writing to it.
#[derive(Debug)]
pub(super) struct FileBackend {
    connection: Connection,
    path: PathBuf,
    /// Whether the index of texts is attached.
    has_texts: Cell<bool>,
}

impl FileBackend {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = open_for_reading(path)?;
        select::add_functions(&connection)?;
        stats::add_functions(&connection)?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            has_texts: Cell::new(false),
        })
    }

    /// Runs several statements on one state of the database.
    fn snapshot<T>(&self, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let transaction = self.connection.unchecked_transaction()?;
        let answer = read();
        // Nothing was written; that the snapshot ends is all there is to it.
        transaction.finish()?;
        answer
    }
}

impl Backend for FileBackend {
    fn flows(&self, query: &Query) -> Result<Page, StoreError> {
        self.snapshot(|| page::read(&self.connection, query))
    }

    fn flow(&self, flow: FlowRef) -> Result<Option<FlowDetail>, StoreError> {
        self.snapshot(|| detail::read(&self.connection, flow))
    }

    fn body(&self, flow: FlowRef, message: Message) -> Result<Option<Option<Body>>, StoreError> {
        self.snapshot(|| detail::read_body(&self.connection, flow, message))
    }

    fn messages(
        &self,
        flow: FlowRef,
        after: u64,
        limit: usize,
    ) -> Result<Option<Vec<StreamMessage>>, StoreError> {
        self.snapshot(|| messages::read(&self.connection, flow, after, limit))
    }

    fn run(&self, run: RunId) -> Result<Option<Run>, StoreError> {
        summary::read_run(&self.connection, run)
    }

    fn runs(&self, limit: usize) -> Result<Vec<Run>, StoreError> {
        summary::read_runs(&self.connection, limit)
    }

    fn summary(&self, run: Run) -> Result<RunSummary, StoreError> {
        self.snapshot(|| summary::read(&self.connection, run))
    }

    fn resolve(&self, id: &str) -> Result<FlowRef, StoreError> {
        resolve::flow(&FileIds(&self.connection), id)
    }

    fn resolve_run(&self, id: &str) -> Result<RunId, StoreError> {
        resolve::run(&FileIds(&self.connection), id)
    }

    fn marker(&self) -> Result<Marker, StoreError> {
        changes::marker(&self.connection)
    }

    fn changes_since(
        &self,
        marker: Marker,
        filter: Option<&Filter>,
    ) -> Result<Changes, StoreError> {
        self.snapshot(|| changes::read(&self.connection, marker, filter))
    }

    fn has_texts(&self) -> Result<bool, StoreError> {
        if !self.has_texts.get() {
            self.has_texts
                .set(search::attach(&self.connection, &self.path)?);
        }
        Ok(self.has_texts.get())
    }

    fn search(&self, search: &Search) -> Result<Option<Hits>, StoreError> {
        if !self.has_texts()? {
            return Ok(None);
        }
        self.snapshot(|| search::find(&self.connection, search))
            .map(Some)
    }

    fn record(&self, flow: FlowRef) -> Result<Option<FlowRecord>, StoreError> {
        self.snapshot(|| records::read_one(&self.connection, flow))
    }

    fn sessions(&self, limit: usize) -> Result<Vec<Session>, StoreError> {
        sessions::read(&self.connection, limit)
    }

    fn stats(&self, by: StatsKey, filter: Option<&Filter>) -> Result<Stats, StoreError> {
        self.snapshot(|| stats::read(&self.connection, by, filter))
    }

    fn records(&self, marker: Marker, limit: usize) -> Result<Records, StoreError> {
        self.snapshot(|| records::read(&self.connection, marker, limit))
    }
}
