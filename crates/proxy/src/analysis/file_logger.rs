//! Writes what it is handed to a file, a line of JSON each.

mod rotation;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use self::rotation::Rotation;
use super::{AnalysisMsg, Analyzer, Next};
use crate::limits::{LOG_FILE_BYTES, LOG_FILES_KEPT};

/// Writes each message and each record it is handed as one line of JSON
/// ([`AnalysisMsg::to_json`]), and passes it on.
///
/// A file that is there is appended to. When a line would make it larger than the limit it is
/// rotated first: `x.log` becomes `x.log.1`, that one `x.log.2`, and so on; the oldest is deleted.
/// So a file is larger than the limit only if one line is. New files have mode 0600: they hold what
/// people said.
///
/// A line that cannot be written is left out and counted
/// ([`AnalysisCounts::errors`](super::AnalysisCounts::errors)); the next one is tried again.
#[derive(Debug)]
pub struct FileLogger {
    path: PathBuf,
    bytes_max: u64,
    rotation: Rotation,
    open: Option<Log>,
}

/// The file that is written.
#[derive(Debug)]
struct Log {
    file: File,
    size: u64,
}

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", path.display())]
struct LogError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileLogger {
    /// Writes to this file. It is opened with the first line; files of 10 MiB, five rotated ones,
    /// not compressed.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            rotation: Rotation::new(&path, LOG_FILES_KEPT),
            path,
            bytes_max: LOG_FILE_BYTES,
            open: None,
        }
    }

    /// Rotates a file before it gets larger than so many octets.
    #[must_use]
    pub fn rotate_at(mut self, bytes_max: u64) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// Keeps so many rotated files, besides the one that is written. With none, a file that is
    /// full is deleted.
    #[must_use]
    pub fn keep_files(mut self, count: usize) -> Self {
        self.rotation.keep(count);
        self
    }

    /// Whether rotated files are compressed, to `x.log.1.gz` and so on. That happens when they are
    /// rotated, while messages wait in the queue: some tenths of a second for 10 MiB.
    #[must_use]
    pub fn compress(mut self, compress: bool) -> Self {
        self.rotation.compress(compress);
        self
    }

    fn write(&mut self, line: &[u8], next: &mut Next) -> Result<(), LogError> {
        let added = line.len() as u64;
        let is_full = |log: &Log| log.size > 0 && log.size + added > self.bytes_max;
        let mut log = match self.open.take() {
            Some(log) => log,
            None => Log::open(&self.path)?,
        };
        if is_full(&log) {
            match self.rotation.rotate() {
                Ok(()) => {
                    log = Log::open(&self.path)?;
                    if let Err(error) = self.rotation.compress_youngest() {
                        next.fail(&error);
                    }
                }
                // It goes on with the file it has: better too large than lost.
                Err(error) => next.fail(&error),
            }
        }
        let written = log.append(line);
        // After a failure it is opened anew: somebody may have made room, or replaced it.
        match written {
            Ok(()) => self.open = Some(log),
            Err(source) => return Err(failed("write to", &self.path, source)),
        }
        Ok(())
    }
}

impl Analyzer for FileLogger {
    fn name(&self) -> &'static str {
        "file_logger"
    }

    fn analyze(&mut self, message: AnalysisMsg, next: &mut Next) {
        let mut line = message.to_json().to_string();
        line.push('\n');
        if let Err(error) = self.write(line.as_bytes(), next) {
            next.fail(&error);
        }
        next.pass(message);
    }
}

impl Log {
    fn open(path: &Path) -> Result<Self, LogError> {
        let open = || -> io::Result<Self> {
            let mut file = options().open(path)?;
            let size = file.seek(SeekFrom::End(0))?;
            let mut log = Self { file, size };
            log.end_torn_line()?;
            Ok(log)
        };
        open().map_err(|source| failed("open", path, source))
    }

    /// A process that was killed may have left half a line; the next one is not to continue it.
    fn end_torn_line(&mut self) -> io::Result<()> {
        if self.size == 0 {
            return Ok(());
        }
        self.file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        self.file.read_exact(&mut last)?;
        match last {
            [b'\n'] => Ok(()),
            _ => self.append(b"\n"),
        }
    }

    /// Writes a line whole, or takes back what there was written of it.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        match self.file.write_all(line) {
            Ok(()) => {
                self.size += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                // If that fails too, the half line is ended when the file is opened next.
                let _kept = self.file.set_len(self.size);
                Err(error)
            }
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> LogError {
    LogError {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
