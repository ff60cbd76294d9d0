//! Python: `requests`, `websockets`, and the SDKs of OpenAI and Anthropic, streamed and not.
//! `.ci/run` installs them into a folder of their own.

use std::path::Path;

use serde_json::{Value, json};
use testbed::upstream::Protocols;

use crate::site::{Site, flows, only_flow, text};
use crate::world::{Printed, World};

const KEY: &str = "sk-test-never-stored-5150";
const QUESTION: &str = "Is the build green?";
/// What the testbed's model says to it.
const SAID: &str = "The build is green: 42 tests passed and none failed. \
    The slowest took 310 ms, so there is nothing to worry about.";

/// The interpreter that has the clients.
fn python() -> &'static str {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/clients/bin/python"
    );
    assert!(
        Path::new(path).exists(),
        "the Python clients are missing: {path}; .ci/run installs them"
    );
    path
}

/// Runs a script that gets the upstream's URL as its argument.
fn run(world: &World, site: &Site, script: &str) -> Printed {
    let script = world.file("script.py", script);
    let url = site.url("");
    Printed::of(
        site.command(world, &[python(), text(&script), &url])
            .env("OPENAI_API_KEY", KEY)
            .env("ANTHROPIC_API_KEY", KEY)
            .output()
            .unwrap(),
    )
    .succeeded()
}

#[test]
fn the_reference_parser_of_openmetrics_reads_our_metrics() {
    let world = World::new();
    let mut service = world.serve(&["--admin", "127.0.0.1:0"]);
    let script = world.file(
        "script.py",
        "import sys, urllib.request\n\
         from prometheus_client.openmetrics.parser import text_string_to_metric_families\n\
         opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))\n\
         text = opener.open(sys.argv[1]).read().decode()\n\
         for family in text_string_to_metric_families(text):\n\
         \x20   print(family.name, family.type, len(family.samples))\n",
    );
    let url = format!("http://{}/metrics", service.admin.unwrap());
    let printed = Printed::of(
        std::process::Command::new(python())
            .args([text(&script), &url])
            .output()
            .unwrap(),
    )
    .succeeded();
    let families: Vec<&str> = printed.stdout.lines().collect();
    assert!(
        families.contains(&"oriel_connections_active gauge 1"),
        "{families:?}"
    );
    assert!(
        families.contains(&"oriel_added_latency_seconds histogram 16"),
        "{families:?}"
    );
    assert!(
        families.contains(&"oriel_store_lost_events counter 1"),
        "{families:?}"
    );
    assert_eq!(service.stop(), Some(0));
}

/// What the database holds of the key: nothing.
fn check_key_is_nowhere(world: &World) {
    for entry in std::fs::read_dir(world.path(".local/share/oriel")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes());
            assert!(!found, "the key is in {}", path.display());
        }
    }
}

/// Runs a script that calls a model whole and streamed, and checks what was recorded.
fn check_model(path: &str, script: &str) {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let printed = run(&world, &site, script);
    let lines: Vec<_> = printed.stdout.lines().collect();
    assert_eq!(lines, [SAID, SAID]);
    let all = flows(&world);
    assert_eq!(all.len(), 2, "{all:?}");
    for (flow, content_type) in all.iter().zip(["application/json", "text/event-stream"]) {
        assert_eq!(
            (&flow["method"], &flow["url"], &flow["status"]),
            (&json!("POST"), &json!(site.url(path)), &json!(200)),
            "{flow}"
        );
        assert_eq!(flow["state"], "completed", "{flow}");
        assert_eq!(flow["route"]["action"], "intercept");
        check_bodies(&world, flow, content_type);
    }
    check_key_is_nowhere(&world);
}

fn check_bodies(world: &World, flow: &Value, content_type: &str) {
    let id = flow["id"].as_str().unwrap();
    let shown = world.json(&["flows", "show", id, "--json", "--body"]);
    let asked = shown["request"]["body"]["data"].as_str().unwrap();
    assert!(asked.contains(QUESTION), "{asked}");
    let answer = &shown["response"]["body"];
    let kind = answer["content_type"].as_str().unwrap();
    assert!(kind.starts_with(content_type), "{kind}");
    assert_eq!(answer["truncated"], false);
    assert_eq!(answer["bytes"], flow["sizes"]["response_bytes"]);
    assert!(answer["data"].as_str().unwrap().contains("green"));
}

#[test]
fn openai_chat_completions() {
    check_model(
        "/v1/chat/completions",
        r#"
import openai, sys
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", max_retries=0)
ask = dict(model="gpt-5.1", messages=[{"role": "user", "content": "Is the build green?"}])
print(client.chat.completions.create(**ask).choices[0].message.content)
chunks = client.chat.completions.create(stream=True, **ask)
print("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))
"#,
    );
}

#[test]
fn openai_responses() {
    check_model(
        "/v1/responses",
        r#"
import openai, sys
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", max_retries=0)
ask = dict(model="gpt-5.1", input="Is the build green?")
print(client.responses.create(**ask).output_text)
events = client.responses.create(stream=True, **ask)
print("".join(event.delta for event in events if event.type == "response.output_text.delta"))
"#,
    );
}

#[test]
fn anthropic_messages() {
    check_model(
        "/v1/messages",
        r#"
import anthropic, sys
client = anthropic.Anthropic(base_url=sys.argv[1], max_retries=0)
ask = dict(model="claude-sonnet-4-5", max_tokens=100,
           messages=[{"role": "user", "content": "Is the build green?"}])
print(client.messages.create(**ask).content[0].text)
with client.messages.stream(**ask) as stream:
    print("".join(stream.text_stream))
"#,
    );
}

#[test]
fn an_error_of_the_api_reaches_the_sdk_as_it_is() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let script = r#"
import openai, sys
client = openai.OpenAI(base_url=sys.argv[1] + "/v1/none", max_retries=0)
try:
    client.models.list()
except openai.NotFoundError as error:
    print(error.status_code)
"#;
    assert_eq!(run(&world, &site, script).stdout, "404\n");
    let flow = only_flow(&world);
    assert_eq!(
        (&flow["status"], &flow["state"]),
        (&json!(404), &json!("completed"))
    );
}

#[test]
fn requests_gets_and_posts() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let script = r#"
import requests, sys
session = requests.Session()
url = sys.argv[1]
got = session.get(url + "/gzip")
print(got.status_code, got.json()["encoding"])
sent = session.post(url + "/upload", json={"text": "x" * 1000})
print(sent.status_code, sent.json()["received"])
parts = list(session.get(url + "/chunked/100000?size=999", stream=True).iter_content(4096))
print(sum(len(part) for part in parts))
"#;
    let printed = run(&world, &site, script);
    assert_eq!(printed.stdout, "200 gzip\n200 1012\n100000\n");
    let all = flows(&world);
    let paths: Vec<_> = all
        .iter()
        .map(|flow| flow["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["/gzip", "/upload", "/chunked/100000"]);
    assert_eq!(all[1]["sizes"]["request_bytes"], 1012);
    assert_eq!(all[2]["sizes"]["response_bytes"], 100_000);
    // requests kept its connection, and so did we.
    assert_eq!(site.upstream.connection_count(), 1);
    // What came compressed is shown as text.
    let shown = world.oriel(&["flows", "show", all[0]["id"].as_str().unwrap(), "--full"]);
    assert!(
        shown.stdout.contains("line 199 of a repetitive"),
        "{}",
        shown.stdout
    );
}

/// What a WebSocket carried, as sender, kind, size and text.
fn messages(document: &Value) -> Vec<String> {
    let items = document["messages"]["items"].as_array().unwrap();
    let short = |item: &Value| {
        let word = |name: &str| item[name].as_str().unwrap().to_owned();
        format!(
            "{} {} {} {}",
            word("sender"),
            word("kind"),
            item["bytes"],
            word("data")
        )
    };
    items.iter().map(short).collect()
}

#[test]
fn websockets_talk_and_are_recorded() {
    for compression in ["deflate", "none"] {
        let world = World::new();
        let site = Site::https(&world, Protocols::Both);
        let script = format!(
            r#"
import sys
from websockets.sync.client import connect
url = sys.argv[1].replace("https:", "wss:") + "/websocket"
compression = None if "{compression}" == "none" else "{compression}"
with connect(url, compression=compression, ping_interval=None) as socket:
    for message in ["Hello", "wide \u00e9\u001b[31m", "x" * 5000]:
        socket.send(message)
        assert socket.recv() == message
    socket.send(["in ", "parts"])
    print("".join(socket.recv_streaming()))
    socket.send(b"\x00\x01")
    assert socket.recv() == b"\x00\x01"
    socket.close(4000, "enough")
print(socket.close_code)
"#
        );
        let printed = run(&world, &site, &script);
        assert_eq!(printed.stdout, "in parts\n4000\n");
        let flow = only_flow(&world);
        assert_eq!(
            (&flow["kind"], &flow["state"]),
            (&json!("websocket"), &json!("completed"))
        );
        assert_eq!(
            (&flow["status"], &flow["truncated"]),
            (&json!(101), &json!(false))
        );

        let id = flow["id"].as_str().unwrap();
        let shown = world.json(&["flows", "show", id, "--json", "--body"]);
        let long = format!("text 5000 {}", "x".repeat(5000));
        let expected = [
            "text 5 Hello",
            "text 12 wide é\u{1b}[31m",
            &long,
            "text 8 in parts",
            "binary 2 \0\u{1}",
            "close 6 enough",
        ];
        let both = expected
            .iter()
            .flat_map(|said| [format!("client {said}"), format!("upstream {said}")]);
        assert_eq!(messages(&shown), both.collect::<Vec<_>>());
        let items = &shown["messages"]["items"];
        let (coding, smaller) = match compression {
            "deflate" => ("inflated", true),
            _ => ("plain", false),
        };
        assert_eq!(items[4]["coding"], coding);
        assert_eq!(items[4]["wire_bytes"].as_u64().unwrap() < 5000, smaller);
        // The library ends with an empty frame.
        assert_eq!(
            (&items[6]["frames"], &items[7]["frames"]),
            (&json!(3), &json!(3))
        );

        let text = world.oriel(&["flows", "show", id]).stdout;
        assert!(text.contains("messages   client 6   upstream 6"), "{text}");
        assert!(
            text.contains("client    text") && text.contains("␛[31m"),
            "{text}"
        );
        assert!(
            text.contains("4000 enough") && !text.contains('\u{1b}'),
            "{text}"
        );
        let listed = world.oriel(&["flows", "list"]).stdout;
        assert!(listed.contains("websocket"), "{listed}");
    }
}

#[test]
fn openai_realtime_talks_and_is_recorded() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let script = r#"
import base64, openai, sys
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", max_retries=0)
with client.realtime.connect(model="gpt-realtime") as connection:
    connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
    connection.conversation.item.create(item={
        "type": "message", "role": "user",
        "content": [{"type": "input_text", "text": "Is the build green?"}]})
    connection.input_audio_buffer.append(audio=base64.b64encode(bytes(4800)).decode())
    connection.input_audio_buffer.commit()
    connection.response.create()
    said, seen = "", []
    for event in connection:
        seen.append(event.type)
        if event.type == "response.output_text.delta":
            said += event.delta
        if event.type == "response.done":
            break
print(said)
print(" ".join(dict.fromkeys(seen)))
"#;
    let printed = run(&world, &site, script);
    let kinds = "session.created session.updated conversation.item.added conversation.item.done \
        input_audio_buffer.committed response.created response.output_item.added \
        response.output_text.delta response.output_text.done response.output_item.done response.done";
    assert_eq!(printed.stdout, format!("{SAID}\n{kinds}\n"));

    let flow = only_flow(&world);
    assert_eq!(
        (&flow["kind"], &flow["state"], &flow["status"]),
        (&json!("websocket"), &json!("completed"), &json!(101))
    );
    assert_eq!(flow["traffic_type"], "llm", "{flow}");
    let shown = world.json(&[
        "flows",
        "show",
        flow["id"].as_str().unwrap(),
        "--json",
        "--body",
    ]);
    let messages = messages(&shown);
    let of_client = messages
        .iter()
        .filter(|said| said.starts_with("client text"));
    assert_eq!(of_client.count(), 5, "{messages:?}");
    assert!(messages[1..].iter().any(|said| said.contains(QUESTION)));
    assert!(
        messages
            .iter()
            .any(|said| said.contains("response.done") && said.contains(SAID))
    );
    check_key_is_nowhere(&world);
}
