//! Processes that die, and several that write to one file.
#![expect(
    clippy::disallowed_methods,
    reason = "a real child process needs real time and an environment"
)]

use std::io::{BufRead, BufReader, Write};
#[cfg(target_os = "linux")]
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use oriel_store::{
    FlowRef, FlowState, Message, Query, Reader, Redaction, Store, StoreOptions, check_file,
};
use rusqlite::Connection;

use crate::script::{Place, Script, new_run};

/// Tells a child process what to do: a number of flows and the path of the database.
const CHILD: &str = "ORIEL_STORE_TEST_CHILD";
/// Flows that are answered this long before the end must be there.
const DURABLE: Duration = Duration::from_millis(200);

/// Runs in a child process only: records flows and says so, one line each.
#[test]
fn child() {
    let Ok(order) = std::env::var(CHILD) else {
        return;
    };
    let (flows, path) = order.split_once(' ').unwrap();
    let path = PathBuf::from(path);
    let store = Store::open(&path, StoreOptions::new(Redaction::Basic)).unwrap();
    let run = store.begin_run(new_run(Some("child"))).unwrap();
    let recorder = store.recorder(run);
    // One that is never answered.
    let mut open = Script::new(0).events();
    open.truncate(3);
    recorder.handle_events(&mut open);
    for flow in 1..=flows.parse::<u64>().unwrap() {
        recorder.handle_events(&mut Script::new(flow).events());
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nflow {flow}").unwrap();
        out.flush().unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    recorder.flush(Duration::from_secs(20)).unwrap();
    println!("\nall stored");
    // Waits to be killed: it must not get to its last lines.
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    store.close().unwrap();
}

fn start_child(flows: u64, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture"])
        .env(CHILD, format!("{flows} {}", path.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_process_leaves_a_whole_file_with_all_but_the_last_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oriel.db");
    let mut child = start_child(100_000, &path);
    let mut seen = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some(flow) = line.unwrap().strip_prefix("flow ") {
            seen.push((flow.parse::<u64>().unwrap(), Instant::now()));
        }
        if seen.len() == 500 {
            break;
        }
    }
    child.kill().unwrap();
    let killed = Instant::now();
    child.wait().unwrap();

    let reader = Reader::open(&path).unwrap();
    let run = reader.resolve_run("child").unwrap();
    let query = Query {
        limit: 10_000,
        ..Query::default()
    };
    let rows = reader.flows(&query).unwrap().rows;
    let durable: Vec<u64> = seen
        .iter()
        .filter(|(_, at)| killed.duration_since(*at) > DURABLE)
        .map(|(flow, _)| *flow)
        .collect();
    assert!(durable.len() > 50, "the child was slow: {}", durable.len());
    for flow in durable {
        // The one that is open has the first number.
        let found = rows.iter().find(|row| row.id.seq == flow + 1);
        assert_eq!(
            found.map(|row| row.state),
            Some(FlowState::Completed),
            "{flow}"
        );
    }
    drop(reader);
    let check: String = Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");

    // The next one who opens it for writing says what became of the open flow.
    let store = Store::open(&path, StoreOptions::new(Redaction::Basic)).unwrap();
    let reader = Reader::open(&path).unwrap();
    let row = reader.flow(FlowRef { run, seq: 1 }).unwrap().row;
    assert_eq!(row.state, FlowState::Interrupted);
    assert_eq!(reader.summary(run).unwrap().open, 0);
    store.close().unwrap();
}

/// What a disk may have after power was lost: the file and its log as they were at about one moment, of the log as
/// much as had been written, and the spool.
fn crash_image(from: &Path, to: &Path, log_cut: u64) {
    // The log first: frames that come later are not in it, and the file itself is changed by a checkpoint alone,
    // which begins when all of the log is durable.
    for name in ["oriel.db-wal", "oriel.db"] {
        let _bytes = std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let log = to.join("oriel.db-wal");
    let bytes = std::fs::metadata(&log).unwrap().len();
    let log = std::fs::OpenOptions::new().write(true).open(log).unwrap();
    log.set_len(bytes.saturating_sub(log_cut)).unwrap();
    let spool = from.join("spool");
    if spool.is_dir() {
        std::fs::create_dir(to.join("spool")).unwrap();
        for file in std::fs::read_dir(spool).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), to.join("spool").join(file.file_name())).unwrap();
        }
    }
}

/// Flows that are whole in a file; it is checked.
fn whole_flows(path: &Path) -> Vec<u64> {
    assert_eq!(check_file(path).unwrap(), Vec::<String>::new());
    let reader = Reader::open(path).unwrap();
    let run = reader.resolve_run("@last").unwrap();
    let query = Query {
        limit: 100_000,
        ..Query::default()
    };
    let mut seqs = Vec::new();
    for row in reader.flows(&query).unwrap().rows {
        let flow = FlowRef {
            run,
            seq: row.id.seq,
        };
        assert_eq!(row.state, FlowState::Completed);
        for message in [Message::Request, Message::Response] {
            let body = reader.body(flow, message).unwrap().unwrap();
            assert!(!body.truncated && !body.bytes.is_empty());
        }
        seqs.push(row.id.seq);
    }
    seqs.sort_unstable();
    seqs
}

#[test]
fn power_that_is_lost_under_load_leaves_a_whole_file_with_what_was_durable() {
    let place = Place::new();
    // No checkpoint moves pages while they are copied: one at a time would tear the image, and no disk does that.
    let holder = Connection::open(place.path()).unwrap();
    place.record(Script::new(1).events());
    place.flush();
    holder.execute_batch("BEGIN; SELECT * FROM runs;").unwrap();
    let is_over = AtomicBool::new(false);
    let durable = AtomicU64::new(1);
    let images: Vec<(tempfile::TempDir, u64)> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut flow = 1;
            while !is_over.load(Ordering::Acquire) && flow < 4000 {
                for _ in 0..20 {
                    flow += 1;
                    place.record(Script::new(flow).events());
                }
                place.flush();
                durable.store(flow, Ordering::Release);
            }
        });
        let images = [0, 0, 0, 1, 100, 5000].map(|log_cut| {
            let due = durable.load(Ordering::Acquire) + 40;
            while durable.load(Ordering::Acquire) < due.min(4001) {
                std::thread::yield_now();
            }
            let image = tempfile::tempdir().unwrap();
            let durable = durable.load(Ordering::Acquire);
            crash_image(place.path().parent().unwrap(), image.path(), log_cut);
            // What was cut off was durable: a disk that lies.
            (image, if log_cut == 0 { durable } else { 1 })
        });
        is_over.store(true, Ordering::Release);
        images.into()
    });
    drop(holder);
    for (image, durable) in images {
        let path = image.path().join("oriel.db");
        // Whoever comes next writes to it as if nothing had been.
        let store = Store::open(&path, StoreOptions::new(Redaction::Basic)).unwrap();
        let seqs = whole_flows(&path);
        let count = seqs.len() as u64;
        assert!(count >= durable, "{count} of {durable}");
        assert_eq!(seqs, (1..=count).collect::<Vec<u64>>(), "without a hole");
        let run = store.begin_run(new_run(Some("after"))).unwrap();
        let recorder = store.recorder(run);
        recorder.handle_events(&mut Script::new(1).events());
        store.close().unwrap();
        let reader = Reader::open(&path).unwrap();
        assert_eq!(reader.summary(run).unwrap().ok, 1);
        assert_eq!(check_file(&path).unwrap(), Vec::<String>::new());
    }
}

#[test]
fn power_that_is_lost_while_flows_go_to_the_spool_leaves_them_there() {
    let place = Place::new();
    place.record(Script::new(1).events());
    place.flush();
    let other = Connection::open(place.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for flow in 2..=30 {
        place.record(Script::new(flow).events());
    }
    place.flush();
    assert!(place.recorder.detour().is_some());
    let image = tempfile::tempdir().unwrap();
    crash_image(place.path().parent().unwrap(), image.path(), 0);
    other.execute_batch("ROLLBACK").unwrap();
    let path = image.path().join("oriel.db");
    let store = Store::open(&path, StoreOptions::new(Redaction::Basic)).unwrap();
    store.close().unwrap();
    assert_eq!(whole_flows(&path), (1..=30).collect::<Vec<u64>>());
}

#[test]
fn two_processes_write_to_one_file() {
    let place = Place::new();
    let mut child = start_child(300, &place.path());
    for flow in 1..=300 {
        place.record(Script::new(flow).events());
        std::thread::yield_now();
    }
    place.flush();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line == "all stored"));
    // A process that still lives keeps its open flow.
    let another = Store::open(&place.path(), StoreOptions::new(Redaction::Basic)).unwrap();
    let reader = place.reader();
    let run = reader.resolve_run("child").unwrap();
    let summary = reader.summary(run).unwrap();
    assert_eq!((summary.ok, summary.open, summary.lost_events), (300, 1, 0));
    assert_eq!(reader.summary(place.run).unwrap().ok, 300);
    another.close().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Without it another process that closes the file takes itself for the last one, and removes the log.
#[cfg(target_os = "linux")]
#[test]
fn the_file_stays_locked_as_long_as_it_is_open() {
    let place = Place::new();
    place.record(Script::new(1).events());
    place.flush();
    drop(oriel_store::Importer::open(&place.path()).unwrap());
    let inode = std::fs::metadata(place.path()).unwrap().ino();
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let of_file = format!(":{inode} ");
    assert!(locks.lines().any(|lock| lock.contains(&of_file)), "{locks}");
}

#[test]
fn the_end_of_a_run_closes_what_is_open() {
    let place = Place::new();
    let mut events = Script::new(1).events();
    events.truncate(6);
    place.record(events);
    place.flush();
    let end = oriel_store::EndRun {
        ended_at: traffic::Timestamp(9),
        exit_code: None,
        signal: Some(9),
    };
    place.store.end_run(place.run, end).unwrap();
    let reader = place.reader();
    let row = reader.flow(place.flow(1)).unwrap().row;
    assert_eq!(row.state, FlowState::Interrupted);
    let body = reader.body(place.flow(1), Message::Response);
    let body = body.unwrap().unwrap();
    assert_eq!((&*body.bytes, body.truncated), (&b"hello "[..], true));
}
