//! Each coding whole, cut, damaged and as a bomb.

use std::io::Write;

use proptest::prelude::*;

use super::*;

const CODINGS: [&str; 4] = ["gzip", "deflate", "br", "zstd"];

fn encode(coding: &str, plain: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::default();
    match coding {
        "gzip" | "x-gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "raw deflate" => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            encoder.write_all(plain).unwrap();
            encoder.into_inner()
        }
        "zstd" => zstd::encode_all(plain, 3).unwrap(),
        other => panic!("{other}"),
    }
}

/// Text that does not repeat much, so that cutting it leaves something to read.
fn text() -> Vec<u8> {
    let line = |number: u32| format!("{number} {:x}\n", number.wrapping_mul(2_654_435_761));
    (0..20_000).map(line).collect::<String>().into_bytes()
}

fn check(encodings: &str, body: &[u8], expected: &[u8]) {
    let decoded = decode(encodings, body, 1 << 20);
    assert_eq!(decoded.note, None, "{encodings}");
    assert!(decoded.complete, "{encodings}");
    assert!(decoded.bytes == expected, "{encodings}");
}

#[test]
fn every_coding_is_undone() {
    let text = text();
    for coding in CODINGS {
        check(coding, &encode(coding, &text), &text);
        check(coding, &encode(coding, b""), b"");
    }
    check("X-GZip", &encode("gzip", &text), &text);
    check("deflate", &encode("raw deflate", &text), &text);
    check("", &text, &text);
    check("identity", &text, &text);
}

#[test]
fn codings_are_undone_in_reverse() {
    let text = text();
    let twice = encode("br", &encode("gzip", &text));
    check("gzip, br", &twice, &text);
    check(" identity ,gzip,, br,", &twice, &text);
    let mut body = text.clone();
    for coding in CODINGS {
        body = encode(coding, &body);
    }
    check("gzip,deflate,br,zstd", &body, &text);
}

#[test]
fn members_and_frames_follow_one_another() {
    let gzip = [encode("gzip", b"one "), encode("gzip", b"two")].concat();
    check("gzip", &gzip, b"one two");
    let zstd = [encode("zstd", b"one "), encode("zstd", b"two")].concat();
    check("zstd", &zstd, b"one two");
}

#[test]
fn a_body_that_is_not_there_is_whole() {
    for coding in CODINGS {
        check(coding, b"", b"");
    }
}

#[test]
fn what_is_there_of_a_cut_body_is_read() {
    let text = text();
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let whole = encode(coding, &text);
        for end in [1, 2, whole.len() / 2, whole.len() - 1] {
            let decoded = decode(coding, &whole[..end], 1 << 20);
            assert_eq!(decoded.note, Some(Note::Truncated { coding }), "{end}");
            assert!(!decoded.complete);
            assert!(text.starts_with(&decoded.bytes), "{coding} {end}");
        }
        let half = decode(coding, &whole[..whole.len() / 2], 1 << 20);
        // zstd and brotli give whole blocks of up to 128 KiB.
        assert!(half.bytes.len() > 40_000, "{coding}: {}", half.bytes.len());
    }
}

#[test]
fn bombs_are_capped() {
    let zeros = vec![0; 64 << 20];
    for coding in CODINGS {
        let bomb = encode(coding, &zeros);
        assert!(bomb.len() < 100_000, "{coding}: {}", bomb.len());
        let decoded = decode(coding, &bomb, 100_000);
        assert_eq!(decoded.bytes.len(), 100_000, "{coding}");
        assert!(decoded.bytes.iter().all(|byte| *byte == 0));
        assert!(!decoded.complete);
        assert_eq!(decoded.note, Some(Note::TooLarge { bytes_max: 100_000 }));
        // Not only the last step is capped.
        let wrapped = encode("gzip", &bomb);
        let chain = format!("{coding}, gzip");
        assert_eq!(decode(&chain, &wrapped, 100_000).bytes.len(), 100_000);
    }
    let plain = decode("", &zeros, 10);
    assert_eq!((plain.bytes.len(), plain.complete), (10, false));
}

#[test]
fn an_output_of_just_the_bound_is_whole() {
    for coding in CODINGS {
        let (fits, too_long) = (encode(coding, b"12345678"), encode(coding, b"123456789"));
        let decoded = decode(coding, &fits, 8);
        assert_eq!(decoded.note, None, "{coding}");
        assert!(decoded.complete);
        let decoded = decode(coding, &too_long, 8);
        assert_eq!(decoded.note, Some(Note::TooLarge { bytes_max: 8 }));
        assert_eq!(&*decoded.bytes, b"12345678");
    }
}

#[test]
fn windows_beyond_the_standard_take_no_memory() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(b"a").unwrap();
    encoder.flush().unwrap();
    let body = encoder.finish().unwrap();
    let decoded = decode("zstd", &body, 1000);
    assert_eq!(decoded.note, Some(Note::Corrupt { coding: "zstd" }));
}

#[test]
fn what_is_no_coding_is_said() {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let decoded = decode(coding, b"{\"error\": \"this is plain json\"}", 1000);
        assert_eq!(decoded.note, Some(Note::Corrupt { coding }));
        assert!(!decoded.complete);
    }
}

#[test]
fn bytes_after_the_end_are_left_out() {
    for coding in ["gzip", "deflate", "br"] {
        let padded = [&encode(coding, b"text")[..], &[0; 9]].concat();
        let decoded = decode(coding, &padded, 1000);
        assert_eq!(&*decoded.bytes, b"text");
        assert_eq!(decoded.note, Some(Note::BytesAfterEnd { coding }));
        assert!(decoded.complete);
    }
}

#[test]
fn unknown_codings_are_left_as_they_are() {
    let decoded = decode("gzip, sdch", b"bytes", 1000);
    assert_eq!(&*decoded.bytes, b"bytes");
    assert!(!decoded.complete);
    insta::assert_snapshot!(decoded.note.unwrap(), @"the content coding `sdch` is not known");
    // What can be undone before it is.
    let body = encode("gzip", b"bytes");
    let decoded = decode("sdch, gzip", &body, 1000);
    assert_eq!(&*decoded.bytes, b"bytes");
    assert_eq!(
        decode("gzip,gzip,gzip,gzip,gzip", b"x", 9).note,
        Some(Note::TooManyCodings)
    );
}

proptest! {
    #[test]
    fn damage_is_never_a_panic(
        coding in prop::sample::select(&CODINGS),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        plain in prop::collection::vec(any::<u8>(), 1..2000),
    ) {
        let mut body = encode(coding, &plain);
        for (index, byte) in damage {
            let index = index.index(body.len());
            body[index] = byte;
        }
        prop_assert!(decode(coding, &body, 4000).bytes.len() <= 4000);
    }

    #[test]
    fn any_bytes_are_taken(
        coding in prop::sample::select(&CODINGS),
        body in prop::collection::vec(any::<u8>(), 0..500),
    ) {
        prop_assert!(decode(coding, &body, 4000).bytes.len() <= 4000);
    }
}
