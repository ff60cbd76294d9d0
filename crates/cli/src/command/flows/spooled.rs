//! Flows that wait in the spool beside the file that is read. No command shows them before an oriel has
//! merged them; every one says in the same words that they are there.

use std::path::PathBuf;

use store::{Location, Spooled};

use crate::args::DataFlags;
use crate::command::flows::location;
use crate::context::Context;
use crate::output::say_line;
use crate::problem::Problem;
use crate::quantity::plural;

/// The spool beside what is read.
#[derive(Debug)]
pub(crate) struct Spool {
    /// An archive has none.
    database: Option<PathBuf>,
}

impl Spool {
    pub(crate) fn of(context: &Context, data: &DataFlags) -> Result<Self, Problem> {
        Ok(Self {
            database: match location(context, data)? {
                Location::File(path) => Some(path),
                Location::Postgres(_) | Location::ClickHouse(_) => None,
            },
        })
    }

    /// How many flows wait there. To be asked before the database is: what is merged in between is then
    /// shown and counted, rather than neither.
    pub(crate) fn flows(&self) -> u64 {
        let spooled = self.database.as_deref().map(Spooled::beside);
        spooled.unwrap_or_default().flows
    }
}

/// Says that flows wait. A document of JSON does so itself.
pub(crate) fn tell(context: &Context, spooled: u64) {
    if spooled > 0 && !context.json() && !context.global.quiet {
        say_line(&not_shown(spooled));
    }
}

/// Adds that flows wait to a problem that they may be the reason of, or that makes one fear for them.
pub(crate) fn noted(context: &Context, data: &DataFlags, problem: Problem) -> Problem {
    let spooled = || Spool::of(context, data).map_or(0, |spool| spool.flows());
    match problem.code {
        UNKNOWN => match spooled() {
            0 => problem,
            spooled => problem.note(format!("it may be among {}", not_shown(spooled))),
        },
        code if CANNOT_READ.contains(&code) => match spooled() {
            0 => problem,
            spooled => problem.note(format!("{}; none of them is lost", not_shown(spooled))),
        },
        _ => problem,
    }
}

/// No such flow, run or session.
const UNKNOWN: &str = "ORL0005";
/// The database is locked, damaged, on a full disk, or fails.
const CANNOT_READ: [&str; 4] = ["ORL0703", "ORL0705", "ORL0706", "ORL0707"];

fn not_shown(spooled: u64) -> String {
    let flows = plural(spooled, "flow");
    format!("{flows} not shown yet: in the spool, until an oriel can write to the database")
}
