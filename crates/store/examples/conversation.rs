//! Measures what a long session with an agent takes in the record: each request repeats all that was
//! said before, as agents' requests do.
//!
//! `cargo run --release -p oriel-store --example conversation [turns] [sessions]`
//!
//! The requests are those of a made-up agent: a system prompt with a line that changes each time, the
//! descriptions of its tools, and all turns so far, each with what a model said and what a tool
//! answered, some hundred bytes to some kilobytes long. `cache_control` marks stand at the last two
//! turns and so move with each. Several sessions run by turns. The texts are of words as frequent as
//! words are, and compress to about a third.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program for the terminal"
)]

use std::fs;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oriel_store::{
    FlowRef, Message, NewRun, Reader, Recorder, Redaction, RunKind, Store, StoreOptions,
};
use serde_json::json;
use traffic::{
    Action, BodySize, ConnectionFacts, ConnectionId, Event, FlowId, FlowKind, FlowStarted, Front,
    Head, NoTls, Outcome, Route, Scheme, Target, Timestamp, Version,
};

/// The one that the program uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = |otherwise| {
        arguments
            .next()
            .map_or(otherwise, |text| text.parse().unwrap())
    };
    let (turns, count): (u64, u64) = (next(200), next(1));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oriel.db");
    let store = Store::open(&path, StoreOptions::new(Redaction::Basic)).unwrap();
    let run = store
        .begin_run(NewRun {
            name: None,
            argv: Vec::new(),
            started_at: Timestamp(0),
            kind: RunKind::Demo,
        })
        .unwrap();
    let recorder = store.recorder(run);
    let mut sessions: Vec<Session> = (0..count).map(Session::new).collect();
    let mut raw = 0;
    let mut largest = 0;
    // What storing each body by itself takes: hash and compress it.
    let mut alone = 0;
    let mut alone_time = Duration::ZERO;
    let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
    for turn in 0..turns {
        for (number, session) in sessions.iter_mut().enumerate() {
            let (request, response) = session.turn();
            raw += request.len() + response.len();
            largest = largest.max(request.len());
            let began = own_time();
            for body in [&request, &response] {
                black_box(blake3::hash(body));
                alone += compressor.compress(body).unwrap().len();
            }
            alone_time += own_time() - began;
            let number = turn * count + number as u64;
            record(&recorder, number, request.into(), response.into());
        }
        recorder.flush(Duration::from_secs(60)).unwrap();
    }
    let writing = thread_time("oriel-store");
    let flows = turns * count;
    store.close().unwrap();
    let stored = size_of_record(&path);
    println!("{flows} requests of {count} sessions, the longest has {largest} bytes");
    println!("raw          {raw} bytes");
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / flows as f64;
    println!(
        "alone        {alone} bytes, {:.0} us per request to hash and compress",
        micros(alone_time)
    );
    println!(
        "in the file  {stored} bytes, 1/{:.0} of the raw; {:.0} us per request in all (writer)",
        raw as f64 / stored as f64,
        micros(writing)
    );
    let reader = Reader::open(&path).unwrap();
    let began = own_time();
    let flow = FlowRef { run, seq: flows };
    let body = reader.body(flow, Message::Request).unwrap().unwrap();
    println!(
        "reader       {} us for the last of {} bytes",
        (own_time() - began).as_micros(),
        body.bytes.len()
    );
}

/// The bytes of the file and of what belongs to it.
fn size_of_record(path: &Path) -> u64 {
    let folder = fs::read_dir(path.parent().unwrap()).unwrap();
    folder
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

/// A made-up session.
struct Session {
    words: Words,
    tools: serde_json::Value,
    system: String,
    messages: Vec<serde_json::Value>,
}

impl Session {
    fn new(number: u64) -> Self {
        // All of them work with the same tools and the same rules.
        let mut shared = Words(7);
        let tools = (0..18).map(|tool| {
            json!({"name": format!("tool_{tool}"), "description": shared.text(1500),
                "input_schema": {"type": "object", "properties": {"path": {"type": "string",
                "description": shared.text(120)}, "limit": {"type": "number"}}}})
        });
        let tools = tools.collect();
        let system = shared.text(14_000);
        let mut words = Words(1000 + number);
        let asked = words.text(600);
        Self {
            messages: vec![json!({"role": "user", "content": [{"type": "text", "text": asked}]})],
            words,
            tools,
            system,
        }
    }

    /// The next request and its answer.
    fn turn(&mut self) -> (Vec<u8>, Vec<u8>) {
        let mut messages = self.messages.clone();
        for message in messages.iter_mut().rev().step_by(2).take(2) {
            let last = message["content"].as_array_mut().unwrap().last_mut();
            last.unwrap()["cache_control"] = json!({"type": "ephemeral"});
        }
        let request = json!({
            "model": "claude-opus-4-5", "max_tokens": 32000, "stream": true,
            "metadata": {"user_id": "user_0123456789abcdef_account__session_1"},
            "system": [
                {"type": "text", "text": format!("billing: cc=2.1.0.{:x}", self.words.next())},
                {"type": "text", "text": self.system, "cache_control": {"type": "ephemeral"}},
            ],
            "tools": self.tools,
            "messages": messages,
        });
        let (said, tool) = (self.length(60, 900), self.length(100, 6000));
        let id = format!("toolu_{:016x}", self.words.next());
        let said = self.words.text(said);
        let input = self.words.text(80);
        self.messages.push(json!({"role": "assistant", "content": [
            {"type": "text", "text": said},
            {"type": "tool_use", "id": id, "name": "tool_3", "input": {"path": input}},
        ]}));
        let answer = self.words.text(tool);
        self.messages.push(json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": id, "content": answer},
        ]}));
        // As events, one for a few words.
        let mut response = String::new();
        for part in said.split_inclusive(' ').collect::<Vec<_>>().chunks(4) {
            let delta = json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": part.concat()}});
            response += &format!("event: content_block_delta\ndata: {delta}\n\n");
        }
        (request.to_string().into_bytes(), response.into_bytes())
    }

    /// Often near the lower bound, seldom near the upper one.
    fn length(&mut self, min: u64, max: u64) -> usize {
        let part = self.words.next() % 1000;
        usize::try_from(min + (max - min) * part * part / 1_000_000).unwrap()
    }
}

/// Words of which some are frequent; the state of the numbers they are drawn by.
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0 >> 33
    }

    fn text(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes + 16);
        while text.len() < bytes {
            // The rank of the word: the product of two is small more often than large.
            let mut rank = (self.next() % 100) * (self.next() % 100);
            loop {
                let letters = b"etaoinsrhdlucmfwypvbgkjqxz";
                text.push(char::from(letters[(rank * 7 % 26) as usize]));
                rank /= 5;
                if rank == 0 {
                    break;
                }
            }
            text.push(if self.next().is_multiple_of(12) {
                '\n'
            } else {
                ' '
            });
        }
        text.truncate(bytes);
        text
    }
}

fn record(recorder: &Recorder, number: u64, request: Bytes, response: Bytes) {
    let flow = FlowId(number);
    let at = Timestamp(1_772_442_000_000_000 + i64::try_from(number).unwrap() * 1_000_000);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000));
    let size = |body: &Bytes| BodySize {
        seen: body.len() as u64,
        kept: body.len() as u64,
    };
    let (request_size, response_size) = (size(&request), size(&response));
    recorder.handle_events(vec![
        Event::FlowStarted(Box::new(FlowStarted {
            flow,
            at,
            kind: FlowKind::Http,
            connection: Arc::new(ConnectionFacts {
                connection: ConnectionId(1),
                client_address: address.into(),
                proxy_address: address.into(),
                accepted_at: at,
                front: Front::Connect,
                user: None,
                process: None,
                hello: None,
                tls: Err(NoTls::PlainHttp),
                tls_done_at: None,
            }),
            scheme: Scheme::Https,
            target: Target::parse("api.example.com", 443).unwrap(),
            route: Arc::new(Route {
                action: Action::Intercept,
                rule: "all".to_owned(),
            }),
            head: head("POST /v1/messages HTTP/1.1\r\nContent-Type: application/json\r\n\r\n"),
        })),
        Event::RequestData {
            flow,
            at,
            data: request,
        },
        Event::RequestEnded {
            flow,
            at,
            size: request_size,
            trailers: None,
        },
        Event::ResponseStarted {
            flow,
            at,
            head: head("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"),
        },
        Event::ResponseData {
            flow,
            at,
            data: response,
        },
        Event::ResponseEnded {
            flow,
            at,
            size: response_size,
            trailers: None,
        },
        Event::FlowEnded {
            flow,
            at,
            outcome: Outcome::Completed,
            tunnelled: None,
        },
    ]);
}

fn head(text: &'static str) -> Head {
    Head {
        version: Version::Http11,
        text: Bytes::from_static(text.as_bytes()),
    }
}

/// Processor time of this thread.
fn own_time() -> Duration {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}

/// Processor time of the threads of this process that have this name.
fn thread_time(name: &str) -> Duration {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        if fs::read_to_string(task.join("comm")).unwrap().trim() == name {
            let schedstat = fs::read_to_string(task.join("schedstat")).unwrap();
            sum += schedstat.split(' ').next().unwrap().parse::<u64>().unwrap();
        }
    }
    Duration::from_nanos(sum)
}
