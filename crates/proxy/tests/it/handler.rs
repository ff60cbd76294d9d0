//! A handler decides before anything is sent, and is told the rest in order.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use oriel_proxy::ProxyConfig;
use oriel_proxy::handler::{
    ConnectionMeta, HandlerDecision, InterceptHandler, ProcessInfo, RawRequest, RawResponse,
    RequestEdit, StreamChunk,
};
use parking_lot::Mutex;
use testbed::client::Request;
use testbed::upstream::{Protocols, Upstream};
use testbed::websocket::{BINARY, CONTINUATION, Frame, TEXT};
use traffic::rules::route::Unlisted;
use traffic::{BodySize, Event};
use uuid::Uuid;

use crate::running::{NAME, Running, authority_of, http, https, rules};
use crate::soon;

/// Notes what it is told, and decides by the path.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<(Uuid, String)>>>);

impl Notes {
    fn note(&self, id: Uuid, what: impl Into<String>) {
        self.0.lock().push((id, what.into()));
    }

    /// What was told of each id, in order of the ids.
    fn by_id(&self) -> Vec<String> {
        let notes = self.0.lock().clone();
        let mut ids: Vec<Uuid> = notes.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let told = |id: Uuid| {
            let own = notes.iter().filter(|(of, _)| *of == id);
            own.map(|(_, what)| what.as_str())
                .collect::<Vec<_>>()
                .join(" ")
        };
        ids.into_iter().map(told).collect()
    }
}

impl InterceptHandler for Notes {
    fn should_intercept_tls(&self, host: &str, _process: Option<&ProcessInfo>) -> bool {
        assert_eq!(host, NAME);
        true
    }

    async fn on_request(&self, request: &RawRequest) -> HandlerDecision {
        let id = request.connection_meta.connection_id;
        self.note(id, format!("{}{}", request.method, request.path));
        match request.path.as_str() {
            "/blocked" => HandlerDecision::Block {
                status: 451,
                body: Bytes::from_static(b"no"),
            },
            "/panic" => std::panic::resume_unwind(Box::new("this handler is broken")),
            "/slow" => std::future::pending().await,
            "/edit" => HandlerDecision::Edit(Box::new(RequestEdit {
                path: Some("/echo?edited".to_owned()),
                remove: vec![HeaderName::from_static("x-gone")],
                set: vec![(
                    HeaderName::from_static("x-new"),
                    HeaderValue::from_static("yes"),
                )],
                ..RequestEdit::default()
            })),
            "/smuggle" => HandlerDecision::Edit(Box::new(RequestEdit {
                path: Some("/ HTTP/1.1\r\nX: y\r\n\r\nGET /two".to_owned()),
                ..RequestEdit::default()
            })),
            "/to-head" | "/to-get" | "/to-put" => HandlerDecision::Edit(Box::new(RequestEdit {
                method: request.path.strip_prefix("/to-").map(str::to_uppercase),
                path: Some("/echo".to_owned()),
                ..RequestEdit::default()
            })),
            "/body" => HandlerDecision::Edit(Box::new(RequestEdit {
                path: Some("/echo".to_owned()),
                body: Some(Bytes::from([b"was ", &request.body[..]].concat())),
                ..RequestEdit::default()
            })),
            _ => HandlerDecision::Allow,
        }
    }

    async fn on_websocket_start(&self, response: &RawResponse) {
        let id = response.connection_meta.connection_id;
        self.note(id, format!("websocket({})", response.status));
    }

    async fn on_stream_chunk(&self, chunk: &StreamChunk) {
        let text = format!("{}#{}", chunk.frame_kind, chunk.sequence);
        self.note(chunk.connection_id, text);
    }

    async fn on_stream_end(&self, connection_id: Uuid) {
        self.note(connection_id, "end");
    }

    async fn on_response(&self, response: &RawResponse) {
        let id = response.connection_meta.connection_id;
        self.note(id, format!("{}({})", response.status, response.body.len()));
    }

    fn on_connection_open(&self, meta: &ConnectionMeta) {
        self.note(meta.connection_id, "open");
    }

    fn on_connection_close(&self, connection_id: Uuid) {
        self.note(connection_id, "close");
    }
}

async fn start(notes: &Notes, buffer: bool) -> Running {
    Running::with_handler(notes.clone(), |config| {
        config.handler.buffer_request_bodies = buffer;
        config.handler.request_timeout = std::time::Duration::from_millis(200);
        config.handler.body_bytes_max = 1000;
    })
    .await
}

#[tokio::test]
async fn decides_and_is_told_in_order_on_http1() {
    let (upstream, notes) = (https(Protocols::Http1).await, Notes::default());
    let running = start(&notes, false).await;
    let mut client = running.through_tls(&upstream, &["http/1.1"]).await;
    for (path, status) in [
        ("/blocked", 451),
        ("/", 200),
        ("/panic", 503),
        ("/slow", 503),
    ] {
        let request = Request::get(path).host(NAME);
        let response = soon(client.request(&request)).await.unwrap();
        assert_eq!(response.head.status, status, "{path}: {}", response.text());
    }
    drop(client);
    running.stop().await;
    let told = notes.by_id();
    let body = told[0]
        .split("200(")
        .nth(1)
        .unwrap()
        .split(')')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(
        told,
        [format!(
            "open GET/blocked 451(2) GET/ 200({body}) GET/panic GET/slow close"
        )]
    );
}

#[tokio::test]
async fn edits_heads_and_bodies() {
    let (upstream, notes) = (https(Protocols::Both).await, Notes::default());
    let running = start(&notes, true).await;
    let mut client = running.through_tls(&upstream, &["http/1.1"]).await;
    let edit = Request::get("/edit")
        .host(NAME)
        .header("X-Gone", "1")
        .header("X-Kept", "2");
    let response = soon(client.request(&edit)).await.unwrap();
    let text = response.text();
    assert!(text.contains("edited"), "{text}");
    assert!(
        text.contains("x-new: yes") && text.contains("X-Kept: 2"),
        "{text}"
    );
    assert!(!text.contains("X-Gone"), "{text}");
    let body = Request::post("/body", "hello").host(NAME);
    let response = soon(client.request(&body)).await.unwrap();
    assert!(
        response.text().ends_with("was hello"),
        "{}",
        response.text()
    );
    let smuggle = Request::get("/smuggle").host(NAME);
    let response = soon(client.request(&smuggle)).await.unwrap();
    assert_eq!(response.head.status, 503, "{}", response.text());
    let large = Request::post("/echo", vec![b'x'; 1001]).host(NAME);
    let response = soon(client.request(&large)).await.unwrap();
    assert_eq!(response.head.status, 413, "{}", response.text());

    let http2 = running.through_tls(&upstream, &["h2"]).await;
    let http2 = http2.start_http2().await.unwrap();
    let uri = |path: &str| format!("https://{NAME}{path}");
    let request = http::Request::post(uri("/body"))
        .body(Bytes::from_static(b"hello"))
        .unwrap();
    let response = soon(http2.request(request)).await.unwrap();
    assert!(
        response.text().ends_with("was hello"),
        "{}",
        response.text()
    );
    let large = http::Request::post(uri("/echo"))
        .body(vec![b'x'; 1001].into())
        .unwrap();
    assert_eq!(soon(http2.request(large)).await.unwrap().head.status, 413);
}

#[tokio::test]
async fn changes_the_method_where_the_client_can_still_tell_where_the_response_ends() {
    let (upstream, notes) = (https(Protocols::Both).await, Notes::default());
    let running = start(&notes, false).await;
    let mut http1 = running.through_tls(&upstream, &["http/1.1"]).await;
    let http2 = running.through_tls(&upstream, &["h2"]).await;
    let http2 = http2.start_http2().await.unwrap();
    for (method, path, expected) in [
        ("GET", "/to-head", 503),
        ("HEAD", "/to-get", 503),
        ("HEAD", "/to-head", 200),
        ("GET", "/to-put", 200),
        // What is asked next on the connection gets its own answer.
        ("GET", "/bytes/3", 200),
    ] {
        let request = Request::new(method, path).host(NAME);
        let response = soon(http1.request(&request)).await.unwrap();
        assert_eq!(response.head.status, expected, "{method} {path}");
        let request = http::Request::builder().method(method);
        let request = request.uri(format!("https://{NAME}{path}"));
        let request = request.body(Bytes::new()).unwrap();
        let over_http2 = soon(http2.request(request)).await.unwrap();
        assert_eq!(over_http2.head.status, expected, "{method} {path}");
        let texts = [response.text(), over_http2.text()];
        match (method, path) {
            ("HEAD", _) => assert_eq!(texts, ["", ""]),
            (_, "/to-put") => assert!(texts.iter().all(|text| text.starts_with("PUT /echo"))),
            (_, "/bytes/3") => assert!(texts.iter().all(|text| text.len() == 3)),
            _ => {}
        }
    }
    let refused = |received: &testbed::upstream::Received| received.path().starts_with("/to-");
    assert!(!upstream.received().iter().any(refused));
}

#[tokio::test]
async fn is_told_of_each_message_of_a_websocket() {
    let (upstream, notes) = (https(Protocols::Http1).await, Notes::default());
    let running = start(&notes, false).await;
    let client = running.through_tls(&upstream, &["http/1.1"]).await;
    let socket = client.start_websocket("/websocket", &[("Host", NAME)]);
    let mut socket = soon(socket).await.unwrap();
    for frame in [
        Frame::new(TEXT, "Hel").unfinished(),
        Frame::new(CONTINUATION, "lo"),
        Frame::new(BINARY, "bytes"),
        Frame::close(1000, ""),
    ] {
        socket.send(&frame).await.unwrap();
        assert_eq!(soon(socket.read()).await.unwrap(), Some(frame));
    }
    assert_eq!(soon(socket.read()).await.unwrap(), None);
    drop(socket);
    running.stop().await;
    assert_eq!(
        notes.by_id(),
        [
            "open GET/websocket websocket(101) websocket_text#0 websocket_text#0 websocket_binary#1 \
          websocket_binary#1 websocket_close#2 websocket_close#2 end close"
        ]
    );
}

#[tokio::test]
async fn does_not_wait_for_what_a_websocket_carries() {
    let (upstream, notes) = (https(Protocols::Http2).await, Notes::default());
    // Bodies are held until they are whole: a WebSocket over HTTP/2 is none.
    let running = start(&notes, true).await;
    let client = running.through_tls(&upstream, &["h2"]).await;
    let client = client.start_http2().await.unwrap();
    let url = |path| format!("https://{}{path}", authority_of(&upstream));
    let get = http::Request::get(url("/bytes/1")).body(Bytes::new());
    soon(client.request(get.unwrap())).await.unwrap();
    let url = url("/websocket");
    let socket = client.start_websocket(&url, &[]);
    let mut socket = soon(socket).await.unwrap();
    let frame = Frame::new(TEXT, "Hello");
    socket.send(&frame).await.unwrap();
    assert_eq!(soon(socket.read()).await.unwrap(), Some(frame));
    socket.close_write().await.unwrap();
    assert_eq!(soon(socket.read()).await.unwrap(), None);
    drop((socket, client));
    running.stop().await;
    let told = notes.by_id();
    let expected =
        "open CONNECT/websocket websocket(200) websocket_text#0 websocket_text#0 end close";
    assert!(told.iter().any(|told| told == expected), "{told:?}");
}

#[tokio::test]
async fn each_http2_stream_is_told_on_its_own() {
    let (upstream, notes) = (https(Protocols::Both).await, Notes::default());
    let running = start(&notes, false).await;
    let http2 = running.through_tls(&upstream, &["h2"]).await;
    let http2 = http2.start_http2().await.unwrap();
    for path in ["/blocked", "/"] {
        let uri = format!("https://{NAME}{path}");
        let request = http::Request::get(uri).body(Bytes::new()).unwrap();
        soon(http2.request(request)).await.unwrap();
    }
    drop(http2);
    running.stop().await;
    let told = notes.by_id();
    assert_eq!(told[0], "open close");
    assert_eq!(told[1], "open GET/blocked 451(2) close");
    assert!(told[2].starts_with("open GET/ 200("), "{told:?}");
    assert!(told[2].ends_with(") close"), "{told:?}");
    assert_eq!(told.len(), 3);
}

/// Posts something that is not to be told, by the URL of the target and in clear.
async fn post_in_clear(running: &Running, upstream: &Upstream, is_http2: bool) -> u16 {
    let url = format!("http://{}/echo/SECRET?q=SECRET", authority_of(upstream));
    let client = running.connect().await;
    if is_http2 {
        let client = client.start_http2().await.unwrap();
        let post = http::Request::post(url).header("x-own", "SECRET");
        let request = post.body(Bytes::from_static(b"SECRET")).unwrap();
        return soon(client.request(request)).await.unwrap().head.status;
    }
    let mut client = client;
    let request = Request::post(&url, "SECRET")
        .host("a")
        .header("X-Own", "SECRET");
    soon(client.request(&request)).await.unwrap().head.status
}

#[tokio::test]
async fn of_a_bypassed_host_nothing_is_told_but_that_it_was_asked() {
    for is_http2 in [false, true] {
        let (upstream, notes) = (http().await, Notes::default());
        let bypassed = |config: &mut ProxyConfig| {
            config.rules = rules(&["*"], &[NAME], Unlisted::Tunnel);
        };
        let running = Running::with_handler(notes.clone(), bypassed).await;
        let status = post_in_clear(&running, &upstream, is_http2).await;
        let received = upstream.wait_for_requests(1).await.remove(0);
        assert!(received.target.ends_with("/echo/SECRET?q=SECRET"));
        let flow = running.recorder.only_flow().await;
        let told = format!("{flow:?}");
        assert!(!told.contains("SECRET"), "{told}");
        let line = format!("POST http://{} HTTP/", authority_of(&upstream));
        let start_line = flow.started.head.start_line();
        assert!(start_line.starts_with(line.as_bytes()), "{told}");
        assert_eq!(flow.started.head.fields().count(), 0);
        let response = flow.events.iter().find_map(|event| match event {
            Event::ResponseStarted { head, .. } => Some(head.clone()),
            _ => None,
        });
        let response = response.unwrap();
        assert_eq!(
            (response.status(), response.fields().count()),
            (Some(status), 0)
        );
        let size = |seen| Some(BodySize { seen, kept: 0 });
        let (request, response) = flow.sizes();
        assert_eq!(request, size(6));
        assert!(response.is_some_and(|size| size.seen > 0 && size.kept == 0));
        assert!(flow.completed());
        let (_, recorder) = running.stop().await;
        drop(recorder);
        let told = notes.by_id().join(" ");
        assert!(!told.contains("POST") && !told.contains("SECRET"), "{told}");
    }
}

#[tokio::test]
async fn of_a_host_on_no_list_what_is_said_in_clear_is_told() {
    for is_http2 in [false, true] {
        let upstream = http().await;
        let unlisted = |config: &mut ProxyConfig| {
            config.rules = rules(&["api.example"], &[], Unlisted::Tunnel);
        };
        let running = Running::with(unlisted).await;
        post_in_clear(&running, &upstream, is_http2).await;
        let flow = running.recorder.only_flow().await;
        assert_eq!(flow.request_body(), b"SECRET");
        assert!(format!("{:?}", flow.started.head).contains("/echo/SECRET?q=SECRET"));
    }
}
