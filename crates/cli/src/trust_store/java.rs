//! Java key stores (`cacerts`), changed by `keytool` alone.

use std::io;
use std::path::{Path, PathBuf};

use super::change::{Undone, run, run_with_input};
use super::root::Root;
use crate::environment::Environment;

const KEYTOOL: &str = "keytool";
/// What every Java has as the password of its `cacerts`.
const PASSWORD: &str = "changeit";
/// Where systems keep one for every Java.
const SHARED: [&str; 3] = [
    "/etc/ssl/certs/java/cacerts",
    "/etc/pki/ca-trust/extracted/java/cacerts",
    "/var/lib/ca-certificates/java-cacerts",
];
/// Where a Java has its own, below its home.
const OWN: [&str; 2] = ["lib/security/cacerts", "jre/lib/security/cacerts"];

/// The key stores of a root, each once, as paths of that root.
pub(super) fn keystores(root: &Root, environment: &Environment) -> Vec<PathBuf> {
    let mut homes = Vec::new();
    if *root == Root::Machine {
        homes.extend(environment.path("JAVA_HOME"));
    }
    let jvm = PathBuf::from("/usr/lib/jvm");
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

pub(super) fn has(keystore: &Path, alias: &str) -> bool {
    run(&command("-list", keystore, alias)).is_ok()
}

pub(super) fn add(keystore: &Path, alias: &str, pem: &str) -> io::Result<()> {
    let mut command = command("-importcert", keystore, alias);
    command.extend(["-noprompt".to_owned(), "-trustcacerts".to_owned()]);
    run_with_input(&command, pem)
}

pub(super) fn remove(keystore: &Path, alias: &str) -> io::Result<Undone> {
    if !keystore.exists() || !has(keystore, alias) {
        return Ok(Undone::Gone);
    }
    run(&command("-delete", keystore, alias)).map(|_said| Undone::Removed)
}

fn command(what: &str, keystore: &Path, alias: &str) -> Vec<String> {
    let keystore = keystore.display().to_string();
    let words = [
        KEYTOOL,
        what,
        "-keystore",
        &keystore,
        "-storepass",
        PASSWORD,
        "-alias",
        alias,
    ];
    words.map(str::to_owned).to_vec()
}
