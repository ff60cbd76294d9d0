//! The data folder and the database in it.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use store::{Reader, StoreError};

use super::{Area, Check, Repair, State};
use crate::authority::unwritable;
use crate::limits::{FREE_BYTES_MIN, FREE_BYTES_WARN};
use crate::paths::database;
use crate::quantity;
use crate::settings::Settings;
use crate::store_problem::store_problem;

pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    let folder = &settings.data_folder.value;
    let mut checks = vec![writable(folder)];
    if folder.is_dir() {
        checks.extend(open_to_others(folder, 0o700));
        let database = database(folder);
        checks.extend(open_to_others(&database, 0o600));
        checks.extend(readable(&database));
    }
    checks.extend(free(folder));
    checks
}

fn good(text: String) -> Check {
    Check::new(Area::Storage, State::Ok, text)
}

/// Writes a file of ours and removes it: modes alone do not tell, of root or of a file system that
/// is mounted to be read only.
fn writable(folder: &Path) -> Check {
    let shown = folder.display();
    let tried = match folder.is_dir() {
        true => {
            let file = folder.join(format!(".doctor.{}", std::process::id()));
            std::fs::File::create_new(&file).and_then(|_| std::fs::remove_file(&file))
        }
        false => can_be_made(folder),
    };
    match tried {
        Ok(()) if folder.is_dir() => good(format!("{shown} can be written")),
        Ok(()) => good(format!("{shown} is not there yet; the first run makes it")),
        Err(error) => Check::of_problem(Area::Storage, &unwritable(folder, &error)),
    }
}

/// Whether a folder that is not there could be made, by what is above it.
fn can_be_made(folder: &Path) -> std::io::Result<()> {
    let mut above = folder.ancestors();
    let nearest = above.find(|path| std::fs::symlink_metadata(path).is_ok());
    let nearest = nearest.ok_or(ErrorKind::NotFound)?;
    if !nearest.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    Ok(rustix::fs::access(nearest, access)?)
}

/// What is captured is for its owner alone.
pub(super) fn open_to_others(path: &Path, wanted: u32) -> Option<Check> {
    let mode = path.metadata().ok()?.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then(|| {
        let text = format!("others can reach {} (mode {mode:04o})", path.display());
        let path = path.to_owned();
        Check::new(Area::Storage, State::Warning, text)
            .code("ORL0226")
            .repair(Repair { path, mode: wanted })
    })
}

fn readable(database: &Path) -> Option<Check> {
    let asked = Reader::open(database).and_then(|reader| reader.runs(1));
    match asked {
        Ok(_runs) => {
            let bytes = database.metadata().map_or(0, |facts| facts.len());
            let size = quantity::bytes(bytes);
            Some(good(format!("the database answers ({size})")))
        }
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => Some(Check::of_problem(Area::Storage, &store_problem(&error))),
    }
}

fn free(folder: &Path) -> Option<Check> {
    let mut above = folder.ancestors();
    let space = above.find_map(|path| rustix::fs::statvfs(path).ok())?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let text = format!("{} free", quantity::bytes(free));
    let state = match free {
        0..FREE_BYTES_MIN => State::Failed,
        FREE_BYTES_MIN..FREE_BYTES_WARN => State::Warning,
        _ => return Some(good(text)),
    };
    Some(
        Check::new(Area::Storage, state, text)
            .code("ORL0227")
            .fix("free some space, or use a data folder on another disk: --data DIR"),
    )
}
