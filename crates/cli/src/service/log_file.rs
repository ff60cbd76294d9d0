//! The log of a service that has no terminal and no service manager: a file of JSON lines. A full
//! one is put aside under a number, and the oldest is removed, so that all of them stay bounded.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::authority::make_private_folder;
use crate::limits::{LOG_FILE_BYTES_MAX, LOG_FILES_MAX};

/// The file that is written to now.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    bytes_max: u64,
    file: Mutex<File>,
    /// Whether stderr leads here too: what a panic says is then in the log.
    has_stderr: AtomicBool,
}

impl LogFile {
    /// Opens it, with the folder above it, for its owner only.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::bounded(path, LOG_FILE_BYTES_MAX)
    }

    fn bounded(path: &Path, bytes_max: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            make_private_folder(folder)?;
        }
        Ok(Self {
            path: path.to_owned(),
            bytes_max,
            file: Mutex::new(append_to(path)?),
            has_stderr: AtomicBool::new(false),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Has stderr lead here from now on.
    pub(crate) fn take_stderr(&self) -> io::Result<()> {
        let file = self.file.lock();
        self.has_stderr.store(true, Ordering::Relaxed);
        Ok(rustix::stdio::dup2_stderr(&*file)?)
    }

    /// Writes to the file that has the name now: another process may have put ours aside. A full one
    /// is put aside first.
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.file.lock();
        let mut length = file.metadata()?.len();
        if !has_name(&file, &self.path)? {
            *file = self.open_next()?;
            length = file.metadata()?.len();
        }
        if length > 0 && length + bytes.len() as u64 > self.bytes_max {
            put_aside(&self.path)?;
            *file = self.open_next()?;
        }
        file.write(bytes)
    }
}

impl LogFile {
    fn open_next(&self) -> io::Result<File> {
        let file = append_to(&self.path)?;
        if self.has_stderr.load(Ordering::Relaxed) {
            rustix::stdio::dup2_stderr(&file)?;
        }
        Ok(file)
    }
}

/// Whether the file still has this name.
fn has_name(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    let named = std::fs::metadata(path);
    Ok(named.is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())))
}

impl Write for &LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// All files there may be, the newest first.
pub(crate) fn files(path: &Path) -> impl DoubleEndedIterator<Item = PathBuf> {
    (0..LOG_FILES_MAX).map(|number| numbered(path, number))
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    match number {
        0 => path.to_owned(),
        _ => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            name.into()
        }
    }
}

/// Gives every file the next number; the last one is replaced.
fn put_aside(path: &Path) -> io::Result<()> {
    for number in (1..LOG_FILES_MAX).rev() {
        match std::fs::rename(numbered(path, number - 1), numbered(path, number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_are_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/oriel.log");
        let log = LogFile::bounded(&path, 10).unwrap();
        for number in 0..20 {
            (&log)
                .write_all(format!("line {number:02}\n").as_bytes())
                .unwrap();
        }
        let texts: Vec<_> = files(&path)
            .map(|file| std::fs::read_to_string(file).unwrap())
            .collect();
        assert_eq!(texts.len(), LOG_FILES_MAX);
        assert_eq!(texts[0], "line 19\n");
        assert_eq!(texts[1], "line 18\n");
        let count = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(count, LOG_FILES_MAX);
    }

    #[test]
    fn a_line_that_is_too_long_is_written_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("oriel.log");
        let log = LogFile::bounded(&path, 4).unwrap();
        (&log).write_all(b"a long line\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a long line\n");
    }

    #[test]
    fn two_processes_write_to_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("oriel.log");
        let one = LogFile::bounded(&path, 8).unwrap();
        let other = LogFile::bounded(&path, 8).unwrap();
        (&one).write_all(b"first.\n").unwrap();
        (&one).write_all(b"second\n").unwrap();
        (&other).write_all(b"third.\n").unwrap();
        (&other).write_all(b"fourth\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "fourth\n");
        let oldest = std::fs::read_to_string(numbered(&path, 3)).unwrap();
        assert_eq!(oldest, "first.\n");
    }
}
