//! What an error says besides what went wrong: why, with what was found, and how to fix it.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::world::{Printed, World};

/// The error of a command, which has to say why it came and how to fix it.
fn explained(printed: &Printed, code: &str) -> Value {
    let error = printed.error();
    assert_eq!(error["code"], code, "{error}");
    assert!(
        error["why"].as_str().is_some_and(|why| !why.is_empty()),
        "{error}"
    );
    let fix = error["fix"].as_array().unwrap();
    assert!(!fix.is_empty(), "{error}");
    error
}

/// Each command fails with its code, and this stands in why or in how to fix it.
fn check(world: &World, cases: &[(&[&str], &str, &str)]) {
    for (words, code, said) in cases {
        let mut all = vec!["--json"];
        all.extend(*words);
        let error = explained(&world.oriel(&all), code);
        let told = format!("{} {}", error["why"], error["fix"]);
        assert!(told.contains(said), "{words:?}: {error}");
    }
}

#[test]
fn a_command_that_cannot_be_started_is_explained() {
    let world = World::new();
    world.file("text", "plain");
    world.file("file", "");
    std::fs::create_dir(world.path("folder")).unwrap();
    let script = world.file("script", "#!/nowhere/at/all\n");
    let no_program = world.file("no-program", "\u{1}\u{2}\u{3}");
    for path in [script, no_program] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    check(
        &world,
        &[
            (
                &["run", "--", "nothing-so"],
                "ORL0201",
                "command -v nothing-so",
            ),
            (
                &["run", "--", "nothing-so"],
                "ORL0201",
                "bash -ic nothing-so",
            ),
            (&["run", "--", "it's"], "ORL0201", r"command -v 'it'\\''s'"),
            (
                &["run", "--", "./nothing"],
                "ORL0201",
                "there is no file ./nothing",
            ),
            (&["run", "--", "./script"], "ORL0201", "not the interpreter"),
            (&["run", "--", "./text"], "ORL0202", "chmod +x ./text"),
            (&["run", "--", "./folder"], "ORL0202", "it is a folder"),
            (&["run", "--", "./no-program"], "ORL0202", "sh ./no-program"),
            (
                &["run", "--cwd", "nowhere", "--", "true"],
                "ORL0203",
                "mkdir -p nowhere",
            ),
            (
                &["run", "--cwd", "file", "--", "true"],
                "ORL0203",
                "--cwd DIR",
            ),
        ],
    );
}

#[test]
fn an_id_or_a_filter_that_leads_nowhere_is_explained() {
    let world = World::new();
    world.done(&["demo", "--json"]);
    for _ in 0..2 {
        world.oriel(&["run", "--name", "twice", "--", "true"]);
    }
    check(
        &world,
        &[
            (
                &["flows", "show", "nothing-so.1"],
                "ORL0005",
                "no id begins so",
            ),
            (&["flows", "show", "@-9.1"], "ORL0005", "fewer runs"),
            (
                &["flows", "show", "@-3.99"],
                "ORL0005",
                "oriel flows --session ",
            ),
            (&["flows", "show", "@-3"], "ORL0005", "a run and a number"),
            (
                &["sessions", "show", "nothing-so"],
                "ORL0005",
                "oriel sessions",
            ),
            (
                &["flows", "show", "twice.1"],
                "ORL0006",
                "oriel flows --session ",
            ),
            (&["flows", "stats:200"], "ORL0007", "there is no key"),
        ],
    );
}

#[test]
fn a_file_that_cannot_be_used_is_explained() {
    let world = World::new();
    world.file("broken.pem", "no certificate");
    world.file(
        ".local/share/oriel/oriel.db",
        &"no database, but a text ".repeat(999),
    );
    std::fs::create_dir(world.path("folder")).unwrap();
    std::fs::write(world.path("latin.toml"), b"# \xe9\n").unwrap();
    check(
        &world,
        &[
            (
                &["env", "--ca-cert", "broken.pem"],
                "ORL0302",
                "--ca-cert FILE",
            ),
            (
                &["env", "--ca-cert", "nowhere.pem"],
                "ORL0302",
                "ls -l nowhere.pem",
            ),
            (
                &["flows", "--config", "nowhere.toml"],
                "ORL0400",
                "name a file that is there",
            ),
            (&["flows", "--config", "folder"], "ORL0400", "ls folder"),
            (&["flows", "--config", "latin.toml"], "ORL0400", "UTF-8"),
            (&["flows"], "ORL0705", "not a database"),
        ],
    );
}

#[test]
fn an_authority_that_is_broken_can_be_made_anew() {
    let world = World::new();
    let file = world.file(".local/share/oriel/ca/authority.pem", "nothing of it");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let error = explained(&world.oriel(&["ca", "show", "--json"]), "ORL0302");
    let fix = error["fix"][0].as_str().unwrap();
    let command = fix.split("      ").next().unwrap();
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some("mv"));
    std::fs::rename(words.next().unwrap(), words.next().unwrap()).unwrap();
    world.done(&["ca", "show"]);
}
