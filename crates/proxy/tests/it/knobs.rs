//! What each field of `MitmConfig` does: a test for each, which fails if the field is not heeded.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oriel_proxy::{
    BodyView, HandlerDecision, InterceptHandler, MinTlsVersion, OnError, RawRequest, RawResponse,
    TlsInfo,
};
use parking_lot::Mutex;
use rustls::version::{TLS12, TLS13};
use testbed::authority::crypto_provider;
use testbed::client::{Client, Request};
use testbed::gate::Gate;
use testbed::script::Step;
use testbed::upstream::{Protocols, Upstream};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::embedded::{Embedded, LetsPass};
use crate::running::{NAME, authority_of, http, https, scripted, upstream_authority};
use crate::soon;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(path: &str) -> Request {
    Request::get(path).host(NAME)
}

/// The status of a GET through TLS that the proxy ends.
async fn status(proxy: &Embedded, upstream: &Upstream) -> u16 {
    let mut client = proxy.through_tls(upstream, &["http/1.1"]).await;
    soon(client.request(&get("/"))).await.unwrap().head.status
}

#[tokio::test]
async fn destinations_are_opened_and_others_pass_or_are_blocked() {
    let (listed, other) = (https(Protocols::Http1).await, https(Protocols::Http1).await);
    for (passthrough, expected) in [(true, 200), (false, 403)] {
        let proxy = Embedded::start(LetsPass, |config| {
            config.interception.destinations = vec![authority_of(&listed)];
            config.interception.passthrough_unlisted = passthrough;
        })
        .await;
        assert_eq!(status(&proxy, &listed).await, 200);

        let mut client = proxy.connect().await;
        let target = authority_of(&other);
        let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        client.send(connect).await.unwrap();
        let head = soon(client.read_head()).await.unwrap();
        assert_eq!(head.status, expected);
        if passthrough {
            // The upstream's own certificate comes through.
            let trusts_upstream = upstream_authority().client_config(&["http/1.1"]);
            soon(client.start_tls(NAME, trusts_upstream)).await.unwrap();
            assert_eq!(
                soon(client.request(&get("/"))).await.unwrap().head.status,
                200
            );
        }
    }
}

#[tokio::test]
async fn bind_is_where_it_listens() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::embedded::config(&folder);
    config.bind = taken.local_addr().unwrap();
    let builder = oriel_proxy::MitmProxyBuilder::new(config.clone(), LetsPass);
    let error = builder.build().unwrap().start().await.unwrap_err();
    assert_eq!(error.to_string(), "cannot start");
    drop(taken);
    let builder = oriel_proxy::MitmProxyBuilder::new(config.clone(), LetsPass);
    let handle = builder.build().unwrap().start().await.unwrap();
    assert_eq!(handle.local_address(), config.bind);
}

#[cfg(unix)]
#[tokio::test]
async fn unix_socket_path_is_listened_on_as_well() {
    use oriel_proxy::MitmError;
    use std::os::unix::fs::PermissionsExt;
    use testbed::wire::Wire;

    let (upstream, folder) = (http().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("proxy.sock");
    let proxy = Embedded::start(LetsPass, |config| {
        config.unix_socket_path = Some(path.clone());
    })
    .await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let url = format!("http://{}/", authority_of(&upstream));
    let mut over_unix = Client::on(Wire::dial_unix(&path).await.unwrap());
    for client in [&mut over_unix, &mut proxy.connect().await] {
        let request = Request::get(&url).host("x");
        assert_eq!(
            soon(client.request(&request)).await.unwrap().head.status,
            200
        );
    }
    let mut elsewhere = proxy.handle.current_config();
    elsewhere.unix_socket_path = None;
    let error = proxy.handle.reload(elsewhere).unwrap_err();
    assert!(
        matches!(&error, MitmError::Fixed { fields } if fields == &["unix_socket_path"]),
        "{error}"
    );
    proxy.handle.shutdown(Duration::from_secs(5)).await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn the_authority_is_kept_in_the_files_named() {
    let upstream = https(Protocols::Http1).await;
    let proxy = Embedded::start(LetsPass, |_| ()).await;
    let folder = proxy.folder().path().to_owned();
    let before = std::fs::read(folder.join("ca.pem")).unwrap();
    let mut config = crate::embedded::config(proxy.folder());
    config.tls.ca_cert_path = folder.join("ca.pem");
    let builder = oriel_proxy::MitmProxyBuilder::new(config, LetsPass);
    builder.build().unwrap();
    assert_eq!(std::fs::read(folder.join("ca.pem")).unwrap(), before);
    assert_eq!(status(&proxy, &upstream).await, 200);
}

fn only(
    version: &'static rustls::SupportedProtocolVersion,
    proxy: &Embedded,
) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(proxy.authority.clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test]
async fn min_version_holds_towards_clients() {
    let upstream = https(Protocols::Http1).await;
    for (min, version, works) in [
        (MinTlsVersion::Tls12, &TLS12, true),
        (MinTlsVersion::Tls13, &TLS12, false),
        (MinTlsVersion::Tls13, &TLS13, true),
    ] {
        let proxy = Embedded::start(LetsPass, |config| config.tls.min_version = min).await;
        let mut client = proxy.through(&upstream).await;
        let shaken = soon(client.start_tls(NAME, only(version, &proxy))).await;
        assert_eq!(shaken.is_ok(), works, "{min:?} {version:?}: {shaken:?}");
    }
}

#[tokio::test]
async fn min_version_holds_towards_upstreams() {
    // An upstream of TLS 1.2 alone, which answers every connection once.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let identity = upstream_authority().issue(&[NAME]);
    let shown = identity.server_config(&["http/1.1"]);
    let mut config = rustls::ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&shown.cert_resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut tls) = acceptor.accept(stream).await {
                let steps = [Step::ReadHead, Step::send(OK), Step::ReadToEnd];
                testbed::script::play(&steps, &mut tls).await;
            }
        }
    });
    for (min, expected) in [(MinTlsVersion::Tls12, 200), (MinTlsVersion::Tls13, 502)] {
        let proxy = Embedded::start(LetsPass, |config| config.tls.min_version = min).await;
        let authority = format!("{NAME}:{}", address.port());
        let through = Client::connect_through(proxy.handle.local_address(), &authority);
        let mut client = soon(through).await.unwrap();
        let trusting = proxy.client_config(&["http/1.1"]);
        soon(client.start_tls(NAME, trusting)).await.unwrap();
        let response = soon(client.request(&get("/"))).await.unwrap();
        assert_eq!(response.head.status, expected, "{}", response.text());
    }
}

/// Keeps what it is shown.
#[derive(Clone, Default)]
struct Shown {
    tls: Arc<Mutex<Option<TlsInfo>>>,
    request: Arc<Mutex<Option<(Bytes, BodyView)>>>,
    response: Arc<Mutex<Option<(Bytes, BodyView)>>>,
    responded: Gate,
}

impl InterceptHandler for Shown {
    async fn on_request(&self, request: &RawRequest) -> HandlerDecision {
        *self.tls.lock() = request.connection_meta.tls_info.clone();
        *self.request.lock() = Some((request.body.clone(), request.body_view.clone()));
        HandlerDecision::Allow
    }

    async fn on_response(&self, response: &RawResponse) {
        *self.response.lock() = Some((response.body.clone(), response.body_view.clone()));
        self.responded.open();
    }
}

#[tokio::test]
async fn capture_fingerprint_gives_ja3_and_ja4() {
    let upstream = https(Protocols::Http1).await;
    for captured in [true, false] {
        let shown = Shown::default();
        let proxy = Embedded::start(shown.clone(), |config| {
            config.tls.capture_fingerprint = captured;
        })
        .await;
        status(&proxy, &upstream).await;
        let tls = shown.tls.lock().clone().unwrap();
        assert_eq!(tls.sni.as_deref(), Some(NAME));
        assert_eq!(tls.negotiated_proto.as_deref(), Some("http/1.1"));
        assert_eq!(tls.ja3.map(|hash| hash.len()), captured.then_some(32));
        let ja4 = tls.ja4.map(|ja4| ja4.starts_with("t13d"));
        assert_eq!(ja4, captured.then_some(true));
    }
}

#[tokio::test]
async fn timeout_ms_ends_a_wait_for_a_response() {
    let upstream = scripted(false, vec![vec![Step::ReadHead, Step::ReadToEnd]]).await;
    let proxy = Embedded::start(LetsPass, |config| config.upstream.timeout_ms = 50).await;
    let mut client = proxy.through(&upstream).await;
    let response = soon(client.request(&get("/"))).await.unwrap();
    assert_eq!(response.head.status, 504, "{}", response.text());
}

/// A port whose queue of connections is full: the kernel answers no further one.
fn full_port() -> (socket2::Socket, SocketAddr, Vec<TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    loop {
        match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            Ok(stream) => queued.push(stream),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                return (socket, address, queued);
            }
        }
        assert!(queued.len() < 16, "the queue does not fill");
    }
}

#[tokio::test]
async fn connect_timeout_ms_ends_a_dial() {
    let (_socket, address, _queued) = full_port();
    let proxy = Embedded::start(LetsPass, |config| config.upstream.connect_timeout_ms = 50).await;
    let mut client = proxy.connect().await;
    let url = format!("http://{address}/");
    let response = soon(client.request(&Request::get(&url).host("x")))
        .await
        .unwrap();
    assert_eq!(response.head.status, 504, "{}", response.text());
    assert!(response.text().contains("0.05 s"), "{}", response.text());
}

/// A port that refuses until the listener is made.
async fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn retry_on_failure_dials_once_more_after_the_delay() {
    let address = free_port().await;
    let url = format!("http://{address}/");
    for (retry, delay, least) in [(false, 300, 0), (true, 300, 300), (true, 0, 0)] {
        let proxy = Embedded::start(LetsPass, |config| {
            config.upstream.retry_on_failure = retry;
            config.upstream.retry_delay_ms = delay;
        })
        .await;
        let mut client = proxy.connect().await;
        let begun = Instant::now();
        // Nobody listens: it fails, with or without a second try.
        let request = Request::post(&url, "x").host("x");
        let response = soon(client.request(&request)).await.unwrap();
        assert_eq!(response.head.status, 502);
        let took = begun.elapsed().as_millis();
        assert!(took >= least, "{retry} {delay}: {took} ms");
    }
    // And the second try succeeds where somebody listens by then; the request is sent once.
    let proxy = Embedded::start(LetsPass, |config| {
        config.upstream.retry_on_failure = true;
        config.upstream.retry_delay_ms = 500;
    })
    .await;
    let mut client = proxy.connect().await;
    client
        .send(Request::post(&url, "x").host("x").to_bytes())
        .await
        .unwrap();
    let mut late = JoinSet::new();
    late.spawn(async move {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let listener = TcpListener::bind(address).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let steps = [
            Step::ReadHead,
            Step::Read(1),
            Step::send(OK),
            Step::ReadToEnd,
        ];
        testbed::script::play(&steps, &mut stream).await.received
    });
    let response = soon(client.read_response("POST")).await.unwrap();
    assert_eq!(response.text(), "ok");
    drop((client, proxy));
    let received = soon(late.join_next()).await.unwrap().unwrap();
    let requests = received.windows(4).filter(|end| end == b"\r\n\r\n").count();
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn verify_upstream_tls_refuses_a_stranger() {
    let upstream = https(Protocols::Http1).await;
    for (verify, expected) in [(true, 502), (false, 200)] {
        let proxy = Embedded::start(LetsPass, |config| {
            config.upstream.verify_upstream_tls = verify;
        })
        .await;
        assert_eq!(status(&proxy, &upstream).await, expected);
    }
}

#[tokio::test]
async fn max_connections_per_host_bounds_connections_in_use() {
    let (answered, rest) = (Gate::new(), Gate::new());
    let script = vec![
        Step::ReadHead,
        Step::Open(answered.clone()),
        Step::Wait(rest.clone()),
        Step::send(OK),
        Step::ReadHead,
        Step::send(OK),
        Step::ReadToEnd,
    ];
    let upstream = scripted(false, vec![script]).await;
    let proxy = Embedded::start(LetsPass, |config| {
        config.connection_pool.max_connections_per_host = 1;
        config.upstream.connect_timeout_ms = 200;
    })
    .await;
    let mut first = proxy.through(&upstream).await;
    first.send(get("/").to_bytes()).await.unwrap();
    soon(answered.wait()).await;
    // No second connection: the next has to wait, and then has waited too long.
    let mut second = proxy.through(&upstream).await;
    let response = soon(second.request(&get("/"))).await.unwrap();
    assert_eq!(response.head.status, 503, "{}", response.text());
    assert_eq!(response.head.headers.get("retry-after"), Some("1"));
    assert_eq!(upstream.connection_count(), 1);
    // Whoever waits while it comes free gets the same connection.
    let mut third = proxy.through(&upstream).await;
    third.send(get("/").to_bytes()).await.unwrap();
    rest.open();
    assert_eq!(soon(first.read_response("GET")).await.unwrap().text(), "ok");
    assert_eq!(soon(third.read_response("GET")).await.unwrap().text(), "ok");
    assert_eq!(upstream.connection_count(), 1);
}

#[tokio::test]
async fn idle_connections_are_kept_as_many_and_as_long_as_said() {
    for (max_idle, idle_ms, pause_ms, connections) in [
        (8, 60_000, 0, 1),
        (0, 60_000, 0, 3),
        // Kept for a moment that is over by the next request.
        (8, 1, 20, 3),
    ] {
        let upstream = http().await;
        let proxy = Embedded::start(LetsPass, |config| {
            config.connection_pool.max_idle_per_host = max_idle;
            config.connection_pool.idle_timeout_ms = idle_ms;
        })
        .await;
        let mut client = proxy.through(&upstream).await;
        for _request in 0..3 {
            assert_eq!(
                soon(client.request(&get("/"))).await.unwrap().head.status,
                200
            );
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
        assert_eq!(
            upstream.connection_count(),
            connections,
            "{max_idle} {idle_ms}"
        );
    }
}

#[tokio::test]
async fn bodies_are_held_and_bounded_as_said() {
    let upstream = http().await;
    for (buffer, size, status, shown_size) in [
        (true, 100, 200, Some(100)),
        (true, 101, 413, None),
        (false, 101, 200, Some(0)),
    ] {
        let shown = Shown::default();
        let proxy = Embedded::start(shown.clone(), |config| {
            config.body.buffer_request_bodies = buffer;
            config.body.max_size_bytes = 100;
        })
        .await;
        let mut client = proxy.through(&upstream).await;
        let request = Request::post("/upload", vec![b'x'; size]).host(NAME);
        let response = soon(client.request(&request)).await.unwrap();
        assert_eq!(response.head.status, status, "{}", response.text());
        let seen = shown.request.lock().clone();
        assert_eq!(seen.map(|(body, _)| body.len()), shown_size);
    }
}

#[tokio::test]
async fn what_is_shown_of_a_response_is_bounded_and_what_passes_is_not() {
    let upstream = http().await;
    for (size, kept, truncated) in [(100, 100, false), (5000, 100, true)] {
        let shown = Shown::default();
        let proxy = Embedded::start(shown.clone(), |config| {
            config.body.max_size_bytes = 100;
        })
        .await;
        let mut client = proxy.through(&upstream).await;
        let path = format!("/bytes/{size}");
        let response = soon(client.request(&get(&path))).await.unwrap();
        assert_eq!(response.body.seen, size);
        soon(shown.responded.wait()).await;
        let (body, view) = shown.response.lock().clone().unwrap();
        assert_eq!((body.len(), view.truncated), (kept, truncated));
    }
}

/// Fails by the path; a failure in `on_response` is one more of what it was told.
#[derive(Clone, Default)]
struct Fails {
    told: Arc<Mutex<Vec<u16>>>,
    stuck: Arc<Mutex<usize>>,
    closed: Gate,
}

impl InterceptHandler for Fails {
    async fn on_request(&self, request: &RawRequest) -> HandlerDecision {
        match request.path.as_str() {
            "/slow" => std::future::pending().await,
            "/panic" => std::panic::resume_unwind(Box::new("broken")),
            _ => HandlerDecision::Allow,
        }
    }

    async fn on_response(&self, response: &RawResponse) {
        if response.status == 404 {
            *self.stuck.lock() += 1;
            std::future::pending::<()>().await;
        }
        self.told.lock().push(response.status);
    }

    fn on_connection_close(&self, _connection_id: uuid::Uuid) {
        self.closed.open();
    }
}

#[tokio::test]
async fn a_handler_that_fails_blocks_or_allows_within_its_time() {
    let upstream = http().await;
    for (on_error, expected) in [(OnError::Block, 503), (OnError::Allow, 404)] {
        for path in ["/slow", "/panic"] {
            let proxy = Embedded::start(Fails::default(), |config| {
                config.handler.request_timeout_ms = 50;
                config.handler.on_error = on_error;
            })
            .await;
            let mut client = proxy.through(&upstream).await;
            let response = soon(client.request(&get(path))).await.unwrap();
            assert_eq!(response.head.status, expected, "{on_error:?} {path}");
        }
    }
}

#[tokio::test]
async fn response_timeout_ms_goes_on_to_the_next_callback() {
    let (upstream, fails) = (http().await, Fails::default());
    let proxy = Embedded::start(fails.clone(), |config| {
        config.handler.response_timeout_ms = 50;
    })
    .await;
    let mut client = proxy.through(&upstream).await;
    for path in ["/no-such", "/"] {
        soon(client.request(&get(path))).await.unwrap();
    }
    drop(client);
    soon(fails.closed.wait()).await;
    assert_eq!(
        (*fails.stuck.lock(), fails.told.lock().clone()),
        (1, vec![200])
    );
}

#[tokio::test]
async fn recover_from_panics_keeps_or_ends_the_connection() {
    let upstream = http().await;
    for recovers in [true, false] {
        let fails = Fails::default();
        let proxy = Embedded::start(fails.clone(), |config| {
            config.handler.recover_from_panics = recovers;
        })
        .await;
        let mut other = proxy.through(&upstream).await;
        let mut client = proxy.through(&upstream).await;
        let answer = soon(client.request(&get("/panic"))).await;
        assert_eq!(answer.is_ok(), recovers, "{answer:?}");
        if !recovers {
            soon(fails.closed.wait()).await;
        }
        // Another connection notices nothing.
        assert_eq!(
            soon(other.request(&get("/"))).await.unwrap().head.status,
            200
        );
    }
}

#[tokio::test]
async fn an_http2_upstream_counts_as_one_connection() {
    let upstream = https(Protocols::Both).await;
    let proxy = Embedded::start(LetsPass, |config| {
        config.connection_pool.max_connections_per_host = 1;
    })
    .await;
    let http2 = proxy.through_tls(&upstream, &["h2"]).await;
    let http2 = http2.start_http2().await.unwrap();
    // A client of HTTP/1.1 goes over the connection there is.
    let mut http1 = proxy.through_tls(&upstream, &["http/1.1"]).await;
    let request = http::Request::get(format!("https://{NAME}/"));
    let request = request.body(Bytes::new()).unwrap();
    assert_eq!(soon(http2.request(request)).await.unwrap().head.status, 200);
    assert_eq!(
        soon(http1.request(&get("/"))).await.unwrap().head.status,
        200
    );
    assert_eq!(upstream.connection_count(), 1);
}

/// Keeps the process that `on_request` is asked with.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Option<u32>>>>);

impl InterceptHandler for Asked {
    async fn on_request(&self, request: &RawRequest) -> HandlerDecision {
        let process = request.connection_meta.process_info.as_ref();
        self.0.lock().push(process.map(|process| process.pid));
        HandlerDecision::Allow
    }
}

#[tokio::test]
async fn process_attribution_finds_the_client_or_does_not_look() {
    let (upstream, own) = (http().await, std::process::id());
    for (enabled, expected) in [(true, Some(own)), (false, None)] {
        let asked = Asked::default();
        let proxy = Embedded::start(asked.clone(), |config| {
            config.process_attribution.enabled = enabled;
        })
        .await;
        let mut client = proxy.through(&upstream).await;
        soon(client.request(&get("/"))).await.unwrap();
        assert_eq!(*asked.0.lock(), [expected]);
    }
}
