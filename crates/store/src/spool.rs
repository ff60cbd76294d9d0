//! The spool: files beside the database, for what cannot be written to it at present.
//!
//! A content is what one batch of the writer would have stored: a small database in memory, serialized
//! (`sqlite3_serialize`), its credentials masked like everything that is stored. [`Merge`] puts it into
//! the file when that can be written again, in this process or in the next that opens the database.

mod merge;
mod own_runs;
mod segment;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, DirEntry};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub(crate) use self::merge::Merge;
use self::own_runs::OwnRuns;
use self::segment::{DAMAGED, SEGMENT};
pub(crate) use self::segment::{Packed, SegmentWriter};

/// The spool of one database.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    database: PathBuf,
    bytes_max: u64,
    /// The runs of this process.
    pub(crate) runs: OwnRuns,
}

/// What is in the spool of a database, all that write to it taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spooled {
    /// Bytes of all files.
    pub bytes: u64,
    /// Files that wait to be merged into the database, or are being written.
    pub segments: u64,
    /// Flows in these that the database does not have at all. While a file is merged, some of them it has.
    pub flows: u64,
    /// Files that could not be read to their end and were set aside. Nobody reads them again.
    pub damaged: u64,
}

impl Spooled {
    /// What is in the spool beside a database, by the heads of its files; the database is not asked.
    #[must_use]
    pub fn beside(database: &Path) -> Self {
        Spool::new(database, 0).usage()
    }
}

impl Spool {
    /// The spool beside a database. Nothing is created before it is needed.
    pub(crate) fn new(database: &Path, bytes_max: u64) -> Self {
        Self {
            folder: database.with_file_name("spool"),
            database: database.to_owned(),
            bytes_max,
            runs: OwnRuns::default(),
        }
    }

    /// Begins a file.
    pub(crate) fn begin(&self) -> io::Result<SegmentWriter> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        SegmentWriter::create(&self.folder)
    }

    /// Whether anything may be stored there.
    pub(crate) fn is_allowed(&self) -> bool {
        self.bytes_max > 0
    }

    /// Whether so many bytes more fit.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let used: u64 = self.entries().map(|entry| size(&entry)).sum();
        used.saturating_add(bytes) <= self.bytes_max
    }

    /// What is there.
    pub(crate) fn usage(&self) -> Spooled {
        let mut usage = Spooled::default();
        for entry in self.entries() {
            usage.bytes += size(&entry);
            let path = entry.path();
            match extension(&path) {
                Some(SEGMENT) => {
                    usage.segments += 1;
                    // One that has gone meanwhile is merged.
                    usage.flows += segment::count_flows(&path).unwrap_or_default();
                }
                Some(DAMAGED) => usage.damaged += 1,
                _ => {}
            }
        }
        usage
    }

    /// The files that may be merged, the oldest first.
    fn segments(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self.entries().map(|entry| entry.path()).collect();
        for path in &paths {
            // What stays is in the way of nobody.
            let _stays = segment::remove_abandoned(path);
        }
        paths.retain(|path| extension(path) == Some(SEGMENT));
        paths.sort_unstable();
        paths
    }

    fn entries(&self) -> impl Iterator<Item = DirEntry> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten();
        entries.filter_map(Result::ok)
    }
}

fn size(entry: &DirEntry) -> u64 {
    entry.metadata().map_or(0, |metadata| metadata.len())
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(OsStr::to_str)
}
