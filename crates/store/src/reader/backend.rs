//! What each kind of database answers. [`crate::Reader`] turns it into what its callers want: `None`
//! becomes an error that says which ids there are.

use std::fmt;
use std::sync::Arc;

use traffic::rules::filter::Filter;

use super::{Changes, Marker, Page, Query, Session, Stats, StatsKey};
use crate::limits::PAGE_MESSAGES_MAX;
use crate::{
    Body, FlowDetail, FlowRecord, FlowRef, Hits, Message, Records, Run, RunId, RunRecord,
    RunSummary, Search, StoreError, StreamMessage,
};

/// A database that is read. Each answer is of one state of it.
pub(crate) trait Backend: fmt::Debug + Send {
    fn flows(&self, query: &Query) -> Result<Page, StoreError>;

    /// `None` if there is no such flow.
    fn flow(&self, flow: FlowRef) -> Result<Option<FlowDetail>, StoreError>;

    /// `None` if there is no such flow, `Some(None)` if the message had no body.
    #[expect(
        clippy::option_option,
        reason = "no flow and no body are different answers to the caller"
    )]
    fn body(&self, flow: FlowRef, message: Message) -> Result<Option<Option<Body>>, StoreError>;

    /// At most [`crate::limits::PAGE_MESSAGES_MAX`]; `None` if there is no such flow.
    fn messages(
        &self,
        flow: FlowRef,
        after: u64,
        limit: usize,
    ) -> Result<Option<Vec<StreamMessage>>, StoreError>;

    /// `None` if there is no such run.
    fn run(&self, run: RunId) -> Result<Option<Run>, StoreError>;

    /// The newest first.
    fn runs(&self, limit: usize) -> Result<Vec<Run>, StoreError>;

    fn summary(&self, run: Run) -> Result<RunSummary, StoreError>;

    /// What a typed id means; see [`crate::Reader::resolve`].
    fn resolve(&self, id: &str) -> Result<FlowRef, StoreError>;

    /// See [`crate::Reader::resolve_run`].
    fn resolve_run(&self, id: &str) -> Result<RunId, StoreError>;

    /// The present end, for `changes_since` and `records`.
    fn marker(&self) -> Result<Marker, StoreError>;

    /// At most [`crate::limits::CHANGES_ROWS_MAX`] new and as many changed flows.
    fn changes_since(&self, marker: Marker, filter: Option<&Filter>)
    -> Result<Changes, StoreError>;

    /// The sessions of agents that have flows, those first that were seen last.
    fn sessions(&self, limit: usize) -> Result<Vec<Session>, StoreError>;

    /// What the flows that match sum up to, in groups.
    fn stats(&self, by: StatsKey, filter: Option<&Filter>) -> Result<Stats, StoreError>;

    /// Whether there is an index of texts, which filters that ask for words need.
    fn has_texts(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// See [`crate::Reader::search`]; `None` where there is no index of texts.
    fn search(&self, _search: &Search) -> Result<Option<Hits>, StoreError> {
        Ok(None)
    }

    /// A flow with everything that is known of it; `None` if there is no such flow.
    fn record(&self, flow: FlowRef) -> Result<Option<FlowRecord>, StoreError> {
        let (Some(detail), Some(run)) = (self.flow(flow)?, self.run(flow.run)?) else {
            return Ok(None);
        };
        let body = |message| {
            let body = self.body(flow, message)?.flatten();
            Ok::<_, StoreError>(body.map(|body| body.bytes))
        };
        let mut messages: Vec<StreamMessage> = Vec::new();
        loop {
            let after = messages.last().map_or(0, |message| message.sequence);
            let page = self.messages(flow, after, PAGE_MESSAGES_MAX)?;
            match page.filter(|page| !page.is_empty()) {
                Some(page) => messages.extend(page),
                None => break,
            }
        }
        Ok(Some(FlowRecord {
            run: Arc::new(RunRecord::of(run)),
            detail,
            request_body: body(Message::Request)?,
            response_body: body(Message::Response)?,
            messages,
        }))
    }

    /// At most `limit` new and as many changed flows, and not many more bytes than
    /// [`crate::limits::RECORDS_BYTES_MAX`], but always one if there is one.
    fn records(&self, marker: Marker, limit: usize) -> Result<Records, StoreError>;
}
