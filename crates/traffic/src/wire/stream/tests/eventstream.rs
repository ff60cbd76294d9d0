//! AWS event streams.

use super::*;

/// A message with good checksums.
pub(super) fn message(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = u32::try_from(16 + headers.len() + payload.len()).unwrap();
    let mut bytes = total.to_be_bytes().to_vec();
    bytes.extend(u32::try_from(headers.len()).unwrap().to_be_bytes());
    bytes.extend(crc(&bytes).to_be_bytes());
    bytes.extend(headers);
    bytes.extend(payload);
    bytes.extend(crc(&bytes).to_be_bytes());
    bytes
}

/// CRC-32 bit by bit, so that the tests do not believe the crate that they test.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

fn header(name: &str, kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [&[length], name.as_bytes(), &[kind], value].concat()
}

pub(super) fn text(name: &str, value: &str) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    header(name, 7, &[&length.to_be_bytes(), value.as_bytes()].concat())
}

fn read_whole(stream: &[u8]) -> Vec<StreamItem> {
    read_anyhow(|| plain(StreamKind::EventStream), stream, StreamEnd::Whole)
}

#[test]
fn the_checksum_of_these_tests_is_right() {
    assert_eq!(crc(b"123456789"), 0xcbf4_3926);
}

#[test]
fn messages_have_names_and_payload() {
    let event = [text(":message-type", "event"), text(":event-type", "chunk")].concat();
    let exception = text(":exception-type", "throttlingException");
    let stream = [
        message(&event, b"{}"),
        message(&[], b""),
        message(&exception, b"x"),
        message(&text(":error-code", "500"), b""),
    ]
    .concat();
    assert_eq!(
        shown(&read_whole(&stream)),
        [
            "0 \"{}\" name=chunk",
            "1 \"\"",
            "2 \"x\" name=throttlingException",
            "3 \"\" name=500",
        ]
    );
}

#[test]
fn all_types_of_headers_are_read() {
    let headers = [
        header("a", 0, &[]),
        header("b", 1, &[]),
        header("c", 2, &[0xff]),
        header("d", 3, &(-2_i16).to_be_bytes()),
        header("e", 4, &(-3_i32).to_be_bytes()),
        header("f", 5, &(-4_i64).to_be_bytes()),
        header("g", 6, &[0, 2, 8, 9]),
        text("h", "ä"),
        header("i", 8, &1_700_000_000_000_i64.to_be_bytes()),
        header("j", 9, &[7; 16]),
    ]
    .concat();
    let items = read_whole(&message(&headers, b""));
    let [StreamItem::Message(message)] = &items[..] else {
        panic!("{items:?}")
    };
    let values: Vec<&HeaderValue> = message.headers.iter().map(|header| &header.value).collect();
    let expected = [
        HeaderValue::Bool(true),
        HeaderValue::Bool(false),
        HeaderValue::Byte(-1),
        HeaderValue::Short(-2),
        HeaderValue::Integer(-3),
        HeaderValue::Long(-4),
        HeaderValue::Bytes(Bytes::from_static(&[8, 9])),
        HeaderValue::Text("ä".to_owned()),
        HeaderValue::Timestamp(1_700_000_000_000),
        HeaderValue::Uuid([7; 16]),
    ];
    assert_eq!(values, expected.iter().collect::<Vec<_>>());
    let names: String = message
        .headers
        .iter()
        .map(|header| header.name.as_str())
        .collect();
    assert_eq!(names, "abcdefghij");
    assert_eq!(message.note, None);
}

#[test]
fn a_wrong_prelude_ends_the_understanding() {
    let good = message(&[], b"a");
    let mut bad = good.clone();
    bad[0] ^= 1;
    let stream = [good.clone(), bad, good].concat();
    let expected = ["0 \"a\"", "note eventstream_prelude_checksum"];
    assert_eq!(shown(&read_whole(&stream)), expected);
    for (total, headers) in [(15_u32, 0_u32), (16, 1), (0, 0), (100, u32::MAX)] {
        let mut prelude = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        prelude.extend(crc(&prelude).to_be_bytes());
        prelude.extend([0; 100]);
        let expected = ["note eventstream_lengths"];
        assert_eq!(shown(&read_whole(&prelude)), expected, "{total} {headers}");
    }
}

#[test]
fn a_wrong_message_is_noted_and_the_next_is_read() {
    let good = message(&text(":event-type", "e"), b"abc");
    let mut bad = good.clone();
    let at = bad.len() - 5;
    bad[at] ^= 1;
    let expected = [
        "0 \"abb\" name=e (eventstream_message_checksum)",
        "1 \"abc\" name=e",
    ];
    assert_eq!(shown(&read_whole(&[bad, good].concat())), expected);
    let odd = [text("a", "b"), header("c", 10, &[])].concat();
    let short = header("a", 5, &[1, 2]);
    let stream = [
        message(&odd, b"x"),
        message(&short, b"y"),
        message(&[], b"z"),
    ]
    .concat();
    let expected = [
        "0 \"x\" (eventstream_headers)",
        "1 \"y\" (eventstream_headers)",
        "2 \"z\"",
    ];
    assert_eq!(shown(&read_whole(&stream)), expected);
}

#[test]
fn a_cut_message_is_incomplete() {
    let whole = message(&text(":event-type", "e"), b"abc");
    for missing in 1..whole.len() {
        let items = read_whole(&whole[..whole.len() - missing]);
        let expected = match missing {
            1..=4 => "0 \"abc\" name=e incomplete",
            5 => "0 \"ab\" name=e incomplete",
            6 => "0 \"a\" name=e incomplete",
            7 => "0 \"\" name=e incomplete",
            _ => "note cut",
        };
        assert_eq!(shown(&items), [expected], "{missing}");
    }
}

#[test]
fn large_messages_are_bounded() {
    let make = || StreamDecoder::new(StreamKind::EventStream, StreamCodings::default(), 4);
    let stream = [message(&[], b"123456"), message(&[], b"1")].concat();
    let items = read_anyhow(make, &stream, StreamEnd::Whole);
    assert_eq!(shown(&items), ["0 \"1234\" of 6", "1 \"1\""]);
    let many: Vec<u8> = (0..200).flat_map(|_| header("a", 0, &[])).collect();
    let long = vec![0; 129 << 10];
    let stream = [message(&many, b"x"), message(&long, b"y")].concat();
    let items = read(
        plain(StreamKind::EventStream),
        &stream,
        1000,
        StreamEnd::Whole,
    );
    let expected = [
        "0 \"x\" (eventstream_headers_too_long)",
        "1 \"y\" (eventstream_headers_too_long)",
    ];
    assert_eq!(shown(&items), expected);
}
