//! Which processes of a child were started with other certificates to trust than oriel told the
//! child: a wrapper script set a variable of its own. Of their environment nothing is kept but the
//! variables of trust.

use std::collections::BTreeMap;
use std::path::Path;

use crate::bundle::TrustFiles;
use crate::child_env::{ADDING, REPLACING};
use crate::limits::{OVERRIDDEN_MAX, VARIABLE_SHOWN_MAX};
use crate::sockets;

/// What was seen so far, by process; at most [`OVERRIDDEN_MAX`] of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overridden {
    by_process: BTreeMap<u32, Process>,
}

/// A process whose variables of trust are not what the child was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Process {
    name: String,
    /// The file name of its program, which `name` may have cut.
    program: String,
    /// The variables that have another value, with that value.
    elsewhere: Vec<(&'static str, String)>,
    /// The variables that are gone.
    gone: Vec<&'static str>,
}

/// Why a process does not trust what the child was told to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The variable names another file.
    Elsewhere {
        pid: u32,
        variable: &'static str,
        value: String,
    },
    /// None of the variables that it reads is left.
    Gone {
        pid: u32,
        variables: Vec<&'static str>,
    },
}

impl Overridden {
    /// Looks at these processes, which were to trust these files.
    pub(crate) fn look(&mut self, family: &[u32], files: &TrustFiles) {
        for pid in family {
            let is_new = !self.by_process.contains_key(pid);
            if is_new && self.by_process.len() >= OVERRIDDEN_MAX {
                continue;
            }
            let Some(variables) = sockets::variables_of(*pid) else {
                continue;
            };
            let found = Process::of(&variables, files);
            if found.elsewhere.is_empty() && found.gone.is_empty() {
                continue;
            }
            let path = sockets::program_of(*pid);
            let program = path.as_deref().and_then(Path::file_name);
            let process = Process {
                name: sockets::name_of(*pid).unwrap_or_default(),
                program: program
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default(),
                ..found
            };
            self.by_process.insert(*pid, process);
        }
    }

    /// Why a program trusts something else, if that was seen. Without a program it is any of them.
    pub(crate) fn reason(&self, program: Option<&str>) -> Option<Reason> {
        let mut processes = self.by_process.iter();
        let is_it = |process: &Process| program.is_none_or(|program| process.is(program));
        let own = processes.find_map(|(pid, process)| {
            is_it(process).then(|| process.reason(*pid, &process.program))?
        });
        own.or_else(|| self.inherited_reason(program?))
    }

    /// The same of a program that was over before it was looked at, if what it reads was set for another
    /// process: that may have started it.
    fn inherited_reason(&self, program: &str) -> Option<Reason> {
        read_by(program)?;
        let mut reasons = self
            .by_process
            .iter()
            .filter_map(|(pid, process)| process.reason(*pid, program));
        reasons.find(|reason| matches!(reason, Reason::Elsewhere { .. }))
    }
}

impl Process {
    fn of(variables: &[String], files: &TrustFiles) -> Self {
        let mut process = Self::default();
        let told = REPLACING.iter().map(|name| (*name, &files.bundle));
        for (name, path) in told.chain(ADDING.iter().map(|name| (*name, &files.addition))) {
            let mut set = variables.iter().filter_map(|one| one.split_once('='));
            match set.find(|(set, value)| *set == name && !value.is_empty()) {
                None => process.gone.push(name),
                Some((_, value)) if Path::new(value) == path => {}
                Some((_, value)) => {
                    let value = value.chars().take(VARIABLE_SHOWN_MAX).collect();
                    process.elsewhere.push((name, value));
                }
            }
        }
        process
    }

    fn is(&self, program: &str) -> bool {
        self.program == program || self.name == program
    }

    /// Why this program trusts something else with the environment of this process.
    fn reason(&self, pid: u32, program: &str) -> Option<Reason> {
        let read = read_by(program);
        let counts = |name: &str| read.is_none_or(|read| read.contains(&name));
        let elsewhere = |name: &&'static str| self.elsewhere.iter().find(|(set, _)| set == name);
        // Of several that a program reads, the first in its list wins.
        let winner = match read {
            Some(read) => read.iter().find_map(elsewhere),
            None => self.elsewhere.first(),
        };
        if let Some((variable, value)) = winner {
            return Some(Reason::Elsewhere {
                pid,
                variable,
                value: value.clone(),
            });
        }
        let all = REPLACING.iter().chain(ADDING).copied();
        let variables: Vec<&'static str> = all.filter(|name| counts(name)).collect();
        let is_left = |name: &&'static str| !self.gone.contains(name);
        match variables.is_empty() || variables.iter().any(is_left) {
            true => None,
            false => Some(Reason::Gone { pid, variables }),
        }
    }
}

/// The variables that a well-known program reads; `None` of one that may read any.
fn read_by(program: &str) -> Option<&'static [&'static str]> {
    match program {
        "curl" => Some(&["CURL_CA_BUNDLE", "SSL_CERT_FILE"]),
        "git" | "git-remote-http" | "git-remote-https" => Some(&["GIT_SSL_CAINFO"]),
        "node" | "nodejs" => Some(&["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"]),
        "deno" => Some(&["DENO_CERT"]),
        "cargo" => Some(&["CARGO_HTTP_CAINFO", "SSL_CERT_FILE"]),
        // They read no variable for it.
        "wget" | "java" => Some(&[]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> TrustFiles {
        TrustFiles {
            bundle: "/run/bundle.pem".into(),
            addition: "/run/ca.pem".into(),
        }
    }

    fn process(program: &str, changed: &[(&str, &str)]) -> Process {
        let told = REPLACING.iter().map(|name| (*name, "/run/bundle.pem"));
        let told = told.chain(ADDING.iter().map(|name| (*name, "/run/ca.pem")));
        let mut variables: BTreeMap<&str, &str> = told.collect();
        variables.extend(changed.iter().copied());
        let variables: Vec<String> = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Process {
            program: program.to_owned(),
            ..Process::of(&variables, &files())
        }
    }

    #[test]
    fn the_variable_that_a_program_reads_is_the_reason() {
        for (program, changed, expected) in [
            ("curl", &[("NODE_EXTRA_CA_CERTS", "/a")][..], None),
            (
                "curl",
                &[("SSL_CERT_FILE", "/b"), ("CURL_CA_BUNDLE", "/a")],
                Some(("CURL_CA_BUNDLE", "/a")),
            ),
            (
                "node",
                &[("NODE_EXTRA_CA_CERTS", "/a")],
                Some(("NODE_EXTRA_CA_CERTS", "/a")),
            ),
            (
                "agent",
                &[("AWS_CA_BUNDLE", "/a")],
                Some(("AWS_CA_BUNDLE", "/a")),
            ),
            ("wget", &[("SSL_CERT_FILE", "/a")], None),
            ("agent", &[], None),
        ] {
            let reason = process(program, changed).reason(7, program);
            let expected = expected.map(|(variable, value)| Reason::Elsewhere {
                pid: 7,
                variable,
                value: value.to_owned(),
            });
            assert_eq!(reason, expected, "{program} {changed:?}");
        }
    }

    #[test]
    fn variables_that_are_gone_are_the_reason_if_none_is_left() {
        let git = process("git", &[("GIT_SSL_CAINFO", "")]);
        let gone = Reason::Gone {
            pid: 7,
            variables: vec!["GIT_SSL_CAINFO"],
        };
        assert_eq!(git.reason(7, "git"), Some(gone));
        let curl = process("curl", &[("CURL_CA_BUNDLE", "")]);
        assert_eq!(curl.reason(7, "curl"), None);
    }

    #[test]
    fn what_started_a_program_that_was_not_seen_is_asked() {
        let shell = process("sh", &[("CURL_CA_BUNDLE", "/a")]);
        let overridden = Overridden {
            by_process: BTreeMap::from([(7, shell)]),
        };
        let reason = Reason::Elsewhere {
            pid: 7,
            variable: "CURL_CA_BUNDLE",
            value: "/a".to_owned(),
        };
        for program in [Some("curl"), Some("sh"), None] {
            assert_eq!(overridden.reason(program), Some(reason.clone()));
        }
        for program in ["node", "java", "agent"] {
            assert_eq!(overridden.reason(Some(program)), None, "{program}");
        }
    }

    #[test]
    fn a_value_without_end_is_cut() {
        let long = "x".repeat(VARIABLE_SHOWN_MAX + 1);
        let process = process("agent", &[("DENO_CERT", &long)]);
        assert_eq!(process.elsewhere[0].1.len(), VARIABLE_SHOWN_MAX);
    }
}
