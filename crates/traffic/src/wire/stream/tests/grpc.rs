//! gRPC, with compressed messages, in its form for the web, and in base64.

use std::io::Write;

use super::*;

pub(super) fn frame(flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&[flags], &length.to_be_bytes()[..], payload].concat()
}

pub(super) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Reads messages in a coding and keeps so much of each.
fn messages(kind: StreamKind, coding: &str, kept: usize, stream: &[u8]) -> Vec<String> {
    let codings = StreamCodings {
        message: coding,
        ..StreamCodings::default()
    };
    let make = || StreamDecoder::new(kind, codings, kept);
    shown(&read_anyhow(make, stream, StreamEnd::Whole))
}

#[test]
fn messages_are_read() {
    let stream = [frame(0, b"one"), frame(0, b""), frame(0, b"three")].concat();
    let expected = ["0 \"one\"", "1 \"\"", "2 \"three\""];
    assert_eq!(messages(StreamKind::Grpc, "", KEPT, &stream), expected);
    assert_eq!(
        messages(StreamKind::Grpc, "", 3, &stream)[2],
        "2 \"thr\" of 5"
    );
    let cut = &stream[..stream.len() - 1];
    assert_eq!(
        messages(StreamKind::Grpc, "", KEPT, cut)[2],
        "2 \"thre\" incomplete"
    );
    assert_eq!(
        messages(StreamKind::Grpc, "", KEPT, &stream[..10]),
        ["0 \"one\"", "note cut"]
    );
    assert!(messages(StreamKind::Grpc, "", KEPT, b"").is_empty());
}

#[test]
fn a_message_comes_with_its_last_byte() {
    let stream = [frame(0, b"one"), frame(0, b"")].concat();
    let mut decoder = plain(StreamKind::Grpc);
    let mut counts = Vec::new();
    let mut count = 0;
    for byte in stream {
        decoder.push(&[byte], &mut |_| count += 1);
        counts.push(count);
    }
    assert_eq!(counts, [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2]);
}

#[test]
fn compressed_messages_are_decompressed() {
    let zlib = {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"hello").unwrap();
        encoder.finish().unwrap()
    };
    let zstd = zstd::encode_all(&b"hello"[..], 3).unwrap();
    for (coding, payload) in [("gzip", gzip(b"hello")), ("deflate", zlib), ("zstd", zstd)] {
        let stream = [frame(1, &payload), frame(0, b"plain"), frame(1, b"")].concat();
        let expected = ["0 \"hello\"", "1 \"plain\"", "2 \"\""];
        assert_eq!(
            messages(StreamKind::Grpc, coding, KEPT, &stream),
            expected,
            "{coding}"
        );
    }
}

#[test]
fn what_cannot_be_decompressed_is_noted() {
    let payload = gzip(b"hello");
    for (coding, payload, expected) in [
        ("", &b"raw"[..], "0 \"raw\" (grpc_coding_missing)"),
        ("identity", b"raw", "0 \"raw\" (grpc_coding_missing)"),
        ("snappy", b"raw", "0 \"raw\" (grpc_coding_unknown)"),
        ("gzip", b"raw", "0 \"\" (grpc_message_corrupt)"),
        (
            "gzip",
            &payload[..payload.len() - 1],
            "0 \"hello\" (grpc_message_corrupt)",
        ),
    ] {
        let stream = [frame(1, payload), frame(0, b"next")].concat();
        let shown = messages(StreamKind::Grpc, coding, KEPT, &stream);
        assert_eq!(shown, [expected, "1 \"next\""], "{coding}");
    }
    // What has not come cannot be read, but what has can.
    let stream = frame(1, &payload);
    let cut = &stream[..stream.len() - 1];
    assert_eq!(
        messages(StreamKind::Grpc, "gzip", KEPT, cut),
        ["0 \"hello\" incomplete"]
    );
}

#[test]
fn bombs_are_cut() {
    let bomb = gzip(&vec![b'a'; 1 << 20]);
    let shown = messages(StreamKind::Grpc, "gzip", 2000, &frame(1, &bomb));
    assert_eq!(
        shown,
        [format!("0 \"{}\" of {}", "a".repeat(2000), bomb.len())]
    );
    // Many of them give no more than the messages' share.
    let bomb = zstd::encode_all(&vec![b'a'; 1 << 20][..], 3).unwrap();
    let codings = StreamCodings {
        message: "zstd",
        ..StreamCodings::default()
    };
    let mut decoder = StreamDecoder::new(StreamKind::Grpc, codings, 1 << 20);
    let (mut given, mut noted) = (0, 0);
    for _ in 0..100 {
        decoder.push(&frame(1, &bomb), &mut |item| {
            let StreamItem::Message(message) = item else {
                panic!("{item:?}")
            };
            given += message.payload.len();
            noted += usize::from(message.note == Some(StreamNote::CodingBomb));
        });
    }
    assert!(noted > 80, "{noted}");
    assert!(given < (5 << 20) + 100 * 200 * bomb.len(), "{given}");
}

#[test]
fn undefined_flags_end_the_understanding() {
    let stream = [frame(0, b"a"), frame(2, b"b"), frame(0, b"c")].concat();
    let expected = ["0 \"a\"", "note grpc_flags"];
    assert_eq!(messages(StreamKind::Grpc, "", KEPT, &stream), expected);
    assert_eq!(
        messages(StreamKind::Grpc, "", KEPT, b"<html>"),
        ["note grpc_flags"]
    );
}

#[test]
fn web_streams_end_in_trailers() {
    let stream = [frame(0, b"a"), frame(0x80, b"grpc-status:0\r\n")].concat();
    let items = read_anyhow(|| plain(StreamKind::GrpcWeb), &stream, StreamEnd::Whole);
    assert_eq!(shown(&items), ["0 \"a\"", "1 \"grpc-status:0\\r\\n\""]);
    let StreamItem::Message(trailers) = &items[1] else {
        panic!("{items:?}")
    };
    assert_eq!(trailers.kind, MessageKind::GrpcTrailers);
    assert_eq!(
        messages(StreamKind::Grpc, "", KEPT, &stream)[1],
        "note grpc_flags"
    );
}

/// Base64 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            let character = char::from(ALPHABET[index as usize]);
            text.push(if place <= group.len() { character } else { '=' });
        }
    }
    text
}

#[test]
fn the_encoder_of_these_tests_is_right() {
    // RFC 4648 section 10.
    for (plain, text) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(plain.as_bytes()), text);
    }
}

#[test]
fn base64_may_come_in_padded_pieces() {
    let frames = [
        frame(0, b"a"),
        frame(0, b"bc"),
        frame(0x80, b"grpc-status:0\r\n"),
    ];
    let expected = ["0 \"a\"", "1 \"bc\"", "2 \"grpc-status:0\\r\\n\""];
    let pieces: String = frames.iter().map(|frame| base64(frame)).collect();
    let read = |text: &str| messages(StreamKind::GrpcWebText, "", KEPT, text.as_bytes());
    assert_eq!(read(&pieces), expected);
    assert_eq!(read(&base64(&frames.concat())), expected);
    assert_eq!(read(pieces.trim_end_matches('=')), expected);
    let broken = format!("{}?", base64(&frames[0]));
    assert_eq!(read(&broken), ["0 \"a\"", "note base64_invalid"]);
    assert_eq!(read("===="), ["note base64_invalid"]);
    // All characters.
    let bytes: Vec<u8> = (0..=255).collect();
    let mut decoder = plain(StreamKind::GrpcWebText);
    let mut payload = Bytes::new();
    decoder.push(base64(&frame(0, &bytes)).as_bytes(), &mut |item| {
        if let StreamItem::Message(message) = item {
            payload = message.payload;
        }
    });
    assert_eq!(payload, bytes);
}
