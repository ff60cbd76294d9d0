//! `cargo xtask ci`: every gate a change must pass, the quick ones first and the tests last, so
//! that their summary is the last thing on the screen.
//!
//! A gate whose tool is missing fails; none is skipped. Licences, bans and sources are checked
//! twice: in every run by `tidy` from cargo's own metadata, and in a full run by cargo-deny,
//! which takes minutes to build.

use std::process::{Command, Stdio};

use crate::console;
use crate::failure::Failure;
use crate::seeds;
use crate::tidy;

/// How much to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Usual,
    /// With the gates whose tools take long to install.
    Full,
}

/// What is there with the feature `parquet` alone.
const PARQUET: [&str; 8] = [
    "test",
    "--package",
    "oriel-store",
    "--package",
    "oriel",
    "--features",
    "oriel/parquet,oriel-store/parquet",
    "parquet",
];

/// The fuzz targets are a workspace of their own, which nothing else builds.
const FUZZ: [&str; 6] = [
    "check",
    "--quiet",
    "--manifest-path",
    "fuzz/Cargo.toml",
    "--target-dir",
    "target/fuzz",
];

pub(crate) fn run(scope: Scope) -> Result<(), Failure> {
    gate("fmt", cargo(&["fmt", "--all", "--check"]))?;
    console::complain("==> tidy");
    tidy::run()?;
    if scope == Scope::Full {
        deny()?;
    }
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    gate("clippy", cargo(&clippy))?;
    let mut doc = cargo(&["doc", "--no-deps", "--workspace"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    gate("doc", doc)?;
    gate("fuzz targets", cargo(&FUZZ))?;
    if scope == Scope::Full {
        gate("parquet", cargo(&PARQUET))?;
        seeds::run()?;
    }
    test()
}

/// All tests: doc tests first, as their summary is the less interesting one.
pub(crate) fn test() -> Result<(), Failure> {
    gate("doc tests", cargo(&["test", "--workspace", "--doc"]))?;
    if has_nextest() {
        gate(
            "tests",
            cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]),
        )
    } else {
        gate(
            "tests",
            cargo(&[
                "test",
                "--workspace",
                "--no-fail-fast",
                "--lib",
                "--bins",
                "--tests",
            ]),
        )
    }
}

pub(crate) fn deny() -> Result<(), Failure> {
    // Advisories need the network; a check that depends on the day is not one of a change.
    gate(
        "deny",
        cargo(&[
            "deny",
            "check",
            "--hide-inclusion-graph",
            "licenses",
            "bans",
            "sources",
        ]),
    )
}

/// Runs one command with its output on the screen.
pub(crate) fn gate(name: &str, mut command: Command) -> Result<(), Failure> {
    console::complain(&format!("==> {name}"));
    let status = command.stdin(Stdio::null()).status()?;
    if !status.success() {
        return Err(Failure::new(format!("{name} failed: {command:?}")));
    }
    Ok(())
}

/// The cargo that runs us, so that the toolchain is the same.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments);
    command
}

fn has_nextest() -> bool {
    cargo(&["nextest", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}
