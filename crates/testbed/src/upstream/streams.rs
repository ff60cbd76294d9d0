//! Answers that stream: server-sent events, lines of JSON, AWS event streams, gRPC. Each message is
//! a piece of its own, and a content coding is flushed after each.

use std::io::Write;

use bytes::Bytes;

use super::Received;
use super::reply::{Part, Reply, ReplyFraming};
use super::routes::{number, paced, pause};
use crate::message::Headers;

const GRPC_PREFIX_BYTES: usize = 5;

/// `/sse?events=N&ending=lf|cr|crlf`
pub(super) fn events(request: &Received) -> Reply {
    let ending = match request.query("ending") {
        Some("cr") => "\r",
        Some("crlf") => "\r\n",
        _ => "\n",
    };
    let event = move |index: u64| {
        format!("id: {index}{ending}data: {{\"index\":{index}}}{ending}{ending}").into_bytes()
    };
    stream(request, "text/event-stream", event).with("cache-control", "no-cache")
}

/// `/ndjson?events=N`
pub(super) fn lines(request: &Received) -> Reply {
    let line = |index: u64| format!("{{\"index\":{index}}}\n").into_bytes();
    stream(request, "application/x-ndjson", line)
}

/// `/eventstream?events=N`
pub(super) fn messages(request: &Received) -> Reply {
    let message = |index: u64| event_stream_message(&format!("{{\"index\":{index}}}"));
    stream(request, "application/vnd.amazon.eventstream", message)
}

/// `/grpc?copies=N`: the messages of the request, each N times, then the trailers. The request is
/// read whole first.
pub(super) fn grpc(request: &Received) -> Reply {
    let copies = number(request, "copies").unwrap_or(1);
    let delay = pause(request);
    let mut echoes = Vec::new();
    let mut rest = request.body.kept.clone();
    while let Some(length) = grpc_frame_bytes(&rest) {
        let frame = rest.split_to(length);
        echoes.extend((0..copies).map(|_| frame.clone()));
    }
    let trailers = [("grpc-status", "0"), ("grpc-message", "")];
    let trailers = trailers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut reply = Reply::new(200, ReplyFraming::Chunked).with("content-type", "application/grpc");
    if let Some(coding) = request.headers.get("grpc-encoding") {
        reply = reply.with("grpc-encoding", coding);
    }
    let pieces = (0..)
        .zip(echoes)
        .flat_map(move |(index, frame)| paced(index, delay, frame));
    reply.parts(pieces.chain([Part::Trailers(Headers(trailers.into()))]))
}

/// The bytes of the first message with its prefix, if it is whole.
fn grpc_frame_bytes(bytes: &[u8]) -> Option<usize> {
    let [_flags, length @ ..] = *bytes.first_chunk::<GRPC_PREFIX_BYTES>()?;
    let length = GRPC_PREFIX_BYTES.checked_add(u32::from_be_bytes(length) as usize)?;
    (length <= bytes.len()).then_some(length)
}

/// As many messages as `events` asks for, `delay_ms` apart, in the content coding that `coding`
/// names.
fn stream(
    request: &Received,
    content_type: &str,
    message: impl Fn(u64) -> Vec<u8> + Send + 'static,
) -> Reply {
    let count = number(request, "events").unwrap_or(10);
    let delay = pause(request);
    let coding = request.query("coding").unwrap_or("identity");
    let Some(mut encoder) = Encoder::named(coding) else {
        return Reply::full(400, "text/plain", "coding is gzip, deflate, br or zstd\n");
    };
    let mut reply = Reply::new(200, ReplyFraming::Chunked).with("content-type", content_type);
    if coding != "identity" {
        reply = reply.with("content-encoding", coding);
    }
    // An encoder that writes to memory does not fail; if it did, its message would be missing.
    reply.parts((0..=count).flat_map(move |index| {
        let piece = if index < count {
            encoder.flushed(&message(index))
        } else {
            encoder.end()
        };
        let delay = delay.filter(|_| index < count);
        let part = paced(index, delay, piece.unwrap_or_default());
        part.filter(|part| !matches!(part, Part::Data(data) if data.is_empty()))
    }))
}

/// A content coding that is flushed after each message.
enum Encoder {
    Identity,
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Deflate(flate2::write::ZlibEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Ended,
}

impl Encoder {
    fn named(name: &str) -> Option<Self> {
        let level = flate2::Compression::default();
        Some(match name {
            "identity" => Self::Identity,
            "gzip" => Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), level)),
            "deflate" => Self::Deflate(flate2::write::ZlibEncoder::new(Vec::new(), level)),
            "br" => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                4096,
                5,
                20,
            ))),
            "zstd" => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 3).ok()?),
            _ => return None,
        })
    }

    fn flushed(&mut self, message: &[u8]) -> std::io::Result<Bytes> {
        let writer: &mut dyn Write = match self {
            Self::Identity => return Ok(Bytes::copy_from_slice(message)),
            Self::Gzip(encoder) => encoder,
            Self::Deflate(encoder) => encoder,
            Self::Brotli(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
            Self::Ended => return Ok(Bytes::new()),
        };
        writer.write_all(message)?;
        writer.flush()?;
        let written = match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Deflate(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Identity | Self::Ended => return Ok(Bytes::new()),
        };
        Ok(std::mem::take(written).into())
    }

    fn end(&mut self) -> std::io::Result<Bytes> {
        let rest = match std::mem::replace(self, Self::Ended) {
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Deflate(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Identity | Self::Ended => Vec::new(),
        };
        Ok(rest.into())
    }
}

/// An event named `chunk`, as Bedrock sends them.
fn event_stream_message(payload: &str) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in [(":message-type", "event"), (":event-type", "chunk")] {
        headers.push(length_of(name).to_be_bytes()[3]);
        headers.extend(name.as_bytes());
        headers.push(7);
        headers.extend(&length_of(value).to_be_bytes()[2..]);
        headers.extend(value.as_bytes());
    }
    let mut message = (16 + length_of(&headers) + length_of(payload))
        .to_be_bytes()
        .to_vec();
    message.extend(length_of(&headers).to_be_bytes());
    message.extend(checksum(&message));
    message.extend(headers);
    message.extend(payload.as_bytes());
    message.extend(checksum(&message));
    message
}

fn length_of(bytes: impl AsRef<[u8]>) -> u32 {
    u32::try_from(bytes.as_ref().len()).unwrap_or(u32::MAX)
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut checksum = flate2::Crc::new();
    checksum.update(bytes);
    checksum.sum().to_be_bytes()
}
