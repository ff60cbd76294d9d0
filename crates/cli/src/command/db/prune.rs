//! `oriel db prune`: removes what is old or large from the file of this machine, with or without a service
//! running.

use traffic::rules::filter::Filter;

use crate::archive;
use crate::args::DbPrune;
use crate::clock::now;
use crate::command::flows::filter;
use crate::command::flows::search::catch_up_file;
use crate::context::Context;
use crate::exit::Exit;
use crate::paths::database;
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
        larger_than: arguments.larger_than,
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
            Problem::new("ORL0001", Exit::Usage, "nothing says what is to go")
                .why("no flag was given, and [retention] sets nothing")
                .fix("oriel db prune --older-than 30d --dry-run"),
        );
    }
    let mut keep = rules.at(now());
    keep.matching = filter(arguments.keep.as_slice(), None)?;
    if keep.matching.as_ref().is_some_and(Filter::asks_for_words) {
        catch_up_file(context, &database(&settings.data_folder.value))?;
    }
    let doomed = Doomed::Old {
        keep: &keep,
        // Who names a folder means what is in it.
        archive: match arguments.data.data {
            Some(_) => None,
            None => archive::of(&settings),
        },
    };
    remove(context, &settings, &doomed, &arguments.how)
}
