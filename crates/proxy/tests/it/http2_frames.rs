//! HTTP/2 by hand: what no honest client sends. Refused, and nothing of it reaches an upstream.

use testbed::client::Client;
use testbed::upstream::Upstream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::running::{NAME, Running, http};
use crate::soon;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field block of literals without indexing (RFC 7541 section 6.2.2); each part is shorter than
/// 127 octets.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for part in [name, value] {
            let length = u8::try_from(part.len()).unwrap();
            assert!(length < 127, "{part}");
            block.push(length);
            block.extend(part.as_bytes());
        }
    }
    block
}

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", NAME),
    (":path", "/"),
];

/// A connection within CONNECT that has sent its preface and settings.
async fn begun(running: &Running, upstream: &Upstream) -> Client {
    let mut client = running.through(upstream).await;
    let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    begin.extend(frame(SETTINGS, 0, 0, &[]));
    client.send(begin).await.unwrap();
    client
}

/// How the proxy answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// The stream was reset.
    Reset,
    /// The connection was ended.
    Ended,
    /// A response came; its field block is left as it is.
    Response(Vec<u8>),
}

/// Reads frames up to the first that answers.
async fn answer(client: &mut Client) -> Answer {
    loop {
        let Ok(header) = client.read_exact(9).await else {
            return Answer::Ended;
        };
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let Ok(payload) = client.read_exact(length as usize).await else {
            return Answer::Ended;
        };
        match header[3] {
            RST_STREAM => return Answer::Reset,
            GOAWAY => return Answer::Ended,
            HEADERS => return Answer::Response(payload.to_vec()),
            _ => {}
        }
    }
}

/// Sends a request with these fields, and a body if there is one.
async fn ask(fields: &[(&str, &str)], body: Option<&str>) -> (Answer, u64) {
    let (upstream, running) = (http().await, Running::start().await);
    let mut client = begun(&running, &upstream).await;
    let ends = if body.is_none() { END_STREAM } else { 0 };
    let mut frames = frame(HEADERS, END_HEADERS | ends, 1, &block(fields));
    if let Some(body) = body {
        frames.extend(frame(DATA, END_STREAM, 1, body.as_bytes()));
    }
    client.send(frames).await.unwrap();
    let answer = soon(answer(&mut client)).await;
    (answer, upstream.request_count())
}

#[tokio::test]
async fn a_proper_request_by_hand_is_answered() {
    let (answer, requests) = ask(&GET, None).await;
    assert!(matches!(answer, Answer::Response(_)), "{answer:?}");
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let with = |more: &[(&'static str, &'static str)]| [&GET, more].concat();
    for (fields, body) in [
        (with(&[("X-Upper", "1")]), None),
        (with(&[("connection", "close")]), None),
        (with(&[("connection", "x-hop"), ("x-hop", "1")]), None),
        (with(&[("transfer-encoding", "chunked")]), Some("0\r\n\r\n")),
        (with(&[("keep-alive", "1")]), None),
        (with(&[("proxy-connection", "keep-alive")]), None),
        (with(&[("upgrade", "websocket")]), None),
        (with(&[("te", "gzip")]), None),
        (with(&[("x", "a\r\nInjected: 1")]), None),
        (with(&[("x", "a\nInjected: 1")]), None),
        (with(&[("x", "a\0b")]), None),
        (with(&[("x\r\ny", "1")]), None),
        (with(&[("x y", "1")]), None),
        (with(&[("x:", "1")]), None),
        (with(&[("", "1")]), None),
        (with(&[(":path", "/other")]), None),
        (with(&[(":unknown", "1")]), None),
        (with(&[(":status", "200")]), None),
        (with(&[("x", "1"), (":method", "GET")]), None),
        (with(&[("content-length", "5")]), None),
        (with(&[("content-length", "5")]), Some("four")),
        (with(&[("content-length", "3")]), Some("four")),
        (with(&[("content-length", "+4")]), Some("four")),
        (
            with(&[("content-length", "4"), ("content-length", "5")]),
            Some("four"),
        ),
        (with(&[("host", "other.example")]), None),
        (GET[1..].to_vec(), None),
        (vec![GET[0], GET[2], GET[3]], None),
        (GET[..3].to_vec(), None),
        (vec![GET[0], GET[1], GET[2], (":path", "")], None),
        (
            vec![GET[0], GET[1], GET[2], (":path", "/ HTTP/1.1\r\nX: y")],
            None,
        ),
        (vec![GET[0], GET[1], GET[2], (":path", "/a b")], None),
        (vec![(":method", "GET /x"), GET[1], GET[2], GET[3]], None),
        (
            vec![GET[0], GET[1], (":authority", "a\r\nX: y"), GET[3]],
            None,
        ),
        (
            vec![GET[0], GET[1], (":authority", "u:p@localhost"), GET[3]],
            None,
        ),
    ] {
        let (answer, requests) = ask(&fields, body).await;
        let refused = match &answer {
            Answer::Reset | Answer::Ended => true,
            // Index 12 of the static table is :status 400 (RFC 7541 appendix A).
            Answer::Response(block) => block.first() == Some(&0x8c),
        };
        assert!(refused, "{fields:?} {body:?}: {answer:?}");
        assert_eq!(requests, 0, "{fields:?} {body:?}");
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_not_collected() {
    // CVE-2024-27316: CONTINUATION frames without an end.
    let (upstream, running) = (http().await, Running::start().await);
    let mut client = begun(&running, &upstream).await;
    let first = frame(HEADERS, END_STREAM, 1, &block(&GET));
    client.send(first).await.unwrap();
    let more = frame(
        CONTINUATION,
        0,
        1,
        &block(&[("x-pad", &"y".repeat(100))]).repeat(100),
    );
    let ended = async {
        let mut sent: u64 = 0;
        while client.send(&more).await.is_ok() {
            sent += more.len() as u64;
            assert!(sent < 64 * 1024 * 1024, "it is taken without end");
        }
    };
    soon(ended).await;
    assert_eq!(upstream.connection_count(), 0);
}

#[tokio::test]
async fn a_large_head_is_refused() {
    let (upstream, running) = (http().await, Running::start().await);
    let mut client = begun(&running, &upstream).await;
    // A kilobyte on the wire each, over the bound together.
    let pad = block(&[("x-pad", &"y".repeat(100))]).repeat(140);
    let mut frames = frame(HEADERS, END_STREAM, 1, &block(&GET));
    for number in 0..8 {
        let flags = if number == 7 { END_HEADERS } else { 0 };
        frames.extend(frame(CONTINUATION, flags, 1, &pad));
    }
    // The connection may be ended before all of it was taken.
    let _sent = client.send(frames).await;
    let answer = soon(answer(&mut client)).await;
    // Index 8 to 14 are the statuses of the static table; 431 is none and comes as a literal.
    let refused = match &answer {
        Answer::Reset | Answer::Ended => true,
        Answer::Response(block) => block.ends_with(b"431") || block.first() == Some(&0x48),
    };
    assert!(refused, "{answer:?}");
    assert_eq!(upstream.request_count(), 0);
}

#[tokio::test]
async fn pings_and_settings_do_not_stop_others() {
    for flood in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        let (upstream, running) = (http().await, Running::start().await);
        let mut client = begun(&running, &upstream).await;
        let flood = flood.repeat(10_000);
        // Its answers are not read: at some point it is not read either, or sent away.
        let sent = async {
            for _time in 0..100 {
                if client.send(&flood).await.is_err() {
                    return;
                }
            }
        };
        let limit = std::time::Duration::from_millis(300);
        let _stuck = tokio::time::timeout(limit, sent).await;
        let mut other = running.through(&upstream).await;
        let request = testbed::client::Request::get("/bytes/3").host(NAME);
        assert_eq!(soon(other.request(&request)).await.unwrap().body.seen, 3);
    }
}

/// What is sent once, and what is sent again and again, by the number of the time.
struct Flood {
    name: &'static str,
    before: Vec<u8>,
    each: fn(u32) -> Vec<u8>,
    times: u32,
    /// Whether the connection is ended for it; otherwise it is borne.
    ends: bool,
}

/// Sends a flood and then a PING; says whether the connection was ended before that was answered.
async fn ends(client: Client, flood: &Flood) -> bool {
    let (mut read, mut write) = tokio::io::split(client.into_wire().unwrap());
    let writing = async {
        let mut frames = flood.before.clone();
        for time in 0..flood.times {
            frames.extend((flood.each)(time));
            if frames.len() > 32 * 1024 {
                write.write_all(&frames).await?;
                frames.clear();
            }
        }
        frames.extend(frame(PING, 0, 0, b"the last"));
        write.write_all(&frames).await
    };
    let reading = async {
        loop {
            let mut header = [0; 9];
            if read.read_exact(&mut header).await.is_err() {
                return true;
            }
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let mut payload = vec![0; length as usize];
            if read.read_exact(&mut payload).await.is_err() {
                return true;
            }
            match (header[3], header[4]) {
                (GOAWAY, _) => return true,
                (PING, ACK) if payload == b"the last" => return false,
                _ => {}
            }
        }
    };
    let (_sent, ended) = tokio::join!(writing, reading);
    ended
}

/// The stream that a client opens at this time.
fn stream_of(time: u32) -> u32 {
    2 * time + 1
}

fn request(stream: u32, ends: u8, path: &str) -> Vec<u8> {
    let fields = [GET[0], GET[1], GET[2], (":path", path)];
    frame(HEADERS, END_HEADERS | ends, stream, &block(&fields))
}

#[tokio::test]
async fn floods_of_frames_are_borne_or_end_the_connection_and_others_are_served() {
    let upload = [GET[1], GET[2], (":method", "POST"), (":path", "/upload")];
    let upload = frame(HEADERS, END_HEADERS, 1, &block(&upload));
    for flood in [
        Flood {
            name: "empty DATA",
            before: upload,
            each: |_| frame(DATA, 0, 1, &[]),
            times: 200_000,
            ends: true,
        },
        Flood {
            name: "empty HEADERS",
            before: Vec::new(),
            each: |time| frame(HEADERS, END_HEADERS | END_STREAM, stream_of(time), &[]),
            times: 20_000,
            ends: true,
        },
        Flood {
            name: "empty CONTINUATION",
            before: frame(HEADERS, END_STREAM, 1, &block(&GET)),
            each: |_| frame(CONTINUATION, 0, 1, &[]),
            times: 200_000,
            ends: true,
        },
        Flood {
            name: "PRIORITY",
            before: Vec::new(),
            each: |time| frame(PRIORITY, 0, stream_of(time), &[0, 0, 0, 0, 1]),
            times: 100_000,
            ends: false,
        },
        Flood {
            name: "WINDOW_UPDATE",
            before: request(1, END_STREAM, "/hang"),
            each: |time| frame(WINDOW_UPDATE, 0, time % 2, &[0, 0, 0, 1]),
            times: 100_000,
            ends: false,
        },
        Flood {
            name: "WINDOW_UPDATE of zero",
            before: Vec::new(),
            each: |_| frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
            times: 10,
            ends: true,
        },
        Flood {
            name: "windows of zero",
            // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 section 6.5.2).
            before: frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]),
            each: |time| request(stream_of(time), END_STREAM, "/bytes/1000000"),
            times: 600,
            ends: false,
        },
        Flood {
            name: "streams that the proxy is made to reset",
            before: Vec::new(),
            each: |time| {
                let stream = stream_of(time);
                let wrong = frame(WINDOW_UPDATE, 0, stream, &[0; 4]);
                [request(stream, END_STREAM, "/hang"), wrong].concat()
            },
            times: 600,
            ends: true,
        },
        Flood {
            name: "DATA on streams that the client has ended",
            before: Vec::new(),
            each: |time| {
                let stream = stream_of(time);
                let wrong = frame(DATA, 0, stream, b"more");
                [request(stream, END_STREAM, "/hang"), wrong].concat()
            },
            times: 600,
            ends: true,
        },
    ] {
        let (upstream, running) = (http().await, Running::start().await);
        let client = begun(&running, &upstream).await;
        assert_eq!(
            soon(ends(client, &flood)).await,
            flood.ends,
            "{}",
            flood.name
        );
        // What was begun in vain is bounded by what may be under way at once.
        assert!(
            upstream.request_count() <= 500,
            "{}: {}",
            flood.name,
            upstream.request_count()
        );
        let mut other = running.through(&upstream).await;
        let request = testbed::client::Request::get("/bytes/3").host(NAME);
        assert_eq!(soon(other.request(&request)).await.unwrap().body.seen, 3);
    }
}
