//! `oriel db forget`: keeps nothing any longer for an archive that the file of this machine was copied to once.

use serde_json::json;
use store::{StoreError, forget_archive};

use super::Places;
use crate::args::DbForget;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{print_json, say_line};
use crate::problem::Problem;
use crate::store_problem::store_problem;

/// Runs the command.
pub(crate) fn run(context: &Context, arguments: &DbForget) -> Result<Exit, Problem> {
    let places = Places::of(context, &arguments.data)?;
    let name = arguments.archive.to_string();
    if places.copied_to.as_ref() == Some(&name) {
        let what = format!("{name} is the archive of the settings");
        return Err(Problem::new("ORL0001", Exit::Usage, what)
            .why("what it does not have goes there once it can be reached")
            .fix("set database.url to another archive, or to local, before"));
    }
    let known = match forget_archive(&places.file, &name) {
        Ok(known) => known,
        Err(StoreError::NotFound { .. }) => false,
        Err(error) => return Err(store_problem(&error)),
    };
    if context.json() {
        print_json(&json!({"schema": "oriel.db.forget/1", "archive": name, "forgotten": known}))?;
    } else if known {
        say_line(&format!("nothing is kept for {name} any longer"));
    } else {
        say_line(&format!("nothing was kept for {name}:  oriel db status"));
    }
    Ok(match known {
        true => Exit::Success,
        false => Exit::Negative,
    })
}
