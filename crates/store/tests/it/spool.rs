//! What ends while the database cannot be written goes to the spool, and arrives once.
#![expect(
    clippy::disallowed_methods,
    reason = "a real child process needs real time and an environment"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oriel_store::{
    EndRun, FlowState, Losses, Message, Query, Reader, Redaction, Spooled, Store, StoreError,
    StoreOptions,
};
use rusqlite::Connection;
use traffic::{Event, Timestamp};

use crate::script::{Place, Script, new_run};

/// Tells a child process the path of its database.
const CHILD: &str = "ORIEL_STORE_SPOOL_CHILD";

/// Keeps everybody from reading and writing, as a program could that has the file for itself.
fn lock_out(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    let only_one = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE";
    connection.execute_batch(only_one).unwrap();
    connection
}

/// Keeps everybody from writing, as another process could.
fn lock(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

fn unlock(locked: &Connection) {
    locked.execute_batch("ROLLBACK").unwrap();
}

/// The files of the spool with this extension.
fn files(database: &Path, extension: &str) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(database.with_file_name("spool"));
    let paths = folder
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    paths
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait_until_merged(database: &Path) {
    wait_until("the spool is merged", || {
        files(database, "segment").is_empty()
    });
}

fn open(path: &Path) -> Store {
    Store::open(path, StoreOptions::new(Redaction::Basic)).unwrap()
}

fn seqs(path: &Path) -> Vec<u64> {
    let query = Query {
        limit: 10_000,
        ..Query::default()
    };
    let rows = Reader::open(path).unwrap().flows(&query).unwrap().rows;
    let mut seqs: Vec<u64> = rows.iter().map(|row| row.id.seq).collect();
    seqs.sort_unstable();
    seqs
}

/// One flow, and the same number of events of it at once and later.
fn halves(script: &Script, first: usize) -> (Vec<Event>, Vec<Event>) {
    let mut events = script.events();
    let late = events.split_off(first);
    (events, late)
}

#[test]
fn a_database_that_is_locked_for_long_loses_nothing() {
    let mut options = StoreOptions::new(Redaction::Basic);
    options.queue_bytes_max = 3_000_000;
    let place = Place::with(options);
    // One flow is open with a part of its body in the database, one with all in memory.
    let mut large = Script::new(1);
    large.response_body = (0..18)
        .map(|number| vec![number; 1_000_000].into())
        .collect();
    let body_events = large.events().len() - 3;
    let (early, late) = halves(&large, body_events - 1);
    for event in early {
        place.record(vec![event]);
        place.flush();
    }
    let (open_early, open_late) = halves(&Script::new(2), 4);
    place.record(open_early);
    place.flush();

    let locked = lock(&place.path());
    for flow in 3..=2000 {
        let mut script = Script::new(flow);
        script.response_body = vec![vec![b'x'; 5000].into()];
        place.record(script.events());
        if flow % 100 == 0 {
            place.flush();
        }
    }
    place.record(late);
    place.record(open_late);
    // Far more than the queue holds: it is durable beside the database.
    place.flush();
    assert!(matches!(place.recorder.detour(), Some(StoreError::Locked)));
    assert!(place.recorder.trouble().is_none());
    assert_eq!(place.recorder.losses(), Losses::default());
    let files = files(&place.path(), "segment");
    let bytes = files.iter().map(|path| {
        let metadata = std::fs::metadata(path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        metadata.len()
    });
    let spooled = Spooled {
        bytes: bytes.sum(),
        segments: files.len() as u64,
        // Two have rows.
        flows: 1998,
        damaged: 0,
    };
    assert!(spooled.bytes > 0);
    assert_eq!(place.recorder.spooled(), spooled);
    unlock(&locked);

    wait_until_merged(&place.path());
    assert!(place.recorder.detour().is_none());
    assert_eq!(place.recorder.spooled(), Spooled::default());
    assert_eq!(seqs(&place.path()), (1..=2000).collect::<Vec<_>>());
    let reader = place.reader();
    for flow in [1, 2, 3, 2000] {
        let row = reader.flow(place.flow(flow)).unwrap().row;
        let expected = (FlowState::Completed, false);
        assert_eq!((row.state, row.truncated), expected, "{flow}");
    }
    let body = reader
        .body(place.flow(1), Message::Response)
        .unwrap()
        .unwrap();
    assert!(body.bytes == large.response_body.concat() && !body.truncated);
    // What comes later goes its usual way.
    place.record(Script::new(2001).events());
    place.flush();
    assert_eq!(seqs(&place.path()).len(), 2001);
    assert_eq!(place.recorder.spooled(), Spooled::default());
    assert_eq!(reader.summary(place.run).unwrap().lost_events, 0);
}

#[test]
fn a_store_that_opens_meanwhile_records_from_the_first_flow_on() {
    for lock in [lock, lock_out] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("oriel.db");
        open(&path).close().unwrap();
        let locked = lock(&path);
        let store = open(&path);
        let run = store.begin_run(new_run(Some("meanwhile"))).unwrap();
        let recorder = store.recorder(run);
        assert!(matches!(recorder.detour(), Some(StoreError::Locked)));
        let (mut early, mut late) = halves(&Script::new(3), 6);
        recorder.handle_events(&mut Script::new(1).events());
        recorder.handle_events(&mut Script::new(2).events());
        recorder.handle_events(&mut early);
        recorder.flush(Duration::from_secs(20)).unwrap();
        assert_eq!(recorder.spooled().segments, 1);
        drop(locked);

        wait_until("the file is open", || recorder.detour().is_none());
        wait_until_merged(&path);
        recorder.handle_events(&mut late);
        recorder.handle_events(&mut Script::new(4).events());
        recorder.flush(Duration::from_secs(20)).unwrap();
        assert_eq!(recorder.run(), run);
        assert_eq!(recorder.losses(), Losses::default());
        let end = EndRun {
            ended_at: Timestamp(9),
            exit_code: Some(3),
            signal: None,
        };
        store.end_run(run, end).unwrap();
        store.close().unwrap();
        assert_eq!(seqs(&path), [1, 2, 3, 4]);
        let reader = Reader::open(&path).unwrap();
        let summary = reader.summary(run).unwrap();
        assert_eq!((summary.ok, summary.run.flows), (4, 4));
        let stored = reader.run(run).unwrap();
        assert_eq!(stored.name.as_deref(), Some("meanwhile"));
        assert_eq!(
            (stored.ended_at, stored.exit_code),
            (Some(Timestamp(9)), Some(3))
        );
    }
}

#[test]
fn a_run_whose_id_is_taken_when_the_file_opens_has_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oriel.db");
    open(&path).close().unwrap();
    let locked = lock(&path);
    let store = open(&path);
    let run = store.begin_run(new_run(Some("second"))).unwrap();
    let recorder = store.recorder(run);
    let (mut early, mut late) = halves(&Script::new(2), 6);
    recorder.handle_events(&mut Script::new(1).events());
    recorder.handle_events(&mut early);
    recorder.flush(Duration::from_secs(20)).unwrap();
    let first = "INSERT INTO runs (id, uuid, kind, name, argv, pid, started_at)
        VALUES (?1, 'another', 'run', 'first', '[]', 1, 1)";
    locked.execute(first, [run.as_str()]).unwrap();
    locked.execute_batch("COMMIT").unwrap();

    wait_until("the file is open", || recorder.detour().is_none());
    wait_until_merged(&path);
    recorder.handle_events(&mut late);
    recorder.handle_events(&mut Script::new(3).events());
    let end = EndRun {
        ended_at: Timestamp(9),
        exit_code: None,
        signal: None,
    };
    store.end_run(run, end).unwrap();
    let renamed = recorder.run();
    store.close().unwrap();
    assert_ne!(renamed, run);
    let reader = Reader::open(&path).unwrap();
    let (first, second) = (reader.run(run).unwrap(), reader.run(renamed).unwrap());
    assert_eq!((first.flows, first.ended_at), (0, None));
    assert_eq!((second.flows, second.ended_at), (3, Some(Timestamp(9))));
    assert_eq!(second.name.as_deref(), Some("second"));
    assert_eq!(seqs(&path), [1, 2, 3]);
}

#[test]
fn without_a_spool_or_with_a_file_that_stays_as_it_is_nothing_opens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oriel.db");
    open(&path).close().unwrap();
    let mut options = StoreOptions::new(Redaction::Basic);
    options.spool_bytes_max = 0;
    let locked = lock(&path);
    let opened = Store::open(&path, options);
    assert!(matches!(opened, Err(StoreError::Locked)));
    drop(locked);

    let newer = "INSERT INTO schema_migrations VALUES (1000, 'later', 'x', 1)";
    let other = Connection::open(&path).unwrap();
    other.execute(newer, ()).unwrap();
    let opened = Store::open(&path, StoreOptions::new(Redaction::Basic));
    assert!(matches!(opened, Err(StoreError::NewerSchema { .. })));
    drop(other);
    std::fs::write(&path, "no database, but some text that is long enough").unwrap();
    let opened = Store::open(&path, StoreOptions::new(Redaction::Basic));
    assert!(matches!(opened, Err(StoreError::Damaged { .. })));
}

#[test]
fn a_store_that_closes_meanwhile_leaves_the_spool_to_the_next() {
    let place = Place::new();
    place.record(Script::new(1).events());
    let (early, late) = halves(&Script::new(2), 6);
    place.record(early);
    place.flush();
    let locked = lock(&place.path());
    place.record(late);
    place.record(Script::new(3).events());
    let (path, run) = (place.path(), place.run);
    let end = EndRun {
        ended_at: Timestamp(9),
        exit_code: Some(3),
        signal: None,
    };
    place.store.end_run(run, end).unwrap();
    place.store.close().unwrap();
    assert_eq!(files(&path, "segment").len(), 1);
    unlock(&locked);
    drop(locked);

    // Done twice, as after a crash in between, it is the same.
    let segment = files(&path, "segment").remove(0);
    let content = std::fs::read(&segment).unwrap();
    for _ in 0..2 {
        std::fs::write(&segment, &content).unwrap();
        let next = open(&path);
        wait_until_merged(&path);
        next.close().unwrap();
        assert_eq!(seqs(&path), [1, 2, 3]);
        let reader = Reader::open(&path).unwrap();
        let flow = oriel_store::FlowRef { run, seq: 2 };
        assert_eq!(reader.flow(flow).unwrap().row.state, FlowState::Completed);
        let body = reader.body(flow, Message::Response).unwrap().unwrap();
        assert_eq!(&*body.bytes, b"hello world");
        let run = reader.run(run).unwrap();
        assert_eq!((run.ended_at, run.exit_code), (Some(Timestamp(9)), Some(3)));
    }
}

#[test]
fn a_damaged_file_of_the_spool_is_read_up_to_the_damage_and_set_aside() {
    let place = Place::new();
    place.flush();
    let locked = lock(&place.path());
    let mut ends = Vec::new();
    for flow in 1..=3 {
        place.record(Script::new(flow).events());
        place.flush();
        let segment = files(&place.path(), "segment").remove(0);
        ends.push(std::fs::metadata(segment).unwrap().len());
    }
    let path = place.path();
    place.store.close().unwrap();
    unlock(&locked);
    let segment = files(&path, "segment").remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[usize::try_from(ends[1]).unwrap() + 100] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();

    let next = open(&path);
    let run = next.begin_run(new_run(None)).unwrap();
    wait_until("it is set aside", || files(&path, "damaged").len() == 1);
    assert!(files(&path, "segment").is_empty());
    assert_eq!(seqs(&path), [1, 2]);
    let aside = std::fs::read(&files(&path, "damaged")[0]).unwrap();
    assert_eq!(aside, bytes, "all of it is kept");
    assert_eq!(next.recorder(run).spooled().damaged, 1);
    next.close().unwrap();
}

#[test]
fn a_spool_is_no_larger_than_asked_and_what_does_not_fit_is_a_gap() {
    let mut options = StoreOptions::new(Redaction::Basic);
    options.queue_events_max = 100;
    options.spool_bytes_max = 20_000;
    let place = Place::with(options);
    place.flush();
    let locked = lock(&place.path());
    let mut flow = 0;
    wait_until("the spool is full", || {
        flow += 1;
        place.record(Script::new(flow).events());
        place.recorder.flush(Duration::from_secs(2)).is_err()
    });
    assert!(flow > 2);
    assert_eq!(place.recorder.losses(), Losses::default());
    for flow in flow..flow + 100 {
        place.record(Script::new(flow).events());
    }
    let losses = place.recorder.losses();
    assert!(losses.events > 0);
    let spooled = place.recorder.spooled();
    assert!((10_000..=20_000).contains(&spooled.bytes), "{spooled:?}");
    unlock(&locked);
    wait_until("it is stored again", || place.recorder.detour().is_none());
    wait_until_merged(&place.path());
    let summary = place.reader().summary(place.run).unwrap();
    assert_eq!(summary.lost_events, losses.events);
    assert!(summary.ok > flow);
}

#[test]
fn open_flows_that_outgrow_the_memory_are_cut_and_counted() {
    let place = Place::new();
    place.flush();
    let locked = lock(&place.path());
    let mut large = Script::new(1);
    large.response_body = (0..66).map(|_| vec![b'x'; 1 << 20].into()).collect();
    for event in large.events() {
        place.record(vec![event]);
        place.flush();
    }
    assert_eq!(place.recorder.losses().events, 1);
    unlock(&locked);
    wait_until_merged(&place.path());
    let reader = place.reader();
    assert!(reader.flow(place.flow(1)).unwrap().row.truncated);
    assert_eq!(reader.summary(place.run).unwrap().lost_events, 1);
}

/// Runs in a child process only: records flows and says so, one line each.
#[test]
fn spool_child() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let store = open(Path::new(&path));
    let run = store.begin_run(new_run(Some("child"))).unwrap();
    let recorder = store.recorder(run);
    let (mut head, rest) = halves(&Script::new(1), 2);
    recorder.handle_events(&mut head);
    recorder.flush(Duration::from_secs(20)).unwrap();
    println!("\nbegun");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    recorder.handle_events(&mut rest[..3].to_vec());
    recorder.handle_events(&mut halves(&Script::new(2), 5).0);
    for flow in 3.. {
        recorder.handle_events(&mut Script::new(flow).events());
        if flow % 10 == 0 {
            recorder.flush(Duration::from_secs(20)).unwrap();
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nflow {flow}").unwrap();
        out.flush().unwrap();
    }
}

/// Kills a process in an outage, which began before the process did or after.
fn kill_in_an_outage(locked_before: bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oriel.db");
    open(&path).close().unwrap();
    let locked = locked_before.then(|| lock(&path));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spool::spool_child", "--nocapture"])
        .env(CHILD, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "begun"));
    let locked = locked.unwrap_or_else(|| lock(&path));
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(lines.any(|line| line.unwrap() == "flow 500"));
    child.kill().unwrap();
    child.wait().unwrap();
    unlock(&locked);
    let seen = if locked_before { 0 } else { 1 };
    assert_eq!(seqs(&path).len(), seen);
    let waiting = Spooled::beside(&path).flows;

    let store = open(&path);
    wait_until_merged(&path);
    store.close().unwrap();
    let seqs = seqs(&path);
    assert!(seqs.len() >= 490, "{}", seqs.len());
    assert_eq!(seqs.len() as u64, waiting + seen as u64);
    let expected: Vec<u64> = (1..=seqs.len() as u64).collect();
    assert_eq!(seqs, expected, "each once");
    // One began before the other flows of the outage, or before that; both were answered in it.
    let reader = Reader::open(&path).unwrap();
    let run = reader.resolve_run("child").unwrap();
    for seq in seqs {
        let flow = reader.flow(oriel_store::FlowRef { run, seq }).unwrap();
        let expected = match seq {
            1 | 2 => FlowState::Interrupted,
            _ => FlowState::Completed,
        };
        assert_eq!(
            (flow.row.state, flow.row.status),
            (expected, Some(200)),
            "{seq}"
        );
    }
}

#[test]
fn what_a_killed_process_has_in_the_spool_arrives_once() {
    kill_in_an_outage(false);
}

#[test]
fn what_a_process_has_in_the_spool_that_began_and_was_killed_in_an_outage_arrives_once() {
    kill_in_an_outage(true);
}
