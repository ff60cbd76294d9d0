//! Messages by table, and each in every chunking.

use std::fmt::Debug;

use super::*;

/// What the reader says of the bytes, and that it says nothing else of a part of them.
fn check<T: Debug + PartialEq>(read: fn(&[u8]) -> Parsed<T>, bytes: &[u8], expected: &str) {
    let whole = read(bytes);
    let said = match &whole {
        Parsed::Whole { message, length } => format!("{length} {message:?}"),
        Parsed::Incomplete => "incomplete".to_owned(),
        Parsed::Malformed(problem) => problem.to_string(),
    };
    assert!(said.contains(expected), "{bytes:02x?}: {said}");
    for length in 0..bytes.len() {
        let early = read(&bytes[..length]);
        if early != Parsed::Incomplete {
            assert_eq!(early, whole, "after {length} of {bytes:02x?}");
        }
    }
    let mut more = bytes.to_vec();
    more.extend(b"more");
    if whole != Parsed::Incomplete {
        assert_eq!(read(&more), whole, "bytes after {bytes:02x?} changed it");
    }
}

#[test]
fn a_greeting_offers_methods() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "incomplete"),
        (b"\x05", "incomplete"),
        (b"\x05\x02\x00", "incomplete"),
        (b"\x05\x00", "2 Methods { nothing: false, password: false }"),
        (
            b"\x05\x01\x00",
            "3 Methods { nothing: true, password: false }",
        ),
        (
            b"\x05\x02\x00\x02",
            "4 Methods { nothing: true, password: true }",
        ),
        (
            b"\x05\x01\x01",
            "3 Methods { nothing: false, password: false }",
        ),
        (b"\x04\x01", "begins with 0x04"),
    ];
    for (bytes, expected) in cases {
        check(parse_greeting, bytes, expected);
    }
    assert_eq!(Method::Nothing.message(), [5, 0]);
    assert_eq!(Method::Password.message(), [5, 2]);
    assert_eq!(Method::NoneAcceptable.message(), [5, 255]);
}

#[test]
fn credentials_are_two_counted_texts() {
    let cases: &[(&[u8], &str)] = &[
        (b"\x01\x02me", "incomplete"),
        (b"\x01\x02me\x03ab", "incomplete"),
        (
            b"\x01\x02me\x02ok",
            "7 Credentials { user: [109, 101], password: *** }",
        ),
        (b"\x01\x00\x00", "3 Credentials { user: [], password: *** }"),
        (b"\x05\x01\x00", "begins with 0x05"),
    ];
    for (bytes, expected) in cases {
        check(parse_credentials, bytes, expected);
    }
    let mut longest = vec![1, 255];
    longest.extend([b'u'; 255]);
    longest.push(255);
    longest.extend([b'p'; 255]);
    check(parse_credentials, &longest, "513 Credentials");
    assert_eq!(credentials_answer(true), [1, 0]);
    assert_eq!(credentials_answer(false), [1, 1]);
}

#[test]
fn a_request_names_a_target() {
    let check_target = |bytes: &[u8], expected: &str| {
        check(parse_request, bytes, "Target");
        let Parsed::Whole { message, length } = parse_request(bytes) else {
            panic!("{bytes:02x?}");
        };
        assert_eq!(
            (message.to_string().as_str(), length),
            (expected, bytes.len())
        );
    };
    check_target(b"\x05\x01\x00\x01\x7f\0\0\x01\x01\xbb", "127.0.0.1:443");
    check_target(b"\x05\x01\x00\x03\x09A.Example\0\x50", "a.example:80");
    // An address in the clothes of a name.
    check_target(b"\x05\x01\x00\x03\x0910.0.0.12\0\x50", "10.0.0.12:80");
    check_target(
        b"\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1f\x90",
        "[2001:db8::1]:8080",
    );
}

#[test]
fn other_requests_have_a_reply_each() {
    let cases: &[(&[u8], &str, u8)] = &[
        (b"\x05\x02\x00\x01\x7f\0\0\x01\x01\xbb", "command 2", 7),
        (b"\x05\x03\x00\x03\x01a\x01\xbb", "command 3", 7),
        (b"\x05\x00\x00\x01\x7f\0\0\x01\x01\xbb", "command 0", 7),
        (b"\x05\x01\x00\x02", "address type 2", 8),
        (b"\x05\x01\x00\x03\x00\x01\xbb", "the host is empty", 1),
        (b"\x05\x01\x00\x03\x03a/b\x01\xbb", "a character", 1),
        (b"\x05\x01\x00\x03\x02\xff\xfe\x01\xbb", "a character", 1),
        (b"\x05\x01\x00\x03\x01a\x00\x00", "the port", 1),
        (b"\x01\x01", "begins with 0x01", 1),
    ];
    for (bytes, expected, code) in cases {
        check(parse_request, bytes, expected);
        let Parsed::Malformed(problem) = parse_request(bytes) else {
            panic!("{bytes:02x?}");
        };
        assert_eq!(Reply::from(problem).message()[..2], [5, *code]);
    }
    check(
        parse_request,
        b"\x05\x01\x00\x01\x7f\0\0\x01\x01",
        "incomplete",
    );
    check(parse_request, b"\x05\x01\x00\x03\x05abc", "incomplete");
}

#[test]
fn a_client_offers_what_it_can_say() {
    for (has_credentials, nothing, password) in [(false, true, false), (true, true, true)] {
        let expected = Methods { nothing, password };
        let message = greeting(has_credentials);
        let length = message.len();
        let got = parse_greeting(message);
        assert_eq!(
            got,
            Parsed::Whole {
                message: expected,
                length
            }
        );
    }
    for method in [Method::Nothing, Method::Password, Method::NoneAcceptable] {
        check(parse_method, &method.message(), &format!("2 {method:?}"));
    }
    // GSSAPI was not offered.
    check(parse_method, b"\x05\x01", "2 NoneAcceptable");
    check(parse_method, b"\x04\x00", "begins with 0x04");
    check(parse_method, b"HTTP/1.1", "begins with 0x48");
}

#[test]
fn a_client_says_who_it_is() {
    let message = credentials(b"me", b"secret").unwrap();
    assert_eq!(message, b"\x01\x02me\x06secret");
    let Parsed::Whole { message, .. } = parse_credentials(&message) else {
        panic!("a server reads it");
    };
    assert_eq!(
        (&*message.user, &**message.password.reveal()),
        (&b"me"[..], &b"secret"[..])
    );
    for (user, password) in [(0, 1), (1, 0), (256, 1), (1, 256)] {
        let text = |length| vec![b'x'; length];
        assert_eq!(
            credentials(&text(user), &text(password)),
            None,
            "{user} {password}"
        );
    }
    check(
        parse_credentials_answer,
        &credentials_answer(true),
        "2 true",
    );
    check(
        parse_credentials_answer,
        &credentials_answer(false),
        "2 false",
    );
    check(parse_credentials_answer, b"\x05\x00", "begins with 0x05");
}

#[test]
fn a_client_asks_for_a_target() {
    for text in ["a.example:443", "192.0.2.7:80", "[2001:db8::7]:65535"] {
        let target = Target::parse_with_port(text).unwrap();
        let message = request(&target);
        let length = message.len();
        assert_eq!(
            parse_request(&message),
            Parsed::Whole {
                message: target,
                length
            }
        );
    }
}

#[test]
fn a_server_answers() {
    let cases: &[(&[u8], &str)] = &[
        (b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50", "10 0"),
        (b"\x05\x00\x00\x03\x02ab\x00\x50", "9 0"),
        (b"\x05\x00\x00\x04................\x00\x50", "22 0"),
        (b"\x05\x00\x00\x01\x7f\x00\x00", "incomplete"),
        (b"\x05\x00\x00\x02", "address type 2"),
        (b"\x05\x02\x00", "3 2"),
        (b"\x00\x5a", "begins with 0x00"),
    ];
    for (bytes, expected) in cases {
        check(parse_reply, bytes, expected);
    }
    assert_eq!(
        describe_reply(Reply::NotAllowed.code()),
        "not allowed by its rules"
    );
}
