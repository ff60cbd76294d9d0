//! What a handler is told besides: in which callback it may fail and what becomes of the connection
//! then, how far it may fall behind, and what it asked to be told at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use oriel_proxy::limits::{DISPATCH_ITEMS_MAX, INTERCEPT_QUESTIONS_MAX};
use oriel_proxy::{
    ConnectionMeta, FrameKind, HandlerDecision, InterceptHandler, Interests, MitmConfig, OnError,
    ProcessInfo, RawRequest, RawResponse, Sender, StreamChunk,
};
use parking_lot::{Condvar, Mutex};
use testbed::client::{Client, Request};
use testbed::gate::Gate;
use testbed::upstream::{Protocols, Upstream};
use testbed::websocket::{Frame, TEXT};
use uuid::Uuid;

use crate::embedded::Embedded;
use crate::panics::run_into;
use crate::running::{NAME, authority_of, http, https};
use crate::soon;

/// What the handler does in one of its callbacks.
#[derive(Clone, Debug, Default)]
pub(crate) enum Does {
    #[default]
    Nothing,
    Panics,
    /// Waits until the gate opens.
    Waits(Gate),
}

/// Notes the callbacks, and fails in one of them.
#[derive(Clone)]
pub(crate) struct Told {
    interests: Interests,
    pub(crate) calls: Arc<Mutex<Vec<(Uuid, &'static str)>>>,
    bodies: Arc<Mutex<Vec<(usize, bool)>>>,
    requests: Arc<Mutex<Vec<usize>>>,
    chunks: Arc<Mutex<Vec<StreamChunk>>>,
    has_fingerprint: Arc<Mutex<Option<bool>>>,
    pub(crate) fails: Arc<Mutex<(&'static str, Does)>>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            interests: Interests::ALL,
            calls: Arc::default(),
            bodies: Arc::default(),
            requests: Arc::default(),
            chunks: Arc::default(),
            has_fingerprint: Arc::default(),
            fails: Arc::default(),
        }
    }
}

impl Told {
    pub(crate) fn failing(callback: &'static str, does: Does) -> Self {
        let told = Self::default();
        *told.fails.lock() = (callback, does);
        told
    }

    pub(crate) fn recovers(&self) {
        *self.fails.lock() = ("", Does::Nothing);
    }

    fn does(&self, callback: &'static str) -> Does {
        match &*self.fails.lock() {
            (failing, does) if *failing == callback => does.clone(),
            _ => Does::Nothing,
        }
    }

    fn call_now(&self, id: Uuid, callback: &'static str) {
        self.calls.lock().push((id, callback));
        if let Does::Panics = self.does(callback) {
            std::panic::resume_unwind(Box::new("this handler is broken"));
        }
    }

    async fn call(&self, id: Uuid, callback: &'static str) {
        self.call_now(id, callback);
        if let Does::Waits(gate) = self.does(callback) {
            gate.wait().await;
        }
    }

    fn count(&self, wanted: &str) -> usize {
        let calls = self.calls.lock();
        calls.iter().filter(|(_, call)| *call == wanted).count()
    }

    /// Waits until there were so many of one callback.
    pub(crate) async fn reached(&self, wanted: &str, count: usize) {
        soon(async {
            while self.count(wanted) < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// The callbacks of each id, in their order.
    fn by_id(&self) -> Vec<Vec<&'static str>> {
        let mut all: HashMap<Uuid, Vec<&'static str>> = HashMap::new();
        for (id, call) in self.calls.lock().iter() {
            all.entry(*id).or_default().push(call);
        }
        all.into_values().collect()
    }

    /// Fails unless each id was opened and closed once, and each stream was ended.
    pub(crate) fn check(&self) {
        for calls in self.by_id() {
            let count = |wanted| calls.iter().filter(|call| **call == wanted).count();
            assert_eq!((count("open"), count("close")), (1, 1), "{calls:?}");
            assert_eq!(calls.first(), Some(&"open"));
            assert_eq!(calls.last(), Some(&"close"));
            if count("chunk") + count("websocket") > 0 {
                assert!(count("end") > 0, "{calls:?}");
            }
        }
    }
}

impl InterceptHandler for Told {
    fn interests(&self) -> Interests {
        self.interests
    }

    async fn on_request(&self, request: &RawRequest) -> HandlerDecision {
        self.requests.lock().push(request.body.len());
        let meta = &request.connection_meta;
        let tls = meta.tls_info.as_ref();
        *self.has_fingerprint.lock() = tls.map(|tls| tls.ja4.is_some());
        self.call(meta.connection_id, "request").await;
        HandlerDecision::Allow
    }

    async fn on_response(&self, response: &RawResponse) {
        let shown = (response.body.len(), response.body_view.truncated);
        self.bodies.lock().push(shown);
        let id = response.connection_meta.connection_id;
        self.call(id, "response").await;
    }

    async fn on_websocket_start(&self, response: &RawResponse) {
        let id = response.connection_meta.connection_id;
        self.call(id, "websocket").await;
    }

    async fn on_stream_chunk(&self, chunk: &StreamChunk) {
        self.chunks.lock().push(chunk.clone());
        self.call(chunk.connection_id, "chunk").await;
    }

    async fn on_stream_end(&self, connection_id: Uuid) {
        self.call(connection_id, "end").await;
    }

    fn on_tls_failure(&self, _host: &str, _error: &str) {
        self.call_now(Uuid::nil(), "tls");
    }

    fn on_connection_open(&self, meta: &ConnectionMeta) {
        self.call_now(meta.connection_id, "open");
    }

    fn on_connection_close(&self, connection_id: Uuid) {
        self.call_now(connection_id, "close");
    }
}

pub(crate) fn get(path: &str) -> Request {
    Request::get(path).host(NAME)
}

pub(crate) async fn stop(proxy: &Embedded) {
    proxy.handle.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_slow_observer_takes_no_time_from_the_next_decision() {
    let upstream = http().await;
    let told = Told::failing("response", Does::Waits(Gate::new()));
    let proxy = Embedded::start(told.clone(), |config| {
        config.handler.request_timeout_ms = 50;
        config.handler.response_timeout_ms = 300;
    })
    .await;
    let mut client = proxy.through(&upstream).await;
    for _request in 0..2 {
        let response = soon(client.request(&get("/"))).await.unwrap();
        assert_eq!(response.head.status, 200, "{}", response.text());
    }
    drop(client);
    stop(&proxy).await;
    let expected = [
        "open", "request", "response", "request", "response", "close",
    ];
    assert_eq!(told.by_id(), [expected]);
    let metrics = proxy.handle.metrics();
    assert_eq!(metrics.handler_timeout_count, 2);
    assert_eq!(metrics.dropped_dispatch_work_count, 0);
}

#[tokio::test]
async fn what_a_stuck_observer_has_not_taken_does_not_hold_up_the_next_request() {
    const EVENTS: u64 = 200;
    let upstream = http().await;
    let told = Told::failing("chunk", Does::Waits(Gate::new()));
    let proxy = Embedded::start(told.clone(), |config| {
        config.handler.response_timeout_ms = 500;
    })
    .await;
    let mut client = proxy.through(&upstream).await;
    let events = format!("/sse?events={EVENTS}&delay_ms=0");
    for path in [events.as_str(), "/bytes/5"] {
        let response = soon(client.request(&get(path))).await.unwrap();
        assert_eq!(response.head.status, 200, "{}", response.text());
    }
    drop(client);
    stop(&proxy).await;
    let mut calls = told.by_id().remove(0);
    calls.retain(|call| *call != "chunk");
    let expected = [
        "open", "request", "response", "end", "request", "response", "close",
    ];
    assert_eq!(calls, expected);
    // Of the others none was waited for: that would have taken a minute and a half.
    let dropped = proxy.handle.metrics().dropped_dispatch_work_count;
    assert_eq!(told.count("chunk") as u64 + dropped, EVENTS);
    assert!(told.count("chunk") < 10, "{}", told.count("chunk"));
    assert_eq!(proxy.handle.metrics().queued_callbacks, 0);
}

#[tokio::test]
async fn a_handler_that_is_too_far_behind_loses_pieces_and_never_an_end() {
    let (upstream, go) = (http().await, Gate::new());
    let told = Told::failing("chunk", Does::Waits(go.clone()));
    let proxy = Embedded::start(told.clone(), |config| {
        config.handler.response_timeout_ms = 60_000;
    })
    .await;
    let mut client = proxy.through(&upstream).await;
    let events = 2 * DISPATCH_ITEMS_MAX as u64;
    let path = format!("/sse?events={events}&delay_ms=0");
    // Nobody who asks notices.
    let response = soon(client.request(&get(&path))).await.unwrap();
    assert_eq!(response.head.status, 200);
    drop(client);
    soon(async {
        while proxy.handle.metrics().active_flows > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let dropped = proxy.handle.metrics().dropped_dispatch_work_count;
    assert!(dropped > 0);
    go.open();
    stop(&proxy).await;
    told.check();
    assert_eq!((told.count("end"), told.count("close")), (1, 1));
    assert_eq!(told.count("chunk") as u64 + dropped, events);
    let metrics = proxy.handle.metrics();
    assert_eq!((metrics.queued_callbacks, metrics.held_bytes), (0, 0));
}

#[tokio::test]
async fn only_what_is_of_interest_is_told() {
    let upstream = http().await;
    for (interests, expected, bodies) in [
        (Interests::NONE, "open close", vec![]),
        (
            Interests {
                requests: true,
                ..Interests::NONE
            },
            "open request request request close",
            vec![],
        ),
        (
            Interests {
                responses: true,
                ..Interests::NONE
            },
            "open response response websocket close",
            vec![0, 0],
        ),
        (
            Interests {
                responses: true,
                response_bodies: true,
                ..Interests::NONE
            },
            "open response response websocket close",
            vec![5, 0],
        ),
        (
            Interests {
                stream_chunks: true,
                ..Interests::NONE
            },
            "open chunk end chunk chunk end close",
            vec![],
        ),
    ] {
        let told = Told {
            interests,
            ..Told::default()
        };
        let proxy = Embedded::start(told.clone(), |_| ()).await;
        let mut client = proxy.through(&upstream).await;
        for path in ["/bytes/5", "/sse?events=1&delay_ms=0"] {
            soon(client.request(&get(path))).await.unwrap();
        }
        greet_by_websocket(client).await;
        stop(&proxy).await;
        assert_eq!(told.by_id()[0].join(" "), expected, "{interests:?}");
        let shown: Vec<usize> = told.bodies.lock().iter().map(|(size, _)| *size).collect();
        assert_eq!(shown, bodies, "{interests:?}");
    }
}

/// Fails unless this is the one piece told, of a stream that is still open.
async fn check_told_at_once(told: &Told, sender: Sender, kind: FrameKind, payload: &[u8]) {
    let of_sender = || {
        let chunks = told.chunks.lock();
        let mut chunks = chunks.iter().filter(|chunk| chunk.sender == sender);
        (chunks.next().cloned(), chunks.count())
    };
    soon(async {
        while of_sender().0.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (chunk, others) = of_sender();
    let chunk = chunk.unwrap();
    assert_eq!((chunk.frame_kind, others), (kind, 0));
    assert_eq!(chunk.payload, payload);
    assert_eq!((chunk.sequence, chunk.truncated), (0, false));
    assert_eq!(told.count("end"), 0);
}

#[tokio::test]
async fn pieces_are_told_while_their_stream_is_open() {
    let upstream = http().await;
    for (route, kind) in [
        ("sse", FrameKind::SseData),
        ("ndjson", FrameKind::NdjsonLine),
        ("eventstream", FrameKind::EventStreamMessage),
    ] {
        let told = Told::default();
        let proxy = Embedded::start(told.clone(), |_| ()).await;
        let mut client = proxy.through(&upstream).await;
        let path = format!("/{route}?events=2&delay_ms=600000");
        client.send(get(&path).to_bytes()).await.unwrap();
        check_told_at_once(&told, Sender::Upstream, kind, b"{\"index\":0}").await;
        drop(client);
        stop(&proxy).await;
        assert_eq!(told.count("end"), 1);
        told.check();
    }
}

#[tokio::test]
async fn grpc_messages_are_told_of_both_sides_while_the_call_is_open() {
    let (upstream, told) = (https(Protocols::Both).await, Told::default());
    let proxy = Embedded::start(told.clone(), |_| ()).await;
    let client = proxy.through_tls(&upstream, &["h2"]).await;
    let client = client.start_http2().await.unwrap();
    let url = format!("https://{NAME}/grpc?copies=2&delay_ms=600000");
    let call = http::Request::post(url).header("content-type", "application/grpc");
    let mut call = client.open(call.body(()).unwrap(), false).await.unwrap();
    let message = Bytes::from_static(b"\0\0\0\0\x05hello");
    call.body.send_data(message, true).unwrap();
    for sender in [Sender::Client, Sender::Upstream] {
        check_told_at_once(&told, sender, FrameKind::GrpcMessage, b"hello").await;
    }
    drop((call, client));
    stop(&proxy).await;
    assert_eq!(told.count("end"), 1);
}

/// Hangs or panics when it is asked whether TLS is to be opened.
#[derive(Clone, Default)]
struct Stuck {
    panics: bool,
    asked: Arc<AtomicUsize>,
    /// It may go on.
    go: Arc<(Mutex<bool>, Condvar)>,
}

impl InterceptHandler for Stuck {
    fn should_intercept_tls(&self, _host: &str, _process: Option<&ProcessInfo>) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.panics {
            std::panic::resume_unwind(Box::new("this handler is broken"));
        }
        let (go, changed) = &*self.go;
        let mut go = go.lock();
        while !*go {
            changed.wait(&mut go);
        }
        true
    }
}

/// Lets a hanging handler go, also where the test fails: the runtime waits for its threads.
struct Release(Stuck);

impl Drop for Release {
    fn drop(&mut self) {
        let (go, changed) = &*self.0.go;
        *go.lock() = true;
        changed.notify_all();
    }
}

/// The status that a CONNECT is answered with.
async fn connect(proxy: &Embedded, upstream: &Upstream) -> u16 {
    let mut client = proxy.connect().await;
    let target = authority_of(upstream);
    let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    client.send(connect).await.unwrap();
    soon(client.read_head()).await.unwrap().status
}

#[tokio::test]
async fn whether_to_open_tls_is_no_where_the_handler_hangs_or_panics() {
    let upstream = https(Protocols::Http1).await;
    for panics in [true, false] {
        // Allowed to fail it passes unopened, which is no opening either.
        for (on_error, expected) in [(OnError::Block, 503), (OnError::Allow, 200)] {
            let stuck = Stuck {
                panics,
                ..Stuck::default()
            };
            let _release = Release(stuck.clone());
            let proxy = Embedded::start(stuck.clone(), |config| {
                config.handler.request_timeout_ms = 50;
                config.handler.on_error = on_error;
            })
            .await;
            assert_eq!(connect(&proxy, &upstream).await, expected, "{panics}");
            let metrics = proxy.handle.metrics();
            let failed = (metrics.handler_panic_count, metrics.handler_timeout_count);
            assert_eq!(failed, (u64::from(panics), u64::from(!panics)));
        }
    }
}

#[tokio::test]
async fn a_hanging_handler_gets_no_more_threads_than_there_are_for_it() {
    let (upstream, stuck) = (http().await, Stuck::default());
    let release = Release(stuck.clone());
    let proxy = Embedded::start(stuck.clone(), |config| {
        config.handler.request_timeout_ms = 100;
    })
    .await;
    let connects = (0..INTERCEPT_QUESTIONS_MAX + 10).map(|_| connect(&proxy, &upstream));
    let statuses = join_all(connects).await;
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    assert_eq!(connect(&proxy, &upstream).await, 503);
    assert_eq!(stuck.asked.load(Ordering::Relaxed), INTERCEPT_QUESTIONS_MAX);
    assert_eq!(upstream.connection_count(), 0);
    // Once it lets go of them it is asked again.
    drop(release);
    soon(async {
        while connect(&proxy, &upstream).await != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_response_is_shown_with_its_content_codings_undone_where_there_is_room_for_it() {
    let upstream = http().await;
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let mut sizes = Vec::new();
        for held_bytes_max in [1 << 20, 4000] {
            let told = Told::default();
            let proxy = Embedded::start(told.clone(), |config| {
                config.limits.max_held_bytes = held_bytes_max;
            })
            .await;
            let mut client = proxy.through(&upstream).await;
            let path = format!("/{coding}");
            let response = soon(client.request(&get(&path))).await.unwrap();
            assert!(response.body.seen < 4000);
            told.reached("response", 1).await;
            stop(&proxy).await;
            sizes.extend(told.bodies.lock().iter().copied());
            assert_eq!(proxy.handle.metrics().held_bytes, 0);
        }
        assert!(sizes[0].0 > 4000, "{coding}: {sizes:?}");
        // What is queued has room, what it becomes has not.
        assert_eq!((sizes[0].1, sizes[1]), (false, (0, true)), "{coding}");
    }
}

/// A proxy that began with the first change to its configuration and was reloaded with the second.
async fn reloaded(
    told: &Told,
    before: impl FnOnce(&mut MitmConfig),
    after: impl FnOnce(&mut MitmConfig),
) -> Embedded {
    let proxy = Embedded::start(told.clone(), before).await;
    let mut next = proxy.handle.current_config();
    after(&mut next);
    proxy.handle.reload(next.clone()).unwrap();
    assert_eq!(proxy.handle.current_config(), next);
    proxy
}

#[tokio::test]
async fn a_reload_changes_how_long_and_how_a_handler_may_fail() {
    const LONG_MS: u64 = 3_600_000;
    let upstream = http().await;
    let told = Told::failing("response", Does::Waits(Gate::new()));
    let proxy = reloaded(
        &told,
        |config| config.handler.response_timeout_ms = LONG_MS,
        |config| config.handler.response_timeout_ms = 50,
    )
    .await;
    let mut client = proxy.through(&upstream).await;
    soon(client.request(&get("/"))).await.unwrap();
    drop(client);
    told.reached("close", 1).await;
    assert_eq!(proxy.handle.metrics().handler_timeout_count, 1);

    for (on_error, expected) in [(OnError::Block, 503), (OnError::Allow, 200)] {
        let told = Told::failing("request", Does::Waits(Gate::new()));
        let proxy = reloaded(
            &told,
            |config| {
                config.handler.request_timeout_ms = LONG_MS;
                config.handler.on_error = match on_error {
                    OnError::Block => OnError::Allow,
                    OnError::Allow => OnError::Block,
                };
            },
            |config| {
                config.handler.request_timeout_ms = 50;
                config.handler.on_error = on_error;
            },
        )
        .await;
        let mut client = proxy.through(&upstream).await;
        let response = soon(client.request(&get("/"))).await.unwrap();
        assert_eq!(response.head.status, expected);
    }

    for recovers in [true, false] {
        let told = Told::failing("response", Does::Panics);
        let proxy = reloaded(
            &told,
            |config| config.handler.recover_from_panics = !recovers,
            |config| config.handler.recover_from_panics = recovers,
        )
        .await;
        let mut client = proxy.through(&upstream).await;
        if recovers {
            for _request in 0..2 {
                soon(client.request(&get("/"))).await.unwrap();
            }
        } else {
            run_into("response", &mut client).await;
        }
    }
}

#[tokio::test]
async fn a_reload_changes_what_a_handler_is_shown() {
    let upstream = https(Protocols::Http1).await;
    // What is shown of a response, and whether that is cut; of a request; and of its client.
    type Shown = ((usize, bool), usize, bool);
    type Change = fn(&mut MitmConfig);
    let changes: [(Change, Shown); 5] = [
        (|_| (), ((500, false), 0, true)),
        (
            |config| config.body.max_size_bytes = 100,
            ((100, true), 0, true),
        ),
        (
            |config| config.limits.max_held_bytes = 10,
            ((0, true), 0, true),
        ),
        (
            |config| config.body.buffer_request_bodies = true,
            ((500, false), 7, true),
        ),
        (
            |config| config.tls.capture_fingerprint = false,
            ((500, false), 0, false),
        ),
    ];
    for (change, expected) in changes {
        let told = Told::default();
        let proxy = reloaded(&told, |_| (), change).await;
        let mut client = proxy.through_tls(&upstream, &["http/1.1"]).await;
        let request = Request::post("/bytes/500", "content").host(NAME);
        let response = soon(client.request(&request)).await.unwrap();
        assert_eq!(response.body.seen, 500);
        told.reached("response", 1).await;
        let shown = (
            told.bodies.lock()[0],
            told.requests.lock()[0],
            told.has_fingerprint.lock().unwrap(),
        );
        assert_eq!(shown, expected);
    }
}

/// Opens a WebSocket on the connection, has one message given back, and goes away.
pub(crate) async fn greet_by_websocket(client: Client) {
    let socket = client.start_websocket("/websocket", &[("Host", NAME)]);
    let mut socket = soon(socket).await.unwrap();
    let frame = Frame::new(TEXT, "hello");
    socket.send(&frame).await.unwrap();
    assert_eq!(soon(socket.read()).await.unwrap(), Some(frame));
}
