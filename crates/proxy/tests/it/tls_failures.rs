//! Every way in which TLS fails, brought about for real on both sides, and the code it has.

use std::sync::Arc;
use std::time::Duration;

use oriel_proxy::tls::identity;
use oriel_proxy::{
    Authority as OwnAuthority, ClientCertificate, MinTlsVersion, ProxyConfig, SniMismatch,
};
use testbed::authority::{Authority, Identity, client_config_tls12};
use testbed::client::{Client, Request, Response};
use testbed::gate::Gate;
use testbed::script::Step;
use testbed::upstream::Protocols;
use traffic::rules::pattern::HostPatterns;
use traffic::{FailureKind, FlowKind, NoTls, Side, Stage, Timestamp};

use crate::running::{NAME, Running, ask_by_both, https, scripted, upstream_authority};
use crate::soon;

/// The record of a fatal alert (RFC 8446 section 6).
fn alert(number: u8) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, number]
}

/// A ClientHello of TLS 1.2 and before (RFC 5246 section 7.4.1.2) with a name, and what one of 1.2
/// says of groups and signatures.
fn hello(version: [u8; 2], cipher: [u8; 2]) -> Vec<u8> {
    let length = |octets: &[u8]| u16::try_from(octets.len()).unwrap().to_be_bytes();
    let with_length = |octets: &[u8]| [&length(octets)[..], octets].concat();
    let name = [&[0][..], &with_length(NAME.as_bytes())].concat();
    let server_name = [&[0, 0][..], &with_length(&with_length(&name))].concat();
    let groups_and_signatures = match version {
        [3, 3] => vec![0, 10, 0, 4, 0, 2, 0, 29, 0, 13, 0, 4, 0, 2, 4, 3],
        _ => Vec::new(),
    };
    let body = [
        &version[..],
        &[7; 32],
        &[0],
        &with_length(&cipher),
        &[1, 0],
        &with_length(&[server_name, groups_and_signatures].concat()),
    ]
    .concat();
    let message = [&[1, 0][..], &with_length(&body)].concat();
    [&[22, 3, 1][..], &with_length(&message)].concat()
}

/// What is recorded of a client that does this after its CONNECT.
async fn client_side(what: impl AsyncFnOnce(Client, &Running), expected: FailureKind) -> String {
    let upstream = https(Protocols::Http1).await;
    let running = Running::with(|config| config.timeouts.tls = Duration::from_millis(300)).await;
    let client = running.through(&upstream).await;
    soon(what(client, &running)).await;
    let flow = running.recorder.only_flow().await;
    let (failure, replied) = flow.failure();
    let place = (failure.side, failure.stage, failure.kind, replied);
    let expected = (Side::Client, Stage::Tls, expected, None);
    assert_eq!(place, expected, "{}", failure.text);
    assert_eq!(flow.started.kind, FlowKind::Tunnel);
    assert_eq!(flow.started.connection.tls, Err(NoTls::HandshakeFailed));
    assert_eq!(upstream.request_count(), 0);
    failure.text.clone()
}

/// A whole ClientHello of a client that could go on.
fn good_hello(running: &Running) -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from(NAME).unwrap();
    let config = running.client_config(&["http/1.1"]);
    let mut tls = rustls::ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    hello
}

#[tokio::test]
async fn an_authority_that_has_expired_is_not_the_fault_of_clients() {
    let upstream = https(Protocols::Http1).await;
    // In 2000, for less than the time since.
    let long_ago = Timestamp(946_684_800_000_000);
    let running = Running::with(|config| {
        config.authority = Arc::new(OwnAuthority::generate("of old", long_ago).unwrap());
    });
    let running = running.await;
    let mut client = running.through(&upstream).await;
    let config = running.client_config(&["http/1.1"]);
    soon(client.start_tls(NAME, config)).await.unwrap_err();
    let flow = running.recorder.only_flow().await;
    let (failure, _) = flow.failure();
    let what = (failure.side, failure.stage, failure.kind);
    let expected = (Side::Oriel, Stage::Tls, FailureKind::CertificateExpired);
    assert_eq!(what, expected, "{}", failure.text);
    for part in ["of old", "expired at", "oriel ca rotate"] {
        assert!(failure.text.contains(part), "{}", failure.text);
    }
}

#[tokio::test]
async fn a_client_that_says_it_distrusts_us() {
    let stranger = Authority::new("stranger").client_config(&["http/1.1"]);
    let distrusts = async |mut client: Client, _: &Running| {
        client.start_tls(NAME, stranger).await.unwrap_err();
    };
    let text = client_side(distrusts, FailureKind::ClientDistrusts).await;
    assert!(text.contains("unknown_ca"), "{text}");
}

#[tokio::test]
async fn a_client_that_goes_away_at_our_certificate() {
    let closes = async |mut client: Client, running: &Running| {
        client.send(good_hello(running)).await.unwrap();
        client.read_some().await.unwrap();
        client.close_write().await.unwrap();
        while !client.read_some().await.unwrap_or_default().is_empty() {}
    };
    let text = client_side(closes, FailureKind::ClosedEarly).await;
    assert!(text.contains("without a reason"), "{text}");
    let resets = async |mut client: Client, running: &Running| {
        client.send(good_hello(running)).await.unwrap();
        client.read_some().await.unwrap();
        client.reset().unwrap();
    };
    client_side(resets, FailureKind::Reset).await;
}

#[tokio::test]
async fn a_client_that_falls_silent() {
    let stalls = async |mut client: Client, running: &Running| {
        client.send(good_hello(running)).await.unwrap();
        while !client.read_some().await.unwrap_or_default().is_empty() {}
    };
    client_side(stalls, FailureKind::TimedOut).await;
}

#[tokio::test]
async fn a_client_with_which_nothing_can_be_agreed() {
    let says = |hello: Vec<u8>| {
        async move |mut client: Client, _: &Running| {
            client.send(hello).await.unwrap();
            while !client.read_some().await.unwrap_or_default().is_empty() {}
        }
    };
    // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 in TLS 1.0 is out of date, and
    // TLS_RSA_WITH_3DES_EDE_CBC_SHA in TLS 1.2 out of use.
    client_side(says(hello([3, 1], [0xc0, 0x2b])), FailureKind::TlsVersion).await;
    client_side(says(hello([3, 3], [0, 0x0a])), FailureKind::TlsProtocol).await;
    let garbage = async |mut client: Client, running: &Running| {
        let hello = good_hello(running);
        client
            .send([&hello[..], b"GET / HTTP/1.1\r\n\r\n"].concat())
            .await
            .unwrap();
        while !client.read_some().await.unwrap_or_default().is_empty() {}
    };
    client_side(garbage, FailureKind::TlsProtocol).await;
}

/// Asks an upstream that goes so once it has the ClientHello.
async fn upstream_side(steps: Vec<Step>, expected: FailureKind) -> Response {
    let script = [vec![Step::Read(100)], steps].concat();
    let upstream = scripted(false, vec![script]).await;
    let running = Running::with(|config| config.timeouts.tls = Duration::from_millis(300)).await;
    let mut client = running.through_tls(&upstream, &["http/1.1"]).await;
    let response = soon(client.request(&Request::get("/").host(NAME)))
        .await
        .unwrap();
    let flow = running.recorder.only_flow().await;
    let (failure, replied) = flow.failure();
    let place = (failure.side, failure.stage, failure.kind, replied);
    let expected = (
        Side::Upstream,
        Stage::Tls,
        expected,
        Some(response.head.status),
    );
    assert_eq!(place, expected, "{}", failure.text);
    response
}

#[tokio::test]
async fn an_upstream_with_which_nothing_can_be_agreed() {
    let error = |response: &Response| {
        let text = response.head.headers.get("proxy-status").unwrap();
        text.split(';').nth(1).unwrap().trim().to_owned()
    };
    for (steps, kind, status, word) in [
        (
            // protocol_version: it speaks TLS 1.0.
            vec![Step::Send(alert(70).into())],
            FailureKind::TlsVersion,
            502,
            "error=tls_protocol_error",
        ),
        (
            // handshake_failure: no cipher in common.
            vec![Step::Send(alert(40).into())],
            FailureKind::TlsProtocol,
            502,
            "error=tls_protocol_error",
        ),
        (
            vec![Step::send("220 mail.example ready\r\n")],
            FailureKind::TlsProtocol,
            502,
            "error=tls_protocol_error",
        ),
        (
            vec![Step::Reset],
            FailureKind::Reset,
            502,
            "error=connection_terminated",
        ),
        (
            vec![Step::CloseWrite],
            FailureKind::ClosedEarly,
            502,
            "error=connection_terminated",
        ),
        (
            vec![Step::Wait(Gate::new())],
            FailureKind::TimedOut,
            504,
            "error=connection_timeout",
        ),
    ] {
        let response = upstream_side(steps, kind).await;
        assert_eq!(
            (response.head.status, &*error(&response)),
            (status, word),
            "{kind:?}"
        );
    }
}

fn shown(identity: &Identity, host: &str) -> Vec<ClientCertificate> {
    vec![ClientCertificate {
        hosts: HostPatterns::parse(&[host]).unwrap(),
        identity: identity::Identity::from_pem(identity.chain_pem(), identity.key_pem()).unwrap(),
    }]
}

#[tokio::test]
async fn an_upstream_that_demands_a_certificate_is_shown_the_one_for_it() {
    let clients = Authority::new("clients");
    let own = clients.issue_client("agent");
    let other = Authority::new("others").issue_client("agent");
    let good = || {
        upstream_authority()
            .issue(&[NAME])
            .demanding_clients_of(&clients)
    };
    let old = || good().only_tls12();
    for identity in [&good as &dyn Fn() -> Identity, &old] {
        let with_own = |config: &mut ProxyConfig| config.client_certificates = shown(&own, NAME);
        for (_running, response) in ask_by_both(identity, with_own).await {
            assert_eq!((response.head.status, response.body.seen), (200, 4));
        }
        let elsewhere = |config: &mut ProxyConfig| {
            config.client_certificates = shown(&own, "other.example");
        };
        let with_other = |config: &mut ProxyConfig| {
            config.client_certificates = shown(&other, NAME);
        };
        for (answers, kind) in [
            (
                ask_by_both(identity, elsewhere).await,
                FailureKind::ClientCertificateRequired,
            ),
            (
                ask_by_both(identity, with_other).await,
                FailureKind::ClientCertificateRejected,
            ),
        ] {
            for (running, response) in answers {
                assert_eq!(response.head.status, 502);
                let text = response.text();
                assert!(text.contains("upstream.client_certificates"), "{text}");
                let flow = running.recorder.only_flow().await;
                let failure = flow.failure().0;
                assert_eq!((failure.stage, failure.kind), (Stage::Tls, kind), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn versions_below_the_least_one_are_refused_on_both_sides() {
    let least = |config: &mut ProxyConfig| config.min_tls_version = MinTlsVersion::Tls13;
    let old = || upstream_authority().issue(&[NAME]).only_tls12();
    for (running, response) in ask_by_both(old, least).await {
        assert_eq!(response.head.status, 502);
        let flow = running.recorder.only_flow().await;
        let (failure, _) = flow.failure();
        let place = (failure.side, failure.kind);
        assert_eq!(
            place,
            (Side::Upstream, FailureKind::TlsVersion),
            "{}",
            failure.text
        );
    }
    let upstream = https(Protocols::Http1).await;
    let running = Running::with(least).await;
    let mut client = running.through(&upstream).await;
    let root = running.authority.certificate_der().clone();
    soon(client.start_tls(NAME, client_config_tls12(&[root])))
        .await
        .unwrap_err();
    let flow = running.recorder.only_flow().await;
    let (failure, _) = flow.failure();
    let place = (failure.side, failure.kind);
    assert_eq!(
        place,
        (Side::Client, FailureKind::TlsVersion),
        "{}",
        failure.text
    );
}

/// Asks with CONNECT for a name and with TLS for another.
async fn misnamed(change: impl FnOnce(&mut ProxyConfig)) -> (Running, std::io::Result<Client>) {
    let upstream = https(Protocols::Http1).await;
    let running = Running::with(change).await;
    let authority = format!("other.localhost:{}", upstream.address().port());
    let mut client = Client::connect_through(running.address, &authority)
        .await
        .unwrap();
    let tls = running.client_config(&["http/1.1"]);
    let started = soon(client.start_tls(NAME, tls)).await;
    (running, started.map(|()| client))
}

#[tokio::test]
async fn another_name_in_tls_is_recorded_and_can_be_denied() {
    let (running, client) = misnamed(|config| config.sni_mismatch = SniMismatch::Deny).await;
    let error = client.unwrap_err().to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    let flow = running.recorder.only_flow().await;
    let (failure, _) = flow.failure();
    assert_eq!(
        (failure.side, failure.kind),
        (Side::Oriel, FailureKind::SniMismatch)
    );
    assert!(failure.text.contains(NAME), "{}", failure.text);
    let flows = running.control.metrics().flows;
    let counted = flows.iter().filter(|group| group.count > 0);
    let outcomes: Vec<_> = counted.map(|group| group.outcome.as_str()).collect();
    assert_eq!(outcomes, ["refused"]);

    let (running, client) = misnamed(|config| config.sni_mismatch = SniMismatch::Allow).await;
    let _response = soon(client.unwrap().request(&Request::get("/").host(NAME))).await;
    let flow = running.recorder.only_flow().await;
    let hello = flow.started.connection.hello.as_ref().unwrap();
    assert!(hello.names_another_than(&flow.started.target.host));
}
