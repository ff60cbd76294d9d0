//! What flows sum up to, on the command line: groups by what is known of the client and of the end.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::admission::line_of;
use crate::site::{NAME, Site};
use crate::world::{Service, World};

/// By the name of the group: flows, bytes sent, bytes received, answers of 400 and more, failures.
type Groups = BTreeMap<Option<String>, [u64; 5]>;

const FIGURES: [&str; 5] = [
    "flows",
    "request_bytes",
    "response_bytes",
    "error_status",
    "failed",
];

/// Two users of one proxy with one program: three answers and a bad one, an upload and a refused connection.
fn captured() -> World {
    let world = World::new();
    let site = Site::http(&world);
    let users = world.file(
        "users",
        &(line_of(&world, "ada", "pass") + &line_of(&world, "bob", "pass")),
    );
    std::fs::set_permissions(&users, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = format!("[proxy.auth]\nusers_file = \"{}\"\n", users.display());
    world.file(".config/oriel/config.toml", &config);
    // Its port is free again when this is dropped.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut command = world.serve_command(&["--admin", "off"]);
    let ports = format!("{},{closed}", site.upstream.address().port());
    command.env("ORIEL_CONNECT_PORTS", ports);
    let mut service = Service::start(command);
    let fetch = |user: &str, arguments: &[&str]| {
        let proxy = format!("http://{user}:pass@{}", service.proxy);
        let curl = Command::new("curl")
            .args(["-sS", "--noproxy", "", "-x", &proxy, "-o", "/dev/null"])
            .args(arguments)
            .status();
        assert!(curl.unwrap().success());
    };
    // Slow enough for its process to be found: a client that is gone by then is not known.
    fetch(
        "ada",
        &[&site.url("/chunked/1000?size=500&delay_ms=100&[1-3]")],
    );
    fetch("ada", &[&site.url("/bytes/500"), "-X", "DELETE"]);
    fetch("bob", &["--data", "0123456789", &site.url("/status/404")]);
    fetch("bob", &[&format!("http://{NAME}:{closed}/")]);
    assert_eq!(service.stop(), Some(0));
    for (flow, tags) in [
        ("@last.1", &["--tag", "slow"][..]),
        ("@last.2", &["--tag", "slow", "--tag", "gold"]),
    ] {
        world.done(&[&["flows", "mark", flow], tags].concat());
    }
    world
}

fn of_json(document: &Value) -> Groups {
    let items = document["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            let key = item["key"].as_str().map(str::to_owned);
            (key, FIGURES.map(|figure| item[figure].as_u64().unwrap()))
        })
        .collect()
}

/// What is not known is empty there.
fn of_csv(text: &str) -> Groups {
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let place = |name| names.iter().position(|known| *known == name).unwrap();
    lines
        .map(|line| {
            let key = Some(line[place("key")]).filter(|key| !key.is_empty());
            (
                key.map(str::to_owned),
                FIGURES.map(|figure| line[place(figure)].parse().unwrap()),
            )
        })
        .collect()
}

#[test]
fn flows_sum_up_by_user_process_error_and_tag() {
    let world = captured();
    for (by, filter, expected) in [
        (
            "user",
            "",
            &[
                (Some("ada"), [4, 0, 3500, 0, 0]),
                (Some("bob"), [2, 10, 11, 1, 1]),
            ][..],
        ),
        ("user", "status:404", &[(Some("bob"), [1, 10, 11, 1, 0])]),
        (
            "process",
            "method:GET status:200",
            &[(Some("curl"), [3, 0, 3000, 0, 0])],
        ),
        (
            "error",
            "",
            &[
                (None, [5, 10, 3511, 1, 0]),
                (Some("refused"), [1, 0, 0, 0, 1]),
            ],
        ),
        // A flow with two tags is in both groups.
        (
            "tag",
            "",
            &[
                (None, [4, 10, 1511, 1, 1]),
                (Some("gold"), [1, 0, 1000, 0, 0]),
                (Some("slow"), [2, 0, 2000, 0, 0]),
            ],
        ),
        ("tag", "host:nobody", &[]),
    ] {
        let expected: Groups = expected
            .iter()
            .map(|(key, figures)| (key.map(str::to_owned), *figures))
            .collect();
        let ask = |form| ["stats", "--by", by, filter, form];
        let document = world.json(&ask("--json"));
        assert_eq!(of_json(&document), expected, "{by} {filter}: {document}");
        assert_eq!(document["by"], by);
        let csv = world.done(&ask("--csv"));
        assert_eq!(of_csv(&csv), expected, "{by} {filter}: {csv}");
        // A flow is counted once in all of them together.
        let flows = world.json(&["flows", filter, "--json"])["total"].clone();
        assert_eq!(document["total"]["flows"], flows, "{by} {filter}");
    }
    let spans = world.json(&["stats", "--by", "user", "--json"])["items"][0]["duration_ms"].clone();
    let (half, most) = (
        spans["p50"].as_f64().unwrap(),
        spans["p95"].as_f64().unwrap(),
    );
    assert!(half > 0.0 && half <= most, "{spans}");
    let unknown = world.oriel(&["stats", "--by", "colour"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(2), ""));
}
