//! `oriel flows tail`: the newest flows, and with `-f` each one when it ends.

use std::time::Duration;

use store::json::FlowItem;
use store::{FlowRow, FlowState, Marker, Order, Query, Reader, SortKey};
use traffic::rules::filter::Filter;

use crate::args::FlowsTail;
use crate::command::flows::line::Line;
use crate::command::flows::search::catch_up_for;
use crate::command::flows::spooled::{Spool, tell};
use crate::command::flows::{filter, open};
use crate::context::Context;
use crate::exit::Exit;
use crate::flow_text::{has_secrets, secrets_warning};
use crate::limits::FOLLOW_EVERY;
use crate::output::{print, print_line, say, say_line, to_json};
use crate::problem::Problem;
use crate::store_problem::store_problem;

pub(crate) fn run(context: &Context, arguments: &FlowsTail) -> Result<Exit, Problem> {
    let filter = filter(&arguments.filter, None)?;
    let line = Line::read(&arguments.output, arguments.color_by)?;
    catch_up_for(context, &arguments.data, filter.as_ref())?;
    let mut follower = Follower {
        context,
        line,
        filter,
        open: Vec::new(),
        ended: Vec::new(),
        secrets_told: false,
        spool: Spool::of(context, &arguments.data)?,
        spooled: 0,
    };
    follower.tell_spooled()?;
    let Some(reader) = follower.wait_for_reader(arguments)? else {
        if follower.spooled == 0 {
            say_line("nothing was captured yet. Begin with: oriel run -- COMMAND");
        }
        return Ok(Exit::Success);
    };
    // What changes while the first flows are read is told by the marker from before.
    let marker = reader.marker().map_err(|error| store_problem(&error))?;
    follower.print_newest(&reader, arguments)?;
    if arguments.follow {
        follower.follow(&reader, marker)?;
    }
    Ok(Exit::Success)
}

struct Follower<'a> {
    context: &'a Context,
    line: Line,
    filter: Option<Filter>,
    /// Flows that were shown open and are to be shown again when they end.
    open: Vec<store::FlowRef>,
    /// Flows that had ended when following began; the first changes may name them again.
    ended: Vec<store::FlowRef>,
    /// Whether it was said that credentials are stored.
    secrets_told: bool,
    spool: Spool,
    /// Flows that waited there when it was looked at last.
    spooled: u64,
}

impl Follower<'_> {
    /// Opens the database; a follower waits until there is one.
    fn wait_for_reader(&self, arguments: &FlowsTail) -> Result<Option<Reader>, Problem> {
        loop {
            match open(self.context, &arguments.data)? {
                None if arguments.follow => pause(FOLLOW_EVERY * 5),
                reader => return Ok(reader),
            }
        }
    }

    fn print_newest(&mut self, reader: &Reader, arguments: &FlowsTail) -> Result<(), Problem> {
        let query = Query {
            filter: self.filter.clone(),
            order: Order {
                by: SortKey::Time,
                ascending: false,
            },
            limit: arguments.limit,
            ..Query::default()
        };
        let mut page = reader
            .flows(&query)
            .map_err(|error| store_problem(&error))?;
        page.rows.reverse();
        for row in &page.rows {
            self.print_row(row)?;
            if row.state != FlowState::Open {
                self.ended.push(row.id);
            }
        }
        Ok(())
    }

    fn follow(&mut self, reader: &Reader, mut marker: Marker) -> Result<(), Problem> {
        loop {
            let changes = reader
                .changes_since(marker, self.filter.as_ref())
                .map_err(|error| store_problem(&error))?;
            for row in &changes.rows {
                if !self.ended.contains(&row.id) {
                    self.print_row(row)?;
                }
            }
            if changes.marker == marker {
                self.tell_spooled()?;
                pause(FOLLOW_EVERY);
            }
            marker = changes.marker;
        }
    }

    /// Prints a flow when it is first seen and when it ended.
    fn print_row(&mut self, row: &FlowRow) -> Result<(), Problem> {
        let known = self.open.iter().position(|open| *open == row.id);
        match (row.state, known) {
            (FlowState::Open, Some(_)) => return Ok(()),
            (FlowState::Open, None) => self.open.push(row.id),
            (_, Some(index)) => {
                self.open.swap_remove(index);
            }
            (_, None) => {}
        }
        self.tell_secrets(row);
        match self.context.json() {
            true => print(&format!("{}\n", line_of_json(row)?)),
            false => print(&self.line.text(self.context, row)?),
        }
    }

    /// Says once, before the first flow it holds for, that credentials are stored.
    fn tell_secrets(&mut self, row: &FlowRow) {
        if has_secrets(row) && !self.secrets_told && !self.context.json() {
            say(&secrets_warning(self.context.terminal.stderr.pen));
            self.secrets_told = true;
        }
    }

    /// Says when flows begin to wait in the spool: until they no longer do, nothing may be shown.
    fn tell_spooled(&mut self) -> Result<(), Problem> {
        let before = std::mem::replace(&mut self.spooled, self.spool.flows());
        if before > 0 || self.spooled == 0 {
            return Ok(());
        }
        tell(self.context, self.spooled);
        match self.context.json() {
            true => print_line(&format!(
                "{{\"type\":\"spooled\",\"flows\":{}}}",
                self.spooled
            )),
            false => Ok(()),
        }
    }
}

/// A line of a stream says what it is.
fn line_of_json(row: &FlowRow) -> Result<String, Problem> {
    let item = to_json(&FlowItem::new(row))?;
    let fields = item.strip_prefix('{').unwrap_or(&item);
    Ok(format!("{{\"type\":\"flow\",{fields}"))
}

fn pause(length: Duration) {
    std::thread::sleep(length);
}
