//! `oriel config set` and `oriel config unset`.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use crate::world::{Printed, World, mode};

const USER: &str = ".config/oriel/config.toml";

fn read(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.path(name)).unwrap()
}

#[test]
fn a_value_is_set_in_the_users_file_and_in_force() {
    let world = World::new();
    let printed = world.done(&["config", "set", "intercept.unlisted=block"]);
    assert_eq!(printed, "intercept.unlisted  \"block\"\n");
    assert_eq!(read(&world, USER), "[intercept]\nunlisted = \"block\"\n");
    assert_eq!(mode(&world.path(USER)), 0o600);
    assert_eq!(
        world.done(&["config", "get", "intercept.unlisted"]),
        "block\n"
    );

    world.done(&[
        "config",
        "set",
        "intercept.bypass+=chat.internal,*.corp.test",
    ]);
    world.done(&["config", "set", "intercept.bypass-=*.corp.test"]);
    let again = world.json(&["config", "set", "intercept.bypass+=chat.internal", "--json"]);
    assert_eq!(again["changed"], false);
    assert_eq!(
        again["in_force"]["value"],
        serde_json::json!(["chat.internal"])
    );
    let wanted = "[intercept]\nunlisted = \"block\"\nbypass = [\"chat.internal\"]\n";
    assert_eq!(read(&world, USER), wanted);

    world.done(&["config", "unset", "intercept.unlisted"]);
    assert_eq!(
        world.done(&["config", "get", "intercept.unlisted"]),
        "tunnel\n"
    );
    world.done(&["config", "check"]);
}

#[test]
fn comments_stay_and_so_does_the_starter() {
    let world = World::new();
    world.done(&["config", "init"]);
    let starter = read(&world, USER);
    world.done(&["config", "set", "capture.body_bytes_kept", "1MiB"]);
    let written = read(&world, USER);
    let added: Vec<_> = written
        .lines()
        .filter(|line| !starter.contains(line))
        .collect();
    assert_eq!(added, ["body_bytes_kept = \"1MiB\""]);
    assert_eq!(written.lines().count(), starter.lines().count() + 1);
    world.done(&["config", "unset", "capture.body_bytes_kept"]);
    assert_eq!(read(&world, USER), starter);
}

#[test]
fn a_list_that_the_file_does_not_set_is_written_with_what_it_had() {
    let world = World::new();
    world.done(&["config", "set", "intercept.hosts+=models.corp.test"]);
    let hosts = world.json(&["config", "get", "intercept.hosts", "--json"]);
    let hosts = hosts["value"].as_array().unwrap();
    assert!(
        hosts.iter().any(|host| host == "api.openai.com"),
        "{hosts:?}"
    );
    assert_eq!(hosts.last().unwrap(), "models.corp.test");
}

#[test]
fn a_mistake_is_not_written() {
    let world = World::new();
    let before = "[log]\nlevel = \"info\" # mine\n";
    world.file(USER, before);
    for (arguments, code, said) in [
        (vec!["intercept.unlisted=blok"], 2, "ORL0403"),
        (
            vec!["capture.bodies=perhaps"],
            2,
            "it must be true, false, 1 or 0",
        ),
        (
            vec!["intercept.bypas+=a.test"],
            2,
            "did you mean intercept.bypass?",
        ),
        (vec!["intercept.bypass=a b"], 2, "ORL0105"),
        (
            vec!["intercept.bypass-=a.test"],
            5,
            "is not in intercept.bypass",
        ),
        (vec!["log.level+=debug"], 2, "log.level is no list"),
        (vec!["log.format-=json"], 2, "log.format is no list"),
        (
            vec!["capture.body_limits-={ bytes = 1 }"],
            5,
            "is not in capture.body_limits",
        ),
        (vec!["log.level"], 2, "no value is given"),
        (vec!["log.level=info", "debug"], 2, "a value is given twice"),
        (vec!["gateway.routes=a.test"], 2, "it must be TOML"),
        (vec!["proxy.listen=0.0.0.0:6743"], 4, "ORL0102"),
    ] {
        let all = [&["config", "set"], arguments.as_slice()].concat();
        let printed = world.oriel(&all);
        assert_eq!(printed.code, Some(code), "{all:?}: {}", printed.stderr);
        assert!(printed.stderr.contains(said), "{all:?}: {}", printed.stderr);
        assert_eq!(read(&world, USER), before, "{all:?}");
    }
}

#[test]
fn mistakes_that_were_there_can_be_put_right_one_by_one() {
    let world = World::new();
    world.file(
        USER,
        "[log]\nformat = \"jsn\"\n[intercept]\nunlisted = \"blok\"\n",
    );
    let printed = world
        .oriel(&["config", "set", "log.format=json"])
        .succeeded();
    assert!(
        printed.stderr.contains("oriel config check"),
        "{}",
        printed.stderr
    );
    world.done(&["config", "unset", "intercept.unlisted"]);
    world.done(&["config", "check"]);
    world.file(USER, "[log\n");
    let printed = world.oriel(&["config", "set", "log.format=json"]);
    assert!(printed.stderr.contains("ORL0401"), "{}", printed.stderr);
    assert_eq!(read(&world, USER), "[log\n");
}

#[test]
fn a_secret_comes_from_standard_input() {
    let world = World::new();
    let mut command = world.command(&["config", "set", "proxy.credentials", "-"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"me:correct horse\n").unwrap();
    drop(input);
    let printed = Printed::of(child.wait_with_output().unwrap()).succeeded();
    assert!(!printed.stdout.contains("horse"), "{}", printed.stdout);
    assert_eq!(
        read(&world, USER),
        "[proxy]\ncredentials = \"me:correct horse\"\n"
    );
}

#[test]
fn a_file_with_a_secret_is_for_its_owner_alone_and_the_secret_is_not_repeated() {
    let world = World::new();
    let path = world.file(USER, "[log]\nlevel = \"info\"\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let printed = world.oriel(&["config", "set", "upstream_proxy.url=http://me:horse@"]);
    assert_ne!(printed.code, Some(0));
    let told = format!("{}{}", printed.stdout, printed.stderr);
    assert!(!told.contains("horse"), "{told}");
    assert_eq!(mode(&path), 0o644);
    world.done(&["config", "set", "proxy.credentials=me:horse"]);
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_variable_that_another_setting_needs_counts() {
    let world = World::new();
    let open = ["config", "set", "proxy.listen=0.0.0.0:6743"];
    assert_eq!(world.oriel(&open).code, Some(4));
    let mut command = world.command(&open);
    command.env("ORIEL_PROXY_CREDENTIALS", "me:horse");
    Printed::of(command.output().unwrap()).succeeded();
    assert_eq!(read(&world, USER), "[proxy]\nlisten = \"0.0.0.0:6743\"\n");
}

#[test]
fn a_value_that_was_wrong_hides_no_new_mistake() {
    let world = World::new();
    let before = "[proxy]\nlisten = 7\n";
    world.file(USER, before);
    let printed = world.oriel(&["config", "set", "proxy.listen=0.0.0.0:6743"]);
    assert_eq!(printed.code, Some(4), "{}", printed.stderr);
    assert_eq!(read(&world, USER), before);
}

#[test]
fn two_at_once_lose_nothing() {
    let world = World::new();
    let added: Vec<_> = (0..8)
        .map(|number| format!("intercept.bypass+=h{number}.corp.test"))
        .collect();
    let children: Vec<_> = added
        .iter()
        .map(|words| world.command(&["config", "set", words]).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let hosts = world.json(&["config", "get", "intercept.bypass", "--json"]);
    assert_eq!(hosts["value"].as_array().unwrap().len(), added.len());
}

#[test]
fn who_counts_more_is_said() {
    let world = World::new();
    let mut command = world.command(&["config", "set", "log.format=text"]);
    let printed =
        Printed::of(command.env("ORIEL_LOG_FORMAT", "json").output().unwrap()).succeeded();
    assert_eq!(printed.stdout, "log.format  \"json\"\n");
    assert!(
        printed.stderr.contains("env ORIEL_LOG_FORMAT sets it too"),
        "{}",
        printed.stderr
    );
}

#[test]
fn a_linked_file_stays_where_it_is_with_its_mode() {
    let world = World::new();
    let kept = world.file("dotfiles/oriel.toml", "# shared\n");
    std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::create_dir_all(world.path(".config/oriel")).unwrap();
    symlink(&kept, world.path(USER)).unwrap();
    world.done(&["config", "set", "log.level=debug"]);
    assert!(world.path(USER).is_symlink());
    assert_eq!(
        read(&world, "dotfiles/oriel.toml"),
        "# shared\n\n[log]\nlevel = \"debug\"\n"
    );
    assert_eq!(mode(&kept), 0o644);
    world.done(&["config", "set", "log.level=warn", "--config", "other.toml"]);
    assert_eq!(read(&world, "other.toml"), "[log]\nlevel = \"warn\"\n");
}

#[test]
fn a_service_that_runs_takes_it() {
    let world = World::new();
    world.file(USER, "[intercept]\nunlisted = \"tunnel\"\n");
    let mut service = world.serve(&["--admin", "off"]);
    world.done(&["config", "set", "intercept.unlisted=block"]);
    service.wait_for("took the new configuration");
    let printed = world
        .oriel(&["config", "set", "log.level=debug"])
        .succeeded();
    assert!(
        printed.stderr.contains("oriel restart"),
        "{}",
        printed.stderr
    );
    service.stop();
}
