//! How a service ends: in order, with what is in flight finished; or killed, with the record whole.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;
use testbed::gate::Gate;
use testbed::script::Step;
use testbed::upstream::{Protocols, UpstreamOptions};
use tokio::time::Instant;

use crate::site::{NAME, Site, flows, only_flow, text};
use crate::world::{Service, World, send};

/// A flow that was answered this long ago must be in the record.
const RECORDED_AFTER: Duration = Duration::from_millis(200);

/// A curl that goes through the service and trusts it.
fn curl(world: &World, service: &Service, arguments: &[&str]) -> Command {
    let trusted = world.path("oriel.pem");
    if !trusted.exists() {
        world
            .oriel(&["ca", "export", "-o", text(&trusted)])
            .succeeded();
    }
    let mut command = Command::new("curl");
    command
        .args([
            "-sS",
            "--noproxy",
            "",
            "-x",
            &format!("http://{}", service.proxy),
        ])
        .args(["--cacert", text(&trusted)])
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// A test that waits for what never comes is to fail, not to hang.
async fn soon<T>(awaited: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, awaited)
        .await
        .expect("it comes within the limit")
}

fn wait_until_refused(service: &Service) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while std::net::TcpStream::connect(service.proxy).is_ok() {
        assert!(Instant::now() < deadline, "it still accepts");
        std::thread::yield_now();
    }
}

#[test]
fn a_stop_lets_what_is_in_flight_finish() {
    let world = World::new();
    let (asked, go) = (Gate::new(), Gate::new());
    let script = vec![
        Step::ReadHead,
        Step::send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        Step::Open(asked.clone()),
        Step::Wait(go.clone()),
        Step::send("world"),
        Step::ReadToEnd,
    ];
    let site = Site::certified(&world, |authority| {
        UpstreamOptions::scripts(Some(authority.issue(&[NAME])), vec![script])
    });
    let mut service = site.serve(&world);
    let child = curl(&world, &service, &[&site.url("/slow")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    site.runtime.block_on(soon(asked.wait()));
    send(&service.child, Signal::TERM);
    wait_until_refused(&service);
    go.open();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"helloworld");
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
    let flow = only_flow(&world);
    assert_eq!(flow["state"], "completed");
    assert_eq!(flow["sizes"]["response_bytes"], 10);
}

/// Asks for one path after the other on one connection until it is stopped, and prints each URL when
/// it was answered.
fn load(world: &World, service: &Service, site: &Site, name: &str) -> Child {
    let urls = site.url(&format!("/bytes/2000?from={name}&number=[1-100000]"));
    curl(
        world,
        service,
        &[
            "--fail-early",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{url_effective}\n",
            &urls,
        ],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .unwrap()
}

#[test]
fn a_kill_under_load_loses_nothing_that_was_answered_before() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Http1);
    let mut service = site.serve(&world);
    let (tell, answers) = mpsc::channel();
    let readers = ["a", "b", "c"].map(|name| {
        let mut child = load(&world, &service, &site, name);
        let tell = tell.clone();
        std::thread::spawn(move || {
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            for line in lines.map_while(Result::ok) {
                let Some(url) = line.strip_prefix("200 ") else {
                    continue;
                };
                // Nobody listens any more if the test has failed.
                let _told = tell.send((Instant::now(), url.to_owned()));
            }
            // It ends because its proxy did.
            let _ended = child.wait();
        })
    });
    drop(tell);
    let mut answered: Vec<(Instant, String)> = Vec::new();
    while answered.len() < 150 || answered[0].0.elapsed() < 3 * RECORDED_AFTER {
        answered.push(answers.recv_timeout(Duration::from_secs(10)).unwrap());
    }
    let killed_at = Instant::now();
    send(&service.child, Signal::KILL);
    service.child.wait().unwrap();
    for reader in readers {
        reader.join().unwrap();
    }

    let recorded: std::collections::HashSet<String> = flows(&world)
        .iter()
        .filter(|flow| flow["state"] == "completed")
        .map(|flow| flow["url"].as_str().unwrap().to_owned())
        .collect();
    let due: Vec<_> = answered
        .iter()
        .filter(|(at, _)| *at + RECORDED_AFTER < killed_at)
        .collect();
    assert!(due.len() > 50, "only {} were due", due.len());
    for (at, url) in due {
        let age = killed_at - *at;
        assert!(
            recorded.contains(url),
            "{url} is lost, answered {age:?} before"
        );
    }
    // The next one opens the same database, writes into it and marks what was cut.
    let again = site.run(&world, &["curl", "-sS", &site.url("/bytes/3?after=1")]);
    assert_eq!(
        (again.code, again.stdout.len()),
        (Some(0), 3),
        "{}",
        again.stderr
    );
    assert!(flows(&world).iter().all(|flow| flow["state"] != "open"));
}
