//! Which of our crates may use which, and which foreign crates the pure ones must not use.

use serde_json::Value;

use super::{packages, text};
use crate::failure::Failure;

/// Who may depend on whom among our own crates. A new crate must be entered here.
const EDGES: &[(&str, &[&str])] = &[
    ("oriel-traffic", &[]),
    ("oriel-llm", &["oriel-traffic"]),
    ("oriel-proxy", &["oriel-traffic"]),
    ("oriel-store", &["oriel-traffic", "oriel-llm"]),
    (
        "oriel",
        &[
            "oriel-traffic",
            "oriel-proxy",
            "oriel-store",
            "oriel-testbed",
        ],
    ),
    ("oriel-testbed", &[]),
    // The benchmark measures the engine as a library, too.
    ("xtask", &["oriel-traffic", "oriel-proxy", "oriel-testbed"]),
];

/// What any crate may use in its tests.
const FOR_TESTS: &str = "oriel-testbed";

/// Crates that do no input or output, know no clock and start nothing.
const PURE: &[&str] = &["oriel-traffic", "oriel-llm"];

/// Foreign crates whose business is just that.
const IMPURE: &[&str] = &[
    "async-std",
    "crossbeam-channel",
    "getrandom",
    "mio",
    "rand",
    "rayon",
    "rusqlite",
    "rustix",
    "smol",
    "socket2",
    "tempfile",
    "tokio",
    "tokio-rustls",
];

pub(super) fn check(metadata: &Value, findings: &mut Vec<String>) -> Result<(), Failure> {
    for package in packages(metadata).filter(|package| package["source"].is_null()) {
        let name = text(package, "name");
        let Some((_, allowed)) = EDGES.iter().find(|(own, _)| *own == name) else {
            findings.push(format!("crate {name} is not in the table of crate edges"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        for dependency in dependencies {
            check_edge(name, allowed, dependency, findings);
        }
    }
    Ok(())
}

fn check_edge(name: &str, allowed: &[&str], dependency: &Value, findings: &mut Vec<String>) {
    let used = text(dependency, "name");
    let is_for_tests = dependency["kind"] == "dev";
    let is_ours = EDGES.iter().any(|(own, _)| *own == used);
    let may_use = allowed.contains(&used) || (is_for_tests && used == FOR_TESTS);
    if is_ours && !may_use {
        findings.push(format!("crate {name} must not use {used}"));
    }
    if PURE.contains(&name) && !is_for_tests && IMPURE.contains(&used) {
        findings.push(format!("crate {name} is pure and must not use {used}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn findings_for(name: &str, used: &str, kind: &Value) -> usize {
        let metadata = json!({ "packages": [{
            "name": name,
            "source": null,
            "dependencies": [{ "name": used, "kind": kind }],
        }] });
        let mut findings = Vec::new();
        check(&metadata, &mut findings).unwrap();
        findings.len()
    }

    #[test]
    fn edges_hold_in_one_direction() {
        let (normal, dev) = (json!(null), json!("dev"));
        assert_eq!(findings_for("oriel-store", "oriel-traffic", &normal), 0);
        assert_eq!(findings_for("oriel-proxy", "oriel-store", &normal), 1);
        assert_eq!(findings_for("oriel-proxy", "oriel-testbed", &dev), 0);
        assert_eq!(findings_for("oriel-proxy", "oriel-testbed", &normal), 1);
        assert_eq!(findings_for("oriel-traffic", "tokio", &normal), 1);
        assert_eq!(findings_for("oriel-new", "serde", &normal), 1);
    }
}
