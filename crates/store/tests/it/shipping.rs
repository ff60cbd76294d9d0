//! What a machine records is copied to an archive, once each, whatever happens meanwhile. The archive
//! here is another file; PostgreSQL and ClickHouse have tests of their own.
#![expect(
    clippy::disallowed_methods,
    reason = "it waits for another thread, with a deadline"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use oriel_store::{
    EndRun, FlowRecord, FlowState, Keep, Location, Marker, Origin, Reader, Redaction, Remover,
    Shipper, ShipperOptions, ShipperState, ShipperStatus, Store, StoreOptions, file_status,
    forget_archive,
};
use rusqlite::Connection;
use traffic::{AttributionError, ConnectionFacts, ProcessCell, Timestamp};

use crate::script::{Place, START, Script, client, on_connections, upstream};

const PATIENCE: Duration = Duration::from_secs(20);

fn ship(place: &Place, archive: &Path) -> Shipper {
    Shipper::start(ShipperOptions {
        file: place.path(),
        archive: Location::File(archive.to_owned()),
        origin: Origin {
            instance: Some("laptop".to_owned()),
            user: Some("dana".to_owned()),
            tags: vec!["team-a".to_owned()],
        },
    })
    .unwrap()
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
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn all(path: &Path) -> Vec<FlowRecord> {
    let records = Reader::open(path)
        .unwrap()
        .records(Marker::default(), 10_000);
    records.unwrap().flows
}

fn archive_of(place: &Place) -> PathBuf {
    place.folder.path().join("archive/oriel.db")
}

#[test]
fn everything_goes_and_is_whose_the_settings_say() {
    let place = Place::new();
    let archive = archive_of(&place);
    let shipper = ship(&place, &archive);
    place.record(Script::new(1).events());
    let mut events = Script::new(2).events();
    let ending = events.split_off(4);
    place.record(events);
    place.flush();
    wait_for(&shipper, |status| status.copied == 2);
    let open = all(&archive);
    assert_eq!(open[1].detail.row.state, FlowState::Open);
    assert_eq!(open[0].run.origin.instance.as_deref(), Some("laptop"));

    place.record(ending);
    let end = EndRun {
        ended_at: Timestamp(START + 9),
        exit_code: Some(0),
        signal: None,
    };
    place.store.end_run(place.run, end).unwrap();
    let status = shipper.stop(PATIENCE);
    assert_eq!(status.state, ShipperState::Stopped);
    assert_eq!((status.copied, status.refused), (3, 0));
    assert_eq!(status.last_error, None);
    let copied = all(&archive);
    let original = all(&place.path());
    assert_eq!(copied.len(), 2);
    for (copied, original) in copied.iter().zip(&original) {
        assert_eq!(copied.detail, original.detail);
        assert_eq!(copied.response_body, original.response_body);
        assert_eq!(copied.run.ended_at, Some(Timestamp(START + 9)));
        assert_eq!(copied.run.origin.tags, ["team-a"]);
    }
}

#[test]
fn an_archive_that_is_away_gets_everything_once_it_is_back() {
    let place = Place::new();
    let archive = archive_of(&place);
    // A file where its folder should be.
    let in_the_way = place.folder.path().join("archive");
    fs::write(&in_the_way, "").unwrap();
    let shipper = ship(&place, &archive);
    for flow in 1..=50 {
        place.record(Script::new(flow).events());
    }
    place.flush();
    let status = wait_for(&shipper, |status| {
        status.state == ShipperState::Failing && status.depth == 50
    });
    assert!(status.outbox_bytes > 0 && status.copied == 0);
    let (_, error) = status.last_error.unwrap();
    assert!(error.contains("archive"), "{error}");

    fs::remove_file(&in_the_way).unwrap();
    place.record(Script::new(51).events());
    place.flush();
    let status = wait_for(&shipper, |status| status.depth == 0 && status.copied >= 51);
    assert_eq!(status.copied, 51, "each once");
    assert_eq!(all(&archive).len(), 51);
    shipper.stop(PATIENCE);
}

/// Removes all flows that no archive awaits; answers how many went and how many stay for one.
fn prune(place: &Place) -> (u64, u64) {
    let keep = Keep {
        flows_since: Some(Timestamp(i64::MAX)),
        ..Keep::default()
    };
    let mut remover = Remover::open(&place.path()).unwrap();
    let removal = remover.remove(&keep, |_| true).unwrap();
    (removal.flows, removal.awaited)
}

#[test]
fn nothing_stays_for_an_archive_that_was_never_reached() {
    let place = Place::new();
    let archive = archive_of(&place);
    let in_the_way = place.folder.path().join("archive");
    fs::write(&in_the_way, "").unwrap();
    place.record(Script::new(1).events());
    place.flush();
    let shipper = ship(&place, &archive);
    wait_for(&shipper, |status| status.state == ShipperState::Failing);
    assert_eq!(file_status(&place.path()).unwrap().archives, []);
    assert_eq!(prune(&place), (1, 0));

    // Once it has something, the rest stays for it.
    place.record(Script::new(2).events());
    place.flush();
    fs::remove_file(&in_the_way).unwrap();
    wait_for(&shipper, |status| status.copied == 1 && status.depth == 0);
    shipper.stop(PATIENCE);
    place.record(Script::new(3).events());
    place.flush();
    assert_eq!(prune(&place), (1, 1));
}

#[test]
fn an_archive_that_is_forgotten_keeps_nothing_back() {
    let place = Place::new();
    let archive = archive_of(&place);
    let name = archive.to_str().unwrap();
    place.record(Script::new(1).events());
    place.flush();
    let shipper = ship(&place, &archive);
    wait_for(&shipper, |status| status.copied == 1);
    // Who copies goes on from where it was.
    assert!(forget_archive(&place.path(), name).unwrap());
    assert!(!forget_archive(&place.path(), name).unwrap());
    place.record(Script::new(2).events());
    place.flush();
    wait_for(&shipper, |status| status.copied == 2);
    assert_eq!(shipper.stop(PATIENCE).last_error, None);
    assert_eq!(all(&archive).len(), 2);

    place.record(Script::new(3).events());
    place.flush();
    let file = Connection::open(place.path()).unwrap();
    file.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 11000)
         INSERT INTO flow_changes (flow) SELECT min(id) FROM n, flows GROUP BY i",
    )
    .unwrap();
    assert_eq!(prune(&place), (0, 3));
    let status = file_status(&place.path()).unwrap();
    assert_eq!(status.awaiting().collect::<Vec<_>>(), [name]);
    assert!(forget_archive(&place.path(), name).unwrap());
    let changes: i64 = file
        .query_row("SELECT count(*) FROM flow_changes", (), |row| row.get(0))
        .unwrap();
    assert_eq!(changes, 10_000);
    assert_eq!(prune(&place), (3, 0));
}

#[test]
fn an_archive_that_an_older_oriel_never_reached_is_not_waited_for() {
    let place = Place::new();
    place.record(Script::new(1).events());
    place.flush();
    let file = Connection::open(place.path()).unwrap();
    file.execute_batch(
        "INSERT INTO archives (name, arrival, begun, begun_row, change, gap, acknowledged)
           VALUES ('mistyped', 0, 0, 0, 0, 0, NULL), ('reached', 0, 0, 0, 0, 0, 1);",
    )
    .unwrap();
    file.execute_batch(include_str!("../../migrations/0007_mistyped_archives.sql"))
        .unwrap();
    let status = file_status(&place.path()).unwrap();
    assert_eq!(status.awaiting().collect::<Vec<_>>(), ["reached"]);
}

#[test]
fn a_flow_that_cannot_be_read_keeps_no_other_back() {
    let place = Place::new();
    let archive = archive_of(&place);
    let write = |flow: u64| {
        let mut script = Script::new(flow);
        let byte = flow.to_le_bytes()[0];
        script.response_body = vec![vec![byte; 9000].into()];
        place.record(script.events());
        place.flush();
    };
    (1..=3).for_each(write);
    let file = Connection::open(place.path()).unwrap();
    let damage = |seq: i64| {
        let sql = "UPDATE bodies SET data = x'00ff' WHERE id =
             (SELECT response_body FROM flows WHERE seq = ?1)";
        assert_eq!(file.execute(sql, [seq]).unwrap(), 1);
    };
    damage(2);
    let shipper = ship(&place, &archive);
    let status = wait_for(&shipper, |status| status.copied == 2 && status.depth == 0);
    assert_eq!(status.unreadable, 1);
    let (_, error) = status.last_error.unwrap();
    assert!(error.contains(&place.flow(2).to_string()), "{error}");
    // The next batch has nothing else.
    shipper.stop(PATIENCE);
    write(4);
    damage(4);
    let status = ship(&place, &archive).stop(PATIENCE);
    assert_eq!((status.copied, status.unreadable), (0, 1));
    let seqs: Vec<u64> = all(&archive)
        .iter()
        .map(|flow| flow.detail.row.id.seq)
        .collect();
    assert_eq!(seqs, [1, 3]);
    let summary = Reader::open(&archive).unwrap().summary(place.run).unwrap();
    assert_eq!(summary.lost_events, 2);
    assert_eq!(prune(&place), (4, 0), "nothing waits");
}

#[test]
fn a_process_that_is_found_late_is_stored_and_copied_although_nothing_else_comes() {
    let place = Place::new();
    let archive = archive_of(&place);
    let shipper = ship(&place, &archive);
    let known = ProcessCell::default();
    let facts = Arc::new(ConnectionFacts {
        process: Some(known.clone()),
        ..ConnectionFacts::clone(&client())
    });
    for flow in 1..=2 {
        let events = Script::new(flow).events();
        place.record(on_connections(events, &facts, &upstream()));
        place.flush();
    }
    wait_for(&shipper, |status| status.copied == 2);
    known.set(Err(AttributionError::NotLocal));
    wait_for(&shipper, |status| status.copied == 4);
    shipper.stop(PATIENCE);
    for path in [&place.path(), &archive] {
        for flow in all(path) {
            let client = flow.detail.client.unwrap();
            assert_eq!(client.no_process.as_deref(), Some("not_local"));
        }
    }
    let file = Connection::open(place.path()).unwrap();
    let changes: i64 = file
        .query_row("SELECT count(*) FROM flow_changes", (), |row| row.get(0))
        .unwrap();
    assert_eq!(changes, 2, "once each");
}

#[test]
fn what_was_copied_is_not_copied_again_by_the_next() {
    let place = Place::new();
    let archive = archive_of(&place);
    place.record(Script::new(1).events());
    place.flush();
    let first = ship(&place, &archive).stop(PATIENCE);
    assert_eq!(first.copied, 1);
    for flow in 2..=4 {
        place.record(Script::new(flow).events());
    }
    place.flush();
    let second = ship(&place, &archive).stop(PATIENCE);
    assert_eq!(second.copied, 3);
    assert_eq!(all(&archive).len(), 4);
}

#[test]
fn a_batch_whose_acknowledgement_was_lost_counts_once() {
    let place = Place::new();
    let archive = archive_of(&place);
    for flow in 1..=10 {
        place.record(Script::new(flow).events());
    }
    place.flush();
    ship(&place, &archive).stop(PATIENCE);
    // As after a crash between the archive's commit and ours.
    let file = Connection::open(place.path()).unwrap();
    file.execute("UPDATE archives SET arrival = 0, change = 0", ())
        .unwrap();
    file.execute("DELETE FROM archived_runs", ()).unwrap();
    assert_eq!(ship(&place, &archive).stop(PATIENCE).copied, 10);
    assert_eq!(all(&archive).len(), 10);
}

#[test]
fn of_two_on_one_file_one_copies() {
    let place = Place::new();
    let archive = archive_of(&place);
    place.record(Script::new(1).events());
    place.flush();
    let first = ship(&place, &archive);
    wait_for(&first, |status| status.copied == 1);
    let second = ship(&place, &archive);
    wait_for(&second, |status| status.state == ShipperState::Elsewhere);
    // It takes over when the other ends.
    first.stop(PATIENCE);
    place.record(Script::new(2).events());
    place.flush();
    wait_for(&second, |status| status.copied == 1);
    second.stop(PATIENCE);
    assert_eq!(all(&archive).len(), 2);
}

#[test]
fn changes_wait_for_an_archive_when_others_are_forgotten() {
    let place = Place::new();
    let archive = archive_of(&place);
    ship(&place, &archive).stop(PATIENCE);
    place.record(Script::new(1).events());
    place.flush();
    let file = Connection::open(place.path()).unwrap();
    file.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 11000)
         INSERT INTO flow_changes (flow) SELECT flows.id FROM n, flows",
    )
    .unwrap();
    let count = || {
        let sql = "SELECT count(*) FROM flow_changes";
        file.query_row(sql, (), |row| row.get::<_, i64>(0)).unwrap()
    };
    let path = place.path();
    let reopen = || {
        let store = Store::open(&path, StoreOptions::new(Redaction::Basic));
        store.unwrap().close().unwrap();
    };
    reopen();
    assert_eq!(count(), 11_000);
    ship(&place, &archive).stop(PATIENCE);
    reopen();
    assert_eq!(count(), 10_000);
}

#[test]
fn losses_are_told_to_the_archive() {
    let place = Place::new();
    let archive = archive_of(&place);
    place.record(Script::new(1).events());
    place.flush();
    let file = Connection::open(place.path()).unwrap();
    file.execute(
        "INSERT INTO gaps (run_id, at, reason, events, body_bytes) VALUES (?1, 5, 'queue_full', 7, 70)",
        [place.run.as_str()],
    )
    .unwrap();
    ship(&place, &archive).stop(PATIENCE);
    ship(&place, &archive).stop(PATIENCE);
    let reader = Reader::open(&archive).unwrap();
    assert_eq!(reader.summary(place.run).unwrap().lost_events, 7);
}
