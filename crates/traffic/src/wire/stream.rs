//! Reads the messages out of a body that streams, while its bytes pass: server-sent events, lines
//! of JSON, gRPC messages, AWS event streams.
//!
//! A [`StreamDecoder`] is fed the payload of one body in any pieces. It gives each message as soon
//! as its last byte is there, keeps at most a bounded part of it, and never fails: what is not
//! understood is noted once per reason, and reading goes on where the format allows it. It never
//! changes what passes; it does not even own it.
//!
//! ```
//! use oriel_traffic::wire::stream::{
//!     StreamCodings, StreamDecoder, StreamEnd, StreamItem, StreamKind, kind_of,
//! };
//!
//! let kind = kind_of("text/event-stream; charset=utf-8").unwrap();
//! assert_eq!(kind, StreamKind::Sse);
//! let mut decoder = StreamDecoder::new(kind, StreamCodings::default(), 1 << 20);
//! let mut payloads = Vec::new();
//! let mut take = |item| {
//!     if let StreamItem::Message(message) = item {
//!         payloads.push(message.payload);
//!     }
//! };
//! decoder.push(b"event: greeting\ndata: hel", &mut take);
//! decoder.push(b"lo\n\ndata: [DONE]\n\n", &mut take);
//! decoder.finish(StreamEnd::Whole, &mut take);
//! assert_eq!(payloads, ["hello", "[DONE]"]);
//! ```

mod base64;
mod capture;
mod eventstream;
mod grpc;
mod ndjson;
mod note;
mod sse;

use std::sync::Arc;

use bytes::Bytes;

pub use self::eventstream::{Header, HeaderValue};
pub use self::note::StreamNote;

use self::base64::Base64;
use self::eventstream::EventStream;
use self::grpc::{Envelope, Grpc};
use self::ndjson::Ndjson;
use self::sse::Sse;
use super::encoding::Decoder;

/// How a body that streams is cut into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamKind {
    /// Server-sent events (WHATWG HTML section 9.2).
    Sse,
    /// One JSON text per line.
    Ndjson,
    /// gRPC over HTTP/2: messages with a prefix of five bytes.
    Grpc,
    /// gRPC-Web: the same, with the trailers in a last frame.
    GrpcWeb,
    /// gRPC-Web in base64.
    GrpcWebText,
    /// `application/vnd.amazon.eventstream`.
    EventStream,
}

/// The codings of a stream, as its fields name them; empty for none.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamCodings<'a> {
    /// Content-Encoding: codings of the whole body, several separated by commas.
    pub content: &'a str,
    /// `grpc-encoding`: the coding of each gRPC message that is marked as compressed.
    pub message: &'a str,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// Its framing says that it is whole.
    Whole,
    /// The connection or the stream ended before.
    Cut,
}

/// What was seen in a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamItem {
    /// A message.
    Message(StreamMessage),
    /// A comment of an event stream, which keeps it alive: its first bytes.
    Comment(Bytes),
    /// An event stream asks its client to wait so long before it connects again, in milliseconds.
    Retry(u64),
    /// Something that is not as the format says. Each reason comes once per stream.
    Note(StreamNote),
}

/// One message of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamMessage {
    /// Counts the messages of the stream: 0, 1, 2 without gaps.
    pub sequence: u64,
    /// What it is.
    pub kind: MessageKind,
    /// What it says, without framing, as far as it was kept. The bytes are as they came: text in
    /// them need not be UTF-8.
    pub payload: Bytes,
    /// Bytes of payload that came; of a compressed gRPC message while compressed.
    pub size: u64,
    /// True if `payload` is not all that came, because it is longer than the bound.
    pub truncated: bool,
    /// False if the stream ended before the message did.
    pub complete: bool,
    /// The name of an event, where it has one: `event` of a server-sent event; `:event-type`,
    /// `:exception-type` or `:error-code` of an event stream message.
    pub name: Option<Arc<str>>,
    /// The last event id when a server-sent event came, if there was any.
    pub id: Option<Arc<str>>,
    /// The headers of an event stream message.
    pub headers: Vec<Header>,
    /// What is wrong with it.
    pub note: Option<StreamNote>,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageKind {
    /// The data of a server-sent event, its lines joined by LF.
    SseData,
    /// A line of JSON.
    NdjsonLine,
    /// A gRPC message, decompressed if its coding is known.
    GrpcMessage,
    /// The trailers that end a gRPC-Web stream, as lines of an HTTP/1.1 head.
    GrpcTrailers,
    /// A message of an AWS event stream.
    EventStreamMessage,
}

impl MessageKind {
    /// A stable name.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::SseData => "sse_data",
            Self::NdjsonLine => "ndjson_line",
            Self::GrpcMessage => "grpc_message",
            Self::GrpcTrailers => "grpc_trailers",
            Self::EventStreamMessage => "eventstream_message",
        }
    }
}

/// What a Content-Type says about messages; none if the body is not known to be a stream.
#[must_use]
pub fn kind_of(content_type: &str) -> Option<StreamKind> {
    const KINDS: [(&str, StreamKind); 13] = [
        ("text/event-stream", StreamKind::Sse),
        ("application/x-ndjson", StreamKind::Ndjson),
        ("application/ndjson", StreamKind::Ndjson),
        ("application/jsonl", StreamKind::Ndjson),
        ("application/x-jsonl", StreamKind::Ndjson),
        ("application/jsonlines", StreamKind::Ndjson),
        ("application/x-jsonlines", StreamKind::Ndjson),
        ("application/jsonl+json", StreamKind::Ndjson),
        ("application/stream+json", StreamKind::Ndjson),
        ("application/grpc", StreamKind::Grpc),
        ("application/grpc-web", StreamKind::GrpcWeb),
        ("application/grpc-web-text", StreamKind::GrpcWebText),
        (
            "application/vnd.amazon.eventstream",
            StreamKind::EventStream,
        ),
    ];
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is_named = |name: &str| essence.eq_ignore_ascii_case(name);
    if let Some((_, kind)) = KINDS.iter().find(|(name, _)| is_named(name)) {
        return Some(*kind);
    }
    // gRPC names the format of its messages after a plus: application/grpc+proto.
    let (base, _) = essence.split_once('+')?;
    let mut grpc = KINDS
        .iter()
        .filter(|(name, _)| name.starts_with("application/grpc"));
    let (_, kind) = grpc.find(|(name, _)| base.eq_ignore_ascii_case(name))?;
    Some(*kind)
}

/// Reads one stream.
///
/// It holds one message of at most the bound, and the windows of the content codings
/// (`wire::limits::STREAM_CODINGS_MAX`).
#[derive(Debug)]
pub struct StreamDecoder {
    /// None if the stream has no coding.
    content: Option<Decoder>,
    framing: Framing,
    emitter: Emitter,
    /// Why nothing can be read, until it was said.
    refused: Option<StreamNote>,
}

/// What finds the messages.
#[derive(Debug)]
enum Framing {
    Sse(Sse),
    Ndjson(Ndjson),
    Grpc(Grpc),
    GrpcText(Base64, Grpc),
    EventStream(EventStream),
    /// Nothing more can be understood.
    Lost,
}

impl StreamDecoder {
    /// For a stream of a kind in its codings. Of each message at most `message_bytes_kept` bytes
    /// are kept; `wire::limits::MESSAGE_BYTES_KEPT` is a good choice.
    #[must_use]
    pub fn new(kind: StreamKind, codings: StreamCodings<'_>, message_bytes_kept: usize) -> Self {
        let grpc = |envelope| Grpc::new(envelope, codings.message, message_bytes_kept);
        let mut framing = match kind {
            StreamKind::Sse => Framing::Sse(Sse::new(message_bytes_kept)),
            StreamKind::Ndjson => Framing::Ndjson(Ndjson::new(message_bytes_kept)),
            StreamKind::Grpc => Framing::Grpc(grpc(Envelope::Http2)),
            StreamKind::GrpcWeb => Framing::Grpc(grpc(Envelope::Web)),
            StreamKind::GrpcWebText => Framing::GrpcText(Base64::default(), grpc(Envelope::Web)),
            StreamKind::EventStream => Framing::EventStream(EventStream::new(message_bytes_kept)),
        };
        let mut refused = None;
        let mut content = None;
        match Decoder::new(codings.content) {
            Ok(decoder) if decoder.is_identity() => {}
            Ok(decoder) => content = Some(decoder),
            Err(note) => {
                refused = Some(StreamNote::of_coding(&note));
                framing = Framing::Lost;
            }
        }
        Self {
            content,
            framing,
            emitter: Emitter::default(),
            refused,
        }
    }

    /// Takes the next bytes of the body and gives what they complete.
    pub fn push(&mut self, bytes: &[u8], out: &mut impl FnMut(StreamItem)) {
        self.push_dyn(bytes, out);
    }

    /// Takes note of the end of the body and gives what it leaves behind. Further bytes are
    /// ignored.
    pub fn finish(&mut self, end: StreamEnd, out: &mut impl FnMut(StreamItem)) {
        self.finish_dyn(end, out);
    }

    fn push_dyn(&mut self, bytes: &[u8], sink: &mut dyn FnMut(StreamItem)) {
        let mut out = Out {
            emitter: &mut self.emitter,
            sink,
        };
        if let Some(note) = self.refused.take() {
            out.note(note);
        }
        let framing = &mut self.framing;
        match &mut self.content {
            None => framing.push(bytes, &mut out),
            Some(content) => {
                content.push(bytes, &mut |piece| framing.push(piece, &mut out));
                if let Some(note) = content.note() {
                    out.note(StreamNote::of_coding(&note));
                }
            }
        }
    }

    fn finish_dyn(&mut self, end: StreamEnd, sink: &mut dyn FnMut(StreamItem)) {
        let mut out = Out {
            emitter: &mut self.emitter,
            sink,
        };
        if let Some(note) = self.refused.take() {
            out.note(note);
        }
        let mut end = end;
        if let Some(note) = self.content.as_ref().and_then(Decoder::note_at_end) {
            let note = StreamNote::of_coding(&note);
            if note != StreamNote::BytesAfterCoding {
                end = StreamEnd::Cut;
            }
            out.note(note);
        }
        let framing = std::mem::replace(&mut self.framing, Framing::Lost);
        framing.finish(end, &mut out);
    }
}

impl Framing {
    fn push(&mut self, bytes: &[u8], out: &mut Out<'_>) {
        let goes_on = match self {
            Self::Sse(sse) => {
                sse.push(bytes, out);
                true
            }
            Self::Ndjson(ndjson) => {
                ndjson.push(bytes, out);
                true
            }
            Self::Grpc(grpc) => grpc.push(bytes, out),
            Self::GrpcText(base64, grpc) => base64.push(bytes, out, grpc),
            Self::EventStream(stream) => stream.push(bytes, out),
            Self::Lost => true,
        };
        if !goes_on {
            *self = Self::Lost;
        }
    }

    fn finish(self, end: StreamEnd, out: &mut Out<'_>) {
        match self {
            Self::Sse(sse) => sse.finish(out),
            Self::Ndjson(ndjson) => ndjson.finish(end, out),
            Self::Grpc(grpc) | Self::GrpcText(_, grpc) => grpc.finish(out),
            Self::EventStream(stream) => stream.finish(out),
            Self::Lost => {}
        }
    }
}

/// What counts messages and remembers notes.
#[derive(Debug, Default)]
struct Emitter {
    next_sequence: u64,
    noted: note::NoteSet,
}

/// Where items go.
struct Out<'a> {
    emitter: &'a mut Emitter,
    sink: &'a mut dyn FnMut(StreamItem),
}

impl Out<'_> {
    /// Gives a message its number and sends it.
    fn message(&mut self, mut message: StreamMessage) {
        message.sequence = self.emitter.next_sequence;
        self.emitter.next_sequence += 1;
        (self.sink)(StreamItem::Message(message));
    }

    fn note(&mut self, note: StreamNote) {
        if self.emitter.noted.insert(note) {
            (self.sink)(StreamItem::Note(note));
        }
    }

    fn item(&mut self, item: StreamItem) {
        (self.sink)(item);
    }
}

#[cfg(test)]
mod tests;
