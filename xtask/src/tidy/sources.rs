//! Rules about the text of the sources: what the pure crates must not mention, how a file begins,
//! what it may be called, how tests may be marked, and how long the architecture may get.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

const FOLDERS: &[&str] = &["crates", "fuzz", "xtask"];

/// Folders in which nothing may do input or output, read a clock or the environment, or start a
/// thread.
const PURE: &[&str] = &["crates/traffic/src", "crates/llm/src"];
const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "net::Tcp",
    "net::Udp",
    "os::unix::net",
    "SystemTime::now",
    "Instant::now",
];
/// The same modules when they are imported in a group, as in `use std::{fs, io}`.
const IMPURE_MODULES: &[&str] = &["fs", "env", "thread", "process"];

/// Names that say nothing about what is in a file.
const EMPTY_NAMES: &[&str] = &[
    "util", "utils", "helper", "helpers", "common", "misc", "manager", "support", "impl",
];

/// Marks that let a test pass without showing anything. Split, or this file would find itself.
const MARKS: &[&str] = &[concat!("#[", "ignore"), concat!("should_", "panic")];

const ARCHITECTURE_LINES_MAX: usize = 300;

pub(super) fn check(root: &Path, findings: &mut Vec<String>) -> Result<(), Failure> {
    for folder in FOLDERS {
        for path in rust_files(&root.join(folder))? {
            let shown = path.strip_prefix(root).unwrap_or(&path);
            let text = std::fs::read_to_string(&path)?;
            check_file(shown, &text, findings);
        }
    }
    check_architecture(root, findings);
    Ok(())
}

fn check_architecture(root: &Path, findings: &mut Vec<String>) {
    let Ok(text) = std::fs::read_to_string(root.join("ARCHITECTURE.md")) else {
        findings.push("ARCHITECTURE.md is missing".to_owned());
        return;
    };
    let length = text.lines().count();
    if length > ARCHITECTURE_LINES_MAX {
        findings.push(format!(
            "ARCHITECTURE.md has {length} lines, at most {ARCHITECTURE_LINES_MAX} are allowed"
        ));
    }
}

fn check_file(path: &Path, text: &str, findings: &mut Vec<String>) {
    let shown = path.display();
    if !text.starts_with("//!") {
        findings.push(format!("{shown} does not begin with a `//!` line"));
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    if name == "mod" || name.split('_').any(|word| EMPTY_NAMES.contains(&word)) {
        findings.push(format!("{shown}: the name does not say what is in it"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        for mark in MARKS.iter().filter(|mark| line.contains(**mark)) {
            findings.push(format!("{shown}:{number}: {mark} hides a test's result"));
        }
    }
    if PURE.iter().any(|folder| path.starts_with(folder)) {
        check_purity(path, text, findings);
    }
}

fn check_purity(path: &Path, text: &str, findings: &mut Vec<String>) {
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        let named = IMPURE.iter().find(|name| code.contains(**name));
        if let Some(found) = named.or_else(|| grouped_import(code)) {
            findings.push(format!(
                "{}:{number}: {found} in a pure crate",
                path.display()
            ));
        }
    }
}

fn grouped_import(code: &str) -> Option<&'static &'static str> {
    let group = code.trim_start().strip_prefix("use std::{")?;
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut names = group.split(|character: char| !is_word(character));
    names.find_map(|name| IMPURE_MODULES.iter().find(|module| **module == name))
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                if entry.file_name() != "target" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings_in(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check_file(Path::new(path), text, &mut findings);
        findings
    }

    #[test]
    fn a_pure_file_names_no_input_or_output() {
        let path = "crates/traffic/src/head.rs";
        for impure in [
            "use std::fs;",
            "use std::{fmt, env};",
            "let now = Instant::now();",
            "use std::net::TcpStream;",
        ] {
            assert_eq!(
                findings_in(path, &format!("//! Doc.\n{impure}\n")).len(),
                1,
                "{impure}"
            );
            assert!(
                findings_in("crates/proxy/src/a.rs", &format!("//! Doc.\n{impure}")).is_empty()
            );
        }
        for pure in [
            "use std::net::IpAddr;",
            "// tokio reads it",
            "use std::{fmt, str};",
        ] {
            assert!(
                findings_in(path, &format!("//! Doc.\n{pure}\n")).is_empty(),
                "{pure}"
            );
        }
    }

    #[test]
    fn names_and_first_lines_are_checked() {
        assert_eq!(findings_in("crates/proxy/src/util.rs", "//! Doc.").len(), 1);
        assert_eq!(
            findings_in("crates/proxy/src/tls_helpers.rs", "//! Doc.").len(),
            1
        );
        assert_eq!(findings_in("crates/proxy/src/tls.rs", "use a;").len(), 1);
    }
}
