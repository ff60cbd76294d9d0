//! Measures whether an archive keeps up: records flows at a steady rate, as `oriel serve` does, with the index
//! of texts filled and everything copied to PostgreSQL at the same time.
//!
//! `cargo run --release -p oriel-store --example steady [flows a second] [seconds] [words|same|unique] [remove]`
//!
//! With `remove` flows of the first third are removed from the archive from half time on, while others come.
//! It prints how many flows wait to be copied: where that does not grow, the rate is one that lasts. PostgreSQL
//! runs on the same processors and writes through to the disk.
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
#[path = "made/words.rs"]
mod words;

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use oriel_store::{Doomed, Keep, Location, Origin, Shipper, ShipperOptions, TextIndexer};
use traffic::Timestamp;

use self::flows::{BEGINNING, open_record};
use self::load::{Flows, Load, MICROS_BETWEEN};

/// Flows come in so many groups a second.
const GROUPS_PER_SECOND: u64 = 100;
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long what is left at the end may take.
const REST: Duration = Duration::from_secs(600);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| {
        arguments
            .next()
            .map_or(default, |text| text.parse::<u64>().unwrap())
    };
    let (rate, seconds) = (number(3000), number(60));
    let load = arguments.next();
    let removes = arguments.next().as_deref() == Some("remove");
    match Load::named(load.as_deref().unwrap_or("words")) {
        Some(load) => measure(rate, seconds, load, removes),
        None => println!("the third argument is none of words, same and unique"),
    }
}

#[cfg(not(unix))]
fn measure(_: u64, _: u64, _: Load, _: bool) {}

#[cfg(unix)]
fn measure(rate: u64, seconds: u64, load: Load, removes: bool) {
    let settings = ["fsync=on", "full_page_writes=on"];
    let cluster = testbed::postgres::PostgresCluster::start_with(&settings).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oriel.db");
    let (store, _, recorder) = open_record(&path);
    let indexer = TextIndexer::spawn(path.clone()).unwrap();
    let archive: Location = cluster.url("postgres").parse().unwrap();
    let shipper = Shipper::start(ShipperOptions {
        file: path,
        archive: archive.clone(),
        origin: Origin::default(),
    });
    let shipper = shipper.unwrap();
    let watch = shipper.watch();
    println!(
        "{rate} flows a second for {seconds} s, bodies: {}",
        load.told()
    );
    let made = Flows::new(load);
    let mut removing = None;
    let per_group = rate.div_ceil(GROUPS_PER_SECOND);
    let pause = Duration::from_secs(1) / u32::try_from(GROUPS_PER_SECOND).unwrap();
    let began = Instant::now();
    let (mut next, mut told, mut most) = (began, began, 0);
    let mut pushed = 0;
    for group in 0..seconds * GROUPS_PER_SECOND {
        if removes && group == seconds * GROUPS_PER_SECOND / 2 {
            let (archive, before) = (archive.clone(), pushed * 2 / 3);
            removing = Some(thread::spawn(move || remove(&archive, before)));
        }
        for _ in 0..per_group {
            recorder.handle_events(&mut made.events(pushed));
            pushed += 1;
        }
        let waiting = pushed.saturating_sub(watch.status().copied);
        most = most.max(waiting);
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            println!("{:>4} s  {waiting} wait", began.elapsed().as_secs());
        }
        next += pause;
        sleep(next.saturating_duration_since(Instant::now()));
    }
    let took = began.elapsed();
    let waiting = pushed.saturating_sub(watch.status().copied);
    recorder.flush(REST).unwrap();
    let ended = Instant::now();
    let status = shipper.stop(REST);
    println!(
        "recorded     {:.0} flows a second, lost {:?}",
        pushed as f64 / took.as_secs_f64(),
        recorder.losses()
    );
    println!(
        "waiting      at most {most}, {waiting} at the end, copied {:.1} s after it",
        ended.elapsed().as_secs_f64()
    );
    println!(
        "archive      has {} of {pushed}, last error {:?}",
        status.copied, status.last_error
    );
    if let Some(removing) = removing {
        removing.join().unwrap();
    }
    drop(indexer);
    store.close().unwrap();
}

/// Removes the flows before this one from the archive.
#[cfg(unix)]
fn remove(archive: &Location, before: u64) {
    let micros = i64::try_from(before).unwrap() * MICROS_BETWEEN;
    let keep = Keep {
        flows_since: Some(Timestamp(BEGINNING + micros)),
        ..Keep::default()
    };
    let began = Instant::now();
    let mut archive = archive.open_archive().unwrap();
    let removed = archive.remove(&Doomed::Old(&keep), &mut |_progress| true);
    println!(
        "removed      {} flows in {:.1} s",
        removed.unwrap().flows,
        began.elapsed().as_secs_f64()
    );
}
