//! The passwords of trust stores: files that `certutil` and `keytool` read themselves, so that none
//! stands on a command line, where every process of the machine sees it, nor in the journal.

use std::path::PathBuf;

use super::Store;
use super::change::Change;
use super::root::Root;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::secret_file;

/// The files that were named.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passwords {
    /// That of Java key stores; without it they have Java's own, `changeit`.
    pub(crate) java: Option<PathBuf>,
    /// That of certificate databases of NSS; without it they have none.
    pub(crate) nss: Option<PathBuf>,
}

/// A password has a line.
const FILE_BYTES_MAX: u64 = 4096;

impl Passwords {
    /// Looks that each file can be read, and by its owner alone.
    pub(crate) fn of_files(java: Option<PathBuf>, nss: Option<PathBuf>) -> Result<Self, Problem> {
        for path in [&java, &nss].into_iter().flatten() {
            secret_file::read(path, FILE_BYTES_MAX, "ORL0316", "the password in")?;
        }
        Ok(Self { java, nss })
    }
}

/// A change that cannot be made, as its store does not open.
#[derive(Clone, Debug)]
pub(crate) struct Locked {
    pub(crate) store: Store,
    pub(crate) change: Change,
    /// What the store's tool says.
    pub(crate) why: String,
}

impl Locked {
    /// A change whose store does not open with these passwords, though it may be written to.
    pub(crate) fn find(
        store: Store,
        change: &Change,
        root: &Root,
        passwords: &Passwords,
    ) -> Option<Self> {
        if change.obstacle(root).is_some() {
            return None;
        }
        let why = change.locked(root, passwords)?;
        let change = change.clone();
        Some(Self { store, change, why })
    }
}

/// What is said of changes that were left out, after the others were made.
pub(crate) fn problem(verb: &str, locked: &[Locked]) -> Option<Problem> {
    let first = locked.first()?;
    let places: Vec<_> = locked.iter().filter_map(|one| one.change.place()).collect();
    let what = format!("{} cannot be opened", places.join(" and "));
    let problem = Problem::new("ORL0316", Exit::Permission, what)
        .why(format!("{}; nothing was changed there", first.why));
    let with_flag = |problem: Problem, store: Store| {
        let flag = match store {
            Store::Java => "--java-password-file",
            Store::User | Store::System | Store::Firefox => "--nss-password-file",
        };
        let name = store.name();
        let fix = format!(
            "oriel ca {verb} --store {name} {flag} FILE      its first line is the password, its mode 0600"
        );
        problem.fix(fix)
    };
    let mut told: Vec<Store> = Vec::new();
    let stores = locked.iter().map(|one| one.store);
    Some(stores.fold(problem, |problem, store| {
        if told.contains(&store) {
            return problem;
        }
        told.push(store);
        with_flag(problem, store)
    }))
}
