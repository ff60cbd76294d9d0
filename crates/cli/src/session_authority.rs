//! An authority that lives as long as a run: `oriel run --session-ca`. What the run starts trusts
//! it and nothing else does, so that nobody can use it for anything afterwards.
//!
//! Its files are in `runs/<run>/tls` of the data folder: `ca.crt`, which stays, so that a recorded
//! leaf can still be verified, and `ca.key`, which is removed at the end. As long as the run lives
//! it holds a lock on the key's file; a key without a lock was left behind by a crash, and the next
//! start removes it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use proxy::Authority;
use proxy::tls::authority::NewAuthority;
use store::RunId;
use traffic::Timestamp;

use crate::authority::{cannot_make, make_private_folder, replace, unwritable};
use crate::limits::SESSION_AUTHORITY_DAYS;
use crate::paths::runs_folder;
use crate::problem::Problem;

/// The common name of each of them.
pub(crate) const NAME: &str = "oriel session";
/// Where the two files are in the folder of a run.
const FOLDER: &str = "tls";
const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";

/// The files of such an authority. The key's is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SessionFiles {
    key: PathBuf,
    /// Holds the lock.
    _locked: File,
}

/// Makes an authority for this run alone: ECDSA P-256. It is in memory only so far.
pub(crate) fn make(now: Timestamp) -> Result<Authority, Problem> {
    let new = NewAuthority {
        days: SESSION_AUTHORITY_DAYS,
        ..NewAuthority::named(NAME)
    };
    Authority::create(&new, now).map_err(|error| cannot_make(&error))
}

impl SessionFiles {
    /// Writes the files of a run. One that is not recorded has no name; it gets that of its
    /// certificate.
    pub(crate) fn write(
        data_folder: &Path,
        run: Option<RunId>,
        authority: &Authority,
    ) -> Result<Self, Problem> {
        let named = || {
            let octets = authority.sha256().into_iter().take(8);
            octets.map(|octet| format!("{octet:02x}")).collect()
        };
        let run = run.map_or_else(named, |run| run.to_string());
        let folder = runs_folder(data_folder).join(run).join(FOLDER);
        let written = make_private_folder(&folder).and_then(|()| {
            let key = folder.join(KEY);
            let locked = write_locked(&key, authority.key_pem())?;
            let files = Self {
                key,
                _locked: locked,
            };
            let certificate = authority.certificate_pem();
            replace(&folder.join(CERTIFICATE), certificate.as_bytes(), 0o600)?;
            Ok(files)
        });
        written.map_err(|error| unwritable(&folder, &error))
    }
}

impl Drop for SessionFiles {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.key) {
            tracing::warn!(key = %self.key.display(), %error, "cannot remove the key of the session");
        }
    }
}

/// Removes the keys that runs left behind which ended without being able to.
pub(crate) fn sweep(data_folder: &Path) {
    let runs = std::fs::read_dir(runs_folder(data_folder));
    for run in runs.into_iter().flatten().flatten() {
        let key = run.path().join(FOLDER).join(KEY);
        match remove_if_left(&key) {
            Ok(true) => {
                tracing::info!(key = %key.display(), "removed the key of a run that crashed");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(key = %key.display(), %error, "cannot remove the key of a run");
            }
        }
    }
}

/// True if the key was there and nobody used it.
fn remove_if_left(key: &Path) -> io::Result<bool> {
    let file = match File::open(key) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        // Its run has made it this moment and has not written it yet.
        Ok(()) if file.metadata()?.len() == 0 => Ok(false),
        Ok(()) => std::fs::remove_file(key).map(|()| true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The key is written after it was locked, so that it is never there unlocked while in use.
fn write_locked(path: &Path, text: &str) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.lock()?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    #[test]
    fn a_key_is_removed_when_its_run_is_gone_and_not_before() {
        let data = tempfile::tempdir().unwrap();
        let authority = make(now()).unwrap();
        let files = SessionFiles::write(data.path(), None, &authority).unwrap();
        let folder = files.key.parent().unwrap().to_owned();
        sweep(data.path());
        assert!(folder.join("ca.key").exists(), "it is in use");
        drop(files);
        assert!(!folder.join("ca.key").exists());
        assert!(folder.join("ca.crt").exists());

        let left = data.path().join("runs/abcd/tls/ca.key");
        std::fs::create_dir_all(left.parent().unwrap()).unwrap();
        std::fs::write(&left, "").unwrap();
        sweep(data.path());
        assert!(left.exists(), "it may be about to be written");
        std::fs::write(&left, authority.key_pem()).unwrap();
        sweep(data.path());
        assert!(!left.exists());
    }
}
