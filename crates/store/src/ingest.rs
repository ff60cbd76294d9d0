//! The writer thread: takes events from the queue, assembles flows, writes them in batches.
//!
//! One batch is one transaction. When a write fails for a reason of the place (disk full, locked,
//! no permission) the batch is kept and tried again, while the queue fills and then drops, counted;
//! traffic never waits. Nothing but this thread writes flows.

pub(crate) mod queue;

pub(crate) mod arrivals;
mod assemble;
mod binder;
pub(crate) mod bodies;
mod connections;
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
use self::queue::{Item, Queue, Taken, Trouble};
use self::rows::Rows;
use crate::limits::{OPEN_BODY_BYTES_MAX, RETRY_PAUSE_MAX, RETRY_PAUSE_MIN};
use crate::recorder::Losses;
use crate::{EndRun, Message, RunId, StoreError};

/// Tries after the store began to close, before what is left is given up.
const CLOSING_TRIES_MAX: u32 = 3;

/// Runs until the queue is closed and empty, or what is left cannot be written.
pub(crate) fn write_queue(
    connection: &Connection,
    queue: &Queue,
    redaction: Redaction,
    interpreter: Interpreter,
    rules: Arc<CaptureRules>,
) -> Result<(), StoreError> {
    let mut writer = Writer {
        rows: Rows::prepare(connection, redaction, interpreter)?,
        assembler: Assembler::new(rules),
        ends: Vec::new(),
    };
    let mut empty = Vec::new();
    let mut outcome = Ok(());
    while let Some(taken) = queue.take(empty) {
        let Taken {
            mut items,
            dropped,
            ticket,
        } = taken;
        for (run, losses) in dropped {
            writer.assembler.note_dropped_bodies(run, losses);
        }
        for item in items.drain(..) {
            writer.assemble(item);
        }
        empty = items;
        let given_up = match writer.store(queue) {
            Ok(()) => Losses::default(),
            Err(error) => {
                error!(%error, "a batch of flows could not be stored");
                outcome = Err(error);
                writer.ends.clear();
                writer.assembler.give_up()
            }
        };
        queue.settle(ticket, given_up);
    }
    outcome
}

struct Writer<'c> {
    rows: Rows<'c>,
    assembler: Assembler,
    /// Runs that ended and whose row does not say so yet.
    ends: Vec<(RunId, EndRun)>,
}

impl Writer<'_> {
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

    /// Writes what is pending; tries again as long as that may help.
    fn store(&mut self, queue: &Queue) -> Result<(), StoreError> {
        let mut pause = RETRY_PAUSE_MIN;
        let mut closing_tries = 0;
        loop {
            let error = match self.store_once() {
                Ok(()) => {
                    if pause > RETRY_PAUSE_MIN {
                        info!("flows are stored again");
                    }
                    return Ok(());
                }
                Err(error) => error,
            };
            self.rows.undo();
            if !error.is_trouble_of_the_place() {
                return Err(error);
            }
            warn!(%error, pause_ms = pause.as_millis(), "flows cannot be stored now");
            if queue.pause(trouble(&error), pause) {
                closing_tries += 1;
                if closing_tries >= CLOSING_TRIES_MAX {
                    return Err(error);
                }
            }
            pause = next_pause(pause);
        }
    }

    fn store_once(&mut self) -> Result<(), StoreError> {
        self.rows.begin()?;
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
        _ => Trouble::Other,
    }
}

#[cfg(test)]
pub(crate) mod tests;
