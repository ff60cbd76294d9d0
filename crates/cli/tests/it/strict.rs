//! What `oriel run` does when what it sees cannot be stored: it says so and lets the command go on,
//! or with `--strict` ends it.

use std::process::Command;

use crate::site::Site;
use crate::world::{Printed, World};

/// No file may grow beyond 512 KiB, so that the database is full early.
const LIMITED: &str = "ulimit -f 1024; exec \"$0\" \"$@\"";
/// Sends more than that, which no compression makes less.
const SENDS_TOO_MUCH: &str =
    "head -c 1000000 /dev/urandom | curl -s --noproxy '' -o /dev/null --data-binary @- \"$URL\"";
/// Half a minute in which a signal is noticed at once: a test is to fail, not to hang.
const WAITS: &str = "for i in $(seq 600); do sleep 0.05; done";

/// A command whose database is full early.
fn run(flags: &[&str], script: &str) -> Printed {
    let world = World::new();
    let site = Site::http(&world);
    // Begins with a database that has what every database has.
    world.oriel(&["run", "-q", "--", "true"]).succeeded();
    let script = script.replace("SENDS_TOO_MUCH", SENDS_TOO_MUCH);
    let script = script.replace("WAITS", WAITS);
    let oriel = site.command_with(&world, flags, &["sh", "-c", &script]);
    let mut limited = Command::new("sh");
    limited
        .args(["-c", LIMITED])
        .arg(oriel.get_program())
        .args(oriel.get_args())
        .env_clear()
        .envs(
            oriel
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("URL", site.url("/status/204"))
        .current_dir(world.path(""));
    Printed::of(limited.output().unwrap())
}

#[test]
fn a_command_goes_on_when_capturing_breaks() {
    let printed = run(&[], "SENDS_TOO_MUCH; echo sent; exit 3");
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(3), "sent\n"));
    assert!(
        printed.stderr.contains("error[ORL0707]"),
        "{}",
        printed.stderr
    );
}

#[test]
fn a_strict_command_is_stopped_when_capturing_breaks() {
    let script = "trap 'echo asked; exit 3' TERM; SENDS_TOO_MUCH; echo sent; \
                  WAITS";
    let printed = run(&["--strict", "--json"], script);
    assert_eq!(
        (printed.code, printed.stdout.as_str()),
        (Some(125), "sent\nasked\n")
    );
    let error = printed.error();
    assert_eq!(error["code"], "ORL0204", "{error}");
    assert_eq!(error["message"], "capturing broke, so sh was stopped");
}

#[test]
fn a_strict_command_that_does_not_stop_is_killed() {
    let script = "trap 'echo asked' TERM; SENDS_TOO_MUCH; WAITS";
    let printed = run(&["--strict"], script);
    assert_eq!(
        (printed.code, printed.stdout.as_str()),
        (Some(125), "asked\n")
    );
    assert!(
        printed.stderr.contains("error[ORL0204]"),
        "{}",
        printed.stderr
    );
}

#[test]
fn a_strict_command_that_ends_with_a_hole_in_its_record_has_failed() {
    let printed = run(&["--strict"], "SENDS_TOO_MUCH");
    assert_eq!(printed.code, Some(125), "{}", printed.stderr);
    let said = "error[ORL0204]: capturing broke";
    assert!(printed.stderr.contains(said), "{}", printed.stderr);
}

#[test]
fn a_strict_command_that_times_out_has_timed_out() {
    let world = World::new();
    let flags = ["run", "--strict", "--timeout", "100ms", "--json", "--"];
    let printed = world.oriel(&[&flags[..], &["sleep", "60"]].concat());
    assert_eq!(printed.code, Some(143), "{}", printed.stderr);
    assert_eq!(printed.error()["timed_out"], true, "{}", printed.stderr);
}

#[test]
fn a_strict_command_that_is_recorded_whole_is_left_alone() {
    let world = World::new();
    let site = Site::http(&world);
    let script = format!(
        "curl -s --noproxy '' -d hello {}; exit 3",
        site.url("/status/204")
    );
    let flags = ["--strict", "--summary", "none"];
    let mut command = site.command_with(&world, &flags, &["sh", "-c", &script]);
    let printed = Printed::of(command.output().unwrap());
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(3), ""));
}

#[test]
fn nothing_can_be_strict_where_nothing_is_captured() {
    let world = World::new();
    let printed = world.oriel(&["run", "--strict", "--no-capture", "--", "true"]);
    assert_eq!(printed.code, Some(2), "{}", printed.stderr);
}
