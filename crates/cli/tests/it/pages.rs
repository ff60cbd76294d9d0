//! Help, manual pages, completions, and answers to what is no command.

use crate::world::{Printed, World};

const COMMANDS: [&[&str]; 27] = [
    &["run"],
    &["serve"],
    &["demo"],
    &["doctor"],
    &["env"],
    &["flows"],
    &["flows", "list"],
    &["flows", "show"],
    &["flows", "tail"],
    &["ca"],
    &["ca", "show"],
    &["ca", "export"],
    &["ca", "init"],
    &["ca", "verify"],
    &["ca", "csr"],
    &["ca", "cross-sign"],
    &["ca", "import"],
    &["ca", "rotate"],
    &["config"],
    &["explain"],
    &["completions"],
    &["man"],
    &["version"],
    &["config", "path"],
    &["config", "show"],
    &["config", "check"],
    &["config", "init"],
];

#[test]
fn alone_it_shows_where_to_start() {
    let world = World::new();
    let alone = world.oriel(&[]);
    assert_eq!((alone.code, alone.stderr.as_str()), (Some(0), ""));
    assert!(
        alone.stdout.contains("oriel run -- claude"),
        "{}",
        alone.stdout
    );
    assert_eq!(world.oriel(&["-h"]).stdout, alone.stdout);
    assert!(world.oriel(&["--help"]).stdout.len() > alone.stdout.len());
}

#[test]
fn every_command_has_help_and_a_page() {
    let world = World::new();
    for command in COMMANDS {
        let mut arguments = command.to_vec();
        arguments.push("--help");
        let printed = world.oriel(&arguments).succeeded();
        let (before, _) = printed.stdout.split_once("Usage: oriel").unwrap();
        assert!(before.contains("Example"), "{command:?}: {before}");
        let page = world.oriel(&["man", &command.join("-")]);
        assert!(page.stdout.contains(".TH "), "{command:?}: {}", page.stderr);
    }
    let out = world.path("pages");
    world.oriel(&["man", "--out", out.to_str().unwrap()]);
    let page = std::fs::read_to_string(out.join("oriel.1")).unwrap();
    assert!(
        page.contains("ORIEL_LISTEN, LISTEN_ADDR") && page.contains("EXIT STATUS"),
        "{page}"
    );
    assert!(out.join("oriel-flows-list.1").exists());
}

#[test]
fn every_shell_gets_completions() {
    let world = World::new();
    for shell in [
        "bash",
        "zsh",
        "fish",
        "powershell",
        "elvish",
        "nushell",
        "nu",
    ] {
        let printed = world.oriel(&["completions", shell]);
        assert!(printed.stdout.contains("upstream-ca"), "{shell}");
    }
}

#[test]
fn topics_are_told_offline() {
    let world = World::new();
    let list = world.done(&["help", "topics"]);
    for topic in ["filters", "json", "exit-codes", "environment", "ids"] {
        assert!(list.contains(&format!("\n  {topic} ")), "{list}");
        let page = world.done(&["help", topic]);
        assert!(page.lines().count() > 5, "{page}");
    }
    assert!(world.done(&["help", "run"]).contains("Usage: oriel run"));
    let page = world.done(&["help", "filters"]);
    for words in [
        &["--ascii", "help", "filters"][..],
        &["help", "filters", "--color", "never"],
    ] {
        assert_eq!(world.done(words), page);
    }
    let document = world.json(&["help", "filters", "--json"]);
    assert_eq!(document["text"], page);
    let wrong = world.oriel(&["help", "filter"]);
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.stderr.contains("oriel help filters"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn nothing_is_run_by_guessing() {
    let world = World::new();
    insta::assert_snapshot!(world.oriel(&["sh"]).stderr, @r"
    error[ORL0002]: oriel has no command `sh`
      why   sh is a program; oriel runs one only when told to
      fix   oriel run -- sh
    ");
    insta::assert_snapshot!(world.oriel(&["claude"]).stderr, @r"
    error[ORL0002]: oriel has no command `claude`
      why   claude is a program; oriel runs one only when told to
      fix   oriel run -- claude
    ");
    insta::assert_snapshot!(world.oriel(&["flow"]).stderr, @r"
    error[ORL0001]: oriel has no command `flow`
      fix   oriel flows
    ");
    insta::assert_snapshot!(world.oriel(&["serve", "--lisen", "x"]).stderr, @r"
    error[ORL0001]: unexpected argument '--lisen' found; did you mean '--listen'?
      why   usage: oriel serve --listen <ADDR>
      fix   oriel serve --help
    ");
    // Below a group it is a command of the group that is meant, and no program.
    insta::assert_snapshot!(world.oriel(&["config", "chek"]).stderr, @r"
    error[ORL0001]: oriel config has no command `chek`
      fix   oriel config check
    ");
    insta::assert_snapshot!(world.oriel(&["db", "stat"]).stderr, @r"
    error[ORL0001]: oriel db has no command `stat`
      fix   oriel db status
    ");
    insta::assert_snapshot!(world.oriel(&["config", "sh"]).stderr, @r"
    error[ORL0001]: oriel config has no command `sh`
      fix   oriel config show
    ");
    insta::assert_snapshot!(world.oriel(&["config"]).stderr, @r"
    error[ORL0001]: oriel config needs a command of its own
      why   it has path, show, get, set, unset, check, schema, init
      fix   oriel config --help
    ");
    let mut asked = world.command(&["flows", "--nosuch"]);
    let asked = Printed::of(asked.env("ORIEL_OUTPUT", "json").output().unwrap());
    assert_eq!(asked.error()["code"], "ORL0001");
    assert_eq!(world.oriel(&["sh", "--json"]).error()["exit_code"], 2);
}

#[test]
fn a_form_of_output_that_is_none_is_refused() {
    let world = World::new();
    let asked = |form: &str| {
        let mut command = world.command(&["version"]);
        Printed::of(command.env("ORIEL_OUTPUT", form).output().unwrap())
    };
    let wrong = asked("xml");
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(2), ""));
    insta::assert_snapshot!(wrong.stderr, @r#"
    error[ORL0405]: ORIEL_OUTPUT has a wrong value: "xml"
      why   it is json, as --json asks for, or text
      fix   unset ORIEL_OUTPUT
    "#);
    assert!(asked("json").succeeded().stdout.starts_with('{'));
    let mut script = world.command(&["completions", "bash"]);
    let script = Printed::of(script.env("ORIEL_OUTPUT", "json").output().unwrap());
    assert!(script.succeeded().stdout.starts_with("_oriel()"));
    for form in ["text", ""] {
        assert!(asked(form).succeeded().stdout.starts_with("oriel "));
    }
}

#[test]
fn version_and_codes_are_for_programs_too() {
    let world = World::new();
    let version = world.json(&["version", "--json"]);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(world.json(&["--version", "--json"]), version);
    let explained = world.json(&["explain", "orl0103", "--json"]);
    assert_eq!(explained["items"][0]["code"], "ORL0103");
    assert_eq!(world.oriel(&["explain", "ORL9999"]).code, Some(5));
}

#[test]
fn pages_and_scripts_are_in_a_document_on_request() {
    let world = World::new();
    for (words, schema) in [
        (&["completions", "bash"][..], "oriel.completions/1"),
        (&["man", "run"], "oriel.man/1"),
    ] {
        let mut asked = words.to_vec();
        asked.push("--json");
        let document = world.json(&asked);
        assert_eq!(document["schema"], schema);
        assert_eq!(document["text"], world.done(words));
    }
    let out = world.path("pages");
    let written = world.json(&["man", "--out", out.to_str().unwrap(), "--json"]);
    let names = written["items"].as_array().unwrap();
    assert!(names.contains(&"oriel-run".into()), "{written}");
    assert_eq!(names.len(), out.read_dir().unwrap().count());
}
