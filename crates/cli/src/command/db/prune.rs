//! `oriel db prune`: removes what is old or large from the file of this machine, with or without a service
//! running, or what is old from the archive.

use store::Doomed;
use traffic::rules::filter::Filter;

use crate::args::DbPrune;
use crate::clock::now;
use crate::command::flows::filter;
use crate::command::flows::search::catch_up_file;
use crate::context::Context;
use crate::exit::Exit;
use crate::paths::database;
use crate::problem::Problem;
use crate::removal::{Place, remove};
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
    let place = match arguments.archive {
        true => Place::archive(&settings)?,
        false => Place::file(&settings),
    };
    // Who names one of them means that one. What is set is about the file.
    let rules = match given == Rules::default() && !arguments.archive {
        true => Rules::of(&settings),
        false => given,
    };
    if rules == Rules::default() {
        let why = match arguments.archive {
            true => "no flag was given; [retention] is about the file of this machine",
            false => "no flag was given, and [retention] sets nothing",
        };
        return Err(
            Problem::new("ORL0001", Exit::Usage, "nothing says what is to go")
                .why(why)
                .fix("oriel db prune --older-than 30d --dry-run"),
        );
    }
    let mut keep = rules.at(now());
    keep.matching = filter(arguments.keep.as_slice(), None)?;
    if !arguments.archive && keep.matching.as_ref().is_some_and(Filter::asks_for_words) {
        catch_up_file(context, &database(&settings.data_folder.value))?;
    }
    remove(context, &place, &Doomed::Old(&keep), &arguments.how)
}
