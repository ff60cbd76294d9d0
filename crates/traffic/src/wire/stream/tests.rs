//! Each format alone, damaged, and through each coding, in every chunking.

mod eventstream;
mod grpc;
mod lines;
mod pieces;

use super::*;

const KEPT: usize = 1 << 20;

/// Everything that a stream gives when it is cut in pieces of some length.
fn read(
    mut decoder: StreamDecoder,
    stream: &[u8],
    piece: usize,
    end: StreamEnd,
) -> Vec<StreamItem> {
    let mut items = Vec::new();
    for piece in stream.chunks(piece.max(1)) {
        decoder.push(piece, &mut |item| items.push(item));
        decoder.push(b"", &mut |item| items.push(item));
    }
    decoder.finish(end, &mut |item| items.push(item));
    decoder.finish(end, &mut |_| panic!("an item after the end"));
    items
}

/// Reads a stream whole and in all small pieces, which must give the same.
fn read_anyhow(make: impl Fn() -> StreamDecoder, stream: &[u8], end: StreamEnd) -> Vec<StreamItem> {
    let whole = read(make(), stream, stream.len(), end);
    for piece in 1..=stream.len().min(17) {
        assert_eq!(read(make(), stream, piece, end), whole, "pieces of {piece}");
    }
    whole
}

fn plain(kind: StreamKind) -> StreamDecoder {
    StreamDecoder::new(kind, StreamCodings::default(), KEPT)
}

/// One line per item, for tables.
fn shown(items: &[StreamItem]) -> Vec<String> {
    items.iter().map(shown_item).collect()
}

fn shown_item(item: &StreamItem) -> String {
    let message = match item {
        StreamItem::Message(message) => message,
        StreamItem::Comment(text) => return format!("comment {:?}", lossy(text)),
        StreamItem::Retry(time) => return format!("retry {time}"),
        StreamItem::Note(note) => return format!("note {}", note.code()),
    };
    let mut line = format!("{} {:?}", message.sequence, lossy(&message.payload));
    for (label, text) in [("name", &message.name), ("id", &message.id)] {
        if let Some(text) = text {
            line += &format!(" {label}={text}");
        }
    }
    if message.truncated {
        line += &format!(" of {}", message.size);
    }
    if !message.complete {
        line += " incomplete";
    }
    if let Some(note) = message.note {
        line += &format!(" ({})", note.code());
    }
    line
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn content_types_are_known() {
    for (content_type, kind) in [
        ("text/event-stream", Some(StreamKind::Sse)),
        ("Text/Event-Stream;charset=utf-8", Some(StreamKind::Sse)),
        ("application/x-ndjson", Some(StreamKind::Ndjson)),
        ("application/jsonl ; x=y", Some(StreamKind::Ndjson)),
        ("application/grpc", Some(StreamKind::Grpc)),
        ("application/grpc+proto", Some(StreamKind::Grpc)),
        ("application/grpc-web+proto", Some(StreamKind::GrpcWeb)),
        ("application/grpc-web-text", Some(StreamKind::GrpcWebText)),
        (
            "application/grpc-web-text+proto",
            Some(StreamKind::GrpcWebText),
        ),
        (
            "application/vnd.amazon.eventstream",
            Some(StreamKind::EventStream),
        ),
        ("application/json", None),
        ("application/x-ndjson+zip", None),
        ("application/grpcish", None),
        ("", None),
    ] {
        assert_eq!(kind_of(content_type), kind, "{content_type}");
    }
}

#[test]
fn codes_are_distinct() {
    use StreamNote as N;
    let notes = [
        N::CodingUnknown,
        N::TooManyCodings,
        N::CodingCorrupt,
        N::CodingTruncated,
        N::CodingBomb,
        N::BytesAfterCoding,
        N::NotUtf8,
        N::SseUnknownField,
        N::SseFieldTooLong,
        N::GrpcFlags,
        N::GrpcCodingMissing,
        N::GrpcCodingUnknown,
        N::GrpcMessageCorrupt,
        N::Base64Invalid,
        N::EventStreamPreludeChecksum,
        N::EventStreamLengths,
        N::EventStreamMessageChecksum,
        N::EventStreamHeaders,
        N::EventStreamHeadersTooLong,
        N::Cut,
    ];
    let mut set = note::NoteSet::default();
    assert!(notes.iter().all(|note| set.insert(*note)));
    assert!(!notes.iter().any(|note| set.insert(*note)));
    let codes: std::collections::HashSet<&str> = notes.iter().map(|note| note.code()).collect();
    assert_eq!(codes.len(), notes.len());
}
