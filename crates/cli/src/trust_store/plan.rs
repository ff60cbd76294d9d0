//! Plans which changes a certificate needs to be trusted.

use std::path::{Path, PathBuf};

use super::change::Change;
use super::elsewhere::Keychain;
use super::passwords::{Locked, Passwords};
use super::root::Root;
use super::{Certificate, Store, java, linux, nss};
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<(Store, Change)>,
    /// What is left out, as it takes a password.
    pub(crate) locked: Vec<Locked>,
    /// What was looked for and not found.
    pub(crate) notes: Vec<String>,
}

/// What is to be trusted, and where.
struct Wish<'a> {
    context: &'a Context,
    root: &'a Root,
    certificate: &'a Certificate,
    data_folder: &'a Path,
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
    let wish = Wish {
        context,
        root,
        certificate,
        data_folder,
    };
    let mut plan = Plan::default();
    for store in stores {
        for change in wish.changes(*store, &mut plan.notes)? {
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

impl Wish<'_> {
    /// All that a store takes; what is not found is noted.
    fn changes(&self, store: Store, notes: &mut Vec<String>) -> Result<Vec<Change>, Problem> {
        let is_of_macos = cfg!(target_os = "macos") && *self.root == Root::Machine;
        match store {
            Store::User | Store::System if is_of_macos => Ok(self.on_macos(store)),
            Store::System => self.in_system(),
            Store::User => self.in_shared_database(),
            Store::Firefox => self.in_firefox(notes),
            Store::Java => self.in_java(notes),
        }
    }

    /// The file that the command reads stays, as the command that undoes it may want it.
    fn on_macos(&self, store: Store) -> Vec<Change> {
        let name = self.certificate.name();
        let path = self.data_folder.join(format!("{name}.crt"));
        let keychain = Keychain::of(self.certificate, store, &path);
        let pem = self.certificate.pem.clone();
        vec![Change::File { path, pem }, Change::Keychain(keychain)]
    }

    fn in_system(&self) -> Result<Vec<Change>, Problem> {
        let changes = linux::plan(self.root, self.certificate);
        changes.ok_or_else(|| {
            let root = self.root.name().display();
            let what = format!("no trust store was found in {root}");
            Problem::new("ORL0313", Exit::Usage, what)
                .why("neither the folders nor the files that Debian, Red Hat, Alpine, Arch and SUSE have are there")
                .fix("give programs a file instead:  oriel ca export --format bundle -o FILE")
                .fix("and name it to them:           SSL_CERT_FILE=FILE")
        })
    }

    fn in_shared_database(&self) -> Result<Vec<Change>, Problem> {
        self.need_certutil(Store::User)?;
        let folder = nss::shared_database(&self.context.paths.home);
        let mut changes = linux::missing_folders(self.root, &folder);
        changes.push(Change::NssDatabase {
            folder: folder.clone(),
        });
        changes.push(self.in_nss(folder));
        Ok(changes)
    }

    fn in_firefox(&self, notes: &mut Vec<String>) -> Result<Vec<Change>, Problem> {
        let databases = nss::firefox_databases(&self.context.paths.home);
        if databases.is_empty() {
            notes.push("there is no Firefox profile".to_owned());
            return Ok(Vec::new());
        }
        self.need_certutil(Store::Firefox)?;
        let databases = databases.into_iter();
        Ok(databases.map(|folder| self.in_nss(folder)).collect())
    }

    fn in_nss(&self, folder: PathBuf) -> Change {
        Change::Nss {
            folder,
            nickname: self.certificate.name(),
            pem: self.certificate.pem.clone(),
        }
    }

    fn in_java(&self, notes: &mut Vec<String>) -> Result<Vec<Change>, Problem> {
        let keystores = java::keystores(self.root, &self.context.environment);
        if keystores.is_empty() {
            notes.push("there is no Java key store".to_owned());
            return Ok(Vec::new());
        }
        let fix = "it comes with a JDK or JRE; put its bin folder on PATH";
        self.need("keytool", Store::Java, fix)?;
        let changes = keystores.into_iter().map(|path| Change::JavaKeystore {
            path,
            alias: self.certificate.name(),
            pem: self.certificate.pem.clone(),
        });
        Ok(changes.collect())
    }

    fn need_certutil(&self, store: Store) -> Result<(), Problem> {
        let fix = "apt install libnss3-tools   or: dnf install nss-tools, apk add nss-tools";
        self.need("certutil", store, fix)
    }

    /// Refuses if the program that changes a store is not there.
    fn need(&self, program: &str, store: Store, fix: &str) -> Result<(), Problem> {
        match self.context.environment.find_program(program) {
            Some(_) => Ok(()),
            None => Err(
                Problem::new("ORL0313", Exit::Usage, format!("{program} is not there"))
                    .why(format!("the {} store is changed with it", store.name()))
                    .fix(fix),
            ),
        }
    }
}
