//! Measures a large record: how fast it is written, how long lists and searches take, and what memory
//! that needs.
//!
//! `cargo run --release -p oriel-store --example million [flows] [folder]`
//!
//! Each flow has a request and a response of about half a kilobyte of words each, drawn from a vocabulary
//! of 20,000 with the frequencies of a language; none repeats. A folder that is given is kept: then
//! `oriel serve --data FOLDER` shows what a service needs that holds it. Times of lists and searches are
//! the median of five, by a reader that is opened anew. Memory is from `/proc` of Linux.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::get_unwrap,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a measuring program for the terminal"
)]

#[path = "made/flows.rs"]
mod flows;
#[path = "made/words.rs"]
mod words;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use oriel_store::{Query, Reader, Recorder, Search, TextIndex};
use traffic::rules::filter::{Filter, Words};
use traffic::{Event, Target, Timestamp};

use self::flows::{Flow, Maker, Message, open_record};
use self::words::{Language, word};

/// Words there are.
const VOCABULARY: u64 = 20_000;
/// Words of a body.
const WORDS: u64 = 80;
const HOSTS: [&str; 4] = [
    "api.example.com",
    "mcp.example.com",
    "www.example.org",
    "pypi.example.net",
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let flows: u64 = arguments
        .next()
        .map_or(1_000_000, |text| text.parse().unwrap());
    let kept = arguments.next().map(PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let folder = kept.as_deref().unwrap_or_else(|| folder.path());
    let path = folder.join("oriel.db");
    println!("| what | figure |\n|---|---|");
    if !path.exists() {
        capture(&path, flows);
    }
    index(&path);
    lists(&path);
    searches(&path);
    told(
        "memory of this process, at most",
        format!("{} MiB", memory("VmHWM") / 1024),
    );
}

fn told(what: &str, figure: String) {
    println!("| {what} | {figure} |");
}

fn megabytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len()) >> 20
}

/// A line of `/proc/self/status`, in KiB.
fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn capture(path: &Path, flows: u64) {
    let (store, _, recorder) = open_record(path);
    let making = Instant::now();
    let made = Flows::new();
    for number in 0..2000 {
        drop(made.events(number));
    }
    let making = making.elapsed().as_secs_f64() / 2000.0;
    let began = Instant::now();
    push_all(&recorder, &made, flows);
    let took = began.elapsed().as_secs_f64();
    told("flows", flows.to_string());
    told(
        "captured, one after the other",
        format!(
            "{:.0} flows/s ({:.0} us of {:.0} are the making of the flow)",
            flows as f64 / took,
            making * 1e6,
            took / flows as f64 * 1e6
        ),
    );
    told("lost", format!("{} events", recorder.losses().events));
    store.close().unwrap();
    told("the record", format!("{} MiB", megabytes(path)));
    told(
        "memory while capturing, at most",
        format!("{} MiB", memory("VmHWM") / 1024),
    );
}

fn push_all(recorder: &Recorder, made: &Flows, flows: u64) {
    for number in 0..flows {
        recorder.handle_events(&mut made.events(number));
        // The writer is to keep up; a queue that grows would not be sustained.
        if number.is_multiple_of(5_000) {
            recorder.flush(Duration::from_secs(60)).unwrap();
        }
    }
    recorder.flush(Duration::from_secs(60)).unwrap();
}

fn index(path: &Path) {
    let mut index = TextIndex::open(path).unwrap();
    let behind = index.behind().unwrap();
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    loop {
        let step = Instant::now();
        if index.step().unwrap() == 0 {
            break;
        }
        longest = longest.max(step.elapsed());
    }
    let took = began.elapsed().as_secs_f64();
    if behind > 0 {
        told(
            "indexed",
            format!(
                "{:.0} flows/s, the longest step {} ms",
                behind as f64 / took,
                longest.as_millis()
            ),
        );
    }
    told(
        "the index",
        format!("{} MiB", megabytes(&path.with_extension("search.db"))),
    );
}

/// The median of five, by a reader that is opened anew, in milliseconds; and what was found.
fn median<T>(path: &Path, ask: impl Fn(&Reader) -> T) -> (f64, T) {
    let mut found = None;
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            let began = Instant::now();
            let reader = Reader::open(path).unwrap();
            found = Some(ask(&reader));
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times.get(2).copied().unwrap(), found.unwrap())
}

fn lists(path: &Path) {
    for (text, with_total) in [
        ("", false),
        ("", true),
        ("status:>=500", false),
        ("status:>=500", true),
        ("host:mcp.example.com path:/v1/*", false),
        ("since:2026-03-02T09:00:30Z status:404", false),
        ("text:zyzzyva", false),
    ] {
        let query = Query {
            filter: Some(Filter::parse(text, Timestamp(0)).unwrap()),
            with_total,
            ..Query::default()
        };
        let (millis, page) = median(path, |reader| reader.flows(&query).unwrap());
        let counted = if with_total { ", counted" } else { "" };
        told(
            &format!("list of 50, filter `{text}`{counted}"),
            format!(
                "{millis:.0} ms ({} rows, total {:?})",
                page.rows.len(),
                page.total
            ),
        );
    }
}

fn searches(path: &Path) {
    for (what, text, filter) in [
        ("a word of one flow in 100,000", "zyzzyva", ""),
        ("a word of nearly every flow", &*word(0), ""),
        (
            "two words beside each other",
            &*format!("{} {}", word(40), word(7)),
            "",
        ),
        (
            "two rare words beside each other, nowhere",
            &*format!("{} zyzzyva", word(9_000)),
            "",
        ),
        ("a word with a star", "zyzz*", ""),
        (
            "a common word, filtered",
            &*word(3),
            "status:>=500 host:www.example.org",
        ),
        (
            "a common word and a filter that nothing meets",
            &*word(3),
            "status:418",
        ),
    ] {
        let search = Search {
            words: Words::parse(text).unwrap(),
            parts: Vec::new(),
            filter: Some(Filter::parse(filter, Timestamp(0)).unwrap()),
            run: None,
            limit: 20,
            context: 60,
            after: None,
        };
        let (millis, hits) = median(path, |reader| reader.search(&search).unwrap());
        let more = if hits.next.is_some() { ", more" } else { "" };
        told(
            &format!("search for {what}"),
            format!("{millis:.0} ms ({} found{more})", hits.hits.len()),
        );
    }
}

/// Flows with several hosts and statuses, and bodies of words.
struct Flows {
    maker: Maker,
    targets: Vec<Target>,
}

impl Flows {
    fn new() -> Self {
        let targets = HOSTS.map(|host| Target::parse(host, 443).unwrap());
        Self {
            maker: Maker::new(50),
            targets: targets.into(),
        }
    }

    fn events(&self, number: u64) -> Vec<Event> {
        let host = usize::try_from(number % 4).unwrap();
        let status = match number % 100 {
            0 => 500,
            1..5 => 404,
            _ => 200,
        };
        let request = format!(
            "POST /v1/things/{} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
            User-Agent: agent/1.2.3\r\nAuthorization: Bearer sk-0123456789abcdef\r\n\r\n",
            number % 1000,
            HOSTS.get(host).unwrap(),
        );
        let response = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nServer: test\r\n\
            X-Request-Id: {number}\r\n\r\n"
        );
        self.maker.events(Flow {
            number,
            target: self.targets.get(host).unwrap(),
            request: Message {
                head: request.into(),
                body: Self::body(number * 2),
            },
            response: Message {
                head: response.into(),
                body: Self::body(number * 2 + 1),
            },
        })
    }

    fn body(number: u64) -> Bytes {
        let mut text = String::from("{\"text\":\"");
        let mut language = Language::new(VOCABULARY, number);
        for _ in 0..WORDS {
            language.push_word(&mut text);
        }
        if number.is_multiple_of(200_000) {
            text.push_str("zyzzyva");
        }
        text.push_str("\"}");
        Bytes::from(text)
    }
}
