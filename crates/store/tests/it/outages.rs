//! An archive goes away, is full, is locked, is slow, refuses the password: recording goes on, and each
//! flow arrives once.
#![expect(
    clippy::disallowed_methods,
    reason = "it waits for another thread, with a deadline"
)]

use std::thread;
use std::time::{Duration, Instant};

use oriel_store::{
    Location, Origin, PostgresArchive, Reader, Shipper, ShipperOptions, ShipperState, ShipperStatus,
};
use testbed::authority::Authority;
use testbed::clickhouse::ClickHouse;
use testbed::postgres::PostgresCluster;

use crate::backends::clients;
use crate::script::{Place, Script};

const PATIENCE: Duration = Duration::from_secs(60);

fn ship(place: &Place, url: String) -> Shipper {
    ship_to(place, Location::Postgres(url))
}

fn ship_to(place: &Place, archive: Location) -> Shipper {
    Shipper::start(ShipperOptions {
        file: place.path(),
        archive,
        origin: Origin::default(),
    })
    .unwrap()
}

/// Waits until the archive does not let us in, and looks that no password is told with that.
fn wait_for_refusal(shipper: &Shipper, said: &str) {
    wait_for(shipper, |status| {
        let told = status.last_error.as_ref();
        told.is_some_and(|(_, error)| error.contains(said))
    });
    let status = shipper.watch().status();
    assert!(!format!("{status:?}").contains("secret"), "{status:?}");
}

fn wait_for(shipper: &Shipper, what: impl Fn(&ShipperStatus) -> bool) -> ShipperStatus {
    let watch = shipper.watch();
    let began = Instant::now();
    loop {
        let status = watch.status();
        if what(&status) {
            return status;
        }
        assert!(began.elapsed() < PATIENCE, "{status:?}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Records flows and waits until the file of this machine has them.
fn record(place: &Place, flows: std::ops::RangeInclusive<u64>) {
    for flow in flows {
        place.record(Script::new(flow).events());
    }
    place.flush();
}

/// Waits until everything is there, and looks whether it is there once.
fn arrived(place: &Place, shipper: Shipper, cluster: &PostgresCluster, database: &str, flows: u64) {
    let copied = Location::Postgres(cluster.url(database));
    each_arrived(place, shipper, &copied, flows);
    let sql = "SELECT count(*), count(DISTINCT seq), min(seq), max(seq) FROM flows";
    let found = cluster.psql(database, sql).unwrap();
    assert_eq!(found.trim_end(), format!("{flows}|{flows}|1|{flows}"));
}

fn arrived_in_clickhouse(place: &Place, shipper: Shipper, server: &ClickHouse, flows: u64) {
    let copied = Location::ClickHouse(server.url("default"));
    each_arrived(place, shipper, &copied, flows);
    let sql = "SELECT count(), uniqExact(seq), min(seq), max(seq) FROM flows FINAL";
    let found = server.query(sql).unwrap();
    assert_eq!(found.trim_end(), format!("{flows}\t{flows}\t1\t{flows}"));
}

/// Waits until everything is copied, and looks whether it is what was recorded.
fn each_arrived(place: &Place, shipper: Shipper, copied: &Location, flows: u64) {
    wait_for(&shipper, |status| {
        status.state == ShipperState::Idle && status.depth == 0 && status.copied >= flows
    });
    let status = shipper.stop(PATIENCE);
    assert_eq!(status.refused, 0);
    let reader = Reader::open(&place.path()).unwrap();
    let copied = Reader::open_at(copied).unwrap();
    for seq in [1, flows / 2, flows] {
        let flow = place.flow(seq);
        assert_eq!(copied.flow(flow).unwrap(), reader.flow(flow).unwrap());
    }
}

fn last_error(shipper: &Shipper) -> String {
    let status = wait_for(shipper, |status| status.state == ShipperState::Failing);
    status.last_error.unwrap().1
}

#[test]
fn a_server_that_crashes_under_load_gets_every_flow_once() {
    let mut cluster = PostgresCluster::start().unwrap();
    let place = Place::new();
    let shipper = ship(&place, cluster.url("postgres"));
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            for part in 0..40 {
                record(&place, part * 25 + 1..=part * 25 + 25);
                thread::park_timeout(Duration::from_millis(20));
            }
        });
        wait_for(&shipper, |status| status.copied > 0);
        cluster.kill().unwrap();
        let error = last_error(&shipper);
        assert!(error.contains("cannot be used now"), "{error}");
        cluster.start_server().unwrap();
        let before = shipper.watch().status().copied;
        wait_for(&shipper, |status| status.copied > before);
        cluster.stop().unwrap();
        load.join().unwrap();
    });
    wait_for(&shipper, |status| {
        status.state == ShipperState::Failing && status.depth > 0
    });
    cluster.start_server().unwrap();
    arrived(&place, shipper, &cluster, "postgres", 1000);
}

#[test]
fn a_clickhouse_that_crashes_under_load_gets_every_flow_once() {
    let mut server = ClickHouse::start(clients()).unwrap();
    let place = Place::new();
    let shipper = ship_to(&place, Location::ClickHouse(server.url("default")));
    for first in [0, 500] {
        thread::scope(|scope| {
            let before = shipper.watch().status().copied;
            let load = scope.spawn(|| {
                for part in 0..40 {
                    record(&place, first + part * 10 + 1..=first + part * 10 + 10);
                    thread::park_timeout(Duration::from_millis(20));
                }
            });
            wait_for(&shipper, |status| status.copied > before);
            server.kill().unwrap();
            record(&place, first + 401..=first + 500);
            let error = last_error(&shipper);
            assert!(error.contains("cannot be used now"), "{error}");
            server.start_server().unwrap();
            load.join().unwrap();
        });
    }
    arrived_in_clickhouse(&place, shipper, &server, 1000);
}

#[test]
fn a_slow_clickhouse_slows_nobody_and_gets_every_flow_once() {
    let server = ClickHouse::start(clients()).unwrap();
    let place = Place::new();
    let shipper = ship_to(&place, Location::ClickHouse(server.url("default")));
    record(&place, 1..=10);
    wait_for(&shipper, |status| status.copied == 10);
    server.answer_slowly(1000).unwrap();
    let began = Instant::now();
    record(&place, 11..=500);
    let recorded = began.elapsed();
    // An insert is several requests: what is recorded does not wait for one.
    let status = shipper.watch().status();
    assert!(status.copied < 500, "{recorded:?} {status:?}");
    wait_for(&shipper, |status| status.copied == 500);
    server.answer_slowly(0).unwrap();
    arrived_in_clickhouse(&place, shipper, &server, 500);
}

#[test]
fn a_clickhouse_with_another_password_keeps_flows_waiting() {
    let server = ClickHouse::start_for(clients(), "writer", "first-secret").unwrap();
    let place = Place::new();
    let shipper = ship_to(&place, Location::ClickHouse(server.url("default")));
    record(&place, 1..=10);
    wait_for(&shipper, |status| status.copied == 10);
    server.change_password("second-secret").unwrap();
    record(&place, 11..=60);
    wait_for_refusal(&shipper, "AUTHENTICATION_FAILED");
    server.change_password("first-secret").unwrap();
    arrived_in_clickhouse(&place, shipper, &server, 60);
}

#[test]
fn a_server_without_a_connection_to_spare_gets_every_flow_later() {
    let cluster = PostgresCluster::start_with(&["max_connections=5"]).unwrap();
    // Those of one URL would share their connections.
    let connect = |number: usize| {
        let url = cluster.url("postgres");
        PostgresArchive::connect(&format!("{url}?fallback_application_name=other{number}"))
    };
    let mut others = Vec::new();
    while let Ok(other) = connect(others.len()) {
        others.push(other);
    }
    assert!((1..=5).contains(&others.len()));
    let place = Place::new();
    let shipper = ship(&place, cluster.url("postgres"));
    record(&place, 1..=100);
    let error = last_error(&shipper);
    assert!(error.contains("too many clients"), "{error}");
    drop(others);
    arrived(&place, shipper, &cluster, "postgres", 100);
}

#[test]
fn a_table_that_is_locked_is_waited_for() {
    let cluster = PostgresCluster::start().unwrap();
    let place = Place::new();
    let shipper = ship(&place, cluster.url("postgres"));
    record(&place, 1..=10);
    wait_for(&shipper, |status| status.copied == 10);
    thread::scope(|scope| {
        let lock = "BEGIN; LOCK TABLE flows; SELECT pg_sleep(2); COMMIT;";
        let locked = scope.spawn(|| cluster.psql("postgres", lock).unwrap());
        let ask = |sql: &str| cluster.psql("postgres", sql).unwrap().trim_end().to_owned();
        let is_locked = "SELECT count(*) FROM pg_locks
            WHERE relation = 'flows'::regclass AND mode = 'AccessExclusiveLock' AND granted";
        while ask(is_locked) != "1" {
            thread::yield_now();
        }
        // Recording does not notice.
        record(&place, 11..=200);
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE application_name = 'oriel' AND wait_event_type = 'Lock'";
        while ask(waiting) != "1" {
            thread::yield_now();
        }
        // As an administrator does who wants the table back.
        ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'oriel'",
        );
        last_error(&shipper);
        locked.join().unwrap();
    });
    arrived(&place, shipper, &cluster, "postgres", 200);
}

#[test]
fn a_password_that_was_changed_is_told_and_keeps_flows_waiting() {
    let cluster = PostgresCluster::start().unwrap();
    let ask = |sql: &str| cluster.psql("postgres", sql).unwrap();
    ask("CREATE ROLE writer LOGIN PASSWORD 'first secret'");
    ask("CREATE DATABASE archive OWNER writer");
    cluster
        .write(
            "pg_hba.conf",
            b"host all writer 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n",
        )
        .unwrap();
    cluster.reload().unwrap();
    let place = Place::new();
    let url = cluster
        .url("archive")
        .replace("oriel@", "writer:first%20secret@");
    let shipper = ship(&place, url);
    record(&place, 1..=10);
    wait_for(&shipper, |status| status.copied == 10);
    ask("ALTER ROLE writer PASSWORD 'second secret'");
    ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'writer'");
    record(&place, 11..=60);
    wait_for_refusal(&shipper, "password authentication failed for user");
    ask("ALTER ROLE writer PASSWORD 'first secret'");
    arrived(&place, shipper, &cluster, "archive", 60);
}

#[test]
fn the_certificate_of_a_server_is_verified_as_sslmode_says() {
    let cluster = PostgresCluster::start().unwrap();
    let authority = Authority::new("database authority");
    let identity = authority.issue(&["127.0.0.1"]);
    cluster
        .write("server.crt", identity.chain_pem().as_bytes())
        .unwrap();
    cluster
        .write("server.key", identity.key_pem().as_bytes())
        .unwrap();
    cluster
        .psql("postgres", "ALTER SYSTEM SET ssl = on")
        .unwrap();
    cluster
        .write(
            "pg_hba.conf",
            b"hostssl postgres all 127.0.0.1/32 trust\nhost template1 all 127.0.0.1/32 trust\n",
        )
        .unwrap();
    cluster.reload().unwrap();
    while cluster.psql("template1", "SHOW ssl").unwrap() != "on\n" {
        thread::yield_now();
    }
    let folder = tempfile::tempdir().unwrap();
    let roots = |name: &str, authority: &Authority| {
        let path = folder.path().join(name);
        std::fs::write(&path, authority.certificate_pem()).unwrap();
        path.display().to_string()
    };
    let known = roots("known.pem", &authority);
    let other = roots("other.pem", &Authority::new("another"));
    let connect = |host: &str, parameters: &str| {
        let url = cluster.url("postgres").replace("127.0.0.1", host);
        PostgresArchive::connect(&format!("{url}?{parameters}"))
    };
    for (host, parameters, works) in [
        ("127.0.0.1", "sslmode=disable".to_owned(), false),
        ("127.0.0.1", "sslmode=prefer".to_owned(), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        (
            "127.0.0.1",
            format!("sslmode=require&sslrootcert={other}"),
            false,
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-ca&sslrootcert={other}"),
            false,
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={other}"),
            false,
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={known}"),
            true,
        ),
        // The certificate is for the address.
        (
            "localhost",
            format!("sslmode=verify-ca&sslrootcert={known}"),
            true,
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={known}"),
            false,
        ),
        ("127.0.0.1", "sslmode=verify-full".to_owned(), false),
        (
            "127.0.0.1",
            "sslmode=verify-full&sslrootcert=/nowhere".to_owned(),
            false,
        ),
    ] {
        let connected = connect(host, &parameters);
        assert_eq!(
            connected.is_ok(),
            works,
            "{host} {parameters} {connected:?}"
        );
    }
}
