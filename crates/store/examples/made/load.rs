//! Flows with a request and a response of 1 KiB each and heads of the usual size, an authorization field among
//! them.

use bytes::Bytes;
use traffic::{Event, Target};

use super::flows::{Flow, Maker, Message, next_number};
use super::words::Language;

const BODY_BYTES: usize = 1024;
/// From the start of a flow to that of the next, as they say.
pub(crate) const MICROS_BETWEEN: i64 = 50;
/// Words there are, besides ids: those of a large dictionary.
const VOCABULARY: u64 = 100_000;
const REQUEST_HEAD: &str = "POST /v1/messages?beta=true HTTP/1.1\r\n\
    Host: api.example.com\r\n\
    Accept: application/json\r\n\
    Content-Type: application/json\r\n\
    User-Agent: agent/1.2.3 (linux; x86_64)\r\n\
    Authorization: Bearer sk-0123456789abcdef0123456789abcdef\r\n\
    X-Request-Id: 0123456789\r\n\
    Content-Length: 1024\r\n\r\n";
const RESPONSE_HEAD: &str = "HTTP/1.1 200 OK\r\n\
    Date: Mon, 02 Mar 2026 09:00:00 GMT\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 1024\r\n\
    Server: test\r\n\
    Cache-Control: no-store\r\n\
    X-Request-Id: 0123456789\r\n\r\n";

/// What bodies are like.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    Words,
    Same,
    Unique,
}

impl Load {
    /// The one that is named so on a command line.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "words" => Some(Self::Words),
            "same" => Some(Self::Same),
            "unique" => Some(Self::Unique),
            _ => None,
        }
    }

    pub(crate) fn told(self) -> &'static str {
        match self {
            Self::Words => "words of a language, and an id",
            Self::Same => "all the same",
            Self::Unique => "of words that no other has",
        }
    }

    fn body(self, number: u64) -> Bytes {
        let mut text = match self {
            Self::Words => words_of_language(number),
            Self::Same => words_of_its_own(0),
            Self::Unique => words_of_its_own(number),
        };
        text.truncate(BODY_BYTES);
        Bytes::from(text)
    }
}

/// Flows of a load.
pub(crate) struct Flows {
    maker: Maker,
    target: Target,
    load: Load,
}

impl Flows {
    pub(crate) fn new(load: Load) -> Self {
        Self {
            maker: Maker::new(MICROS_BETWEEN),
            target: Target::parse("api.example.com", 443).unwrap(),
            load,
        }
    }

    /// What is told of the flow with this number.
    pub(crate) fn events(&self, number: u64) -> Vec<Event> {
        self.maker.events(Flow {
            number,
            target: &self.target,
            request: self.message(REQUEST_HEAD, number * 2),
            response: self.message(RESPONSE_HEAD, number * 2 + 1),
        })
    }

    fn message(&self, head: &str, number: u64) -> Message {
        Message {
            // A head of its own for each, as the engine has.
            head: Bytes::copy_from_slice(head.as_bytes()),
            body: self.load.body(number),
        }
    }
}

/// A text that somebody said.
fn words_of_language(number: u64) -> String {
    let mut language = Language::new(VOCABULARY, number);
    let mut text = format!("{{\"id\":\"msg{number:016x}\",\"text\":\"");
    while text.len() < BODY_BYTES {
        language.push_word(&mut text);
    }
    text
}

/// Text that compresses about as JSON does.
fn words_of_its_own(number: u64) -> String {
    let mut text = format!("{{\"number\":{number},\"messages\":[");
    let mut state = number;
    while text.len() < BODY_BYTES {
        text.push_str(&format!(
            "{{\"role\":\"user\",\"id\":\"{:08x}\"}},",
            next_number(&mut state) >> 32
        ));
    }
    text
}
