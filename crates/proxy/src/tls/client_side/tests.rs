//! Handshakes with clients in memory.

use rustls::{CipherSuite, HandshakeKind};

use super::*;
use crate::tls::certificate;
use crate::tls::tests::{Handshake, authority, client, client_side, handshake, host, stranger};

fn certificate_names(shake: &Handshake) -> Vec<String> {
    let chain = shake.client.peer_certificates().unwrap();
    certificate::facts(chain).unwrap().names
}

#[test]
fn the_leaf_is_for_the_name_asked_for() {
    let authority = authority();
    let side = client_side(&authority);
    let config = side.server_config(&host("a.test"), ClientAlpn::None);
    let shake = handshake(client(&authority, &[]), config, "b.test").succeeded();
    assert_eq!(certificate_names(&shake), ["b.test"]);
}

#[test]
fn an_address_gets_its_own_leaf() {
    let authority = authority();
    let side = client_side(&authority);
    for name in ["192.0.2.7", "2001:db8::7"] {
        let config = side.server_config(&host(name), ClientAlpn::Http11);
        let shake = handshake(client(&authority, &[]), config, name).succeeded();
        assert_eq!(certificate_names(&shake), [name]);
    }
    let again = side.server_config(&host("192.0.2.7"), ClientAlpn::Http11);
    assert!(Arc::ptr_eq(
        &again,
        &side.server_config(&host("192.0.2.7"), ClientAlpn::Http11)
    ));
    // Without an address to go by there is no certificate to show.
    let config = side.server_config(&host("a.test"), ClientAlpn::None);
    let shake = handshake(client(&authority, &[]), config, "192.0.2.7");
    assert!(shake.server_result.is_err());
}

#[test]
fn configurations_for_addresses_are_bounded() {
    let side = client_side(&authority());
    for number in 0..1000_u32 {
        let address = Host::Ip(std::net::Ipv4Addr::from(number).into());
        let _config = side.server_config(&address, ClientAlpn::Both);
    }
    assert!(side.by_address.lock().len() <= ADDRESSES_MAX);
}

#[test]
fn alpn_is_what_was_chosen() {
    let authority = authority();
    let side = client_side(&authority);
    let chosen = |alpn: ClientAlpn| {
        let config = side.server_config(&host("a.test"), alpn);
        let client = client(&authority, &[b"h2", b"http/1.1"]);
        let shake = handshake(client, config, "a.test").succeeded();
        shake.server.alpn_protocol().map(<[u8]>::to_vec)
    };
    assert_eq!(
        chosen(ClientAlpn::Http11).as_deref(),
        Some(&b"http/1.1"[..])
    );
    assert_eq!(chosen(ClientAlpn::Http2).as_deref(), Some(&b"h2"[..]));
    assert_eq!(chosen(ClientAlpn::Both).as_deref(), Some(&b"h2"[..]));
    assert_eq!(chosen(ClientAlpn::None), None);
}

#[test]
fn a_cheap_cipher_is_taken_before_the_clients_favourite() {
    let authority = authority();
    let side = client_side(&authority);
    let client = client(&authority, &[]);
    let suites = &client.crypto_provider().cipher_suites;
    assert_eq!(
        suites[0].suite(),
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        "what the client likes best"
    );
    let config = side.server_config(&host("a.test"), ClientAlpn::None);
    let shake = handshake(client, config, "a.test").succeeded();
    let suite = shake.server.negotiated_cipher_suite().unwrap();
    assert_eq!(suite.suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
}

#[test]
fn sessions_are_resumed_for_their_name_only() {
    let authority = authority();
    let side = client_side(&authority);
    let client = client(&authority, &[]);
    let kind = |name: &str| {
        let config = side.server_config(&host(name), ClientAlpn::Http11);
        let shake = handshake(Arc::clone(&client), config, name).succeeded();
        shake.server.handshake_kind()
    };
    assert_eq!(kind("a.test"), Some(HandshakeKind::Full));
    assert_eq!(kind("a.test"), Some(HandshakeKind::Resumed));
    assert_eq!(kind("b.test"), Some(HandshakeKind::Full));
}

/// Of a client of TLS 1.2.
fn read_hello() -> ReadHello {
    ReadHello {
        legacy_version: 0x0303,
        ..ReadHello::default()
    }
}

#[test]
fn a_client_without_our_authority_distrusts() {
    let side = client_side(&authority());
    let config = side.server_config(&host("a.test"), ClientAlpn::None);
    let shake = handshake(client(&stranger(), &[]), Arc::clone(&config), "a.test");
    let (kind, text) = client_failure(&shake.server_result.unwrap_err(), &read_hello());
    assert_eq!(kind, FailureKind::ClientDistrusts);
    assert_eq!(
        text,
        "the client does not trust oriel's certificate (alert unknown_ca)"
    );
    // It trusts one of the same name, from before the authority was made anew.
    let shake = handshake(client(&authority(), &[]), config, "a.test");
    let (kind, _) = client_failure(&shake.server_result.unwrap_err(), &read_hello());
    assert_eq!(kind, FailureKind::ClientDistrusts);
}

#[test]
fn other_ends_are_told_apart() {
    let check = |error: io::Error, kind: FailureKind| {
        let (got, text) = client_failure(&error, &read_hello());
        assert_eq!(got, kind, "{text}");
    };
    let tls = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let alert = |alert| tls(rustls::Error::AlertReceived(alert));
    check(
        alert(AlertDescription::BadCertificate),
        FailureKind::ClientDistrusts,
    );
    check(
        alert(AlertDescription::CertificateUnknown),
        FailureKind::ClientDistrusts,
    );
    check(
        alert(AlertDescription::AccessDenied),
        FailureKind::ClientDistrusts,
    );
    check(
        alert(AlertDescription::ProtocolVersion),
        FailureKind::TlsVersion,
    );
    check(tls(rustls::Error::DecryptError), FailureKind::TlsProtocol);
    check(
        io::ErrorKind::UnexpectedEof.into(),
        FailureKind::ClosedEarly,
    );
    check(io::ErrorKind::ConnectionReset.into(), FailureKind::Reset);
    check(io::ErrorKind::TimedOut.into(), FailureKind::TimedOut);
    check(io::ErrorKind::OutOfMemory.into(), FailureKind::Io);
}
