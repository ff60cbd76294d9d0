//! `oriel db prune`: removes what is old, with or without a service running.

use crate::args::DbPrune;
use crate::clock::now;
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::removal::{Doomed, remove};
use crate::retention::Rules;
use crate::settings::Purpose;

/// Runs the command.
pub(crate) fn run(context: &Context, arguments: &DbPrune) -> Result<Exit, Problem> {
    let settings = context.settings(Purpose::Serve, arguments.data.layer())?;
    let given = Rules {
        flows: arguments.older_than,
        bodies: arguments.bodies_older_than,
        max_size: arguments.max_size,
        tags: arguments.tags.clone(),
        archived: None,
    };
    // Who names one of them means that one.
    let rules = match given == Rules::default() {
        true => Rules::of(&settings),
        false => given,
    };
    if rules == Rules::default() {
        return Err(
            Problem::new("ORL0001", Exit::Usage, "nothing says what is old")
                .why("no flag was given, and [retention] sets nothing")
                .fix("oriel db prune --older-than 30d --dry-run"),
        );
    }
    let keep = rules.at(now());
    remove(context, &settings, &Doomed::Old(&keep), &arguments.how)
}
