//! Sessions of agents with the built program: an agent asks a gateway through a reverse listener, the
//! gateway asks the provider through the forward one, and both are one session.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::upstream::{answering, serving};
use crate::world::{Service, World};

const CONFIG: &str = ".config/oriel/config.toml";
const SESSION: &str = "5cbd2f4a-7f0e-4f4c-8f35-4f1c2d1c9a10";
const OTHER: &str = "8a01d5c4-0b1c-4f62-a7d5-3f2b6a1e7c55";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\
    Connection: close\r\n\r\n{\"content\":[]}";

/// A provider, a gateway before it that passes requests on without their fields, and an oriel that
/// sees both sides of the gateway.
struct Pair {
    world: World,
    service: Service,
    reverse: SocketAddr,
}

impl Pair {
    fn start() -> Self {
        let world = World::new();
        let provider = answering(ANSWER);
        let (tell, told) = std::sync::mpsc::channel::<SocketAddr>();
        let told = parking_lot::Mutex::new(told);
        let forward = std::sync::OnceLock::new();
        let forward = std::sync::Arc::new((forward, told));
        let gateway = serving(move |mut client| {
            let (known, told) = &*forward;
            let proxy = *known.get_or_init(|| told.lock().recv().unwrap());
            let (_, body) = request(&mut client);
            let answer = ask(
                proxy,
                &format!("POST http://{provider}/v1/messages HTTP/1.1\r\nHost: {provider}\r\n"),
                "User-Agent: litellm/1.0\r\n",
                &body,
            );
            client.write_all(answer.as_bytes()).unwrap();
        });
        world.file(
            CONFIG,
            &format!("[[proxy.reverse]]\nlisten = \"127.0.0.1:0\"\nto = \"http://{gateway}\"\n"),
        );
        let mut service = world.serve_port(provider.port(), &["--admin", "off"]);
        tell.send(service.proxy).unwrap();
        let said = service.wait_for("listening on");
        let message = said["message"].as_str().unwrap();
        let reverse = message.rsplit_once(' ').unwrap().1.parse().unwrap();
        Self {
            world,
            service,
            reverse,
        }
    }

    /// One request of Claude Code.
    fn ask(&self, session: &str, more: &str) {
        let fields = format!(
            "User-Agent: claude-cli/2.1.329 (external, cli)\r\nX-Claude-Code-Session-Id: {session}\r\n{more}"
        );
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"metadata":{{"user_id":"{{\"device_id\":\"0a\",\"account_uuid\":\"\",\"session_id\":\"{session}\"}}"}}}}"#
        );
        let line = format!("POST /v1/messages HTTP/1.1\r\nHost: {}\r\n", self.reverse);
        let answer = ask(self.reverse, &line, &fields, body.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// Sends a request and reads the answer to its end.
fn ask(to: SocketAddr, start: &str, fields: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    let length = body.len();
    let head = format!(
        "{start}Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n{fields}\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Reads the head and the body of a request.
fn request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, length)| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

fn items(document: &Value) -> &[Value] {
    document["items"].as_array().unwrap()
}

#[test]
fn a_conversation_through_a_gateway_is_one_session() {
    let mut pair = Pair::start();
    pair.ask(SESSION, "");
    pair.ask(SESSION, "x-claude-code-agent-id: a3d8\r\n");
    pair.ask(OTHER, "");
    assert_eq!(pair.service.stop(), Some(0));
    let world = &pair.world;

    let flows = world.json(&[
        "flows",
        "list",
        &format!("session:{SESSION}"),
        "--json",
        "-r",
    ]);
    let flows = items(&flows);
    assert_eq!(flows.len(), 4, "{flows:?}");
    let mut directions = Vec::new();
    for flow in flows {
        assert_eq!(flow["traffic_type"], "llm");
        assert_eq!(flow["agent_session"]["id"], SESSION);
        assert_eq!(flow["agent_session"]["agent"], "claude-code");
        let shown = world.json(&["flows", "show", flow["id"].as_str().unwrap(), "--json"]);
        let direction = shown["client"]["proxy_direction"].as_str().unwrap();
        directions.push((
            direction.to_owned(),
            flow["agent_session"]["method"].clone(),
        ));
    }
    directions.sort_by(|left, right| left.0.cmp(&right.0));
    let expected = [
        ("forward", "body"),
        ("forward", "body"),
        ("reverse", "header"),
        ("reverse", "header"),
    ];
    let expected = expected.map(|(direction, method)| (direction.to_owned(), Value::from(method)));
    assert_eq!(directions, expected);
    let text = world.oriel(&["flows", "show", flows[0]["id"].as_str().unwrap()]);
    assert!(text.stdout.contains("type     llm\n"), "{}", text.stdout);
    assert!(
        text.stdout
            .contains(&format!("session  {SESSION} · claude-code")),
        "{}",
        text.stdout
    );

    let sessions = world.json(&["sessions", "--json"]);
    let ids: Vec<_> = items(&sessions)
        .iter()
        .map(|session| &session["id"])
        .collect();
    assert_eq!(ids, [OTHER, SESSION], "the last one first");
    assert_eq!(items(&sessions)[1]["flows"], 4);
    assert_eq!(items(&sessions)[1]["agents"], 1);
    let stats = world.json(&["stats", "--by", "agent", "--json"]);
    assert_eq!(items(&stats)[0]["key"], "claude-code");
    assert_eq!(items(&stats)[0]["flows"], 6);
}

#[test]
fn sessions_are_named_joined_and_removed() {
    let mut pair = Pair::start();
    pair.ask(SESSION, "");
    pair.ask(OTHER, "");
    assert_eq!(pair.service.stop(), Some(0));
    let world = &pair.world;
    let done = |arguments: &[&str]| {
        let printed = world.oriel(arguments);
        assert_eq!(printed.code, Some(0), "{arguments:?}: {}", printed.stderr);
        printed
    };
    done(&["sessions", "rename", "5cbd", "fix-ci-hang"]);
    let flows = world.json(&["flows", "session:fix-ci-hang", "--json"]);
    assert_eq!(items(&flows).len(), 2);
    let shown = done(&["sessions", "show", "fix-ci-hang"]);
    assert!(
        shown.stdout.contains("2 in 1 run, 2 of models"),
        "{}",
        shown.stdout
    );
    let table = done(&["sessions", "list"]).stdout;
    assert!(
        table.contains("fix-ci-hang") && table.contains("claude-code"),
        "{table}"
    );

    let difference = world.json(&["sessions", "diff", "fix-ci-hang", "8a01", "--json"]);
    assert_eq!(difference["sessions"][1]["id"], OTHER);
    let hosts = difference["hosts"].as_array().unwrap();
    assert!(
        hosts
            .iter()
            .any(|host| host["flows"] == serde_json::json!([2, 2])),
        "{difference}"
    );
    let shown = done(&["sessions", "diff", "fix-ci-hang", "8a01"]).stdout;
    assert!(
        shown.contains("fix-ci-hang") && shown.contains("of models"),
        "{shown}"
    );
    let csv = done(&["stats", "--by", "session", "--csv"]).stdout;
    let mut lines = csv.split("\r\n");
    assert!(
        lines.next().unwrap().starts_with("key,flows,request_bytes"),
        "{csv}"
    );
    assert!(
        lines.any(|line| line.starts_with(&format!("{OTHER},2,"))),
        "{csv}"
    );
    let csv = done(&["export", "session:fix-ci-hang", "--format", "csv"]).stdout;
    assert_eq!(csv.matches("\r\n").count(), 3, "{csv}");
    assert!(
        csv.starts_with("id,uuid,time,") && csv.contains(SESSION),
        "{csv}"
    );

    done(&["sessions", "merge", "fix-ci-hang", "@last"]);
    let sessions = world.json(&["sessions", "--json"]);
    assert_eq!(items(&sessions).len(), 1);
    assert_eq!(items(&sessions)[0]["flows"], 4);

    let refused = world.oriel(&["sessions", "rm", "fix-ci-hang"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let planned = world.json(&["sessions", "rm", "fix-ci-hang", "--dry-run", "--json"]);
    assert_eq!(
        (&planned["flows"], &planned["removed"]),
        (&4.into(), &false.into())
    );
    done(&["flows", "mark", "@last.1"]);
    let removed = world.json(&["sessions", "rm", "fix-ci-hang", "--yes", "--json"]);
    assert_eq!(
        (&removed["flows"], &removed["marked_kept"]),
        (&3.into(), &1.into())
    );
    let removed = world.json(&[
        "sessions",
        "rm",
        "fix-ci-hang",
        "--force",
        "--yes",
        "--json",
    ]);
    assert_eq!(removed["flows"], 1);
    assert_eq!(items(&world.json(&["sessions", "--json"])).len(), 0);
    assert_eq!(items(&world.json(&["flows", "--json"])).len(), 0);
    let unknown = world.oriel(&["sessions", "show", "fix-ci-hang"]);
    assert_eq!(unknown.code, Some(5), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("ORL0005"), "{}", unknown.stderr);
}

#[test]
fn lists_are_printed_line_by_line_and_with_some_fields() {
    let world = World::new();
    world.oriel(&["demo", "-q"]).succeeded();
    for list in [
        &["sessions"][..],
        &["sessions", "list"],
        &["stats", "--by", "method"],
    ] {
        let key = if list[0] == "stats" { "key" } else { "id" };
        let whole = world.json(&[list, &["--json"]].concat());
        let lines = world.done(&[list, &["--jsonl"]].concat());
        let lines: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(items(&whole), lines, "{list:?}");
        let some = format!("{key},flows");
        let picked = world.json(&[list, &["--fields", &some]].concat());
        assert_eq!(picked["schema"], whole["schema"]);
        for (item, whole) in items(&picked).iter().zip(items(&whole)) {
            let expected = serde_json::json!({key: whole[key], "flows": whole["flows"]});
            assert_eq!(item, &expected);
        }
        assert_eq!(items(&picked).len(), items(&whole).len());
        // Every field is listed, and each that is listed is there.
        let names = world.json(&[list, &["--json", "--fields", "help"]].concat());
        for item in items(&whole) {
            for field in item.as_object().unwrap().keys() {
                let is_it = |name: &&Value| {
                    let name = name.as_str().unwrap();
                    name.split('.').next() == Some(field.as_str())
                };
                assert!(
                    names.as_array().unwrap().iter().any(|name| is_it(&name)),
                    "{field}"
                );
            }
        }
        for name in names.as_array().unwrap() {
            world.done(&[list, &["--fields", name.as_str().unwrap()]].concat());
        }
        let wrong = world.oriel(&[list, &["--fields", "flow", "--json"]].concat());
        assert_eq!(
            (wrong.code, &wrong.error()["code"]),
            (Some(2), &"ORL0001".into())
        );
    }
    let both = world.oriel(&["stats", "--csv", "--jsonl"]);
    assert_eq!(both.code, Some(2), "{}", both.stderr);
}

#[test]
fn nothing_captured_is_no_session() {
    let world = World::new();
    assert_eq!(items(&world.json(&["sessions", "--json"])).len(), 0);
    assert_eq!(items(&world.json(&["stats", "--json"])).len(), 0);
    assert_eq!(world.oriel(&["sessions", "rm", "@last"]).code, Some(5));
}

/// A command that goes on until this is dropped.
struct Endless(Child);

impl Drop for Endless {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

#[test]
fn a_session_is_watched_as_it_goes_on() {
    let mut pair = Pair::start();
    pair.ask(SESSION, "");
    pair.ask(OTHER, "");
    let world = &pair.world;
    let is_known = || world.oriel(&["sessions", "show", "5cbd"]).code == Some(0);
    for _look in 0..500 {
        if is_known() {
            break;
        }
        sleep(Duration::from_millis(20));
    }
    let mut command = world.command(&["sessions", "watch", "5cbd", "--json"]);
    let mut watcher = Endless(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(watcher.0.stdout.take().unwrap()).lines();
    let mut ended = BTreeSet::new();
    let mut watch_until_ended = |flows: usize| {
        while ended.len() < flows {
            let flow: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(flow["agent_session"]["id"], SESSION, "{flow}");
            if flow["state"] == "completed" {
                ended.insert(flow["id"].as_str().unwrap().to_owned());
            }
        }
    };
    // Each request is seen on both sides of the gateway.
    watch_until_ended(2);
    pair.ask(OTHER, "");
    pair.ask(SESSION, "");
    watch_until_ended(4);
    drop(watcher);
    assert_eq!(pair.service.stop(), Some(0));
}
