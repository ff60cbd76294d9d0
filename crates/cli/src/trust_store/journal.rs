//! What was changed to have certificates trusted, so that exactly that can be taken back: a small
//! file in the data folder, `trust.json`. An entry is written before its change is made; undoing
//! one that was never made does nothing.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Store;
use super::change::Change;
use crate::authority::{make_private_folder, replace, unwritable};
use crate::exit::Exit;
use crate::problem::Problem;

/// The entries and where they are kept.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    pub(crate) entries: Vec<Entry>,
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
        Ok(Self { path, entries })
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
            std::os::unix::fs::chown(&self.path, Some(owner.uid()), Some(owner.gid()))?;
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
