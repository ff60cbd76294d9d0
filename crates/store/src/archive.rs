//! Where the flows of many machines are kept: a database that several oriels write to.
//!
//! The record of a machine is always a SQLite file. With an archive that file is its outbox: a thread
//! copies from it ([`crate::shipper`]), and may do so twice after a failure.

mod file;
mod pages;
pub(crate) mod removal;
mod rows;

use std::fmt;
use std::sync::Arc;

pub(crate) use self::file::FileArchive;
pub(crate) use self::pages::{Listed, read_page};
pub(crate) use self::rows::{fields_object, latest, run_id_candidate};

use crate::{
    Annotate, AnnotateError, Annotation, Doomed, FlowRecord, GapRecord, Progress, Removal,
    RunRecord, SessionName, StoreError,
};

/// A database that several oriels write to. All calls wait for it.
///
/// Errors: [`StoreError::Unavailable`] where a later try may succeed, with a new connection;
/// [`StoreError::NotStorable`] where this batch never will; the others as they say.
pub trait Archive: fmt::Debug + Send {
    /// Brings the schema to what this program knows; several may do so at once. Refuses a newer one.
    fn migrate(&mut self) -> Result<Migrated, StoreError>;

    /// Stores a batch whole or not at all; it is durable when this returns. What is there already is
    /// replaced by what comes later: a flow is known by the UUID of its run and its number in it, a run
    /// by its UUID, a gap by its run and number. A run whose id is taken by another gets a new one.
    fn write(&mut self, batch: &ArchiveBatch) -> Result<(), StoreError>;

    /// What would be removed. A flow of those that were chosen by name which is not there is passed over.
    /// Errors: [`StoreError::NoSizes`] where something is to go for its size.
    fn plan_removal(&mut self, doomed: &Doomed<'_>) -> Result<Removal, StoreError>;

    /// Removes it in steps that others do not wait for. `progress` is told after each, and says whether to
    /// go on. What comes back from a machine that still has it is there again.
    fn remove(
        &mut self,
        doomed: &Doomed<'_>,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Removal, StoreError>;

    /// Changes what is said about the flow with this UUID, and answers what is said now; `None` if it is not
    /// there. A machine that still has the flow replaces it when it copies that flow again.
    fn annotate(
        &mut self,
        uuid: &str,
        change: &Annotate,
    ) -> Result<Option<Annotation>, AnnotateError>;

    /// Gives a session a name; an empty one takes it away. Answers whether flows of it are there. What comes
    /// with flows does not replace it.
    fn rename_session(&mut self, id: &str, name: &str) -> Result<bool, StoreError>;

    /// Makes one session of two: what is there of `other`, and will come of it, belongs to `into`. Answers
    /// whether flows of both are there.
    fn merge_sessions(&mut self, into: &str, other: &str) -> Result<bool, StoreError>;

    /// What there is.
    fn status(&mut self) -> Result<ArchiveStatus, StoreError>;
}

/// What is written at once. The runs of flows and gaps need not be among the runs.
#[derive(Clone, Debug, Default)]
pub struct ArchiveBatch {
    /// Runs that began or ended.
    pub runs: Vec<Arc<RunRecord>>,
    /// Flows, new and changed.
    pub flows: Vec<FlowRecord>,
    /// Losses.
    pub gaps: Vec<GapRecord>,
    /// Names of sessions, for those that were given none where this is written.
    pub sessions: Vec<SessionName>,
}

/// What bringing a schema up to date did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Steps that were applied before.
    pub from: u32,
    /// Steps that are applied now.
    pub to: u32,
}

/// What there is in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveStatus {
    /// What the server calls itself, for example `PostgreSQL 16.4`.
    pub server: String,
    /// Steps of the schema that are applied; 0 if it has none of ours.
    pub schema: u32,
    /// Newest step that this program knows.
    pub known: u32,
    /// Runs.
    pub runs: u64,
    /// Flows; an archive may estimate them.
    pub flows: u64,
    /// Bytes that it takes, where the server tells.
    pub bytes: Option<u64>,
}

impl ArchiveBatch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
            && self.flows.is_empty()
            && self.gaps.is_empty()
            && self.sessions.is_empty()
    }
}
