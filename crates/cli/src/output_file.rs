//! A file for output that nobody but its owner may read: what was captured is as secret as the traffic. It
//! stands under its name once it is whole, and never in the place of another unless that is asked for. Devices
//! and pipes, as /dev/null, are written to and stay what they are.

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
    /// Where it is until it is whole; a device or a pipe is nowhere else.
    part: Option<PathBuf>,
    may_replace: bool,
    out: Option<BufWriter<File>>,
}

impl OutputFile {
    /// Begins a file; `may_replace` says that one of its name may go.
    pub(crate) fn create(path: &Path, may_replace: bool) -> Result<Self, Problem> {
        let part = match std::fs::metadata(path) {
            Ok(there) if !there.is_file() => None,
            Ok(_) if !may_replace => return Err(there_already(path)),
            _ => Some(part_of(path)),
        };
        let mut options = OpenOptions::new();
        options.write(true);
        if part.is_some() {
            options.create_new(true).mode(0o600);
        }
        let file = options
            .open(part.as_deref().unwrap_or(path))
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
        let file = self.out.take().map(BufWriter::into_inner).transpose()?;
        let Some(part) = &self.part else {
            return Ok(());
        };
        if let Some(file) = file {
            file.sync_all()?;
        }
        match self.may_replace {
            true => std::fs::rename(part, &self.path),
            // A rename would replace what came there meanwhile.
            false => std::fs::hard_link(part, &self.path),
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
        if let Some(part) = &self.part {
            let _gone_already = std::fs::remove_file(part);
        }
    }
}

/// A name beside it that no other process takes.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileTypeExt;

    use super::*;

    #[test]
    fn a_pipe_is_written_to_and_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        // Opened for both, a pipe waits for nobody.
        let mut reader = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        for may_replace in [false, true] {
            let mut file = OutputFile::create(&path, may_replace).unwrap();
            file.write_all(b"text").unwrap();
            file.finish().unwrap();
            let mut read = [0; 4];
            io::Read::read_exact(&mut reader, &mut read).unwrap();
            assert_eq!(&read, b"text");
        }
        let kind = std::fs::metadata(&path).unwrap().file_type();
        assert!(kind.is_fifo());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_replaced_only_if_it_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (may_replace, is_done) in [(false, true), (false, false), (true, true)] {
            let done = OutputFile::create(&path, may_replace).and_then(|mut file| {
                file.write_all(b"text").unwrap();
                file.finish()
            });
            assert_eq!(done.is_ok(), is_done);
            assert_eq!(std::fs::read(&path).unwrap(), b"text");
        }
    }
}
