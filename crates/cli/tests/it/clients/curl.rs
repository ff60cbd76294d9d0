//! curl, which shows more of HTTP than any other client.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use serde_json::json;
use testbed::gate::Gate;
use testbed::script::Step;
use testbed::upstream::{Protocols, UpstreamOptions, Version, pattern};

use crate::site::{NAME, Site, flows, only_flow};
use crate::world::{Printed, World};

fn bytes(start: u64, count: u64) -> Vec<u8> {
    pattern(start, count).flatten().collect()
}

/// Downloads with and without the program between, and gives the flow.
fn same_as_direct(site: &Site, world: &World, flag: &str, path: &str) -> serde_json::Value {
    let url = site.url(path);
    let command = ["curl", "-sS", flag, &url];
    let direct = site.direct(world, &command).output().unwrap();
    let through = site.command(world, &command).output().unwrap();
    assert!(direct.status.success(), "{direct:?}");
    assert_eq!(through.status.code(), direct.status.code());
    assert_eq!(through.stderr, direct.stderr);
    assert!(through.stdout == direct.stdout, "the bodies differ");
    only_flow(world)
}

#[test]
fn http1_output_is_that_of_a_direct_call() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Http1);
    let flow = same_as_direct(&site, &world, "--http1.1", "/bytes/300000?part=1");
    assert_eq!(flow["method"], "GET");
    assert_eq!(flow["url"], site.url("/bytes/300000?part=1"));
    assert_eq!(flow["status"], 200);
    assert_eq!(flow["state"], "completed");
    assert_eq!(
        (&flow["proto"], &flow["upstream_proto"]),
        (&json!("HTTP/1.1"), &json!("HTTP/1.1"))
    );
    assert_eq!(flow["sizes"]["response_bytes"], 300_000);
    assert_eq!(flow["route"]["action"], "intercept");
}

#[test]
fn http2_output_is_that_of_a_direct_call() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let flow = same_as_direct(&site, &world, "--http2", "/bytes/300000");
    assert_eq!(
        (&flow["proto"], &flow["upstream_proto"]),
        (&json!("HTTP/2"), &json!("HTTP/2"))
    );
    assert_eq!(flow["sizes"]["response_bytes"], 300_000);
    assert_eq!(flow["status"], 200);
    let versions: Vec<_> = site.upstream.received().iter().map(|r| r.version).collect();
    assert_eq!(versions, [Version::Http2, Version::Http2]);
}

#[test]
fn plain_http_is_captured() {
    let world = World::new();
    let site = Site::http(&world);
    let flow = same_as_direct(&site, &world, "--http1.1", "/chunked/50000?size=700");
    assert_eq!(flow["url"], site.url("/chunked/50000?size=700"));
    assert_eq!(flow["status"], 200);
    assert_eq!(flow["sizes"]["response_bytes"], 50_000);
    // An upstream is asked in origin form, whatever the proxy was asked in.
    for request in site.upstream.received() {
        assert_eq!(request.target, "/chunked/50000?size=700");
        assert_eq!(request.headers.get("proxy-connection"), None);
    }
}

#[test]
fn a_file_is_uploaded() {
    for protocols in [Protocols::Http1, Protocols::Both] {
        let world = World::new();
        let site = Site::https(&world, protocols);
        std::fs::write(world.path("up"), bytes(0, 400_000)).unwrap();
        let printed = site.run(&world, &["curl", "-sS", "-T", "up", &site.url("/upload")]);
        assert_eq!(
            printed.stdout, "{\"received\":400000}",
            "{}",
            printed.stderr
        );
        assert_eq!(site.received().body.kept, bytes(0, 400_000));
        let flow = only_flow(&world);
        assert_eq!(
            (&flow["method"], &flow["status"]),
            (&json!("PUT"), &json!(200))
        );
        assert_eq!(flow["sizes"]["request_bytes"], 400_000);
    }
}

#[test]
fn an_upload_of_unknown_length_stays_chunked() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Http1);
    let url = site.url("/upload");
    let mut child = site
        .command(&world, &["curl", "-sS", "-T", "-", &url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&bytes(0, 150_000)).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"{\"received\":150000}");
    let request = site.received();
    assert_eq!(request.headers.get("transfer-encoding"), Some("chunked"));
    assert_eq!(request.headers.get("content-length"), None);
    assert_eq!(request.body.kept, bytes(0, 150_000));
    assert_eq!(only_flow(&world)["sizes"]["request_bytes"], 150_000);
}

#[test]
fn a_head_request_has_no_body() {
    for protocols in [Protocols::Http1, Protocols::Both] {
        let world = World::new();
        let site = Site::https(&world, protocols);
        let printed = site.run(&world, &["curl", "-sS", "-I", &site.url("/bytes/123456")]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        let head = printed.stdout.to_ascii_lowercase();
        assert!(head.contains("content-length: 123456\r\n"), "{head}");
        let flow = only_flow(&world);
        assert_eq!(
            (&flow["method"], &flow["status"]),
            (&json!("HEAD"), &json!(200))
        );
        assert_eq!(flow["state"], "completed");
        assert_eq!(flow["sizes"]["response_bytes"], 0);
    }
}

#[test]
fn a_download_is_resumed() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    std::fs::write(world.path("got"), bytes(0, 40_000)).unwrap();
    let url = site.url("/bytes/100000");
    let printed = site.run(&world, &["curl", "-sS", "-C", "-", "-o", "got", &url]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert!(std::fs::read(world.path("got")).unwrap() == bytes(0, 100_000));
    let flow = only_flow(&world);
    assert_eq!(flow["status"], 206);
    assert_eq!(flow["sizes"]["response_bytes"], 60_000);
}

/// Posts two megabytes after asking whether they are welcome. Were an interim response kept back,
/// curl would wait longer than a test may take.
fn post_with_expectation(site: &Site, world: &World) -> Printed {
    std::fs::write(world.path("up"), bytes(0, 2_000_000)).unwrap();
    let url = site.url("/upload");
    let command = [
        "curl",
        "-sSv",
        "--expect100-timeout",
        "60",
        "-H",
        "Expect: 100-continue",
        "--data-binary",
        "@up",
        "-w",
        "%{http_code}",
        &url,
    ];
    site.run(world, &command)
}

#[test]
fn a_body_waits_for_100_continue() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Http1);
    let printed = post_with_expectation(&site, &world);
    assert_eq!(
        printed.stdout, "{\"received\":2000000}200",
        "{}",
        printed.stderr
    );
    assert!(
        printed.stderr.contains("< HTTP/1.1 100 Continue"),
        "{}",
        printed.stderr
    );
    let flow = only_flow(&world);
    assert_eq!(flow["status"], 200);
    assert_eq!(flow["sizes"]["request_bytes"], 2_000_000);
}

#[test]
fn a_body_that_is_not_welcome_is_not_sent() {
    let world = World::new();
    let script = vec![
        Step::ReadHead,
        Step::send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno\n"),
        Step::ReadToEnd,
    ];
    let site = scripted(&world, script);
    let printed = post_with_expectation(&site, &world);
    assert_eq!(printed.stdout, "no\n413", "{}", printed.stderr);
    let played = site.runtime.block_on(site.upstream.wait_for_scripts(1));
    assert!(played[0].received.ends_with(b"\r\n\r\n"), "a body came");
    assert_eq!(only_flow(&world)["status"], 413);
}

fn scripted(world: &World, script: Vec<Step>) -> Site {
    Site::certified(world, |authority| {
        UpstreamOptions::scripts(Some(authority.issue(&[NAME])), vec![script])
    })
}

#[test]
fn events_arrive_as_they_are_sent() {
    let world = World::new();
    let gate = Gate::new();
    let script = vec![
        Step::ReadHead,
        Step::send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
             Transfer-Encoding: chunked\r\n\r\nd\r\ndata: first\n\n\r\n",
        ),
        Step::Wait(gate.clone()),
        Step::send("e\r\ndata: second\n\n\r\n0\r\n\r\n"),
        Step::ReadToEnd,
    ];
    let site = scripted(&world, script);
    let url = site.url("/events");
    let mut child = site
        .command(&world, &["curl", "-sSN", &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "data: first\n");
    gate.open();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "\ndata: second\n\n");
    assert!(child.wait().unwrap().success());
    let flow = only_flow(&world);
    assert_eq!(flow["state"], "completed");
    assert_eq!(flow["sizes"]["response_bytes"], 27);
    let shown = world.oriel(&["flows", "show", "@last.1", "--raw"]);
    assert_eq!(shown.stdout, "data: first\n\ndata: second\n\n");
}

#[test]
fn exit_codes_of_curl_are_our_own() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Http1);
    let code = |path: &str| {
        let url = site.url(path);
        site.run(&world, &["curl", "-sf", "-o", "/dev/null", &url])
            .code
    };
    assert_eq!(code("/status/404"), Some(22));
    // A body that breaks off is never passed on as a whole one.
    assert_eq!(code("/truncate?size=1000"), Some(18));
    let all = flows(&world);
    assert_eq!(all[0]["status"], 404);
    assert_eq!(all[0]["state"], "completed");
    assert_eq!(all[1]["status"], 200);
    assert_eq!(all[1]["state"], "failed");
    assert_eq!(all[1]["error"]["kind"], "closed_early");
    assert_eq!(all[1]["error"]["side"], "upstream");
    let kept = world.oriel(&["flows", "show", "@last.1", "--raw"]);
    assert_eq!(kept.stdout.len(), 500);
}
