//! What is a head and what is not: every shape that two readers could understand in two ways is
//! refused, and what is sent on is what came, without the lines that were for us.

use proptest::prelude::*;

use super::*;

fn request(text: &str) -> Result<RequestHead, HeadError> {
    parse_request(text.as_bytes(), Vec::new())
}

fn response(text: &str, method: &str) -> Result<ResponseHead, HeadError> {
    parse_response(text.as_bytes(), method.as_bytes(), Vec::new())
}

/// Refuses a request with these lines after its request line, for this reason.
fn check_refused(lines: &str, reason: &str) {
    let text = format!("POST /x HTTP/1.1\r\n{lines}\r\n");
    let error = request(&text).expect_err(&text);
    let said = error.to_string();
    assert!(said.contains(reason), "{text:?}: {said}");
    assert_eq!(error.status(), 400, "{text:?}");
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for (lines, reason) in [
        ("Host: a\r\nHost: b\r\n", "more than one Host"),
        ("Host: a\r\nhost: a\r\n", "more than one Host"),
        ("Accept: x\r\n", "no Host field"),
        ("Host: a\r\nX: 1\r\n folded\r\n", "field name"),
        ("Host: a\r\n X: 1\r\n", "field name"),
        ("Host: a\r\nX: 1\n", "LF without CR"),
        ("Host: a\nX: 1\r\n", "LF without CR"),
        ("Host: a\r\nX: 1\rY: 2\r\n", "control character"),
        ("Host: a\r\nX: 1\0\r\n", "control character"),
        ("Host: a\r\nX\0: 1\r\n", "field name"),
        ("Host: a\r\nX : 1\r\n", "field name"),
        ("Host: a\r\nX\t: 1\r\n", "field name"),
        ("Host : a\r\n", "field name"),
        ("Host: a\r\n: empty\r\n", "field name"),
        ("Host: a\r\nno colon\r\n", "field name"),
        ("Host: a\r\nContent-Length: +1\r\n", "not a decimal number"),
        ("Host: a\r\nContent-Length: -1\r\n", "not a decimal number"),
        ("Host: a\r\nContent-Length: 0x1\r\n", "not a decimal number"),
        ("Host: a\r\nContent-Length: 1 1\r\n", "not a decimal number"),
        ("Host: a\r\nContent-Length: 1,1\r\n", "not a decimal number"),
        ("Host: a\r\nContent-Length: 1.0\r\n", "not a decimal number"),
        ("Host: a\r\nContent-Length:\r\n", "not a decimal number"),
        (
            "Host: a\r\nContent-Length: \u{661}\r\n",
            "not a decimal number",
        ),
        (
            "Host: a\r\nContent-Length: 18446744073709551616\r\n",
            "not a decimal number",
        ),
        (
            "Host: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
            "twice and differs",
        ),
        (
            "Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
            "more than one Content-Length",
        ),
        (
            "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            "Transfer-Encoding and Content-Length",
        ),
        (
            "Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding and Content-Length",
        ),
        (
            "Host: a\r\nTransfer-Encoding: gzip\r\n",
            "other than chunked",
        ),
        (
            "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n",
            "other than chunked",
        ),
        (
            "Host: a\r\nTransfer-Encoding: chunked, identity\r\n",
            "other than chunked",
        ),
        (
            "Host: a\r\nTransfer-Encoding: chunked, chunked\r\n",
            "other than chunked",
        ),
        (
            "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "other than chunked",
        ),
        ("Host: a\r\nTransfer-Encoding:\r\n", "other than chunked"),
        (
            "Host: a\r\nTransfer-Encoding: \"chunked\"\r\n",
            "other than chunked",
        ),
        (
            "Host: a\r\nTransfer-Encoding: xchunked\r\n",
            "other than chunked",
        ),
        // U+212A KELVIN SIGN folds to k in Unicode, and only in Unicode.
        (
            "Host: a\r\nTransfer-Encoding: chun\u{212a}ed\r\n",
            "other than chunked",
        ),
    ] {
        check_refused(lines, reason);
    }
}

#[test]
fn a_request_line_is_read_strictly() {
    for (line, status) in [
        ("GET /  HTTP/1.1", 505),
        ("GET  / HTTP/1.1", 400),
        (" GET / HTTP/1.1", 400),
        ("GET\t/ HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        ("GET /", 400),
        ("GET", 400),
        ("G(T / HTTP/1.1", 400),
        ("GET /\0 HTTP/1.1", 400),
        ("GET / HTTP/1.2", 505),
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/0.9", 505),
        ("GET / http/1.1", 505),
        ("GET / HTTP/11", 505),
    ] {
        let text = format!("{line}\r\nHost: a\r\n\r\n");
        let error = request(&text).expect_err(&text);
        assert_eq!(error.status(), status, "{text:?}: {error}");
    }
}

#[test]
fn http10_has_no_transfer_coding_and_needs_no_host() {
    let error = request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("does not exist in HTTP/1.0")
    );
    let head = request("GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((head.version, head.keep_alive), (Version::Http10, false));
    let head = request("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap();
    assert!(head.keep_alive);
}

#[test]
fn sizes_are_bounded() {
    let long = "a".repeat(TARGET_BYTES_MAX + 1);
    let error = request(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(error.unwrap_err().status(), 414);

    let fields = "X: y\r\n".repeat(FIELDS_MAX);
    let error = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    assert_eq!(error.unwrap_err().status(), 431);
    let fields = "X: y\r\n".repeat(FIELDS_MAX - 1);
    let head = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    assert_eq!(head.unwrap().lines.len(), FIELDS_MAX);

    let endless = vec![b'a'; HEAD_BYTES_MAX + 1];
    assert_eq!(
        find_end(&endless, 0, LineEnd::CrLf).unwrap_err().status(),
        431
    );
    assert_eq!(
        find_end(&endless[..HEAD_BYTES_MAX], 0, LineEnd::CrLf),
        Ok(None)
    );
}

#[test]
fn the_length_of_a_request_body_follows_from_its_head() {
    for (lines, body) in [
        ("", BodyLength::None),
        ("Content-Length: 0\r\n", BodyLength::Exactly(0)),
        ("content-LENGTH:   17 \r\n", BodyLength::Exactly(17)),
        (
            "Content-Length: 18446744073709551615\r\n",
            BodyLength::Exactly(u64::MAX),
        ),
        ("Transfer-Encoding: Chunked\r\n", BodyLength::Chunked),
        ("transfer-encoding:chunked\r\n", BodyLength::Chunked),
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(request(&text).unwrap().body, body, "{lines:?}");
    }
}

#[test]
fn the_length_of_a_response_body_follows_from_both_heads() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (method, status, lines, body) in [
        ("GET", 200, "", BodyLength::UntilClose),
        ("GET", 200, "Content-Length: 3\r\n", BodyLength::Exactly(3)),
        ("GET", 200, chunked, BodyLength::Chunked),
        (
            "GET",
            200,
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            BodyLength::Exactly(3),
        ),
        ("HEAD", 200, "Content-Length: 3\r\n", BodyLength::None),
        ("HEAD", 200, chunked, BodyLength::None),
        ("GET", 204, "", BodyLength::None),
        ("GET", 304, "Content-Length: 3\r\n", BodyLength::None),
        ("GET", 103, "", BodyLength::None),
        ("GET", 500, "Content-Length: 0\r\n", BodyLength::Exactly(0)),
    ] {
        let text = format!("HTTP/1.1 {status} X\r\n{lines}\r\n");
        let head = response(&text, method).unwrap();
        assert_eq!(head.body, body, "{method} {text:?}");
        assert_eq!(head.keep_alive, body != BodyLength::UntilClose, "{text:?}");
    }
    for (text, reason) in [
        (
            "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            "Transfer-Encoding and Content-Length",
        ),
        (
            "HTTP/1.1 200 X\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            "twice and differs",
        ),
        (
            "HTTP/1.0 200 X\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0",
        ),
        (
            "HTTP/1.1 200 X\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "other than chunked",
        ),
        ("HTTP/1.1 099 X\r\n\r\n", "below 100"),
        ("HTTP/1.1 20 X\r\n\r\n", "status line"),
        ("HTTP/1.1 2000 X\r\n\r\n", "status line"),
        ("HTTP/1.1 200 X\r\nA: b\r\n c\r\n\r\n", "field name"),
        ("HTTP/1.1 200 X\r\nA : b\r\n\r\n", "field name"),
        ("\nHTTP/1.1 200 X\n\n", "LF without CR"),
        ("HTTP/1.1 200 X\r\r\nA: b\r\n\r\n", "status line"),
        ("HTTP/1.1 200 X\rA: b\n\n", "status line"),
        ("HTTP/1.1 200\r\r\n\r\n", "status line"),
        ("HTTP/1.1 200 X\nA: b\r\r\n\n", "control character"),
        ("HTTP/1.1 200 X\nA: b\rC: d\n\n", "control character"),
        ("HTTP/1.1 200 X\nA: b\n c\n\n", "field name"),
        ("HTTP/2.0 200 X\r\n\r\n", "version"),
    ] {
        let said = response(text, "GET").unwrap_err().to_string();
        assert!(said.contains(reason), "{text:?}: {said}");
    }
}

/// Forwards a request head and compares what goes out.
fn check_forwarded(lines: &str, forwarded: &str) {
    let text = format!("GET /a HTTP/1.1\r\n{lines}\r\n");
    let head = request(&text).unwrap();
    let mut out = Vec::new();
    write_request(
        &head,
        text.as_bytes(),
        &[b"GET /a HTTP/1.1\r\n"],
        Replaced::default(),
        &mut out,
    );
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out, format!("GET /a HTTP/1.1\r\n{forwarded}"));
}

#[test]
fn order_case_duplicates_and_white_space_are_kept() {
    let lines = "hOsT:a\r\nX-B: 1\r\nx-a:\t2 \r\nX-B:  3\r\nEmpty:\r\nX-\u{e9}: \r\n";
    let lines = lines.replace("X-\u{e9}", "X-e");
    check_forwarded(&lines, &lines);
    check_forwarded("Host: a\r\nX: \u{e9}\r\n", "Host: a\r\nX: \u{e9}\r\n");
}

#[test]
fn fields_for_the_proxy_are_not_sent_on() {
    for (lines, forwarded) in [
        (
            "Host: a\r\nConnection: keep-alive\r\nX: 1\r\n",
            "Host: a\r\nX: 1\r\n",
        ),
        ("Keep-Alive: timeout=5\r\nHost: a\r\n", "Host: a\r\n"),
        ("Host: a\r\nProxy-Connection: keep-alive\r\n", "Host: a\r\n"),
        (
            "Host: a\r\nproxy-authorization: Basic eA==\r\n",
            "Host: a\r\n",
        ),
        (
            "Host: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n",
            "Host: a\r\n",
        ),
        ("Host: a\r\nUpgrade: h2c\r\n", "Host: a\r\n"),
        (
            "Host: a\r\nX-Mine: 1\r\nConnection: close, x-mine\r\nX-Mine: 2\r\nX-Other: 3\r\n",
            "Host: a\r\nX-Other: 3\r\n",
        ),
        (
            "Host: a\r\nConnection: x-a\r\nConnection:x-b ,\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3\r\n",
            "Host: a\r\nX-C: 3\r\n",
        ),
        ("Host: a\r\nTE: trailers\r\n", "Host: a\r\nTE: trailers\r\n"),
        ("Host: a\r\nTE: trailers, gzip\r\n", "Host: a\r\n"),
        ("Host: a\r\nTE: gzip\r\n", "Host: a\r\n"),
        (
            "Host: a\r\nTrailer: X-Sum\r\n",
            "Host: a\r\nTrailer: X-Sum\r\n",
        ),
        ("Host: a\r\nVia: 1.1 x\r\n", "Host: a\r\nVia: 1.1 x\r\n"),
        // A client cannot have us drop the framing, the host or credentials.
        (
            "Host: a\r\nConnection: host, content-length, authorization\r\nContent-Length: 1\r\n\
             Authorization: x\r\n",
            "Host: a\r\nContent-Length: 1\r\nAuthorization: x\r\n",
        ),
        (
            "Host: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
            "Host: a\r\nTransfer-Encoding: chunked\r\n",
        ),
    ] {
        check_forwarded(lines, forwarded);
    }
}

#[test]
fn a_response_head_is_sent_on_as_it_came() {
    let text = "HTTP/1.1 200  Very \u{e9} Well\r\nset-cookie: a\r\nX-B: 1\r\nSet-Cookie: b\r\n\
                Connection: close, x-b\r\nKeep-Alive: max=1\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n";
    let head = response(text, "GET").unwrap();
    assert!(!head.keep_alive);
    let mut out = Vec::new();
    write_response(&head, text.as_bytes(), false, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 200  Very \u{e9} Well\r\nset-cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n"
    );
    let bare = "HTTP/1.1 204\r\n\r\n";
    let head = response(bare, "GET").unwrap();
    let mut out = Vec::new();
    write_response(&head, bare.as_bytes(), false, &mut out);
    assert_eq!(out, b"HTTP/1.1 204\r\n");
}

#[test]
fn a_response_head_with_bare_line_feeds_is_sent_on_with_crlf() {
    for (text, sent) in [
        ("HTTP/1.1 200 OK\n\n", "HTTP/1.1 200 OK\r\n"),
        ("HTTP/1.1 200\n\r\n", "HTTP/1.1 200\r\n"),
        ("HTTP/1.1 200 \r\n\n", "HTTP/1.1 200 \r\n"),
        (
            "HTTP/1.1 200 OK\nA:  1 \nB: 2\r\nConnection: x\nX: 3\nC:\n\n",
            "HTTP/1.1 200 OK\r\nA:  1 \r\nB: 2\r\nC:\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\n\r\n",
            "HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\n",
        ),
    ] {
        let bytes = text.as_bytes();
        let end = find_end(bytes, 0, LineEnd::CrLfOrLf);
        assert_eq!(end, Ok(Some(text.len())), "{text:?}");
        assert_eq!(find_end(bytes, 0, LineEnd::CrLf), Err(BARE_LF), "{text:?}");
        let head = response(text, "GET").expect(text);
        let mut out = Vec::new();
        write_response(&head, bytes, false, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), sent, "{text:?}");
    }
}

#[test]
fn a_response_head_ends_at_its_first_empty_line() {
    for (text, length) in [
        ("HTTP/1.1 200 OK\n\nHTTP/1.1 200 OK\r\n\r\n", 17),
        ("HTTP/1.1 200 OK\n\r\n\r\n", 18),
        ("HTTP/1.1 200 OK\r\n\n\r\n", 18),
        ("HTTP/1.1 200 OK\nA: 1\n\nbody\n\n", 22),
    ] {
        let end = find_end(text.as_bytes(), 0, LineEnd::CrLfOrLf);
        assert_eq!(end, Ok(Some(length)), "{text:?}");
    }
    for text in ["HTTP/1.1 200 OK\nA: 1\n", "HTTP/1.1 200 OK\n\r", "\r"] {
        let end = find_end(text.as_bytes(), 0, LineEnd::CrLfOrLf);
        assert_eq!(end, Ok(None), "{text:?}");
    }
    let end = find_end(b"\nHTTP/1.1 200 OK\n\n", 0, LineEnd::CrLfOrLf);
    assert_eq!(end, Err(BARE_LF));
}

#[test]
fn the_host_is_replaced_in_its_place() {
    let text = "GET /a HTTP/1.1\r\nA: 1\r\nhost:  old\r\nB: 2\r\n\r\n";
    let head = request(text).unwrap();
    let mut out = Vec::new();
    write_request(
        &head,
        text.as_bytes(),
        &[b"X\r\n"],
        Replaced {
            host: Some(b"new"),
            max_forwards: None,
        },
        &mut out,
    );
    assert_eq!(out, b"X\r\nA: 1\r\nhost: new\r\nB: 2\r\n");
}

#[test]
fn a_bare_line_feed_in_a_request_is_refused_as_soon_as_it_is_there() {
    // A reader that takes LF for a line end sees a whole head here; waiting would only tell it
    // apart by a deadline.
    for text in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\nHost: a",
        "\nGET",
    ] {
        let error = find_end(text.as_bytes(), 0, LineEnd::CrLf).expect_err(text);
        assert_eq!(error.status(), 400, "{text:?}");
    }
}

proptest! {
    /// However the octets come, the head ends where it ends, or is refused for the same reason.
    #[test]
    fn the_end_is_found_in_any_chunking(
        text in "(GET / HTTP/1.1\r\n)?([A-Za-z:]{0,9}(\r\n|\r\n\r\n|\n|\r|\n\n|\r\r\n)){0,6}",
        cuts in prop::collection::vec(1usize..6, 0..40),
    ) {
        let bytes = text.as_bytes();
        for line_end in [LineEnd::CrLf, LineEnd::CrLfOrLf] {
            let whole = find_end(bytes, 0, line_end);
            let (mut seen, mut result, mut cuts) = (0, Ok(None), cuts.iter());
            while seen < bytes.len() && result == Ok(None) {
                let next = (seen + cuts.next().unwrap_or(&1)).min(bytes.len());
                result = find_end(&bytes[..next], seen, line_end);
                seen = next;
            }
            prop_assert_eq!(result, whole);
        }
    }

    /// What is taken of a response with any line ends has no bare CR, and what is sent on of it
    /// has no bare LF and is the same head again.
    #[test]
    fn a_response_is_sent_on_in_one_way(
        lines in "(HTTP/1.1 200( X)?(\r\n|\n|\r))?([A-Ba-b]{1,2}: ?[a-z\r]{0,3}(\r\n|\n)){0,4}(\r\n|\n)",
    ) {
        if let Ok(head) = response(&lines, "GET") {
            prop_assert!(!lines.replace("\r\n", "").contains('\r'));
            let end = find_end(lines.as_bytes(), 0, LineEnd::CrLfOrLf);
            prop_assert_eq!(end, Ok(Some(lines.len())));
            let mut out = Vec::new();
            write_response(&head, lines.as_bytes(), false, &mut out);
            out.extend_from_slice(b"\r\n");
            prop_assert_eq!(find_end(&out, 0, LineEnd::CrLf), Ok(Some(out.len())));
            let text = String::from_utf8(out).unwrap();
            let again = response(&text, "GET").unwrap();
            let came: Vec<_> = fields(&head.lines, lines.as_bytes()).collect();
            let sent: Vec<_> = fields(&again.lines, text.as_bytes()).collect();
            prop_assert_eq!(came, sent);
        }
    }

    /// No bytes make the parsers panic, and whatever they take is written on without a line of
    /// its own making.
    #[test]
    fn any_bytes_are_read_or_refused(
        lines in "([ -~\t\u{80}-\u{ff}]{0,20}(\r\n|\n|\r)?){0,5}",
    ) {
        for text in [format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"), lines] {
            if let Ok(head) = request(&text) {
                let mut out = Vec::new();
                write_request(&head, text.as_bytes(), &[], Replaced::default(), &mut out);
                let out = String::from_utf8(out).unwrap();
                prop_assert!(out.split_inclusive("\r\n").all(|line| text.contains(line)));
            }
            let _read_or_refused = response(&text, "GET");
        }
    }
}

#[test]
fn the_options_of_connection_are_bounded() {
    for (count, status) in [(64, None), (65, Some(431))] {
        let options = vec!["x"; count].join(",");
        let lines = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\n\r\n");
        assert_eq!(request(&lines).err().map(HeadError::status), status);
        let split = format!("Connection: {options}\r\n").replace(',', "\r\nConnection: ");
        let lines = format!("GET / HTTP/1.1\r\nHost: a\r\n{split}\r\n");
        assert_eq!(request(&lines).err().map(HeadError::status), status);
    }
}
