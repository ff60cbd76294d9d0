//! Removes flows for a command, from the file of this machine or from an archive: shows what would go, waits
//! for a yes, tells how far it is and what went.

use serde_json::json;
use store::{
    Archive, Doomed, Location, Progress as Step, Removal, Remover, StoreError, file_status,
};

use crate::archive;
use crate::args::{DataFlags, HowToRemove};
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::output::{print_json, say, say_line};
use crate::paths::database;
use crate::phases::in_phases;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::quantity::{bytes, plural};
use crate::question::is_confirmed;
use crate::settings::{Purpose, Settings};
use crate::store_problem::store_problem;

/// Where flows are removed.
pub(crate) struct Place {
    location: Location,
    /// Of a file of this machine: what it is copied to. Nothing goes from there.
    kept_in: Option<Location>,
}

impl Place {
    /// The file of this machine.
    pub(crate) fn file(settings: &Settings) -> Self {
        Self {
            location: Location::File(database(&settings.data_folder.value)),
            kept_in: archive::of(settings).cloned(),
        }
    }

    /// The archive of the settings.
    pub(crate) fn archive(settings: &Settings) -> Result<Self, Problem> {
        match archive::of(settings) {
            Some(location) => Ok(Self {
                location: location.clone(),
                kept_in: None,
            }),
            None => Err(
                Problem::new("ORL0001", Exit::Usage, "there is no archive to remove from")
                    .why("database.url is not set")
                    .fix("ORIEL_DATABASE_URL=postgres://… oriel db prune --archive …"),
            ),
        }
    }

    /// Where the other commands look for flows.
    pub(crate) fn where_read(context: &Context, data: &DataFlags) -> Result<Self, Problem> {
        let settings = context.settings(Purpose::Serve, data.layer())?;
        let of_file = Self {
            // Who chose flows knows what they chose.
            kept_in: None,
            ..Self::file(&settings)
        };
        Ok(match (data.data.is_some(), archive::to_read(&settings)) {
            (true, _) => of_file,
            (false, location) => Self {
                location,
                ..of_file
            },
        })
    }
}

/// What removes.
enum Opened {
    File(Remover),
    Archive(Box<dyn Archive>),
}

impl Opened {
    /// `None` if nothing was ever stored there.
    fn at(location: &Location) -> Result<Option<Self>, Problem> {
        if let Some(path) = location.file() {
            return match Remover::open(path) {
                Ok(remover) => Ok(Some(Self::File(remover))),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(store_problem(&error)),
            };
        }
        Ok(archive::open(location)?.map(Self::Archive))
    }

    fn plan(&mut self, doomed: &Doomed<'_>) -> Result<Removal, StoreError> {
        match self {
            Self::File(remover) => remover.plan(*doomed),
            Self::Archive(archive) => archive.plan_removal(doomed),
        }
    }

    fn remove(
        &mut self,
        doomed: &Doomed<'_>,
        mut progress: impl FnMut(Step) -> bool,
    ) -> Result<Removal, StoreError> {
        match self {
            Self::File(remover) => remover.remove(*doomed, progress),
            Self::Archive(archive) => archive.remove(doomed, &mut progress),
        }
    }
}

/// Removes flows.
pub(crate) fn remove(
    context: &Context,
    place: &Place,
    doomed: &Doomed<'_>,
    how: &HowToRemove,
) -> Result<Exit, Problem> {
    let problem = |error| store_problem(&error);
    let Some(mut opened) = Opened::at(&place.location)? else {
        return tell(context, place, doomed, &Removal::default(), false);
    };
    let planned = in_phases(context, "looking for what would go", |_| {
        opened.plan(doomed)
    });
    let planned = planned.map_err(problem)?;
    let all = planned.flows + planned.bodiless;
    if how.dry_run || all == 0 {
        return tell(context, place, doomed, &planned, false);
    }
    if !how.yes && !confirmed(context, place, &planned)? {
        say_line("nothing was removed");
        return Ok(Exit::Negative);
    }
    let mut progress = Progress::begin(context, "removing", "flows", Some(all));
    let removed = opened.remove(doomed, |step| {
        progress.tell(step.done);
        true
    });
    progress.finish();
    tell(context, place, doomed, &removed.map_err(problem)?, true)
}

/// Shows what is about to go, and waits for a yes.
fn confirmed(context: &Context, place: &Place, planned: &Removal) -> Result<bool, Problem> {
    is_confirmed(
        context,
        || {
            let from = from_archive(place);
            say(&format!("would remove {}{from}\nGo? [y/N] ", text(planned)));
        },
        |what| {
            Problem::new("ORL0001", Exit::Usage, what)
                .why("what is removed is gone; nothing was removed")
                .fix("--yes        does it without asking")
                .fix("--dry-run    shows it alone")
        },
    )
}

fn tell(
    context: &Context,
    place: &Place,
    doomed: &Doomed<'_>,
    removal: &Removal,
    is_done: bool,
) -> Result<Exit, Problem> {
    if context.json() {
        print_json(&json!({
            "schema": "oriel.removal/1",
            "removed": is_done,
            "from": place.location.to_string(),
            "flows": removal.flows,
            "flows_without_bodies": removal.bodiless,
            "body_bytes": removal.body_bytes,
            "marked_kept": removal.marked,
            "open_kept": removal.open,
            "awaited_kept": removal.awaited,
            "awaited_by": awaited_by(place, removal),
            "matching_kept": removal.matching,
            "archive_left": place.kept_in.as_ref().map(Location::to_string),
        }))?;
        return Ok(Exit::Success);
    }
    let is_nothing = removal.flows + removal.bodiless == 0;
    let from = from_archive(place);
    match (is_nothing, doomed) {
        (true, Doomed::Old(_)) => say_line(&format!(
            "nothing is old or large enough to be removed{}{from}",
            kept(removal)
        )),
        (true, Doomed::Chosen(_)) => say_line(&format!("nothing to remove{}{from}", kept(removal))),
        (false, _) => {
            let verb = if is_done { "removed" } else { "would remove" };
            say_line(&format!("{verb} {}{from}", text(removal)));
        }
    }
    if context.global.quiet {
        return Ok(Exit::Success);
    }
    for archive in awaited_by(place, removal) {
        let archive = escape_line(&archive);
        say_line(&format!(
            "{archive} does not have them as they are; if nothing is copied there any more:  oriel db forget {archive}"
        ));
    }
    if let Some(archive) = &place.kept_in {
        say_line(&format!(
            "only the file of this machine is pruned: {archive} keeps what it has, until  oriel db prune --archive"
        ));
    } else if is_done && !is_nothing && place.location.is_archive() {
        say_line(
            "the file of a machine that stored them there may have them still, until  oriel flows rm --data DIR",
        );
    }
    Ok(Exit::Success)
}

/// The archives of the file for which flows stay.
fn awaited_by(place: &Place, removal: &Removal) -> Vec<String> {
    let Some(file) = place.location.file().filter(|_| removal.awaited > 0) else {
        return Vec::new();
    };
    file_status(file).map_or_else(
        |_unreadable| Vec::new(),
        |status| status.awaiting().map(str::to_owned).collect(),
    )
}

/// Who removes from what others read should see that they do.
fn from_archive(place: &Place) -> String {
    match place.location.is_archive() {
        true => format!(" · from {}", place.location),
        false => String::new(),
    }
}

fn text(removal: &Removal) -> String {
    let what = match (removal.flows, removal.bodiless) {
        (flows, 0) => plural(flows, "flow"),
        (0, bodiless) => format!("the bodies of {}", plural(bodiless, "flow")),
        (flows, bodiless) => {
            let bodiless = plural(bodiless, "other");
            format!("{} and the bodies of {bodiless}", plural(flows, "flow"))
        }
    };
    what + &format!(
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
