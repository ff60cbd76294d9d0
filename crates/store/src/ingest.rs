//! The writer thread: takes events from the queue, assembles flows, writes them in batches.
//!
//! One batch is one transaction. A flow that is open when its first batch is stored is put off until the next
//! one, since most have ended by then. When a write fails for a reason of the place (disk full, locked,
//! no permission) the batch goes to the spool ([`detour`]). When that does not go either the batch is
//! kept and tried again, while the queue fills and then drops, counted; traffic never waits. Nothing
//! but this thread writes flows of this process.
//!
//! A process may begin while the database cannot be opened. Then all goes to the spool from the first
//! flow on, and opening the file is part of each try to write ([`record_file`]). Nothing that a flow is
//! named by comes from the database: its number is counted here, and its run is known by a UUID that was
//! made when it began; the short id of the run is settled when the file is open (`spool/own_runs.rs`).

pub(crate) mod queue;

pub(crate) mod arrivals;
mod assemble;
mod binder;
pub(crate) mod bodies;
mod connections;
mod detour;
pub(crate) mod head;
pub(crate) mod meaning;
mod messages;
mod number_hash;
mod place;
pub(crate) mod recent;
pub(crate) mod record_file;
mod repeated;
pub(crate) mod response_kind;
mod rows;
mod texts;
mod trace_id;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use llm::Interpreter;
use rusqlite::Connection;
use tracing::{error, info, warn};
use traffic::FlowId;
use traffic::rules::capture::CaptureRules;
use traffic::rules::redact::Redaction;

use self::assemble::{Assembler, Flow};
use self::detour::Detour;
use self::queue::{Batch, Item, Queue, Taken, Trouble};
use self::record_file::RecordFile;
use self::rows::Rows;
use crate::error::in_one_line;
use crate::limits::{
    GATHER, OPEN_BODY_BYTES_MAX, RETRY_PAUSE_MAX, RETRY_PAUSE_MIN, SPOOL_OPEN_BYTES_MAX,
};
use crate::reader::row_of;
use crate::recorder::Losses;
use crate::spool::Spool;
use crate::{EndRun, FlowRef, Message, RunId, StoreError, importer};

/// Tries after the store began to close, before what is left is given up.
const CLOSING_TRIES_MAX: u32 = 3;

/// What a writer is told.
#[derive(Debug)]
pub(crate) struct Orders {
    /// Which credentials are masked.
    pub(crate) redaction: Redaction,
    pub(crate) interpreter: Interpreter,
    /// What is kept.
    pub(crate) rules: Arc<CaptureRules>,
    /// Where flows go while the database cannot be written.
    pub(crate) spool: Option<Arc<Spool>>,
}

impl Orders {
    fn prepare_rows<'c>(&self, connection: &'c Connection) -> Result<Rows<'c>, StoreError> {
        Rows::prepare(connection, self.redaction, self.interpreter.clone())
    }
}

/// Runs until the queue is closed and empty, or what is left cannot be written.
pub(crate) fn write_queue(
    file: &RecordFile,
    queue: &Queue,
    orders: &Orders,
) -> Result<(), StoreError> {
    let mut writer = Writer::new(file, orders)?;
    let mut empty = Batch::default();
    let mut outcome = Ok(());
    while let Some(taken) = queue.take(empty, writer.patience()) {
        let Taken {
            mut batch,
            dropped,
            whole,
            ticket,
        } = taken;
        let is_idle = batch.items.is_empty() && !writer.has_other_work();
        for (run, losses) in dropped {
            let run = writer.id_of(run);
            writer.assembler.note_dropped_bodies(run, losses);
        }
        writer.assemble(&mut batch);
        empty = batch;
        let stored = match is_idle {
            true => Ok(Losses::default()),
            false => writer.store(queue, whole),
        };
        let lost = stored.unwrap_or_else(|error| {
            error!(%error, "a batch of flows could not be stored");
            outcome = Err(error);
            writer.ends.clear();
            writer.assembler.give_up()
        });
        let all_is_stored = whole || !writer.has_put_off();
        queue.settle(all_is_stored.then_some(ticket), lost, writer.trouble());
        if let Some(detour) = &mut writer.detour {
            detour.merge_some();
        }
    }
    writer.end();
    queue.note_detour(writer.trouble());
    outcome
}

struct Writer<'c> {
    file: &'c RecordFile,
    orders: &'c Orders,
    /// `None` as long as the file could not be opened.
    rows: Option<Rows<'c>>,
    assembler: Assembler,
    /// Runs that ended and whose row does not say so yet.
    ends: Vec<(RunId, EndRun)>,
    detour: Option<Detour<'c>>,
}

impl<'c> Writer<'c> {
    fn new(file: &'c RecordFile, orders: &'c Orders) -> Result<Self, StoreError> {
        let rows = file.connection().map(|open| orders.prepare_rows(open));
        let spool = orders.spool.as_deref();
        Ok(Self {
            file,
            orders,
            rows: rows.transpose()?,
            assembler: Assembler::new(Arc::clone(&orders.rules)),
            ends: Vec::new(),
            detour: spool.map(|spool| Detour::new(file, spool, orders)),
        })
    }

    /// Puts together what came, and leaves nothing of it.
    fn assemble(&mut self, batch: &mut Batch) {
        let mut events = batch.events.drain(..);
        for item in batch.items.drain(..) {
            match item {
                Item::Events(run, count) => {
                    let run = self.id_of(run);
                    for event in events.by_ref().take(count) {
                        self.assembler.handle_event(run, event);
                    }
                }
                Item::Gap(run, dropped) => {
                    let run = self.id_of(run);
                    self.assembler.handle_gap(run, dropped.losses);
                    for end in dropped.ends {
                        self.assembler.handle_event(run, end);
                    }
                }
                Item::End(run, end) => {
                    let run = self.id_of(run);
                    self.assembler.handle_run_end(run);
                    self.ends.push((run, end));
                }
            }
        }
        drop(events);
        batch.clear();
    }

    /// The id that a run has now.
    fn id_of(&self, begun_as: RunId) -> RunId {
        let spool = self.orders.spool.as_ref();
        spool.map_or(begun_as, |spool| spool.runs.id_of(begun_as))
    }

    /// How long to wait for something to store when there is more to do than that.
    fn patience(&self) -> Option<Duration> {
        let of_detour = self.detour.as_ref().map(Detour::patience);
        let of_rows = self.rows.as_ref().and_then(Rows::patience);
        let of_flows = self.has_put_off().then_some(GATHER);
        of_detour.into_iter().chain(of_rows).chain(of_flows).min()
    }

    /// Whether there is something to store though nothing came: flows that were put off, or processes
    /// that were found after their flows were stored.
    fn has_other_work(&self) -> bool {
        let has_late_processes = self.rows.as_ref().is_some_and(Rows::has_late_processes);
        self.is_on_detour() || has_late_processes || self.has_put_off()
    }

    /// Whether flows were put off. On a detour all of them are stored beside the database.
    fn has_put_off(&self) -> bool {
        !self.is_on_detour() && self.assembler.has_put_off()
    }

    fn is_on_detour(&self) -> bool {
        self.detour.as_ref().is_some_and(Detour::is_taken)
    }

    /// Why something is not in the database.
    fn trouble(&self) -> Option<Trouble> {
        self.detour.as_ref().and_then(Detour::trouble)
    }

    /// Writes what is pending, to the database or beside it; tries again as long as that may help.
    /// Answers what is lost by that. If `whole`, no flow is put off.
    fn store(&mut self, queue: &Queue, whole: bool) -> Result<Losses, StoreError> {
        if !self.detour.as_ref().is_none_or(Detour::tries_database)
            && let Some(lost) = self.store_aside()
        {
            return Ok(lost);
        }
        let mut pause = RETRY_PAUSE_MIN;
        let mut closing_tries = 0;
        loop {
            let error = match self.store_once(whole) {
                Ok(()) => {
                    if pause > RETRY_PAUSE_MIN {
                        info!("flows are stored again");
                    }
                    if let Some(detour) = &mut self.detour {
                        detour.end();
                    }
                    return Ok(Losses::default());
                }
                Err(error) => error,
            };
            // Whatever keeps the file from being opened, what was recorded is good for another day.
            if self.rows.is_some() && !error.is_trouble_of_the_place() {
                return Err(error);
            }
            let trouble = trouble(&error);
            if let Some(detour) = &mut self.detour {
                detour.begin(&error, trouble.clone());
                if let Some(lost) = self.store_aside() {
                    return Ok(lost);
                }
            }
            warn!(%error, pause_ms = pause.as_millis(), "flows cannot be stored now");
            if queue.pause(trouble, pause) {
                closing_tries += 1;
                if closing_tries >= CLOSING_TRIES_MAX {
                    return Err(error);
                }
            }
            pause = next_pause(pause);
        }
    }

    /// Stores beside the database what ended; `None` if that does not go either. What is open stays in
    /// memory, within bounds: answers what that loses.
    fn store_aside(&mut self) -> Option<Losses> {
        let detour = self.detour.as_mut()?;
        detour.store(&mut self.assembler, &mut self.ends).ok()?;
        Some(self.assembler.bound_open(SPOOL_OPEN_BYTES_MAX))
    }

    /// All is stored, if need be beside the database: merges what is there, if that goes.
    fn end(&mut self) {
        let stored = match self.is_on_detour() || self.assembler.has_put_off() {
            true => self.store_once(true),
            false => Ok(()),
        };
        let Some(detour) = &mut self.detour else {
            return;
        };
        match stored {
            Ok(()) => {
                detour.end();
                detour.merge_all();
            }
            Err(error) => {
                let why = error.in_one_line();
                warn!(
                    why,
                    "flows wait in the spool until an oriel can write to the database"
                );
            }
        }
    }

    fn store_once(&mut self, whole: bool) -> Result<(), StoreError> {
        let mut rows = match self.rows.take() {
            Some(rows) => rows,
            None => self.orders.prepare_rows(self.file.open()?)?,
        };
        let stored = self.store_in(&mut rows, whole);
        if stored.is_err() {
            rows.undo();
        }
        self.rows = Some(rows);
        stored
    }

    fn store_in(&mut self, rows: &mut Rows<'c>, whole: bool) -> Result<(), StoreError> {
        self.store_runs()?;
        rows.begin()?;
        if self.is_on_detour() {
            rows.try_to_write()?;
        }
        let moves = self.assembler.held_bytes() > OPEN_BODY_BYTES_MAX;
        // Bodies go to rows, and what is in the spool is merged after what is open.
        let whole = whole || moves || self.is_on_detour();
        let new_rows = self.store_flows(rows, whole)?;
        if moves {
            self.move_bodies(rows, &new_rows)?;
        }
        for flows in self.assembler.runs() {
            for gap in &flows.gaps {
                rows.insert_gap(flows.run, gap)?;
            }
        }
        for (run, end) in &self.ends {
            rows.end_run(*run, *end)?;
        }
        rows.commit()?;
        self.ends.clear();
        self.assembler.settle(&new_rows, moves);
        Ok(())
    }

    /// Stores runs that began while the database could not be written.
    fn store_runs(&mut self) -> Result<(), StoreError> {
        let Some(spool) = &self.orders.spool else {
            return Ok(());
        };
        for run in spool.runs.not_stored() {
            let id = importer::place_own_run(self.file.open()?, &run)?;
            if id != run.id {
                warn!(run = %id, was = %run.id, "the run has another id: there was one with its own");
                self.rename_run(run.id, id);
            }
            spool.runs.note_stored(&run.uuid, id);
        }
        Ok(())
    }

    fn rename_run(&mut self, from: RunId, to: RunId) {
        self.assembler.rename_run(from, to);
        if let Some(detour) = &mut self.detour {
            detour.rename_run(from, to);
        }
        for (run, _) in self.ends.iter_mut().filter(|(run, _)| *run == from) {
            *run = to;
        }
    }

    /// Stores flows that ended, and open ones that are new or changed, but for those that are put off unless
    /// the `whole` is to be stored; answers the rows of open flows that are new.
    fn store_flows(&self, rows: &mut Rows<'c>, whole: bool) -> Result<NewRows, StoreError> {
        let mut new = Vec::new();
        for flow in &self.assembler.ended {
            match flow.row {
                Some(row) => {
                    rows.update_ended(row, flow)?;
                    rows.insert_messages(row, flow)?;
                }
                None => new.push(&**flow),
            }
        }
        for flows in self.assembler.runs() {
            for flow in flows.changed_flows() {
                match flow.row {
                    Some(row) => rows.update_open(row, flow)?,
                    None if flow.may_be_put_off() && !whole => {}
                    None => new.push(flow),
                }
            }
            for flow in flows.telling.iter().filter_map(|id| flows.open.get(id)) {
                // Those of a new row go with it.
                if let Some(row) = flow.row {
                    rows.insert_messages(row, flow)?;
                }
            }
        }
        // Rows lie in the order of time: so each is the last one when it is written.
        new.sort_by_key(|flow| (flow.started.at, flow.seq));
        let mut new_rows = NewRows::new();
        for flow in new {
            let is_over = flow.end.is_some();
            let row = match self.merged_row(flow)? {
                Some(row) if is_over => rows.update_ended(row, flow).map(|()| row)?,
                Some(row) => rows.update_open(row, flow).map(|()| row)?,
                None if is_over => rows.insert_ended(flow)?,
                None => rows.insert_open(flow)?,
            };
            if !is_over {
                new_rows.insert((flow.run, flow.started.flow), row);
            }
            rows.insert_messages(row, flow)?;
        }
        Ok(new_rows)
    }

    /// The row of a flow whose head was in the spool, if another process has merged that.
    fn merged_row(&self, flow: &Flow) -> Result<Option<i64>, StoreError> {
        if !self
            .detour
            .as_ref()
            .is_some_and(|detour| detour.has_head_of(flow))
        {
            return Ok(None);
        }
        let (run, seq) = (flow.run, flow.seq);
        match row_of(self.file.open()?, FlowRef { run, seq }) {
            Ok(row) => Ok(Some(row)),
            Err(StoreError::UnknownId(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves what memory holds of the bodies of open flows to the database.
    fn move_bodies(&self, rows: &mut Rows<'c>, new_rows: &NewRows) -> Result<(), StoreError> {
        for flows in self.assembler.runs() {
            for (id, flow) in &flows.open {
                let new_row = || new_rows.get(&(flows.run, *id)).copied();
                let Some(row) = flow.row.or_else(new_row) else {
                    continue;
                };
                rows.move_body(row, Message::Request, &flow.request)?;
                rows.move_body(row, Message::Response, &flow.response)?;
            }
        }
        Ok(())
    }
}

/// Rows that open flows were given in this batch.
type NewRows = HashMap<(RunId, FlowId), i64>;

fn next_pause(pause: Duration) -> Duration {
    (pause * 2).min(RETRY_PAUSE_MAX)
}

/// What keeps flows from being stored, in words that can be told more than once.
pub(crate) fn trouble(error: &StoreError) -> Trouble {
    match error {
        StoreError::Locked => Trouble::Locked,
        StoreError::DiskFull => Trouble::DiskFull,
        // It becomes one of these again.
        StoreError::Io { source } => Trouble::Other(in_one_line(source.as_ref())),
        _ => Trouble::Other(error.in_one_line()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
