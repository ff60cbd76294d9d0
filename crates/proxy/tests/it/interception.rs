//! How a connection through CONNECT begins, what is made of it, and whom both sides believe.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use oriel_proxy::ProxyConfig;
use oriel_proxy::tls::authority::NewAuthority;
use testbed::authority::{Authority, Flaw, client_config};
use testbed::client::{Client, Request};
use testbed::forward_proxy::{ForwardProxy, ForwardProxyOptions};
use testbed::script::Step;
use testbed::upstream::{Protocols, Upstream, UpstreamOptions};
use traffic::rules::route::{RouteConfig, Rules, Unlisted};
use traffic::rules::upstream_proxy::Via;
use traffic::{Event, FailureKind, FlowKind, NoTls, Side, Timestamp};

use crate::running::{
    NAME, Running, ask_by_both, authority_of, config, http, https, rules, scripted,
    upstream_authority,
};
use crate::soon;

/// A TLS client by hand, so that its ClientHello can be cut as a test likes.
struct ByHand {
    tls: rustls::ClientConnection,
    hello: Vec<u8>,
}

impl ByHand {
    fn new(running: &Running) -> Self {
        let name = rustls::pki_types::ServerName::try_from(NAME).unwrap();
        let config = running.client_config(&["http/1.1"]);
        let mut tls = rustls::ClientConnection::new(config, name).unwrap();
        let mut hello = Vec::new();
        tls.write_tls(&mut hello).unwrap();
        Self { tls, hello }
    }

    /// The same hello in records of so many octets (RFC 8446 section 5.1).
    fn in_records_of(&self, octets: usize) -> Vec<u8> {
        let (header, message) = self.hello.split_at(5);
        let record = |piece: &[u8]| {
            let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
            [&header[..3], &length, piece].concat()
        };
        message.chunks(octets).flat_map(record).collect()
    }

    /// Finishes the handshake after the hello was sent.
    async fn finish(mut self, client: &mut Client) {
        while self.tls.is_handshaking() {
            let arrived = client.read_some().await.unwrap();
            assert!(!arrived.is_empty(), "the handshake was cut");
            let mut arrived = &arrived[..];
            while !arrived.is_empty() {
                self.tls.read_tls(&mut arrived).unwrap();
                self.tls.process_new_packets().unwrap();
            }
            let mut answer = Vec::new();
            while self.tls.wants_write() {
                self.tls.write_tls(&mut answer).unwrap();
            }
            client.send(answer).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_client_hello_may_come_octet_by_octet() {
    let (upstream, running) = (https(Protocols::Http1).await, Running::start().await);
    let mut client = running.through(&upstream).await;
    let by_hand = ByHand::new(&running);
    for octet in &by_hand.hello {
        client.send([*octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    soon(by_hand.finish(&mut client)).await;
}

#[tokio::test]
async fn a_client_hello_may_span_records() {
    let (upstream, running) = (https(Protocols::Http1).await, Running::start().await);
    for octets in [1, 7, 100] {
        let mut client = running.through(&upstream).await;
        let by_hand = ByHand::new(&running);
        client.send(by_hand.in_records_of(octets)).await.unwrap();
        soon(by_hand.finish(&mut client)).await;
    }
}

#[tokio::test]
async fn a_client_hello_may_come_with_the_connect() {
    let (upstream, running) = (https(Protocols::Http1).await, Running::start().await);
    let mut client = running.connect().await;
    let by_hand = ByHand::new(&running);
    let connect = format!("CONNECT {} HTTP/1.1\r\n\r\n", authority_of(&upstream));
    client
        .send([connect.as_bytes(), &by_hand.hello].concat())
        .await
        .unwrap();
    soon(client.read_until("\r\n\r\n")).await.unwrap();
    soon(by_hand.finish(&mut client)).await;
}

#[tokio::test]
async fn half_a_client_hello_is_waited_for_until_the_deadline() {
    let upstream = https(Protocols::Http1).await;
    let running = Running::with(|config| config.timeouts.head = Duration::from_millis(100)).await;
    let mut client = running.through(&upstream).await;
    let hello = ByHand::new(&running).hello;
    client.send(&hello[..hello.len() / 2]).await.unwrap();
    assert_eq!(soon(client.read_to_end()).await.unwrap(), "");
    let flow = running.recorder.only_flow().await;
    let (failure, _) = flow.failure();
    assert_eq!(
        (failure.side, failure.kind),
        (Side::Client, FailureKind::TimedOut)
    );
    assert_eq!(upstream.connection_count(), 0);
}

#[tokio::test]
async fn a_client_that_waits_for_its_server_is_tunnelled() {
    let script = vec![
        Step::send("220 ready\r\n"),
        Step::expect("EHLO\r\n"),
        Step::send("250\r\n"),
    ];
    let upstream = scripted(false, vec![script]).await;
    let running = Running::with(|config| config.timeouts.head = Duration::from_millis(50)).await;
    let mut client = running.through(&upstream).await;
    assert_eq!(soon(client.read_exact(11)).await.unwrap(), "220 ready\r\n");
    client.send("EHLO\r\n").await.unwrap();
    assert_eq!(soon(client.read_to_end()).await.unwrap(), "250\r\n");
    drop(client);
    let flow = running.recorder.only_flow().await;
    assert_eq!(flow.started.kind, FlowKind::Tunnel);
    assert_eq!(flow.tunnelled(), Some((6, 16)));
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_is_tunnelled() {
    for first in ["SSH-2.0-client\r\n", "\0\x01\x02binary", "lower case\r\n"] {
        let script = vec![Step::expect(first), Step::send("yes")];
        let upstream = scripted(false, vec![script]).await;
        let running = Running::start().await;
        let mut client = running.through(&upstream).await;
        client.send(first).await.unwrap();
        assert_eq!(
            soon(client.read_to_end()).await.unwrap(),
            "yes",
            "{first:?}"
        );
        drop(client);
        let flow = running.recorder.only_flow().await;
        assert_eq!(flow.started.kind, FlowKind::Tunnel, "{first:?}");
        assert_eq!(flow.started.connection.tls, Err(NoTls::Tunnelled));
    }
}

#[tokio::test]
async fn plain_http_through_connect_is_opened() {
    let (upstream, running) = (http().await, Running::start().await);
    let mut client = running.through(&upstream).await;
    let request = Request::get("/bytes/4").host(NAME);
    assert_eq!(soon(client.request(&request)).await.unwrap().body.seen, 4);
    let flow = running.recorder.only_flow().await;
    assert_eq!(flow.started.kind, FlowKind::Http);
    assert_eq!(flow.started.connection.tls, Err(NoTls::PlainHttp));
}

/// Asks for four octets with TLS that ends at `roots`' side, and gives the flow's route.
async fn route_of(
    change: impl FnOnce(&mut ProxyConfig),
    host: &str,
    name: &str,
) -> (FlowKind, String) {
    let upstream = https(Protocols::Http1).await;
    let running = Running::with(change).await;
    let authority = format!("{host}:{}", upstream.address().port());
    let mut client = Client::connect_through(running.address, &authority)
        .await
        .unwrap();
    let both = [
        upstream_authority().certificate(),
        running.authority.certificate_der().clone(),
    ];
    let tls = client_config(&both, &["http/1.1"]);
    soon(client.start_tls(name, tls)).await.unwrap();
    let request = Request::get("/bytes/4")
        .host(NAME)
        .header("Connection", "close");
    assert_eq!(soon(client.request(&request)).await.unwrap().body.seen, 4);
    drop(client);
    let flow = running.recorder.only_flow().await;
    (flow.started.kind, flow.started.route.rule.clone())
}

#[tokio::test]
async fn without_a_server_name_a_name_is_tunnelled_and_the_flow_says_why() {
    let (kind, rule) = route_of(|_| (), NAME, "127.0.0.1").await;
    assert_eq!(kind, FlowKind::Tunnel);
    assert!(rule.contains("SNI"), "{rule}");
}

#[tokio::test]
async fn an_address_is_opened_with_a_leaf_for_the_address_if_asked_for() {
    let (kind, _) = route_of(|_| (), "127.0.0.1", "127.0.0.1").await;
    assert_eq!(kind, FlowKind::Http);
    let closed = |config: &mut ProxyConfig| {
        let route = RouteConfig {
            intercept: vec!["*".to_owned()],
            bypass: Vec::new(),
            unlisted: Unlisted::Tunnel,
            ip_targets: false,
        };
        config.rules = Arc::new(Rules::compile(&route).unwrap());
    };
    let (kind, rule) = route_of(closed, "127.0.0.1", "127.0.0.1").await;
    assert_eq!(kind, FlowKind::Tunnel);
    assert!(rule.contains("ip_targets"), "{rule}");
}

/// An authority that can sign for these hosts alone.
fn constrained(only: &str) -> Arc<oriel_proxy::Authority> {
    let new = NewAuthority {
        only: vec![only.parse().unwrap()],
        ..NewAuthority::named("constrained")
    };
    // 2026-01-01.
    let now = Timestamp(1_767_225_600_000_000);
    Arc::new(oriel_proxy::Authority::create(&new, now).unwrap())
}

#[tokio::test]
async fn hosts_that_no_leaf_can_be_made_for_are_as_if_on_no_list() {
    let (kind, rule) = route_of(|config| config.authority = constrained(NAME), NAME, NAME).await;
    assert_eq!(
        (kind, rule.as_str()),
        (FlowKind::Http, "intercept.hosts: *")
    );
    let outside = |config: &mut ProxyConfig| config.authority = constrained("other.test");
    let (kind, rule) = route_of(outside, NAME, NAME).await;
    assert_eq!(kind, FlowKind::Tunnel);
    let said = "outside the name constraints of the authority: unlisted = \"tunnel\"";
    assert_eq!(rule, said);
    // It goes by the name that the client wants a certificate for.
    let (kind, rule) = route_of(outside, "127.0.0.1", NAME).await;
    assert_eq!((kind, rule.as_str()), (FlowKind::Tunnel, said));

    let running = Running::with(|config| {
        config.authority = constrained("other.test");
        config.rules = rules(&["*"], &[], Unlisted::Block);
    })
    .await;
    let mut client = running.connect().await;
    client
        .send("CONNECT localhost:1 HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let refused = soon(client.read_response("CONNECT")).await.unwrap();
    let said = refused.text();
    assert_eq!(refused.head.status, 403);
    assert!(
        said.contains("outside the name constraints of the authority: unlisted = \"block\""),
        "{said}"
    );
}

#[tokio::test]
async fn hosts_are_bypassed_by_name() {
    let bypassed = |config: &mut ProxyConfig| {
        config.rules = rules(&["*"], &["LOCALHOST"], Unlisted::Block);
    };
    let (kind, rule) = route_of(bypassed, NAME, NAME).await;
    assert_eq!(kind, FlowKind::Tunnel);
    assert!(rule.starts_with("intercept.bypass"), "{rule}");
    let unlisted = |config: &mut ProxyConfig| {
        config.rules = rules(&["api.example"], &[], Unlisted::Tunnel);
    };
    let (kind, _) = route_of(unlisted, NAME, NAME).await;
    assert_eq!(kind, FlowKind::Tunnel);
}

#[tokio::test]
async fn the_client_is_offered_what_the_upstream_speaks() {
    let both: &[&str] = &["h2", "http/1.1"];
    for (speaks, offered, chosen) in [
        (Protocols::Http1, both, "http/1.1"),
        (Protocols::Both, both, "h2"),
        (Protocols::Http2, both, "h2"),
        (Protocols::Both, &["http/1.1"], "http/1.1"),
        (Protocols::Both, &["h2"], "h2"),
        (Protocols::Http1, &["h2"], "h2"),
    ] {
        let (upstream, running) = (https(speaks).await, Running::start().await);
        // The second time it is known.
        for _time in 0..2 {
            let client = running.through_tls(&upstream, offered).await;
            let alpn = client.wire().unwrap().alpn();
            assert_eq!(alpn, Some(chosen.as_bytes()), "{speaks:?} {offered:?}");
        }
        assert!(upstream.connection_count() <= 1, "{speaks:?}");
        assert_eq!(upstream.request_count(), 0);
    }
}

#[tokio::test]
async fn a_client_of_http2_alone_is_answered_by_an_upstream_of_http1_alone() {
    let (upstream, running) = (https(Protocols::Http1).await, Running::start().await);
    // The second time it is known what the upstream speaks.
    for _time in 0..2 {
        let client = running.through_tls(&upstream, &["h2"]).await;
        let client = client.start_http2().await.unwrap();
        let get = http::Request::get(format!("https://{NAME}/bytes/7"));
        let request = get.body(bytes::Bytes::new()).unwrap();
        let answer = soon(client.request(request)).await.unwrap();
        assert_eq!((answer.head.status, answer.body.seen), (200, 7));
    }
}

#[tokio::test]
async fn a_client_that_distrusts_the_proxy_is_told_of() {
    let (upstream, running) = (https(Protocols::Http1).await, Running::start().await);
    let mut client = running.through(&upstream).await;
    let stranger = Authority::new("stranger").client_config(&["http/1.1"]);
    soon(client.start_tls(NAME, stranger)).await.unwrap_err();
    let flow = running.recorder.only_flow().await;
    let (failure, _) = flow.failure();
    assert_eq!(
        failure.kind,
        FailureKind::ClientDistrusts,
        "{}",
        failure.text
    );
    assert_eq!(flow.started.connection.tls, Err(NoTls::HandshakeFailed));
    assert!(flow.started.connection.hello.is_some());
}

#[tokio::test]
async fn a_bad_upstream_certificate_is_answered_with_502_and_the_way_to_mend_it() {
    let accept = "danger_accept_invalid";
    let stranger = Authority::new("stranger");
    let own = upstream_authority();
    for (authority, name, flaw, kind, fix) in [
        (
            own,
            NAME,
            Some(Flaw::Expired),
            FailureKind::CertificateExpired,
            accept,
        ),
        (
            own,
            NAME,
            Some(Flaw::NotYetValid),
            FailureKind::CertificateNotYetValid,
            accept,
        ),
        (
            own,
            NAME,
            Some(Flaw::WrongPurpose),
            FailureKind::CertificateInvalid,
            accept,
        ),
        (
            own,
            "other.example",
            None,
            FailureKind::CertificateWrongName,
            accept,
        ),
        (
            own,
            NAME,
            Some(Flaw::SelfSigned),
            FailureKind::CertificateUnknownIssuer,
            "--upstream-ca",
        ),
        (
            &stranger,
            NAME,
            None,
            FailureKind::CertificateUnknownIssuer,
            "--upstream-ca",
        ),
    ] {
        let identity = || match flaw {
            Some(flaw) => authority.issue_flawed(&[name], flaw),
            None => authority.issue(&[name]),
        };
        for (running, response) in ask_by_both(identity, |_| ()).await {
            assert_eq!(response.head.status, 502, "{kind:?}");
            assert!(
                response.text().contains(fix),
                "{kind:?}: {}",
                response.text()
            );
            let proxy_status = response.head.headers.get("proxy-status").unwrap();
            assert!(proxy_status.starts_with("oriel; error=tls_certificate_error; details="));
            let flow = running.recorder.only_flow().await;
            assert_eq!(flow.failure().0.kind, kind, "{}", flow.failure().0.text);
            assert_eq!(flow.failure().1, Some(502));
        }
    }
}

#[tokio::test]
async fn an_invalid_certificate_is_accepted_where_the_danger_is_asked_for() {
    let identity = || upstream_authority().issue_flawed(&[NAME], Flaw::Expired);
    let accept = |config: &mut ProxyConfig| {
        config.upstream_trust.danger_accept_invalid = vec![NAME.to_owned()];
    };
    for (running, response) in ask_by_both(identity, accept).await {
        assert_eq!(response.body.seen, 4);
        let flow = running.recorder.only_flow().await;
        let is_marked = |event: &Event| match event {
            Event::UpstreamChosen { upstream, .. } => upstream
                .tls
                .as_ref()
                .is_some_and(|tls| tls.danger_unverified),
            _ => false,
        };
        assert!(flow.events.iter().any(is_marked));
    }
    let elsewhere = |config: &mut ProxyConfig| {
        config.upstream_trust.danger_accept_invalid = vec!["other.example".to_owned()];
    };
    for (_running, response) in ask_by_both(identity, elsewhere).await {
        assert_eq!(response.head.status, 502);
    }
}

#[tokio::test]
async fn the_facts_of_both_tls_connections_are_told() {
    let (upstream, running) = (https(Protocols::Both).await, Running::start().await);
    let mut client = running.through_tls(&upstream, &["http/1.1"]).await;
    let request = Request::get("/").host(NAME);
    soon(client.request(&request)).await.unwrap();
    let flow = running.recorder.only_flow().await;
    let tls = flow.started.connection.tls.as_ref().unwrap();
    assert_eq!((tls.version, tls.sni.as_deref()), ("TLSv1.3", Some(NAME)));
    assert_eq!(tls.alpn.as_deref(), Some("http/1.1"));
    let chosen = flow.events.iter().find_map(|event| match event {
        Event::UpstreamChosen { upstream, .. } => Some(Arc::clone(upstream)),
        _ => None,
    });
    let facts = chosen.unwrap();
    assert_eq!(facts.address, upstream.address());
    let certificate = facts.tls.as_ref().unwrap().certificate.as_ref().unwrap();
    assert!(certificate.names.iter().any(|name| name == NAME));
    let tcp = client.wire().unwrap().tcp().unwrap();
    let client_address: SocketAddr = tcp.local_addr().unwrap();
    assert_eq!(
        flow.started.connection.client_address,
        client_address.into()
    );
    // What a test runs with opens everything.
    assert!(config().own_addresses.is_empty());
}

/// A name of the length that DNS bounds (RFC 1035 section 2.3.4): 253 characters.
fn longest_name() -> String {
    let label = "a".repeat(63);
    format!("{label}.{label}.{label}.{}.test", "b".repeat(56))
}

#[tokio::test]
async fn upstreams_with_certificates_of_every_kind_are_opened() {
    let long = longest_name();
    assert_eq!(long.len(), 253);
    let wildcard = ["*.example.test"];
    for (host, names, common_name, subject) in [
        (
            "deep.example.test",
            &wildcard[..],
            "*.example.test",
            "CN=*.example.test",
        ),
        ("127.0.0.1", &["127.0.0.1"], "127.0.0.1", "CN=127.0.0.1"),
        ("a.test", &["a.test"], "", "CN="),
        ("a.test", &["a.test"], "b.test\0.evil", r"CN=b.test\00.evil"),
        (
            "a.test",
            &["a.test"],
            "\"; O=x\\, CN=\u{1b}[31m\r\n",
            r#"CN=\"\; O=x\\\, CN=\1b[31m\0d\0a"#,
        ),
        ("a.test", &["b.test", "a.test"], &"c".repeat(300), "CN=cccc"),
        (&long, &[&long], &long, "CN=aaaa"),
    ] {
        let identity = upstream_authority().issue_titled(names, common_name);
        let options = UpstreamOptions::https(identity, Protocols::Both);
        let upstream = Upstream::start(options).await.unwrap();
        // Where a name leads only a proxy knows; this machine is reached without one.
        let target = match host {
            "127.0.0.1" => upstream.address().to_string(),
            name => format!("{name}:443"),
        };
        let options = ForwardProxyOptions::default().leading(&target, upstream.address());
        let way = ForwardProxy::start(options).await.unwrap();
        let way = format!("http://{}", way.address()).parse().unwrap();
        let running = Running::with(|config| {
            config.upstream_proxies.otherwise = Via::Proxy(Arc::new(way));
        })
        .await;
        let through = Client::connect_through(running.address, &target);
        let mut client = soon(through).await.unwrap();
        // The client takes the leaf for this name alone.
        let config = running.client_config(&["http/1.1"]);
        soon(client.start_tls(host, config)).await.unwrap();
        let request = Request::get("/bytes/4").host(host);
        let response = soon(client.request(&request)).await.unwrap();
        assert_eq!(
            (response.head.status, response.body.seen),
            (200, 4),
            "{host}"
        );
        let flow = running.recorder.only_flow().await;
        assert_eq!(flow.started.target.host.to_string(), host);
        let shown = flow.events.iter().find_map(|event| match event {
            Event::UpstreamChosen { upstream, .. } => upstream.tls.as_ref()?.certificate.clone(),
            _ => None,
        });
        let shown = shown.unwrap();
        assert_eq!(shown.names, names);
        assert!(shown.subject.starts_with(subject), "{}", shown.subject);
    }
}
