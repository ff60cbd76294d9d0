//! The certificate authority of this installation: found where it is configured, else made on
//! first use in the data folder.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use proxy::Authority;
use proxy::tls::authority::AuthorityError;
use traffic::Timestamp;

use crate::exit::Exit;
use crate::paths::ca_folder;
use crate::problem::Problem;
use crate::settings::Settings;

/// The files of an authority.
#[derive(Clone, Debug)]
pub(crate) struct AuthorityFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl AuthorityFiles {
    /// Where the authority is, by the settings.
    pub(crate) fn of(settings: &Settings) -> Result<Self, Problem> {
        match (&settings.ca_certificate.value, &settings.ca_key.value) {
            (Some(certificate), Some(key)) => Ok(Self {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            (None, None) => Ok(Self::in_folder(&settings.data_folder.value)),
            (Some(_), None) => Err(half("ca.certificate", "ca.key", "--ca-key")),
            (None, Some(_)) => Err(half("ca.key", "ca.certificate", "--ca-cert")),
        }
    }

    /// The installation's own authority is one file, so that it is there as a whole or not at all.
    fn in_folder(data_folder: &Path) -> Self {
        let file = ca_folder(data_folder).join("authority.pem");
        Self {
            certificate: file.clone(),
            key: file,
        }
    }
}

/// Loads the authority, making it first if it is the installation's own and not there yet.
pub(crate) fn load_or_make(settings: &Settings, now: Timestamp) -> Result<Authority, Problem> {
    let files = AuthorityFiles::of(settings)?;
    let own = settings.ca_certificate.value.is_none();
    if own && !files.key.exists() {
        match make(&files, now) {
            // Another oriel was faster: its authority is as good.
            Err(MakeError::Exists) => {}
            Err(MakeError::Problem(problem)) => return Err(*problem),
            Ok(()) => {}
        }
    }
    Authority::load(&files.certificate, &files.key).map_err(|error| broken(&error, &files))
}

enum MakeError {
    Exists,
    Problem(Box<Problem>),
}

/// Makes an authority. The key is complete before its name exists, so that a second oriel that
/// starts at the same moment never reads half of it, and both end up with the same one.
fn make(files: &AuthorityFiles, now: Timestamp) -> Result<(), MakeError> {
    let failed = |problem: Problem| MakeError::Problem(Box::new(problem));
    let folder = files.key.parent().unwrap_or_else(|| Path::new("."));
    make_private_folder(folder).map_err(|error| failed(unwritable(folder, &error)))?;
    let authority = Authority::generate(&common_name(), now).map_err(|error| {
        failed(
            Problem::new(
                "ORL0302",
                Exit::Internal,
                "cannot make a certificate authority",
            )
            .why(error.to_string()),
        )
    })?;
    let both = format!("{}{}", authority.key_pem(), authority.certificate_pem());
    link_new(&files.key, both.as_bytes(), 0o600).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => MakeError::Exists,
        _ => failed(unwritable(&files.key, &error)),
    })
}

/// The name says whose it is, since people meet it in lists of certificates.
fn common_name() -> String {
    let node = rustix::system::uname();
    let node = node.nodename().to_string_lossy();
    let node: String = node
        .chars()
        .filter(|c| c.is_ascii_graphic())
        .take(40)
        .collect();
    format!("oriel on {node}")
}

/// Makes a folder, and those above it, for the owner only.
pub(crate) fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// Writes a file that must not be there yet; it appears with its whole content.
fn link_new(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let draft = write_draft(path, content, mode)?;
    fs::File::open(&draft)?.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    linked
}

/// Writes a file in place of what is there; it changes from one whole content to the other.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let draft = write_draft(path, content, mode)?;
    fs::rename(&draft, path)
}

fn write_draft(path: &Path, content: &[u8], mode: u32) -> std::io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    // A draft of a dead process with our number may lie there.
    let _not_there = fs::remove_file(&draft);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)?;
    file.write_all(content)?;
    Ok(draft)
}

fn half(given: &str, missing: &str, flag: &str) -> Problem {
    Problem::new(
        "ORL0304",
        Exit::Usage,
        format!("{given} is set, {missing} is not"),
    )
    .why("an authority is a certificate and its key")
    .fix(format!("set {missing}, or give {flag}"))
}

fn broken(error: &AuthorityError, files: &AuthorityFiles) -> Problem {
    if let AuthorityError::KeyExposed { path, mode } = error {
        let what = format!("others can read the authority's key {}", path.display());
        return Problem::new("ORL0301", Exit::Permission, what)
            .why(format!(
                "its mode is {mode:04o}; who has the key can pretend to be any host towards \
                 everyone who trusts the certificate"
            ))
            .fix(format!("chmod 600 {}", path.display()));
    }
    let what = format!(
        "the certificate authority in {} cannot be used",
        files.certificate.display()
    );
    Problem::new("ORL0302", Exit::Usage, what).why(error.to_string())
}

/// A file or folder of ours that cannot be written.
pub(crate) fn unwritable(path: &Path, error: &std::io::Error) -> Problem {
    Problem::new(
        "ORL0702",
        Exit::Storage,
        format!("cannot write to {}", path.display()),
    )
    .why(error.to_string())
    .fix("use another folder:  --data DIR")
}
