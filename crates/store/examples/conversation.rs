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

#[path = "made/flows.rs"]
mod flows;
#[path = "made/threads.rs"]
mod threads;

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use oriel_store::{FlowRef, Message, Reader};
use serde_json::json;
use traffic::Target;

use self::flows::{Flow, Maker, next_number, open_record};
use self::threads::{time_of, time_of_threads};

const REQUEST_HEAD: &str = "POST /v1/messages HTTP/1.1\r\nContent-Type: application/json\r\n\r\n";
const RESPONSE_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

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
    let (store, run, recorder) = open_record(&path);
    let maker = Maker::new(1_000_000);
    let target = Target::parse("api.example.com", 443).unwrap();
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
            recorder.handle_events(&mut maker.events(Flow {
                number: turn * count + number as u64,
                target: &target,
                request: message(REQUEST_HEAD, request),
                response: message(RESPONSE_HEAD, response),
            }));
        }
        recorder.flush(Duration::from_secs(60)).unwrap();
    }
    let writing = time_of_threads("oriel-store");
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
        next_number(&mut self.0) >> 33
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

fn message(head: &'static str, body: Vec<u8>) -> flows::Message {
    flows::Message {
        head: Bytes::from_static(head.as_bytes()),
        body: body.into(),
    }
}

/// Processor time of this thread.
fn own_time() -> Duration {
    time_of(Path::new("/proc/thread-self"))
}
