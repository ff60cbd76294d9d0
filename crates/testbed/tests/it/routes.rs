//! The shapes of response, by HTTP/1.1 and by HTTP/2.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use oriel_testbed::authority::Authority;
use oriel_testbed::client::{Client, Request};
use oriel_testbed::gate::Gate;
use oriel_testbed::message::Framing;
use oriel_testbed::script::Step;
use oriel_testbed::upstream::{Protocols, Upstream, UpstreamOptions, Version, pattern};

use crate::{NAME, connect_tls, start_http, start_http2, start_https};

fn get(path: &str) -> http::Request<Bytes> {
    http::Request::get(format!("https://{NAME}{path}"))
        .body(Bytes::new())
        .unwrap()
}

fn pattern_bytes(start: u64, length: u64) -> Vec<u8> {
    pattern(start, length).flatten().collect()
}

#[tokio::test]
async fn one_http1_connection_serves_many_requests() {
    let (upstream, mut client) = start_http().await;
    for path in [
        "/bytes/100000",
        "/chunked/50000?size=777",
        "/",
        "/status/503",
    ] {
        let response = client
            .request(&Request::get(path).host(NAME))
            .await
            .unwrap();
        let expected = match path {
            "/bytes/100000" => pattern_bytes(0, 100_000),
            "/chunked/50000?size=777" => pattern_bytes(0, 50_000),
            "/" => b"testbed upstream\n".to_vec(),
            _ => b"status 503\n".to_vec(),
        };
        assert_eq!(response.body.kept, expected, "{path}");
        assert!(response.timing.head <= response.timing.complete);
    }
    assert_eq!(upstream.connection_count(), 1);
    assert_eq!(upstream.wait_for_requests(4).await.len(), 4);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (_upstream, mut client) = start_http().await;
    let paths = ["/bytes/3", "/status/404", "/bytes/5"];
    let requests = paths.map(|path| Request::get(path).host(NAME));
    let responses = client.pipeline(&requests).await.unwrap();
    let lengths: Vec<u64> = responses
        .iter()
        .map(|response| response.body.seen)
        .collect();
    assert_eq!(lengths, [3, 11, 5]);
}

#[tokio::test]
async fn ranges_continue_where_a_client_left_off() {
    let (_upstream, mut client) = start_http().await;
    let request = Request::get("/bytes/1000")
        .host(NAME)
        .header("Range", "bytes=400-");
    let response = client.request(&request).await.unwrap();
    assert_eq!(response.head.status, 206);
    assert_eq!(
        response.head.headers.get("content-range"),
        Some("bytes 400-999/1000")
    );
    assert_eq!(response.body.kept, pattern_bytes(400, 600));
}

#[tokio::test]
async fn head_and_bodiless_answers_keep_the_connection_in_step() {
    let (_upstream, mut client) = start_http().await;
    let head = client
        .request(&Request::new("HEAD", "/bytes/42").host(NAME))
        .await
        .unwrap();
    assert_eq!(head.head.headers.get("content-length"), Some("42"));
    for status in [204, 304] {
        let request = Request::get(&format!("/status/{status}")).host(NAME);
        assert_eq!(client.request(&request).await.unwrap().head.status, status);
    }
    let after = client
        .request(&Request::get("/bytes/1").host(NAME))
        .await
        .unwrap();
    assert_eq!(after.body.seen, 1);
}

#[tokio::test]
async fn trailers_and_early_hints_arrive() {
    let (_upstream, mut client) = start_http().await;
    let response = client
        .request(&Request::get("/trailers").host(NAME))
        .await
        .unwrap();
    assert_eq!(response.body.trailers.get("x-checksum"), Some("abc123"));
    let response = client
        .request(&Request::get("/early-hints").host(NAME))
        .await
        .unwrap();
    assert_eq!(response.interim.len(), 1);
    assert_eq!(response.interim[0].status, 103);
    assert_eq!(response.text(), "after the hint\n");
}

#[tokio::test]
async fn expect_continue_is_answered_before_the_body() {
    let (upstream, mut client) = start_http().await;
    let head = "POST /upload HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\
                Content-Length: 5\r\n\r\n";
    client.send(head).await.unwrap();
    assert_eq!(client.read_head().await.unwrap().status, 100);
    client.send("hello").await.unwrap();
    let response = client.read_response("POST").await.unwrap();
    assert_eq!(response.text(), r#"{"received":5}"#);
    assert_eq!(upstream.received()[0].raw_head, head);
    assert_eq!(upstream.received()[0].body.kept, "hello");
}

#[tokio::test]
async fn a_refused_expectation_needs_no_body() {
    let (_upstream, mut client) = start_http().await;
    let head = "POST /continue/refuse HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\
                Content-Length: 5\r\n\r\n";
    client.send(head).await.unwrap();
    assert_eq!(client.read_response("POST").await.unwrap().head.status, 417);
}

#[tokio::test]
async fn broken_answers_are_seen_as_broken() {
    let cases = [
        ("/truncate?size=1000", io::ErrorKind::UnexpectedEof, 500),
        ("/reset?after=300", io::ErrorKind::ConnectionReset, 300),
    ];
    for (path, kind, seen) in cases {
        let (_upstream, mut client) = start_http().await;
        client
            .send(Request::get(path).host(NAME).to_bytes())
            .await
            .unwrap();
        let body = client.read_response("GET").await.unwrap().body;
        assert_eq!(body.broken, Some(kind), "{path}");
        assert!(body.seen <= seen, "{path}");
    }
}

#[tokio::test]
async fn a_close_delimited_body_ends_with_the_connection() {
    let (_upstream, mut client) = start_http().await;
    let request = Request::get("/close-delimited?size=70000").host(NAME);
    let response = client.request(&request).await.unwrap();
    assert_eq!(response.head.framing("GET").unwrap(), Framing::Close);
    assert_eq!(response.body.kept, pattern_bytes(0, 70_000));
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let (_upstream, mut client) = start_http().await;
    let request = Request::get("/sse?events=3&delay_ms=20").host(NAME);
    let response = client.request(&request).await.unwrap();
    assert!(response.timing.complete - response.timing.head >= Duration::from_millis(30));
    assert_eq!(response.text().matches("data: ").count(), 3);
}

#[tokio::test]
async fn compressed_answers_differ_but_decode_alike() {
    let (_upstream, mut client) = start_http().await;
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let request = Request::get(&format!("/{encoding}")).host(NAME);
        let response = client.request(&request).await.unwrap();
        assert_eq!(
            response.head.headers.get("content-encoding"),
            Some(encoding)
        );
        assert!(
            response.body.seen < 2000,
            "{encoding}: {}",
            response.body.seen
        );
    }
}

#[tokio::test]
async fn http2_streams_run_side_by_side() {
    let (upstream, client) = start_http2().await;
    let requests =
        (0..50_u64).map(|index| client.request(get(&format!("/bytes/{}", index * 5000))));
    let responses = futures_util::future::try_join_all(requests).await.unwrap();
    for (index, response) in (0_u64..).zip(responses) {
        assert_eq!(response.body.seen, index * 5000);
    }
    assert_eq!(
        (upstream.connection_count(), upstream.request_count()),
        (1, 50)
    );
    assert_eq!(upstream.received()[0].version, Version::Http2);
}

#[tokio::test]
async fn http2_has_interim_heads_trailers_and_uploads() {
    let (_upstream, client) = start_http2().await;
    let hints = client.request(get("/early-hints")).await.unwrap();
    assert_eq!(hints.interim[0].status, 103);
    let trailers = client.request(get("/trailers")).await.unwrap();
    assert_eq!(trailers.body.trailers.get("x-timing"), Some("db;dur=2"));
    let upload = http::Request::post(format!("https://{NAME}/upload"))
        .body(Bytes::from(vec![b'x'; 3_000_000]))
        .unwrap();
    let counted = client.request(upload).await.unwrap();
    assert_eq!(counted.text(), r#"{"received":3000000}"#);
}

#[tokio::test]
async fn http2_resets_carry_their_code() {
    let (_upstream, client) = start_http2().await;
    let error = client.request(get("/reset?code=11")).await.unwrap_err();
    let error = error
        .get_ref()
        .unwrap()
        .downcast_ref::<h2::Error>()
        .unwrap();
    assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    let after = client.request(get("/bytes/1")).await.unwrap();
    assert_eq!(after.body.seen, 1);
}

#[tokio::test]
async fn a_script_sees_exact_bytes_within_tls() {
    let authority = Authority::new("test");
    let (asked, go) = (Gate::new(), Gate::new());
    let steps = vec![
        Step::ReadHead,
        Step::Open(asked.clone()),
        Step::Wait(go.clone()),
        Step::send("HTTP/1.1 200 Fine  Indeed\r\nx-B: 1\r\nX-b: 2\r\nContent-Length: 0\r\n\r\n"),
        Step::ReadToEnd,
    ];
    let options = UpstreamOptions::scripts(Some(authority.issue(&[NAME])), vec![steps]);
    let upstream = Upstream::start(options).await.unwrap();
    let mut client = connect_tls(&authority, &upstream, NAME, &["http/1.1"])
        .await
        .unwrap();
    client
        .send("GET / HTTP/1.1\r\nhOsT: a\r\n\r\n")
        .await
        .unwrap();
    asked.wait().await;
    go.open();
    let response = client.read_response("GET").await.unwrap();
    assert_eq!(response.head.reason, "Fine  Indeed");
    client.close_write().await.unwrap();
    let played = upstream.wait_for_scripts(1).await;
    assert_eq!(played[0].received, "GET / HTTP/1.1\r\nhOsT: a\r\n\r\n");
    assert!(played[0].failure.is_none());
}

#[tokio::test]
async fn stopping_an_upstream_ends_its_connections() {
    let authority = Authority::new("test");
    let upstream = start_https(&authority, Protocols::Http1).await;
    let mut client = connect_tls(&authority, &upstream, NAME, &["http/1.1"])
        .await
        .unwrap();
    client
        .send(Request::get("/hang").host(NAME).to_bytes())
        .await
        .unwrap();
    upstream.wait_for_requests(1).await;
    let address = upstream.address();
    upstream.stop().await;
    assert!(client.read_head().await.is_err());
    assert!(Client::connect(address).await.is_err());
}
