//! The reading side: answers questions about a database, with or without a proxy running.

use std::path::Path;

use traffic::rules::filter::Filter;

use crate::{Body, FlowDetail, FlowRef, FlowRow, Message, Run, RunId, RunSummary, StoreError};

/// A database that is read.
#[derive(Debug)]
pub struct Reader {}

/// Which flows, in which order, how many.
#[derive(Clone, Debug)]
pub struct Query {
    /// Only flows that match.
    pub filter: Option<Filter>,
    /// Only flows of this run.
    pub run: Option<RunId>,
    /// The order.
    pub order: Order,
    /// How many at most.
    pub limit: usize,
    /// Go on after this place; it is of use with the same filter, run and order only.
    pub after: Option<Cursor>,
    /// Also count all flows that match.
    pub with_total: bool,
}

/// The order of a list. Flows that are equal in it come in the order of their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    /// By what.
    pub by: SortKey,
    /// The smallest (oldest) first.
    pub ascending: bool,
}

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SortKey {
    /// When the flow started.
    Time,
    /// How long it took; open flows count as zero.
    Duration,
    /// Bytes of both bodies.
    Size,
}

/// A place in a list. Its text form is opaque and starts with `c_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The flows.
    pub rows: Vec<FlowRow>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
    /// How many flows match in all, where that was asked for.
    pub total: Option<u64>,
}

/// How far a follower has read. Comes from [`Reader::marker`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marker {}

/// What changed since a marker.
#[derive(Clone, Debug)]
pub struct Changes {
    /// New flows and flows that changed, each once, in the order of their time.
    pub rows: Vec<FlowRow>,
    /// Where to go on.
    pub marker: Marker,
}

impl Default for Query {
    /// The fifty newest flows.
    fn default() -> Self {
        Self {
            filter: None,
            run: None,
            order: Order {
                by: SortKey::Time,
                ascending: false,
            },
            limit: 50,
            after: None,
            with_total: false,
        }
    }
}

impl Reader {
    /// Opens an existing database for reading; other processes may be writing to it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let _ = path;
        Ok(Self {})
    }

    /// One page of flows.
    pub fn flows(&self, query: &Query) -> Result<Page, StoreError> {
        let _ = query;
        Ok(Page {
            rows: Vec::new(),
            next: None,
            total: None,
        })
    }

    /// Everything about one flow but its bodies.
    pub fn flow(&self, flow: FlowRef) -> Result<FlowDetail, StoreError> {
        Err(unknown(flow))
    }

    /// The body of one message of a flow; `None` if it had none.
    pub fn body(&self, flow: FlowRef, message: Message) -> Result<Option<Body>, StoreError> {
        let _ = message;
        Err(unknown(flow))
    }

    /// One run.
    pub fn run(&self, run: RunId) -> Result<Run, StoreError> {
        Err(unknown(FlowRef { run, seq: 0 }))
    }

    /// The runs, the newest first.
    pub fn runs(&self, limit: usize) -> Result<Vec<Run>, StoreError> {
        let _ = limit;
        Ok(Vec::new())
    }

    /// What a run sums up to.
    pub fn summary(&self, run: RunId) -> Result<RunSummary, StoreError> {
        Err(unknown(FlowRef { run, seq: 0 }))
    }

    /// The flow that a typed id means: `k7q2.31`, `@last.31`, `@-2.31`, or a UUID.
    pub fn resolve(&self, id: &str) -> Result<FlowRef, StoreError> {
        let flow = id.parse()?;
        Err(unknown(flow))
    }

    /// The run that a typed id means: `k7q2`, `@last`, `@-2`, a name, or the start of an id.
    pub fn resolve_run(&self, id: &str) -> Result<RunId, StoreError> {
        Ok(id.parse()?)
    }

    /// The present end of the record, for [`Reader::changes_since`].
    pub fn marker(&self) -> Result<Marker, StoreError> {
        Ok(Marker::default())
    }

    /// Flows that are new or changed since a marker. Cheap enough to be asked ten times a second.
    pub fn changes_since(
        &self,
        marker: Marker,
        filter: Option<&Filter>,
    ) -> Result<Changes, StoreError> {
        let _ = filter;
        Ok(Changes {
            rows: Vec::new(),
            marker,
        })
    }
}

fn unknown(flow: FlowRef) -> StoreError {
    StoreError::UnknownId(crate::UnknownId::NoFlow {
        run: flow.run,
        flows: 0,
    })
}
