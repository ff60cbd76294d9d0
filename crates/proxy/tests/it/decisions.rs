//! What a handler decides is done, in both versions of HTTP: answers of its own, other upstreams,
//! and tunnels that have nothing to do with each other.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use oriel_proxy::{
    ConnectionMeta, HandlerDecision, InterceptHandler, LocalResponse, ProcessInfo, RawRequest,
    RequestEdit,
};
use parking_lot::Mutex;
use testbed::client::{Client, Http2Client, Request, Response};
use testbed::upstream::Protocols;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use traffic::{FailureKind, Side, Target};
use uuid::Uuid;

use crate::http2::connect_stream;
use crate::recorder::FlowSeen;
use crate::running::{NAME, Running, authority_of, http, https};
use crate::soon;

/// More than the buffers of a connection hold.
const LARGE: usize = 24 << 20;

/// Decides by the path.
#[derive(Clone, Default)]
struct Decides {
    /// Where requests are sent in the place of their upstream.
    elsewhere: Option<Target>,
    opened: Arc<Mutex<Vec<Uuid>>>,
    intercepts: Arc<Mutex<usize>>,
    /// The connection of each request, and its path.
    asked: Arc<Mutex<Vec<(Uuid, String)>>>,
    closed: Arc<Mutex<Vec<Uuid>>>,
}

impl Decides {
    fn to(target: &str) -> Self {
        Self {
            elsewhere: Some(Target::parse(target, 443).unwrap()),
            ..Self::default()
        }
    }
}

impl InterceptHandler for Decides {
    fn should_intercept_tls(&self, _host: &str, _process: Option<&ProcessInfo>) -> bool {
        *self.intercepts.lock() += 1;
        true
    }

    async fn on_request(&self, request: &RawRequest) -> HandlerDecision {
        let id = request.connection_meta.connection_id;
        self.asked.lock().push((id, request.path.clone()));
        let edit = |edit| HandlerDecision::Edit(Box::new(edit));
        match request.path.as_str() {
            "/respond" => {
                let fields = [("x-own", "yes"), ("content-length", "1")];
                let fields = fields
                    .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
                HandlerDecision::Respond(Box::new(LocalResponse {
                    status: 418,
                    headers: HeaderMap::from_iter(fields),
                    body: Bytes::from_static(b"made here"),
                }))
            }
            "/large" => HandlerDecision::Respond(Box::new(LocalResponse {
                status: 200,
                headers: HeaderMap::new(),
                body: Bytes::from(vec![b'x'; LARGE]),
            })),
            "/large-block" => HandlerDecision::Block {
                status: 403,
                body: Bytes::from(vec![b'x'; LARGE]),
            },
            "/redirect" => HandlerDecision::Redirect(Box::new(self.elsewhere.clone().unwrap())),
            "/elsewhere" => edit(RequestEdit {
                upstream: self.elsewhere.clone(),
                method: Some("PATCH".to_owned()),
                path: Some("/echo".to_owned()),
                ..RequestEdit::default()
            }),
            _ => HandlerDecision::Allow,
        }
    }

    fn on_connection_open(&self, meta: &ConnectionMeta) {
        self.opened.lock().push(meta.connection_id);
    }

    fn on_connection_close(&self, connection_id: Uuid) {
        self.closed.lock().push(connection_id);
    }
}

/// A client in either version.
enum Asker {
    Http1(Client),
    Http2(Http2Client),
}

impl Asker {
    async fn new(client: Client, version: &str) -> Self {
        match version {
            "h2" => Self::Http2(client.start_http2().await.unwrap()),
            _ => Self::Http1(client),
        }
    }

    async fn get(&mut self, path: &str) -> Response {
        match self {
            Self::Http1(client) => soon(client.request(&Request::get(path).host(NAME))).await,
            Self::Http2(client) => {
                let request = http::Request::get(format!("https://{NAME}{path}"));
                soon(client.request(request.body(Bytes::new()).unwrap())).await
            }
        }
        .unwrap()
    }
}

#[tokio::test]
async fn answers_and_sends_elsewhere_as_decided_in_both_versions() {
    for version in ["http/1.1", "h2"] {
        let (named, other) = (https(Protocols::Both).await, https(Protocols::Both).await);
        let decides = Decides::to(&authority_of(&other));
        let running = Running::with_handler(decides, |_| ()).await;
        let client = running.through_tls(&named, &[version]).await;
        let mut client = Asker::new(client, version).await;

        let own = client.get("/respond").await;
        assert_eq!((own.head.status, own.text().as_str()), (418, "made here"));
        assert_eq!(own.head.headers.get("x-own"), Some("yes"));
        assert_eq!(own.head.headers.get("content-length"), Some("9"));

        let before = named.request_count();
        assert_eq!(client.get("/redirect").await.head.status, 404);
        let edited = client.get("/elsewhere").await;
        assert!(
            edited.text().starts_with("PATCH /echo"),
            "{}",
            edited.text()
        );
        let asked: Vec<String> = other.received().into_iter().map(|got| got.method).collect();
        assert_eq!(asked, ["GET", "PATCH"], "{version}");
        assert_eq!(named.request_count(), before);
        // What is let pass goes where it was asked for.
        assert_eq!(client.get("/bytes/3").await.body.seen, 3);
        assert_eq!(named.request_count(), before + 1);
    }
}

/// A port of this machine on which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    format!("{NAME}:{}", listener.local_addr().unwrap().port())
}

#[tokio::test]
async fn decides_about_requests_whose_upstream_is_not_there() {
    let other = https(Protocols::Both).await;
    let gone = nobody().await;
    for (path, expected) in [
        ("/respond", 418),
        ("/redirect", 404),
        ("/elsewhere", 200),
        ("/", 502),
    ] {
        let decides = Decides::to(&authority_of(&other));
        let running = Running::with_handler(decides.clone(), |_| ()).await;
        let mut client = soon(Client::connect_through(running.address, &gone))
            .await
            .unwrap();
        // Which of the two it gets was found out by a dial.
        let config = running.client_config(&["h2", "http/1.1"]);
        soon(client.start_tls(NAME, config)).await.unwrap();
        let mut client = Asker::new(client, "h2").await;
        let response = client.get(path).await;
        assert_eq!(
            response.head.status,
            expected,
            "{path}: {}",
            response.text()
        );
        assert_eq!(decides.asked.lock().len(), 1);
    }
}

#[tokio::test]
async fn each_tunnel_on_one_http2_connection_is_a_connection_of_its_own() {
    let (upstream, decides) = (http().await, Decides::default());
    let running = Running::with_handler(decides.clone(), |_| ()).await;
    let outer = running.connect().await.start_http2().await.unwrap();
    let mut pipes = Vec::new();
    for _tunnel in 0..2 {
        let pipe = connect_stream(&outer, &authority_of(&upstream)).await;
        pipes.push(pipe.unwrap());
    }
    // Both are open while both are used, the later one first.
    for (path, pipe) in ["/bytes/1", "/bytes/2"].iter().zip(pipes.iter_mut().rev()) {
        let text = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        pipe.write_all(text.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        soon(pipe.read_to_end(&mut all)).await.unwrap();
        assert!(all.starts_with(b"HTTP/1.1 200"));
    }
    drop((pipes, outer));
    running.stop().await;
    let asked = decides.asked.lock().clone();
    let ids: HashSet<Uuid> = asked.iter().map(|(id, _)| *id).collect();
    assert_eq!((asked.len(), ids.len()), (2, 2), "{asked:?}");
    assert_eq!(*decides.intercepts.lock(), 2);
    // The connection that carries them, and each of them.
    let mut opened = decides.opened.lock().clone();
    let mut closed = decides.closed.lock().clone();
    assert_eq!(opened.len(), 3);
    assert!(ids.iter().all(|id| opened.contains(id)));
    opened.sort_unstable();
    closed.sort_unstable();
    assert_eq!(opened, closed);
}

/// A client that has asked for a path and reads nothing yet.
async fn asking(running: &Running, version: &str, path: &str) -> Asking {
    let url = format!("http://{NAME}:9{path}");
    let client = running.connect().await;
    if version == "h2" {
        let client = client.start_http2().await.unwrap();
        let request = http::Request::get(url).body(()).unwrap();
        let stream = client.open(request, true).await.unwrap();
        return Asking::Http2(client, stream);
    }
    let mut client = client;
    client
        .send(Request::get(&url).host("a").to_bytes())
        .await
        .unwrap();
    Asking::Http1(client)
}

enum Asking {
    Http1(Client),
    Http2(Http2Client, testbed::client::Http2Stream),
}

impl Asking {
    /// Payload that it gets.
    async fn read(self) -> u64 {
        match self {
            Self::Http1(mut client) => soon(client.read_response("GET")).await.unwrap().body.seen,
            Self::Http2(_client, stream) => soon(stream.read_response()).await.unwrap().body.seen,
        }
    }
}

#[tokio::test]
async fn a_large_answer_made_here_comes_whole_to_a_client_that_reads_late() {
    for version in ["http/1.1", "h2"] {
        for (path, completes) in [("/large", true), ("/large-block", false)] {
            let running = Running::with_handler(Decides::default(), |_| ()).await;
            let client = asking(&running, version, path).await;
            // Longer than a connection that is closed is waited for.
            tokio::time::sleep(oriel_proxy::limits::LINGER * 2).await;
            let unread = &running.recorder.flows();
            let is_over = |flow: &FlowSeen| flow.course().contains("ended");
            assert!(!unread.iter().any(is_over), "{version} {path}");
            assert_eq!(client.read().await, LARGE as u64, "{version} {path}");
            let flow = running.recorder.only_flow().await;
            assert_eq!(flow.completed(), completes, "{version} {path}");
        }
    }
}

#[tokio::test]
async fn a_large_answer_made_here_is_cut_where_the_client_takes_nothing_of_it() {
    for version in ["http/1.1", "h2"] {
        let running = Running::with_handler(Decides::default(), |config| {
            config.timeouts.idle_body = Duration::from_millis(100);
        })
        .await;
        let client = asking(&running, version, "/large").await;
        let flow = running.recorder.only_flow().await;
        let (failure, replied) = flow.failure();
        assert_eq!(
            (failure.side, failure.kind, replied),
            (Side::Client, FailureKind::TimedOut, None),
            "{version}"
        );
        drop(client);
    }
}

/// Keeps every request it is shown.
#[derive(Clone, Default)]
struct Keeps(Arc<Mutex<Vec<RawRequest>>>);

impl InterceptHandler for Keeps {
    async fn on_request(&self, request: &RawRequest) -> HandlerDecision {
        self.0.lock().push(request.clone());
        HandlerDecision::Allow
    }
}

impl Keeps {
    /// What was shown since this was asked last, but for the connection it came on.
    fn take(&self) -> Vec<String> {
        let shown = std::mem::take(&mut *self.0.lock());
        let text = |request: RawRequest| {
            let RawRequest {
                method,
                path,
                headers,
                body,
                body_view,
                scheme,
                authority,
                ..
            } = request;
            format!("{method} {scheme} {authority} {path} {headers:?} {body:?} {body_view:?}")
        };
        shown.into_iter().map(text).collect()
    }
}

#[tokio::test]
async fn a_request_is_shown_alike_on_a_new_connection_and_after_any_other() {
    let (upstream, keeps) = (https(Protocols::Http1).await, Keeps::default());
    let running = Running::with_handler(keeps.clone(), |config| {
        config.handler.buffer_request_bodies = true;
    })
    .await;
    let get = |path: &str| Request::get(path).host(NAME);
    let long = "x".repeat(8 * 1024);
    let requests = [
        get("/echo").header("X-Id", "1").header("X-Of", "a"),
        get("/echo").header("X-Id", "2").header("X-Of", "a"),
        get("/echo?next").header("X-Of", "a").header("X-Id", "2"),
        Request::post("/echo", "a body").host(NAME),
        Request::post("/echo", "another").host(NAME),
        get("/echo").header("X-Twice", "1").header("X-Twice", "2"),
        get("/echo").header("X-Twice", "1"),
        get("/echo").header("X-Long", &long),
        get("/echo"),
        get("/echo"),
    ];
    let mut one_by_one = Vec::new();
    for request in &requests {
        let mut client = running.through_tls(&upstream, &["http/1.1"]).await;
        let response = soon(client.request(request)).await.unwrap();
        assert_eq!(response.head.status, 200, "{}", response.text());
        one_by_one.append(&mut keeps.take());
    }
    assert_eq!(one_by_one.len(), requests.len());
    assert!(one_by_one.iter().any(|shown| shown.contains("a body")));

    let mut client = running.through_tls(&upstream, &["http/1.1"]).await;
    for request in &requests {
        soon(client.request(request)).await.unwrap();
    }
    assert_eq!(keeps.take(), one_by_one);

    // To the proxy itself, where each request may go elsewhere.
    let (here, there) = (http().await, http().await);
    let mut client = running.connect().await;
    for upstream in [&here, &there, &here] {
        let authority = authority_of(upstream);
        let absolute = Request::get(&format!("http://{authority}/echo")).host(&authority);
        soon(client.request(&absolute)).await.unwrap();
    }
    let shown = std::mem::take(&mut *keeps.0.lock());
    let asked: Vec<&str> = shown
        .iter()
        .map(|request| request.authority.as_str())
        .collect();
    let (here, there) = (authority_of(&here), authority_of(&there));
    assert_eq!(asked, [&here, &there, &here]);
    assert!(shown.iter().all(|request| request.scheme == "http"));
    running.stop().await;
}
