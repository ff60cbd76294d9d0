//! Moves full log files out of the way: `.1` is the youngest, the last is deleted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{LogError, failed};

/// What stands at the end of the name of a compressed file.
const COMPRESSED: &str = ".gz";

/// The rotated files of one log.
#[derive(Debug)]
pub(super) struct Rotation {
    path: PathBuf,
    kept: usize,
    compress: bool,
}

impl Rotation {
    pub(super) fn new(path: &Path, kept: usize) -> Self {
        Self {
            path: path.to_owned(),
            kept,
            compress: false,
        }
    }

    pub(super) fn keep(&mut self, count: usize) {
        self.kept = count;
    }

    pub(super) fn compress(&mut self, compress: bool) {
        self.compress = compress;
    }

    /// Moves the log away; afterwards nothing stands under its name.
    pub(super) fn rotate(&self) -> Result<(), LogError> {
        for number in (1..self.kept).rev() {
            // Files from before the setting was changed move along.
            for suffix in ["", COMPRESSED] {
                let (from, to) = (
                    self.numbered(number, suffix),
                    self.numbered(number + 1, suffix),
                );
                unless_missing("delete", &to, fs::remove_file(&to))?;
                unless_missing("rename", &from, fs::rename(&from, &to))?;
            }
        }
        if self.kept == 0 {
            return unless_missing("delete", &self.path, fs::remove_file(&self.path));
        }
        // The only one that is kept has not moved.
        let compressed = self.numbered(1, COMPRESSED);
        unless_missing("delete", &compressed, fs::remove_file(&compressed))?;
        let youngest = self.numbered(1, "");
        unless_missing("rename", &self.path, fs::rename(&self.path, &youngest))
    }

    /// Compresses the youngest file, if that was asked for; it stays as it is if that fails.
    pub(super) fn compress_youngest(&self) -> Result<(), LogError> {
        if !self.compress || self.kept == 0 {
            return Ok(());
        }
        let youngest = self.numbered(1, "");
        self.compress_file(&youngest)
            .map_err(|source| failed("compress", &youngest, source))
    }

    /// The compressed file has its name only once it is whole.
    fn compress_file(&self, path: &Path) -> io::Result<()> {
        let draft = self.numbered(1, ".gz.part");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut encoder = GzEncoder::new(options.open(&draft)?, Compression::default());
        io::copy(&mut BufReader::new(File::open(path)?), &mut encoder)?;
        encoder.finish()?.sync_all()?;
        fs::rename(&draft, self.numbered(1, COMPRESSED))?;
        fs::remove_file(path)
    }

    fn numbered(&self, number: usize, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}{suffix}"));
        name.into()
    }
}

fn unless_missing(what: &'static str, path: &Path, result: io::Result<()>) -> Result<(), LogError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(what, path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
