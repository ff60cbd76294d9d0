//! The paths of the general upstream. Each shows one shape of response.
//!
//! | path | answer |
//! |---|---|
//! | `/bytes/N` | N bytes of the pattern, with `content-length` and ranges |
//! | `/chunked/N?size=K&delay_ms=D` | N bytes in chunks of K, D ms apart |
//! | `/close-delimited?size=N` | N bytes that end when the connection does |
//! | `/echo` | the request's head and body |
//! | `/upload` | how many bytes were sent |
//! | `/status/N` | that status |
//! | `/sse?events=N&delay_ms=D&ending=cr&coding=gzip` | N server-sent events, D ms apart |
//! | `/ndjson`, `/eventstream` | N lines or messages, with the same parameters |
//! | `/grpc?copies=N&delay_ms=D` | the messages of the request N times, then trailers |
//! | `/alt-svc`, `/alt-svc/h3` | offers of HTTP/3 and HTTP/2 in two lines, or of HTTP/3 alone |
//! | `/trailers` | a chunked body with trailers |
//! | `/early-hints` | 103, then 200 |
//! | `/continue/refuse` | 417 before the body is read |
//! | `/gzip`, `/deflate`, `/br`, `/zstd` | compressed JSON |
//! | `/slow-head?delay_ms=D` | a head in two pieces |
//! | `/truncate?size=N` | half of the N bytes it promised, then a close |
//! | `/reset?after=N&code=C` | N bytes, then a reset; without `after`, no head either |
//! | `/hang` | nothing |
//! | `/websocket` | a WebSocket, see `upstream/websocket.rs` |
//! | `/v1/…`, `/v1beta/…` | a model API |

use std::io::Write;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::reply::{HeadPace, Part, Reply, ReplyFraming};
use super::{Received, models, pattern, streams};
use crate::message::Headers;

const CANCEL: u32 = 8;

/// Chooses the answer. Pure: nothing is waited for here.
pub(super) fn answer(request: &Received) -> Reply {
    let path = request.path();
    if path.starts_with("/v1/") || path.starts_with("/v1beta/") {
        return models::answer(request);
    }
    let mut steps = path.trim_start_matches('/').split('/');
    let (name, argument) = (steps.next().unwrap_or_default(), steps.next());
    let count = argument.and_then(|text| text.parse::<u64>().ok());
    match name {
        "" => Reply::full(200, "text/plain", "testbed upstream\n"),
        "bytes" => bytes(request, count.unwrap_or(0)),
        "chunked" => chunked(request, count.unwrap_or(0)),
        "close-delimited" => close_delimited(request),
        "echo" => echo(request),
        "upload" => upload(request),
        "status" => status(count),
        "sse" => streams::events(request),
        "ndjson" => streams::lines(request),
        "eventstream" => streams::messages(request),
        "grpc" => streams::grpc(request),
        "alt-svc" => alt_svc(argument),
        "trailers" => trailers(),
        "early-hints" => early_hints(),
        "continue" => Reply::full(417, "text/plain", "not with me\n").with("connection", "close"),
        "gzip" | "deflate" | "br" | "zstd" => compressed(name),
        "slow-head" => slow_head(request),
        "truncate" => truncate(request),
        "reset" => reset(request),
        "websocket" => Reply::full(426, "text/plain", "ask for an upgrade\n")
            .with("connection", "upgrade")
            .with("upgrade", "websocket"),
        "hang" => Reply::none(Part::Hang),
        _ => Reply::full(404, "text/plain", "no such route\n"),
    }
}

/// Whether this request is answered before its body is read.
pub(super) fn refuses_body(path: &str) -> bool {
    path == "/continue/refuse"
}

fn alt_svc(argument: Option<&str>) -> Reply {
    let reply = Reply::full(200, "text/plain", "come closer\n");
    let reply = reply.with("alt-svc", r#"h3=":443"; ma=86400, h3-29=":443""#);
    match argument {
        Some(_only) => reply,
        None => reply.with("alt-svc", r#"h2="near.example:443"; ma=60"#),
    }
}

fn bytes(request: &Received, length: u64) -> Reply {
    let data = |start, count| pattern(start, count).map(Part::Data);
    let describe = |reply: Reply| {
        reply
            .with("content-type", "application/octet-stream")
            .with("accept-ranges", "bytes")
            .with("etag", format!("\"pattern-{length}\""))
    };
    let Some(range) = request.headers.get("range") else {
        return describe(Reply::new(200, ReplyFraming::Length(length))).parts(data(0, length));
    };
    let Some((start, end)) = parse_range(range, length) else {
        return Reply::new(416, ReplyFraming::Length(0))
            .with("content-range", format!("bytes */{length}"));
    };
    let count = end - start + 1;
    describe(Reply::new(206, ReplyFraming::Length(count)))
        .with("content-range", format!("bytes {start}-{end}/{length}"))
        .parts(data(start, count))
}

/// Reads one range with a start, the only form that resuming clients send.
fn parse_range(text: &str, length: u64) -> Option<(u64, u64)> {
    let (start, end) = text.strip_prefix("bytes=")?.split_once('-')?;
    let start = start.parse().ok()?;
    let last = length.checked_sub(1)?;
    let end = if end.is_empty() {
        last
    } else {
        end.parse::<u64>().ok()?.min(last)
    };
    (start <= end).then_some((start, end))
}

fn chunked(request: &Received, length: u64) -> Reply {
    let size = number(request, "size").unwrap_or(16 * 1024).max(1);
    let pause = pause(request);
    let chunk = move |index: u64| {
        let start = index * size;
        let count = size.min(length - start);
        let mut data = BytesMut::new();
        pattern(start, count).for_each(|piece| data.extend_from_slice(&piece));
        paced(index, pause, data.freeze())
    };
    Reply::new(200, ReplyFraming::Chunked)
        .with("content-type", "application/octet-stream")
        .parts((0..length.div_ceil(size)).flat_map(chunk))
}

fn close_delimited(request: &Received) -> Reply {
    let length = number(request, "size").unwrap_or(1024);
    Reply::new(200, ReplyFraming::Close)
        .with("content-type", "application/octet-stream")
        .with("connection", "close")
        .parts(pattern(0, length).map(Part::Data))
}

fn echo(request: &Received) -> Reply {
    let mut body = BytesMut::from(&request.raw_head[..]);
    if request.raw_head.is_empty() {
        let line = format!("{} {} HTTP/2\r\n", request.method, request.target);
        body.extend_from_slice(line.as_bytes());
        for (name, value) in &request.headers.0 {
            body.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(&request.body.kept);
    Reply::full(200, "application/octet-stream", body.freeze())
}

fn upload(request: &Received) -> Reply {
    let text = json!({ "received": request.body.seen }).to_string();
    Reply::full(200, "application/json", text)
}

fn status(code: Option<u64>) -> Reply {
    let code = code.and_then(|code| u16::try_from(code).ok());
    match code {
        Some(204 | 304) => Reply::new(code.unwrap_or(204), ReplyFraming::Bodiless),
        Some(code @ (200..=599)) => Reply::full(code, "text/plain", format!("status {code}\n")),
        Some(_) | None => Reply::full(400, "text/plain", "status is 200 to 599\n"),
    }
}

fn trailers() -> Reply {
    let fields = [("x-checksum", "abc123"), ("x-timing", "db;dur=2")];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Reply::new(200, ReplyFraming::Chunked)
        .with("content-type", "text/plain")
        .with("trailer", "x-checksum, x-timing")
        .parts([
            Part::Data("first ".into()),
            Part::Data("second\n".into()),
            Part::Trailers(Headers(fields.into())),
        ])
}

fn early_hints() -> Reply {
    let link = ("link".to_owned(), "</style.css>; rel=preload".to_owned());
    let mut reply = Reply::full(200, "text/plain", "after the hint\n");
    reply.interim.push((103, Headers(vec![link])));
    reply
}

fn compressed(encoding: &str) -> Reply {
    let text = json!({
        "encoding": encoding,
        "lines": (0..200).map(|line| format!("line {line} of a repetitive text")).collect::<Vec<_>>(),
    })
    .to_string();
    match compress(encoding, text.as_bytes()) {
        Ok(body) => Reply::full(200, "application/json", body)
            .with("content-encoding", encoding)
            .with("vary", "accept-encoding"),
        Err(error) => Reply::full(500, "text/plain", error.to_string()),
    }
}

fn compress(encoding: &str, text: &[u8]) -> std::io::Result<Bytes> {
    let level = flate2::Compression::default();
    let body = match encoding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(text)?;
            encoder.finish()?
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(text)?;
            encoder.finish()?
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
            encoder.write_all(text)?;
            encoder.into_inner()
        }
        _ => zstd::encode_all(text, 3)?,
    };
    Ok(body.into())
}

fn slow_head(request: &Received) -> Reply {
    let pause = Duration::from_millis(number(request, "delay_ms").unwrap_or(100));
    let mut reply = Reply::full(200, "text/plain", "at last\n");
    reply.head = HeadPace::Split(pause);
    reply
}

fn truncate(request: &Received) -> Reply {
    let promised = number(request, "size").unwrap_or(1000);
    Reply::new(200, ReplyFraming::Length(promised))
        .with("content-type", "application/octet-stream")
        .parts(pattern(0, promised / 2).map(Part::Data).chain([Part::Cut]))
}

fn reset(request: &Received) -> Reply {
    let code = number(request, "code").and_then(|code| u32::try_from(code).ok());
    let end = Part::Reset(code.unwrap_or(CANCEL));
    let Some(after) = number(request, "after") else {
        return Reply::none(end);
    };
    Reply::new(200, ReplyFraming::Length(after * 2 + 1))
        .with("content-type", "application/octet-stream")
        .parts(pattern(0, after).map(Part::Data).chain([end]))
}

pub(super) fn pause(request: &Received) -> Option<Duration> {
    number(request, "delay_ms").map(Duration::from_millis)
}

/// One piece with the pause that parts it from the one before.
pub(super) fn paced(
    index: u64,
    pause: Option<Duration>,
    data: Bytes,
) -> impl Iterator<Item = Part> {
    let pause = pause.filter(|_| index > 0).map(Part::Pause);
    pause.into_iter().chain([Part::Data(data)])
}

pub(super) fn number(request: &Received, name: &str) -> Option<u64> {
    request.query(name)?.parse().ok()
}
