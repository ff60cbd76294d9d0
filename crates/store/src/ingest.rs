//! The writer thread: takes events from the queue, assembles flows, writes them in batches.
//!
//! One batch is one transaction. When a write fails for a reason of the place (disk full, locked,
//! no permission) the batch goes to the spool ([`detour`]). When that does not go either the batch is
//! kept and tried again, while the queue fills and then drops, counted; traffic never waits. Nothing
//! but this thread writes flows of this process.

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
mod rows;
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

use self::assemble::Assembler;
use self::detour::Detour;
use self::queue::{Item, Queue, Taken, Trouble};
use self::rows::Rows;
use crate::limits::{OPEN_BODY_BYTES_MAX, RETRY_PAUSE_MAX, RETRY_PAUSE_MIN, SPOOL_OPEN_BYTES_MAX};
use crate::recorder::Losses;
use crate::spool::Spool;
use crate::{EndRun, Message, RunId, StoreError};

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

/// Runs until the queue is closed and empty, or what is left cannot be written.
pub(crate) fn write_queue(
    connection: &Connection,
    queue: &Queue,
    orders: &Orders,
) -> Result<(), StoreError> {
    let mut writer = Writer::new(connection, orders)?;
    let mut empty = Vec::new();
    let mut outcome = Ok(());
    while let Some(taken) = queue.take(empty, writer.patience()) {
        let Taken {
            mut items,
            dropped,
            ticket,
        } = taken;
        let is_idle = items.is_empty() && !writer.is_on_detour();
        for (run, losses) in dropped {
            writer.assembler.note_dropped_bodies(run, losses);
        }
        for item in items.drain(..) {
            writer.assemble(item);
        }
        empty = items;
        let stored = match is_idle {
            true => Ok(Losses::default()),
            false => writer.store(queue),
        };
        let lost = stored.unwrap_or_else(|error| {
            error!(%error, "a batch of flows could not be stored");
            outcome = Err(error);
            writer.ends.clear();
            writer.assembler.give_up()
        });
        queue.settle(ticket, lost, writer.trouble());
        if let Some(detour) = &mut writer.detour {
            detour.merge_some();
        }
    }
    writer.end();
    outcome
}

struct Writer<'c> {
    rows: Rows<'c>,
    assembler: Assembler,
    /// Runs that ended and whose row does not say so yet.
    ends: Vec<(RunId, EndRun)>,
    detour: Option<Detour<'c>>,
}

impl<'c> Writer<'c> {
    fn new(connection: &'c Connection, orders: &'c Orders) -> Result<Self, StoreError> {
        let interpreter = orders.interpreter.clone();
        let spool = orders.spool.as_deref();
        Ok(Self {
            rows: Rows::prepare(connection, orders.redaction, interpreter)?,
            assembler: Assembler::new(Arc::clone(&orders.rules)),
            ends: Vec::new(),
            detour: spool
                .map(|spool| Detour::new(connection, spool, orders))
                .transpose()?,
        })
    }

    fn assemble(&mut self, item: Item) {
        match item {
            Item::Events(run, events) => {
                for event in events {
                    self.assembler.handle_event(run, event);
                }
            }
            Item::Gap(run, losses) => self.assembler.handle_gap(run, losses),
            Item::End(run, end) => {
                self.assembler.handle_run_end(run);
                self.ends.push((run, end));
            }
        }
    }

    /// How long to wait for something to store when there is more to do than that.
    fn patience(&self) -> Option<Duration> {
        self.detour.as_ref().map(Detour::patience)
    }

    fn is_on_detour(&self) -> bool {
        self.detour.as_ref().is_some_and(Detour::is_taken)
    }

    /// Why something is not in the database.
    fn trouble(&self) -> Option<Trouble> {
        self.detour.as_ref().and_then(Detour::trouble)
    }

    /// Writes what is pending, to the database or beside it; tries again as long as that may help.
    /// Answers what is lost by that.
    fn store(&mut self, queue: &Queue) -> Result<Losses, StoreError> {
        if !self.detour.as_ref().is_none_or(Detour::tries_database)
            && let Some(lost) = self.store_aside()
        {
            return Ok(lost);
        }
        let mut pause = RETRY_PAUSE_MIN;
        let mut closing_tries = 0;
        loop {
            let error = match self.store_once() {
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
            self.rows.undo();
            if !error.is_trouble_of_the_place() {
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
        let stored = match self.is_on_detour() {
            true => self.store_once(),
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
                warn!(%error, "flows wait in the spool until an oriel can write to the database");
                self.rows.undo();
            }
        }
    }

    fn store_once(&mut self) -> Result<(), StoreError> {
        self.rows.begin()?;
        if self.is_on_detour() {
            self.rows.try_to_write()?;
        }
        let new_rows = self.store_flows()?;
        let moves = self.assembler.held_bytes() > OPEN_BODY_BYTES_MAX;
        if moves {
            self.move_bodies(&new_rows)?;
        }
        for flows in self.assembler.runs() {
            for gap in &flows.gaps {
                self.rows.insert_gap(flows.run, gap)?;
            }
        }
        for (run, end) in &self.ends {
            self.rows.end_run(*run, *end)?;
        }
        self.rows.commit()?;
        self.ends.clear();
        self.assembler.settle(&new_rows, moves);
        Ok(())
    }

    /// Stores flows that ended, and open ones that are new or changed; answers the rows of open
    /// flows that are new.
    fn store_flows(&mut self) -> Result<NewRows, StoreError> {
        let mut new = Vec::new();
        for flow in &self.assembler.ended {
            match flow.row {
                Some(row) => {
                    self.rows.update_ended(row, flow)?;
                    self.rows.insert_messages(row, flow)?;
                }
                None => new.push(flow),
            }
        }
        for flows in self.assembler.runs() {
            for flow in flows.changed.iter().filter_map(|id| flows.open.get(id)) {
                match flow.row {
                    Some(row) => self.rows.update_open(row, flow)?,
                    None => new.push(flow),
                }
            }
            for flow in flows.telling.iter().filter_map(|id| flows.open.get(id)) {
                // Those of a new row go with it.
                if let Some(row) = flow.row {
                    self.rows.insert_messages(row, flow)?;
                }
            }
        }
        // Rows lie in the order of time: so each is the last one when it is written.
        new.sort_by_key(|flow| (flow.started.at, flow.seq));
        let mut new_rows = NewRows::new();
        for flow in new {
            let row = match flow.end {
                Some(_) => self.rows.insert_ended(flow)?,
                None => {
                    let row = self.rows.insert_open(flow)?;
                    new_rows.insert((flow.run, flow.started.flow), row);
                    row
                }
            };
            self.rows.insert_messages(row, flow)?;
        }
        Ok(new_rows)
    }

    /// Moves what memory holds of the bodies of open flows to the database.
    fn move_bodies(&mut self, new_rows: &NewRows) -> Result<(), StoreError> {
        for flows in self.assembler.runs() {
            for (id, flow) in &flows.open {
                let new_row = || new_rows.get(&(flows.run, *id)).copied();
                let Some(row) = flow.row.or_else(new_row) else {
                    continue;
                };
                self.rows.move_body(row, Message::Request, &flow.request)?;
                self.rows
                    .move_body(row, Message::Response, &flow.response)?;
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

fn trouble(error: &StoreError) -> Trouble {
    match error {
        StoreError::Locked => Trouble::Locked,
        StoreError::DiskFull => Trouble::DiskFull,
        _ => Trouble::Other(error.in_one_line()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
