//! What was changed to have certificates trusted, so that exactly that can be taken back: a small
//! file in the data folder, `trust.json`. An entry is written before its change is made; undoing
//! one that was never made does nothing. Who changes something holds a lock on the data folder, from
//! before the file is read until it is written.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Store;
use super::change::Change;
use super::root::Root;
use crate::authority::{make_private_folder, replace, unwritable};
use crate::exit::Exit;
use crate::limits::TRUST_LOCK_LOOK_EVERY;
use crate::output::say_line;
use crate::problem::Problem;

/// The entries and where they are kept.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    pub(crate) entries: Vec<Entry>,
    /// The data folder, locked; the lock ends with it.
    _lock: Option<File>,
}

/// One change that was made, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The root that it was made in: `/` or the folder of a container.
    pub(crate) root: PathBuf,
    pub(crate) store: Store,
    /// Whose certificate it is, and its fingerprint.
    pub(crate) subject: String,
    pub(crate) sha256: String,
    pub(crate) change: Change,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    schema: String,
    entries: Vec<Entry>,
}

const SCHEMA: &str = "oriel.trust/1";

impl Journal {
    /// Reads that of a data folder to change it, once no other oriel does. The lock is on the folder
    /// itself, so that no file is left, and none of root's in the folder of a user.
    pub(crate) fn open(data_folder: &Path, wait: Duration) -> Result<Self, Problem> {
        make_private_folder(data_folder).map_err(|error| unwritable(data_folder, &error))?;
        let folder = File::open(data_folder).map_err(|error| unwritable(data_folder, &error))?;
        let mut left = wait;
        while let Err(error) = folder.try_lock() {
            let why = match error {
                TryLockError::WouldBlock if !left.is_zero() => {
                    if left == wait {
                        say_line("another oriel is changing what programs trust; waiting for it");
                    }
                    std::thread::sleep(TRUST_LOCK_LOOK_EVERY);
                    left = left.saturating_sub(TRUST_LOCK_LOOK_EVERY);
                    continue;
                }
                TryLockError::WouldBlock => "another oriel is changing it".to_owned(),
                TryLockError::Error(error) => error.to_string(),
            };
            let what = "cannot change what programs trust now";
            return Err(Problem::new("ORL0317", Exit::Busy, what)
                .why(format!(
                    "{}: {why}; nothing was changed",
                    data_folder.display()
                ))
                .fix("wait until that has ended, and try again"));
        }
        let journal = Self::load(data_folder)?;
        Ok(Self {
            _lock: Some(folder),
            ..journal
        })
    }

    /// Reads that of a data folder; one that is not there has no entries.
    pub(crate) fn load(data_folder: &Path) -> Result<Self, Problem> {
        let path = data_folder.join("trust.json");
        let entries = match std::fs::read(&path) {
            Ok(text) => read(&text).map_err(|why| {
                let what = format!("cannot read what was installed from {}", path.display());
                Problem::new("ORL0313", Exit::Storage, what).why(why)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let what = format!("cannot read {}", path.display());
                return Err(Problem::new("ORL0313", Exit::Storage, what).why(error.to_string()));
            }
        };
        Ok(Self {
            path,
            entries,
            _lock: None,
        })
    }

    /// Whether a command was run before: nothing else tells that of one.
    pub(crate) fn has_run(&self, root: &Root, change: &Change) -> bool {
        let is_command = matches!(change, Change::Command { .. });
        let mut entries = self.entries.iter();
        is_command && entries.any(|entry| entry.root == root.name() && entry.change == *change)
    }

    /// Writes it; without entries it is removed.
    pub(crate) fn save(&self) -> Result<(), Problem> {
        self.write().map_err(|error| unwritable(&self.path, &error))
    }

    fn write(&self) -> io::Result<()> {
        if self.entries.is_empty() {
            return match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        make_private_folder(folder)?;
        let document = Document {
            schema: SCHEMA.to_owned(),
            entries: self.entries.clone(),
        };
        let text = serde_json::to_vec_pretty(&document)?;
        replace(&self.path, &text, 0o644)?;
        // Root may do this for the user whose folder it is.
        let owner = std::fs::metadata(folder)?;
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(&self.path, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(())
    }
}

fn read(text: &[u8]) -> Result<Vec<Entry>, String> {
    let document: Document = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match document.schema == SCHEMA {
        true => Ok(document.entries),
        false => Err(format!(
            "it is {}, and this oriel knows {SCHEMA}",
            document.schema
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changes_it_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Journal::open(folder.path(), Duration::ZERO).unwrap();
        let second = Journal::open(folder.path(), Duration::ZERO).unwrap_err();
        assert_eq!(second.code, "ORL0317");
        assert!(
            Journal::load(folder.path()).is_ok(),
            "looking takes no lock"
        );
        drop(first);
        assert!(Journal::open(folder.path(), Duration::ZERO).is_ok());
        let left = std::fs::read_dir(folder.path()).unwrap();
        assert_eq!(left.count(), 0);
    }
}
