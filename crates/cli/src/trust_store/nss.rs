//! Certificate databases of NSS (`cert9.db`), which Chromium and its kin share one of, and Firefox has
//! one of in each profile. They are changed by Mozilla's `certutil` alone: the format is NSS's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::change::{Undone, run, run_with_input};

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

pub(super) fn has(folder: &Path, nickname: &str) -> bool {
    let database = database(folder);
    run(&[CERTUTIL, "-L", "-d", &database, "-n", nickname]).is_ok()
}

pub(super) fn add(folder: &Path, nickname: &str, pem: &str) -> io::Result<()> {
    let database = database(folder);
    let command = [
        CERTUTIL, "-A", "-a", "-d", &database, "-n", nickname, "-t", TRUST,
    ];
    run_with_input(&command, pem)
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
