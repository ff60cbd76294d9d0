//! `cargo xtask conformance`: the test suites of others, once direct and once through oriel. What
//! they say must be the same; each difference is listed with its reason, and one without a reason
//! fails the command.
//!
//! The suites are fetched by name from the registries they are published in, in versions that are
//! written down here, into `target/conformance`. Nothing of them is committed. They run in a
//! network namespace that has a loopback device and nothing else, with names of model APIs in its
//! hosts file, so no test reaches a real service whatever it tries.

mod agents;
mod curl;
mod grpc;
mod place;
mod pytest;
mod python;
mod report;
mod script;
mod verdicts;
mod websocket;

use std::path::Path;
use std::process::Command;

use self::place::Place;
use self::report::Comparison;
use crate::ci::{cargo, gate};
use crate::console;
use crate::failure::Failure;
use crate::tidy::workspace_root;

/// A test suite that somebody else wrote.
struct Suite {
    name: &'static str,
    /// Brings it onto this machine. Only this may use the network.
    fetch: fn(&Place) -> Result<(), Failure>,
    /// Runs it each way.
    run: fn(&Place) -> Result<Vec<Comparison>, Failure>,
}

const SUITES: &[Suite] = &[
    Suite {
        name: "requests",
        fetch: pytest::fetch_requests,
        run: pytest::run_requests,
    },
    Suite {
        name: "urllib3",
        fetch: pytest::fetch_urllib3,
        run: pytest::run_urllib3,
    },
    Suite {
        name: "curl",
        fetch: curl::fetch,
        run: curl::run,
    },
    Suite {
        name: "autobahn",
        fetch: python::fetch_environment,
        run: websocket::run,
    },
    Suite {
        name: "grpc",
        fetch: python::fetch_environment,
        run: grpc::run,
    },
    Suite {
        name: "agents",
        fetch: agents::fetch,
        run: agents::run,
    },
];

const DOCUMENT: &str = "docs/conformance.md";

/// Fetches what is missing, and starts itself again without a network for the rest.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Failure> {
    let suites = parse(arguments)?;
    gate("build oriel", cargo(&["build", "--package", "oriel"]))?;
    let place = Place::make(&workspace_root())?;
    for suite in &suites {
        console::complain(&format!("==> fetch {}", suite.name));
        (suite.fetch)(&place)?;
    }
    let hosts = place.write("hosts", &agents::hosts())?;
    gate("conformance", without_network(&hosts, arguments)?)
}

/// Runs the suites. The process has no network but loopback.
pub(crate) fn run_offline(arguments: &[&str]) -> Result<(), Failure> {
    let suites = parse(arguments)?;
    let place = Place::make(&workspace_root())?;
    let mut comparisons = Vec::new();
    for suite in &suites {
        comparisons.extend((suite.run)(&place)?);
    }
    let results = report::results(&comparisons);
    console::say(&results);
    if suites.len() == SUITES.len() {
        let document = report::document(&results)?;
        std::fs::write(workspace_root().join(DOCUMENT), document)?;
    }
    let unexplained: usize = comparisons.iter().map(Comparison::unexplained).sum();
    match unexplained {
        0 => Ok(()),
        count => Err(Failure::new(format!(
            "{count} differences have no reason, or reasons no difference"
        ))),
    }
}

fn parse(arguments: &[&str]) -> Result<Vec<&'static Suite>, Failure> {
    let mut only = Vec::new();
    let mut words = arguments.iter().copied();
    while let Some(word) = words.next() {
        match (word, words.next()) {
            ("--only", Some(name)) => only.push(name),
            ("--only", None) => return Err(Failure::new("--only what?")),
            _ => return Err(Failure::new(format!("do not know `{word}`"))),
        }
    }
    let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(name)) {
        return Err(Failure::new(format!(
            "no suite {unknown}; they are {}",
            names.join(", ")
        )));
    }
    let is_wanted = |suite: &&Suite| only.is_empty() || only.contains(&suite.name);
    Ok(SUITES.iter().filter(is_wanted).collect())
}

/// This program again, in namespaces of its own: a loopback device, and this hosts file.
fn without_network(hosts: &Path, arguments: &[&str]) -> Result<Command, Failure> {
    let script = "ip link set lo up && mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--net"]);
    command.args(["sh", "-c", script]).arg(hosts);
    command
        .arg(std::env::current_exe()?)
        .arg("conformance-run")
        .args(arguments);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_named() {
        let names = |arguments: &[&str]| -> Vec<&str> {
            let suites = parse(arguments).unwrap();
            suites.iter().map(|suite| suite.name).collect()
        };
        assert_eq!(names(&[]).len(), SUITES.len());
        assert_eq!(names(&["--only", "grpc"]), ["grpc"]);
        for wrong in [&["--only"][..], &["--only", "x"], &["requests"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
