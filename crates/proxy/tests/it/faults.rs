//! Peers that refuse, fall silent, reset or stop in the middle: the other side always sees that
//! something is missing, and the flow says what.

use std::io;
use std::time::Duration;

use testbed::client::{Client, Request};
use testbed::gate::Gate;
use testbed::script::Step;
use testbed::upstream::Upstream;
use traffic::{Event, FailureKind, Sender, Side, Stage};

use crate::recorder::passed;
use crate::running::{NAME, Running, authority_of, http, scripted};
use crate::soon;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A connection in clear and one within TLS to upstreams that play the same script.
async fn both(script: Vec<Step>) -> Vec<(Running, Upstream, Client)> {
    let mut all = Vec::new();
    for tls in [false, true] {
        let upstream = scripted(tls, vec![script.clone()]).await;
        let running = Running::start().await;
        let client = if tls {
            running.through_tls(&upstream, &["http/1.1"]).await
        } else {
            running.through(&upstream).await
        };
        all.push((running, upstream, client));
    }
    all
}

#[tokio::test]
async fn an_upstream_that_refuses_is_answered_with_502() {
    let gone = http().await;
    let authority = authority_of(&gone);
    gone.stop().await;
    let running = Running::start().await;
    let mut client = running.connect().await;
    let request = Request::get(&format!("http://{authority}/")).host("x");
    let response = soon(client.request(&request)).await.unwrap();
    assert_eq!(response.head.status, 502);
    let proxy_status = response.head.headers.get("proxy-status").unwrap();
    assert!(
        proxy_status.contains("error=connection_refused"),
        "{proxy_status}"
    );
    let flow = running.recorder.only_flow().await;
    let (failure, replied) = flow.failure();
    assert_eq!((failure.side, failure.stage), (Side::Upstream, Stage::Dial));
    assert_eq!((failure.kind, replied), (FailureKind::Refused, Some(502)));
    // The next request on the connection has nothing to do with it.
    let upstream = http().await;
    let request = Request::get(&format!("http://{}/", authority_of(&upstream))).host("x");
    assert_eq!(
        soon(client.request(&request)).await.unwrap().head.status,
        200
    );
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_502() {
    let running = Running::start().await;
    let mut client = running.connect().await;
    let request = Request::get("http://nowhere.invalid/").host("x");
    let response = soon(client.request(&request)).await.unwrap();
    assert_eq!(response.head.status, 502);
    let flow = running.recorder.only_flow().await;
    assert_eq!(flow.failure().0.kind, FailureKind::NameNotResolved);
}

#[tokio::test]
async fn an_upstream_that_closes_before_it_answers_is_answered_with_502() {
    for partly in ["", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let script = vec![Step::ReadHead, Step::send(partly), Step::CloseWrite];
        for (running, _upstream, mut client) in both(script).await {
            client.send(GET).await.unwrap();
            let response = soon(client.read_response("GET")).await.unwrap();
            assert_eq!(response.head.status, 502, "{partly:?}");
            let flow = running.recorder.only_flow().await;
            let (failure, _) = flow.failure();
            assert_eq!(
                (failure.side, failure.kind),
                (Side::Upstream, FailureKind::ClosedEarly)
            );
            assert_eq!(flow.cut(), [], "nothing of the answer came");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_speak_http_is_answered_at_once() {
    // HTTP/0.9, a body that is longer than was said, the server of another protocol.
    for said in ["<html>\r\n", "HTTP/1.1 100 Continue\r\n\r\nData\r\n", "220"] {
        // It neither ends its line nor closes.
        let script = vec![Step::ReadHead, Step::send(said), Step::ReadToEnd];
        for (running, _upstream, mut client) in both(script).await {
            client.send(GET).await.unwrap();
            let mut response = soon(client.read_response("GET")).await.unwrap();
            if response.head.status == 100 {
                response = soon(client.read_response("GET")).await.unwrap();
            }
            assert_eq!(response.head.status, 502, "{said:?}");
            let flow = running.recorder.only_flow().await;
            let (failure, _) = flow.failure();
            assert_eq!(
                (failure.side, failure.kind),
                (Side::Upstream, FailureKind::Malformed)
            );
        }
    }
}

#[tokio::test]
async fn a_response_that_stops_in_the_middle_is_seen_as_broken() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for half in [length, chunked] {
        for end in [Step::CloseWrite, Step::Reset] {
            let seen = Gate::new();
            let script = vec![
                Step::ReadHead,
                Step::send(half),
                Step::Wait(seen.clone()),
                end.clone(),
            ];
            for (running, _upstream, mut client) in both(script).await {
                client.send(GET).await.unwrap();
                soon(client.read_until("hello")).await.unwrap();
                seen.open();
                let rest = soon(client.read_to_end()).await;
                // What comes after the half is never the end of the body.
                assert!(
                    rest.as_ref()
                        .is_ok_and(|rest| !rest.ends_with(b"0\r\n\r\n"))
                        || rest.is_err()
                );
                let flow = running.recorder.only_flow().await;
                let (failure, replied) = flow.failure();
                assert_eq!(
                    (failure.side, failure.stage),
                    (Side::Upstream, Stage::Response)
                );
                assert_eq!(replied, None);
                assert_eq!(flow.response_body(), b"hello");
            }
        }
    }
}

#[tokio::test]
async fn a_body_until_close_that_breaks_never_ends_in_order() {
    // Not every TLS client heeds a missing close_notify, so there is a reset as well.
    for (tls, end) in [
        (false, Some(Step::Reset)),
        (true, Some(Step::Reset)),
        (true, None),
    ] {
        let seen = Gate::new();
        let mut script = vec![
            Step::ReadHead,
            Step::send("HTTP/1.1 200 OK\r\n\r\nhello"),
            Step::Wait(seen.clone()),
        ];
        script.extend(end.clone());
        let upstream = scripted(tls, vec![script]).await;
        let running = Running::start().await;
        let mut client = match tls {
            true => running.through_tls(&upstream, &["http/1.1"]).await,
            false => running.through(&upstream).await,
        };
        client.send(GET).await.unwrap();
        soon(client.read_until("hello")).await.unwrap();
        seen.open();
        let error = soon(client.read_to_end()).await.unwrap_err();
        assert_eq!(
            error.kind(),
            io::ErrorKind::ConnectionReset,
            "{tls} {end:?}"
        );
        let flow = running.recorder.only_flow().await;
        assert_eq!(flow.failure().0.side, Side::Upstream);
    }
}

#[tokio::test]
async fn an_http10_client_sees_a_broken_response_as_broken() {
    // Its body ends with the connection, whatever the upstream's does.
    let seen = Gate::new();
    let script = vec![
        Step::ReadHead,
        Step::send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        Step::Wait(seen.clone()),
        Step::CloseWrite,
    ];
    for (running, _upstream, mut client) in both(script).await {
        client
            .send("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        soon(client.read_until("hello")).await.unwrap();
        seen.open();
        soon(client.read_to_end()).await.unwrap_err();
        assert_eq!(
            running.recorder.only_flow().await.failure().0.kind,
            FailureKind::ClosedEarly
        );
    }
}

#[tokio::test]
async fn an_upstream_that_never_answers_is_answered_with_504() {
    let upstream = http().await;
    let running =
        Running::with(|config| config.timeouts.idle_body = Duration::from_millis(60)).await;
    let mut client = running.through(&upstream).await;
    let request = Request::get("/hang").host(NAME);
    let response = soon(client.request(&request)).await.unwrap();
    assert_eq!(response.head.status, 504);
    let proxy_status = response.head.headers.get("proxy-status").unwrap();
    assert!(
        proxy_status.contains("http_response_timeout"),
        "{proxy_status}"
    );
    let flow = running.recorder.only_flow().await;
    assert_eq!(flow.failure().0.kind, FailureKind::TimedOut);
}

#[tokio::test]
async fn a_response_that_stands_still_is_cut() {
    let script = vec![
        Step::ReadHead,
        Step::send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        Step::ReadToEnd,
    ];
    let upstream = scripted(false, vec![script]).await;
    let running =
        Running::with(|config| config.timeouts.idle_body = Duration::from_millis(60)).await;
    let mut client = running.through(&upstream).await;
    client.send(GET).await.unwrap();
    let response = soon(client.read_response("GET")).await.unwrap();
    assert!(response.body.broken.is_some());
    // The upstream is let go as well.
    soon(upstream.wait_for_scripts(1)).await;
}

#[tokio::test]
async fn a_request_body_that_stands_still_is_answered_with_408() {
    let upstream = scripted(false, vec![vec![Step::ReadToEnd]]).await;
    let running =
        Running::with(|config| config.timeouts.idle_body = Duration::from_millis(60)).await;
    let mut client = running.through(&upstream).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
    client.send(format!("{head}hel")).await.unwrap();
    let response = soon(client.read_response("POST")).await.unwrap();
    assert_eq!(response.head.status, 408);
    assert_eq!(response.head.headers.get("connection"), Some("close"));
    soon(upstream.wait_for_scripts(1)).await;
    let flow = running.recorder.only_flow().await;
    let (failure, replied) = flow.failure();
    assert_eq!(
        (failure.side, failure.kind),
        (Side::Client, FailureKind::TimedOut)
    );
    assert_eq!(replied, Some(408));
    assert_eq!(flow.cut(), [(Sender::Client, passed(3))]);
}

#[tokio::test]
async fn a_request_head_that_does_not_end_is_answered_with_408() {
    let running = Running::with(|config| config.timeouts.head = Duration::from_millis(60)).await;
    let mut client = running.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nX: ")
        .await
        .unwrap();
    let response = soon(client.read_response("GET")).await.unwrap();
    assert_eq!(response.head.status, 408);
    assert_eq!(soon(client.read_to_end()).await.unwrap(), "");
}

#[tokio::test]
async fn a_client_that_resets_frees_its_upstream() {
    let script = vec![
        Step::ReadHead,
        Step::send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello"),
        Step::ReadToEnd,
    ];
    for (running, upstream, mut client) in both(script).await {
        client.send(GET).await.unwrap();
        soon(client.read_until("hello")).await.unwrap();
        client.reset().unwrap();
        soon(upstream.wait_for_scripts(1)).await;
        let flow = running.recorder.only_flow().await;
        let (failure, replied) = flow.failure();
        assert_eq!((failure.side, replied), (Side::Client, None));
        // The request had no body, and was whole.
        assert_eq!(flow.cut(), [(Sender::Upstream, passed(5))]);
    }
}

#[tokio::test]
async fn a_client_that_resets_while_it_waits_frees_its_upstream() {
    for (running, upstream, mut client) in both(vec![Step::ReadHead, Step::ReadToEnd]).await {
        client.send(GET).await.unwrap();
        running
            .recorder
            .told(|event| matches!(event, Event::RequestEnded { .. }))
            .await;
        client.reset().unwrap();
        soon(upstream.wait_for_scripts(1)).await;
        let flow = running.recorder.only_flow().await;
        assert_eq!(flow.failure().0.side, Side::Client);
    }
}

#[tokio::test]
async fn a_client_that_stops_in_its_body_frees_its_upstream() {
    for (running, upstream, mut client) in both(vec![Step::ReadHead, Step::ReadToEnd]).await {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
        client.send(format!("{head}hello")).await.unwrap();
        client.close_write().await.unwrap();
        let played = soon(upstream.wait_for_scripts(1)).await.remove(0);
        assert_eq!(played.received, format!("{head}hello"));
        let flow = running.recorder.only_flow().await;
        let (failure, _) = flow.failure();
        assert_eq!(
            (failure.side, failure.kind),
            (Side::Client, FailureKind::ClosedEarly)
        );
        assert_eq!(flow.request_body(), b"hello");
    }
}

#[tokio::test]
async fn a_client_that_closed_its_side_still_gets_its_answer() {
    let (asked, go) = (Gate::new(), Gate::new());
    let script = vec![
        Step::ReadHead,
        Step::Open(asked.clone()),
        Step::Wait(go.clone()),
        Step::send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ];
    let upstream = scripted(false, vec![script]).await;
    let running = Running::start().await;
    let mut client = running.through(&upstream).await;
    client.send(GET).await.unwrap();
    client.close_write().await.unwrap();
    soon(asked.wait()).await;
    go.open();
    let response = soon(client.read_response("GET")).await.unwrap();
    assert_eq!(response.text(), "ok");
}

#[tokio::test]
async fn an_upstream_may_answer_before_it_read_the_request() {
    // It says no and stops reading; its answer must not be lost to the broken upload.
    let refusal =
        "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n";
    let script = vec![Step::ReadHead, Step::send(refusal), Step::CloseWrite];
    let upstream = scripted(false, vec![script]).await;
    let running = Running::start().await;
    let mut client = running.through(&upstream).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n";
    client.send(head).await.unwrap();
    client.send("x".repeat(100_000)).await.unwrap();
    let response = soon(client.read_response("POST")).await.unwrap();
    assert_eq!(response.head.status, 413);
    let flow = running.recorder.only_flow().await;
    assert!(flow.completed(), "{:?}", flow.outcome());
}

#[tokio::test]
async fn others_are_served_beside_two_thousand_idle_connections() {
    let (upstream, running) = (http().await, Running::start().await);
    let mut idle = Vec::new();
    for number in 0..2000 {
        let mut client = running.connect().await;
        // Some say nothing, some stop in their head, some in a ClientHello.
        match number % 4 {
            0 => {}
            1 => client.send("GET / HTT").await.unwrap(),
            2 => client.send("PRI * HT").await.unwrap(),
            _ => {
                let connect = format!(
                    "CONNECT {} HTTP/1.1\r\n\r\n\x16\x03\x01",
                    authority_of(&upstream)
                );
                client.send(connect).await.unwrap();
            }
        }
        idle.push(client);
    }
    let begun = tokio::time::Instant::now();
    for _request in 0..20 {
        let mut client = running.through(&upstream).await;
        let request = Request::get("/bytes/1000").host(NAME);
        assert_eq!(
            soon(client.request(&request)).await.unwrap().body.seen,
            1000
        );
    }
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(idle.len(), 2000);
}

#[tokio::test]
async fn a_client_that_ended_its_side_sees_a_cut_body_as_cut() {
    for (version, tls) in [("1.1", false), ("1.0", false), ("1.1", true)] {
        let half = "HTTP/1.1 200 OK\r\n\r\nha";
        let script = vec![Step::ReadHead, Step::send(half), Step::ReadToEnd];
        let upstream = scripted(tls, vec![script]).await;
        let idle = Duration::from_millis(300);
        let running = Running::with(|config| config.timeouts.idle_body = idle).await;
        let mut client = match tls {
            true => running.through_tls(&upstream, &["http/1.1"]).await,
            false => running.through(&upstream).await,
        };
        client
            .send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"))
            .await
            .unwrap();
        client.close_write().await.unwrap();
        soon(client.read_until("ha")).await.unwrap();
        let begun = tokio::time::Instant::now();
        let error = soon(client.read_to_end()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{version}");
        // No longer than a client that has not ended its side would have had.
        assert!(begun.elapsed() < Duration::from_secs(3));
    }
}
