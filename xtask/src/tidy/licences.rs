//! Licences, banned crates and sources, read from cargo's own metadata. cargo-deny checks the
//! same in a full run; this check needs nothing installed.

use serde_json::Value;

use super::{packages, text, workspace_root};
use crate::ci::cargo;
use crate::failure::Failure;

/// Licences that a dependency may have. The same list stands in `deny.toml`.
const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "Unlicense",
];

/// One TLS stack and one provider of cryptography are in the program we ship.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "rustls is the TLS stack"),
    ("openssl-sys", "rustls is the TLS stack"),
    ("native-tls", "rustls is the TLS stack"),
    ("ring", "aws-lc-rs is the provider of cryptography"),
    ("boring", "aws-lc-rs is the provider of cryptography"),
];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(metadata: &Value, findings: &mut Vec<String>) -> Result<(), Failure> {
    for package in packages(metadata) {
        let (name, version) = (text(package, "name"), text(package, "version"));
        let licence = text(package, "license");
        if !is_allowed(licence) {
            findings.push(format!("{name} {version} has the licence \"{licence}\""));
        }
        match package["source"].as_str() {
            None | Some(REGISTRY) => {}
            Some(source) => findings.push(format!("{name} {version} comes from {source}")),
        }
    }
    check_shipped(findings)
}

/// Looks at the graph of the binary alone: the development tools may link more.
fn check_shipped(findings: &mut Vec<String>) -> Result<(), Failure> {
    let arguments = [
        "tree",
        "--package",
        "oriel",
        "--edges",
        "normal,build",
        "--target",
        "all",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let output = cargo(&arguments).current_dir(workspace_root()).output()?;
    if !output.status.success() {
        return Err(Failure::new(String::from_utf8_lossy(&output.stderr)));
    }
    let tree = String::from_utf8_lossy(&output.stdout);
    let names: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    for (name, reason) in BANNED {
        if names.contains(name) {
            findings.push(format!("{name} is linked into oriel, but {reason}"));
        }
    }
    Ok(())
}

/// Whether some choice that the expression offers is allowed: AND binds tighter than OR, and the
/// old `/` means OR. What is no expression is not allowed.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words };
    let allowed = parser.any().unwrap_or(false);
    allowed && parser.words.is_empty()
}

struct Parser<'a> {
    words: &'a [&'a str],
}

impl Parser<'_> {
    fn any(&mut self) -> Option<bool> {
        let mut allowed = self.all()?;
        while self.take("OR") {
            allowed |= self.all()?;
        }
        Some(allowed)
    }

    fn all(&mut self) -> Option<bool> {
        let mut allowed = self.one()?;
        while self.take("AND") {
            allowed &= self.one()?;
        }
        Some(allowed)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let allowed = self.any()?;
            return self.take(")").then_some(allowed);
        }
        let mut name = self.next()?.to_owned();
        if self.take("WITH") {
            name = format!("{name} WITH {}", self.next()?);
        }
        Some(LICENCES.contains(&name.as_str()))
    }

    fn next(&mut self) -> Option<&str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn take(&mut self, word: &str) -> bool {
        let is_next = self.words.first() == Some(&word);
        if is_next {
            self.next();
        }
        is_next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        for allowed in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-3.0) AND Apache-2.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(is_allowed(allowed), "{allowed}");
        }
        for refused in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MIT OR",
            "(MIT",
            "MIT MIT",
        ] {
            assert!(!is_allowed(refused), "{refused}");
        }
    }
}
