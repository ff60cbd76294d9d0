//! Headers by table, and each in every chunking.

use super::*;

/// What is said of the bytes, and that nothing else is said of a part of them.
fn check(bytes: &[u8], expected: &str) {
    let whole = parse(bytes);
    let said = match whole {
        Parsed::Whole { source, length } => {
            assert!(length <= bytes.len());
            match source {
                Source::Unnamed => format!("{length} unnamed"),
                Source::Client { address, to } => format!("{length} {address} to {to}"),
            }
        }
        Parsed::Incomplete => "incomplete".to_owned(),
        Parsed::Malformed(problem) => problem.to_string(),
    };
    assert!(said.contains(expected), "{bytes:02x?}: {said}");
    for length in 0..bytes.len() {
        let early = parse(&bytes[..length]);
        if early != Parsed::Incomplete {
            assert_eq!(early, whole, "after {length} of {bytes:02x?}");
        }
    }
    if whole != Parsed::Incomplete {
        let more = [bytes, b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(parse(&more), whole, "bytes after {bytes:02x?} changed it");
    }
}

/// A header of version 2.
fn binary(version_and_command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = [version_and_command, family];
    [SIGNATURE, &head, &length, content].concat()
}

#[test]
fn reads_lines_of_version_1() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "incomplete"),
        (b"PROX", "incomplete"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2", "incomplete"),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 443\r\nGET /",
            "42 192.0.2.1:50000 to 192.0.2.2:443",
        ),
        (
            b"PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n",
            "[2001:db8::1]:0 to [2001:db8::2]:65535",
        ),
        (b"PROXY UNKNOWN\r\n", "15 unnamed"),
        (b"PROXY UNKNOWN ffff:: what ever 1 2\r\n", "36 unnamed"),
        (b"GET / HTTP/1.1\r\n", "does not begin"),
        (b"proxy TCP4", "does not begin"),
        (b"PROXY\tTCP4", "does not begin"),
        (b"PROXY \r\n", "malformed"),
        (b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n", "malformed"),
        (b"PROXY UNKNOWNS\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", "malformed"),
        (b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", "malformed"),
        (b"PROXY TCP4 ::1 ::2 1 2\r\n", "malformed"),
        (b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n\r\n", "malformed"),
        (b"PROXY \xff\xff\r\n", "malformed"),
    ];
    for (bytes, expected) in cases {
        check(bytes, expected);
    }
}

#[test]
fn a_line_has_its_longest() {
    let rest = |count: usize| [b"PROXY UNKNOWN ".as_slice(), &vec![b'x'; count], b"\r\n"].concat();
    check(&rest(91), "107 unnamed");
    check(&rest(92), "too long");
    check(&rest(5000), "too long");
    check(&rest(92)[..106], "incomplete");
}

#[test]
fn reads_version_2() {
    let four = [192, 0, 2, 1, 192, 0, 2, 2, 0xc3, 0x50, 1, 0xbb];
    check(
        &binary(0x21, 0x11, &four),
        "28 192.0.2.1:50000 to 192.0.2.2:443",
    );
    let mut six = vec![0; 32];
    (six[0], six[1], six[15]) = (0x20, 0x01, 1);
    (six[16], six[17], six[31]) = (0x20, 0x01, 2);
    six.extend([0, 1, 0, 2]);
    check(&binary(0x21, 0x21, &six), "52 [2001::1]:1 to [2001::2]:2");
    // Fields after the addresses are skipped.
    let fields = [four.as_slice(), &[4, 0, 2, 7, 7]].concat();
    check(&binary(0x21, 0x11, &fields), "33 192.0.2.1:50000");
    check(&binary(0x20, 0x00, b""), "16 unnamed");
    check(&binary(0x20, 0x77, b"skipped"), "23 unnamed");
    check(&binary(0x21, 0x00, b"skipped"), "23 unnamed");
    check(&binary(0x21, 0x31, &[b'/'; 216]), "232 unnamed");
}

#[test]
fn refuses_other_headers_of_version_2() {
    check(&binary(0x11, 0x11, &[0; 12]), "version");
    check(&binary(0x31, 0x11, &[0; 12]), "version");
    check(&binary(0x22, 0x11, &[0; 12]), "command");
    check(&binary(0x21, 0x12, &[0; 12]), "another kind");
    check(&binary(0x21, 0x41, &[0; 12]), "another kind");
    check(&binary(0x21, 0x11, &[0; 11]), "ends before");
    check(&binary(0x21, 0x21, &[0; 35]), "ends before");
    check(&binary(0x21, 0x31, &[0; 215]), "ends before");
    check(&binary(0x21, 0x11, &[0; 4080]), "4096 0.0.0.0:0");
    check(&binary(0x21, 0x11, &[0; 4081]), "too long");
    check(b"\r\n\r\n\0\r\nQUIX\n", "does not begin");
    check(&binary(0x21, 0x11, &[0; 12])[..27], "incomplete");
}
