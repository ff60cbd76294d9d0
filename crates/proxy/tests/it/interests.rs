//! A handler chooses per request whether it wants the head, the body, what comes back, or nothing.

use std::sync::Arc;

use bytes::Bytes;
use oriel_proxy::{
    HandlerDecision, InterceptHandler, Interests, RawRequest, RawResponse, RequestLine, StreamChunk,
};
use parking_lot::Mutex;
use testbed::client::Request;
use testbed::upstream::Protocols;
use uuid::Uuid;

use crate::running::{NAME, Running, https};
use crate::soon;

/// Chooses by the query, and notes what it is asked and told.
#[derive(Clone, Default)]
struct Chooses {
    /// Method, target and path of what it was to choose for.
    lines: Arc<Mutex<Vec<String>>>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Chooses {
    fn note(&self, call: impl Into<String>) {
        self.calls.lock().push(call.into());
    }
}

impl InterceptHandler for Chooses {
    fn interests_in(&self, request: &RequestLine<'_>) -> Interests {
        let RequestLine {
            method,
            target,
            path,
            ..
        } = request;
        self.lines.lock().push(format!("{method} {target} {path}"));
        let chosen = path.rsplit(['?', '&']).next().unwrap();
        match chosen {
            "nothing" => Interests::NONE,
            "heads" => Interests::REQUEST_HEADS,
            "answers" => Interests {
                responses: true,
                ..Interests::NONE
            },
            "chunks" => Interests {
                stream_chunks: true,
                ..Interests::NONE
            },
            "broken" => std::panic::resume_unwind(Box::new("this handler is broken")),
            _ => Interests::ALL,
        }
    }

    async fn on_request(&self, request: &RawRequest) -> HandlerDecision {
        self.note(format!("request({})", request.body.len()));
        HandlerDecision::Allow
    }

    async fn on_response(&self, response: &RawResponse) {
        self.note(format!("response({})", response.body.len()));
    }

    async fn on_stream_chunk(&self, _chunk: &StreamChunk) {
        self.note("chunk");
    }

    async fn on_stream_end(&self, _connection_id: Uuid) {
        self.note("end");
    }
}

/// Has these requests made on one connection, in this version; answers with their statuses, and with what the
/// handler was told.
async fn ask(version: &str, requests: &[(&str, usize)]) -> (Vec<u16>, Chooses, u64) {
    let (upstream, chooses) = (https(Protocols::Both).await, Chooses::default());
    let running = Running::with_handler(chooses.clone(), |config| {
        config.handler.buffer_request_bodies = true;
        config.handler.body_bytes_max = 1000;
    })
    .await;
    let mut statuses = Vec::new();
    let client = running.through_tls(&upstream, &[version]).await;
    if version == "h2" {
        let client = client.start_http2().await.unwrap();
        for (path, size) in requests {
            let request = http::Request::post(format!("https://{NAME}{path}"));
            let request = request.body(Bytes::from(vec![b'x'; *size])).unwrap();
            statuses.push(soon(client.request(request)).await.unwrap().head.status);
        }
    } else {
        let mut client = client;
        for (path, size) in requests {
            let request = Request::post(path, vec![b'x'; *size]).host(NAME);
            statuses.push(soon(client.request(&request)).await.unwrap().head.status);
        }
    }
    let panics = running.control.metrics().handler_panic_count;
    running.stop().await;
    (statuses, chooses, panics)
}

#[tokio::test]
async fn each_request_is_shown_as_its_handler_wants_it() {
    const EVENTS: &str = "/sse?events=2&delay_ms=0";
    for version in ["http/1.1", "h2"] {
        for (path, size, status, expected) in [
            ("/bytes/5?nothing", 2000, 200, ""),
            // Nothing of the body is held, so that it may be larger than what may be held.
            ("/bytes/5?heads", 2000, 200, "request(0)"),
            ("/bytes/5?whole", 2000, 413, ""),
            ("/bytes/5?whole", 10, 200, "request(10) response(5)"),
            ("/bytes/5?answers", 2000, 200, "response(0)"),
            (&format!("{EVENTS}&nothing"), 1, 200, ""),
            (&format!("{EVENTS}&answers"), 1, 200, "response(0)"),
            (&format!("{EVENTS}&chunks"), 1, 200, "chunk chunk end"),
            (
                &format!("{EVENTS}&whole"),
                1,
                200,
                "request(1) response(0) chunk chunk end",
            ),
        ] {
            let (statuses, chooses, panics) = ask(version, &[(path, size)]).await;
            let calls = chooses.calls.lock().join(" ");
            assert_eq!((statuses, panics), (vec![status], 0), "{version} {path}");
            assert_eq!(calls, expected, "{version} {path}");
            let lines = chooses.lines.lock();
            assert_eq!(lines.len(), 1, "{version}: {lines:?}");
            let (method, rest) = lines[0].split_once(' ').unwrap();
            let (target, asked) = rest.split_once(' ').unwrap();
            assert_eq!((method, asked), ("POST", path));
            assert!(target.starts_with(NAME), "{target}");
        }
    }
}

#[tokio::test]
async fn what_one_request_is_of_interest_for_does_not_hold_for_the_next() {
    let requests = [
        ("/bytes/1?whole", 3),
        ("/bytes/2?nothing", 2000),
        ("/bytes/3?answers", 2000),
        ("/bytes/4?heads", 2000),
        ("/bytes/5?whole", 4),
    ];
    let (statuses, chooses, _) = ask("http/1.1", &requests).await;
    assert_eq!(statuses, [200; 5]);
    assert_eq!(
        chooses.calls.lock().join(" "),
        "request(3) response(1) response(0) request(0) request(4) response(5)"
    );
}

#[tokio::test]
async fn a_handler_that_fails_to_choose_is_asked_and_told_everything() {
    for version in ["http/1.1", "h2"] {
        let (statuses, chooses, panics) = ask(version, &[("/bytes/5?broken", 10)]).await;
        assert_eq!((statuses, panics), (vec![200], 1));
        assert_eq!(chooses.calls.lock().join(" "), "request(10) response(5)");
    }
}

#[tokio::test]
async fn a_panic_that_is_not_to_stay_in_the_choice_ends_its_connection_and_no_other() {
    let (upstream, chooses) = (https(Protocols::Both).await, Chooses::default());
    let running = Running::with_handler(chooses.clone(), |config| {
        config.handler.recover_from_panics = false;
    })
    .await;
    let broken = Request::get("/bytes/5?broken").host(NAME);
    let whole = Request::get("/bytes/5?whole").host(NAME);
    let mut other = running.through_tls(&upstream, &["http/1.1"]).await;
    assert_eq!(soon(other.request(&whole)).await.unwrap().head.status, 200);
    for version in ["http/1.1", "h2"] {
        let mut client = running.through_tls(&upstream, &[version]).await;
        let answer = match version {
            "h2" => {
                let client = client.start_http2().await.unwrap();
                let request = http::Request::get(format!("https://{NAME}/bytes/5?broken"));
                soon(client.request(request.body(Bytes::new()).unwrap())).await
            }
            _ => soon(client.request(&broken)).await,
        };
        assert!(answer.is_err(), "{version}: {answer:?}");
    }
    assert_eq!(running.control.metrics().handler_panic_count, 2);
    assert_eq!(soon(other.request(&whole)).await.unwrap().head.status, 200);
    running.stop().await;
}
