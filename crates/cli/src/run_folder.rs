//! A folder for the files of one process: made when it is needed, removed at its end.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// The folder. It is not made yet when this is.
#[derive(Debug)]
pub(crate) struct RunFolder {
    pub(crate) path: PathBuf,
}

impl RunFolder {
    /// Names a folder for this process, and removes those that killed processes left behind.
    pub(crate) fn new(runtime: &Path) -> Self {
        for entry in std::fs::read_dir(runtime).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.parse::<i32>().ok());
            let gone = pid
                .and_then(Pid::from_raw)
                .is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH));
            if gone {
                // Another oriel may be removing it as well.
                let _gone = std::fs::remove_dir_all(entry.path());
            }
        }
        Self {
            path: runtime.join(std::process::id().to_string()),
        }
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // It may never have been made.
        let _gone = std::fs::remove_dir_all(&self.path);
    }
}
