//! A Python of the suites' own, and source packages from PyPI.

use std::path::PathBuf;
use std::process::Command;

use super::place::{Place, fetch};
use crate::failure::Failure;

/// The versions of all that is installed.
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// Makes the environment, unless it is there with just these versions.
pub(super) fn fetch_environment(place: &Place) -> Result<(), Failure> {
    let done = place.path("venv/requirements.txt");
    if std::fs::read_to_string(&done).is_ok_and(|text| text == REQUIREMENTS) {
        return Ok(());
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(place.path("venv"));
    fetch(place, "a Python environment", make)?;
    let wanted = place.write("requirements.txt", REQUIREMENTS)?;
    let mut install = Command::new(interpreter(place));
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--requirement",
    ]);
    install.arg(wanted);
    fetch(place, "the suites' Python packages", install)?;
    Ok(std::fs::write(done, REQUIREMENTS)?)
}

/// Fetches a source package, which has the tests that the installed one lacks, and gives its
/// folder.
pub(super) fn fetch_source(place: &Place, name: &str) -> Result<(), Failure> {
    let folder = source(place, name)?;
    if folder.exists() {
        return Ok(());
    }
    let wanted = format!("{name}=={}", version_of(name)?);
    let mut download = Command::new(interpreter(place));
    download.args(["-m", "pip", "download", "--quiet", "--no-deps"]);
    download.args(["--no-binary", ":all:", &wanted, "--dest"]);
    download.arg(place.path(""));
    fetch(place, &wanted, download)?;
    let mut unpack = Command::new("tar");
    unpack.args(["--no-same-owner", "-xzf"]);
    unpack.arg(folder.with_file_name(format!("{name}-{}.tar.gz", version_of(name)?)));
    unpack.arg("-C").arg(place.path(""));
    fetch(place, &wanted, unpack)
}

/// Where a source package is unpacked.
pub(super) fn source(place: &Place, name: &str) -> Result<PathBuf, Failure> {
    Ok(place.path(&format!("{name}-{}", version_of(name)?)))
}

pub(super) fn interpreter(place: &Place) -> PathBuf {
    place.path("venv/bin/python")
}

/// The version that is installed of a package.
pub(super) fn version_of(name: &str) -> Result<&'static str, Failure> {
    let mut pins = REQUIREMENTS
        .lines()
        .filter_map(|line| line.split_once("=="));
    match pins.find(|(package, _)| *package == name) {
        Some((_, version)) => Ok(version),
        None => Err(Failure::new(format!(
            "no version of {name} is written down"
        ))),
    }
}
