//! `oriel serve`: starts, says how it is, stops; and says why when it cannot.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::upstream::{HELLO, answering};
use crate::world::{Printed, World, mode, send};

fn ask(admin: SocketAddr, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn serves_says_how_it_is_and_stops() {
    let world = World::new();
    let mut service = world.serve(&["--admin", "127.0.0.1:0"]);
    let admin = service.admin.unwrap();
    let host = admin.to_string();
    assert!(ask(admin, "/healthz", &host).ends_with("\r\n\r\nok\n"));
    let status = ask(admin, "/status", &host);
    let status: serde_json::Value =
        serde_json::from_str(status.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(status["schema"], "oriel.status/1");
    assert_eq!(status["listeners"][0]["addr"], service.proxy.to_string());
    let metrics = ask(admin, "/metrics", &host);
    assert!(metrics.contains("Content-Type: application/openmetrics-text; version=1.0.0"));
    assert!(
        metrics.contains("\noriel_connections_active 0\n"),
        "{metrics}"
    );
    assert!(metrics.contains("\noriel_store_lost_events_total 0\n"));
    assert!(metrics.ends_with("\n# EOF\n"));
    assert!(ask(admin, "/status", "evil.test").starts_with("HTTP/1.1 421"));

    let url = format!("http://{}/through", answering(HELLO));
    let proxy = format!("http://{}", service.proxy);
    let curl = std::process::Command::new("curl")
        .args(["-s", "--noproxy", "", "-x", &proxy, &url])
        .output()
        .unwrap();
    assert_eq!(curl.stdout, b"hello\n");
    let metrics = ask(admin, "/metrics", &host);
    let flow = "oriel_flows_total{route=\"tunnel\",protocol=\"http1\",outcome=\"completed\"} 1";
    assert!(metrics.lines().any(|line| line == flow), "{metrics}");
    // The admin port is not reachable through the proxy.
    let through = std::process::Command::new("curl")
        .args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--noproxy",
            "",
            "-x",
            &proxy,
        ])
        .arg(format!("http://{admin}/status"))
        .output()
        .unwrap();
    assert_eq!(through.stdout, b"508");

    assert_eq!(service.stop(), Some(0));
    let list = world.json(&["flows", "--json", "path:/through"]);
    assert_eq!(list["total"], 1, "{list}");
    let data = world.path(".local/share/oriel");
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("oriel.db")), 0o600);
    assert_eq!(mode(&data.join("ca/authority.pem")), 0o600);
}

fn fails(world: &World, arguments: &[&str]) -> Printed {
    let mut all = vec!["serve", "--json", "--admin", "off"];
    all.extend(arguments);
    world.oriel(&all)
}

#[test]
fn a_port_in_use_is_told_with_its_holder() {
    let world = World::new();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let printed = fails(&world, &["--listen", &address]);
    assert_eq!(printed.code, Some(6));
    let error = printed.error();
    assert_eq!(error["code"], "ORL0103");
    let pid = format!("(pid {})", std::process::id());
    assert!(error["why"].as_str().unwrap().contains(&pid), "{error}");
    assert_eq!(error["exit_code"], 6);
    // A service that could not start leaves no run behind.
    assert_eq!(world.json(&["flows", "--json"])["total"], 0);
}

#[test]
fn an_unwritable_data_folder_is_told() {
    let world = World::new();
    world.file("a-file", "");
    let printed = fails(&world, &["--listen", "127.0.0.1:0", "--data", "a-file"]);
    assert_eq!(printed.code, Some(7));
    assert_eq!(printed.error()["code"], "ORL0702");
}

#[test]
fn exposure_must_be_asked_for_by_name() {
    let world = World::new();
    let printed = fails(&world, &["--listen", "0.0.0.0:0"]);
    assert_eq!(printed.code, Some(4));
    assert_eq!(printed.error()["code"], "ORL0102");
    let printed = world.oriel(&[
        "serve",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "0.0.0.0:0",
    ]);
    assert_eq!(printed.code, Some(4));
    assert_eq!(printed.error()["code"], "ORL0104");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let world = World::new();
    world.oriel(&["ca", "show"]);
    let key = world.path(".local/share/oriel/ca/authority.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let printed = fails(&world, &["--listen", "127.0.0.1:0"]);
    assert_eq!(printed.code, Some(4));
    let error = printed.error();
    assert_eq!(error["code"], "ORL0301");
    assert_eq!(error["fix"][0], format!("chmod 600 {}", key.display()));
}

#[test]
fn half_an_authority_is_refused() {
    let world = World::new();
    let printed = world
        .command(&["serve", "--json", "--listen", "127.0.0.1:0"])
        .env("ORIEL_CA_CERT", "somewhere.pem")
        .output()
        .unwrap();
    assert_eq!(Printed::of(printed).error()["code"], "ORL0304");
}

#[test]
fn other_names_of_variables_are_honoured() {
    let world = World::new();
    let printed = world
        .command(&["config", "show", "--json"])
        .env("LISTEN_ADDR", "127.0.0.1:7777")
        .env("ALLOWLIST_HOSTS", "a.test,b.test")
        .output()
        .unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(shown["items"][0]["value"], "127.0.0.1:7777");
    assert_eq!(shown["items"][1]["value"][1], "b.test");
    assert_eq!(shown["items"][1]["origin"], "env ALLOWLIST_HOSTS");
}

#[test]
fn a_port_named_with_a_host_may_be_asked_for() {
    let world = World::new();
    let upstream = answering(HELLO);
    let status = |service: &crate::world::Service| {
        let proxy = format!("http://{}", service.proxy);
        let told = std::process::Command::new("curl")
            .args([
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_connect} %{http_code}",
            ])
            .args(["--noproxy", "", "--proxytunnel", "-x", &proxy])
            .arg(format!("http://{upstream}/"))
            .output()
            .unwrap();
        String::from_utf8(told.stdout).unwrap()
    };
    let mut closed = world.serve(&["--admin", "off", "--intercept", "127.0.0.1"]);
    assert_eq!(status(&closed), "403 000");
    assert_eq!(closed.stop(), Some(0));
    let mut open = world.serve(&["--admin", "off", "--intercept", &upstream.to_string()]);
    assert_eq!(status(&open), "200 200");
    assert_eq!(open.stop(), Some(0));
}

#[test]
fn a_second_signal_does_not_wait() {
    let world = World::new();
    let mut service = world.serve(&["--admin", "off"]);
    // A tunnel that nobody closes would hold a stop up for the whole drain deadline.
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap();
    let mut client = TcpStream::connect(service.proxy).unwrap();
    write!(
        client,
        "GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\n\r\n"
    )
    .unwrap();
    let _held = upstream.accept().unwrap();
    let began = tokio::time::Instant::now();
    send(&service.child, Signal::TERM);
    send(&service.child, Signal::INT);
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn what_is_beyond_a_limit_is_told_to_come_again() {
    let world = World::new();
    world.file(
        ".config/oriel/config.toml",
        "[limits]\nconnections_per_client_max = 1\n",
    );
    let service = world.serve(&["--admin", "off"]);
    let mut first = TcpStream::connect(service.proxy).unwrap();
    first.write_all(b"GET http://").unwrap();
    // Until the first one is accepted the second may be served.
    for _ in 0..100 {
        let mut second = TcpStream::connect(service.proxy).unwrap();
        let host = service.proxy;
        write!(
            second,
            "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        second.read_to_string(&mut answer).unwrap();
        if answer.starts_with("HTTP/1.1 503 ") {
            assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
            return;
        }
    }
    panic!("it is served as if it were the first");
}
