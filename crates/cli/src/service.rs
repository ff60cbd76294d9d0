//! The one service of a person: where its files are, how it is told apart from whatever else has
//! its number, and how it is asked things. `oriel start`, or a service manager, runs it.

pub(crate) mod ask;
pub(crate) mod control;
pub(crate) mod handover;
pub(crate) mod inherited;
pub(crate) mod lock;
pub(crate) mod log_file;
pub(crate) mod notify;
pub(crate) mod orders;
pub(crate) mod succession;
pub(crate) mod unit;

use std::path::{Path, PathBuf};

use crate::exit::Exit;
use crate::own_folder;
use crate::paths::Paths;
use crate::problem::Problem;

/// The files of the service.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// A folder that nobody else can enter.
    folder: PathBuf,
    /// Who it is; locked as long as it runs.
    pub(crate) pid_file: PathBuf,
    /// The socket on which it is asked.
    pub(crate) control: PathBuf,
    /// Its log, if it runs detached.
    pub(crate) log: PathBuf,
}

impl Place {
    pub(crate) fn of(paths: &Paths) -> Self {
        Self {
            folder: paths.runtime.clone(),
            pid_file: paths.runtime.join("service.pid"),
            control: paths.runtime.join("control.sock"),
            log: paths.state.join("oriel.log"),
        }
    }

    /// Makes the folder, and sees to it that it is ours alone: who can enter it could listen in our
    /// place.
    fn make_folder(&self) -> Result<(), Problem> {
        own_folder::claim(&self.folder).map_err(|error| unusable(&self.folder, error))
    }
}

/// A file or folder of the service that cannot be used.
fn unusable(path: &Path, why: impl std::fmt::Display) -> Problem {
    let what = format!("cannot use {} for the service", path.display());
    Problem::new("ORL0901", Exit::Storage, what)
        .why(why.to_string())
        .fix("name another folder of your own:  XDG_RUNTIME_DIR=DIR oriel start")
}
