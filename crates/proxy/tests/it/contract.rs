//! What an embedder may rely on: the order of the callbacks, each exactly once, nothing sent before
//! the handler has decided, and a proxy that can be changed and stopped while it works.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oriel_proxy::{
    ConnectionMeta, HandlerDecision, InterceptHandler, Interests, MitmError, ProcessInfo,
    RawRequest, RawResponse, StreamChunk,
};
use parking_lot::Mutex;
use testbed::client::{Client, Http2Client, Request};
use testbed::gate::Gate;
use testbed::script::Step;
use testbed::upstream::{Protocols, Upstream};
use testbed::websocket::{Frame, TEXT};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::embedded::{Embedded, LetsPass};
use crate::running::{NAME, authority_of, http, https, scripted};
use crate::soon;

/// One callback that bears a connection id.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Open,
    Request,
    Response(u16),
    WebSocket,
    Chunk(u64),
    End,
    Close,
}

/// Notes all calls; decides by the path; declines to open `127.0.0.1`.
#[derive(Clone, Default)]
struct Notes {
    calls: Arc<Mutex<HashMap<Uuid, Vec<Call>>>>,
    /// What `on_request` waits for at `/gate`.
    gate: Gate,
}

impl Notes {
    fn note(&self, id: Uuid, call: Call) {
        self.calls.lock().entry(id).or_default().push(call);
    }

    fn count(&self, wanted: &Call) -> usize {
        let calls = self.calls.lock();
        let all = calls.values().flatten();
        all.filter(|call| *call == wanted).count()
    }
}

impl InterceptHandler for Notes {
    fn should_intercept_tls(&self, host: &str, _process: Option<&ProcessInfo>) -> bool {
        host != "127.0.0.1"
    }

    async fn on_request(&self, request: &RawRequest) -> HandlerDecision {
        self.note(request.connection_meta.connection_id, Call::Request);
        match request.path.as_str() {
            "/blocked" => HandlerDecision::Block {
                status: 451,
                body: Bytes::from_static(b"no"),
            },
            "/panic" => std::panic::resume_unwind(Box::new("this handler is broken")),
            "/gate" => {
                self.gate.wait().await;
                HandlerDecision::Allow
            }
            _ => HandlerDecision::Allow,
        }
    }

    async fn on_response(&self, response: &RawResponse) {
        let id = response.connection_meta.connection_id;
        self.note(id, Call::Response(response.status));
    }

    async fn on_websocket_start(&self, response: &RawResponse) {
        self.note(response.connection_meta.connection_id, Call::WebSocket);
    }

    async fn on_stream_chunk(&self, chunk: &StreamChunk) {
        self.note(chunk.connection_id, Call::Chunk(chunk.sequence));
    }

    async fn on_stream_end(&self, connection_id: Uuid) {
        self.note(connection_id, Call::End);
    }

    fn on_connection_open(&self, meta: &ConnectionMeta) {
        self.note(meta.connection_id, Call::Open);
    }

    fn on_connection_close(&self, connection_id: Uuid) {
        self.note(connection_id, Call::Close);
    }
}

/// Fails unless the calls of one id are in the promised order, each as often as promised.
fn check_order(calls: &[Call]) {
    let mut calls = calls.iter().peekable();
    assert_eq!(calls.next(), Some(&Call::Open));
    while calls.next_if_eq(&&Call::Request).is_some() {
        if let Some(Call::Response(_)) = calls.peek() {
            calls.next();
            let mut pieces = 0;
            while calls.next_if_eq(&&Call::Chunk(pieces)).is_some() {
                pieces += 1;
            }
            let ended = calls.next_if_eq(&&Call::End).is_some();
            assert!(ended || pieces == 0, "a stream has no end");
        }
    }
    assert_eq!(calls.next(), Some(&Call::Close));
    assert_eq!(calls.next(), None);
}

fn get(path: &str) -> Request {
    Request::get(path).host(NAME)
}

async fn http2(proxy: &Embedded, upstream: &Upstream) -> Http2Client {
    let client = proxy.through_tls(upstream, &["h2"]).await;
    client.start_http2().await.unwrap()
}

fn http2_get(path: &str) -> http::Request<Bytes> {
    let request = http::Request::get(format!("https://{NAME}{path}"));
    request.body(Bytes::new()).unwrap()
}

/// So many requests for a path on one connection of HTTP/1.1.
async fn on_http1(mut client: Client, path: &str, count: usize, status: u16) {
    for _request in 0..count {
        let response = soon(client.request(&get(path))).await.unwrap();
        assert_eq!(response.head.status, status, "{path}");
    }
}

/// The same at once on one connection of HTTP/2.
async fn on_http2(client: Http2Client, path: &str, count: usize, status: u16) {
    let requests = (0..count).map(|_| client.request(http2_get(path)));
    for response in soon(futures_util::future::join_all(requests)).await {
        assert_eq!(response.unwrap().head.status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_callback_comes_in_order_and_once_over_a_thousand_mixed_flows() {
    const EACH: usize = 100;
    let (plain, tls) = (http().await, https(Protocols::Both).await);
    let notes = Notes::default();
    let proxy = Embedded::start(notes.clone(), |_| ()).await;
    let sse = "/sse?events=3&delay_ms=0";
    let refused = {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://localhost:{}/", free.local_addr().unwrap().port())
    };
    let aborted = async {
        for _flow in 0..EACH {
            let mut client = proxy.through(&plain).await;
            client
                .send(get("/sse?events=100&delay_ms=60000").to_bytes())
                .await
                .unwrap();
            soon(client.read_head()).await.unwrap();
            client.reset().unwrap();
        }
    };
    let unreachable = async {
        for _flow in 0..EACH {
            let mut client = proxy.connect().await;
            let request = Request::get(&refused).host("x");
            let response = soon(client.request(&request)).await.unwrap();
            assert_eq!(response.head.status, 502);
        }
    };
    let tunnelled = async {
        for _flow in 0..EACH {
            let target = tls.address().to_string();
            let through = Client::connect_through(proxy.handle.local_address(), &target);
            // Not a byte more: the tunnel ends with the client.
            drop(soon(through).await.unwrap());
        }
    };
    tokio::join!(
        on_http1(proxy.through(&plain).await, "/", EACH, 200),
        on_http1(proxy.through(&plain).await, "/blocked", EACH, 451),
        on_http1(proxy.through(&plain).await, "/panic", EACH, 503),
        on_http1(proxy.through_tls(&tls, &["http/1.1"]).await, sse, EACH, 200),
        on_http2(http2(&proxy, &tls).await, "/", EACH, 200),
        on_http2(http2(&proxy, &tls).await, "/blocked", EACH, 451),
        on_http2(http2(&proxy, &tls).await, sse, EACH, 200),
        aborted,
        unreachable,
        tunnelled,
    );
    proxy.handle.shutdown(Duration::from_secs(5)).await.unwrap();

    let calls = notes.calls.lock().clone();
    for calls in calls.values() {
        check_order(calls);
    }
    // 4 clients of HTTP/1.1 with a connection each, 3 of HTTP/2 with as many streams besides, and
    // three kinds with a connection for each flow.
    assert_eq!(calls.len(), 4 + 3 * (1 + EACH) + 3 * EACH);
    assert_eq!(notes.count(&Call::Open), calls.len());
    assert_eq!(notes.count(&Call::Close), calls.len());
    assert_eq!(notes.count(&Call::Request), 9 * EACH);
    assert_eq!(notes.count(&Call::Response(451)), 2 * EACH);
    // Streams are told with their status too: those that ended, and those that were cut.
    assert_eq!(notes.count(&Call::Response(200)), 5 * EACH);
    assert_eq!(notes.count(&Call::Chunk(2)), 2 * EACH);
    let metrics = proxy.handle.metrics();
    assert_eq!(metrics.active_connections, 0);
    assert_eq!(metrics.active_flows, 0);
    assert_eq!(metrics.handler_panic_count, EACH as u64);
    assert_eq!(metrics.dropped_dispatch_work_count, 0);
    assert_eq!(metrics.queued_callbacks, 0);
    let ended: u64 = metrics.flows.iter().map(|group| group.count).sum();
    assert_eq!(ended, 10 * EACH as u64);
    assert_eq!(metrics.added_latency.count(), 6 * EACH as u64);
}

#[tokio::test]
async fn a_websocket_is_told_from_its_start_to_its_end() {
    let upstream = https(Protocols::Both).await;
    for http2_client in [false, true] {
        let notes = Notes::default();
        let proxy = Embedded::start(notes.clone(), |_| ()).await;
        let carrier = http2(&proxy, &upstream).await;
        // Its answer follows the settings that allow a WebSocket.
        soon(carrier.request(http2_get("/"))).await.unwrap();
        let mut socket = match http2_client {
            false => {
                let client = proxy.through_tls(&upstream, &["http/1.1"]).await;
                soon(client.start_websocket("/websocket", &[("Host", NAME)])).await
            }
            true => {
                let uri = format!("https://{NAME}/websocket");
                soon(carrier.start_websocket(&uri, &[])).await
            }
        }
        .unwrap();
        for frame in [Frame::new(TEXT, "hello"), Frame::close(1000, "bye")] {
            socket.send(&frame).await.unwrap();
            assert_eq!(soon(socket.read()).await.unwrap(), Some(frame));
        }
        drop((socket, carrier));
        proxy.handle.shutdown(Duration::from_secs(5)).await.unwrap();
        let calls = notes.calls.lock().clone();
        let told = calls
            .values()
            .find(|calls| calls.contains(&Call::WebSocket));
        let mut told = told.unwrap().clone();
        // A message and a close of each side, numbered for each.
        let chunks: Vec<Call> = told.drain(3..7).collect();
        for number in [0, 1] {
            let of_number = chunks.iter().filter(|chunk| **chunk == Call::Chunk(number));
            assert_eq!(of_number.count(), 2);
        }
        assert_eq!(
            told,
            [
                Call::Open,
                Call::Request,
                Call::WebSocket,
                Call::End,
                Call::Close
            ]
        );
    }
}

#[tokio::test]
async fn nothing_goes_upstream_before_the_handler_has_decided() {
    for opened in [false, true] {
        let upstream = match opened {
            true => https(Protocols::Http1).await,
            false => http().await,
        };
        let notes = Notes::default();
        let proxy = Embedded::start(notes.clone(), |_| ()).await;
        let mut client = match opened {
            true => proxy.through_tls(&upstream, &["http/1.1"]).await,
            false => proxy.through(&upstream).await,
        };
        let blocked = soon(client.request(&get("/blocked"))).await.unwrap();
        assert_eq!((blocked.head.status, blocked.text().as_str()), (451, "no"));
        client.send(get("/gate").to_bytes()).await.unwrap();
        soon(async {
            while notes.count(&Call::Request) < 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(upstream.connection_count(), 0);
        notes.gate.open();
        assert_eq!(
            soon(client.read_response("GET")).await.unwrap().head.status,
            404
        );
        assert_eq!(upstream.connection_count(), 1);
    }
}

/// Notes the hosts whose handshakes failed.
#[derive(Clone)]
struct Failures {
    interests: Interests,
    hosts: Arc<Mutex<Vec<String>>>,
}

impl InterceptHandler for Failures {
    fn interests(&self) -> Interests {
        self.interests
    }

    fn on_tls_failure(&self, host: &str, _error: &str) {
        self.hosts.lock().push(host.to_owned());
    }
}

#[tokio::test]
async fn failed_handshakes_are_told_whatever_else_is_wanted() {
    let upstream = https(Protocols::Both).await;
    for interests in [Interests::ALL, Interests::REQUEST_HEADS] {
        let hosts = Arc::default();
        let handler = Failures {
            interests,
            hosts: Arc::clone(&hosts),
        };
        let proxy = Embedded::start(handler, |config| {
            config.upstream.verify_upstream_tls = true;
        })
        .await;
        // The upstream's certificate is nobody's; each flow that wants it is told.
        let client = proxy.through_tls(&upstream, &["http/1.1"]).await;
        on_http1(client, "/", 2, 502).await;
        on_http2(http2(&proxy, &upstream).await, "/", 2, 502).await;
        proxy.handle.shutdown(Duration::from_secs(5)).await.unwrap();
        assert_eq!(*hosts.lock(), ["localhost"; 4], "{interests:?}");
    }
}

#[tokio::test]
async fn two_proxies_do_not_know_of_each_other() {
    let (upstream, notes) = (http().await, Notes::default());
    let one = Embedded::start(notes.clone(), |config| {
        config.handler.request_timeout_ms = 20;
    })
    .await;
    let other = Embedded::start(LetsPass, |_| ()).await;
    on_http1(one.through(&upstream).await, "/panic", 1, 503).await;
    on_http1(one.through(&upstream).await, "/gate", 1, 503).await;
    on_http1(other.through(&upstream).await, "/panic", 1, 404).await;
    let (ones, others) = (one.handle.metrics(), other.handle.metrics());
    assert_eq!(
        (ones.handler_panic_count, ones.handler_timeout_count),
        (1, 1)
    );
    assert_eq!(
        (others.handler_panic_count, others.handler_timeout_count),
        (0, 0)
    );
    assert_eq!((ones.total_connections, others.total_connections), (2, 1));
    assert_ne!(one.authority, other.authority);
    one.handle.shutdown(Duration::from_secs(5)).await.unwrap();
    on_http1(other.through(&upstream).await, "/", 1, 200).await;
}

/// An upstream whose first connection sends one event, waits, and sends another.
async fn two_events() -> (Upstream, Gate) {
    let more = Gate::new();
    let script = vec![
        Step::ReadHead,
        Step::send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 18\r\n\r\n\
             data: 1\n\n",
        ),
        Step::Wait(more.clone()),
        Step::send("data: 2\n\n"),
        Step::ReadToEnd,
    ];
    (scripted(false, vec![script]).await, more)
}

#[tokio::test]
async fn a_reload_leaves_a_stream_alone_and_takes_hold_of_the_next_request() {
    let ((upstream, more), notes) = (two_events().await, Notes::default());
    let other = http().await;
    let proxy = Embedded::start(notes.clone(), |_| ()).await;
    let mut stream = proxy.through(&upstream).await;
    stream.send(get("/events").to_bytes()).await.unwrap();
    soon(stream.read_until("data: 1\n\n")).await.unwrap();

    let mut next = proxy.handle.current_config();
    next.interception.destinations = vec!["elsewhere.example".to_owned()];
    next.interception.passthrough_unlisted = false;
    proxy.handle.reload(next.clone()).unwrap();
    assert_eq!(proxy.handle.current_config(), next);

    // What begins now follows the new one.
    let mut refused = proxy.connect().await;
    let target = authority_of(&other);
    let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    refused.send(connect).await.unwrap();
    assert_eq!(soon(refused.read_head()).await.unwrap().status, 403);
    // What was under way goes on, and is told.
    more.open();
    soon(stream.read_until("data: 2\n\n")).await.unwrap();
    drop(stream);
    proxy.handle.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(notes.count(&Call::Chunk(1)), 1);
    assert_eq!(notes.count(&Call::End), 1);
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing() {
    let upstream = http().await;
    let proxy = Embedded::start(LetsPass, |_| ()).await;
    let before = proxy.handle.current_config();
    let mut empty = before.clone();
    empty.interception.destinations.clear();
    empty.handler.request_timeout_ms = 0;
    let error = proxy.handle.reload(empty).unwrap_err();
    let MitmError::InvalidConfig(invalid) = &error else {
        panic!("{error}");
    };
    let fields: Vec<&str> = invalid
        .fields
        .iter()
        .map(|wrong| wrong.field.as_str())
        .collect();
    assert_eq!(
        fields,
        ["interception.destinations", "handler.request_timeout_ms"]
    );
    let mut moved = before.clone();
    moved.bind.set_port(9);
    moved.interception.passthrough_unlisted = false;
    let error = proxy.handle.reload(moved).unwrap_err();
    assert!(
        matches!(&error, MitmError::Fixed { fields } if fields == &["bind"]),
        "{error}"
    );
    let mut missing = before.clone();
    missing.tls.ca_key_path = proxy.folder().path().join("elsewhere.pem");
    let error = proxy.handle.reload(missing).unwrap_err();
    assert!(matches!(&error, MitmError::HalfAuthority { .. }), "{error}");
    assert_eq!(proxy.handle.current_config(), before);
    on_http1(proxy.through(&upstream).await, "/", 1, 200).await;
}

#[tokio::test]
async fn a_shutdown_lets_flows_end_or_cuts_them_and_tells_every_close() {
    for (drain, in_time) in [(Duration::from_secs(5), true), (Duration::ZERO, false)] {
        let ((upstream, more), notes) = (two_events().await, Notes::default());
        let proxy = Embedded::start(notes.clone(), |_| ()).await;
        let mut stream = proxy.through(&upstream).await;
        stream.send(get("/events").to_bytes()).await.unwrap();
        soon(stream.read_until("data: 1\n\n")).await.unwrap();
        let mut stopping = JoinSet::new();
        stopping.spawn(async move { (proxy.handle.shutdown(drain).await, proxy) });
        if in_time {
            more.open();
            soon(stream.read_until("data: 2\n\n")).await.unwrap();
        }
        let (stopped, proxy) = soon(stopping.join_next()).await.unwrap().unwrap();
        match stopped {
            Ok(()) => assert!(in_time),
            Err(MitmError::TimedOut {
                connections_cut, ..
            }) => assert_eq!((connections_cut, in_time), (1, false)),
            Err(error) => panic!("{error}"),
        }
        let calls = notes.calls.lock().clone();
        for calls in calls.values() {
            assert_eq!(calls.first(), Some(&Call::Open));
            assert_eq!(calls.last(), Some(&Call::Close));
        }
        assert_eq!(notes.count(&Call::Close), calls.len());
        if in_time {
            calls.values().for_each(|calls| check_order(calls));
        }
        // Nobody listens any more, and a second shutdown does nothing.
        assert!(Client::connect(proxy.handle.local_address()).await.is_err());
        proxy.handle.shutdown(drain).await.unwrap();
    }
}

#[tokio::test]
async fn an_idle_proxy_stops_at_once() {
    let (upstream, proxy) = (http().await, Embedded::start(LetsPass, |_| ()).await);
    let mut idle = proxy.through(&upstream).await;
    soon(idle.request(&get("/"))).await.unwrap();
    let begun = Instant::now();
    proxy
        .handle
        .shutdown(Duration::from_secs(60))
        .await
        .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
}
