//! Certificate databases of NSS (`cert9.db`), which Chromium and its kin share one of, and Firefox has
//! one of in each profile. They are changed by Mozilla's `certutil` alone: the format is NSS's own.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::change::{Undone, run, run_with_input};
use super::known::is_below;

const CERTUTIL: &str = "certutil";
/// The files of a database without certificates.
const FILES: [&str; 3] = ["cert9.db", "key4.db", "pkcs11.txt"];
/// Trusted to issue certificates of servers, and for nothing else.
const TRUST: &str = "C,,";
/// Where profiles of Firefox are, below the home: of packages, of its own archive, of snap and of
/// flatpak.
const PROFILES: [&str; 4] = [
    ".mozilla/firefox",
    ".config/mozilla/firefox",
    "snap/firefox/common/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/.mozilla/firefox",
];

/// The database that Chromium, Chrome, Edge and Brave share; where there is none, the place where
/// they look for it.
pub(super) fn shared_database(home: &Path) -> PathBuf {
    home.join(".pki/nssdb")
}

/// The databases of the Firefox profiles of a home.
pub(super) fn firefox_databases(home: &Path) -> Vec<PathBuf> {
    let folders = PROFILES.iter().map(|folder| home.join(folder));
    let entries = folders.filter_map(|folder| fs::read_dir(folder).ok());
    let profiles = entries.flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = profiles
        .filter(|profile| profile.join("cert9.db").is_file())
        .collect();
    found.sort();
    found
}

/// Whether this is a database that is looked for in a home.
pub(super) fn is_known(folder: &Path, home: &Path) -> bool {
    let mut profiles = PROFILES.iter().map(|profiles| home.join(profiles));
    folder == shared_database(home) || profiles.any(|profiles| is_below(folder, &profiles, ""))
}

/// Whether the certificate is there and trusted to issue those of servers.
pub(super) fn trusts(folder: &Path, nickname: &str) -> bool {
    let listed = run(&[CERTUTIL, "-L", "-d", &database(folder)]).unwrap_or_default();
    listed.lines().any(|line| {
        let mut words = line.split_whitespace();
        let trust = words.next_back().unwrap_or_default();
        words.eq([nickname]) && trust.split(',').next().is_some_and(|ssl| ssl.contains('C'))
    })
}

fn has(folder: &Path, nickname: &str) -> bool {
    let database = database(folder);
    run(&[CERTUTIL, "-L", "-d", &database, "-n", nickname]).is_ok()
}

/// Why a database does not open with the password in this file, or without one. `certutil -A` is no
/// way to find out: it adds the certificate and fails at trusting it.
pub(super) fn locked(folder: &Path, password: Option<&Path>) -> Option<String> {
    if !folder.join("cert9.db").exists() {
        return None;
    }
    // It fails as well where there are no keys, and says so.
    let error = run(&with_password(&[CERTUTIL, "-K"], folder, password)).err()?;
    let is_locked = error.to_string().contains("SEC_ERROR_BAD_PASSWORD");
    is_locked.then(|| match password {
        Some(file) => format!("its password is not the one in {}", file.display()),
        None => "a password protects it (in Firefox: the primary password)".to_owned(),
    })
}

pub(super) fn add(
    folder: &Path,
    nickname: &str,
    pem: &str,
    password: Option<&Path>,
) -> io::Result<()> {
    let add = [CERTUTIL, "-A", "-a", "-n", nickname, "-t", TRUST];
    run_with_input(&with_password(&add, folder, password), pem)
}

/// A command at a database. Without a file of a password it would ask at the terminal.
fn with_password(command: &[&str], folder: &Path, password: Option<&Path>) -> Vec<OsString> {
    let password = password.unwrap_or_else(|| Path::new("/dev/null"));
    let database = OsString::from(database(folder));
    let at = [
        "-d".into(),
        database,
        "-f".into(),
        password.as_os_str().to_owned(),
    ];
    command.iter().map(OsString::from).chain(at).collect()
}

pub(super) fn remove(folder: &Path, nickname: &str) -> io::Result<Undone> {
    if !has(folder, nickname) {
        return Ok(Undone::Gone);
    }
    let database = database(folder);
    run(&[CERTUTIL, "-D", "-d", &database, "-n", nickname]).map(|_said| Undone::Removed)
}

pub(super) fn make(folder: &Path) -> io::Result<()> {
    let command = [CERTUTIL, "-N", "-d", &database(folder), "--empty-password"];
    run(&command).map(|_said| ())
}

/// Removes a database that we made, if nobody has put anything into it.
pub(super) fn unmake(folder: &Path) -> io::Result<Undone> {
    if !folder.join("cert9.db").exists() {
        return Ok(Undone::Gone);
    }
    let listed = run(&[CERTUTIL, "-L", "-d", &database(folder)])?;
    // Each certificate has a line that ends with its trust, as the title of that column does.
    let trusts = listed
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    let certificates = trusts.filter(|trust| trust.matches(',').count() == 2);
    if certificates
        .filter(|trust| *trust != "SSL,S/MIME,JAR/XPI")
        .count()
        > 0
    {
        return Ok(Undone::Kept);
    }
    for name in FILES {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(Undone::Removed)
}

fn database(folder: &Path) -> String {
    format!("sql:{}", folder.display())
}
