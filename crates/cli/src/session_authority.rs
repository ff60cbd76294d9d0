//! An authority that lives as long as a run: `oriel run --session-ca`. What the run starts trusts
//! it and nothing else does, so that nobody can use it for anything afterwards.
//!
//! It is made in memory before the command starts, which is given its certificate to trust; that
//! takes some hundred microseconds. Its files are written when it signs its first leaf, beside the
//! traffic: a run that opens nothing leaves nothing. They are in `runs/<run>/tls` of the data folder:
//! `ca.crt`, which stays until it has expired, so that a recorded leaf can still be verified, and
//! `ca.key`, which is removed at the end. As long as the run lives it holds a lock on the key's file; a
//! key without a lock was left behind by a crash, and the next start removes it.

use std::convert::Infallible;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind::{DirectoryNotEmpty, NotFound};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proxy::Authority;
use proxy::tls::authority::{NewAuthority, read_certificates};
use proxy::tls::chain::links;
use store::RunId;
use traffic::Timestamp;

use crate::authority::{cannot_make, make_private_folder, replace};
use crate::limits::SESSION_AUTHORITY_DAYS;
use crate::paths::runs_folder;
use crate::problem::Problem;

/// The common name of each of them.
pub(crate) const NAME: &str = "oriel session";
/// Where the two files are in the folder of a run.
const FOLDER: &str = "tls";
const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";

/// An authority whose files are not written yet.
#[derive(Debug)]
pub(crate) struct SessionAuthority {
    authority: Arc<Authority>,
    /// Where they will be.
    folder: PathBuf,
}

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

impl SessionAuthority {
    /// That of a run. One that is not recorded has no name; it gets that of its certificate.
    pub(crate) fn new(data_folder: &Path, run: Option<RunId>, authority: Arc<Authority>) -> Self {
        let named = || {
            let octets = authority.sha256().into_iter().take(8);
            octets.map(|octet| format!("{octet:02x}")).collect()
        };
        let run = run.map_or_else(named, |run| run.to_string());
        let folder = runs_folder(data_folder).join(run).join(FOLDER);
        Self { authority, folder }
    }

    /// Writes the files once the authority is used, and keeps them. It never ends; when it is dropped
    /// the key is removed. Where they cannot be written the run goes on, as it needs none of them.
    pub(crate) async fn keep(self) -> Infallible {
        self.authority.used().await;
        let writing = tokio::task::spawn_blocking(move || {
            let files = SessionFiles::write(&self.folder, &self.authority);
            if let Err(error) = &files {
                let folder = self.folder.display();
                tracing::warn!(%folder, %error, "cannot write the certificate of the session");
            }
            files
        });
        let _files = writing.await;
        std::future::pending().await
    }
}

impl SessionFiles {
    fn write(folder: &Path, authority: &Authority) -> io::Result<Self> {
        make_private_folder(folder)?;
        let key = folder.join(KEY);
        let locked = write_locked(&key, authority.key_pem())?;
        let files = Self {
            key,
            _locked: locked,
        };
        let certificate = authority.certificate_pem();
        replace(&folder.join(CERTIFICATE), certificate.as_bytes(), 0o600)?;
        Ok(files)
    }
}

impl Drop for SessionFiles {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.key) {
            tracing::warn!(key = %self.key.display(), %error, "cannot remove the key of the session");
        }
    }
}

/// Removes the keys that runs left behind which ended without being able to, and the folders of runs
/// whose certificates have expired.
pub(crate) fn sweep(data_folder: &Path, now: Timestamp) {
    let runs = std::fs::read_dir(runs_folder(data_folder));
    for run in runs.into_iter().flatten().flatten() {
        let folder = run.path().join(FOLDER);
        let key = folder.join(KEY);
        match remove_if_left(&key) {
            Ok(true) => {
                tracing::info!(key = %key.display(), "removed the key of a run that crashed");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(key = %key.display(), %error, "cannot remove the key of a run");
            }
        }
        if has_expired(&folder.join(CERTIFICATE), now) {
            prune(&folder);
        }
    }
}

/// Whether a certificate is over. It is read only if its file is as old as that takes.
fn has_expired(certificate: &Path, now: Timestamp) -> bool {
    let written = certificate.metadata().and_then(|facts| facts.modified());
    let Some(written) = written
        .ok()
        .and_then(|at| jiff::Timestamp::try_from(at).ok())
    else {
        return false;
    };
    let age = now.micros_since(Timestamp(written.as_microsecond()));
    // It is valid from some time before it is written.
    if age < i64::from(SESSION_AUTHORITY_DAYS - 1) * 86_400_000_000 {
        return false;
    }
    let certificates = read_certificates(certificate).unwrap_or_default();
    let link = links(&certificates).into_iter().next();
    link.is_some_and(|link| link.not_after <= now)
}

/// Removes what is ours in the folder of a run, and the folder if there was nothing else. A key that
/// is still there is in use.
fn prune(folder: &Path) {
    if folder.join(KEY).exists() {
        return;
    }
    let run = folder.parent().unwrap_or(folder);
    let pruned = std::fs::remove_file(folder.join(CERTIFICATE))
        .and_then(|()| std::fs::remove_dir(folder))
        .and_then(|()| std::fs::remove_dir(run));
    match pruned {
        // Another oriel may be doing the same.
        Err(error) if !matches!(error.kind(), NotFound | DirectoryNotEmpty) => {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove an expired certificate");
        }
        _ => tracing::debug!(folder = %folder.display(), "removed an expired certificate"),
    }
}

/// True if the key was there and nobody used it.
fn remove_if_left(key: &Path) -> io::Result<bool> {
    let file = match File::open(key) {
        Ok(file) => file,
        Err(error) if error.kind() == NotFound => return Ok(false),
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
    use std::time::Duration;

    use super::*;
    use crate::clock::now;

    /// The folder of a run, and the file of its certificate, last written at a time.
    fn left(data: &Path, run: &str, made: Timestamp) -> PathBuf {
        let folder = runs_folder(data).join(run).join(FOLDER);
        let files = SessionFiles::write(&folder, &make(made).unwrap()).unwrap();
        drop(files);
        let written = std::time::UNIX_EPOCH + Duration::from_micros(made.0.cast_unsigned());
        let certificate = File::open(folder.join(CERTIFICATE)).unwrap();
        certificate.set_modified(written).unwrap();
        folder
    }

    #[test]
    fn a_key_is_removed_when_its_run_is_gone_and_not_before() {
        let data = tempfile::tempdir().unwrap();
        let authority = make(now()).unwrap();
        let folder = runs_folder(data.path()).join("efgh").join(FOLDER);
        let files = SessionFiles::write(&folder, &authority).unwrap();
        sweep(data.path(), now());
        assert!(folder.join("ca.key").exists(), "it is in use");
        drop(files);
        assert!(!folder.join("ca.key").exists());
        assert!(folder.join("ca.crt").exists());

        let left = data.path().join("runs/abcd/tls/ca.key");
        std::fs::create_dir_all(left.parent().unwrap()).unwrap();
        std::fs::write(&left, "").unwrap();
        sweep(data.path(), now());
        assert!(left.exists(), "it may be about to be written");
        std::fs::write(&left, authority.key_pem()).unwrap();
        sweep(data.path(), now());
        assert!(!left.exists());
    }

    #[test]
    fn what_has_expired_is_removed_with_its_folder_and_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        let day = 86_400_000_000;
        let days_ago = |days: i64| Timestamp(now().0 - days * day);
        let over = left(data.path(), "over", days_ago(31));
        let shared = left(data.path(), "shared", days_ago(31));
        std::fs::write(shared.parent().unwrap().join("notes"), "mine").unwrap();
        let lasts = left(data.path(), "lasts", days_ago(29));
        // Copied from elsewhere: its file is older than it is.
        let copied = left(data.path(), "copied", now());
        let file = File::open(copied.join(CERTIFICATE)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        sweep(data.path(), now());
        assert!(!over.parent().unwrap().exists());
        assert!(shared.parent().unwrap().join("notes").exists() && !shared.exists());
        assert!(lasts.join("ca.crt").exists() && copied.join("ca.crt").exists());
    }
}
