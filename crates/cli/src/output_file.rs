//! A file for output that nobody but its owner may read: what was captured is as secret as the traffic. It
//! stands under its name once it is whole, and never in the place of another unless that is asked for.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::exit::Exit;
use crate::problem::Problem;

/// A file in the making.
#[derive(Debug)]
pub(crate) struct OutputFile {
    path: PathBuf,
    /// Where it is until it is whole.
    part: PathBuf,
    may_replace: bool,
    out: Option<BufWriter<File>>,
}

impl OutputFile {
    /// Begins a file; `may_replace` says that one of its name may go.
    pub(crate) fn create(path: &Path, may_replace: bool) -> Result<Self, Problem> {
        if path.exists() && !may_replace {
            return Err(there_already(path));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .map_err(|error| cannot_write(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            part,
            may_replace,
            out: Some(BufWriter::with_capacity(256 * 1024, file)),
        })
    }

    /// Gives it its name.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        let named = self.name();
        named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => there_already(&self.path),
            _ => cannot_write(&self.path, &error),
        })
    }

    fn name(&mut self) -> io::Result<()> {
        if let Some(out) = self.out.take() {
            out.into_inner()?.sync_all()?;
        }
        match self.may_replace {
            true => std::fs::rename(&self.part, &self.path),
            // A rename would replace what came there meanwhile.
            false => std::fs::hard_link(&self.part, &self.path),
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Some(out) => out.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for OutputFile {
    /// Removes what did not become whole, and the second name of what did.
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_file(&self.part);
    }
}

fn there_already(path: &Path) -> Problem {
    Problem::new(
        "ORL0008",
        Exit::Usage,
        format!("{} is there already", path.display()),
    )
    .fix("take another name, or replace it:  --force")
}

/// A file could not be written.
pub(crate) fn cannot_write(path: &Path, error: &io::Error) -> Problem {
    Problem::new(
        "ORL0008",
        Exit::Storage,
        format!("cannot write {}", path.display()),
    )
    .why(error.to_string())
}
