//! One thing that is changed to have a certificate trusted: done, looked at, and undone. The journal
//! keeps which step it was and of which certificate, never a command: those come from the tables of
//! `linux.rs` and `elsewhere.rs` each time.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{Access, Mode, access};
use rustix::process::umask;
use serde::{Deserialize, Serialize};

use super::elsewhere::Keychain;
use super::linux::{self, Family};
use super::passwords::Passwords;
use super::root::Root;
use super::{appended, java, nss};

/// Paths are those of the root that is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Change {
    /// A folder that is not there.
    Folder { path: PathBuf },
    /// A file that is not there, with our certificate.
    File { path: PathBuf, pem: String },
    /// A link that is not there.
    Link { path: PathBuf, to: PathBuf },
    /// Our certificate at the end of a file, below a line with its name.
    Append {
        path: PathBuf,
        name: String,
        pem: String,
        /// Whether the line before it was ended with it.
        ends_line: bool,
    },
    /// A database of NSS that is not there.
    NssDatabase { folder: PathBuf },
    /// An entry of a database of NSS.
    Nss {
        folder: PathBuf,
        nickname: String,
        pem: String,
    },
    /// An entry of a Java key store.
    JavaKeystore {
        path: PathBuf,
        alias: String,
        pem: String,
    },
    /// The system's own tool makes its bundle of the anchors that are there, and links to them.
    Refresh {
        family: Family,
        pem: String,
        /// What the tool calls its link to the anchor.
        name: PathBuf,
    },
    /// An entry of a keychain of macOS.
    Keychain(Keychain),
}

/// What became of undoing a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undone {
    /// Our part is out.
    Removed,
    /// Our part was gone already.
    Gone,
    /// Somebody has made something else of it, which stays.
    Kept,
}

impl Change {
    /// What it does, as a line for people.
    pub(crate) fn description(&self) -> String {
        match self {
            Self::Folder { path } => format!("make the folder {}", path.display()),
            Self::File { path, .. } => format!("make the file {}", path.display()),
            Self::Link { path, to } => {
                format!("make the link {} to {}", path.display(), to.display())
            }
            Self::Append { path, .. } => {
                format!("add the certificate at the end of {}", path.display())
            }
            Self::NssDatabase { folder } => {
                format!("make the certificate database {}", folder.display())
            }
            Self::Nss {
                folder, nickname, ..
            } => {
                format!(
                    "add {nickname} to the certificate database {}",
                    folder.display()
                )
            }
            Self::JavaKeystore { path, alias, .. } => {
                format!("add {alias} to the key store {}", path.display())
            }
            Self::Refresh { family, .. } => {
                let command = family.command().join(" ");
                format!("run {command}, which writes {} anew", family.bundle())
            }
            Self::Keychain(keychain) => format!("run {}", keychain.install().join(" ")),
        }
    }

    /// What undoing it does, as a line for people.
    pub(crate) fn undo_description(&self) -> String {
        match self {
            Self::Folder { path } => format!("remove the folder {} if it is empty", path.display()),
            Self::File { path, .. } | Self::Link { path, .. } => {
                format!("remove {}", path.display())
            }
            Self::Append { path, .. } => format!("take the certificate out of {}", path.display()),
            Self::NssDatabase { folder } => {
                format!(
                    "remove the certificate database {} if it is empty",
                    folder.display()
                )
            }
            Self::Nss {
                folder, nickname, ..
            } => {
                format!(
                    "take {nickname} out of the certificate database {}",
                    folder.display()
                )
            }
            Self::JavaKeystore { path, alias, .. } => {
                format!("take {alias} out of the key store {}", path.display())
            }
            Self::Refresh { name, .. } => {
                format!(
                    "{}, and remove its links to {}",
                    self.description(),
                    name.display()
                )
            }
            Self::Keychain(keychain) => format!("run {}", keychain.uninstall().join(" ")),
        }
    }

    /// Whether it is as it would be after it.
    pub(crate) fn is_done(&self, root: &Root, passwords: &Passwords) -> bool {
        let holds = |path: &Path, pem: &str| {
            let file = root.resolve(path).and_then(fs::read);
            file.is_ok_and(|file| appended::holds(&file, pem))
        };
        match self {
            Self::Folder { path } => root.resolve(path).is_ok_and(|path| path.is_dir()),
            Self::File { path, pem } => holds(path, pem),
            Self::Link { path, to } => {
                let found = root.resolve_name(path).and_then(fs::read_link);
                found.is_ok_and(|found| found == *to)
            }
            Self::Append { path, pem, .. } => holds(path, pem),
            Self::Refresh { family, pem, .. } => holds(Path::new(family.bundle()), pem),
            Self::NssDatabase { folder } => folder.join("cert9.db").exists(),
            Self::Nss {
                folder, nickname, ..
            } => nss::trusts(folder, nickname),
            Self::JavaKeystore { path, alias, .. } => {
                let java = passwords.java.as_deref();
                let found = root.resolve(path);
                found.is_ok_and(|path| java::has(&path, alias, java))
            }
            Self::Keychain(_) => false,
        }
    }

    /// Why its store does not open with these passwords.
    pub(crate) fn locked(&self, root: &Root, passwords: &Passwords) -> Option<String> {
        match self {
            Self::Nss { folder, .. } => nss::locked(folder, passwords.nss.as_deref()),
            Self::JavaKeystore { path, .. } => {
                let path = root.resolve(path).ok()?;
                java::locked(&path, passwords.java.as_deref())
            }
            _ => None,
        }
    }

    /// The store that a password may protect.
    pub(crate) fn place(&self) -> Option<String> {
        match self {
            Self::Nss { folder, .. } => {
                Some(format!("the certificate database {}", folder.display()))
            }
            Self::JavaKeystore { path, .. } => Some(format!("the key store {}", path.display())),
            _ => None,
        }
    }

    /// What stands in the way of whoever runs this.
    pub(crate) fn obstacle(&self, root: &Root) -> Option<String> {
        let place = match self {
            Self::Folder { path } | Self::File { path, .. } | Self::Link { path, .. } => {
                root.resolve_name(path)
            }
            Self::Append { path, .. } => root.resolve(path),
            Self::NssDatabase { folder } | Self::Nss { folder, .. } => Ok(folder.join("cert9.db")),
            Self::JavaKeystore { path, .. } => {
                let path = root.resolve(path).ok()?;
                return unwritable(&path);
            }
            Self::Refresh { family, .. } => {
                let is_root = rustix::process::geteuid().is_root();
                let command = family.command();
                return (!is_root).then(|| format!("only root can run {}", command.join(" ")));
            }
            Self::Keychain(_) => return None,
        };
        match place {
            // The nearest folder above that is there: what is missing is made in it.
            Ok(place) => unwritable(place.ancestors().skip(1).find(|folder| folder.exists())?),
            Err(error) => Some(error.to_string()),
        }
    }

    pub(crate) fn apply(&self, root: &Root, passwords: &Passwords) -> io::Result<()> {
        match self {
            Self::Folder { path } if linux::leads_to_anchors(path) => {
                make_open_folder(&root.resolve(path)?)
            }
            Self::Folder { path } => fs::create_dir(root.resolve(path)?),
            Self::File { path, pem } => write_new(&root.resolve_name(path)?, pem.as_bytes()),
            Self::Link { path, to } => symlink(to, root.resolve_name(path)?),
            Self::Append {
                path,
                name,
                pem,
                ends_line,
            } => {
                let path = root.resolve(path)?;
                let mut file = fs::read(&path)?;
                file.extend_from_slice(appended::text(*ends_line, name, pem).as_bytes());
                replace_keeping(&path, &file)
            }
            Self::NssDatabase { folder } => nss::make(folder),
            Self::Nss {
                folder,
                nickname,
                pem,
            } => nss::add(folder, nickname, pem, passwords.nss.as_deref()),
            Self::JavaKeystore { path, alias, pem } => {
                let java = passwords.java.as_deref();
                java::add(&root.resolve(path)?, alias, pem, java)
            }
            Self::Refresh { family, .. } => {
                let command = family.command();
                run_for_everyone(&command)?;
                match self.is_done(root, passwords) {
                    true => Ok(()),
                    false => Err(io::Error::other(format!(
                        "{} ran, and the certificate is not in {}",
                        command.join(" "),
                        family.bundle()
                    ))),
                }
            }
            Self::Keychain(keychain) => run(&keychain.install()).map(|_said| ()),
        }
    }

    pub(crate) fn undo(&self, root: &Root, passwords: &Passwords) -> io::Result<Undone> {
        match self {
            Self::Folder { path } => match fs::remove_dir(root.resolve(path)?) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(Undone::Kept),
                done => removed(done),
            },
            Self::File { path, pem } => {
                let path = root.resolve_name(path)?;
                match fs::read(&path) {
                    Ok(file) if file != pem.as_bytes() => Ok(Undone::Kept),
                    Ok(_) => removed(fs::remove_file(path)),
                    Err(error) => removed(Err(error)),
                }
            }
            Self::Link { path, to } => {
                let path = root.resolve_name(path)?;
                match fs::read_link(&path) {
                    Ok(found) if found == *to => removed(fs::remove_file(path)),
                    // The system's tool numbers its links anew.
                    Ok(_) => Ok(Undone::Kept),
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(Undone::Kept),
                    Err(error) => removed(Err(error)),
                }
            }
            Self::Append {
                path,
                name,
                pem,
                ends_line,
            } => {
                let path = root.resolve(path)?;
                let file = match fs::read(&path) {
                    Ok(file) => file,
                    Err(error) => return removed(Err(error)),
                };
                let text = appended::text(*ends_line, name, pem);
                match appended::without(&file, &text, pem) {
                    Some(file) => removed(replace_keeping(&path, &file)),
                    None => Ok(Undone::Gone),
                }
            }
            Self::NssDatabase { folder } => nss::unmake(folder),
            Self::Nss {
                folder, nickname, ..
            } => nss::remove(folder, nickname),
            Self::JavaKeystore { path, alias, .. } => {
                let java = passwords.java.as_deref();
                java::remove(&root.resolve(path)?, alias, java)
            }
            Self::Refresh { family, name, .. } => {
                run_for_everyone(&family.command())?;
                for folder in family.hashed() {
                    sweep(&root.resolve(Path::new(folder))?, name)?;
                }
                Ok(Undone::Removed)
            }
            Self::Keychain(keychain) => removed(run(&keychain.uninstall()).map(|_said| ())),
        }
    }
}

fn removed(done: io::Result<()>) -> io::Result<Undone> {
    match done {
        Ok(()) => Ok(Undone::Removed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Undone::Gone),
        Err(error) => Err(error),
    }
}

/// Removes the links to an anchor that is gone: of this name, and those to it. Debian's tool leaves
/// them where it finds nothing else to do.
fn sweep(folder: &Path, name: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut ours = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let to = fs::read_link(&path).ok();
        let is_ours = path.file_name() == Some(name.as_os_str()) || to.as_deref() == Some(name);
        if to.is_some() && is_ours && !path.exists() {
            ours.push(path);
        }
    }
    ours.into_iter().try_for_each(fs::remove_file)
}

fn unwritable(path: &Path) -> Option<String> {
    let error = access(path, Access::WRITE_OK).err()?;
    Some(format!(
        "cannot write to {}: {}",
        path.display(),
        io::Error::from(error)
    ))
}

/// Makes a folder that everyone may look into, whatever the umask is.
fn make_open_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// Writes a file that must not be there, readable by everyone, whatever the umask is: the system's
/// own tool makes links to an anchor, which every program reads.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file
        .write_all(content)
        .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)));
    if written.is_err() {
        let _half = fs::remove_file(path);
    }
    written
}

/// Writes a file in place of what is there, with the mode and the owner of that; who reads it
/// meanwhile sees one content or the other.
pub(super) fn replace_keeping(path: &Path, content: &[u8]) -> io::Result<()> {
    let facts = fs::metadata(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.oriel-{}", std::process::id()));
    let replaced = write_new(&draft, content)
        .and_then(|()| std::os::unix::fs::chown(&draft, Some(facts.uid()), Some(facts.gid())))
        .and_then(|()| fs::set_permissions(&draft, facts.permissions()))
        .and_then(|()| fs::File::open(&draft)?.sync_all())
        .and_then(|()| fs::rename(&draft, path));
    if replaced.is_err() {
        let _draft = fs::remove_file(&draft);
    }
    replaced
}

/// Runs a program that asks nothing, and gives what it printed; what it said is the error if it
/// fails.
pub(super) fn run(command: &[impl AsRef<OsStr>]) -> io::Result<String> {
    let mut child = start(command)?;
    drop(child.stdin.take());
    finish(command, child)
}

/// The same for a program that writes what everyone reads, whatever the umask is.
fn run_for_everyone(command: &[String]) -> io::Result<()> {
    let before = umask(Mode::WGRP | Mode::WOTH);
    let ran = run(command);
    umask(before);
    ran.map(|_said| ())
}

/// The same with a text on its standard input.
pub(super) fn run_with_input(command: &[impl AsRef<OsStr>], input: &str) -> io::Result<()> {
    let mut child = start(command)?;
    // One that does not read to the end says why.
    let _read = child
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(input.as_bytes()));
    finish(command, child).map(|_printed| ())
}

fn start(command: &[impl AsRef<OsStr>]) -> io::Result<Child> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

fn finish(command: &[impl AsRef<OsStr>], child: Child) -> io::Result<String> {
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let program = command
        .first()
        .map(|program| program.as_ref().to_string_lossy());
    let program = program.unwrap_or_default();
    Err(io::Error::other(format!("{program}: {}", said.trim())))
}
