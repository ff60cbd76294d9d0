//! What clients are given to trust: the authority in use and, for as long as their window lasts,
//! those before it. So a client that was started before a change and one that was started after it
//! both take the certificates of an oriel that was started before or after it.
//!
//! An authority that made place leaves its certificate in the data folder, in a file that begins
//! with a line that says until when it counts; its key is gone. Where it may sign other authorities
//! it has signed its successor before: that certificate lies beside it in a file of the same form,
//! and is shown to clients that were given the earlier one alone.

use std::path::{Path, PathBuf};

use proxy::Authority;
use proxy::tls::authority::read_certificates;
use proxy::tls::chain::links;
use proxy::tls::pem;
use rustls_pki_types::CertificateDer;
use traffic::Timestamp;

use crate::authority::is_own;
use crate::paths::ca_folder;
use crate::settings::Settings;
use crate::whole_file::replace_durably;

/// How the files of earlier authorities begin and end.
const FILE_NAME: (&str, &str) = ("earlier-", ".pem");
/// How the files of what they signed begin.
const SUCCESSOR: &str = "successor-";
/// How the line begins that says until when one is trusted.
const UNTIL: &str = "Trusted until ";

/// An authority that made place for another and is trusted still.
#[derive(Clone, Debug)]
pub(crate) struct Earlier {
    pub(crate) subject: String,
    pub(crate) sha256: [u8; 32],
    pub(crate) until: Timestamp,
    certificates: Vec<CertificateDer<'static>>,
}

/// The certificates that clients are to trust, those of the authority in use first.
pub(crate) fn certificates(
    settings: &Settings,
    authority: &Authority,
    now: Timestamp,
) -> Vec<CertificateDer<'static>> {
    let mut all = authority.chain().to_vec();
    let earlier = earlier(settings, now).into_iter();
    all.extend(earlier.flat_map(|earlier| earlier.certificates));
    all
}

/// The same in PEM.
pub(crate) fn certificates_pem(
    settings: &Settings,
    authority: &Authority,
    now: Timestamp,
) -> String {
    pem::certificates(&certificates(settings, authority, now))
}

/// The authorities before the installation's own that are trusted still, by their names. What is
/// not a file of ours is passed over.
pub(crate) fn earlier(settings: &Settings, now: Timestamp) -> Vec<Earlier> {
    if !is_own(settings) {
        return Vec::new();
    }
    let folder = ca_folder(&settings.data_folder.value);
    let paths = files(&folder, FILE_NAME.0);
    let mut found: Vec<_> = paths.iter().filter_map(|path| read(path)).collect();
    found.retain(|earlier| now < earlier.until);
    found.sort_by(|one, other| one.subject.cmp(&other.subject));
    found
}

/// Keeps the certificates of an authority that makes place, and forgets those whose time is over.
pub(crate) fn keep(
    folder: &Path,
    authority: &Authority,
    until: Timestamp,
    now: Timestamp,
) -> std::io::Result<()> {
    let earlier = files(folder, FILE_NAME.0).into_iter();
    for path in earlier.chain(files(folder, SUCCESSOR)) {
        if read(&path).is_some_and(|earlier| earlier.until <= now) {
            // Another oriel may be removing it as well.
            let _gone = std::fs::remove_file(path);
        }
    }
    write(
        folder,
        FILE_NAME.0,
        authority,
        until,
        authority.certificate_pem(),
    )
}

/// Keeps the certificate of an authority that the one before it signed.
pub(crate) fn keep_signed(
    folder: &Path,
    successor: &Authority,
    signed: CertificateDer<'static>,
    until: Timestamp,
) -> std::io::Result<()> {
    let pem = pem::certificates(&[signed]);
    write(folder, SUCCESSOR, successor, until, &pem)
}

/// The certificates that authorities signed for the one after them, for as long as they count.
pub(crate) fn signed_by_earlier(folder: &Path, now: Timestamp) -> Vec<CertificateDer<'static>> {
    let paths = files(folder, SUCCESSOR).into_iter();
    let read = paths.filter_map(|path| read(&path));
    read.filter(|signed| now < signed.until)
        .flat_map(|signed| signed.certificates)
        .collect()
}

/// Writes a file that is named for an authority.
fn write(
    folder: &Path,
    kind: &str,
    authority: &Authority,
    until: Timestamp,
    pem: &str,
) -> std::io::Result<()> {
    let fingerprint = authority.sha256();
    let name: String = fingerprint
        .iter()
        .take(8)
        .map(|octet| format!("{octet:02x}"))
        .collect();
    let path = folder.join(format!("{kind}{name}{}", FILE_NAME.1));
    let until = store::json::rfc3339(until);
    let text = format!("{UNTIL}{until}\n{pem}");
    replace_durably(&path, text.as_bytes(), 0o644)
}

fn files(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(kind) && name.ends_with(FILE_NAME.1))
    };
    entries.map(|entry| entry.path()).filter(ours).collect()
}

fn read(path: &Path) -> Option<Earlier> {
    let text = std::fs::read_to_string(path).ok()?;
    let until = text.lines().next()?.strip_prefix(UNTIL)?;
    let until: jiff::Timestamp = until.parse().ok()?;
    let certificates = read_certificates(path).ok()?;
    let first = links(&certificates).into_iter().next()?;
    Some(Earlier {
        subject: first.subject,
        sha256: first.sha256,
        until: Timestamp(until.as_microsecond()),
        certificates,
    })
}
