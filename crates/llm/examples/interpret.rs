//! Measures what it costs to tell what a request is: nanoseconds for each of some kinds of requests,
//! the best of several rounds.
//!
//! `cargo run --release -p oriel-llm --example interpret`
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a measuring program for the terminal"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use oriel_llm::{Body, Glance, Interpreter, Request};
use traffic::{FlowKind, Head, Target, Version};

const ROUNDS: usize = 20;
const FIELDS: &str = "Host: api.example.com\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
    User-Agent: agent/1.2.3 (linux; x86_64)\r\nAuthorization: Bearer sk-0123456789abcdef0123456789abcdef\r\n\
    X-Request-Id: 0123456789\r\nContent-Length: 1024\r\n";

fn main() {
    let claude =
        format!("{FIELDS}X-Claude-Code-Session-Id: 5cbd2f4a-7f0e-4f4c-8f35-4f1c2d1c9a10\r\n");
    let small = body(1024);
    for (name, host, method, path, fields, body, count) in [
        (
            "GET of any host",
            "api.example.com",
            "GET",
            "/assets/app.js",
            FIELDS,
            Bytes::new(),
            100_000,
        ),
        (
            "POST of 1 KiB of JSON to any host",
            "api.example.com",
            "POST",
            "/v2/orders/7",
            FIELDS,
            small.clone(),
            100_000,
        ),
        (
            "call of a model, session in a field",
            "api.anthropic.com",
            "POST",
            "/v1/messages",
            &*claude,
            small.clone(),
            20_000,
        ),
        (
            "call of a model, session behind 1 KiB",
            "api.anthropic.com",
            "POST",
            "/v1/messages",
            FIELDS,
            small,
            20_000,
        ),
        (
            "call of a model, session behind 256 KiB",
            "api.anthropic.com",
            "POST",
            "/v1/messages",
            FIELDS,
            body(256 * 1024),
            100,
        ),
        (
            "call of a model, session behind 20 MB",
            "api.anthropic.com",
            "POST",
            "/v1/messages",
            FIELDS,
            body(20_000_000),
            1,
        ),
        (
            "20 MB of backslashes",
            "api.anthropic.com",
            "POST",
            "/v1/messages",
            FIELDS,
            odd(b'\\'),
            1,
        ),
        (
            "20 MB of brackets",
            "api.anthropic.com",
            "POST",
            "/v1/messages",
            FIELDS,
            odd(b'['),
            1,
        ),
    ] {
        let interpreter = Interpreter::default();
        let class = interpreter.host_class(&Target::parse(host, 443).unwrap());
        let head = Head {
            version: Version::Http11,
            text: format!("{method} {path} HTTP/1.1\r\n{fields}\r\n").into(),
        };
        let pieces = [body];
        let request = Request {
            kind: FlowKind::Http,
            method,
            path,
            content_type: Some("application/json"),
            head: &head,
            glance: Glance::of(&head),
            body: Body {
                pieces: &pieces,
                cut: false,
            },
        };
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            for _ in 0..count {
                let request = Request {
                    glance: Glance::of(black_box(&head)),
                    ..request
                };
                black_box(interpreter.interpret(class, black_box(&request)));
            }
            best = best.min(began.elapsed() / count);
        }
        println!("{:>10} ns  {name}", best.as_nanos());
    }
}

/// A conversation with the id of its session at the end.
fn body(bytes: usize) -> Bytes {
    let mut text = r#"{"model":"m","messages":[{"role":"user","content":""#.to_owned();
    while text.len() + 100 < bytes {
        text.push_str(r##"fn main() { println!(\"hello\"); }\n"##);
    }
    text.push_str(r#""}],"metadata":{"user_id":"user_0a_account_1b_session_2c"}}"#);
    text.into()
}

fn odd(byte: u8) -> Bytes {
    let mut text = br#"{"a":"#.to_vec();
    if byte == b'\\' {
        text.push(b'"');
    }
    text.resize(20_000_000, byte);
    text.into()
}
