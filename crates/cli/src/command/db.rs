//! `oriel db`: care for the database.

mod prune;

use crate::args::{Db, DbCommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;

/// Runs the command.
pub(crate) fn run(context: &Context, arguments: &Db) -> Result<Exit, Problem> {
    match &arguments.command {
        DbCommand::Prune(arguments) => prune::run(context, arguments),
    }
}
