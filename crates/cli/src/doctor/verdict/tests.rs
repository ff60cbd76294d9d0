//! Observations of every kind, and what is made of them.

use super::*;
use crate::doctor::tools::TOOLS;

fn ran(stderr: &str) -> Ran {
    Ran {
        ended: Ended::TimedOut,
        stdout: String::new(),
        stderr: stderr.to_owned(),
    }
}

fn failure(side: Side, stage: Stage, kind: FailureKind) -> Failure {
    Failure {
        side,
        stage,
        kind,
        text: "what happened".to_owned(),
    }
}

fn seen(opened: bool, failure: Option<Failure>, past: bool) -> Observation {
    Observation {
        opened,
        failure,
        past,
        left: false,
        unopened: None,
        ran: ran("\u{1b}[31mboo\n\n"),
    }
}

fn judge(name: &str, version: &str, seen: &Observation, overrides: &[Override]) -> Outcome {
    let tool = TOOLS.iter().find(|tool| tool.name == name).unwrap();
    let about = Circumstances {
        tool,
        program: Path::new("/usr/bin/tool"),
        version: Some(version),
        environment: &Environment::default(),
        overrides,
        data_folder: Path::new("/data"),
    };
    with_run(seen, &about)
}

#[test]
fn what_is_not_installed_says_how_it_is() {
    let refused = failure(Side::Client, Stage::Tls, FailureKind::ClientDistrusts);
    let refused = seen(false, Some(refused), false);
    for (name, fix) in [
        ("curl", "sudo oriel ca install --store system --data /data"),
        ("java", "oriel ca install --store java"),
        ("chromium", "oriel ca install"),
        ("node", "eval \"$(oriel env)\""),
    ] {
        let about = Circumstances {
            tool: TOOLS.iter().find(|tool| tool.name == name).unwrap(),
            program: Path::new("/usr/bin/tool"),
            version: None,
            environment: &Environment::default(),
            overrides: &[],
            data_folder: Path::new("/data"),
        };
        let outcome = system_wide(&refused, false, &about);
        assert_eq!(
            (outcome.state, outcome.fix),
            (State::Note, vec![fix.to_owned()])
        );
    }
}

#[test]
fn what_was_seen_decides() {
    let distrusts = || failure(Side::Client, Stage::Tls, FailureKind::ClientDistrusts);
    let early = || failure(Side::Client, Stage::Tls, FailureKind::ClosedEarly);
    let blocked = || failure(Side::Oriel, Stage::Route, FailureKind::Blocked);
    for (seen, verdict) in [
        (seen(true, None, true), Verdict::Works),
        // A tool may try again with another version of TLS.
        (seen(true, Some(early()), false), Verdict::Works),
        (seen(false, Some(distrusts()), true), Verdict::Refused),
        (seen(false, Some(early()), true), Verdict::Refused),
        (seen(false, Some(blocked()), true), Verdict::Failed),
        (seen(false, None, true), Verdict::Past),
        (seen(false, None, false), Verdict::TimedOut),
    ] {
        assert_eq!(seen.verdict(), verdict, "{seen:?}");
    }
    let left = Observation {
        left: true,
        ..seen(false, None, false)
    };
    assert_eq!(left.verdict(), Verdict::Refused);
}

#[test]
fn what_cannot_be_explained_fails_and_what_can_warns() {
    let past = seen(false, None, true);
    let old = judge("node", "20.20.2", &past, &[]);
    assert_eq!((old.state, old.verdict), (State::Warning, Verdict::Past));
    assert!(old.fix[0].contains("22.21"), "{old:?}");
    assert_eq!(judge("node", "24.1.0", &past, &[]).state, State::Failed);
    assert_eq!(judge("curl", "8.1", &past, &[]).state, State::Failed);
    let set = Override {
        kind: OverrideKind::Proxy,
        text: "proxy=x in ~/.curlrc".to_owned(),
        fix: "do this".to_owned(),
    };
    let overridden = judge("curl", "8.1", &past, std::slice::from_ref(&set));
    assert_eq!(overridden.state, State::Warning);
    assert_eq!(overridden.fix, ["do this"]);
    // It says nothing about trust.
    let refused = failure(Side::Client, Stage::Tls, FailureKind::ClientDistrusts);
    let refused = seen(false, Some(refused), false);
    assert_eq!(judge("curl", "8.1", &refused, &[set]).state, State::Failed);
    assert_eq!(judge("wget", "1.21", &refused, &[]).state, State::Warning);
}

#[test]
fn what_a_tool_says_is_made_safe() {
    let outcome = judge("curl", "8.1", &seen(false, None, false), &[]);
    let why = outcome.why.unwrap();
    assert!(why.contains("␛[31mboo") && !why.contains('\u{1b}'), "{why}");
}

#[test]
fn knows_the_nodes_that_go_past_a_proxy() {
    for (version, old) in [
        ("18.1.0", true),
        ("22.20.9", true),
        ("22.21.0", false),
        ("23.9.0", true),
        ("24.0.0", false),
        ("nonsense", false),
    ] {
        assert_eq!(is_old_node(version), old, "{version}");
    }
}
