//! Whether what a journal says is something that oriel does. Who may write to a journal is not
//! always who undoes what is in it: root undoes for a user. So nothing in one is believed: each path
//! has to be in the tables of what oriel changes, each name that of the certificate, and a command
//! stands in no journal at all.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use proxy::tls::chain::links;
use proxy::tls::pem;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::change::Change;
use super::elsewhere::Keychain;
use super::journal::Entry;
use super::root::Root;
use super::{Store, appended, java, linux, nss};
use crate::context::Context;

/// What the tables depend on.
pub(crate) struct Known<'a> {
    pub(crate) context: &'a Context,
    pub(crate) root: &'a Root,
    pub(crate) data_folder: &'a Path,
}

impl Known<'_> {
    /// Whether oriel makes such a change, for the certificate that the entry is about.
    pub(crate) fn has(&self, entry: &Entry) -> bool {
        let Some(name) = name_of(&entry.sha256) else {
            return false;
        };
        let is_own = |pem: &str| fingerprint(pem).as_ref() == Some(&entry.sha256);
        let environment = &self.context.environment;
        match &entry.change {
            Change::Folder { path } => linux::leads_to_anchors(path) || self.leads_to_nss(path),
            Change::File { path, pem } => {
                let is_anchor = linux::is_anchor(path, &name);
                is_own(pem) && (is_anchor || self.is_for_keychain(path, &name))
            }
            Change::Link { path, to } => linux::is_link(path, to, &name),
            Change::Append {
                path,
                name: given,
                pem,
                ..
            } => {
                let is_ours = *given == name && is_own(pem) && linux::is_bundle(path);
                is_ours && (entry.origin.mine || self.shows_in(path, &name))
            }
            Change::NssDatabase { folder } => *folder == self.shared_database(),
            Change::Nss {
                folder, nickname, ..
            } => *nickname == name && nss::is_known(folder, &self.context.paths.home),
            Change::JavaKeystore { path, alias, .. } => {
                let is_named = entry.origin.mine && java::is_own(path);
                *alias == name && (is_named || java::is_known(path, environment))
            }
            Change::Refresh {
                pem, name: link, ..
            } => {
                let is_link = link.as_os_str() == OsStr::new(&format!("{name}.pem"));
                is_link && is_own(pem) && *self.root == Root::Machine
            }
            Change::Keychain(keychain) => self.has_keychain(keychain, entry, &name),
        }
    }

    fn shared_database(&self) -> PathBuf {
        nss::shared_database(&self.context.paths.home)
    }

    /// Whether this is a folder on the way from the home to the database that Chromium has there.
    fn leads_to_nss(&self, folder: &Path) -> bool {
        folder.starts_with(&self.context.paths.home) && self.shared_database().starts_with(folder)
    }

    /// Whether this is the file that macOS reads a certificate from.
    fn is_for_keychain(&self, path: &Path, name: &str) -> bool {
        cfg!(target_os = "macos") && path == self.data_folder.join(format!("{name}.crt"))
    }

    fn has_keychain(&self, keychain: &Keychain, entry: &Entry, name: &str) -> bool {
        let is_home = keychain.home == self.context.paths.home;
        cfg!(target_os = "macos")
            && keychain.sha256 == entry.sha256
            && self.is_for_keychain(&keychain.file, name)
            && match keychain.store {
                Store::System => true,
                Store::User => is_home,
                Store::Firefox | Store::Java => false,
            }
    }

    /// Whether the system itself shows that oriel installed a certificate: by the anchor, or by the
    /// line above it in this file. So that nobody can have another authority taken out of the file.
    fn shows_in(&self, bundle: &Path, name: &str) -> bool {
        let resolved = |path: &Path| self.root.resolve(path);
        let mut anchors = linux::anchors(name);
        let has_anchor = anchors.any(|path| resolved(&path).is_ok_and(|path| path.is_file()));
        let heading = appended::heading(name);
        has_anchor
            || resolved(bundle)
                .and_then(std::fs::read)
                .is_ok_and(|file| appended::holds(&file, &heading))
    }
}

/// What a certificate with this fingerprint is called where it is installed.
pub(super) fn name_of(sha256: &str) -> Option<String> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let start = sha256.get(..16)?;
    (sha256.len() == 64 && sha256.bytes().all(is_digit)).then(|| format!("oriel-{start}"))
}

/// The fingerprint of a certificate in exactly the form that oriel writes.
fn fingerprint(text: &str) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
    let all = [certificate];
    let link = links(&all).into_iter().next()?;
    (pem::certificates(&all) == text).then(|| super::in_hex(&link.sha256))
}

/// Whether a path ends with these parts, below one folder of any name in `above`.
pub(super) fn is_below(path: &Path, above: &Path, rest: &str) -> bool {
    let Ok(inside) = path.strip_prefix(above) else {
        return false;
    };
    let mut parts = inside.components();
    let is_named = matches!(parts.next(), Some(std::path::Component::Normal(_)));
    is_named && parts.as_path().as_os_str() == OsStr::new(rest)
}
