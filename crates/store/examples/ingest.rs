//! Measures what recording costs: processor time per flow, on the engine's side and in the writer;
//! how long the reader takes for what it is asked most; and how fast flows go into the spool and from there
//! into the file, while it is locked and after that.
//!
//! `cargo run --release -p oriel-store --example ingest [flows] [words|same|unique|all]`
//!
//! Each flow has a 1 KiB request and a 1 KiB response with heads of the usual size, an
//! authorization field among them. `words`: bodies are of words as frequent as those of a language are,
//! each with an id that no other has; `same`: bodies repeat, as in a load test; `unique`: no body repeats a
//! word of another; `all`: one after the other. The figures of the threads come from the Linux scheduler.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measuring program for the terminal"
)]

#[path = "made/flows.rs"]
mod flows;
#[path = "made/load.rs"]
mod load;
#[path = "made/threads.rs"]
mod threads;
#[path = "made/words.rs"]
mod words;

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use oriel_store::limits::SHIP_FLOWS_MAX;
use oriel_store::{
    Archive, ArchiveBatch, Importer, Marker, PostgresArchive, Query, Reader, Recorder,
};
use traffic::rules::filter::Filter;
use traffic::{Event, Timestamp};

use self::flows::open_record;
use self::load::{Flows, Load};
use self::threads::time_of_threads;

/// Flows between two waits for the writer: what arrives in 25 ms at 20,000 requests a second.
const FLOWS_PER_ROUND: u64 = 500;
/// Flows that go into the spool: of more it would have no room.
const OUTAGE_FLOWS_MAX: u64 = 100_000;
/// How often it is looked how the merge goes.
const LOOK_EVERY: Duration = Duration::from_millis(1);
fn main() {
    let mut arguments = std::env::args().skip(1);
    let flows: u64 = arguments
        .next()
        .map_or(200_000, |text| text.parse().unwrap());
    match arguments.next().as_deref() {
        None => measure(flows, Load::Words),
        Some("all") => {
            for load in [Load::Words, Load::Same, Load::Unique] {
                measure(flows, load);
            }
        }
        Some(name) => match Load::named(name) {
            Some(load) => measure(flows, load),
            None => println!("{name} is none of words, same, unique and all"),
        },
    }
}

/// Records so many flows, and reads and copies them.
fn measure(flows: u64, load: Load) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oriel.db");
    let (store, run, recorder) = open_record(&path);
    let began = Instant::now();
    let pushing = push_all(&recorder, flows, load);
    let wall = began.elapsed();
    let writing = time_of_threads("oriel-store");
    let per_flow = |time: Duration| time.as_secs_f64() * 1e6 / flows as f64;
    println!("{flows} flows, bodies: {}", load.told());
    println!(
        "engine side  {:.2} us per flow (wall time in handle_events)",
        per_flow(pushing)
    );
    let (user, kernel) = thread_ticks("oriel-store");
    println!(
        "writer       {:.2} us per flow (processor time, {:.0} % of it in the kernel)",
        per_flow(writing),
        100.0 * kernel / (user + kernel).max(1.0)
    );
    println!(
        "in all       {:.1} s, {} bytes on disk",
        wall.as_secs_f64(),
        fs::metadata(&path).unwrap().len()
    );
    println!("losses       {:?}", recorder.losses());
    store.close().unwrap();
    let reader = Reader::open(&path).unwrap();
    for text in ["", "status:>=400", "host:example.com path:/v1/*", "nothing"] {
        let filter = Filter::parse(text, Timestamp(0)).unwrap();
        let query = Query {
            filter: Some(filter),
            with_total: true,
            ..Query::default()
        };
        let began = Instant::now();
        let page = reader.flows(&query).unwrap();
        let millis = began.elapsed().as_millis();
        println!("list         {millis} ms for {:?} of {text:?}", page.total);
    }
    let query = Query {
        run: Some(run),
        ..Query::default()
    };
    let began = Instant::now();
    reader.flows(&query).unwrap();
    println!(
        "list         {} ms for one run",
        began.elapsed().as_millis()
    );
    let began = Instant::now();
    reader.resolve(&format!("{run}.{}", flows / 2)).unwrap();
    println!("id           {} ms", began.elapsed().as_millis());
    let began = Instant::now();
    reader.summary(run).unwrap();
    println!("summary      {} ms", began.elapsed().as_millis());
    let marker = reader.marker().unwrap();
    let began = Instant::now();
    reader.changes_since(marker, None).unwrap();
    println!("no change    {} us", began.elapsed().as_micros());
    copy(&reader, &folder.path().join("copy.db"));
    archive(&reader);
    outage(
        &folder.path().join("outage.db"),
        flows.min(OUTAGE_FLOWS_MAX),
        load,
    );
}

/// Records while another holds the file, and has what was recorded merged when it is free.
fn outage(path: &Path, flows: u64, load: Load) {
    let (store, _, recorder) = open_record(path);
    let locked = rusqlite::Connection::open(path).unwrap();
    locked.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The first of them wait until the writer does without the file.
    push_all(&recorder, FLOWS_PER_ROUND, load);
    let before = recorder.spooled();
    let began = Instant::now();
    push_all(&recorder, flows, load);
    let spooling = began.elapsed();
    let spooled = recorder.spooled();
    println!(
        "spool        {:.0} flows a second, {} bytes each",
        flows as f64 / spooling.as_secs_f64(),
        (spooled.bytes - before.bytes) / flows
    );
    drop(locked);
    while recorder.detour().is_some() {
        sleep(LOOK_EVERY);
    }
    let began = Instant::now();
    while recorder.spooled().segments > 0 {
        sleep(LOOK_EVERY);
    }
    println!(
        "merge        {:.0} flows a second",
        spooled.flows as f64 / began.elapsed().as_secs_f64()
    );
    println!("losses       {:?}", recorder.losses());
    store.close().unwrap();
}

/// Copies everything to PostgreSQL, which writes it through to the disk.
#[cfg(unix)]
fn archive(reader: &Reader) {
    let settings = ["fsync=on", "full_page_writes=on"];
    let cluster = match testbed::postgres::PostgresCluster::start_with(&settings) {
        Ok(cluster) => cluster,
        Err(error) => return println!("archive      not measured: {error}"),
    };
    let mut archive = PostgresArchive::connect(&cluster.url("postgres")).unwrap();
    archive.migrate().unwrap();
    let (mut marker, mut writing, mut flows) = (Marker::default(), Duration::ZERO, 0);
    loop {
        let found = reader.records(marker, SHIP_FLOWS_MAX).unwrap();
        if found.flows.is_empty() {
            break;
        }
        marker = found.marker;
        flows += found.flows.len();
        let batch = ArchiveBatch {
            flows: found.flows,
            ..ArchiveBatch::default()
        };
        let began = Instant::now();
        archive.write(&batch).unwrap();
        writing += began.elapsed();
    }
    let bytes = archive.status().unwrap().bytes.unwrap_or(0);
    println!(
        "archive      {:.0} flows a second into PostgreSQL, {} bytes each",
        flows as f64 / writing.as_secs_f64(),
        bytes / flows as u64
    );
}

#[cfg(not(unix))]
fn archive(_: &Reader) {}

/// Copies everything to another file, as to an archive.
fn copy(reader: &Reader, path: &Path) {
    let mut importer = Importer::open(path).unwrap();
    let (mut reading, mut writing, mut flows) = (Duration::ZERO, Duration::ZERO, 0);
    let mut marker = Marker::default();
    loop {
        let began = Instant::now();
        let found = reader.records(marker, 1000).unwrap();
        reading += began.elapsed();
        if found.flows.is_empty() {
            break;
        }
        marker = found.marker;
        flows += found.flows.len();
        let began = Instant::now();
        importer.insert(&found.flows).unwrap();
        writing += began.elapsed();
    }
    let per_flow = |time: Duration| time.as_secs_f64() * 1e6 / flows as f64;
    println!(
        "copy         {:.1} us to read a flow whole, {:.1} us to write it to another file",
        per_flow(reading),
        per_flow(writing)
    );
}

/// Pushes all flows; answers the time that pushing took.
fn push_all(recorder: &Recorder, flows: u64, load: Load) -> Duration {
    let made = Flows::new(load);
    let mut pushing = Duration::ZERO;
    for round in 0..flows.div_ceil(FLOWS_PER_ROUND) {
        let first = round * FLOWS_PER_ROUND;
        let batches: Vec<Vec<Event>> = (first..first + FLOWS_PER_ROUND)
            .map(|flow| made.events(flow))
            .collect();
        let began = Instant::now();
        for mut batch in batches {
            recorder.handle_events(&mut batch);
        }
        pushing += began.elapsed();
        recorder.flush(Duration::from_secs(60)).unwrap();
    }
    pushing
}

/// Clock ticks that the threads of this name spent in the program and in the kernel.
fn thread_ticks(name: &str) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (start, fields) = stat.rsplit_once(')').unwrap();
        if start.ends_with(name) {
            // Fields 14 and 15 of proc(5); the third is the first here.
            let mut ticks = fields.split_ascii_whitespace().skip(11);
            sums.0 += ticks.next().unwrap().parse::<f64>().unwrap();
            sums.1 += ticks.next().unwrap().parse::<f64>().unwrap();
        }
    }
    sums
}
