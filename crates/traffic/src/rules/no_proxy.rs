//! Lists of hosts that are reached without a proxy, as the variable `NO_PROXY` has them.
//!
//! No standard says what such a list means, and programs differ. Here, as in Go's `net/http`:
//!
//! | entry | covers |
//! |---|---|
//! | `corp.example` | that host and everything below it |
//! | `.corp.example`, `*.corp.example` | everything below it, not the host itself |
//! | `192.0.2.7`, `[2001:db8::7]` | that address |
//! | `192.0.2.0/24`, `2001:db8::/32` | the addresses in the range |
//! | `*` | every host |
//!
//! Each may end in `:port`, but a range. Addresses cover targets that are asked for by their
//! address: no name is resolved for the list.

use super::pattern::{HostPattern, HostPatterns, PatternError, PatternProblem};
use crate::{Host, Target};

/// A list, compiled.
#[derive(Clone, Debug, Default)]
pub struct NoProxy {
    covered: HostPatterns,
}

impl NoProxy {
    /// Reads entries that somebody wrote for us: each must be right.
    ///
    /// # Errors
    /// With the first entry that is none, and how to write it.
    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Result<Self, PatternError> {
        let mut patterns = Vec::new();
        for entry in entries {
            patterns.extend(parse_entry(entry.as_ref())?);
        }
        Ok(Self {
            covered: HostPatterns::new(patterns),
        })
    }

    /// Reads the value of a variable that was written for many programs: entries with commas or
    /// white space between them. Those that are none are left out and told.
    #[must_use]
    pub fn parse_variable(value: &str) -> (Self, Vec<PatternError>) {
        let (mut patterns, mut problems) = (Vec::new(), Vec::new());
        for entry in Self::entries(value) {
            match parse_entry(entry) {
                Ok(entry) => patterns.extend(entry),
                Err(problem) => problems.push(problem),
            }
        }
        let covered = HostPatterns::new(patterns);
        (Self { covered }, problems)
    }

    /// The entries of such a value, right or not.
    pub fn entries(value: &str) -> impl Iterator<Item = &str> {
        let entries = value.split([',', ' ', '\t']);
        entries.filter(|entry| !entry.is_empty())
    }

    /// Whether the target is reached without a proxy.
    #[must_use]
    pub fn covers(&self, target: &Target) -> bool {
        self.covered.matches(target).is_some()
    }
}

/// What one entry covers: a host, and what is below it.
fn parse_entry(entry: &str) -> Result<Vec<HostPattern>, PatternError> {
    let entry = entry.trim();
    if let Some(parent) = entry.strip_prefix('.') {
        return Ok(vec![below(parent, entry)?]);
    }
    let itself = HostPattern::parse(entry)?;
    let is_name = |text: &str| matches!(Target::parse(text, 0), Ok(target) if matches!(target.host, Host::Name(_)));
    match is_name(entry) {
        true => Ok(vec![below(entry, entry)?, itself]),
        false => Ok(vec![itself]),
    }
}

/// Everything below a name; `entry` is what was written.
fn below(name: &str, entry: &str) -> Result<HostPattern, PatternError> {
    HostPattern::parse(&format!("*.{name}")).map_err(|error| PatternError {
        text: entry.to_owned(),
        problem: match error.problem {
            // `..corp` is not about a star that nobody wrote.
            PatternProblem::Star => PatternProblem::Empty,
            problem => problem,
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covers(entries: &[&str], target: &str) -> bool {
        let target = Target::parse(target, 443).unwrap();
        let list = NoProxy::parse(entries).unwrap();
        let (variable, problems) = NoProxy::parse_variable(&entries.join(","));
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(list.covers(&target), variable.covers(&target));
        list.covers(&target)
    }

    #[test]
    fn an_entry_covers_hosts() {
        let cases: &[(&str, &str, bool)] = &[
            ("corp", "corp", true),
            ("corp", "git.corp", true),
            ("corp", "a.git.corp", true),
            ("corp", "xcorp", false),
            ("corp", "corp.example", false),
            (".corp", "git.corp", true),
            (".corp", "corp", false),
            ("*.corp", "git.corp", true),
            ("*.corp", "corp", false),
            ("CORP.Example.", "git.corp.example", true),
            ("bücher.example", "xn--bcher-kva.example", true),
            ("corp:8443", "git.corp:8443", true),
            ("corp:8443", "git.corp", false),
            (".corp:8443", "git.corp:8443", true),
            (".corp:8443", "git.corp:443", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.70", false),
            ("192.0.2.7:80", "192.0.2.7:80", true),
            ("192.0.2.7:80", "192.0.2.7", false),
            ("192.0.2.7", "[::ffff:192.0.2.7]:443", true),
            ("10.0.0.0/8", "10.200.3.4", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "ten.example", false),
            ("::1", "[::1]:443", true),
            ("[::1]:80", "[::1]:80", true),
            ("[::1]:80", "[::1]:443", false),
            ("2001:db8::/32", "[2001:db8:1::1]:443", true),
            ("localhost", "localhost", true),
            ("localhost", "a.localhost", true),
            ("localhost", "127.0.0.1", false),
            ("*", "anything.example", true),
            ("*", "192.0.2.7", true),
        ];
        for (entry, target, expected) in cases {
            assert_eq!(covers(&[entry], target), *expected, "{entry} and {target}");
        }
        assert!(!covers(&[], "corp"));
        assert!(covers(&["a.example", "corp"], "git.corp"));
    }

    #[test]
    fn what_is_no_entry_is_told() {
        for entry in [
            "",
            ".",
            "..corp",
            "http://corp",
            "10.0.0.0/33",
            "a b",
            "corp:x",
            ".10.0.0.1",
        ] {
            let error = NoProxy::parse(&[entry]).unwrap_err();
            assert_eq!(error.text, entry, "{error}");
        }
        let (list, problems) = NoProxy::parse_variable("corp, 10.*,,.lab\tgit.example");
        let texts: Vec<_> = problems.iter().map(|problem| &*problem.text).collect();
        assert_eq!(texts, ["10.*"]);
        for target in ["a.corp", "a.lab", "git.example"] {
            assert!(
                list.covers(&Target::parse(target, 443).unwrap()),
                "{target}"
            );
        }
    }

    proptest! {
        /// A list covers what one of its entries covers alone, in whatever order they stand.
        #[test]
        fn a_list_covers_what_its_entries_cover(
            entries in prop::collection::vec(
                "(\\.|\\*\\.)?[ab](\\.[ab]){0,2}(:[12])?|10\\.0\\.[01]\\.0/2[34]|10\\.0\\.0\\.[12](:[12])?",
                0..6,
            ),
            target in "([ab](\\.[ab]){0,3}|10\\.0\\.[0-2]\\.[1-3]):[12]",
        ) {
            let target = Target::parse_with_port(&target).unwrap();
            let alone = entries.iter().any(|entry| {
                NoProxy::parse(std::slice::from_ref(entry)).unwrap().covers(&target)
            });
            prop_assert_eq!(NoProxy::parse(&entries).unwrap().covers(&target), alone);
            let reversed: Vec<_> = entries.iter().rev().collect();
            prop_assert_eq!(NoProxy::parse(&reversed).unwrap().covers(&target), alone);
        }

        /// No text brings the reader of the variable down.
        #[test]
        fn any_variable_can_be_read(value in "\\PC*") {
            let (_list, _problems) = NoProxy::parse_variable(&value);
        }
    }
}
