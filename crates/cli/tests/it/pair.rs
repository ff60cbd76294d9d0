//! A gateway between two sides of oriel: what its clients ask, and what it asks in turn.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::upstream::{HELLO, answering};
use crate::world::{Printed, World};

/// A gateway that asks a provider through the proxy whatever it is asked, and answers the same.
struct Gateway {
    address: SocketAddr,
    proxy: Arc<OnceLock<SocketAddr>>,
}

impl Gateway {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Arc::new(OnceLock::<SocketAddr>::new());
        let (known, provider) = (Arc::clone(&proxy), answering(HELLO));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 4096];
                let length = stream.read(&mut head).unwrap();
                let text = String::from_utf8_lossy(&head[..length]);
                let path = text.split(' ').nth(1).unwrap().to_owned();
                let mut curl = Command::new("curl");
                if let Some(proxy) = known.get() {
                    curl.args(["--noproxy", "", "-x", &format!("http://{proxy}")]);
                }
                let answer = curl
                    .args(["-s", "-H", "User-Agent: gateway"])
                    .arg(format!("http://{provider}{path}"))
                    .output()
                    .unwrap();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    answer.stdout.len()
                );
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(&answer.stdout).unwrap();
            }
        });
        Self { address, proxy }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// The direction of each flow with its path, in the order of time.
fn directions(world: &World) -> Vec<(String, String)> {
    let list = world.json(&["flows", "--json", "--reverse"]);
    let items = list["items"].as_array().unwrap();
    let shown = items.iter().map(|item| {
        let id = item["id"].as_str().unwrap();
        let flow = world.json(&["flows", "show", id, "--json"]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&flow["client"]["proxy_direction"]),
            text(&item["path"]),
        )
    });
    shown.collect()
}

/// What a client asks a gateway, and what that asks a provider.
fn both(path: &str) -> Vec<(String, String)> {
    ["reverse", "forward"]
        .map(|direction| (direction.to_owned(), path.to_owned()))
        .to_vec()
}

fn address(status: &Value, kind: &str) -> SocketAddr {
    let listeners = status["listeners"].as_array().unwrap();
    let found = listeners.iter().find(|one| one["kind"] == kind).unwrap();
    found["addr"].as_str().unwrap().parse().unwrap()
}

const ASK_GATEWAY: &str = "curl -s \"$OPENAI_BASE_URL/models\"; env >&2";

#[test]
fn both_sides_of_a_gateway_are_seen() {
    let world = World::new();
    let gateway = Gateway::start();
    let start = [
        "start",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "off",
    ];
    let pair = ["--pair", &gateway.url(), "--pair-listen", "127.0.0.1:0"];
    let status = world.json(&[&start[..], &pair[..]].concat());
    gateway.proxy.set(address(&status, "proxy")).unwrap();
    let front = address(&status, "reverse");
    assert_eq!(status["listeners"][1]["to"], gateway.url());

    // A command that knows no proxy is sent there by its base URL; it is the service that records.
    let run = [
        "run",
        "--env-mode",
        "base-url",
        "--",
        "sh",
        "-c",
        ASK_GATEWAY,
    ];
    let printed = world.oriel(&run);
    assert_eq!(printed.stdout, "hello\n", "{}", printed.stderr);
    let variable = format!("ANTHROPIC_BASE_URL=http://{front}\n");
    assert!(printed.stderr.contains(&variable), "{}", printed.stderr);
    assert!(!printed.stderr.contains("HTTPS_PROXY="));
    assert!(!printed.stderr.contains("No traffic"), "{}", printed.stderr);

    // A restart keeps both places.
    let restarted = world.json(&["restart", "--json"]);
    assert_eq!(restarted["listeners"], status["listeners"]);
    world.oriel(&["stop"]).succeeded();
    assert_eq!(directions(&world), both("/v1/models"));
}

#[test]
fn a_run_has_a_place_in_front_of_a_gateway_of_its_own() {
    let world = World::new();
    let gateway = Gateway::start();
    let run = ["run", "--env-mode", "both", "--pair", &gateway.url()];
    let printed = world.oriel(&[&run[..], &["--", "sh", "-c", ASK_GATEWAY][..]].concat());
    assert_eq!(printed.stdout, "hello\n", "{}", printed.stderr);
    assert!(printed.stderr.contains("\nHTTPS_PROXY="));
    let one_side = [("reverse".to_owned(), "/v1/models".to_owned())];
    assert_eq!(directions(&world), one_side);
}

#[test]
fn base_urls_without_a_gateway_are_refused() {
    let world = World::new();
    let refused = world
        .command(&["run", "--json", "--env-mode", "base-url", "--", "true"])
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let refused = Printed::of(refused);
    assert_eq!(refused.code, Some(125));
    assert_eq!(refused.error()["code"], "ORL0205");
    assert_eq!(world.json(&["flows", "--json"])["total"], 0);
}

#[test]
fn base_urls_that_are_not_used_are_the_reason_that_is_told() {
    let world = World::new();
    let gateway = Gateway::start();
    let run = [
        "run",
        "--summary",
        "compact",
        "--env-mode",
        "base-url",
        "--pair",
        &gateway.url(),
    ];
    let printed = world.oriel(&[&run[..], &["--", "true"][..]].concat());
    let told = printed.stderr;
    assert!(told.contains("No traffic reached oriel."), "{told}");
    assert!(told.contains("OPENAI_BASE_URL"), "{told}");
    assert!(told.contains("--env-mode both"), "{told}");
    assert!(!told.contains("HTTPS_PROXY"), "{told}");
}
