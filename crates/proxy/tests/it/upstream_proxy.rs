//! Upstreams behind a proxy: everything that is asked for goes through it, each leg believes its own
//! roots, and what the proxy refuses is told as its refusal. The names here have no address: only
//! the proxy knows where they lead.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use oriel_proxy::{ProxyConfig, UpstreamProxy};
use testbed::authority::Authority as TestAuthority;
use testbed::client::{Client, Request, Response};
use testbed::forward_proxy::{ForwardProxy, ForwardProxyOptions};
use testbed::script::Step;
use testbed::upstream::{Protocols, Upstream, UpstreamOptions, Version};
use testbed::websocket::{Frame, TEXT};
use traffic::rules::no_proxy::NoProxy;
use traffic::rules::pattern::HostPatterns;
use traffic::rules::route::Unlisted;
use traffic::rules::upstream_proxy::{ProxyRoute, ProxyRules, Via};
use traffic::{FailureKind, FlowKind, Stage};

use crate::running::{Running, http, rules, scripted, upstream_authority};
use crate::soon;

const HOST: &str = "a.example";
const LOGIN: &str = "Basic bWU6czpjcmV0";

/// The authority of the company that runs the proxy.
fn company() -> &'static TestAuthority {
    static AUTHORITY: std::sync::LazyLock<TestAuthority> =
        std::sync::LazyLock::new(|| TestAuthority::new("the company"));
    &AUTHORITY
}

async fn https(authority: &TestAuthority, protocols: Protocols) -> Upstream {
    let options = UpstreamOptions::https(authority.issue(&[HOST]), protocols);
    Upstream::start(options).await.unwrap()
}

fn leading_to(upstream: &Upstream) -> ForwardProxyOptions {
    let to = upstream.address();
    ForwardProxyOptions::default()
        .leading("a.example:443", to)
        .leading("a.example:80", to)
}

async fn forward_proxy(options: ForwardProxyOptions) -> ForwardProxy {
    ForwardProxy::start(options).await.unwrap()
}

/// The proxy at an address, as its URL says.
fn named(scheme: &str, login: &str, address: SocketAddr) -> UpstreamProxy {
    format!("{scheme}://{login}{address}").parse().unwrap()
}

/// Everything through one proxy.
fn all_through(proxy: UpstreamProxy) -> ProxyRules<Arc<UpstreamProxy>> {
    ProxyRules {
        otherwise: Via::Proxy(Arc::new(proxy)),
        ..ProxyRules::default()
    }
}

async fn run(proxy: UpstreamProxy) -> Running {
    run_with(proxy, |_| ()).await
}

async fn run_with(proxy: UpstreamProxy, change: impl FnOnce(&mut ProxyConfig)) -> Running {
    Running::with(|config| {
        config.upstream_proxies = all_through(proxy);
        change(config);
    })
    .await
}

/// A client whose TLS with the host is ended by oriel.
async fn opened(running: &Running, alpn: &[&str]) -> Client {
    let through = Client::connect_through(running.address, "a.example:443");
    let mut client = soon(through).await.unwrap();
    soon(client.start_tls(HOST, running.client_config(alpn)))
        .await
        .unwrap();
    client
}

async fn get(client: &mut Client, target: &str) -> Response {
    let request = Request::get(target).host(HOST);
    soon(client.request(&request)).await.unwrap()
}

fn http2_get(url: &str) -> ::http::Request<Bytes> {
    ::http::Request::get(url).body(Bytes::new()).unwrap()
}

/// The answer to a plain request to the proxy itself.
async fn get_plain(running: &Running) -> Response {
    get(&mut running.connect().await, "http://a.example/bytes/10").await
}

fn asked(proxy: &ForwardProxy) -> Vec<String> {
    proxy.asked().into_iter().map(|asked| asked.what).collect()
}

#[tokio::test]
async fn opened_connections_go_through_proxies_of_each_kind() {
    for (scheme, line) in [
        ("http", "CONNECT a.example:443"),
        ("https", "CONNECT a.example:443"),
        ("socks5", "SOCKS5 a.example:443"),
    ] {
        let upstream = https(upstream_authority(), Protocols::Http1).await;
        let mut options = leading_to(&upstream).asking_for("me", "s:cret");
        if scheme == "https" {
            options = options.within_tls(company().issue(&["127.0.0.1"]));
        }
        let proxy = forward_proxy(options).await;
        let mut named = named(scheme, "me:s%3Acret@", proxy.address());
        named.roots = vec![company().certificate()];
        let running = run(named).await;
        let mut client = opened(&running, &["http/1.1"]).await;
        for _ in 0..2 {
            let response = get(&mut client, "/bytes/10").await;
            assert_eq!((response.head.status, response.body.seen), (200, 10));
        }
        let heard = proxy.asked();
        assert_eq!(heard.len(), 1, "{scheme}: {heard:?}");
        assert_eq!(heard[0].what, line);
        let said = heard[0].authorization.as_deref();
        assert_eq!(
            said,
            Some(if scheme == "socks5" {
                "me:s:cret"
            } else {
                LOGIN
            })
        );
        for request in upstream.received() {
            assert_eq!(request.headers.get("proxy-authorization"), None);
        }
        let flow = running.recorder.ended(1).await.remove(0);
        let facts = flow.upstream();
        let name = format!("{scheme}://{}", proxy.address());
        assert_eq!(facts.proxy.as_deref(), Some(&*name));
        assert_eq!(facts.address, proxy.address());
    }
}

#[tokio::test]
async fn streams_of_http2_share_one_tunnel() {
    let upstream = https(upstream_authority(), Protocols::Both).await;
    let proxy = forward_proxy(leading_to(&upstream)).await;
    let running = run(named("http", "", proxy.address())).await;
    let client = opened(&running, &["h2"]).await;
    let client = client.start_http2().await.unwrap();
    for _ in 0..3 {
        let request = http2_get("https://a.example/bytes/10");
        let response = soon(client.request(request)).await.unwrap();
        assert_eq!((response.head.status, response.body.seen), (200, 10));
    }
    assert!(
        upstream
            .received()
            .iter()
            .all(|request| request.version == Version::Http2)
    );
    assert_eq!(asked(&proxy), ["CONNECT a.example:443"]);
}

#[tokio::test]
async fn plain_requests_are_sent_for_their_whole_url() {
    for tls in [false, true] {
        let upstream = http().await;
        let mut options = leading_to(&upstream).asking_for("me", "s:cret");
        if tls {
            options = options.within_tls(company().issue(&["127.0.0.1"]));
        }
        let proxy = forward_proxy(options).await;
        let scheme = if tls { "https" } else { "http" };
        let mut named = named(scheme, "me:s%3Acret@", proxy.address());
        named.roots = vec![company().certificate()];
        let running = run(named).await;
        let mut client = running.connect().await;
        let request = Request::post("http://a.example/echo?x=1", "a body")
            .host(HOST)
            .header("Proxy-Authorization", "Basic for-oriel");
        let response = soon(client.request(&request)).await.unwrap();
        assert_eq!(response.head.status, 200);
        assert!(response.text().ends_with("a body"));
        for (target, expected) in [
            ("http://a.example", "http://a.example/"),
            ("http://a.example:80?x", "http://a.example/?x"),
        ] {
            get(&mut client, target).await;
            let heard = proxy.asked().pop().unwrap();
            assert_eq!(heard.what, format!("GET {expected}"));
        }
        let options = Request::new("OPTIONS", "http://a.example").host(HOST);
        soon(client.request(&options)).await.unwrap();
        let heard = proxy.asked();
        assert_eq!(heard.last().unwrap().what, "OPTIONS http://a.example");
        for heard in &heard {
            assert_eq!(heard.authorization.as_deref(), Some(LOGIN));
            assert_eq!(heard.connection, 0);
            assert!(heard.host.as_deref().unwrap().starts_with(HOST));
        }
        for request in upstream.received() {
            assert_eq!(request.headers.get("proxy-authorization"), None);
        }
    }
}

#[tokio::test]
async fn plain_requests_of_http2_clients_are_sent_for_their_whole_url() {
    let upstream = http().await;
    let proxy = forward_proxy(leading_to(&upstream).asking_for("me", "s:cret")).await;
    let running = run(named("http", "me:s%3Acret@", proxy.address())).await;
    let client = running.connect().await.start_http2().await.unwrap();
    let request = http2_get("http://a.example/bytes/10");
    let response = soon(client.request(request)).await.unwrap();
    assert_eq!((response.head.status, response.body.seen), (200, 10));
    let heard = proxy.asked();
    assert_eq!(heard[0].what, "GET http://a.example/bytes/10");
    assert_eq!(heard[0].authorization.as_deref(), Some(LOGIN));
}

#[tokio::test]
async fn a_socks_proxy_gets_plain_requests_as_they_are() {
    let upstream = http().await;
    let proxy = forward_proxy(leading_to(&upstream)).await;
    let running = run(named("socks5", "", proxy.address())).await;
    assert_eq!(get_plain(&running).await.head.status, 200);
    assert_eq!(asked(&proxy), ["SOCKS5 a.example:80"]);
    assert_eq!(upstream.received()[0].target, "/bytes/10");
}

#[tokio::test]
async fn what_is_not_opened_goes_through_too() {
    for scheme in ["http", "https", "socks5"] {
        let script = vec![Step::send("first"), Step::ReadToEnd, Step::send("last")];
        let upstream = scripted(false, vec![script]).await;
        let mut options = leading_to(&upstream);
        if scheme == "https" {
            options = options.within_tls(company().issue(&["127.0.0.1"]));
        }
        let proxy = forward_proxy(options).await;
        let mut named = named(scheme, "", proxy.address());
        named.roots = vec![company().certificate()];
        let nothing = |config: &mut ProxyConfig| {
            config.rules = rules(&[], &[], Unlisted::Tunnel);
        };
        let running = run_with(named, nothing).await;
        let through = Client::connect_through(running.address, "a.example:443");
        let mut client = soon(through).await.unwrap();
        assert_eq!(soon(client.read_exact(5)).await.unwrap(), "first");
        client.send("from the client").await.unwrap();
        client.close_write().await.unwrap();
        let rest = soon(client.read_exact(4)).await.unwrap();
        assert_eq!(rest, "last", "{scheme}");
        let played = soon(upstream.wait_for_scripts(1)).await.remove(0);
        assert_eq!(played.received, "from the client");
        assert_eq!(asked(&proxy).len(), 1);
        drop(client);
        let flow = running.recorder.only_flow().await;
        assert_eq!(flow.started.kind, FlowKind::Tunnel);
        assert_eq!(flow.tunnelled(), Some((15, 9)), "{scheme}");
        assert!(flow.upstream().proxy.is_some());
    }
}

#[tokio::test]
async fn websockets_go_through_a_tunnel() {
    for scheme in ["http", "socks5"] {
        let (plain, secure) = (
            http().await,
            https(upstream_authority(), Protocols::Http1).await,
        );
        let proxy = forward_proxy(
            ForwardProxyOptions::default()
                .leading("a.example:80", plain.address())
                .leading("a.example:443", secure.address()),
        )
        .await;
        let running = run(named(scheme, "", proxy.address())).await;
        let over_tls = opened(&running, &["http/1.1"]).await;
        for (client, target) in [
            (over_tls, "/websocket"),
            (running.connect().await, "http://a.example/websocket"),
        ] {
            let mut socket = soon(client.start_websocket(target, &[("Host", HOST)]))
                .await
                .unwrap();
            socket.send(&Frame::new(TEXT, "hello")).await.unwrap();
            let frame = soon(socket.read()).await.unwrap().unwrap();
            assert_eq!(frame.payload, "hello");
        }
        let word = if scheme == "http" {
            "CONNECT"
        } else {
            "SOCKS5"
        };
        let expected = [443, 80].map(|port| format!("{word} a.example:{port}"));
        assert_eq!(asked(&proxy), expected);
    }
}

#[tokio::test]
async fn roots_of_a_proxy_are_believed_on_its_leg_alone() {
    // As a proxy does that opens TLS: its company's authority speaks for every upstream.
    let forged = https(company(), Protocols::Http1).await;
    let proxy = forward_proxy(leading_to(&forged)).await;
    let other = forward_proxy(leading_to(&forged)).await;
    let mut believed = named("http", "", proxy.address());
    believed.roots = vec![company().certificate()];
    let direct = TestUpstream::at_localhost(company()).await;
    let running = Running::with(|config| {
        config.upstream_proxies = ProxyRules {
            routes: vec![ProxyRoute {
                hosts: HostPatterns::parse(&["b.example"]).unwrap(),
                via: Via::Proxy(Arc::new(named("http", "", other.address()))),
            }],
            ..all_through(believed)
        };
    })
    .await;
    let mut client = opened(&running, &["http/1.1"]).await;
    assert_eq!(get(&mut client, "/bytes/10").await.head.status, 200);
    // The same certificate, come directly and through another proxy.
    let refused = direct.get(&running).await;
    assert_eq!(refused.head.status, 502);
    assert!(
        refused.text().contains("the company, which is not trusted"),
        "{}",
        refused.text()
    );
    let flow = running.recorder.ended(2).await.remove(1);
    let (failure, status) = flow.failure();
    assert_eq!(failure.kind, FailureKind::CertificateUnknownIssuer);
    assert_eq!((failure.stage, status), (Stage::Tls, Some(502)));

    let unbelieved = named("http", "", other.address());
    let running = run(unbelieved).await;
    let mut client = opened(&running, &["http/1.1"]).await;
    let refused = get(&mut client, "/bytes/10").await;
    assert_eq!(refused.head.status, 502);
    let through = format!("a.example:443 through http://{}: ", other.address());
    assert!(refused.text().contains(&through), "{}", refused.text());
    assert!(
        refused.text().contains("--upstream-proxy-ca FILE"),
        "{}",
        refused.text()
    );
    // And roots of upstreams say nothing about the proxy itself.
    let options = leading_to(&forged).within_tls(upstream_authority().issue(&["127.0.0.1"]));
    let secure = forward_proxy(options).await;
    let mut named = named("https", "", secure.address());
    named.roots = vec![company().certificate()];
    let running = Running::with(|config| config.upstream_proxies = all_through(named)).await;
    let refused = get_plain(&running).await;
    assert_eq!(refused.head.status, 502);
    let flow = running.recorder.ended(1).await.remove(0);
    let (failure, _) = flow.failure();
    assert_eq!(failure.kind, FailureKind::CertificateUnknownIssuer);
    assert_eq!(failure.stage, Stage::UpstreamProxy);
    assert_eq!(asked(&secure), [""; 0]);
}

/// An upstream on this machine, which no proxy is asked for.
struct TestUpstream(Upstream);

impl TestUpstream {
    async fn at_localhost(authority: &TestAuthority) -> Self {
        let options = UpstreamOptions::https(authority.issue(&["localhost"]), Protocols::Http1);
        Self(Upstream::start(options).await.unwrap())
    }

    async fn get(&self, running: &Running) -> Response {
        let mut client = running.through_tls(&self.0, &["http/1.1"]).await;
        get(&mut client, "/bytes/10").await
    }
}

#[tokio::test]
async fn what_a_proxy_refuses_is_told_as_its_refusal() {
    let upstream = http().await;
    let asking = forward_proxy(leading_to(&upstream).asking_for("me", "right")).await;
    let denying = forward_proxy(ForwardProxyOptions::default()).await;
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let cases = [
        (
            "http",
            "",
            asking.address(),
            FailureKind::UpstreamProxyUnauthorized,
            "(Basic)",
        ),
        (
            "http",
            "me:wrong@",
            asking.address(),
            FailureKind::UpstreamProxyUnauthorized,
            "not accept",
        ),
        (
            "socks5",
            "",
            asking.address(),
            FailureKind::UpstreamProxyUnauthorized,
            "none are set",
        ),
        (
            "socks5",
            "me:wrong@",
            asking.address(),
            FailureKind::UpstreamProxyUnauthorized,
            "not accept",
        ),
        (
            "http",
            "",
            denying.address(),
            FailureKind::UpstreamProxyDenied,
            "403 Forbidden",
        ),
        (
            "socks5",
            "",
            denying.address(),
            FailureKind::UpstreamProxyDenied,
            "not allowed",
        ),
        ("http", "", gone, FailureKind::Refused, "cannot connect"),
    ];
    for (scheme, login, address, kind, words) in cases {
        let running = run_with(named(scheme, login, address), |config| {
            config.rules = rules(&["a.example:443", "a.example:80"], &[], Unlisted::Tunnel);
        })
        .await;
        let check = |text: &str, what: &str| {
            assert!(text.contains(words), "{what}: {text}");
            assert!(
                text.contains(&format!("{scheme}://{address}")),
                "{what}: {text}"
            );
            assert!(
                text.contains("fix: ") && !text.contains("wrong"),
                "{what}: {text}"
            );
        };
        // Not opened: the client hears of it in place of its 200.
        let mut client = running.connect().await;
        client
            .send("CONNECT a.example:22 HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        let answer = soon(client.read_response("GET")).await.unwrap();
        assert_eq!(answer.head.status, 502);
        check(&answer.text(), "a tunnel");
        // Opened: it hears of it as the answer to its first request.
        let mut client = opened(&running, &["h2", "http/1.1"]).await;
        let answer = match client.wire().unwrap().alpn() {
            Some(b"h2") => {
                let client = client.start_http2().await.unwrap();
                let request = http2_get("https://a.example/");
                soon(client.request(request)).await.unwrap()
            }
            _ => get(&mut client, "/").await,
        };
        assert_eq!(answer.head.status, 502);
        check(&answer.text(), "an opened connection");
        let flows = running.recorder.ended(2).await;
        for flow in &flows {
            let (failure, status) = flow.failure();
            assert_eq!((failure.kind, failure.stage), (kind, Stage::UpstreamProxy));
            assert_eq!(status, Some(502));
        }
        // In plain HTTP a 403 may be the upstream's own, and passes; a 407 never is.
        let answer = get_plain(&running).await;
        match (scheme, kind) {
            ("http", FailureKind::UpstreamProxyDenied) => {
                assert_eq!((answer.head.status, &*answer.text()), (403, "no\n"));
            }
            _ => {
                assert_eq!(answer.head.status, 502);
                assert_eq!(answer.head.headers.get("proxy-authenticate"), None);
                check(&answer.text(), "a plain request");
            }
        }
    }
    assert_eq!(upstream.received().len(), 0);
}

#[tokio::test]
async fn oriel_is_no_proxy_of_its_own() {
    let running = Running::start().await;
    let mut config = running.config.clone();
    config.upstream_proxies = all_through(named("http", "", running.address));
    running.control.reload(config).unwrap();
    let answer = get_plain(&running).await;
    assert_eq!(answer.head.status, 508);
    assert!(
        answer.text().contains("is oriel itself"),
        "{}",
        answer.text()
    );
}

/// Two engines, each the upstream proxy of the other; they open these hosts.
async fn a_circle_of_two(scheme: &str, intercept: &[&str]) -> [Running; 2] {
    let rules = rules(intercept, &[], Unlisted::Tunnel);
    let second = Running::with(|config| config.rules = Arc::clone(&rules)).await;
    let mut way = named(scheme, "", second.address);
    if scheme == "http" {
        // The answer comes back within TLS that the second has opened.
        way.roots = vec![second.authority.certificate_der().clone()];
    }
    let first = run_with(way, |config| config.rules = rules).await;
    let mut config = second.config.clone();
    config.upstream_proxies = all_through(named(scheme, "", first.address));
    second.control.reload(config).unwrap();
    [first, second]
}

#[tokio::test]
async fn proxies_that_name_each_other_are_told_of() {
    let [first, second] = a_circle_of_two("http", &[]).await;
    let mut client = first.connect().await;
    let connect = "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
    client.send(connect).await.unwrap();
    let refused = soon(client.read_response("CONNECT")).await.unwrap();
    assert_eq!(refused.head.status, 508);
    for flow in first.recorder.ended(2).await {
        assert_eq!(flow.failure().0.kind, FailureKind::Loop);
    }
    let plain = get_plain(&first).await;
    assert_eq!(plain.head.status, 508);
    for answer in [refused.text(), plain.text()] {
        assert!(answer.contains("leads back"), "{answer}");
    }
    // Each passed it on once: there and back.
    assert_eq!(second.recorder.ended(2).await.len(), 2);

    let [first, _second] = a_circle_of_two("http", &["*"]).await;
    for alpn in ["http/1.1", "h2"] {
        let client = opened(&first, &[alpn]).await;
        let answer = match alpn {
            "h2" => {
                let client = client.start_http2().await.unwrap();
                soon(client.request(http2_get("https://a.example/"))).await
            }
            _ => {
                let mut client = client;
                soon(client.request(&Request::get("/").host(HOST))).await
            }
        };
        let answer = answer.unwrap();
        assert_eq!(answer.head.status, 508, "{alpn}: {}", answer.text());
    }
}

#[tokio::test]
async fn socks_proxies_that_name_each_other_are_told_of() {
    let [first, second] = a_circle_of_two("socks5", &[]).await;
    let mut client = first.connect().await;
    let connect = "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
    client.send(connect).await.unwrap();
    let refused = soon(client.read_response("CONNECT")).await.unwrap();
    let plain = get_plain(&first).await;
    for answer in [refused, plain] {
        assert_eq!(answer.head.status, 508);
        assert!(answer.text().contains("leads back"), "{}", answer.text());
    }
    // It goes no deeper than is allowed, each time.
    assert_eq!(second.control.metrics().total_connections, 512);

    // TLS that each opens does not lead far: the first sees a certificate of the second.
    let [first, _second] = a_circle_of_two("socks5", &["*"]).await;
    let mut client = opened(&first, &["http/1.1"]).await;
    let request = Request::get("/").host(HOST);
    let answer = soon(client.request(&request)).await.unwrap();
    assert_eq!(answer.head.status, 502);
    assert!(
        answer.text().contains("issued by CN=oriel test"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn what_a_request_came_through_is_between_the_proxies() {
    let upstream = http().await;
    let proxy = forward_proxy(leading_to(&upstream)).await;
    let second = run(named("http", "", proxy.address())).await;
    let first = run(named("http", "", second.address)).await;
    assert_eq!(get_plain(&first).await.head.status, 200);
    let connected = Client::connect_through(first.address, "a.example:80").await;
    let inside = get(&mut connected.unwrap(), "/bytes/10").await;
    assert_eq!(inside.head.status, 200);
    for flow in second.recorder.ended(2).await {
        let head = String::from_utf8_lossy(&flow.started.head.text).into_owned();
        assert_eq!(head.matches("oriel-").count(), 1, "{head}");
    }
    let to_upstream = upstream.received();
    assert!(
        to_upstream
            .iter()
            .all(|request| request.headers.get("via").is_none())
    );
}

#[tokio::test]
async fn a_reload_changes_the_way() {
    let upstream = http().await;
    let first = forward_proxy(leading_to(&upstream)).await;
    let second = forward_proxy(leading_to(&upstream)).await;
    let running = run(named("http", "", first.address())).await;
    get_plain(&running).await;
    let mut config = running.config.clone();
    config.upstream_proxies = all_through(named("http", "", second.address()));
    running.control.reload(config).unwrap();
    get_plain(&running).await;
    assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
}

#[tokio::test]
async fn each_target_takes_its_own_way() {
    let upstream = http().await;
    let leads = || {
        let to = upstream.address();
        ["a", "b", "c"]
            .iter()
            .fold(ForwardProxyOptions::default(), |options, name| {
                options.leading(&format!("{name}.example:80"), to)
            })
    };
    let (first, second) = (forward_proxy(leads()).await, forward_proxy(leads()).await);
    let running = Running::with(|config| {
        config.upstream_proxies = ProxyRules {
            routes: vec![ProxyRoute {
                hosts: HostPatterns::parse(&["b.example"]).unwrap(),
                via: Via::Proxy(Arc::new(named("http", "", second.address()))),
            }],
            no_proxy: NoProxy::parse(&["c.example"]).unwrap(),
            ..all_through(named("http", "", first.address()))
        };
    })
    .await;
    let mut client = running.connect().await;
    let mut statuses = Vec::new();
    for name in ["a", "b", "c", "localhost"] {
        let target = match name {
            "localhost" => format!("http://localhost:{}/bytes/1", upstream.address().port()),
            name => format!("http://{name}.example/bytes/1"),
        };
        statuses.push(get(&mut client, &target).await.head.status);
    }
    // `c.example` is looked for by oriel itself, and is nowhere.
    assert_eq!(statuses, [200, 200, 502, 200]);
    assert_eq!(asked(&first), ["GET http://a.example/bytes/1"]);
    assert_eq!(asked(&second), ["GET http://b.example/bytes/1"]);
    let flows = running.recorder.ended(4).await;
    assert_eq!(flows[3].upstream().proxy, None);
}
