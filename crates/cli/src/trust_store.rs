//! Has the programs of a machine, a user or a container trust a certificate, and takes that back.
//!
//! What is to be done is planned first (`plan.rs`), as a list of changes that can be shown
//! (`linux.rs`, `nss.rs`, `java.rs`, `elsewhere.rs`). Each change knows how it is done and undone (`change.rs`),
//! and is written down before it is made (`journal.rs`). What was written down is undone only if it is
//! something that oriel does (`known.rs`). Paths are followed within the file system
//! that is changed (`root.rs`).

mod appended;
pub(crate) mod change;
pub(crate) mod elsewhere;
mod java;
pub(crate) mod journal;
pub(crate) mod known;
mod linux;
mod nss;
pub(crate) mod passwords;
mod plan;
pub(crate) mod root;

use std::path::{Path, PathBuf};

use proxy::Authority;
use proxy::tls::pem;
use serde::{Deserialize, Serialize};

use self::change::{Change, Undone};
use self::journal::{Entry, Journal};
use self::passwords::Passwords;
pub(crate) use self::plan::{Plan, plan};
use self::root::Root;
use crate::exit::Exit;
use crate::problem::Problem;

/// Whose trust is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Store {
    /// Programs of this user that keep no list of their own: Chromium and its kin on Linux, all on
    /// macOS.
    User,
    /// What the system gives to all programs.
    System,
    /// The Firefox profiles of this user.
    Firefox,
    /// Java.
    Java,
}

/// A certificate to be trusted.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) pem: String,
    pub(crate) subject: String,
    /// SHA-256.
    fingerprint: [u8; 32],
    /// SHA-1.
    thumbprint: [u8; 20],
    /// By which OpenSSL finds it.
    hash: Option<u32>,
    /// The home of who runs this.
    home: PathBuf,
}

impl Store {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::System => "system",
            Self::Firefox => "firefox",
            Self::Java => "java",
        }
    }
}

impl Certificate {
    pub(crate) fn of(authority: &Authority, home: &Path) -> Self {
        Self {
            pem: pem::certificates(std::slice::from_ref(authority.certificate_der())),
            subject: authority.subject().to_owned(),
            fingerprint: authority.sha256(),
            thumbprint: authority.sha1(),
            hash: authority.openssl_subject_hash(),
            home: home.to_owned(),
        }
    }

    /// In lower case, without colons.
    pub(crate) fn fingerprint(&self) -> String {
        in_hex(&self.fingerprint)
    }

    /// By which Windows finds it: SHA-1, in lower case.
    fn thumbprint(&self) -> String {
        in_hex(&self.thumbprint)
    }

    /// What it is called where it is installed: no other certificate has this name.
    fn name(&self) -> String {
        let fingerprint = self.fingerprint();
        format!("oriel-{}", fingerprint.get(..16).unwrap_or(&fingerprint))
    }
}

fn in_hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// What stands in the way of these changes, each thing once.
pub(crate) fn obstacles<'c>(root: &Root, changes: impl Iterator<Item = &'c Change>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for obstacle in changes.filter_map(|change| change.obstacle(root)) {
        if !found.contains(&obstacle) {
            found.push(obstacle);
        }
    }
    found
}

/// Makes the changes of a plan, all of them or none.
pub(crate) fn install(
    root: &Root,
    plan: Plan,
    certificate: &Certificate,
    passwords: &Passwords,
    journal: &mut Journal,
) -> Result<(), Problem> {
    let before = journal.entries.len();
    for (store, change) in plan.steps {
        let entry = Entry {
            root: root.name().to_owned(),
            store,
            subject: certificate.subject.clone(),
            sha256: certificate.fingerprint(),
            change,
            origin: journal.origin(),
        };
        journal.entries.push(entry.clone());
        journal.save()?;
        if let Err(error) = entry.change.apply(root, passwords) {
            let what = format!("could not {}", entry.change.description());
            let problem = Problem::new("ORL0315", Exit::Storage, what).why(error.to_string());
            let made = journal.entries.split_off(before);
            let (_done, left) = undo_all(root, passwords, made);
            let problem = match left.is_empty() {
                true => problem.fix("what had been changed was undone"),
                false => problem.fix("oriel ca uninstall      undoes what is left"),
            };
            journal
                .entries
                .extend(left.into_iter().map(|(entry, _error)| entry));
            journal.save()?;
            return Err(problem);
        }
    }
    Ok(())
}

/// What was undone, and what could not be.
pub(crate) type UndoneAll = (Vec<(Entry, Undone)>, Vec<(Entry, std::io::Error)>);

/// Undoes changes, the last first. The tools of the system run at the end: they make something of
/// what is left.
pub(crate) fn undo_all(root: &Root, passwords: &Passwords, entries: Vec<Entry>) -> UndoneAll {
    let is_refresh = |entry: &Entry| matches!(entry.change, Change::Refresh { .. });
    let (refreshes, others): (Vec<_>, Vec<_>) = entries.into_iter().rev().partition(is_refresh);
    let (mut done, mut left) = (Vec::new(), Vec::new());
    for entry in others.into_iter().chain(refreshes) {
        match entry.change.undo(root, passwords) {
            Ok(undone) => done.push((entry, undone)),
            Err(error) => left.push((entry, error)),
        }
    }
    (done, left)
}
