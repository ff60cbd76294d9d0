//! Java key stores (`cacerts`), changed by `keytool` alone.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::change::{Undone, run, run_with_input};
use super::known::is_below;
use super::root::Root;
use crate::environment::Environment;

const KEYTOOL: &str = "keytool";
/// What every Java has as the password of its `cacerts`, unless somebody changed it.
const PASSWORD: &str = "changeit";
/// Where systems keep one for every Java.
const SHARED: [&str; 3] = [
    "/etc/ssl/certs/java/cacerts",
    "/etc/pki/ca-trust/extracted/java/cacerts",
    "/var/lib/ca-certificates/java-cacerts",
];
/// Where systems have their Javas.
const INSTALLED: &str = "/usr/lib/jvm";
/// Where a Java has its own, below its home.
const OWN: [&str; 2] = ["lib/security/cacerts", "jre/lib/security/cacerts"];

/// The key stores of a root, each once, as paths of that root.
pub(super) fn keystores(root: &Root, environment: &Environment) -> Vec<PathBuf> {
    let mut homes = Vec::new();
    if *root == Root::Machine {
        homes.extend(environment.path("JAVA_HOME"));
    }
    let jvm = PathBuf::from(INSTALLED);
    let installed = root.resolve(&jvm).and_then(std::fs::read_dir);
    let installed = installed.into_iter().flatten().flatten();
    let mut installed: Vec<_> = installed.map(|entry| jvm.join(entry.file_name())).collect();
    installed.sort();
    homes.extend(installed);
    let own = homes
        .iter()
        .flat_map(|home| OWN.map(|path| home.join(path)));
    let mut found: Vec<(PathBuf, PathBuf)> = Vec::new();
    for path in SHARED.iter().map(PathBuf::from).chain(own) {
        let Ok(real) = root.resolve(&path) else {
            continue;
        };
        if real.is_file() && !found.iter().any(|(_, known)| *known == real) {
            found.push((path, real));
        }
    }
    found.into_iter().map(|(path, _)| path).collect()
}

/// Whether this is a key store that is looked for.
pub(super) fn is_known(path: &Path, environment: &Environment) -> bool {
    let is_shared = SHARED.iter().any(|shared| Path::new(shared) == path);
    let home = environment.path("JAVA_HOME");
    let is_of_home = |own: &str| home.as_ref().is_some_and(|home| home.join(own) == path);
    let is_installed = |own: &str| is_below(path, Path::new(INSTALLED), own);
    is_shared
        || OWN
            .into_iter()
            .any(|own| is_of_home(own) || is_installed(own))
}

/// Whether a path ends like that of a Java's own key store.
pub(super) fn is_own(path: &Path) -> bool {
    OWN.iter().any(|own| path.ends_with(own))
}

pub(super) fn has(keystore: &Path, alias: &str, password: Option<&Path>) -> bool {
    run(&entry("-list", keystore, alias, password)).is_ok()
}

/// Why a key store does not open with the password in this file, or with Java's own.
pub(super) fn locked(keystore: &Path, password: Option<&Path>) -> Option<String> {
    let error = run(&command("-list", keystore, password)).err()?;
    Some(match password {
        Some(file) => format!("with the password in {}, {error}", file.display()),
        None => format!("with Java's usual password, {error}"),
    })
}

pub(super) fn add(
    keystore: &Path,
    alias: &str,
    pem: &str,
    password: Option<&Path>,
) -> io::Result<()> {
    let mut command = entry("-importcert", keystore, alias, password);
    command.extend(["-noprompt", "-trustcacerts"].map(OsString::from));
    run_with_input(&command, pem)
}

pub(super) fn remove(keystore: &Path, alias: &str, password: Option<&Path>) -> io::Result<Undone> {
    if !keystore.exists() {
        return Ok(Undone::Gone);
    }
    if has(keystore, alias, password) {
        return run(&entry("-delete", keystore, alias, password)).map(|_said| Undone::Removed);
    }
    match locked(keystore, password) {
        Some(why) => Err(io::Error::other(why)),
        None => Ok(Undone::Gone),
    }
}

fn entry(what: &str, keystore: &Path, alias: &str, password: Option<&Path>) -> Vec<OsString> {
    let mut command = command(what, keystore, password);
    command.extend(["-alias", alias].map(OsString::from));
    command
}

fn command(what: &str, keystore: &Path, password: Option<&Path>) -> Vec<OsString> {
    let mut command = [KEYTOOL, what, "-keystore"].map(OsString::from).to_vec();
    command.push(keystore.into());
    command.extend(match password {
        Some(file) => ["-storepass:file".into(), file.into()],
        None => ["-storepass".into(), PASSWORD.into()],
    });
    command
}
