//! Handshakes with upstreams in memory: good, and wrong in each way that has a name.

use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use rustls::{ClientConnection, HandshakeKind, ServerConfig};
use traffic::wire::client_hello::{self, Parsed};

use super::*;
use crate::tls::authority::Authority;
use crate::tls::client_side::ClientAlpn;
use crate::tls::leaf::LeafCache;
use crate::tls::settled;
use crate::tls::tests::{Handshake, authority, days_from_now, handshake, host, server, stranger};

fn trust(roots: &[&Authority], danger_accept_invalid: &[&str]) -> UpstreamTls {
    UpstreamTls::new(&UpstreamTrust {
        system_roots: false,
        extra_roots: roots
            .iter()
            .map(|root| root.certificate_der().clone())
            .collect(),
        danger_accept_invalid: danger_accept_invalid
            .iter()
            .map(|&text| text.into())
            .collect(),
    })
    .unwrap()
}

fn target(text: &str) -> Target {
    Target::parse(text, 443).unwrap()
}

fn shake(tls: &UpstreamTls, server: Arc<ServerConfig>, name: &str) -> Handshake {
    let (config, _) = tls.client_config(&target(name), UpstreamAlpn::Both);
    handshake(config, server, name)
}

fn refusal(tls: &UpstreamTls, server: Arc<ServerConfig>, name: &str) -> (FailureKind, String) {
    describe(&shake(tls, server, name).client_result.unwrap_err())
}

/// A server that shows this leaf whatever it is asked for.
fn server_with(chain: Vec<CertificateDer<'static>>, key: KeyPair) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from(key))
        .unwrap();
    Arc::new(config)
}

/// A server whose authority and leaf were made so many days from now.
fn server_of_day(days: i64) -> (Arc<Authority>, Arc<ServerConfig>) {
    let made = Authority::generate("authority of another day", days_from_now(days)).unwrap();
    let authority = Arc::new(made);
    let leaves = LeafCache::new(Arc::clone(&authority), 1).unwrap();
    let leaf = leaves.leaf(&host("a.test"), days_from_now(days)).unwrap();
    let resolver = rustls::sign::SingleCertAndKey::from((*leaf).clone());
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    (authority, Arc::new(config))
}

fn self_signed(name: &str) -> Arc<ServerConfig> {
    let (certificate, key) = self_signed_certificate(name, IsCa::NoCa);
    server_with(vec![certificate], key)
}

fn self_signed_certificate(name: &str, is_ca: IsCa) -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), key)
}

#[test]
fn an_extra_root_is_trusted() {
    let authority = authority();
    let tls = trust(&[&authority], &[]);
    let shake = shake(&tls, server(&authority, ClientAlpn::Both), "a.test").succeeded();
    let facts = settled::facts(&shake.client, Some("a.test"));
    assert_eq!(facts.version, "TLSv1.3");
    assert_eq!(facts.cipher, "TLS13_AES_128_GCM_SHA256");
    assert_eq!(facts.sni.as_deref(), Some("a.test"));
    assert_eq!(facts.alpn.as_deref(), Some("h2"));
    let chain = shake.client.peer_certificates().unwrap();
    let certificate = certificate::facts(chain).unwrap();
    assert_eq!(certificate.subject, "CN=a.test");
    assert_eq!(certificate.issuer, "CN=oriel test authority");

    let ours = settled::facts(&shake.server, Some("a.test"));
    assert_eq!(ours.version, "TLSv1.3");
}

#[test]
fn an_unknown_issuer_is_named() {
    let tls = trust(&[&authority()], &[]);
    let (kind, text) = refusal(&tls, server(&stranger(), ClientAlpn::Both), "a.test");
    assert_eq!(kind, FailureKind::CertificateUnknownIssuer);
    insta::assert_snapshot!(text, @"the upstream's certificate for CN=a.test was issued by CN=another authority, which is not trusted; the upstream sent no intermediate certificate");
}

#[test]
fn a_self_signed_certificate_is_called_so() {
    let tls = trust(&[&authority()], &[]);
    let (kind, text) = refusal(&tls, self_signed("a.test"), "a.test");
    assert_eq!(kind, FailureKind::CertificateUnknownIssuer);
    insta::assert_snapshot!(text, @"the upstream's certificate is self-signed and not trusted: CN=a.test");
}

/// Debian's ssl-cert puts a root named after the machine, with an RSA key, among the system's.
#[test]
fn a_trusted_root_of_the_same_name_does_not_hide_that_it_is_self_signed() {
    let unconstrained = IsCa::Ca(BasicConstraints::Unconstrained);
    let (same_name, _) = self_signed_certificate("a.test", unconstrained);
    let tls = UpstreamTls::new(&UpstreamTrust {
        system_roots: false,
        extra_roots: vec![same_name],
        danger_accept_invalid: Vec::new(),
    })
    .unwrap();
    let (kind, text) = refusal(&tls, self_signed("a.test"), "a.test");
    assert_eq!(kind, FailureKind::CertificateUnknownIssuer, "{text}");
}

/// `openssl req -x509` makes such certificates: an authority that is a server too.
#[test]
fn a_self_signed_authority_may_serve_if_it_is_trusted_itself() {
    let unconstrained = IsCa::Ca(BasicConstraints::Unconstrained);
    let (certificate, key) = self_signed_certificate("a.test", unconstrained);
    let server = server_with(vec![certificate.clone()], key);
    let (kind, text) = refusal(&trust(&[&authority()], &[]), Arc::clone(&server), "a.test");
    assert_eq!(kind, FailureKind::CertificateUnknownIssuer, "{text}");

    let tls = UpstreamTls::new(&UpstreamTrust {
        system_roots: false,
        extra_roots: vec![certificate],
        danger_accept_invalid: Vec::new(),
    })
    .unwrap();
    shake(&tls, Arc::clone(&server), "a.test").succeeded();
    let (kind, text) = refusal(&tls, server, "b.test");
    assert_eq!(kind, FailureKind::CertificateWrongName, "{text}");
}

#[test]
fn an_expired_authority_does_not_serve() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let tls = UpstreamTls::new(&UpstreamTrust {
        system_roots: false,
        extra_roots: vec![certificate.clone()],
        danger_accept_invalid: Vec::new(),
    })
    .unwrap();
    let (kind, text) = refusal(&tls, server_with(vec![certificate], key), "a.test");
    assert_eq!(kind, FailureKind::CertificateExpired, "{text}");
}

#[test]
fn another_name_is_told() {
    let authority = authority();
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = (0..7).map(|number| format!("h{number}.test")).collect();
    let params = CertificateParams::new(names).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(authority.certificate_der(), authority.key());
    let certificate = params.signed_by(&key, &issuer.unwrap()).unwrap();
    let server = server_with(vec![certificate.der().clone()], key);
    let (kind, text) = refusal(&trust(&[&authority], &[]), server, "a.test");
    assert_eq!(kind, FailureKind::CertificateWrongName);
    insta::assert_snapshot!(text, @"the upstream's certificate is for h0.test, h1.test, h2.test, h3.test, h4.test and 2 more and not for a.test");
}

#[test]
fn an_expired_certificate_tells_when() {
    let (authority, server) = server_of_day(-250);
    let (kind, text) = refusal(&trust(&[&authority], &[]), server, "a.test");
    assert_eq!(kind, FailureKind::CertificateExpired);
    let end = Civil::from(days_from_now(-250 - 1 + 199)).to_string();
    // The second in which the test began may be over.
    let minute = end.get(..16).unwrap();
    let expected = format!("the upstream's certificate expired at {minute}");
    assert!(text.starts_with(&expected), "{text} {expected}");
}

#[test]
fn a_certificate_of_tomorrow_tells_when() {
    let (authority, server) = server_of_day(10);
    let (kind, text) = refusal(&trust(&[&authority], &[]), server, "a.test");
    assert_eq!(kind, FailureKind::CertificateNotYetValid);
    assert!(
        text.starts_with("the upstream's certificate is valid from 2"),
        "{text}"
    );
}

#[test]
fn danger_is_for_the_hosts_listed() {
    let tls = trust(&[&authority()], &["*.danger.test"]);
    let (config, danger) = tls.client_config(&target("a.danger.test"), UpstreamAlpn::Http11);
    assert!(danger);
    handshake(config, self_signed("other.test"), "a.danger.test").succeeded();

    let (config, danger) = tls.client_config(&target("a.test"), UpstreamAlpn::Http11);
    assert!(!danger);
    assert!(
        handshake(config, self_signed("a.test"), "a.test")
            .client_result
            .is_err()
    );
}

#[test]
fn danger_takes_certificates_of_version_1() {
    // openssl up to 3.1 signs a request without extensions as version 1.
    const MAKE: &str = "
        openssl req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=old &&
        openssl x509 -req -in request.pem -signkey key.pem -out certificate.pem";
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("sh")
        .args(["-c", MAKE])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let certificate = CertificateDer::from_pem_slice(&read("certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read("key.pem")).unwrap();
    let key = provider().key_provider.load_private_key(key).unwrap();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let certified = CertifiedKey::new(vec![certificate.clone()], Arc::clone(&key));
        let resolver = rustls::sign::SingleCertAndKey::from(certified);
        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        let tls = trust(&[&authority()], &["a.test"]);
        shake(&tls, Arc::new(server), "a.test").succeeded();
    }
}

/// A server that shows a certificate whose key it does not have.
#[test]
fn danger_still_wants_the_key_of_the_certificate() {
    let (certificate, _) = self_signed_certificate("a.test", IsCa::NoCa);
    let other = KeyPair::generate().unwrap();
    let key = provider()
        .key_provider
        .load_private_key(PrivateKeyDer::from(other))
        .unwrap();
    let certified = CertifiedKey::new(vec![certificate], key);
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    let tls = trust(&[&authority()], &["a.test"]);
    let (kind, text) = refusal(&tls, Arc::new(server), "a.test");
    assert_eq!(kind, FailureKind::CertificateInvalid, "{text}");
}

#[test]
fn danger_does_not_leak_through_a_resumed_session() {
    let tls = trust(&[&authority()], &["a.test:8443"]);
    let server = self_signed("a.test");
    let shake = |port: u16| {
        let target = Target {
            host: host("a.test"),
            port,
        };
        let (config, _) = tls.client_config(&target, UpstreamAlpn::Both);
        handshake(config, Arc::clone(&server), "a.test")
    };
    shake(8443).succeeded();
    let again = shake(8443).succeeded();
    assert_eq!(again.client.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(shake(443).client_result.is_err());
}

#[test]
fn a_resumed_session_still_has_its_certificate() {
    let authority = authority();
    let tls = trust(&[&authority], &[]);
    let server = server(&authority, ClientAlpn::Both);
    shake(&tls, Arc::clone(&server), "a.test").succeeded();
    let again = shake(&tls, server, "a.test").succeeded();
    assert_eq!(again.client.handshake_kind(), Some(HandshakeKind::Resumed));
    let chain = again.client.peer_certificates().unwrap();
    assert!(certificate::facts(chain).is_some());
}

#[test]
fn configurations_are_shared() {
    let tls = trust(&[&authority()], &["danger.test"]);
    let config = |host: &str, alpn| tls.client_config(&target(host), alpn).0;
    let first = config("a.test", UpstreamAlpn::Both);
    assert!(Arc::ptr_eq(&first, &config("b.test", UpstreamAlpn::Both)));
    assert!(!Arc::ptr_eq(
        &first,
        &config("b.test", UpstreamAlpn::Http11)
    ));
    assert!(!Arc::ptr_eq(
        &first,
        &config("danger.test", UpstreamAlpn::Both)
    ));
    assert_eq!(first.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    assert!(
        config("a.test", UpstreamAlpn::None)
            .alpn_protocols
            .is_empty()
    );
    assert_eq!(
        config("a.test", UpstreamAlpn::Http2).alpn_protocols,
        [b"h2"]
    );
}

#[test]
fn trust_without_roots_is_refused() {
    let mut trust = UpstreamTrust {
        system_roots: false,
        extra_roots: Vec::new(),
        danger_accept_invalid: Vec::new(),
    };
    assert!(matches!(UpstreamTls::new(&trust), Err(TrustError::NoRoots)));
    trust.extra_roots = vec![CertificateDer::from(vec![1, 2, 3])];
    let refused = UpstreamTls::new(&trust);
    assert!(matches!(
        refused,
        Err(TrustError::BadRoot { position: 1, .. })
    ));
    trust.danger_accept_invalid = vec!["https://a.test".into()];
    assert!(matches!(
        UpstreamTls::new(&trust),
        Err(TrustError::BadPattern(_))
    ));
}

#[test]
fn the_systems_roots_or_the_bundled_ones_are_loaded() {
    let trust = UpstreamTrust {
        system_roots: true,
        extra_roots: Vec::new(),
        danger_accept_invalid: Vec::new(),
    };
    assert!(SystemRoots::load(&trust).0.len() > 50);
    let tls = UpstreamTls::new(&trust).unwrap();
    let (kind, _) = refusal(&tls, server(&authority(), ClientAlpn::Both), "a.test");
    assert_eq!(kind, FailureKind::CertificateUnknownIssuer);
}

#[test]
fn other_ends_are_told_apart() {
    let check = |error: io::Error, kind: FailureKind| {
        let (got, text) = describe(&error);
        assert_eq!(got, kind, "{text}");
    };
    let tls = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let certificate = |error| tls(rustls::Error::InvalidCertificate(error));
    check(
        certificate(CertificateError::Revoked),
        FailureKind::CertificateRevoked,
    );
    check(
        certificate(CertificateError::BadEncoding),
        FailureKind::CertificateInvalid,
    );
    check(
        certificate(CertificateError::InvalidPurpose),
        FailureKind::CertificateInvalid,
    );
    check(
        tls(rustls::Error::NoCertificatesPresented),
        FailureKind::CertificateInvalid,
    );
    let alert = AlertDescription::ProtocolVersion;
    check(
        tls(rustls::Error::AlertReceived(alert)),
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

#[test]
fn our_reader_reads_the_hello_we_send() {
    let tls = trust(&[&authority()], &[]);
    let (config, _) = tls.client_config(&target("a.test"), UpstreamAlpn::Http2);
    let name = "API.openai.com".try_into().unwrap();
    let mut connection = ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    let Parsed::Hello(hello) = client_hello::parse(&bytes) else {
        panic!("{:?}", client_hello::parse(&bytes));
    };
    assert_eq!(hello.sni.as_deref(), Some("api.openai.com"));
    assert_eq!(hello.alpn, [b"h2"]);
    assert_eq!(hello.versions, [0x0304, 0x0303]);
    assert_eq!(hello.ciphers[0], 0x1301, "TLS_AES_128_GCM_SHA256");
    assert_eq!(
        hello.groups[0], 0x11ec,
        "X25519MLKEM768, a hello of more than 1 kB"
    );
    assert!(bytes.len() > 1200);
    for end in 0..bytes.len() {
        assert_eq!(client_hello::parse(&bytes[..end]), Parsed::Incomplete);
    }
}
