//! Flows are copied to an archive, and read there. The archive is a file here, a server in
//! [`servers`], which fails in [`faults`].

mod faults;
mod servers;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::upstream::{HELLO, answering};
use crate::world::{Printed, World};

/// `sqlite:` and the path of a file in a folder of its own.
fn url(world: &World) -> String {
    format!("sqlite:{}", world.path("team/archive.db").display())
}

fn run_curl(world: &World, variables: &[(&str, &str)]) -> Printed {
    let target = format!("http://{}/hello", answering(HELLO));
    let mut command = world.command(&["run", "-q", "--", "curl", "-s", &target]);
    for (name, value) in variables {
        command.env(name, value);
    }
    Printed::of(command.output().unwrap())
}

fn list(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> Value {
    let mut command = world.command(arguments);
    for (name, value) in variables {
        command.env(name, value);
    }
    let printed = Printed::of(command.output().unwrap()).succeeded();
    serde_json::from_str(&printed.stdout).unwrap()
}

#[test]
fn a_run_is_in_the_archive_when_it_has_ended() {
    let world = World::new();
    let url = url(&world);
    let archived = [("ORIEL_DATABASE_URL", url.as_str())];
    let ran = run_curl(&world, &archived);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "hello\n"));

    // Read from the archive, also by one that has no file of its own.
    let other = World::new();
    let there = list(&other, &["flows", "--json"], &archived);
    assert_eq!(there["total"], 1, "{there}");
    assert_eq!(there["items"][0]["status"], 200);
    let id = there["items"][0]["id"].as_str().unwrap();
    let shown = list(
        &other,
        &["flows", "show", id, "--json", "--body"],
        &archived,
    );
    assert_eq!(shown["id"], id);
    // The file of the machine has it as well.
    let data = world.path(".local/share/oriel");
    let here = list(
        &world,
        &["flows", "--json", "--data", data.to_str().unwrap()],
        &archived,
    );
    assert_eq!(here["items"][0]["uuid"], there["items"][0]["uuid"]);
    let none = list(&other, &["flows", "--json"], &[]);
    assert_eq!(none["total"], 0);
}

#[test]
fn an_archive_that_is_away_harms_no_run_and_gets_it_later() {
    let world = World::new();
    let url = url(&world);
    let archived = [("ORIEL_DATABASE_URL", url.as_str())];
    let in_the_way = world.file("team", "a file where the folder should be");
    let ran = run_curl(&world, &archived);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "hello\n"));
    let mut told = world.command(&["run", "--", "true"]);
    told.env("ORIEL_DATABASE_URL", &url)
        .env("ORIEL_LOG", "warn");
    let told = Printed::of(told.output().unwrap());
    assert!(
        told.stderr
            .contains("flows wait in the file of this machine"),
        "{}",
        told.stderr
    );

    std::fs::remove_file(in_the_way).unwrap();
    assert_eq!(run_curl(&world, &archived).code, Some(0));
    let there = list(&world, &["flows", "--json"], &archived);
    assert_eq!(there["total"], 2);
}

#[test]
fn a_service_says_how_copying_goes() {
    let world = World::new();
    let url = url(&world);
    let mut command = world.serve_command(&["--admin", "127.0.0.1:0"]);
    command.env("ORIEL_DATABASE_URL", &url);
    let in_the_way = world.file("team", "a file where the folder should be");
    let mut service = crate::world::Service::start(command);
    let admin = service.admin.unwrap();
    let target = format!("http://{}/hello", answering(HELLO));
    let proxy = format!("http://{}", service.proxy);
    let through = || {
        let curl = std::process::Command::new("curl")
            .args(["-s", "--noproxy", "", "-x", &proxy, &target])
            .output();
        assert_eq!(curl.unwrap().stdout, b"hello\n");
    };
    through();
    let failing = wait_for(admin, |archive| {
        archive["state"] == "failing" && archive["waiting_flows"] == 1
    });
    assert!(failing["last_error"].as_str().is_some(), "{failing}");
    let metrics = ask(admin, "/metrics");
    assert!(metrics.contains("\noriel_archive_up 0\n"), "{metrics}");
    assert!(metrics.contains("\noriel_archive_waiting_flows 1\n"));

    std::fs::remove_file(in_the_way).unwrap();
    // What waits is counted now and then, not with each copy.
    wait_for(admin, |archive| {
        archive["copied_flows"] == 1 && archive["waiting_flows"] == 0
    });
    assert!(ask(admin, "/metrics").contains("\noriel_archive_up 1\n"));
    through();
    assert_eq!(service.stop(), Some(0));
    let there = list(
        &world,
        &["flows", "--json"],
        &[("ORIEL_DATABASE_URL", &url)],
    );
    assert_eq!(there["total"], 2);
}

/// A file of two flows, from another machine.
fn exported(world: &World) -> String {
    let other = World::new();
    for _flow in 0..2 {
        assert_eq!(run_curl(&other, &[]).code, Some(0));
    }
    let path = world.path("flows.har").display().to_string();
    other.oriel(&["export", "-o", &path]).succeeded();
    path
}

/// What is said, and the command that it ends with.
fn import(world: &World, file: &str, variables: &[(&str, &str)]) -> (String, Vec<String>) {
    let mut command = world.command(&["import", file]);
    command.envs(variables.iter().copied());
    let said = Printed::of(command.output().unwrap()).succeeded().stderr;
    let (_, hint) = said.split_once("see them: oriel ").unwrap();
    let hint = hint.split_whitespace().map(str::to_owned).collect();
    (said, hint)
}

fn total(world: &World, hint: &[String], variables: &[(&str, &str)]) -> Value {
    let mut words: Vec<&str> = hint.iter().map(String::as_str).collect();
    words.push("--json");
    list(world, &words, variables)["total"].clone()
}

#[test]
fn what_is_imported_is_in_the_archive_and_seen_by_what_is_said() {
    let world = World::new();
    let url = url(&world);
    let archived = [("ORIEL_DATABASE_URL", url.as_str())];
    let file = exported(&world);
    let in_the_way = world.file("team", "a file where the folder should be");
    let (said, hint) = import(&world, &file, &archived);
    assert!(
        said.contains("the archive has not all of them yet"),
        "{said}"
    );
    assert_eq!(total(&world, &hint, &archived), 2, "{said}");

    std::fs::remove_file(in_the_way).unwrap();
    let (said, hint) = import(&world, &file, &archived);
    assert!(!said.contains("--data"), "{said}");
    assert_eq!(total(&world, &hint, &archived), 2, "{said}");
    let other = World::new();
    assert_eq!(list(&other, &["flows", "--json"], &archived)["total"], 4);

    // Who names a folder is told so.
    let data = world.path("elsewhere").display().to_string();
    let mut command = world.command(&["import", &file, "--data", &data, "--json"]);
    let printed = Printed::of(command.envs(archived).output().unwrap()).succeeded();
    let printed: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert!(printed["archived"].is_null(), "{printed}");
    let run = printed["files"][0]["run"].as_str().unwrap();
    let hint = ["flows", "--session", run, "--data", &data].map(str::to_owned);
    assert_eq!(total(&world, &hint, &archived), 2);
    assert_eq!(list(&other, &["flows", "--json"], &archived)["total"], 4);
}

#[test]
fn a_service_copies_what_is_imported() {
    let world = World::new();
    let url = url(&world);
    let archived = [("ORIEL_DATABASE_URL", url.as_str())];
    let file = exported(&world);
    let mut command = world.serve_command(&["--admin", "127.0.0.1:0"]);
    command.envs(archived);
    let mut service = crate::world::Service::start(command);
    let admin = service.admin.unwrap();
    wait_for(admin, |archive| archive["state"] == "idle");
    let (said, hint) = import(&world, &file, &archived);
    assert!(!said.contains("--data"), "{said}");
    assert_eq!(total(&world, &hint, &archived), 2, "{said}");
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn everybodys_variable_is_for_a_service_only_and_no_password_is_shown() {
    let world = World::new();
    let project = [("DATABASE_URL", "postgres://app:secret@127.0.0.1:1/app")];
    // Nothing of a run goes there, nor is it read.
    assert_eq!(run_curl(&world, &project).stdout, "hello\n");
    assert_eq!(list(&world, &["flows", "--json"], &project)["total"], 1);
    for (name, value) in [
        project[0],
        ("ORIEL_DATABASE_URL", "clickhouses://me:secret@h:1/d"),
    ] {
        let mut command = world.command(&["config", "show", "--json", "--effective"]);
        command.env(name, value);
        let shown = Printed::of(command.output().unwrap());
        assert!(shown.stdout.contains(name), "{}", shown.stdout);
        assert!(!shown.stdout.contains("secret"), "{}", shown.stdout);
    }
    let mut wrong = world.command(&["flows"]);
    wrong.env("ORIEL_DATABASE_URL", "mysql://me:secret@h/d");
    let wrong = Printed::of(wrong.output().unwrap());
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("mysql:// is not a database"),
        "{}",
        wrong.stderr
    );
    assert!(!wrong.stderr.contains("secret"), "{}", wrong.stderr);
}

pub(crate) fn ask(admin: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {admin}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Asks for the status until the archive is as wished.
fn wait_for(admin: SocketAddr, what: impl Fn(&Value) -> bool) -> Value {
    let mut looks = 0;
    loop {
        let answer = ask(admin, "/status");
        let status: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let archive = &status["store"]["archive"];
        if what(archive) {
            return archive.clone();
        }
        looks += 1;
        assert!(looks < 3000, "{status}");
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
}
