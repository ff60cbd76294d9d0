//! Files and folders of ours in the data folder. A file appears with its whole content and changes from
//! one whole content to the other. What root makes in somebody's folder belongs to that user, who
//! could not use it otherwise.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Makes a folder, and those above it that are not there, for the owner only. Root gives them to the
/// owner of the nearest folder that is there.
pub(crate) fn make_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    if !rustix::process::geteuid().is_root() {
        return builder.recursive(true).create(folder);
    }
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<_> = folder.ancestors().take_while(is_missing).collect();
    for path in missing.into_iter().rev() {
        match builder.create(path) {
            // Another oriel was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                made?;
                hand_over(&open_folder(path)?, path)?;
            }
        }
    }
    Ok(())
}

/// Writes a file that must not be there yet; it outlives a crash of the system once it is there.
pub(crate) fn link_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let draft = write_draft(path, content, mode)?;
    File::open(&draft)?.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    linked?;
    sync_folder_of(path)
}

/// Writes a file in place of what is there. A crash of the system may lose it: for what can be made
/// again.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let draft = write_draft(path, content, mode)?;
    fs::rename(&draft, path)
}

/// The same for what cannot be made again: after a crash of the system one content is there or the
/// other, and the new one if this came back.
pub(crate) fn replace_durably(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let draft = write_draft(path, content, mode)?;
    File::open(&draft)?.sync_all()?;
    fs::rename(&draft, path)?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or_else(|| Path::new("."))
}

fn write_draft(path: &Path, content: &[u8], mode: u32) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    // A draft of a dead process with our number may lie there.
    let _not_there = fs::remove_file(&draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(content)?;
    if rustix::process::geteuid().is_root() {
        hand_over(&file, path)?;
    }
    // Not at opening, where the umask would take from it.
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(draft)
}

fn open_folder(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::DIRECTORY;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Gives what root has just made to the owner of the folder that it is in. By its descriptor: who
/// may write to that folder could put something else at the path.
fn hand_over(made: &File, path: &Path) -> io::Result<()> {
    let folder = fs::metadata(folder_of(path))?;
    match folder.uid() {
        0 => Ok(()),
        owner => fchown(made, Some(owner), Some(folder.gid())),
    }
}
