//! Published fingerprints, and those of real clients as two other programs compute them.

use super::*;
use crate::wire::client_hello::{Parsed, parse};

/// Hellos of real clients with their JA3 as tshark 4.0 computes it from the same bytes, and their
/// JA4 as the Python package ja4plus 1.4 does.
const SAMPLES: &[(&[u8], &str, &str)] = &[
    (
        include_bytes!("../../../samples/client_hello/curl_address.bin"),
        "78f0dc5ac5b19daf131a133cfdee9691",
        "t13i3111h2_e8f1e7e78f70_b26ce05bbdd6",
    ),
    (
        include_bytes!("../../../samples/client_hello/curl_http2.bin"),
        "0149f47eabf9a20d0893e2a44e5a6323",
        "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6",
    ),
    (
        include_bytes!("../../../samples/client_hello/java_25.bin"),
        "bddb16608b241c89053080cf80771423",
        "t13d3113h2_1d947a95fc68_7e1102d2036b",
    ),
    (
        include_bytes!("../../../samples/client_hello/node.bin"),
        "1a28e69016765d92e3b381168d68922c",
        "t13d5911h2_a33745022dd6_1f22a2ca17c4",
    ),
    (
        include_bytes!("../../../samples/client_hello/openssl_no_sni.bin"),
        "c216e752cae6f8755fd27f561d031636",
        "t13i310900_e8f1e7e78f70_1f22a2ca17c4",
    ),
    (
        include_bytes!("../../../samples/client_hello/openssl_tls12.bin"),
        "871a754af286dfb70c1b53c6887c62e0",
        "t12d280700_d943125447b4_e7e480e5a997",
    ),
    (
        include_bytes!("../../../samples/client_hello/openssl_tls13.bin"),
        "5a1edc7f170af1014fc65c994878e63c",
        "t13d3111h2_e8f1e7e78f70_1f22a2ca17c4",
    ),
    (
        include_bytes!("../../../samples/client_hello/python_3_13.bin"),
        "93c7d42c0df602fb91589311534831f5",
        "t13d181100_85036bcba153_d41ae481755e",
    ),
    (
        include_bytes!("../../../samples/client_hello/wget_gnutls.bin"),
        "bb4f9fef542ff6b4b29aa653bf0c1d31",
        "t13d291300_723694b0fccc_899037bd0b8c",
    ),
];

/// The offer that the description of JA4 takes as its example.
fn example() -> ClientHello {
    ClientHello {
        legacy_version: 0x0303,
        versions: vec![0x6a6a, 0x0304, 0x0303],
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        ciphers: vec![
            0x2a2a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
            0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
        ],
        extensions: vec![
            0x1a1a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023,
            0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015,
        ],
        signature_algorithms: vec![
            0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601,
        ],
        ..ClientHello::default()
    }
}

#[test]
fn a_published_ja4_comes_out() {
    assert_eq!(ja4(&example()), "t13d1516h2_8daaf6152771_e5627efa2ab1");
}

#[test]
fn published_ja3_come_out() {
    let with_groups = ClientHello {
        legacy_version: 769,
        ciphers: vec![47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4],
        extensions: vec![0, 10, 11],
        groups: vec![23, 24, 25],
        point_formats: vec![0],
        ..ClientHello::default()
    };
    let bare = ClientHello {
        legacy_version: 769,
        ciphers: vec![4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99],
        ..ClientHello::default()
    };
    for (hello, text, hash) in [
        (
            with_groups,
            "769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0",
            "ada70206e40642a3e4461f35503241d5",
        ),
        (
            bare,
            "769,4-5-10-9-100-98-3-6-19-18-99,,,",
            "de350869b8c85de67a350c8d186f11e6",
        ),
    ] {
        assert_eq!(
            ja3(&hello),
            Ja3 {
                text: text.to_owned(),
                hash: hash.to_owned()
            }
        );
    }
}

#[test]
fn grease_changes_nothing() {
    let plain = example();
    for low in 0..16_u8 {
        let grease = u16::from_be_bytes([low << 4 | 0xa; 2]);
        let mut hello = plain.clone();
        for list in [
            &mut hello.ciphers,
            &mut hello.extensions,
            &mut hello.groups,
            &mut hello.versions,
            &mut hello.signature_algorithms,
        ] {
            list.insert(0, grease);
        }
        assert_eq!(ja4(&hello), ja4(&plain), "{grease:04x}");
        assert_eq!(ja3(&hello), ja3(&plain), "{grease:04x}");
    }
}

#[test]
fn the_order_of_extensions_is_in_ja3_only() {
    let plain = example();
    let mut shuffled = plain.clone();
    shuffled.extensions.reverse();
    assert_eq!(ja4(&shuffled), ja4(&plain));
    assert_ne!(ja3(&shuffled), ja3(&plain));

    let mut other_algorithms = plain.clone();
    other_algorithms.signature_algorithms.reverse();
    assert_ne!(ja4(&other_algorithms), ja4(&plain));
}

#[test]
fn the_first_part_of_ja4_follows_the_hello() {
    type Change = fn(&mut ClientHello);
    let cases: &[(&str, Change)] = &[
        ("t12d1516h2", |hello| hello.versions.clear()),
        ("t10d1516h2", |hello| hello.versions = vec![0x0301]),
        ("ts3d1516h2", |hello| hello.versions = vec![0x0300]),
        ("t00d1516h2", |hello| hello.versions = vec![0x7f1c]),
        ("t13i1515h2", |hello| {
            hello.extensions.retain(|kind| *kind != 0);
        }),
        ("t13d151600", |hello| hello.alpn.clear()),
        ("t13d1516h1", |hello| {
            hello.alpn = vec![b"http/1.1".to_vec()];
        }),
        ("t13d1516aa", |hello| hello.alpn = vec![b"a".to_vec()]),
        ("t13d1516ab", |hello| hello.alpn = vec![vec![0xab]]),
        ("t13d1516ad", |hello| hello.alpn = vec![vec![0xab, 0xcd]]),
        ("t13d15163b", |hello| hello.alpn = vec![vec![0x30, 0xab]]),
        ("t13d1599h2", |hello| hello.extensions.extend(1000..1200)),
        ("t13d9916h2", |hello| hello.ciphers.extend(1000..1200)),
    ];
    for (start, change) in cases {
        let mut hello = example();
        change(&mut hello);
        let text = ja4(&hello);
        assert_eq!(text.split('_').next(), Some(*start), "{text}");
    }
}

#[test]
fn what_is_not_there_is_not_hashed() {
    let bare = ClientHello {
        legacy_version: 0x0303,
        ..ClientHello::default()
    };
    assert_eq!(ja4(&bare), "t12i000000_000000000000_000000000000");
    // SNI and ALPN do not count as something to hash.
    let named = ClientHello {
        extensions: vec![0, 16],
        signature_algorithms: vec![0x0403],
        ..bare
    };
    assert_eq!(ja4(&named), "t12d000200_000000000000_000000000000");
}

#[test]
fn real_clients_are_named_as_others_name_them() {
    for (bytes, ja3_hash, ja4_text) in SAMPLES {
        let Parsed::Hello(hello) = parse(bytes) else {
            panic!("a sample is no hello");
        };
        assert_eq!(ja3(&hello).hash, *ja3_hash);
        assert_eq!(ja4(&hello), *ja4_text);
    }
}

#[test]
fn every_number_is_written_as_the_standard_library_writes_it() {
    for value in 0..=u16::MAX {
        let mut decimal = String::new();
        push_decimal(&mut decimal, value);
        assert_eq!(decimal, value.to_string());
        assert_eq!(hex_list(&[value]), format!("{value:04x}"));
    }
}
