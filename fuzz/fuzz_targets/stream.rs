//! The readers of streams: no panic, and the same items in any pieces, each within its bound and
//! numbered without gaps. Of a coded stream the bounds alone are checked: how much comes out of a
//! corrupt one may depend on the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use traffic::wire::stream::{StreamCodings, StreamDecoder, StreamEnd, StreamItem, StreamKind};

const KINDS: [StreamKind; 6] = [
    StreamKind::Sse,
    StreamKind::Ndjson,
    StreamKind::Grpc,
    StreamKind::GrpcWeb,
    StreamKind::GrpcWebText,
    StreamKind::EventStream,
];
const CONTENT_CODINGS: [&str; 6] = ["", "gzip", "deflate", "br", "zstd", "gzip, br"];
const MESSAGE_CODINGS: [&str; 3] = ["", "gzip", "zstd"];
const BYTES_KEPT: usize = 64;

fuzz_target!(|input: (u8, u8, u8, &[u8])| {
    let (kind, codings, piece, stream) = input;
    let kind = KINDS[usize::from(kind) % KINDS.len()];
    let codings = StreamCodings {
        content: CONTENT_CODINGS[usize::from(codings) % CONTENT_CODINGS.len()],
        message: MESSAGE_CODINGS[usize::from(codings) / 8 % MESSAGE_CODINGS.len()],
    };
    let whole = read(kind, codings, stream, stream.len());
    let cut = read(kind, codings, stream, usize::from(piece));
    if codings.content.is_empty() {
        assert_eq!(cut, whole);
    }
});

fn read(
    kind: StreamKind,
    codings: StreamCodings<'_>,
    stream: &[u8],
    piece: usize,
) -> Vec<StreamItem> {
    let mut decoder = StreamDecoder::new(kind, codings, BYTES_KEPT);
    let mut items = Vec::new();
    let mut next_sequence = 0;
    let mut take = |item: StreamItem| {
        if let StreamItem::Message(message) = &item {
            assert_eq!(message.sequence, next_sequence);
            assert!(message.payload.len() <= BYTES_KEPT);
            next_sequence += 1;
        }
        items.push(item);
    };
    for piece in stream.chunks(piece.max(1)) {
        decoder.push(piece, &mut take);
    }
    decoder.finish(StreamEnd::Cut, &mut take);
    items
}
