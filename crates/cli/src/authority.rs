//! The certificate authority of this installation: found where it is configured, else made on
//! first use in the data folder.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use proxy::Authority;
use proxy::tls::authority::AuthorityError;
use traffic::Timestamp;

use crate::bundle;
use crate::exit::Exit;
use crate::paths::ca_folder;
use crate::problem::Problem;
use crate::settings::Settings;
use crate::trusted;
use crate::whole_file::{link_new, replace_durably};
pub(crate) use crate::whole_file::{make_private_folder, replace};

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
    if is_own(settings) && !files.key.exists() {
        let made = Authority::generate(&common_name(), now).map_err(|error| cannot_make(&error))?;
        match store_new(&files, &made) {
            // Another oriel was faster: its authority is as good.
            Ok(()) | Err(StoreError::Exists(_)) => {}
            Err(StoreError::Problem(problem)) => return Err(problem),
        }
    }
    let authority = load(&files)?;
    Ok(match is_own(settings) {
        true => {
            let folder = ca_folder(&settings.data_folder.value);
            authority.with_certificates_by_predecessors(&trusted::signed_by_earlier(&folder, now))
        }
        false => authority,
    })
}

/// The same for signing leaves: one whose time is over is refused, as clients would refuse it.
pub(crate) fn load_for_use(settings: &Settings, now: Timestamp) -> Result<Authority, Problem> {
    let authority = load_or_make(settings, now)?;
    if authority.not_after() <= now {
        let what = format!(
            "the certificate authority {} has expired",
            authority.subject()
        );
        let fix = match is_own(settings) {
            true => "oriel ca rotate",
            false => "give oriel another one: --ca-cert FILE --ca-key FILE",
        };
        return Err(Problem::new("ORL0303", Exit::Usage, what)
            .why(format!(
                "it was valid to {}, and no client would take a certificate that it signs",
                store::json::rfc3339(authority.not_after())
            ))
            .fix(fix));
    }
    for fault in authority.check_chain(now) {
        tracing::warn!(%fault, "some clients will not take oriel's certificates (oriel ca verify)");
    }
    Ok(authority)
}

/// Loads the authority that is in these files.
pub(crate) fn load(files: &AuthorityFiles) -> Result<Authority, Problem> {
    Authority::load(&files.certificate, &files.key).map_err(|error| broken(&error, files))
}

/// Whether the authority in use is the installation's own, which lies in the data folder.
pub(crate) fn is_own(settings: &Settings) -> bool {
    settings.ca_certificate.value.is_none() && settings.ca_key.value.is_none()
}

/// Why an authority was not stored.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// One of its files is there already.
    Exists(PathBuf),
    Problem(Problem),
}

/// Writes the files of a new authority, which must not be there yet. A file is complete before its
/// name exists, so that a second oriel that starts at the same moment never reads half of it, and
/// both end up with the same authority.
pub(crate) fn store_new(files: &AuthorityFiles, authority: &Authority) -> Result<(), StoreError> {
    let present = [&files.certificate, &files.key]
        .into_iter()
        .find(|path| path.exists());
    if let Some(present) = present {
        return Err(StoreError::Exists(present.clone()));
    }
    let link = |path: &Path, content: &str, mode| {
        link_new(path, content.as_bytes(), mode).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => StoreError::Exists(path.to_owned()),
            _ => StoreError::Problem(unwritable(path, &error)),
        })
    };
    for folder in [&files.certificate, &files.key].map(|path| path.parent()) {
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
        let made = folder.map_or(Ok(()), make_private_folder);
        let folder = folder.unwrap_or_else(|| Path::new("."));
        made.map_err(|error| StoreError::Problem(unwritable(folder, &error)))?;
    }
    let (certificates, key) = (authority.certificate_pem(), authority.key_pem());
    if files.certificate == files.key {
        return link(&files.key, &format!("{key}{certificates}"), 0o600);
    }
    link(&files.key, key, 0o600)?;
    link(&files.certificate, certificates, 0o644)
}

/// Puts an authority in the place of the installation's own, and gives it to shells that were
/// pointed at the one before.
pub(crate) fn store_over(files: &AuthorityFiles, authority: &Authority) -> Result<(), Problem> {
    let folder = files.key.parent().unwrap_or_else(|| Path::new("."));
    make_private_folder(folder).map_err(|error| unwritable(folder, &error))?;
    let both = format!("{}{}", authority.key_pem(), authority.certificate_pem());
    replace_durably(&files.key, both.as_bytes(), 0o600)
        .map_err(|error| unwritable(&files.key, &error))?;
    bundle::add(folder, authority.certificate_pem()).map_err(|error| unwritable(folder, &error))
}

/// An authority that cannot be made as it was asked for.
pub(crate) fn cannot_make(error: &AuthorityError) -> Problem {
    let exit = match error {
        AuthorityError::Generate(_) => Exit::Internal,
        _ => Exit::Usage,
    };
    Problem::new("ORL0306", exit, "cannot make the certificate").why(error.to_string())
}

/// The name says whose it is, since people meet it in lists of certificates.
pub(crate) fn common_name() -> String {
    let node = rustix::system::uname();
    let node = node.nodename().to_string_lossy();
    let node: String = node
        .chars()
        .filter(|c| c.is_ascii_graphic())
        .take(40)
        .collect();
    format!("oriel on {node}")
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

/// An authority that cannot be used.
pub(crate) fn broken(error: &AuthorityError, files: &AuthorityFiles) -> Problem {
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
    let source = std::error::Error::source(error).map(ToString::to_string);
    Problem::new("ORL0302", Exit::Usage, what)
        .why(match source {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
        .fix(mended(error, files))
}

/// How an authority can be had in the place of one that cannot be used.
fn mended(error: &AuthorityError, files: &AuthorityFiles) -> String {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    match error {
        AuthorityError::Read { path, .. } => to_read(path),
        AuthorityError::EncryptedKey => {
            format!("openssl pkey -in {key} -out DECRYPTED      and name that one")
        }
        // Our own file has both in it: nobody gave us one or the other.
        _ if files.certificate == files.key => format!(
            "mv {certificate} {certificate}.broken      oriel makes another authority then, \
             to be trusted anew"
        ),
        AuthorityError::NoKey | AuthorityError::BadKey | AuthorityError::KeyMismatch { .. } => {
            "name the key that the certificate is for, in PEM or DER".to_owned()
        }
        AuthorityError::NotAnAuthority { .. } => {
            "name a certificate that may sign others; to have one signed:  oriel ca csr -o FILE"
                .to_owned()
        }
        _ => "name a file with a certificate in PEM or DER".to_owned(),
    }
}

/// What tells why a file of certificates cannot be read.
pub(crate) fn to_read(path: &Path) -> String {
    format!(
        "ls -l {}      tells whether it is there, and who may read it",
        path.display()
    )
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
