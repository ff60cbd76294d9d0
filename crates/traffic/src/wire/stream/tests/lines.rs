//! Server-sent events and lines of JSON.

use super::*;

fn check(kind: StreamKind, stream: &[u8], end: StreamEnd, expected: &[&str]) {
    let items = read_anyhow(|| plain(kind), stream, end);
    assert_eq!(shown(&items), expected, "{}", lossy(stream));
}

fn check_events(stream: &str, expected: &[&str]) {
    check(
        StreamKind::Sse,
        stream.as_bytes(),
        StreamEnd::Whole,
        expected,
    );
}

#[test]
fn events_are_read_as_the_standard_says() {
    for (stream, expected) in [
        ("data: a\n\n", &["0 \"a\""][..]),
        ("data:a\ndata\ndata:  b\n\n", &["0 \"a\\n\\n b\""]),
        ("data\n\n", &["0 \"\""]),
        ("data:\n\ndata: x:y\n\n", &["0 \"\"", "1 \"x:y\""]),
        ("event: a\n\ndata: b\n\n", &["0 \"b\""]),
        (
            "event: a\ndata: 1\n\ndata: 2\n\n",
            &["0 \"1\" name=a", "1 \"2\""],
        ),
        ("event: a\nevent\ndata: 1\n\n", &["0 \"1\""]),
        (
            "id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n",
            &["0 \"a\" id=1", "1 \"b\" id=1", "2 \"c\" id="],
        ),
        ("id: 1\n\ndata: a\n\n", &["0 \"a\" id=1"]),
        ("id: 1\nid: 2\u{0}\ndata: a\n\n", &["0 \"a\" id=1"]),
        (
            "retry: 3000\nretry: 1s\nretry: +1\nretry\nretry: 99999999999999999999\n\n",
            &["retry 3000"],
        ),
        (
            ": keep-alive\n\n:\n\n",
            &["comment \"keep-alive\"", "comment \"\""],
        ),
        (
            "Data: a\nfoo: b\n data: c\n\ndata: d\n\n",
            &["note sse_unknown_field", "0 \"d\""],
        ),
        (
            "\u{feff}data: a\n\n\u{feff}data: b\n\n",
            &["0 \"a\"", "note sse_unknown_field"],
        ),
        ("\u{feff}\n\ndata: a\n\n", &["0 \"a\""]),
        ("\n\n\n", &[]),
        ("", &[]),
    ] {
        for ending in ["\n", "\r", "\r\n"] {
            check_events(&stream.replace('\n', ending), expected);
        }
    }
}

#[test]
fn line_endings_may_be_mixed() {
    check_events(
        "data: a\r\rdata: b\r\n\rdata: c\n\r\ndata: d\r\n\n",
        &["0 \"a\"", "1 \"b\"", "2 \"c\"", "3 \"d\""],
    );
}

#[test]
fn an_event_without_its_blank_line_is_incomplete() {
    check_events(
        "data: a\n\nevent: e\ndata: b\n",
        &["0 \"a\"", "1 \"b\" name=e incomplete"],
    );
    check_events("data: [DONE]", &["0 \"[DONE]\" incomplete"]);
    check_events("data: a\ndata: b", &["0 \"a\\nb\" incomplete"]);
    check_events("\u{feff}data: a", &["0 \"a\" incomplete"]);
    check_events("event: a\nid: 2", &[]);
}

#[test]
fn an_event_comes_with_its_last_byte() {
    for (stream, complete_at) in [
        ("data: a\n\n", 9),
        ("data: a\r\r", 9),
        ("data: a\r\n\r\n", 10),
    ] {
        let mut decoder = plain(StreamKind::Sse);
        let mut count = 0;
        for (at, byte) in stream.bytes().enumerate() {
            decoder.push(&[byte], &mut |_| count += 1);
            // Of the last CRLF the CR is enough.
            assert_eq!(count, usize::from(at + 1 >= complete_at), "{stream:?} {at}");
        }
        assert_eq!(count, 1);
    }
    let mut decoder = plain(StreamKind::Ndjson);
    let mut count = 0;
    decoder.push(b"{}", &mut |_| count += 1);
    assert_eq!(count, 0);
    decoder.push(b"\n", &mut |_| count += 1);
    assert_eq!(count, 1);
}

#[test]
fn text_that_is_not_utf8_is_noted_and_given() {
    let stream = b"data: \xff\n\ndata: \xc3\xa4\n\n";
    let expected = ["0 \"\u{fffd}\" (not_utf8)", "1 \"ä\""];
    check(StreamKind::Sse, stream, StreamEnd::Whole, &expected);
    check(
        StreamKind::Ndjson,
        b"\xff\n",
        StreamEnd::Whole,
        &["0 \"\u{fffd}\" (not_utf8)"],
    );
    // A character of which the rest has not come is no mistake.
    let expected = ["0 \"\u{fffd}\" incomplete"];
    check(StreamKind::Sse, b"data: \xc3", StreamEnd::Whole, &expected);
}

#[test]
fn long_events_are_kept_to_the_bound() {
    let make = |kept| move || StreamDecoder::new(StreamKind::Sse, StreamCodings::default(), kept);
    let read = |kept, stream: &str| {
        shown(&read_anyhow(
            make(kept),
            stream.as_bytes(),
            StreamEnd::Whole,
        ))
    };
    assert_eq!(read(4, "data: abcd\n\n"), ["0 \"abcd\""]);
    assert_eq!(
        read(4, "data: abcde\n\ndata: f\n\n"),
        ["0 \"abcd\" of 5", "1 \"f\""]
    );
    assert_eq!(read(4, "data: abc\ndata: d\n\n"), ["0 \"abc\\n\" of 5"]);
    assert_eq!(read(0, "data: a\n\ndata:\n\n"), ["0 \"\" of 1", "1 \"\""]);
    // Longer than the line that is held.
    let long = format!("data: {}\ndata: b\n\n", "a".repeat(5000));
    assert_eq!(read(4, &long), ["0 \"aaaa\" of 5002"]);
    assert_eq!(
        read(4, &format!("data: {}", "a".repeat(5000))),
        ["0 \"aaaa\" of 5000 incomplete"]
    );
    let name = "n".repeat(1500);
    let stream = format!("event: {name}\ndata: x\n\n");
    let expected = format!("0 \"x\" name={}", "n".repeat(1024));
    assert_eq!(read(9, &stream), ["note sse_field_too_long", &expected]);
    let comment = format!(":{}\n", "c".repeat(3000));
    assert_eq!(
        read(9, &comment),
        [format!("comment {:?}", "c".repeat(256))]
    );
}

#[test]
fn garbage_takes_no_memory() {
    let mut decoder = StreamDecoder::new(StreamKind::Sse, StreamCodings::default(), 1000);
    for _ in 0..1000 {
        decoder.push(&[b'x'; 10_000], &mut |item| panic!("{item:?}"));
    }
    let Framing::Sse(sse) = &decoder.framing else {
        panic!("{decoder:?}")
    };
    assert!(sse.memory() < 10_000);
    let mut items = Vec::new();
    decoder.push(b"\ndata: a\n\n", &mut |item| items.push(item));
    assert_eq!(shown(&items), ["note sse_unknown_field", "0 \"a\""]);
}

#[test]
fn lines_are_read() {
    for (stream, expected) in [
        (
            "{\"a\":1}\n{\"b\":2}\n",
            &["0 \"{\\\"a\\\":1}\"", "1 \"{\\\"b\\\":2}\""][..],
        ),
        ("1\r\n2\r\n", &["0 \"1\"", "1 \"2\""]),
        ("\n\n1\n \t\n\r\n\n2", &["0 \"1\"", "1 \"2\""]),
        ("1\r2\n3\r", &["0 \"1\\r2\"", "1 \"3\""]),
        ("1\r\r\n", &["0 \"1\\r\""]),
        ("", &[]),
        ("\n", &[]),
    ] {
        check(
            StreamKind::Ndjson,
            stream.as_bytes(),
            StreamEnd::Whole,
            expected,
        );
    }
    let cut = ["0 \"1\"", "1 \"{\" incomplete"];
    check(StreamKind::Ndjson, b"1\n{", StreamEnd::Cut, &cut);
}

#[test]
fn long_lines_are_kept_to_the_bound() {
    let make = || StreamDecoder::new(StreamKind::Ndjson, StreamCodings::default(), 4);
    let stream = b"1234\n1234\r\n12345\r\n123456\n1";
    let items = read_anyhow(make, stream, StreamEnd::Whole);
    let expected = [
        "0 \"1234\"",
        "1 \"1234\"",
        "2 \"1234\" of 5",
        "3 \"1234\" of 6",
        "4 \"1\"",
    ];
    assert_eq!(shown(&items), expected);
}
