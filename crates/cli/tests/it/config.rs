//! `oriel config`, and what a wrong setting looks like.

use serde_json::Value;

use crate::world::World;

const USER: &str = ".config/oriel/config.toml";

#[test]
fn check_shows_every_mistake() {
    let world = World::new();
    world.file(
        USER,
        "[store]\nretenion = \"30d\"\n\n[capture]\nredct = \"basic\"\n",
    );
    let printed = world.oriel(&["config", "check"]);
    assert_eq!(printed.code, Some(1));
    insta::assert_snapshot!(world.masked(&printed.stdout), @r#"
    ✗ [home]/.config/oriel/config.toml:5:1   ORL0402  unknown key `redct` in [capture]
       5 │ redct = "basic"
         │ ^^^^^ did you mean `redact`?
    ✗ [home]/.config/oriel/config.toml:2:1   ORL0402  unknown key `retenion` in [store]
       2 │ retenion = "30d"
         │ ^^^^^^^^ did you mean `retention`?
    "#);
    assert_eq!(printed.stderr, "2 problems. Nothing was changed.\n");
}

#[test]
fn check_looks_on_after_a_wrong_value_in_every_file() {
    let world = World::new();
    world.file(
        USER,
        "[proxy]\nlisten = \"x\"\nconnect_ports = [0.5]\n[log]\nformat = \"jsn\"\n",
    );
    world.file(
        ".oriel.toml",
        "[intercept]\nunlisted = \"blok\"\nbypass = [\"*\"]\n",
    );
    let printed = world.oriel(&["config", "check", "--json"]);
    assert_eq!(printed.code, Some(1));
    let found: Value = serde_json::from_str(&printed.stdout).unwrap();
    let found: Vec<_> = found["items"].as_array().unwrap().iter().collect();
    let told: Vec<_> = found
        .iter()
        .map(|item| {
            let place = world.masked(item["place"].as_str().unwrap());
            (place, item["code"].as_str().unwrap(), item["hint"].as_str())
        })
        .collect();
    let user = |place: &str| format!("[home]/{USER}:{place}");
    assert_eq!(
        told,
        [
            (
                "[home]/.oriel.toml:2:12".to_owned(),
                "ORL0403",
                Some("did you mean `block`?")
            ),
            ("[home]/.oriel.toml:3:1".to_owned(), "ORL0404", None),
            (user("5:10"), "ORL0403", Some("did you mean `json`?")),
            (user("3:18"), "ORL0403", None),
            (user("2:10"), "ORL0403", None),
        ]
    );
    let text = world.oriel(&["config", "check"]);
    assert_eq!(text.stderr, "5 problems. Nothing was changed.\n");
}

#[test]
fn a_command_shows_the_first_mistake() {
    let world = World::new();
    world.file(USER, "[proxy]\nlisten = \"somewhere\"\n");
    let printed = world.oriel(&["serve"]);
    assert_eq!(printed.code, Some(2));
    insta::assert_snapshot!(world.masked(&printed.stderr), @r#"
    error[ORL0403]: wrong value: an address is IP:PORT, localhost:PORT or :PORT, for example 127.0.0.1:6743
      [home]/.config/oriel/config.toml:2:10
       2 │ listen = "somewhere"
         │          ^^^^^^^^^^^
      why   `proxy.listen`: where the proxy listens
      fix   oriel config schema      says what each key takes
    "#);
}

#[test]
fn a_file_that_was_named_is_looked_at_by_name() {
    let world = World::new();
    world.file(
        "my own.toml",
        "[store]\nretenion = 1\n[capture]\nredct = 1\n",
    );
    let printed = world.oriel(&["flows", "--config", "my own.toml", "--json"]);
    let error = printed.error();
    let fix = error["fix"].as_array().unwrap().last().unwrap();
    let (command, why) = fix.as_str().unwrap().split_once("      ").unwrap();
    assert_eq!(why, "shows 1 more");
    assert_eq!(command, "oriel config check --config 'my own.toml'");
    let check = world.oriel(&["config", "check", "--config", "my own.toml", "--json"]);
    assert_eq!(check.code, Some(1), "{}", check.stderr);
    assert_eq!(
        check.stdout.matches("my own.toml:").count(),
        2,
        "{}",
        check.stdout
    );
}

#[test]
fn a_project_may_not_loosen() {
    let world = World::new();
    world.file(".oriel.toml", "[intercept]\nbypass = [\"*\"]\n");
    let printed = world.oriel(&["config", "check", "--json"]);
    assert_eq!(printed.code, Some(1));
    let found: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(found["items"][0]["code"], "ORL0404");
    let printed = world.oriel(&["run", "--", "true"]);
    assert_eq!(printed.code, Some(125), "{}", printed.stderr);
}

#[test]
fn get_prints_the_value_that_is_in_force() {
    let world = World::new();
    world.file(
        USER,
        "[log]\nlevel = \"debug\"\n[intercept]\nbypass = [\"a.test\"]\n",
    );
    let get = |key: &str| world.done(&["config", "get", key]);
    assert_eq!(get("log.level"), "debug\n");
    assert_eq!(get("intercept.bypass"), "[\"a.test\"]\n");
    assert_eq!(get("capture.redact"), "basic\n");
    let from = world.done(&["config", "get", "log.level", "--origin"]);
    assert!(
        from.starts_with("debug  ") && from.contains("config.toml"),
        "{from}"
    );
    let by_variable = world
        .command(&["config", "get", "log.level", "--json"])
        .env("ORIEL_LOG_LEVEL", "warn")
        .output()
        .unwrap();
    let got: Value = serde_json::from_slice(&by_variable.stdout).unwrap();
    assert_eq!(got["schema"], "oriel.config.get/1");
    assert_eq!(got["key"], "log.level");
    assert!(got["origin"].is_string(), "{got}");
    let wrong = world.oriel(&["config", "get", "log.levl", "--json"]);
    assert_eq!(wrong.code, Some(2));
    assert_eq!(wrong.error()["why"], "did you mean log.level?");
}

#[test]
fn show_names_the_origin_of_each_value() {
    let world = World::new();
    world.file(USER, "[log]\nlevel = \"debug\"\n");
    world.file(".oriel.toml", "[intercept]\nunlisted = \"block\"\n");
    let printed = world
        .command(&["config", "show", "--origin"])
        .env("ORIEL_REDACT", "none")
        .output()
        .unwrap();
    let stdout = String::from_utf8(printed.stdout).unwrap();
    insta::assert_snapshot!(world.masked(&stdout), @r#"
    intercept.unlisted  "block"  [home]/.oriel.toml:2
    capture.redact      "none"   env ORIEL_REDACT  ! credentials are stored as they came
    log.level           "debug"  [home]/.config/oriel/config.toml:2
    "#);
    let all = world.json(&["config", "show", "--effective", "--json"]);
    assert_eq!(all["items"].as_array().unwrap().len(), 70);
}

#[test]
fn init_writes_once_and_what_it_writes_is_right() {
    let world = World::new();
    let made = world.json(&["config", "init", "--json"]);
    assert_eq!(made["schema"], "oriel.config.init/1");
    assert_eq!(made["path"], world.path(USER).display().to_string());
    assert_eq!(world.oriel(&["config", "check"]).code, Some(0));
    let again = world.oriel(&["config", "init", "--json"]);
    assert_eq!(again.code, Some(1));
    assert_eq!(again.error()["code"], "ORL0406");
}

#[test]
fn a_named_file_must_be_there() {
    let world = World::new();
    let printed = world.oriel(&["serve", "--json", "--config", "nowhere.toml"]);
    assert_eq!(printed.code, Some(2));
    assert_eq!(printed.error()["code"], "ORL0400");
}

#[test]
fn schema_and_paths_are_for_programs_too() {
    let world = World::new();
    let schema = world.json(&["config", "schema"]);
    assert_eq!(schema["additionalProperties"], false);
    let place = |name: &str| world.path(name).display().to_string();
    let paths = world.json(&["config", "path", "--json"]);
    let rows = [
        ("schema", "oriel.config.path/1".to_owned()),
        ("config", world.path(USER).display().to_string()),
        ("system", "/etc/oriel/config.toml".to_owned()),
        ("data", place(".local/share/oriel")),
        ("database", place(".local/share/oriel/oriel.db")),
        ("ca", place(".local/share/oriel/ca")),
        ("cache", place(".cache/oriel")),
        ("state", place(".local/state/oriel")),
        ("runtime", place(".cache/oriel/runs")),
    ];
    for (name, path) in &rows {
        assert_eq!(paths[name], *path, "{name}");
    }
    assert_eq!(paths.as_object().unwrap().len(), rows.len(), "{paths}");
    let text = world.done(&["config", "path"]);
    for (name, path) in rows.iter().skip(1) {
        assert!(text.contains(&format!("{name:9}  {path}\n")), "{text}");
    }
    world.file(".oriel.toml", "");
    let project = world.json(&["config", "path", "--json"]);
    assert_eq!(project["project"], place(".oriel.toml"));
}

#[test]
fn a_wrong_log_level_is_told() {
    let world = World::new();
    let printed = world
        .command(&["serve", "--json", "--listen", "127.0.0.1:0"])
        .env("ORIEL_LOG", "proxy=loud")
        .output()
        .unwrap();
    assert_eq!(printed.status.code(), Some(2));
    assert!(
        String::from_utf8(printed.stderr)
            .unwrap()
            .contains("env ORIEL_LOG")
    );
}

#[test]
fn check_finds_what_serve_would_refuse() {
    let world = World::new();
    let text = "[proxy]\nlisten = \"0.0.0.0:6743\"\ntls = { names = [] }\n\
        [intercept]\nhosts = [\"*.*.x\"]\nbypass = [\"https://a.example/\"]\n\
        [capture]\nbody_limits = [{ content_types = [\"x\"], keep = \"1KiB\" }]\n\
        [upstream]\nca_files = [\"/nowhere.pem\"]\n\
        [gateway]\nroutes = [{ hosts = [\"a.example/x\"], to = \"https://gw.example/v1\" }]\n";
    world.file(USER, text);
    let named = world.file("named.toml", text);
    let codes = |words: &[&str]| {
        let printed = world.oriel(words);
        assert_eq!(printed.code, Some(1), "{}", printed.stderr);
        let found: Value = serde_json::from_str(&printed.stdout).unwrap();
        let items = found["items"].as_array().unwrap().clone();
        for item in &items {
            let is_whole = item["why"].is_string() && item["fix"][0].is_string();
            assert!(is_whole, "{item}");
        }
        let mut codes: Vec<_> = items.iter().map(|item| item["code"].clone()).collect();
        codes.sort_by_key(ToString::to_string);
        codes
    };
    let expected = [
        "ORL0102", "ORL0105", "ORL0105", "ORL0105", "ORL0106", "ORL0109", "ORL0305",
    ];
    assert_eq!(codes(&["config", "check", "--json"]), expected);
    world.file(USER, "");
    let named = named.to_str().unwrap();
    assert_eq!(codes(&["config", "check", named, "--json"]), expected);
    let shown = world.oriel(&["config", "check", named]).stdout;
    assert!(
        shown.contains("    gateway.routes is set so by: "),
        "{shown}"
    );
    // A host of a route is not said to be one of intercept.hosts.
    world.file(
        USER,
        "[gateway]\nroutes = [{ hosts = [\"a.example/x\"], to = \"https://gw.example\" }]\n",
    );
    let refused = world.oriel(&["serve", "--listen", "127.0.0.1:0", "--json"]);
    assert_eq!(refused.error()["code"], "ORL0109");
}
