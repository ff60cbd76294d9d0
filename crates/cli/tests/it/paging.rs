//! What a person reads on a terminal goes through a pager.

use std::process::{Command, Stdio};

use crate::world::World;

/// What a terminal of twenty lines shows of a command, and its exit code. script(1) makes the terminal.
fn on_a_terminal(world: &World, words: &str, variables: &[(&str, &str)]) -> (String, Option<i32>) {
    let oriel = world.command(&[]);
    let program = oriel.get_program().to_str().unwrap();
    let output = Command::new("script")
        .args(["--quiet", "--return", "--echo", "never", "--command"])
        .arg(format!("stty rows 20 cols 100 && exec {program} {words}"))
        .arg("/dev/null")
        .env_clear()
        .envs(
            oriel
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("TERM", "xterm")
        .envs(variables.iter().copied())
        .current_dir(oriel.get_current_dir().unwrap())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    (shown.replace('\r', ""), output.status.code())
}

#[test]
fn what_is_read_is_paged_and_nothing_else() {
    let world = World::new();
    let pager = [("ORIEL_PAGER", "sed s/^/PAGED:/")];
    let (shown, code) = on_a_terminal(&world, "explain ORL0103", &pager);
    assert!(shown.starts_with("PAGED:"), "{shown}");
    assert_eq!(code, Some(0));
    for words in [
        "explain ORL0103 --no-pager",
        "explain ORL0103 --json",
        "explain ORL0103 --no-input",
        "version",
    ] {
        let (shown, code) = on_a_terminal(&world, words, &pager);
        assert!(!shown.contains("PAGED:"), "{words}: {shown}");
        assert_eq!(code, Some(0), "{words}");
    }
    // Not a terminal.
    let mut command = world.command(&["explain", "ORL0103"]);
    command.envs(pager).env("TERM", "xterm");
    let printed = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(!printed.contains("PAGED:"), "{printed}");
}

#[test]
fn a_command_that_fails_says_so_behind_the_pager() {
    let world = World::new();
    let pager = [("ORIEL_PAGER", "sed s/^/PAGED:/; echo THE END")];
    let (shown, code) = on_a_terminal(&world, "explain ORL9999", &pager);
    let (_, after) = shown.split_once("THE END\n").unwrap();
    assert!(after.contains("error[ORL"), "{shown}");
    assert_ne!(code, Some(0));
}

#[test]
fn a_reader_that_has_read_enough_ends_it_in_order() {
    let world = World::new();
    let pager = [("ORIEL_PAGER", "head -n 1; echo read")];
    let (shown, code) = on_a_terminal(&world, "config schema", &pager);
    assert!(shown.ends_with("read\n"), "{shown}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_pager_that_is_not_there_is_named_and_missed_by_nobody() {
    let world = World::new();
    let pager = [("PAGER", "no-such-pager")];
    let (shown, code) = on_a_terminal(&world, "explain ORL0103", &pager);
    assert!(shown.contains("PAGER names `no-such-pager`"), "{shown}");
    assert!(shown.contains("ORL0103: the port"), "{shown}");
    assert_eq!(code, Some(0));
}
