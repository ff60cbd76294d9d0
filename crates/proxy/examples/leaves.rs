//! Measures what leaves cost: processor time for a name that was not asked for before, and memory
//! for many names through the cache of an engine.
//!
//! `cargo run --release -p oriel-proxy --example leaves [names]`
//!
//! The figures come from the Linux scheduler and from `/proc/self/status`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program for the terminal"
)]

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use oriel_proxy::Authority;
use oriel_proxy::limits::LEAVES_MAX;
use oriel_proxy::tls::authority::NewAuthority;
use oriel_proxy::tls::key::KeyKind;
use oriel_proxy::tls::leaf::LeafCache;
use traffic::{Host, Timestamp};

/// Of a leaf that is held. The scheduler counts in milliseconds, and one takes far less.
const LOOK_UPS: usize = 500_000;

fn main() {
    let names = std::env::args().nth(1);
    let names: usize = names.map_or(5_000, |text| text.parse().unwrap());
    for (kind, names) in [
        (KeyKind::P256, names),
        (KeyKind::P384, names / 10),
        (KeyKind::Rsa2048, names / 10),
        (KeyKind::Rsa3072, names / 10),
    ] {
        measure(kind, names);
    }
}

fn measure(kind: KeyKind, names: usize) {
    // 2026-01-01.
    let now = Timestamp(1_767_225_600_000_000);
    let new = NewAuthority {
        key: kind,
        ..NewAuthority::named("measured")
    };
    let authority = Arc::new(Authority::create(&new, now).unwrap());
    let leaves = LeafCache::new(authority, LEAVES_MAX).unwrap();
    let hosts: Vec<_> = (0..names)
        .map(|index| Host::parse(&format!("host-{index}.of-many.example.com")).unwrap())
        .collect();
    let (before, began) = (resident_kib(), on_processor());
    for host in &hosts {
        leaves.leaf(host, now).unwrap();
    }
    let minted = on_processor().saturating_sub(began);
    let grown = resident_kib().saturating_sub(before);
    let began = on_processor();
    let last = hosts.last().unwrap();
    for _ in 0..LOOK_UPS {
        leaves.leaf(last, now).unwrap();
    }
    let found = on_processor().saturating_sub(began);
    let each = |time: Duration, count: usize| time.as_secs_f64() * 1e6 / count as f64;
    println!(
        "{kind:?}: {names} names, {:.1} us each; {:.2} us for one that is held; {:.1} MiB more for \
         a cache of {LEAVES_MAX}",
        each(minted, names),
        each(found, LOOK_UPS),
        grown as f64 / 1024.0,
    );
}

/// What this thread has spent on a processor.
fn on_processor() -> Duration {
    let said = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = said.split(' ').next().unwrap();
    Duration::from_nanos(nanoseconds.parse().unwrap())
}

fn resident_kib() -> u64 {
    let said = fs::read_to_string("/proc/self/status").unwrap();
    let line = said.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}
