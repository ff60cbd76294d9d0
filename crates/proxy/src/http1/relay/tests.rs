//! Scripts over two connections in memory, with the clock under control.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;
use traffic::{
    ConnectionFacts, ConnectionId, FailureKind, FlowKind, Front, NoTls, Route, Scheme, Side,
    Target, Timestamp,
};

use super::*;
use crate::stream::{Replay, Transport, Wire};
use crate::tap::{Opening, Tap};

const IDLE: Duration = Duration::from_secs(60);

/// Runs one flow between two ends in memory that `script` drives.
async fn relay<S>(
    request: &str,
    script: impl FnOnce(DuplexStream, DuplexStream) -> S,
) -> (Result<Reuse, Broken>, S::Output)
where
    S: Future,
{
    let (client_end, client) = duplex(64 * 1024);
    let (upstream_end, upstream) = duplex(64 * 1024);
    let (mut client, mut upstream) = (http1(client), http1(upstream));
    client.input.extend_from_slice(request.as_bytes());
    let length = client.find_head(LineEnd::CrLf).unwrap().unwrap();
    let head = head::parse_request(&client.input[..length], Vec::new()).unwrap();
    let bytes = client.input.split_to(length);
    let start = [&bytes[..head.lines[0].start]];
    head::write_request(
        &head,
        &bytes,
        &start,
        head::Replaced::default(),
        &mut upstream.output,
    );
    upstream.output.extend_from_slice(b"\r\n");
    let tap = Tap::new(None, 0, Arc::default(), Arc::default(), None);
    let mut reporter = tap.reporter(crate::metrics::Protocol::Http1);
    let (connection, route) = (Arc::new(facts()), Arc::new(route()));
    let target = Arc::new(Target::parse("a.example", 80).unwrap());
    let opening = Opening {
        at: Some(Timestamp(0)),
        kind: FlowKind::Http,
        connection: &connection,
        scheme: Scheme::Http,
        target: &target,
        route: &route,
        in_outline: false,
    };
    let mut flow = reporter.start(&opening, |_| unreachable!("nobody watches"));
    let is_head = request.starts_with("HEAD");
    let (result, told) = tokio::join!(
        async {
            let (client, upstream) = (&mut client, &mut upstream);
            let stays = head.keep_alive;
            let result = Relay::new(client, upstream, &mut flow, &head, is_head, IDLE, stays)
                .run()
                .await
                .map(|relayed| match relayed {
                    Relayed::Whole(reuse) => reuse,
                    Relayed::Switched(accepted) => unreachable!("{accepted:?}"),
                });
            // Both ends see an end, so that scripts can read to it.
            close(client).await;
            close(upstream).await;
            result
        },
        script(client_end, upstream_end)
    );
    flow.complete();
    (result, told)
}

fn facts() -> ConnectionFacts {
    ConnectionFacts {
        connection: ConnectionId(1),
        client_address: std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into(),
        proxy_address: std::net::SocketAddr::from(([127, 0, 0, 1], 2)).into(),
        accepted_at: Timestamp(0),
        front: Front::AbsoluteForm,
        user: None,
        process: None,
        hello: None,
        tls: Err(NoTls::PlainHttp),
        tls_done_at: None,
    }
}

fn route() -> Route {
    Route {
        action: traffic::Action::Intercept,
        rule: String::new(),
    }
}

async fn close(connection: &mut Http1) {
    let io = std::mem::replace(connection, http1(duplex(1).0));
    io.close(Duration::ZERO).await;
}

fn http1(end: DuplexStream) -> Http1 {
    Http1::new(
        Transport::Plain(Replay::new(Wire::Memory(end))),
        BytesMut::new(),
    )
}

async fn read_all(mut end: DuplexStream) -> String {
    let mut all = Vec::new();
    end.read_to_end(&mut all).await.unwrap();
    String::from_utf8(all).unwrap()
}

async fn expect(end: &mut DuplexStream, text: &str) {
    let mut got = vec![0; text.len()];
    end.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&got), text);
}

#[tokio::test(start_paused = true)]
async fn framing_and_timing_of_chunks_are_those_of_the_upstream() {
    let (result, ()) = relay(
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        async |mut client, mut upstream| {
            expect(&mut upstream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            upstream
                .write_all(b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await
                .unwrap();
            expect(
                &mut client,
                "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n",
            )
            .await;
            // Each chunk is there before the next one is sent.
            for chunk in ["3;x=y\r\nabc\r\n", "0003\r\ndef\r\n", "0\r\nT: 1\r\n\r\n"] {
                upstream.write_all(chunk.as_bytes()).await.unwrap();
                expect(&mut client, chunk).await;
            }
        },
    )
    .await;
    assert_eq!(
        result.unwrap(),
        Reuse {
            client: true,
            upstream: true,
            until_close: false
        }
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_request_is_whole_passes() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345";
    let (result, answer) = relay(request, async |client, mut upstream| {
        expect(&mut upstream, request).await;
        upstream
            .write_all(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        read_all(client).await
    })
    .await;
    assert_eq!(answer, "HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(
        result.unwrap(),
        Reuse {
            client: false,
            upstream: false,
            until_close: false
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_upstream_times_out() {
    let begun = Instant::now();
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (result, _) = relay(request, async |client, upstream| (client, upstream)).await;
    let broken = result.unwrap_err();
    assert_eq!(
        (broken.failure.side, broken.failure.kind),
        (Side::Upstream, FailureKind::TimedOut)
    );
    assert!(!broken.responded);
    assert_eq!(begun.elapsed(), IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_is_what_timed_out() {
    let begun = Instant::now();
    let body = vec![b'x'; 1024 * 1024];
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ] {
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let (result, _client) = relay(request, async |client, mut upstream| {
            upstream.write_all(head.as_bytes()).await.unwrap();
            // It is taken no further than the client takes it.
            let sent = upstream.write_all(&body).await;
            assert!(sent.is_err(), "all of it was taken");
            client
        })
        .await;
        let broken = result.unwrap_err();
        let failure = broken.failure;
        let what = (failure.side, failure.stage, failure.kind);
        let expected = (Side::Client, Stage::Response, FailureKind::TimedOut);
        assert_eq!(what, expected, "{}", failure.text);
        assert!(broken.responded);
    }
    assert_eq!(begun.elapsed(), 2 * IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ended_its_side_is_answered_if_it_is_quick() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (result, answer) = relay(request, async |mut client, mut upstream| {
        client.shutdown().await.unwrap();
        tokio::time::sleep(HALF_CLOSED / 2).await;
        upstream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await
            .unwrap();
        read_all(client).await
    })
    .await;
    assert!(result.is_ok());
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_ends_the_flow() {
    let begun = Instant::now();
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (result, _upstream) = relay(request, async |mut client, upstream| {
        client.shutdown().await.unwrap();
        upstream
    })
    .await;
    let broken = result.unwrap_err();
    assert_eq!(
        (broken.failure.side, broken.failure.kind),
        (Side::Client, FailureKind::ClosedEarly)
    );
    assert_eq!(begun.elapsed(), HALF_CLOSED);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_cut_is_never_complete() {
    for framing in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let (result, answer) = relay(request, async |client, mut upstream| {
            let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n");
            upstream.write_all(head.as_bytes()).await.unwrap();
            upstream.write_all(b"3").await.unwrap();
            drop(upstream);
            read_all(client).await
        })
        .await;
        let broken = result.unwrap_err();
        assert!(broken.responded && !broken.until_close);
        assert_eq!(broken.failure.kind, FailureKind::ClosedEarly);
        assert!(answer.ends_with("\r\n\r\n3"), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn surplus_octets_never_answer_the_next_request() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (result, answer) = relay(request, async |client, mut upstream| {
        let surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n";
        upstream.write_all(surplus).await.unwrap();
        read_all(client).await
    })
    .await;
    assert_eq!(
        result.unwrap(),
        Reuse {
            client: true,
            upstream: false,
            until_close: false
        }
    );
    assert!(answer.ends_with("\r\n\r\nok"));
}

#[tokio::test(start_paused = true)]
async fn a_switch_of_protocols_that_nobody_asked_for_is_refused() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (result, answer) = relay(request, async |client, mut upstream| {
        upstream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            .await
            .unwrap();
        read_all(client).await
    })
    .await;
    assert_eq!(result.unwrap_err().failure.kind, FailureKind::Malformed);
    assert_eq!(answer, "");
}
