//! A model API that needs no model: the paths of OpenAI, Anthropic and Google, with their wire
//! formats, streamed and whole, and a turn that calls a tool.
//!
//! The answer depends on the request alone. When tools are offered and the conversation has no
//! tool result yet, the first tool is called; otherwise a text is written.

mod chat;
mod contents;
mod messages;
mod realtime;
mod responses;

use std::time::Duration;

use serde_json::{Value, json};

pub(super) use self::realtime::Session as RealtimeSession;
use super::Received;
use super::reply::{Part, Reply, ReplyFraming};

/// Between two events of a stream: a model that writes fast, but not at once.
const EVENT_PAUSE: Duration = Duration::from_millis(4);
/// When all that is made up here was created: 2025-11-21T00:00:00Z.
const CREATED: u64 = 1_763_683_200;
const TEXT: &str = "The build is green: 42 tests passed and none failed. \
    The slowest took 310 ms, so there is nothing to worry about.";

/// Whose manner of refusing it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Company {
    OpenAi,
    Anthropic,
    Google,
}

/// What a request asks for, in the words the companies share.
struct Ask<'a> {
    request: &'a Received,
    body: Value,
    model: String,
    stream: bool,
}

/// What the model says.
enum Say {
    Text(&'static str),
    CallTool { name: String, arguments: String },
}

/// Chooses the answer. Pure.
pub(super) fn answer(request: &Received) -> Reply {
    let path = request.path();
    let company = if path.starts_with("/v1beta/") {
        Company::Google
    } else if path.starts_with("/v1/messages") || has(request, "anthropic-version") {
        Company::Anthropic
    } else {
        Company::OpenAi
    };
    let keys = ["authorization", "x-api-key", "x-goog-api-key"];
    if !keys.iter().any(|name| has(request, name)) && request.query("key").is_none() {
        return refuse(company, 401, "authentication_error", "no API key was sent");
    }
    if company == Company::Google {
        return contents::answer(request);
    }
    match (request.method.as_str(), path) {
        ("GET", "/v1/models") if company == Company::Anthropic => messages::models(),
        ("GET", "/v1/models") => chat::models(),
        ("POST", "/v1/chat/completions") => with_ask(request, company, chat::answer),
        ("POST", "/v1/responses") => with_ask(request, company, responses::answer),
        ("POST", "/v1/messages") => with_ask(request, company, messages::answer),
        ("POST", "/v1/messages/count_tokens") => with_ask(request, company, messages::count_tokens),
        _ => refuse(company, 404, "not_found_error", "no such path or method"),
    }
}

/// What a WebSocket of OpenAI Responses answers to one message.
pub(super) fn answer_message(request: &Received, message: &[u8]) -> Vec<String> {
    responses::answer_message(request, message)
}

fn with_ask(request: &Received, company: Company, answer: fn(&Ask<'_>) -> Reply) -> Reply {
    const INVALID: &str = "invalid_request_error";
    let Ok(body) = serde_json::from_slice::<Value>(&request.body.kept) else {
        return refuse(company, 400, INVALID, "the body is no JSON");
    };
    let Some(model) = body.get("model").and_then(Value::as_str).map(str::to_owned) else {
        return refuse(company, 400, INVALID, "model: field required");
    };
    let stream = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
    answer(&Ask {
        request,
        body,
        model,
        stream,
    })
}

fn refuse(company: Company, status: u16, kind: &str, message: &str) -> Reply {
    let error = match company {
        Company::Anthropic => json!({
            "type": "error",
            "error": { "type": kind, "message": message },
            "request_id": "req_011testbed0000",
        }),
        Company::OpenAi => {
            json!({ "error": { "message": message, "type": kind, "param": null, "code": null } })
        }
        Company::Google => {
            let kind = kind.to_ascii_uppercase();
            json!({ "error": { "code": status, "message": message, "status": kind } })
        }
    };
    Reply::full(status, "application/json", error.to_string())
}

impl Ask<'_> {
    /// A call of the first offered tool, unless a result is there already.
    fn say(&self, name_of: fn(&Value) -> Option<&str>, has_result: bool) -> Say {
        let tool = self.body.get("tools").and_then(|tools| tools.get(0));
        match tool.and_then(name_of) {
            Some(name) if !has_result => Say::CallTool {
                name: name.to_owned(),
                arguments: json!({ "command": "cargo test" }).to_string(),
            },
            Some(_) | None => Say::Text(TEXT),
        }
    }

    /// A plausible count: four bytes of JSON make a token.
    fn input_tokens(&self) -> u64 {
        (self.request.body.seen / 4).max(1)
    }

    /// An id that is the same for the same request.
    fn id(&self, prefix: &str) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in &self.request.body.kept {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        format!("{prefix}{hash:016x}")
    }
}

impl Say {
    fn output_tokens(&self) -> u64 {
        let length = match self {
            Self::Text(text) => text.len(),
            Self::CallTool { name, arguments } => name.len() + arguments.len() + 16,
        };
        (length / 4).max(1) as u64
    }

    /// The text or the arguments in the pieces a model writes them in.
    fn pieces(&self) -> Vec<String> {
        match self {
            Self::Text(text) => text.split_inclusive(' ').map(str::to_owned).collect(),
            Self::CallTool { arguments, .. } => {
                let characters: Vec<char> = arguments.chars().collect();
                characters
                    .chunks(6)
                    .map(|piece| piece.iter().collect())
                    .collect()
            }
        }
    }
}

/// A response that is one JSON document.
fn document(value: &Value) -> Reply {
    Reply::full(200, "application/json", value.to_string())
}

/// A stream of server-sent events, each a text ready to send.
fn stream(events: Vec<String>) -> Reply {
    let parts = events.into_iter().enumerate().flat_map(|(index, event)| {
        let pause = (index > 0).then_some(Part::Pause(EVENT_PAUSE));
        pause.into_iter().chain([Part::Data(event.into())])
    });
    Reply::new(200, ReplyFraming::Chunked)
        .with("content-type", "text/event-stream; charset=utf-8")
        .with("cache-control", "no-cache")
        .parts(parts)
}

/// The fields of the first, and those of the second, which win.
fn merged(first: &Value, second: &Value) -> Value {
    let mut merged = first.clone();
    for (name, value) in second.as_object().into_iter().flatten() {
        merged[name] = value.clone();
    }
    merged
}

fn has(request: &Received, name: &str) -> bool {
    request.headers.get(name).is_some()
}
