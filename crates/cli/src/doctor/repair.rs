//! What `oriel doctor --fix` does by itself of what it printed: it takes files of ours from others. The
//! rest is a person's to do, since it changes a shell, another program, or what others trust.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::authority::unwritable;
use crate::problem::Problem;

/// A file or folder of ours that is to be for its owner alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repair {
    pub(super) path: PathBuf,
    pub(super) mode: u32,
}

impl Repair {
    /// The command that does the same.
    pub(crate) fn command(&self) -> String {
        format!("chmod {:o} {}", self.mode, self.path.display())
    }

    pub(crate) fn apply(&self) -> Result<(), Problem> {
        set_permissions(&self.path, Permissions::from_mode(self.mode))
            .map_err(|error| unwritable(&self.path, &error))
    }
}
