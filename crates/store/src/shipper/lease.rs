//! Who copies, of the oriels that write to one file: whoever holds a lock on a file beside it. The
//! system gives the lock back when its holder ends, however it does.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::{Location, StoreError};

/// Held as long as it is not dropped.
#[derive(Debug)]
pub(super) struct Lease {
    _file: File,
}

impl Lease {
    /// Takes it; `None` if another holds it.
    pub(super) fn take(file: &Path, archive: &Location) -> Result<Option<Self>, StoreError> {
        let path = lock_path(file, archive);
        let failed = |source: std::io::Error| StoreError::NotWritable {
            path: path.clone(),
            source,
        };
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: lock })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// Beside the database, one for each archive. The file stays: removing it would let two hold it.
fn lock_path(file: &Path, archive: &Location) -> PathBuf {
    let name = blake3::hash(archive.to_string().as_bytes()).to_hex();
    let name = name.get(..8).unwrap_or_default().to_owned();
    let mut path = file.as_os_str().to_owned();
    path.push(format!("-ship-{name}.lock"));
    PathBuf::from(path)
}
