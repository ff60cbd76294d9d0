//! Removes flows for a command: shows what would go, waits for a yes, tells how far it is and what went.

use serde_json::json;
use store::{Choice, Keep, Location, Removal, Remover, StoreError};

use crate::archive;
use crate::args::{DataFlags, HowToRemove};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{print_json, say, say_line};
use crate::paths::database;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::quantity::{bytes, plural};
use crate::question::is_confirmed;
use crate::settings::{Purpose, Settings};
use crate::store_problem::store_problem;

/// Which flows go.
pub(crate) enum Doomed<'a> {
    Old {
        keep: &'a Keep,
        /// What the file is copied to: nothing goes from there.
        archive: Option<&'a Location>,
    },
    Chosen(&'a Choice),
}

/// Removes flows from the file of this machine.
pub(crate) fn remove(
    context: &Context,
    settings: &Settings,
    doomed: &Doomed<'_>,
    how: &HowToRemove,
) -> Result<Exit, Problem> {
    let mut remover = match Remover::open(&database(&settings.data_folder.value)) {
        Ok(remover) => remover,
        Err(StoreError::NotFound { .. }) => {
            return tell(context, doomed, &Removal::default(), false);
        }
        Err(error) => return Err(store_problem(&error)),
    };
    let planned = match doomed {
        Doomed::Old { keep, .. } => remover.plan(keep),
        Doomed::Chosen(choice) => remover.plan_chosen(choice),
    };
    let planned = planned.map_err(|error| store_problem(&error))?;
    let all = planned.flows + planned.bodiless;
    if how.dry_run || all == 0 {
        return tell(context, doomed, &planned, false);
    }
    if !how.yes && !confirmed(&planned)? {
        say_line("nothing was removed");
        return Ok(Exit::Negative);
    }
    let mut progress = Progress::begin(context, "removing", "flows", Some(all));
    let told = |step: store::Progress| {
        progress.tell(step.done);
        true
    };
    let removed = match doomed {
        Doomed::Old { keep, .. } => remover.remove(keep, told),
        Doomed::Chosen(choice) => remover.remove_chosen(choice, told),
    };
    progress.finish();
    let removed = removed.map_err(|error| store_problem(&error))?;
    tell(context, doomed, &removed, true)
}

/// Flows that are read from an archive are not removed by those who read them.
pub(crate) fn refuse_archive(
    context: &Context,
    data: &DataFlags,
    command: &str,
) -> Result<Settings, Problem> {
    let settings = context.settings(Purpose::Serve, data.layer())?;
    match archive::to_read(&settings) {
        location @ (Location::Postgres(_) | Location::ClickHouse(_)) if data.data.is_none() => {
            let folder = settings.data_folder.value.display();
            let problem = Problem::new(
                "ORL0001",
                Exit::Usage,
                "oriel removes nothing from an archive",
            )
            .why(format!(
                "flows are read from {location}, which others may write to and read"
            ))
            .fix(format!(
                "oriel {command} --data {folder} …      from the file of this machine alone"
            ))
            .fix("oriel flows --jsonl --fields uuid FILTER      names the flows, for SQL there:");
            let removing = [sql_by_name(&location), sql_by_age(&location)].concat();
            Err(removing
                .iter()
                .fold(problem, |problem, sql| problem.fix(*sql)))
        }
        _ => Ok(settings),
    }
}

/// What the owner of an archive says to it to remove some flows.
fn sql_by_name(archive: &Location) -> &'static [&'static str] {
    match archive {
        Location::File(_) => &[],
        Location::Postgres(_) => {
            &["DELETE FROM flows WHERE trace_id IN ('UUID', …);      their messages go with them"]
        }
        Location::ClickHouse(_) => &[
            "DELETE FROM messages WHERE trace_id IN ('UUID', …);",
            "DELETE FROM flows WHERE trace_id IN ('UUID', …);",
        ],
    }
}

/// What they say to remove what is old.
fn sql_by_age(archive: &Location) -> &'static [&'static str] {
    match archive {
        Location::File(_) => &[],
        Location::Postgres(_) => &[
            "SELECT oriel_prune('2026-03-02 00:00');      what was stored before; and all bodies that no flow has",
        ],
        Location::ClickHouse(_) => &[
            "ALTER TABLE flows DROP PARTITION '20260302';      a day; messages and flows have the same ones",
        ],
    }
}

/// Shows what is about to go, and waits for a yes.
fn confirmed(planned: &Removal) -> Result<bool, Problem> {
    is_confirmed(
        || say(&format!("would remove {}\nGo? [y/N] ", text(planned))),
        || {
            Problem::new("ORL0001", Exit::Usage, "nobody is there to be asked")
                .why("what is removed is gone; nothing was removed")
                .fix("--yes        does it without asking")
                .fix("--dry-run    shows it alone")
        },
    )
}

fn tell(
    context: &Context,
    doomed: &Doomed<'_>,
    removal: &Removal,
    is_done: bool,
) -> Result<Exit, Problem> {
    let archive = match doomed {
        Doomed::Old { archive, .. } => *archive,
        Doomed::Chosen(_) => None,
    };
    if context.json() {
        print_json(&json!({
            "schema": "oriel.removal/1",
            "removed": is_done,
            "flows": removal.flows,
            "flows_without_bodies": removal.bodiless,
            "body_bytes": removal.body_bytes,
            "marked_kept": removal.marked,
            "open_kept": removal.open,
            "awaited_kept": removal.awaited,
            "matching_kept": removal.matching,
            "archive_left": archive.map(Location::to_string),
        }))?;
        return Ok(Exit::Success);
    }
    let is_nothing = removal.flows + removal.bodiless == 0;
    match (is_nothing, doomed) {
        (true, Doomed::Old { .. }) => say_line(&format!(
            "nothing is old or large enough to be removed{}",
            kept(removal)
        )),
        (true, Doomed::Chosen(_)) => say_line(&format!("nothing to remove{}", kept(removal))),
        (false, _) => {
            let verb = if is_done { "removed" } else { "would remove" };
            say_line(&format!("{verb} {}", text(removal)));
        }
    }
    if let Some(archive) = archive.filter(|_| !context.global.quiet) {
        say_line(&left_alone(archive));
    }
    Ok(Exit::Success)
}

/// What stays where others read and write, and how it goes from there.
fn left_alone(archive: &Location) -> String {
    let mut text = format!(
        "only the file of this machine is pruned: {archive} keeps what it has. What is old goes from there by:"
    );
    for sql in sql_by_age(archive) {
        text += &format!("\n  {sql}");
    }
    text
}

fn text(removal: &Removal) -> String {
    let mut text = plural(removal.flows, "flow");
    if removal.bodiless > 0 {
        text += &format!(" and the bodies of {}", plural(removal.bodiless, "other"));
    }
    text + &format!(
        " · {} of bodies{}",
        bytes(removal.body_bytes),
        kept(removal)
    )
}

/// What stays of what was meant.
fn kept(removal: &Removal) -> String {
    let mut text = String::new();
    for (flows, why) in [
        (removal.marked, "marked"),
        (removal.open, "open"),
        (removal.awaited, "not yet archived"),
        (removal.matching, "that match"),
    ] {
        if flows > 0 {
            text += &format!(" · keeps {} {why}", plural(flows, "flow"));
        }
    }
    text
}
