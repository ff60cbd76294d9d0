//! Has the programs of a machine, a user or a container trust a certificate, and takes that back.
//!
//! What is to be done is planned first, as a list of changes that can be shown (`linux.rs`,
//! `nss.rs`, `java.rs`, `elsewhere.rs`). Each change knows how it is done and undone (`change.rs`),
//! and is written down before it is made (`journal.rs`). Paths are followed within the file system
//! that is changed (`root.rs`).

mod appended;
pub(crate) mod change;
pub(crate) mod elsewhere;
mod java;
pub(crate) mod journal;
mod linux;
mod nss;
pub(crate) mod passwords;
pub(crate) mod root;

use std::path::{Path, PathBuf};

use proxy::Authority;
use proxy::tls::pem;
use serde::{Deserialize, Serialize};

use self::change::{Change, Undone};
use self::elsewhere::Platform;
use self::journal::{Entry, Journal};
use self::passwords::{Locked, Passwords};
use self::root::Root;
use crate::context::Context;
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
    common_name: String,
    /// SHA-256.
    fingerprint: [u8; 32],
    /// By which OpenSSL finds it.
    hash: Option<u32>,
    /// The home of who runs this.
    home: PathBuf,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<(Store, Change)>,
    /// What is left out, as it takes a password.
    pub(crate) locked: Vec<Locked>,
    /// What was looked for and not found.
    pub(crate) notes: Vec<String>,
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
            common_name: authority.common_name().unwrap_or_default(),
            fingerprint: authority.sha256(),
            hash: authority.openssl_subject_hash(),
            home: home.to_owned(),
        }
    }

    /// In lower case, without colons.
    pub(crate) fn fingerprint(&self) -> String {
        self.fingerprint
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect()
    }

    /// What it is called where it is installed: no other certificate has this name.
    fn name(&self) -> String {
        let fingerprint = self.fingerprint();
        format!("oriel-{}", fingerprint.get(..16).unwrap_or(&fingerprint))
    }
}

/// Plans what is missing to have the certificate trusted in these stores of a root.
pub(crate) fn plan(
    context: &Context,
    root: &Root,
    stores: &[Store],
    certificate: &Certificate,
    passwords: &Passwords,
    data_folder: &Path,
) -> Result<Plan, Problem> {
    let mut plan = Plan::default();
    for store in stores {
        let (changes, note) = changes(context, root, *store, certificate, data_folder)?;
        plan.notes.extend(note);
        for change in changes {
            if change.is_done(root, passwords) {
                continue;
            }
            match Locked::find(*store, &change, root, passwords) {
                Some(locked) => plan.locked.push(locked),
                None => plan.steps.push((*store, change)),
            }
        }
    }
    Ok(plan)
}

/// All that a store takes, and what was not found.
fn changes(
    context: &Context,
    root: &Root,
    store: Store,
    certificate: &Certificate,
    data_folder: &Path,
) -> Result<(Vec<Change>, Option<String>), Problem> {
    let environment = &context.environment;
    let has = |program: &str, fix: &str| match environment.find_program(program) {
        Some(_) => Ok(()),
        None => Err(
            Problem::new("ORL0313", Exit::Usage, format!("{program} is not there"))
                .why(format!("the {} store is changed with it", store.name()))
                .fix(fix),
        ),
    };
    let certutil = || {
        has(
            "certutil",
            "apt install libnss3-tools   or: dnf install nss-tools, apk add nss-tools",
        )
    };
    if cfg!(target_os = "macos")
        && *root == Root::Machine
        && matches!(store, Store::User | Store::System)
    {
        return Ok((on_macos(store, certificate, data_folder), None));
    }
    match store {
        Store::System => match linux::plan(root, certificate, environment) {
            Some(changes) => Ok((changes, None)),
            None => {
                let what = format!("no trust store was found in {}", root.name().display());
                Err(Problem::new("ORL0313", Exit::Usage, what)
                    .why("neither the folders nor the files that Debian, Red Hat, Alpine, Arch and SUSE have are there")
                    .fix("give programs a file instead:  oriel ca export --format bundle -o FILE")
                    .fix("and name it to them:           SSL_CERT_FILE=FILE"))
            }
        },
        Store::User => {
            certutil()?;
            let folder = nss::shared_database(&context.paths.home);
            let mut changes = linux::missing_folders(root, &folder);
            changes.push(Change::NssDatabase {
                folder: folder.clone(),
            });
            changes.push(in_nss(folder, certificate));
            Ok((changes, None))
        }
        Store::Firefox => {
            let databases = nss::firefox_databases(&context.paths.home);
            if databases.is_empty() {
                return Ok((Vec::new(), Some("there is no Firefox profile".to_owned())));
            }
            certutil()?;
            let changes = databases
                .into_iter()
                .map(|folder| in_nss(folder, certificate));
            Ok((changes.collect(), None))
        }
        Store::Java => {
            let keystores = java::keystores(root, environment);
            if keystores.is_empty() {
                return Ok((Vec::new(), Some("there is no Java key store".to_owned())));
            }
            has(
                "keytool",
                "it comes with a JDK or JRE; put its bin folder on PATH",
            )?;
            let changes = keystores.into_iter().map(|path| Change::JavaKeystore {
                path,
                alias: certificate.name(),
                pem: certificate.pem.clone(),
            });
            Ok((changes.collect(), None))
        }
    }
}

fn in_nss(folder: PathBuf, certificate: &Certificate) -> Change {
    Change::Nss {
        folder,
        nickname: certificate.name(),
        pem: certificate.pem.clone(),
    }
}

/// The file that the command reads stays, as the command that undoes it may want it.
fn on_macos(store: Store, certificate: &Certificate, data_folder: &Path) -> Vec<Change> {
    let path = data_folder.join(format!("{}.crt", certificate.name()));
    let command = elsewhere::commands(Platform::Macos, store, &path, certificate);
    let pem = certificate.pem.clone();
    std::iter::once(Change::File { path, pem })
        .chain(command)
        .collect()
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
