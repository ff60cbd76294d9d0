//! The built program with an archive on a server: PostgreSQL, and ClickHouse. What one machine records,
//! another one lists, shows, searches and sums up.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testbed::clickhouse::ClickHouse;
use testbed::postgres::PostgresCluster;

use super::list;
use crate::upstream::answering;
use crate::world::{Printed, Service, World};

const SESSION: &str = "5cbd2f4a-7f0e-4f4c-8f35-4f1c2d1c9a10";
const ASKED: &str = r#"{"model":"m","messages":["is it a dead\nlock?"]}"#;
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\
    Connection: close\r\n\r\n{\"content\":[\"it is a lock\"]}";

#[test]
fn flows_are_kept_and_found_in_postgresql() {
    let cluster = PostgresCluster::start().unwrap();
    record_and_ask(&cluster.url("postgres"));
    // What is older than this program is not changed by who removes.
    let older = "DELETE FROM oriel_migrations WHERE number > 1";
    cluster.psql("postgres", older).unwrap();
    let world = World::new();
    let mut prune = world.command(&["db", "prune", "--archive", "--older-than", "0s"]);
    prune.env("ORIEL_DATABASE_URL", cluster.url("postgres"));
    let refused = Printed::of(prune.output().unwrap());
    assert_eq!(refused.code, Some(7), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("oriel db migrate"),
        "{}",
        refused.stderr
    );
}

#[test]
fn flows_are_kept_and_found_in_clickhouse() {
    let clients = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/clients");
    let server = ClickHouse::start(Path::new(clients)).unwrap();
    record_and_ask(&server.url("default"));
}

/// One flow of a run, and one of a service, of one session.
fn record_and_ask(url: &str) {
    let world = World::new();
    let archived = [("ORIEL_DATABASE_URL", url)];
    let target = format!("http://{}/v1/messages", answering(ANSWER));
    let curl = [
        "curl",
        "-s",
        "-A",
        "claude-cli/2.1",
        "-H",
        "Content-Type: application/json",
        "-H",
        &format!("X-Claude-Code-Session-Id: {SESSION}"),
        "-d",
        ASKED,
        &target,
    ];
    let mut run = world.command(&["run", "-q", "--"]);
    run.args(curl).envs(archived);
    let ran = Printed::of(run.output().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stdout.ends_with("[\"it is a lock\"]}"),
        "{}",
        ran.stdout
    );

    let mut serve = world.serve_command(&["--admin", "off"]);
    serve.envs(archived);
    let mut service = Service::start(serve);
    let proxied = Command::new("curl")
        .args(["--noproxy", "", "-x", &format!("http://{}", service.proxy)])
        .args(&curl[1..])
        .output()
        .unwrap();
    assert!(proxied.stdout.ends_with(b"[\"it is a lock\"]}"));
    assert_eq!(service.stop(), Some(0));

    // Another machine has nothing but the address of the archive.
    let other = World::new();
    let ask = |arguments: &[&str]| -> Value { list(&other, arguments, &archived) };
    let flows = ask(&["flows", "--json"]);
    assert_eq!(flows["total"], 2, "{flows}");
    assert_eq!(flows["items"][0]["url"], target.as_str());
    let id = flows["items"][1]["id"].as_str().unwrap();
    let shown = ask(&["flows", "show", id, "--json", "--body"]);
    assert_eq!(shown["id"], id);
    assert!(shown.to_string().contains("it is a lock"), "{shown}");

    let found = ask(&["flows", "search", "dead lock", "--json"]);
    let hits = found["items"].as_array().unwrap();
    assert_eq!(hits.len(), 2, "{found}");
    assert_eq!(hits[0]["matches"][0]["in"], "request");
    assert_eq!(hits[0]["matches"][0]["found"], "dead lock");
    for (filter, count) in [
        ("text:lock", 2),
        ("text:loc", 0),
        ("text:loc* kind:tunnel", 0),
    ] {
        assert_eq!(
            ask(&["flows", filter, "--json"])["total"],
            count,
            "{filter}"
        );
    }

    let sessions = ask(&["sessions", "--json"]);
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1);
    let session = &sessions["items"][0];
    assert_eq!(session["id"], SESSION);
    assert_eq!(session["agent"], "claude-code");
    assert_eq!(
        (&session["flows"], &session["runs"]),
        (&2.into(), &2.into())
    );
    let session = ask(&["sessions", "show", SESSION, "--json"]);
    assert_eq!(session["hosts"][0]["flows"], 2, "{session}");

    let stats = ask(&["stats", "--by", "type", "--json"]);
    assert_eq!(stats["items"][0]["key"], "llm", "{stats}");
    assert_eq!(stats["total"]["flows"], 2);
    assert_eq!(stats["total"]["request_bytes"], 2 * ASKED.len());

    let status = ask(&["db", "status", "--json"]);
    assert_eq!(status["archive"]["flows"], 2, "{status}");
    assert_eq!(status["archive"]["runs"], 2);
    annotate(&other, &world, &archived, id);
    name(&other, &world, &archived);
    remove(&other, &world, &archived, id);
}

/// Who has no file of its own says something about a flow, and so does the machine that recorded it.
fn annotate(other: &World, world: &World, archived: &[(&str, &str)], id: &str) {
    let data = world.path(".local/share/oriel");
    let data = data.to_str().unwrap();
    let tags = |world: &World, more: &[&str]| {
        let arguments = [&["flows", "show", id, "--json"], more].concat();
        list(world, &arguments, archived)["tags"].clone()
    };
    let say = |world: &World, arguments: &[&str]| list(world, arguments, archived);
    let marked = say(other, &["flows", "mark", id, "--tag", "gold", "--json"]);
    assert_eq!(marked["items"][0]["tags"], serde_json::json!(["gold"]));
    assert_eq!(tags(other, &[]), serde_json::json!(["gold"]));
    assert_eq!(say(other, &["flows", "tag:gold", "--json"])["total"], 1);
    // It adds to what is said there, and what is copied later says the same.
    say(world, &["flows", "mark", id, "--tag", "mine", "--json"]);
    let both = serde_json::json!(["gold", "mine"]);
    assert_eq!(tags(other, &[]), both);
    assert_eq!(tags(world, &["--data", data]), both);
    let mut run = world.command(&["run", "-q", "--", "true"]);
    Printed::of(run.envs(archived.iter().copied()).output().unwrap()).succeeded();
    assert_eq!(tags(other, &[]), both);
    // What is said in the file alone is copied too.
    let less = ["flows", "mark", id, "--untag", "gold", "--untag", "mine"];
    say(world, &[&less[..], &["--json", "--data", data]].concat());
    assert_eq!(tags(other, &[]), both);
    let mut run = world.command(&["run", "-q", "--", "true"]);
    Printed::of(run.envs(archived.iter().copied()).output().unwrap()).succeeded();
    assert_eq!(tags(other, &[]), serde_json::json!([]));
    let noted = say(other, &["flows", "note", id, "seen", "--json"]);
    assert_eq!(noted["items"][0]["note"], "seen");
    say(other, &["flows", "note", id, "", "--json"]);
    let unknown = other
        .command(&["flows", "mark", "zzzz.1"])
        .envs(archived.iter().copied())
        .output();
    assert_eq!(Printed::of(unknown.unwrap()).code, Some(5));
}

/// A session is named where flows are read, and before that in the file of the machine alone.
fn name(other: &World, world: &World, archived: &[(&str, &str)]) {
    let data = world.path(".local/share/oriel");
    let data = data.to_str().unwrap();
    let names = |world: &World, more: &[&str]| {
        let arguments = [&["sessions", "--json"], more].concat();
        list(world, &arguments, archived)["items"][0]["name"].clone()
    };
    let in_file = ["sessions", "rename", SESSION, "of the machine", "--json"];
    list(world, &[&in_file[..], &["--data", data]].concat(), archived);
    assert!(names(other, &[]).is_null());
    let mut run = world.command(&["run", "-q", "--", "true"]);
    Printed::of(run.envs(archived.iter().copied()).output().unwrap()).succeeded();
    assert_eq!(names(other, &[]), "of the machine");
    for (here, name) in [(other, "from afar"), (world, "the bug")] {
        list(
            here,
            &["sessions", "rename", SESSION, name, "--json"],
            archived,
        );
        assert_eq!(names(other, &[]), name);
    }
    assert_eq!(names(world, &["--data", data]), "the bug");
    let found = list(other, &["flows", "session:\"the bug\"", "--json"], archived);
    assert_eq!(found["total"], 2, "{found}");
    let shown = list(other, &["sessions", "show", "the bug", "--json"], archived);
    assert_eq!(shown["id"], SESSION);
}

/// Bodies go, then a flow, then all that is old, from the archive alone.
fn remove(other: &World, world: &World, archived: &[(&str, &str)], id: &str) {
    let ask = |arguments: &[&str]| -> Value { list(other, arguments, archived) };
    let say = |arguments: &[&str]| {
        let mut command = other.command(arguments);
        command.envs(archived.iter().copied());
        Printed::of(command.output().unwrap())
    };
    let prune = ["db", "prune", "--archive"];
    let unsaid = say(&prune);
    assert_eq!(unsaid.code, Some(2), "{}", unsaid.stderr);
    assert!(
        unsaid.stderr.contains("[retention] is about the file"),
        "{}",
        unsaid.stderr
    );
    let sized = say(&[&prune[..], &["--max-size", "1GB"]].concat());
    assert_eq!(sized.code, Some(2), "{}", sized.stderr);
    let asked = say(&[&prune[..], &["--older-than", "0s"]].concat());
    assert_eq!(asked.code, Some(2), "nobody can be asked: {}", asked.stderr);

    let bodies = &[&prune[..], &["--bodies-older-than", "0s"]].concat();
    let dry = ask(&[&bodies[..], &["--dry-run", "--json"]].concat());
    assert_eq!(
        (&dry["flows_without_bodies"], &dry["removed"]),
        (&2.into(), &false.into()),
        "{dry}"
    );
    assert_eq!(ask(&["flows", "text:lock", "--json"])["total"], 2);
    let done = say(&[&bodies[..], &["--yes"]].concat()).succeeded();
    for part in ["removed the bodies of 2 flows", " · from "] {
        assert!(done.stderr.contains(part), "{}", done.stderr);
    }
    assert!(!done.stderr.contains("s3cret"));
    assert_eq!(ask(&["flows", "text:lock", "--json"])["total"], 0);
    assert_eq!(ask(&["flows", "text:messages", "--json"])["total"], 2);
    let shown = ask(&["flows", "show", id, "--json", "--body"]);
    assert!(!shown.to_string().contains("it is a lock"), "{shown}");

    let gone = say(&["flows", "rm", id, "--yes"]).succeeded();
    for part in ["removed 1 flow", " · from ", "oriel flows rm --data"] {
        assert!(gone.stderr.contains(part), "{}", gone.stderr);
    }
    assert_eq!(ask(&["flows", "--json"])["total"], 1);
    let session = ask(&["sessions", "rm", SESSION, "--yes", "--json"]);
    assert_eq!(session["flows"], 1, "{session}");
    assert_eq!(ask(&["flows", "--json"])["total"], 0);
    let all = ask(&[&prune[..], &["--older-than", "0s", "--json"]].concat());
    assert_eq!(all["flows"], 0, "{all}");

    // The machine that recorded them has them as before.
    let data = world.path(".local/share/oriel");
    let here = list(
        world,
        &[
            "flows",
            "text:lock",
            "--json",
            "--data",
            data.to_str().unwrap(),
        ],
        &[],
    );
    assert_eq!(here["total"], 2, "{here}");
}
