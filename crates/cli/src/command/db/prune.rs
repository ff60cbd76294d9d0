//! `oriel db prune`: removes what is old, with or without a service running.

use std::io::{BufRead, IsTerminal};

use serde_json::json;
use store::{Keep, Removal, Remover, StoreError};

use crate::args::DbPrune;
use crate::clock::now;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{print_json, say, say_line};
use crate::paths::database;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::quantity::{bytes, plural};
use crate::retention::keep;
use crate::settings::Purpose;
use crate::store_problem::store_problem;

/// Runs the command.
pub(crate) fn run(context: &Context, arguments: &DbPrune) -> Result<Exit, Problem> {
    let settings = context.settings(Purpose::Serve, arguments.data.layer())?;
    let given = [
        arguments.older_than.is_some(),
        arguments.bodies_older_than.is_some(),
        arguments.max_size.is_some(),
    ];
    // Who names one of them means that one.
    let keep = match given.contains(&true) {
        true => keep(
            arguments.older_than,
            arguments.bodies_older_than,
            arguments.max_size,
            now(),
        ),
        false => keep(
            settings.retention_keep.value,
            settings.retention_keep_bodies.value,
            settings.retention_max_size.value,
            now(),
        ),
    };
    if keep == Keep::default() {
        return Err(
            Problem::new("ORL0001", Exit::Usage, "nothing says what is old")
                .why("no flag was given, and [retention] sets nothing")
                .fix("oriel db prune --older-than 30d --dry-run"),
        );
    }
    let mut remover = match Remover::open(&database(&settings.data_folder.value)) {
        Ok(remover) => remover,
        Err(StoreError::NotFound { .. }) => {
            return tell(context, &Removal::default(), false);
        }
        Err(error) => return Err(store_problem(&error)),
    };
    let planned = remover.plan(&keep).map_err(|error| store_problem(&error))?;
    let is_nothing = planned.flows + planned.bodiless == 0;
    if arguments.dry_run || is_nothing {
        return tell(context, &planned, false);
    }
    if !arguments.yes && !confirmed(&planned)? {
        say_line("nothing was removed");
        return Ok(Exit::Negative);
    }
    let all = planned.flows + planned.bodiless;
    let mut progress = Progress::begin(context, "pruning", "flows", Some(all));
    let removed = remover.remove(&keep, |step| {
        progress.tell(step.done);
        true
    });
    progress.finish();
    let removed = removed.map_err(|error| store_problem(&error))?;
    tell(context, &removed, true)
}

/// Shows what is about to go, and waits for a yes.
fn confirmed(planned: &Removal) -> Result<bool, Problem> {
    if !std::io::stdin().is_terminal() {
        return Err(
            Problem::new("ORL0001", Exit::Usage, "nobody is there to be asked")
                .why("what is removed is gone; nothing was removed")
                .fix("--yes        does it without asking")
                .fix("--dry-run    shows it alone"),
        );
    }
    say(&format!("would remove {}\nGo? [y/N] ", text(planned)));
    let mut answer = String::new();
    // Who cannot be read has not said yes.
    let _read = std::io::stdin().lock().read_line(&mut answer);
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn tell(context: &Context, removal: &Removal, is_done: bool) -> Result<Exit, Problem> {
    if context.json() {
        print_json(&json!({
            "schema": "oriel.prune/1",
            "removed": is_done,
            "flows": removal.flows,
            "flows_without_bodies": removal.bodiless,
            "body_bytes": removal.body_bytes,
            "marked_kept": removal.marked,
        }))?;
        return Ok(Exit::Success);
    }
    match (is_done, removal.flows + removal.bodiless) {
        (_, 0) => say_line("nothing is old enough to be removed"),
        (true, _) => say_line(&format!("removed {}", text(removal))),
        (false, _) => say_line(&format!("would remove {}", text(removal))),
    }
    Ok(Exit::Success)
}

fn text(removal: &Removal) -> String {
    let mut text = plural(removal.flows, "flow");
    if removal.bodiless > 0 {
        text += &format!(" and the bodies of {}", plural(removal.bodiless, "other"));
    }
    text += &format!(" · {} of bodies", bytes(removal.body_bytes));
    if removal.marked > 0 {
        text += &format!(" · keeps {}", plural(removal.marked, "marked flow"));
    }
    text
}
