//! What is read of certificates, good and hostile.

use std::sync::Arc;

use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, KeyPair};

use super::*;
use crate::tls::leaf::LeafCache;
use crate::tls::tests::{authority, host, now};

#[test]
fn tells_what_a_leaf_says() {
    let authority = authority();
    let leaves = LeafCache::new(Arc::clone(&authority), 1).unwrap();
    let leaf = leaves.leaf(&host("api.openai.com"), now()).unwrap();
    let facts = facts(&leaf.cert).unwrap();
    assert_eq!(facts.subject, "CN=api.openai.com");
    assert_eq!(facts.issuer, "CN=oriel test authority");
    assert_eq!(facts.names, ["api.openai.com"]);
    assert_eq!(facts.chain_length, 1);
    assert_eq!(facts.sha256, sha256(&leaf.cert[0]));
    assert!(facts.not_before < now() && now() < facts.not_after);
}

#[test]
fn sha256_is_sha256() {
    // FIPS 180-2 appendix B.1.
    let digest = sha256(b"abc");
    assert_eq!(digest[..4], [0xba, 0x78, 0x16, 0xbf]);
    assert_eq!(digest[28..], [0xf2, 0x00, 0x15, 0xad]);
}

#[test]
fn what_strangers_write_is_bounded() {
    let names: Vec<_> = (0..100).map(|number| format!("h{number}.test")).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let hostile = format!("a\r\nSet-Cookie: x\x1b[2J{}", "y".repeat(5000));
    params.distinguished_name.push(DnType::CommonName, hostile);
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let facts = facts(&[certificate.der().clone()]).unwrap();
    assert_eq!(facts.names.len(), NAMES_MAX);
    assert!(facts.subject.chars().count() <= NAME_CHARS_MAX);
    assert!(
        !facts.subject.contains(char::is_control),
        "{}",
        facts.subject
    );
}

#[test]
fn names_are_written_as_rfc_4514_says() {
    let written = |parts: &[(DnType, &str)]| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        facts(&[certificate.der().clone()]).unwrap().subject
    };
    // RFC 4514 section 4.
    let parts = [
        (
            DnType::CustomDnType(vec![0, 9, 2342, 19200300, 100, 1, 25]),
            "net",
        ),
        (DnType::OrganizationName, "example"),
        (DnType::CommonName, "James \"Jim\" Smith, III"),
    ];
    assert_eq!(
        written(&parts),
        r#"CN=James \"Jim\" Smith\, III,O=example,DC=net"#
    );
    assert_eq!(written(&[(DnType::CommonName, " #a+b ")]), r"CN=\ #a\+b\ ");
    assert_eq!(written(&[(DnType::CommonName, "#a")]), r"CN=\#a");
    assert_eq!(
        written(&[(DnType::CustomDnType(vec![1, 2, 3, 4]), "b")]),
        "1.2.3.4=b"
    );
    assert_eq!(written(&[]), "");
}

#[test]
fn what_was_read_before_is_told_as_if_it_was_read_now() {
    let read = ReadCertificates::default();
    let of = |name: &str| {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        certificate.der().clone()
    };
    let (one, other) = (of("one.test"), of("other.test"));
    let chains = [
        vec![one.clone()],
        vec![other.clone(), one.clone()],
        vec![one.clone(), other],
        vec![one],
    ];
    for chain in &chains {
        assert_eq!(read.facts(chain), facts(chain));
    }
    assert_eq!(read.0.lock().len(), 2);
    assert_eq!(read.facts(&[]), None);
    assert_eq!(read.facts(&[b"no certificate".to_vec().into()]), None);
    for number in 0..2 * READ_CERTIFICATES_MAX {
        let chain = [of(&format!("{number}.test"))];
        assert_eq!(read.facts(&chain), facts(&chain));
        assert!(read.0.lock().len() <= READ_CERTIFICATES_MAX);
    }
}

proptest! {
    #[test]
    fn damaged_certificates_are_read(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut der = authority().certificate_der().to_vec();
        for (index, byte) in damage {
            let index = index.index(der.len());
            der[index] = byte;
        }
        // The facts of a broken certificate are nothing to rely on; reading it must end.
        let _facts = facts(&[der.into()]);
    }
}
