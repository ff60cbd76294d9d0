//! Hellos of real clients, hellos built by hand, and every way of cutting them.

use proptest::prelude::*;

use super::*;
use crate::wire::fingerprint;

/// Made by connecting the client of that name to a listener on loopback.
const SAMPLES: &[(&str, &[u8])] = &[
    (
        "curl_address",
        include_bytes!("../../../samples/client_hello/curl_address.bin"),
    ),
    (
        "curl_http2",
        include_bytes!("../../../samples/client_hello/curl_http2.bin"),
    ),
    (
        "java_25",
        include_bytes!("../../../samples/client_hello/java_25.bin"),
    ),
    (
        "node",
        include_bytes!("../../../samples/client_hello/node.bin"),
    ),
    (
        "openssl_no_sni",
        include_bytes!("../../../samples/client_hello/openssl_no_sni.bin"),
    ),
    (
        "openssl_tls12",
        include_bytes!("../../../samples/client_hello/openssl_tls12.bin"),
    ),
    (
        "openssl_tls13",
        include_bytes!("../../../samples/client_hello/openssl_tls13.bin"),
    ),
    (
        "python_3_13",
        include_bytes!("../../../samples/client_hello/python_3_13.bin"),
    ),
    (
        "wget_gnutls",
        include_bytes!("../../../samples/client_hello/wget_gnutls.bin"),
    ),
];

/// A hello with these extensions, without record or message header.
fn body(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 4, 0x13, 0x01, 0x13, 0x02]);
    body.extend([1, 0]);
    let mut list = Vec::new();
    for (kind, content) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(prefixed_u16(content));
    }
    body.extend(prefixed_u16(&list));
    body
}

fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1], &length[1..], body].concat()
}

/// The message in records whose fragments have at most `fragment` bytes.
fn records(message: &[u8], fragment: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1][..], &prefixed_u16(part)].concat();
    message.chunks(fragment).flat_map(record).collect()
}

fn prefixed_u16(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length, bytes].concat()
}

fn server_name(name: &[u8]) -> (u16, Vec<u8>) {
    let entry = [&[0][..], &prefixed_u16(name)].concat();
    (0, prefixed_u16(&entry))
}

fn whole(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    records(&message(&body(extensions)), 16_384)
}

fn hello(bytes: &[u8]) -> ClientHello {
    match parse(bytes) {
        Parsed::Hello(hello) => hello,
        other => panic!("{other:?}"),
    }
}

fn check_malformed(bytes: &[u8], reason: &str) {
    match parse(bytes) {
        Parsed::Malformed(got) => assert_eq!(got, reason),
        other => panic!("{other:?}, not: {reason}"),
    }
}

/// Every prefix gives `Incomplete` until one gives the final answer, and then all do; a reader that is
/// given one after the other says the same.
fn check_cuts(bytes: &[u8]) {
    let last = parse(bytes);
    let mut decided = false;
    let mut reader = HelloReader::default();
    for end in 0..bytes.len() {
        let cut = parse(&bytes[..end]);
        if !decided {
            assert_eq!(reader.read(&bytes[..end]), cut, "after {end} bytes");
        }
        if cut == Parsed::Incomplete && !decided {
            continue;
        }
        decided = true;
        assert_eq!(cut, last, "after {end} of {} bytes", bytes.len());
    }
}

#[test]
fn reads_real_clients() {
    let mut lines = Vec::new();
    for (name, bytes) in SAMPLES {
        let hello = hello(bytes);
        let alpn: Vec<_> = hello
            .alpn
            .iter()
            .map(|name| String::from_utf8_lossy(name))
            .collect();
        lines.push(format!(
            "{name}: sni {:?}, alpn {alpn:?}, versions {:x?} ({:x}), {} ciphers from {:x}, \
             extensions {:?}, groups {:x?}, point formats {:?}, {} signature algorithms, ech {}",
            hello.sni,
            hello.versions,
            hello.legacy_version,
            hello.ciphers.len(),
            hello.ciphers[0],
            hello.extensions,
            hello.groups,
            hello.point_formats,
            hello.signature_algorithms.len(),
            hello.ech,
        ));
    }
    insta::assert_snapshot!(lines.join("\n"), @r#"
curl_address: sni None, alpn ["h2", "http/1.1"], versions [304, 303, 302, 301] (303), 31 ciphers from 1302, extensions [11, 10, 16, 22, 23, 49, 13, 43, 45, 51, 21], groups [1d, 17, 1e, 19, 18, 100, 101, 102, 103, 104], point formats [0, 1, 2], 20 signature algorithms, ech false
curl_http2: sni Some("api.openai.com"), alpn ["h2", "http/1.1"], versions [304, 303, 302, 301] (303), 31 ciphers from 1302, extensions [0, 11, 10, 16, 22, 23, 49, 13, 43, 45, 51, 21], groups [1d, 17, 1e, 19, 18, 100, 101, 102, 103, 104], point formats [0, 1, 2], 20 signature algorithms, ech false
java_25: sni Some("api.mistral.ai"), alpn ["h2", "http/1.1"], versions [304, 303] (303), 31 ciphers from 1302, extensions [0, 5, 10, 11, 16, 17, 23, 35, 13, 43, 45, 50, 51], groups [1d, 17, 18, 19, 1e, 100, 101, 102, 103, 104], point formats [0], 18 signature algorithms, ech false
node: sni Some("api.anthropic.com"), alpn ["h2", "http/1.1"], versions [304, 303] (303), 59 ciphers from 1302, extensions [0, 11, 10, 35, 16, 22, 23, 13, 43, 45, 51], groups [1d, 17, 1e, 19, 18, 100, 101, 102, 103, 104], point formats [0, 1, 2], 20 signature algorithms, ech false
openssl_no_sni: sni None, alpn [], versions [304, 303, 302, 301] (303), 31 ciphers from 1302, extensions [11, 10, 35, 22, 23, 13, 43, 45, 51], groups [1d, 17, 1e, 19, 18, 100, 101, 102, 103, 104], point formats [0, 1, 2], 20 signature algorithms, ech false
openssl_tls12: sni Some("api.anthropic.com"), alpn [], versions [] (303), 28 ciphers from c02c, extensions [0, 11, 10, 35, 22, 23, 13], groups [1d, 17, 1e, 19, 18], point formats [0, 1, 2], 20 signature algorithms, ech false
openssl_tls13: sni Some("api.openai.com"), alpn ["h2", "http/1.1"], versions [304, 303, 302, 301] (303), 31 ciphers from 1302, extensions [0, 11, 10, 35, 16, 22, 23, 13, 43, 45, 51], groups [1d, 17, 1e, 19, 18, 100, 101, 102, 103, 104], point formats [0, 1, 2], 20 signature algorithms, ech false
python_3_13: sni Some("generativelanguage.googleapis.com"), alpn [], versions [304, 303] (303), 18 ciphers from 1302, extensions [0, 11, 10, 35, 22, 23, 13, 43, 45, 51, 21], groups [1d, 17, 1e, 19, 18, 100, 101, 102, 103, 104], point formats [0, 1, 2], 20 signature algorithms, ech false
wget_gnutls: sni Some("localhost"), alpn [], versions [304, 303, 302, 301] (303), 29 ciphers from 1302, extensions [5, 10, 11, 13, 35, 51, 43, 49, 65281, 0, 45, 28, 21], groups [17, 18, 19, 1d, 1e, 100, 101, 102, 103, 104], point formats [0], 16 signature algorithms, ech false
"#);
}

#[test]
fn cuts_of_real_clients_do_not_matter() {
    for (_, bytes) in SAMPLES {
        check_cuts(bytes);
        // What follows a hello is none of ours.
        let followed = [bytes, &[0xff; 100][..]].concat();
        assert_eq!(parse(&followed), parse(bytes));
    }
}

#[test]
fn records_do_not_matter() {
    for (_, bytes) in SAMPLES {
        let message = &bytes[RECORD_HEADER_BYTES..];
        for fragment in [1, 2, 3, 7, 100, 511] {
            let split = records(message, fragment);
            assert_eq!(parse(&split), parse(bytes), "fragments of {fragment} bytes");
        }
        check_cuts(&records(message, 5));
    }
}

#[test]
fn big_hellos_are_whole() {
    let key_share = (51, vec![9; 20_000]);
    let big = records(&message(&body(&[server_name(b"a.com"), key_share])), 16_384);
    assert_eq!(hello(&big).sni.as_deref(), Some("a.com"));
    assert_eq!(parse(&big[..16_000]), Parsed::Incomplete);
}

#[test]
fn other_protocols_are_not_tls() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"SSH-2.0-x",
        b"PRI * HTTP/2.0",
        b"\x16\x02\x00\x00\x10",
        b"\x16\x03\x05",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x80\x2e\x01\x03\x01",
    ] {
        assert_eq!(parse(bytes), Parsed::NotTls, "{bytes:?}");
        check_cuts(bytes);
    }
    for bytes in [
        &b""[..],
        b"\x16",
        b"\x16\x03",
        b"\x16\x03\x01",
        b"\x16\x03\x01\x00",
    ] {
        assert_eq!(parse(bytes), Parsed::Incomplete, "{bytes:?}");
    }
}

#[test]
fn record_versions_in_use_are_read() {
    let mut bytes = whole(&[server_name(b"a.com")]);
    for minor in 0..=4 {
        bytes[2] = minor;
        assert_eq!(hello(&bytes).sni.as_deref(), Some("a.com"));
    }
}

#[test]
fn names_are_host_names() {
    let sni = |name: &[u8]| hello(&whole(&[server_name(name)])).sni;
    assert_eq!(sni(b"API.OpenAI.com").as_deref(), Some("api.openai.com"));
    assert_eq!(sni(b"api.openai.com.").as_deref(), Some("api.openai.com"));
    assert_eq!(
        sni(b"my_host.internal").as_deref(),
        Some("my_host.internal")
    );
    assert_eq!(sni(b"192.0.2.7"), None);
    assert_eq!(sni(b"2001:db8::7"), None);
    assert_eq!(hello(&whole(&[])).sni, None);

    let malformed = |name: &[u8]| {
        check_malformed(&whole(&[server_name(name)]), "the SNI is not a host name");
    };
    malformed(b"");
    malformed(b"a b");
    malformed(b"a.com\0.b.com");
    malformed(b"a..com");
    malformed(b"a.com/x");
    malformed(&[b'a'; 300]);
    check_malformed(
        &whole(&[server_name("bücher.example".as_bytes())]),
        "the SNI is not ASCII",
    );
    check_malformed(&whole(&[server_name(b"\xff.com")]), "the SNI is not ASCII");
}

#[test]
fn two_names_are_refused() {
    let (_, one) = server_name(b"a.com");
    let twice = [&one[2..], &one[2..]].concat();
    check_malformed(
        &whole(&[(0, prefixed_u16(&twice))]),
        "the server_name extension has two host names",
    );
    check_malformed(
        &whole(&[server_name(b"a.com"), server_name(b"b.com")]),
        "an extension is there twice",
    );
    check_malformed(
        &whole(&[(0, prefixed_u16(&[]))]),
        "the server_name extension has no host name",
    );
}

#[test]
fn an_encrypted_hello_is_seen() {
    assert!(hello(&whole(&[(0xfe0d, vec![0; 100])])).ech);
    assert!(!hello(&whole(&[(0xfe0a, vec![0; 100])])).ech);
}

#[test]
fn lengths_that_lie_are_refused() {
    let broken = |kind, content: &[u8], name: &str| {
        check_malformed(
            &whole(&[(kind, content.to_vec())]),
            &format!("the {name} extension is broken"),
        );
    };
    broken(0, &[], "server_name");
    broken(0, &[0, 9, 0, 0, 1, b'a'], "server_name");
    broken(0, &[0, 4, 0, 0, 1, b'a', 9], "server_name");
    broken(16, &[0, 2, 9, b'h'], "ALPN");
    broken(16, &[0, 1, 0], "ALPN");
    broken(43, &[3, 3, 4, 3], "supported_versions");
    broken(10, &[0, 1, 0], "supported_groups");
    broken(11, &[2, 0], "ec_point_formats");
    broken(13, &[0, 3, 4, 3, 8], "signature_algorithms");

    check_malformed(
        &records(&message(&body(&[])[..40]), 100),
        "the ClientHello ends within a field",
    );
    let mut longer = body(&[]);
    longer.push(0);
    check_malformed(
        &records(&message(&longer), 100),
        "bytes follow the extensions",
    );
    let mut no_ciphers = vec![3, 3];
    no_ciphers.extend([0; 32]);
    no_ciphers.extend([0, 0, 0, 1, 0]);
    check_malformed(
        &records(&message(&no_ciphers), 100),
        "there is no cipher suite",
    );
}

#[test]
fn records_that_lie_are_refused() {
    check_malformed(&[22, 3, 1, 0, 0], "a record of the handshake is empty");
    check_malformed(&[22, 3, 1, 0x40, 1], "a record is longer than TLS allows");
    check_malformed(
        &[22, 3, 1, 0, 4, 2],
        "the first message is not a ClientHello",
    );
    check_malformed(
        &[22, 3, 1, 0, 4, 1, 1, 0, 0],
        "the ClientHello is longer than 64 KiB",
    );
    let alert_between = [&[22, 3, 1, 0, 1, 1][..], &[21, 3, 1, 0, 2]].concat();
    check_malformed(
        &alert_between,
        "another record stands between the parts of the ClientHello",
    );
    check_cuts(&alert_between);
}

#[test]
fn a_hello_that_never_ends_is_given_up() {
    // The message itself would fit, in records of one byte it does not.
    let message = message(&body(&[(51, vec![0; 30_000])]));
    let split = records(&message, 1);
    let reason = "the ClientHello is longer than 64 KiB";
    assert_eq!(parse(&split[..HELLO_BYTES_MAX - 1]), Parsed::Incomplete);
    check_malformed(&split[..HELLO_BYTES_MAX], reason);
    check_malformed(&split, reason);
}

#[test]
fn what_comes_octet_by_octet_is_looked_at_once() {
    let large = message(&body(&[(21, vec![0; 30_000])]));
    for fragment in [1, 7, 16_384] {
        let bytes = records(&large, fragment);
        let bytes = &bytes[..bytes.len().min(HELLO_BYTES_MAX - 1)];
        let mut reader = HelloReader::default();
        let mut looked_at = 0;
        for end in 1..=bytes.len() {
            let before = reader.taken;
            let answer = reader.read(&bytes[..end]);
            // What it looks at, and does not pass by, is at most a part of the header of a record.
            looked_at += end - before;
            assert!(reader.taken + RECORD_HEADER_BYTES > end || answer != Parsed::Incomplete);
            assert!(reader.message.len() <= reader.taken);
        }
        assert!(
            looked_at <= bytes.len() * RECORD_HEADER_BYTES,
            "{looked_at}"
        );
    }
}

#[test]
fn extensions_may_be_missing() {
    let mut old = vec![3, 1];
    old.extend([0; 32]);
    old.extend([0, 0, 2, 0, 47, 1, 0]);
    let hello = hello(&records(&message(&old), 100));
    assert_eq!((hello.legacy_version, hello.ciphers), (0x0301, vec![47]));
}

proptest! {
    #[test]
    fn cuts_do_not_matter(
        extensions in prop::collection::vec(
            (prop::sample::select(vec![0_u16, 10, 11, 13, 16, 43, 51, 0xfe0d]),
             prop::collection::vec(0_u8..12, 0..20)),
            0..6,
        ),
        fragment in 1_usize..200,
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut bytes = records(&message(&body(&extensions)), fragment);
        if let Some((index, byte)) = damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        check_cuts(&bytes);
    }

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check_cuts(&bytes);
        check_cuts(&[&[22, 3, 1][..], &bytes].concat());
    }

    #[test]
    fn damaged_real_hellos_are_read(
        sample in prop::sample::select(SAMPLES),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = sample.1.to_vec();
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        check_cuts(&bytes);
    }
}

#[test]
fn whoever_offers_the_same_has_the_same_fingerprints() {
    let changes: [fn(&mut ClientHello); 8] = [
        |hello| hello.alpn.push(b"h2".to_vec()),
        |hello| hello.legacy_version = 0x0302,
        |hello| hello.versions.push(0x0304),
        |hello| hello.ciphers.push(0x1301),
        |hello| hello.extensions.push(0x000a),
        |hello| hello.groups.push(0x001d),
        |hello| hello.point_formats.push(0),
        |hello| hello.signature_algorithms.push(0x0403),
    ];
    let hello = ClientHello::default();
    for change in changes {
        let mut other = hello.clone();
        change(&mut other);
        assert!(!hello.offers_the_same(&other), "{other:?}");
        assert!(!hello.offers_the_same_shuffled(&other), "{other:?}");
        assert!(other.offers_the_same(&other.clone()));
    }
    let [ordered, shuffled] = [[0, 10, 16], [16, 0, 10]].map(|extensions| ClientHello {
        extensions: extensions.to_vec(),
        ..hello.clone()
    });
    assert!(!ordered.offers_the_same(&shuffled));
    assert!(ordered.offers_the_same_shuffled(&shuffled));
    assert_eq!(fingerprint::ja4(&ordered), fingerprint::ja4(&shuffled));
    let elsewhere = ClientHello {
        sni: Some("a.test".to_owned()),
        ech: true,
        ..hello.clone()
    };
    assert!(hello.offers_the_same(&elsewhere));
    assert_eq!(fingerprint::ja3(&hello), fingerprint::ja3(&elsewhere));
    assert_eq!(fingerprint::ja4(&hello), fingerprint::ja4(&elsewhere));
}
