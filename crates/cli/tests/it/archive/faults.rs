//! PostgreSQL goes away under traffic, or is slow: nobody who asks notices, and each flow arrives once.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use testbed::faults::{BadNetwork, Fault, Faults};
use testbed::postgres::PostgresCluster;

use super::{list, wait_for};
use crate::upstream::{HELLO, answering};
use crate::world::{Printed, Service, World};

/// How long the server is away.
const AWAY: Duration = Duration::from_secs(3);
/// What passes between oriel and a slow server is held so long, each piece and either way.
const HELD: Duration = Duration::from_millis(35);
/// A request takes milliseconds; a machine that is busy with other tests may take longer.
const SECONDS_MAX: f64 = 2.0;

fn serve(world: &World, url: &str) -> Service {
    let mut command = world.serve_command(&["--admin", "127.0.0.1:0"]);
    command.env("ORIEL_DATABASE_URL", url);
    Service::start(command)
}

/// Asks so many times, at so many a second; each answer is a line with its status and how long it took.
fn load(service: &Service, requests: u32, rate: &str) -> Child {
    let url = format!("http://{}/hello?n=[1-{requests}]", answering(HELLO));
    let proxy = format!("http://{}", service.proxy);
    Command::new("curl")
        .args(["-sS", "--noproxy", "", "-x", &proxy, "-o", "/dev/null"])
        .args(["-w", "%{http_code} %{time_total}\n", "--rate", rate, &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Each request was answered, and at once.
fn assert_answered(load: Child, requests: usize) {
    let printed = Printed::of(load.wait_with_output().unwrap()).succeeded();
    assert_eq!(printed.stdout.lines().count(), requests);
    for line in printed.stdout.lines() {
        let (status, seconds) = line.split_once(' ').unwrap();
        assert_eq!(status, "200");
        let seconds: f64 = seconds.parse().unwrap();
        assert!(seconds < SECONDS_MAX, "{}", printed.stdout);
    }
}

/// The archive has each of so many flows once, with its end.
fn assert_arrived(url: &str, requests: usize) {
    let other = World::new();
    let archived = [("ORIEL_DATABASE_URL", url)];
    let flows = list(
        &other,
        &["flows", "state:completed", "--json", "-n", "1000"],
        &archived,
    );
    let rows = flows["items"].as_array().unwrap();
    let urls: BTreeSet<&str> = rows
        .iter()
        .map(|row| row["url"].as_str().unwrap())
        .collect();
    assert_eq!((rows.len(), urls.len()), (requests, requests));
    let all = list(&other, &["flows", "--json"], &archived);
    assert_eq!(all["total"], requests, "{all}");
}

#[test]
fn postgresql_is_away_under_traffic_and_nobody_notices() {
    let mut cluster = PostgresCluster::start().unwrap();
    let world = World::new();
    let url = cluster.url("postgres");
    let mut service = serve(&world, &url);
    let admin = service.admin.unwrap();
    let load = load(&service, 160, "25/s");
    wait_for(admin, |archive| archive["copied_flows"].as_u64() > Some(5));

    cluster.stop().unwrap();
    let failing = wait_for(admin, |archive| {
        archive["state"] == "failing" && archive["waiting_flows"].as_u64() > Some(5)
    });
    assert!(failing["last_error"].is_string(), "{failing}");
    let said = world.oriel(&["status"]).succeeded().stdout;
    for part in [" flows wait in ", "cannot copy now: "] {
        assert!(said.contains(part), "{said}");
    }
    sleep(AWAY);
    cluster.start_server().unwrap();

    assert_answered(load, 160);
    wait_for(admin, |archive| {
        archive["state"] == "idle" && archive["waiting_flows"] == 0
    });
    let said = world.oriel(&["status"]).succeeded().stdout;
    assert!(said.contains("has everything"), "{said}");
    assert!(!said.contains("cannot copy"), "{said}");
    assert_eq!(service.stop(), Some(0));
    assert_arrived(&url, 160);
}

#[test]
fn a_slow_postgresql_slows_nobody() {
    let cluster = PostgresCluster::start().unwrap();
    let held = Fault {
        delay: HELD,
        ..Fault::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let faults = Faults {
        to_upstream: held,
        to_client: held,
    };
    let network = runtime
        .block_on(BadNetwork::start(cluster.address(), faults))
        .unwrap();
    let near = cluster.url("postgres");
    let slow = near.replace(
        &cluster.address().to_string(),
        &network.address().to_string(),
    );
    assert_ne!(near, slow);

    let world = World::new();
    let mut service = serve(&world, &slow);
    let admin = service.admin.unwrap();
    let load = load(&service, 100, "50/s");
    wait_for(admin, |archive| {
        archive["waiting_flows"].as_u64() > Some(20)
    });
    assert_answered(load, 100);
    let archive = wait_for(admin, |archive| {
        archive["copied_flows"].as_u64() >= Some(100) && archive["waiting_flows"] == 0
    });
    assert!(archive["last_error"].is_null(), "{archive}");
    assert_eq!(service.stop(), Some(0));
    assert_arrived(&near, 100);
}
