//! What holds for every format: the same items in any pieces and through any coding, each as soon
//! as it was sent, and never more than the bounds allow.

use std::io::Write;

use proptest::prelude::*;

use super::eventstream::{message, text};
use super::grpc::{base64, frame, gzip};
use super::*;

const KINDS: [StreamKind; 6] = [
    StreamKind::Sse,
    StreamKind::Ndjson,
    StreamKind::Grpc,
    StreamKind::GrpcWeb,
    StreamKind::GrpcWebText,
    StreamKind::EventStream,
];
const CODINGS: [&str; 5] = ["", "gzip", "deflate", "br", "zstd"];

/// Compresses each piece and flushes after it. Gives what each added.
fn flushed(coding: &str, pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
    match coding {
        "" => pieces.to_vec(),
        "gzip" => {
            let level = flate2::Compression::default();
            let encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            each_flushed(
                encoder,
                pieces,
                |encoder| encoder.get_mut(),
                |encoder| encoder.finish().unwrap(),
            )
        }
        "deflate" => {
            let level = flate2::Compression::default();
            let encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            each_flushed(
                encoder,
                pieces,
                |encoder| encoder.get_mut(),
                |encoder| encoder.finish().unwrap(),
            )
        }
        "raw deflate" => {
            let level = flate2::Compression::default();
            let encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            each_flushed(
                encoder,
                pieces,
                |encoder| encoder.get_mut(),
                |encoder| encoder.finish().unwrap(),
            )
        }
        "br" => {
            let encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            each_flushed(
                encoder,
                pieces,
                |encoder| encoder.get_mut(),
                |encoder| encoder.into_inner(),
            )
        }
        "zstd" => {
            let encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
            each_flushed(
                encoder,
                pieces,
                |encoder| encoder.get_mut(),
                |encoder| encoder.finish().unwrap(),
            )
        }
        other => panic!("{other}"),
    }
}

fn each_flushed<W: Write>(
    mut encoder: W,
    pieces: &[Vec<u8>],
    written: impl Fn(&mut W) -> &mut Vec<u8>,
    finish: impl Fn(W) -> Vec<u8>,
) -> Vec<Vec<u8>> {
    let mut given = Vec::new();
    for piece in pieces {
        encoder.write_all(piece).unwrap();
        encoder.flush().unwrap();
        given.push(std::mem::take(written(&mut encoder)));
    }
    given.push(finish(encoder));
    given
}

fn coded(kind: StreamKind, content: &str, kept: usize) -> StreamDecoder {
    let codings = StreamCodings {
        content: content.strip_prefix("raw ").unwrap_or(content),
        message: "gzip",
    };
    StreamDecoder::new(kind, codings, kept)
}

/// One message of a format.
fn encoded(kind: StreamKind, payload: &[u8]) -> Vec<u8> {
    let line: Vec<u8> = payload.iter().map(|byte| byte % 64 + b'!').collect();
    match kind {
        StreamKind::Sse => [b"event: e\ndata: ", &line[..], b"\r\n\r\n"].concat(),
        StreamKind::Ndjson => [b"{", &line[..], b"}\n"].concat(),
        StreamKind::Grpc | StreamKind::GrpcWeb if payload.len() % 2 == 1 => {
            frame(1, &gzip(payload))
        }
        StreamKind::Grpc | StreamKind::GrpcWeb => frame(0, payload),
        StreamKind::GrpcWebText => base64(&frame(0, payload)).into_bytes(),
        StreamKind::EventStream => message(&text(":event-type", "e"), payload),
    }
}

#[test]
fn what_was_flushed_comes_out_at_once() {
    let payloads: Vec<Vec<u8>> = (0..20_u8)
        .map(|number| vec![number; usize::from(number)])
        .collect();
    for kind in KINDS {
        let pieces: Vec<Vec<u8>> = payloads
            .iter()
            .map(|payload| encoded(kind, payload))
            .collect();
        for coding in ["", "gzip", "deflate", "raw deflate", "br", "zstd"] {
            let mut decoder = coded(kind, coding, KEPT);
            let mut count = 0;
            for (number, piece) in flushed(coding, &pieces).iter().enumerate() {
                decoder.push(piece, &mut |item| match item {
                    StreamItem::Message(_) => count += 1,
                    other => panic!("{other:?}"),
                });
                assert_eq!(count, pieces.len().min(number + 1), "{kind:?} {coding}");
            }
            decoder.finish(StreamEnd::Whole, &mut |item| {
                panic!("{kind:?} {coding} {item:?}")
            });
        }
    }
}

#[test]
fn two_codings_are_undone_and_three_are_not() {
    let twice = flushed("br", &flushed("gzip", &[b"data: a\n\n".to_vec()])).concat();
    let read = |codings: &str, stream: &[u8]| {
        shown(&read_anyhow(
            || coded(StreamKind::Sse, codings, KEPT),
            stream,
            StreamEnd::Whole,
        ))
    };
    assert_eq!(read("gzip, br", &twice), ["0 \"a\""]);
    assert_eq!(read("gzip, identity, br", &twice), ["0 \"a\""]);
    assert_eq!(read("gzip, br, zstd", &twice), ["note too_many_codings"]);
    assert_eq!(read("sdch", b"data: a\n\n"), ["note coding_unknown"]);
    assert_eq!(read("sdch", b""), ["note coding_unknown"]);
}

#[test]
fn damage_to_a_coding_is_noted() {
    let events: Vec<Vec<u8>> = (0..3)
        .map(|n| format!("data: {n}\n\n").into_bytes())
        .collect();
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let make = || coded(StreamKind::Sse, coding, KEPT);
        let pieces = flushed(coding, &events);
        let cut = pieces[..2].concat();
        let expected = ["0 \"0\"", "1 \"1\"", "note coding_truncated"];
        assert_eq!(
            shown(&read_anyhow(make, &cut, StreamEnd::Whole)),
            expected,
            "{coding}"
        );
        assert_eq!(shown(&read_anyhow(make, b"", StreamEnd::Whole)), [""; 0]);
        let garbage = read_anyhow(
            make,
            b"{\"error\": \"this is plain json\"}",
            StreamEnd::Whole,
        );
        assert_eq!(shown(&garbage), ["note coding_corrupt"], "{coding}");
    }
    let followed = [flushed("gzip", &events).concat(), b"padding".to_vec()].concat();
    let make = || coded(StreamKind::Sse, "gzip", KEPT);
    let items = read_anyhow(make, &followed, StreamEnd::Whole);
    assert_eq!(shown(&items).last().unwrap(), "note bytes_after_coding");
    // A line is not made whole by the end of a coding that was cut.
    let lines = flushed("gzip", &[b"1\n{\"a\"".to_vec()]);
    let make = || coded(StreamKind::Ndjson, "gzip", KEPT);
    let items = read_anyhow(make, &lines[0], StreamEnd::Whole);
    let expected = [
        "0 \"1\"",
        "note coding_truncated",
        "1 \"{\\\"a\\\"\" incomplete",
    ];
    assert_eq!(shown(&items), expected);
}

#[test]
fn bombs_are_stopped() {
    let zeros = vec![b'x'; 64 << 20];
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let bomb = flushed(coding, std::slice::from_ref(&zeros)).concat();
        let limit = 200 * bomb.len() as u64 + (4 << 20);
        for piece in [1, 100, bomb.len()] {
            let mut items = read(
                coded(StreamKind::Ndjson, coding, 1000),
                &bomb,
                piece,
                StreamEnd::Whole,
            );
            let Some(StreamItem::Message(line)) = items.pop() else {
                panic!("{coding}")
            };
            assert_eq!(
                items,
                [StreamItem::Note(StreamNote::CodingBomb)],
                "{coding}"
            );
            assert!(line.size <= limit, "{coding}: {}", line.size);
            assert_eq!(line.payload.len(), 1000);
            assert!(!line.complete && line.truncated);
        }
    }
}

fn any_kind() -> impl Strategy<Value = StreamKind> {
    prop::sample::select(&KINDS)
}

/// Reads a stream cut at some places.
fn read_cut(
    mut decoder: StreamDecoder,
    stream: &[u8],
    cuts: &[prop::sample::Index],
) -> Vec<StreamItem> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.sort_unstable();
    places.push(stream.len());
    let mut items = Vec::new();
    let mut start = 0;
    for end in places {
        decoder.push(&stream[start..end], &mut |item| items.push(item));
        start = end;
    }
    decoder.finish(StreamEnd::Whole, &mut |item| items.push(item));
    items
}

/// Text in which everything that lines and events are made of is likely.
fn event_text() -> impl Strategy<Value = Vec<u8>> {
    let words: [&[u8]; 16] = [
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"data",
        b"data: ",
        b":",
        b" ",
        b"event: a",
        b"id: 7",
        b"id:\0",
        b"retry: 5",
        b"\xef\xbb\xbf",
        b"\xc3\xa4",
        b"\xff",
        b"text of some length",
    ];
    let word = prop::sample::select(words.map(<[u8]>::to_vec).to_vec());
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn lines_and_events_do_not_depend_on_the_pieces(
        stream in event_text(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        kept in 0_usize..30,
    ) {
        for kind in [StreamKind::Sse, StreamKind::Ndjson] {
            let whole = read_cut(coded(kind, "", kept), &stream, &[]);
            prop_assert_eq!(&read_cut(coded(kind, "", kept), &stream, &cuts), &whole);
            prop_assert_eq!(&read(coded(kind, "", kept), &stream, 1, StreamEnd::Whole), &whole);
        }
    }

    #[test]
    fn no_format_depends_on_the_pieces(
        kind in any_kind(),
        coding in prop::sample::select(&CODINGS),
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        kept in prop::sample::select(vec![0_usize, 20, 1000]),
    ) {
        let pieces: Vec<Vec<u8>> = payloads.iter().map(|payload| encoded(kind, payload)).collect();
        let plain = read_cut(coded(kind, "", kept), &pieces.concat(), &[]);
        let sequence: Vec<u64> = plain.iter().filter_map(|item| match item {
            StreamItem::Message(message) => Some(message.sequence),
            _ => None,
        }).collect();
        prop_assert_eq!(sequence, (0..payloads.len() as u64).collect::<Vec<_>>());
        let stream = flushed(coding, &pieces).concat();
        prop_assert_eq!(&read_cut(coded(kind, coding, kept), &stream, &cuts), &plain);
        prop_assert_eq!(&read(coded(kind, coding, kept), &stream, 1, StreamEnd::Whole), &plain);
    }

    #[test]
    fn damaged_streams_do_not_depend_on_the_pieces(
        kind in any_kind(),
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut stream: Vec<u8> = payloads.iter().flat_map(|payload| encoded(kind, payload)).collect();
        for (index, byte) in damage {
            let index = index.index(stream.len());
            stream[index] = byte;
        }
        let whole = read_cut(coded(kind, "", 100), &stream, &[]);
        prop_assert_eq!(&read_cut(coded(kind, "", 100), &stream, &cuts), &whole);
        prop_assert_eq!(&read(coded(kind, "", 100), &stream, 1, StreamEnd::Whole), &whole);
    }

    #[test]
    fn any_bytes_in_any_coding_stay_within_the_bounds(
        kind in any_kind(),
        coding in prop::sample::select(vec!["", "gzip", "deflate", "br", "zstd", "gzip, br"]),
        stream in prop::collection::vec(any::<u8>(), 0..600),
        piece in 1_usize..100,
    ) {
        for item in read(coded(kind, coding, 50), &stream, piece, StreamEnd::Cut) {
            if let StreamItem::Message(message) = item {
                prop_assert!(message.payload.len() <= 50);
            }
        }
    }
}
