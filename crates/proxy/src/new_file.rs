//! Makes files that are whole or not there.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Makes a file with its whole content; `mode` is its mode on Unix. If another process makes it at
/// the same moment, that one stays.
pub(crate) fn write_new(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let draft = write_draft(path, content, mode)?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write_draft(path: &Path, content: &str, mode: u32) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.part", uuid::Uuid::now_v7().simple()));
    let draft = PathBuf::from(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(&draft)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    Ok(draft)
}
