//! Brings what was imported to the archive, where flows are read from one: copies it, or waits for the
//! service that does.

use std::path::{Path, PathBuf};
use std::thread;

use store::{Location, Reader, RunId, ShipperState, StoreError, file_status};

use crate::archive;
use crate::context::Context;
use crate::limits::{ARCHIVE_LOOK_EVERY, ARCHIVE_LOOKS_MAX, ARCHIVE_STOP};
use crate::paths::database;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::store_problem::store_problem;

/// Runs of an archive among which one is looked for that was just imported.
const RUNS_LOOKED_AT: usize = 100;

/// Where flows are read, if that is not the file that they are imported to.
pub(super) struct Elsewhere<'s> {
    settings: &'s Settings,
    file: PathBuf,
    location: Location,
}

/// Whether they are there.
pub(super) enum Arrived {
    /// All of them.
    Whole,
    /// They wait in the file of this machine, for a reason.
    Waiting(String),
}

impl<'s> Elsewhere<'s> {
    /// `None` if flows are read from the file, as by who names its folder.
    pub(super) fn of(settings: &'s Settings, names_folder: bool) -> Option<Self> {
        let file = database(&settings.data_folder.value);
        let location = archive::to_read(settings);
        let is_file = location == Location::File(file.clone());
        (!names_folder && !is_file).then_some(Self {
            settings,
            file,
            location,
        })
    }

    /// Copies what waits in the file, and says how far it is.
    pub(super) fn copy(&self, context: &Context) -> Result<Arrived, Problem> {
        let Some(shipper) = archive::start(self.settings)? else {
            return Ok(Arrived::Whole);
        };
        let watch = shipper.watch();
        let mut progress = Progress::begin(context, "copying to the archive", "flows", None);
        let arrived = loop {
            let status = watch.status();
            progress.tell(status.copied);
            match status.state {
                ShipperState::Starting | ShipperState::Copying => {}
                ShipperState::Idle => break Ok(Arrived::Whole),
                ShipperState::Elsewhere => break self.wait_for_service(&mut progress),
                ShipperState::Failing | ShipperState::Stopped => {
                    let error = status.last_error.map(|(_, error)| error);
                    break Ok(Arrived::Waiting(error.unwrap_or_default()));
                }
            }
            thread::sleep(ARCHIVE_LOOK_EVERY);
        };
        progress.finish();
        let _status = shipper.stop(ARCHIVE_STOP);
        arrived
    }

    /// Another oriel on the same file copies: waits as long as less and less is left.
    fn wait_for_service(&self, progress: &mut Progress) -> Result<Arrived, Problem> {
        let began = waiting(&self.file, &self.location)?;
        let (mut left, mut looks) = (began, 0);
        while left > 0 {
            if looks >= ARCHIVE_LOOKS_MAX {
                let why = format!("the oriel that copies to {} does not get on", self.location);
                return Ok(Arrived::Waiting(why));
            }
            thread::sleep(ARCHIVE_LOOK_EVERY);
            let now = waiting(&self.file, &self.location)?;
            looks = if now < left { 0 } else { looks + 1 };
            left = now;
            progress.tell(began.saturating_sub(left));
        }
        Ok(Arrived::Whole)
    }

    /// The id that a run has in the archive, where another may have had its own.
    pub(super) fn run_id(&self, uuid: &str) -> Result<Option<RunId>, StoreError> {
        let runs = Reader::open_at(&self.location)?.runs(RUNS_LOOKED_AT)?;
        let run = runs.into_iter().find(|run| run.uuid == uuid);
        Ok(run.map(|run| run.id))
    }
}

/// Flows of a file that an archive does not have as they are.
fn waiting(file: &Path, archive: &Location) -> Result<u64, Problem> {
    let status = file_status(file).map_err(|error| store_problem(&error))?;
    let name = archive.to_string();
    let mut archives = status.archives.iter();
    let found = archives.find(|outgoing| outgoing.archive == name);
    Ok(found.map_or(status.flows, |outgoing| outgoing.waiting))
}
