//! The way round a database that cannot be written: into the spool, and back when it can be.
//!
//! Flows that ended, what is missing, and ends of runs go to the spool; each is there once. Of open flows
//! the heads go there, as they go to the database otherwise: when they begin, and when their answer does.
//! So a process that dies leaves no flow unseen. The rest of them stays in memory until they end.
//!
//! When the database can be written again, open flows go there first, and the spool is merged after that:
//! of a flow that is there, less is never more. Another process may have merged a finished file of the
//! spool before, so flows whose head is in the spool are looked for before they are stored.
//!
//! Everything is done by the writer's thread, in turn with what arrives.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use tracing::{info, warn};
use traffic::FlowId;

use super::assemble::{Assembler, Flow, RunFlows};
use super::queue::Trouble;
use super::record_file::RecordFile;
use super::{Orders, trouble};
use crate::limits::{
    CLOSE_TIMEOUT, SEGMENT_BYTES_MAX, SPOOL_AFTER, SPOOL_BUSY_TIMEOUT, SPOOL_CONTENT_BYTES_MAX,
    SPOOL_LOOK_EVERY, SPOOL_RETRY_PAUSE,
};
use crate::process::ProcessMark;
use crate::shipper::instant;
use crate::spool::{Merge, Packed, SegmentWriter, Spool};
use crate::{EndRun, RunId, StoreError, database, importer};

/// What a writer does when it cannot write.
#[derive(Debug)]
pub(crate) struct Detour<'c> {
    file: &'c RecordFile,
    spool: &'c Spool,
    orders: &'c Orders,
    taken: Option<Taken>,
    merge: Option<Merge<'c>>,
    /// When the spool is merged on, or looked at again.
    merge_at: Instant,
    /// Why that did not go.
    merge_trouble: Option<Trouble>,
}

/// It is under way.
#[derive(Debug)]
struct Taken {
    trouble: Trouble,
    /// When the database is tried again.
    try_at: Instant,
    segment: Option<SegmentWriter>,
    begun: Begun,
    /// It was said that the spool cannot be written either.
    told: bool,
}

/// Open flows whose head is in the spool, and whether that of their response is.
#[derive(Debug, Default)]
struct Begun(HashMap<(RunId, FlowId), bool>);

impl<'c> Detour<'c> {
    /// What an earlier process left is merged first. A file that is not open is gone round at once.
    pub(crate) fn new(file: &'c RecordFile, spool: &'c Spool, orders: &'c Orders) -> Self {
        let mut detour = Self {
            file,
            spool,
            orders,
            taken: None,
            merge: None,
            merge_at: instant(),
            merge_trouble: None,
        };
        if spool.is_allowed() {
            file.wait_at_most(SPOOL_AFTER);
        }
        if let Some(error) = file.trouble() {
            detour.begin(error, trouble(error));
        }
        detour
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.taken.is_some()
    }

    /// Whether what comes next is tried to be written to the database.
    pub(crate) fn tries_database(&self) -> bool {
        let taken = self.taken.as_ref();
        taken.is_none_or(|taken| taken.try_at <= instant())
    }

    /// How long the writer may wait for something to store before there is something else to do.
    pub(crate) fn patience(&self) -> Duration {
        let taken = self.taken.as_ref();
        let at = taken.map_or(self.merge_at, |taken| taken.try_at);
        at.saturating_duration_since(instant())
    }

    /// Why something is in the spool.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        let taken = self.taken.as_ref().map(|taken| &taken.trouble);
        taken.or(self.merge_trouble.as_ref()).cloned()
    }

    /// The database cannot be written.
    pub(crate) fn begin(&mut self, error: &StoreError, trouble: Trouble) {
        if !self.spool.is_allowed() {
            return;
        }
        let try_at = instant() + SPOOL_RETRY_PAUSE;
        if let Some(taken) = &mut self.taken {
            taken.trouble = trouble;
            taken.try_at = try_at;
            return;
        }
        let why = error.in_one_line();
        warn!(
            why,
            "the database cannot be written now: flows go to the spool"
        );
        self.file.wait_at_most(SPOOL_BUSY_TIMEOUT);
        self.taken = Some(Taken {
            trouble,
            try_at,
            segment: None,
            begun: Begun::default(),
            told: false,
        });
    }

    /// The database was written.
    pub(crate) fn end(&mut self) {
        if self.taken.take().is_some() {
            info!("the database can be written again");
            self.file.wait_at_most(SPOOL_AFTER);
            self.merge = None;
            self.merge_at = instant();
        }
    }

    /// Stores in the spool what ended, and takes it from where it is. What is stored when it fails is
    /// taken too, so that it is there once.
    pub(crate) fn store(
        &mut self,
        assembler: &mut Assembler,
        ends: &mut Vec<(RunId, EndRun)>,
    ) -> Result<(), StoreError> {
        let Some(taken) = &mut self.taken else {
            return Err(StoreError::SpoolFull);
        };
        let stored = loop {
            let content = Content::of(assembler, ends, &taken.begun);
            if content.is_empty() {
                break Ok(());
            }
            let packed = content.pack(self.spool, self.orders, &taken.begun);
            if let Err(error) = packed.and_then(|packed| taken.append(self.spool, &packed)) {
                break Err(error);
            }
            taken.begun.note(&content);
            let (count, is_last) = (content.ended.len(), content.is_last);
            assembler.settle_ended(count);
            if is_last {
                ends.clear();
            }
        };
        if let Err(error) = &stored
            && !taken.told
        {
            let why = error.in_one_line();
            warn!(
                why,
                "the spool cannot be written either: flows wait in memory"
            );
        }
        taken.told = stored.is_err();
        stored
    }

    /// Whether the head of a flow is in the spool, and so may have been merged by another process.
    pub(crate) fn has_head_of(&self, flow: &Flow) -> bool {
        let taken = self.taken.as_ref();
        taken.is_some_and(|taken| taken.begun.0.contains_key(&key(flow)))
    }

    /// A run has another id from now on.
    pub(crate) fn rename_run(&mut self, from: RunId, to: RunId) {
        if let Some(taken) = &mut self.taken {
            taken.begun.rename_run(from, to);
        }
    }

    /// Merges a part of what is in the spool, if the database can be written and it is time to.
    pub(crate) fn merge_some(&mut self) {
        if self.taken.is_none() && self.merge_at <= instant() {
            self.merge_step();
        }
    }

    /// Merges all that is in the spool, as far as it goes and the time to close allows.
    pub(crate) fn merge_all(&mut self) {
        let deadline = instant() + CLOSE_TIMEOUT;
        while instant() < deadline && self.merge_step() {}
    }

    /// Answers whether to go on.
    fn merge_step(&mut self) -> bool {
        let spool = self.spool;
        let merge = self.merge.get_or_insert_with(|| Merge::new(spool));
        let merged = merge.step();
        self.merge_trouble = merged.as_ref().err().map(trouble);
        match merged {
            Ok(true) => true,
            Ok(false) => {
                self.merge = None;
                self.merge_at = instant() + SPOOL_LOOK_EVERY;
                false
            }
            Err(error) => {
                tracing::debug!(%error, "what is in the spool stays there for now");
                self.merge_at = instant() + SPOOL_RETRY_PAUSE;
                false
            }
        }
    }
}

impl Taken {
    fn append(&mut self, spool: &Spool, content: &Packed) -> Result<(), StoreError> {
        if !spool.has_room(content.bytes()) {
            return Err(StoreError::SpoolFull);
        }
        if let Some(segment) = &mut self.segment
            && segment.bytes() < SEGMENT_BYTES_MAX
            && segment.append(content).is_ok()
        {
            return Ok(());
        }
        // It is large enough, or as large as the system allows, or the disk is full.
        self.segment = None;
        let mut segment = spool.begin().map_err(not_writable)?;
        if let Err(error) = segment.append(content) {
            segment.discard();
            return Err(not_writable(error));
        }
        self.segment = Some(segment);
        Ok(())
    }
}

impl Begun {
    /// Whether the head of an open flow, or that of its response, is to go to the spool.
    fn lacks(&self, flow: &Flow) -> bool {
        let has_answer = self.0.get(&key(flow));
        has_answer.is_none_or(|has_answer| !has_answer && flow.response_head.is_some())
    }

    /// A content is in the spool.
    fn note(&mut self, content: &Content<'_>) {
        for flow in &content.ended {
            self.0.remove(&key(flow));
        }
        for flow in &content.open {
            self.0.insert(key(flow), flow.response_head.is_some());
        }
    }

    fn rename_run(&mut self, from: RunId, to: RunId) {
        let named = std::mem::take(&mut self.0).into_iter();
        self.0 = named
            .map(|((run, flow), answer)| ((if run == from { to } else { run }, flow), answer))
            .collect();
    }
}

fn key(flow: &Flow) -> (RunId, FlowId) {
    (flow.run, flow.started.flow)
}

/// What goes to the spool at once.
struct Content<'a> {
    ended: Vec<&'a Flow>,
    /// Of these, the heads.
    open: Vec<&'a Flow>,
    /// What is missing and which runs ended go with the last flows that ended.
    runs: &'a [RunFlows],
    ends: &'a [(RunId, EndRun)],
    is_last: bool,
}

impl<'a> Content<'a> {
    /// As many of the flows that ended, and of the open ones that changed, as fit, at least one.
    fn of(assembler: &'a Assembler, ends: &'a [(RunId, EndRun)], begun: &Begun) -> Self {
        let mut bytes = 0;
        let mut fits = |size: usize| {
            let fits = bytes < SPOOL_CONTENT_BYTES_MAX;
            bytes += size;
            fits
        };
        let ended = assembler.ended.iter().map(Box::as_ref);
        let ended = ended.take_while(|flow: &&Flow| fits(flow.bytes()));
        let ended: Vec<&Flow> = ended.collect();
        let is_last = ended.len() == assembler.ended.len();
        let changed = assembler.runs().iter().flat_map(RunFlows::changed_flows);
        let open = changed
            .filter(|flow| begun.lacks(flow))
            .take_while(|flow| fits(flow.head_bytes()))
            .collect();
        Self {
            ended,
            open,
            runs: if is_last { assembler.runs() } else { &[] },
            ends: if is_last { ends } else { &[] },
            is_last,
        }
    }

    fn is_empty(&self) -> bool {
        let no_gap = self.runs.iter().all(|flows| flows.gaps.is_empty());
        self.ended.is_empty() && self.open.is_empty() && self.ends.is_empty() && no_gap
    }

    /// As a database of its own.
    fn pack(&self, spool: &Spool, orders: &Orders, begun: &Begun) -> Result<Packed, StoreError> {
        let mut connection = database::open_in_memory(None)?;
        let own = ProcessMark::own();
        for run in spool.runs.with_ids(|run| self.concerns(run)) {
            importer::insert_run(&connection, &run, Some(&own))?;
        }
        let mut rows = orders.prepare_rows(&connection)?;
        rows.begin()?;
        let mut flows: Vec<&Flow> = self.flows().collect();
        // The order that rows want.
        flows.sort_by_key(|flow| (flow.started.at, flow.seq));
        for flow in flows {
            if flow.end.is_some() {
                let row = rows.insert_ended(flow)?;
                rows.insert_messages(row, flow)?;
            } else {
                // Its messages are stored with its end, or go straight to the database.
                rows.insert_open(flow)?;
            }
        }
        for flows in self.runs {
            for gap in &flows.gaps {
                rows.insert_gap(flows.run, gap)?;
            }
        }
        for (run, end) in self.ends {
            rows.end_run(*run, *end)?;
        }
        rows.commit()?;
        drop(rows);
        let serialized = connection.serialize(c"main")?;
        Packed::new(&serialized, self.count_unseen(begun)).map_err(not_writable)
    }

    fn flows(&self) -> impl Iterator<Item = &'a Flow> {
        self.ended.iter().chain(&self.open).copied()
    }

    /// Flows that are neither in the database nor in what was spooled before.
    fn count_unseen(&self, begun: &Begun) -> u32 {
        let is_unseen = |flow: &&Flow| flow.row.is_none() && !begun.0.contains_key(&key(flow));
        u32::try_from(self.flows().filter(is_unseen).count()).unwrap_or(u32::MAX)
    }

    fn concerns(&self, run: RunId) -> bool {
        self.flows().any(|flow| flow.run == run)
            || self.ends.iter().any(|(ended, _)| *ended == run)
            || self.runs.iter().any(|flows| flows.run == run)
    }
}

fn not_writable(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull,
        _ => StoreError::Io {
            source: Box::new(error),
        },
    }
}
