//! What was changed to have certificates trusted, so that exactly that can be taken back: a small
//! file in the data folder, `trust.json`. An entry is written before its change is made; undoing
//! one that was never made does nothing. Who changes something holds a lock on the data folder, from
//! before the file is read until it is written.
//!
//! What root changes for a user is written where that user cannot: below `/var/lib/oriel/trust`, at
//! the path of the data folder. Entries are looked at before they are undone all the same
//! (`known.rs`).

mod old;

use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Store;
use super::change::Change;
use super::root::Root;
use crate::authority::{make_private_folder, unwritable};
use crate::exit::Exit;
use crate::limits::TRUST_LOCK_LOOK_EVERY;
use crate::output::say_line;
use crate::problem::Problem;
use crate::whole_file::replace_durably;

/// The entries and where they are kept.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) entries: Vec<Entry>,
    files: [KeptFile; 2],
    /// Who keeps what is changed now.
    keeper: Keeper,
    /// The data folder, locked; the lock ends with it.
    _lock: Option<File>,
}

/// A file with entries, and what is in it.
#[derive(Debug)]
struct KeptFile {
    keeper: Keeper,
    path: PathBuf,
    entries: Vec<Entry>,
    /// Entries that say nothing to this oriel; they stay.
    strange: Vec<Value>,
}

/// Whose file an entry is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// In the data folder: that of its owner.
    #[default]
    User,
    /// Below `/var/lib`: root's.
    Root,
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) keeper: Keeper,
    /// Whether nobody but who runs this could have written it.
    pub(crate) mine: bool,
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
    #[serde(skip)]
    pub(crate) origin: Origin,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    schema: String,
    entries: Vec<Value>,
}

const SCHEMA: &str = "oriel.trust/2";
/// Where root's are.
const ROOTS_FOLDER: &str = "/var/lib/oriel/trust";
const FILE_NAME: &str = "trust.json";
/// A machine has a handful of stores, an entry some kilobytes.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

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
        // A folder that is not there has no other name.
        let real = data_folder.canonicalize();
        let real = real.unwrap_or_else(|_| data_folder.to_owned());
        let below = real.strip_prefix("/").unwrap_or(&real);
        let files = [
            KeptFile::load(Keeper::User, data_folder.join(FILE_NAME))?,
            KeptFile::load(
                Keeper::Root,
                Path::new(ROOTS_FOLDER).join(below).join(FILE_NAME),
            )?,
        ];
        let for_another = rustix::process::geteuid().is_root() && !is_roots(&real);
        Ok(Self {
            entries: files.iter().flat_map(|file| file.entries.clone()).collect(),
            files,
            keeper: if for_another {
                Keeper::Root
            } else {
                Keeper::User
            },
            _lock: None,
        })
    }

    /// Where what is changed now is written down.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            keeper: self.keeper,
            mine: true,
        }
    }

    /// The files with entries that say nothing to this oriel.
    pub(crate) fn strange(&self) -> impl Iterator<Item = &Path> {
        let strange = self.files.iter().filter(|file| !file.strange.is_empty());
        strange.map(|file| file.path.as_path())
    }

    /// The file that an entry is in.
    pub(crate) fn file_of(&self, entry: &Entry) -> Option<&Path> {
        let mut files = self.files.iter();
        let file = files.find(|file| file.keeper == entry.origin.keeper)?;
        Some(&file.path)
    }

    /// Whether a keychain was changed before: nothing else tells that of one.
    pub(crate) fn has_run(&self, root: &Root, change: &Change) -> bool {
        let is_command = matches!(change, Change::Keychain(_));
        let mut entries = self.entries.iter();
        is_command && entries.any(|entry| entry.root == root.name() && entry.change == *change)
    }

    /// Writes what is not in the files as it is here; a file without entries is removed.
    pub(crate) fn save(&mut self) -> Result<(), Problem> {
        for file in &mut self.files {
            let keeper = file.keeper;
            let entries = self.entries.iter();
            let entries = entries.filter(|entry| entry.origin.keeper == keeper);
            let entries: Vec<_> = entries.cloned().collect();
            if entries != file.entries {
                file.entries = entries;
                file.write()
                    .map_err(|error| unwritable(&file.path, &error))?;
            }
        }
        Ok(())
    }
}

impl KeptFile {
    fn load(keeper: Keeper, path: PathBuf) -> Result<Self, Problem> {
        let problem = |why: String| {
            let what = format!("cannot read what was installed from {}", path.display());
            Problem::new("ORL0313", Exit::Storage, what).why(why)
        };
        let (mut entries, mut strange) = (Vec::new(), Vec::new());
        match File::open(&path) {
            Ok(file) => {
                let mine = is_mine(&file, &path);
                if keeper == Keeper::Root && !is_roots(&path) {
                    return Err(problem(
                        "somebody else than root may write to it".to_owned(),
                    ));
                }
                let mut text = Vec::new();
                let read = file.take(FILE_BYTES_MAX).read_to_end(&mut text);
                read.map_err(|error| problem(error.to_string()))?;
                let origin = Origin { keeper, mine };
                for value in read_entries(&text).map_err(problem)? {
                    match Entry::deserialize(&value) {
                        Ok(entry) => entries.push(Entry { origin, ..entry }),
                        Err(_) => strange.push(value),
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(problem(error.to_string())),
        }
        Ok(Self {
            keeper,
            path,
            entries,
            strange,
        })
    }

    fn write(&self) -> io::Result<()> {
        if self.entries.is_empty() && self.strange.is_empty() {
            return match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => {
                    self.forget_folders();
                    Ok(())
                }
            };
        }
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        match self.keeper {
            Keeper::User => make_private_folder(folder)?,
            Keeper::Root => make_roots_folder(folder)?,
        }
        let entries = self.entries.iter().map(serde_json::to_value);
        let entries: Result<Vec<_>, _> = entries.collect();
        let mut entries = entries?;
        entries.extend(self.strange.iter().cloned());
        let document = Document {
            schema: SCHEMA.to_owned(),
            entries,
        };
        replace_durably(&self.path, &serde_json::to_vec_pretty(&document)?, 0o644)
    }

    /// Removes the folders that were made for a file of root's, as far as they are empty.
    fn forget_folders(&self) {
        if self.keeper == Keeper::User {
            return;
        }
        let folders = self.path.ancestors().skip(1);
        let own = folders.take_while(|folder| folder.starts_with("/var/lib/oriel"));
        for folder in own {
            if std::fs::remove_dir(folder).is_err() {
                return;
            }
        }
    }
}

/// Makes a folder of root's and those above it. Others may read, whatever the umask is: a user is
/// shown what was installed for him.
fn make_roots_folder(folder: &Path) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|path| !path.exists());
    let missing: Vec<_> = missing.collect();
    for path in missing.into_iter().rev() {
        std::fs::create_dir(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Whether a file, and the folder that it is in, are of who runs this alone.
fn is_mine(file: &File, path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let of_file = file.metadata();
    let of_folder = path.parent().map(std::fs::metadata);
    let is_own = |facts: std::fs::Metadata| facts.uid() == own && facts.mode() & 0o022 == 0;
    of_file.is_ok_and(is_own) && of_folder.is_some_and(|facts| facts.is_ok_and(is_own))
}

/// Whether nobody but root can change what is at a path: it and every folder above it are root's.
/// In a folder like `/tmp` one can add to, but not change, what others have there.
fn is_roots(path: &Path) -> bool {
    let found = path.ancestors().skip_while(|path| !path.exists());
    let mut facts = found.map(std::fs::metadata);
    facts.all(|facts| {
        facts.is_ok_and(|facts| {
            let (mode, is_sticky) = (facts.mode(), facts.mode() & 0o1000 != 0);
            facts.uid() == 0 && (mode & 0o022 == 0 || is_sticky && facts.is_dir())
        })
    })
}

fn read_entries(text: &[u8]) -> Result<Vec<Value>, String> {
    let document: Document = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match document.schema.as_str() {
        SCHEMA => Ok(document.entries),
        old::SCHEMA => Ok(document.entries.iter().map(old::mapped).collect()),
        other => Err(format!("it is {other}, and this oriel knows {SCHEMA}")),
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
