//! Who the service is: a file with its process id, locked (flock(2)) as long as the process lives.
//! The kernel gives the lock up whatever way the process ends, so a number that somebody else has by
//! now is never taken for ours: without the lock nobody is there, whatever the file says.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::time::Instant;

use super::{Place, unusable};
use crate::limits::{LOCK_LOOK_EVERY, LOCK_PATIENCE};
use crate::problem::Problem;

/// The lock, held until it is dropped or given to another process with its descriptor.
#[derive(Debug)]
pub(crate) struct ServiceLock {
    file: File,
}

impl ServiceLock {
    /// Takes the lock and writes our process id; `None` if another process has it.
    pub(crate) fn take(place: &Place) -> Result<Option<Self>, Problem> {
        place.make_folder()?;
        let wrong = |error: std::io::Error| unusable(&place.pid_file, error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&place.pid_file)
            .map_err(wrong)?;
        // Who asks whether it is held has it for a moment.
        let patience = Instant::now() + LOCK_PATIENCE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if Instant::now() < patience => {
                    std::thread::sleep(LOCK_LOOK_EVERY / 4);
                }
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(wrong(error.into())),
            }
        }
        let mut lock = Self { file };
        lock.name_us().map_err(wrong)?;
        Ok(Some(lock))
    }

    /// A lock that was handed on. The file names the process before us until [`Self::name_us`].
    pub(crate) fn handed(file: File) -> Self {
        Self { file }
    }

    /// Writes our process id.
    pub(crate) fn name_us(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        writeln!(self.file, "{}", std::process::id())
    }
}

impl AsFd for ServiceLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The process id of the running service, if one runs.
pub(crate) fn holder(place: &Place) -> Result<Option<u32>, Problem> {
    let wrong = |error: std::io::Error| unusable(&place.pid_file, error);
    let mut file = match File::open(&place.pid_file) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(wrong(error)),
    };
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Ok(None),
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(wrong(error.into())),
        }
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).map_err(wrong)?;
        file.read_to_string(&mut text).map_err(wrong)?;
        match text.trim().parse() {
            Ok(pid) => return Ok(Some(pid)),
            // It has the lock and is about to write.
            Err(_) if Instant::now() < patience => std::thread::sleep(LOCK_LOOK_EVERY / 4),
            Err(_) => return Err(unusable(&place.pid_file, "no process id is in it")),
        }
    }
}

/// Waits until no service runs; false if one still does after this time.
pub(crate) fn wait_until_free(place: &Place, patience: Duration) -> Result<bool, Problem> {
    let deadline = Instant::now() + patience;
    while holder(place)?.is_some() {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(LOCK_LOOK_EVERY);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &tempfile::TempDir) -> Place {
        Place {
            folder: folder.path().join("run"),
            pid_file: folder.path().join("run/service.pid"),
            control: folder.path().join("run/control.sock"),
            log: folder.path().join("oriel.log"),
        }
    }

    #[test]
    fn is_held_by_one_and_free_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(&folder);
        assert_eq!(holder(&place).unwrap(), None);
        let lock = ServiceLock::take(&place).unwrap().unwrap();
        assert_eq!(holder(&place).unwrap(), Some(std::process::id()));
        assert!(ServiceLock::take(&place).unwrap().is_none());
        assert!(!wait_until_free(&place, Duration::ZERO).unwrap());
        drop(lock);
        assert_eq!(holder(&place).unwrap(), None);
        assert!(wait_until_free(&place, Duration::ZERO).unwrap());
    }

    #[test]
    fn a_number_without_a_lock_is_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(&folder);
        place.make_folder().unwrap();
        // This very process runs, but is no service.
        std::fs::write(&place.pid_file, std::process::id().to_string()).unwrap();
        assert_eq!(holder(&place).unwrap(), None);
        assert!(ServiceLock::take(&place).unwrap().is_some());
    }

    #[test]
    fn the_folder_is_ours_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let place = place(&folder);
        std::fs::create_dir(&place.folder).unwrap();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&place.folder, open).unwrap();
        let _lock = ServiceLock::take(&place).unwrap().unwrap();
        let mode = std::fs::metadata(&place.folder)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
