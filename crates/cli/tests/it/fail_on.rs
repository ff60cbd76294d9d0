//! `oriel run --fail-on`: what a run fails on although its command succeeded.

use serde_json::{Value, json};

use crate::upstream::answering;
use crate::world::{Printed, World};

const MISSING: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// A run that asks for what is not there, and then does what the script says.
fn run(world: &World, flags: &[&str], then: &str) -> Printed {
    let url = format!("http://{}/", answering(MISSING));
    let script = format!("curl -s --noproxy '' {url}; {then}");
    let run = ["run", "--summary-file", "summary.json"];
    world.oriel(&[&run[..], flags, &["--", "sh", "-c", &script]].concat())
}

fn assertions(world: &World) -> Value {
    let text = std::fs::read_to_string(world.path("summary.json")).unwrap();
    let mut summary: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(summary["requests"]["error_status"], 1, "{summary}");
    summary["assertions"].take()
}

#[test]
fn a_condition_that_holds_fails_a_run_that_succeeded() {
    let world = World::new();
    let printed = run(
        &world,
        &["--fail-on", "errors>0", "--fail-on", "blocked > 0"],
        "exit 0",
    );
    assert_eq!(printed.code, Some(99));
    let told = &printed.stderr;
    assert!(
        told.contains(" exit=0 ") && told.contains(" errors=1 "),
        "{told}"
    );
    assert!(told.contains("error[ORL0206]: "), "{told}");
    assert!(
        told.contains("why   errors is 1 (--fail-on \"errors>0\")\n"),
        "{told}"
    );
    let expected = json!([
        {"fail_on": "errors>0", "value": 1.0, "failed": true},
        {"fail_on": "blocked > 0", "value": 0.0, "failed": false},
    ]);
    assert_eq!(assertions(&world), expected);
}

#[test]
fn a_condition_that_does_not_hold_changes_nothing() {
    let world = World::new();
    let printed = run(&world, &["--fail-on", "errors>1"], "exit 0");
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert!(!printed.stderr.contains("ORL0206"), "{}", printed.stderr);
    assert_eq!(assertions(&world)[0]["failed"], false);
}

#[test]
fn a_command_that_failed_keeps_its_code() {
    let world = World::new();
    let printed = run(&world, &["--fail-on", "errors>0"], "exit 3");
    assert_eq!(printed.code, Some(3), "{}", printed.stderr);
    assert!(!printed.stderr.contains("ORL0206"), "{}", printed.stderr);
    assert_eq!(assertions(&world)[0]["failed"], true);
}

#[test]
fn a_program_is_told_in_one_document() {
    let world = World::new();
    let printed = run(&world, &["--json", "--fail-on", "errors>0"], "exit 0");
    let error = printed.error();
    assert_eq!(
        (&error["code"], &error["exit_code"]),
        (&json!("ORL0206"), &json!(99))
    );
    let printed = run(&world, &["--json", "--fail-on", "errors>0"], "exit 3");
    let summary: Value = serde_json::from_str(&printed.stderr).unwrap();
    assert_eq!(summary["assertions"][0]["failed"], true, "{summary}");
}

#[test]
fn what_is_no_condition_is_refused_before_the_command_starts() {
    let world = World::new();
    let printed = run(&world, &["--fail-on", "eror>0"], "touch started");
    assert_eq!(printed.code, Some(2), "{}", printed.stderr);
    assert!(
        printed.stderr.contains("did you mean errors?"),
        "{}",
        printed.stderr
    );
    assert!(!world.path("started").exists());
    // Nothing could be said of a run that is not recorded.
    let printed = run(
        &world,
        &["--fail-on", "errors>0", "--no-capture"],
        "touch started",
    );
    assert_eq!(printed.code, Some(2), "{}", printed.stderr);
}
