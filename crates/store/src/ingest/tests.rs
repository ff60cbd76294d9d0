//! What the writer does when the place fails it: nothing is lost, and it goes on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use traffic::{
    Action, ConnectionFacts, ConnectionId, Event, FlowKind, FlowStarted, Front, Head, NoTls,
    Outcome, Route, Scheme, Target, Timestamp, Version,
};

use super::*;
use crate::spool::Merge;
use crate::{Origin, RunKind, RunRecord, database};

const BODY_BYTES: usize = 50_000;

/// A flow with a body that does not compress.
pub(crate) fn events(number: u64) -> Vec<Event> {
    let flow = FlowId(number);
    let at = Timestamp(1);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut hash = blake3::Hasher::new();
    hash.update(&number.to_le_bytes());
    let mut body = vec![0; BODY_BYTES];
    hash.finalize_xof().fill(&mut body);
    vec![
        Event::FlowStarted(Box::new(FlowStarted {
            flow,
            at,
            kind: FlowKind::Http,
            connection: Arc::new(ConnectionFacts {
                connection: ConnectionId(1),
                client_address: address.into(),
                proxy_address: address.into(),
                accepted_at: at,
                front: Front::OriginForm,
                user: None,
                process: None,
                hello: None,
                tls: Err(NoTls::PlainHttp),
                tls_done_at: None,
            }),
            scheme: Scheme::Http,
            target: Arc::new(Target::from(address)),
            route: Arc::new(Route {
                action: Action::Intercept,
                rule: "all".to_owned(),
            }),
            head: Head {
                version: Version::Http11,
                text: Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"),
            },
        })),
        Event::RequestData {
            flow,
            at,
            data: body.into(),
        },
        Event::FlowEnded {
            flow,
            at,
            outcome: Outcome::Completed,
            tunnelled: None,
        },
    ]
}

fn batch(run: RunId, mut events: Vec<Event>) -> Batch {
    let mut batch = Batch::default();
    batch.push_events(run, &mut events);
    batch
}

fn open() -> (TempDir, RecordFile) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("oriel.db");
    let connection = database::open_for_writing(&path).unwrap();
    (folder, RecordFile::opened(&path, connection))
}

fn orders() -> Orders {
    Orders {
        redaction: Redaction::Basic,
        interpreter: Interpreter::default(),
        rules: Arc::default(),
        spool: None,
    }
}

fn counts(connection: &Connection) -> (i64, i64, i64) {
    connection
        .query_row(
            "SELECT (SELECT count(*) FROM flows), (SELECT count(*) FROM bodies),
               (SELECT count(*) FROM client_connections)",
            (),
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap()
}

#[test]
fn a_full_disk_loses_nothing_that_the_writer_holds() {
    let (_folder, file) = open();
    let connection = file.connection().unwrap();
    let run = RunId::from_random(0);
    let orders = orders();
    let mut writer = Writer::new(&file, &orders).unwrap();
    writer.assemble(&mut batch(run, events(0)));
    writer.store_once(true).unwrap();

    let pages: i64 = connection
        .query_row("PRAGMA page_count", (), |row| row.get(0))
        .unwrap();
    let limit = |pages: i64| {
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), (), |_| Ok(()))
    };
    limit(pages + 8).unwrap();
    for number in 1..5 {
        writer.assemble(&mut batch(run, events(number)));
    }
    for _ in 0..3 {
        let error = writer.store_once(true).unwrap_err();
        assert!(matches!(error, StoreError::DiskFull), "{error:?}");
        assert!(error.is_trouble_of_the_place());
        assert_eq!(counts(connection), (1, 1, 1));
    }
    limit(1_000_000).unwrap();
    writer.store_once(true).unwrap();
    assert_eq!(counts(connection), (5, 5, 5));
    let seqs: i64 = connection
        .query_row("SELECT sum(seq) FROM flows", (), |row| row.get(0))
        .unwrap();
    assert_eq!(seqs, 1 + 2 + 3 + 4 + 5);
}

#[test]
fn a_flow_that_ends_soon_is_written_once() {
    let (_folder, file) = open();
    let connection = file.connection().unwrap();
    let orders = orders();
    let mut writer = Writer::new(&file, &orders).unwrap();
    let run = RunId::from_random(0);
    let shown = || -> (i64, i64, i64) {
        let sql = "SELECT count(*) FILTER (WHERE state = 'open'), count(*), (SELECT count(*) FROM flow_changes)
                   FROM flows";
        let row = connection.query_row(sql, (), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        row.unwrap()
    };
    let [mut soon, mut later] = [events(1), events(2)];
    let (end_soon, end_later) = (soon.split_off(2), later.split_off(2));
    writer.assemble(&mut batch(run, soon));
    writer.assemble(&mut batch(run, later));
    writer.store_once(false).unwrap();
    assert_eq!(shown(), (0, 0, 0));
    assert!(writer.has_other_work() && writer.patience() == Some(GATHER));
    writer.assemble(&mut batch(run, end_soon));
    writer.store_once(false).unwrap();
    assert_eq!(shown(), (1, 2, 0), "the other one waited long enough");
    assert!(!writer.has_other_work() && writer.patience().is_none());
    writer.assemble(&mut batch(run, end_later));
    writer.store_once(false).unwrap();
    assert_eq!(shown(), (0, 2, 1));

    // What is open is stored at once if somebody waits for that, if its body is to leave the memory, and
    // before the writer ends.
    writer.assemble(&mut batch(run, events(3)[..1].to_vec()));
    writer.store_once(true).unwrap();
    assert_eq!(shown().0, 1);
    let mut large = events(4);
    large.truncate(1);
    large.push(Event::RequestData {
        flow: FlowId(4),
        at: Timestamp(1),
        data: vec![1; OPEN_BODY_BYTES_MAX + 1].into(),
    });
    writer.assemble(&mut batch(run, large));
    writer.store_once(false).unwrap();
    assert_eq!((shown().0, writer.assembler.held_bytes()), (2, 0));
    writer.assemble(&mut batch(run, events(5)[..1].to_vec()));
    writer.store_once(false).unwrap();
    assert_eq!(shown().0, 2);
    writer.end();
    assert_eq!(shown().0, 3);
}

/// Does something while a writer is at work; nothing may be lost.
fn while_writing(file: RecordFile, test: impl FnOnce(&Queue)) {
    let queue = Queue::new(1_000_000, 1000);
    std::thread::scope(|scope| {
        let writing = scope.spawn({
            let queue = &queue;
            move || write_queue(&file, queue, &orders())
        });
        test(&queue);
        queue.close();
        writing.join().unwrap().unwrap();
    });
    assert_eq!(queue.losses(), Losses::default());
}

#[test]
fn who_waits_for_all_waits_for_flows_that_were_put_off() {
    let (folder, file) = open();
    let other = Connection::open(folder.path().join("oriel.db")).unwrap();
    let run = RunId::from_random(0);
    while_writing(file, |queue| {
        for number in 0..20 {
            queue.push_events(run, &mut events(number)[..1].to_vec());
            // Sometimes before the writer took it, sometimes after.
            std::thread::sleep(GATHER * u32::try_from(number % 4).unwrap() / 2);
            queue.flush(Duration::from_secs(20)).unwrap();
            let flows = counts(&other).0;
            assert_eq!(flows, i64::try_from(number).unwrap() + 1);
        }
        // Nobody waits: it is stored all the same.
        queue.push_events(run, &mut events(20)[..1].to_vec());
        let mut looks = 4000;
        while counts(&other).0 < 21 {
            looks -= 1;
            assert!(looks > 0);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn a_locked_database_is_waited_for() {
    let (folder, file) = open();
    file.wait_at_most(Duration::ZERO);
    let other = Connection::open(folder.path().join("oriel.db")).unwrap();
    let run = RunId::from_random(0);
    while_writing(file, |queue| {
        // The writer has prepared its statements once it stored something.
        queue.push_events(run, &mut events(0));
        queue.flush(Duration::from_secs(20)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        queue.push_events(run, &mut events(1));
        let flushed = queue.flush(Duration::from_millis(50));
        assert!(matches!(flushed, Err(StoreError::Locked)), "{flushed:?}");
        assert!(matches!(queue.trouble(), Some(StoreError::Locked)));
        other.execute_batch("ROLLBACK").unwrap();
        queue.flush(Duration::from_secs(20)).unwrap();
        assert!(queue.trouble().is_none());
        assert_eq!(counts(&other).0, 2);
    });
}

#[test]
fn closing_does_not_wait_for_ever() {
    let (folder, file) = open();
    file.wait_at_most(Duration::ZERO);
    let other = Connection::open(folder.path().join("oriel.db")).unwrap();
    let queue = Queue::new(1_000_000, 1000);
    let orders = orders();
    let mut writer = Writer::new(&file, &orders).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    writer.assemble(&mut batch(RunId::from_random(0), events(0)));
    queue.close();
    assert!(matches!(
        writer.store(&queue, true),
        Err(StoreError::Locked)
    ));
}

#[test]
fn a_head_that_another_process_took_from_the_spool_is_of_the_same_flow() {
    let (folder, file) = open();
    let path = folder.path().join("oriel.db");
    let spool = Arc::new(Spool::new(&path, u64::MAX));
    let run = RunRecord {
        uuid: "one".to_owned(),
        id: RunId::from_random(0),
        name: None,
        argv: Vec::new(),
        kind: RunKind::Run,
        pid: std::process::id(),
        started_at: Timestamp(1),
        ended_at: None,
        exit_code: None,
        signal: None,
        origin: Origin::default(),
    };
    let id = run.id;
    spool.runs.add(run, false);
    let orders = Orders {
        spool: Some(Arc::clone(&spool)),
        ..orders()
    };
    let queue = Queue::new(1_000_000, 1000);
    let mut writer = Writer::new(&file, &orders).unwrap();
    file.wait_at_most(Duration::ZERO);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut open = [events(1), events(2)];
    let ends = [open[0].split_off(2), open[1].split_off(2)];
    for events in open.into_iter().chain([events(3)]) {
        writer.assemble(&mut batch(id, events));
    }
    writer.store(&queue, true).unwrap();
    assert_eq!((spool.usage().segments, spool.usage().flows), (1, 3));
    other.execute_batch("ROLLBACK").unwrap();

    // Our file is held; what another process finds is a finished one.
    let folder = std::fs::read_dir(folder.path().join("spool")).unwrap();
    let segment = folder.last().unwrap().unwrap().path();
    std::fs::copy(&segment, segment.with_file_name("0.segment")).unwrap();
    let mut merge = Merge::new(&spool);
    while merge.step().unwrap() {}
    let states =
        "SELECT group_concat(state, ' ') FROM (SELECT state FROM flows_shown ORDER BY seq)";
    let states = || -> String { other.query_row(states, (), |row| row.get(0)).unwrap() };
    assert_eq!(states(), "open open completed");

    // One ends before we are there, one after.
    let [first, second] = ends;
    writer.assemble(&mut batch(id, first));
    writer.store_once(true).unwrap();
    assert_eq!(states(), "completed open completed");
    writer.assemble(&mut batch(id, second));
    writer.end();
    assert_eq!(spool.usage().segments, 0);
    assert_eq!(states(), "completed completed completed");
    assert_eq!((counts(&other).0, counts(&other).1), (3, 3));
}
