//! Bytes leave as they come, both ways at once, and no faster than they are taken.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use testbed::client::{Client, Request};
use testbed::gate::Gate;
use testbed::script::Step;
use testbed::upstream::pattern;
use traffic::Event;

use crate::http2_peer::{Http2Peer, Streams};
use crate::running::{NAME, Running, http, scripted};
use crate::soon;

/// Counts what was reported of bodies.
fn taken(running: &Running) -> usize {
    let flows = running.recorder.flows();
    let length =
        |flow: &crate::recorder::FlowSeen| flow.request_body().len() + flow.response_body().len();
    flows.iter().map(length).sum()
}

/// Waits until nothing more is taken, and says how much it was.
async fn stands_still(running: &Running) -> usize {
    let mut before = 0;
    soon(async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = taken(running);
            if now > 0 && now == before {
                return now;
            }
            before = now;
        }
    })
    .await
}

/// The two ways to an HTTP/1.1 upstream.
async fn client_of(
    running: &Running,
    tls: bool,
    script: Vec<Step>,
) -> (testbed::upstream::Upstream, Client) {
    let upstream = scripted(tls, vec![script]).await;
    let client = match tls {
        true => running.through_tls(&upstream, &["http/1.1"]).await,
        false => running.through(&upstream).await,
    };
    (upstream, client)
}

#[tokio::test]
async fn every_piece_of_a_response_leaves_at_once() {
    // Each event is sent only after the client has seen the one before.
    let gates: Vec<Gate> = (0..5).map(|_| Gate::new()).collect();
    for tls in [false, true] {
        for head in [
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
        ] {
            let gates: Vec<Gate> = gates.iter().map(|_| Gate::new()).collect();
            let mut script = vec![Step::ReadHead, Step::send(head)];
            for (number, gate) in gates.iter().enumerate() {
                script.push(Step::Wait(gate.clone()));
                script.push(Step::send(format!("5\r\ndata{number}\r\n")));
            }
            script.push(Step::ReadToEnd);
            let running = Running::start().await;
            let (_upstream, mut client) = client_of(&running, tls, script).await;
            client
                .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .await
                .unwrap();
            soon(client.read_until("\r\n\r\n")).await.unwrap();
            for (number, gate) in gates.iter().enumerate() {
                gate.open();
                soon(client.read_until(format!("data{number}\r\n")))
                    .await
                    .unwrap();
            }
        }
    }
}

#[tokio::test]
async fn every_piece_of_a_request_leaves_at_once() {
    for tls in [false, true] {
        let gates: Vec<Gate> = (0..5).map(|_| Gate::new()).collect();
        let mut script = vec![Step::ReadHead];
        for (number, gate) in gates.iter().enumerate() {
            script.push(Step::read_until(format!("data{number}")));
            script.push(Step::Open(gate.clone()));
        }
        script.push(Step::ReadToEnd);
        let running = Running::start().await;
        let (_upstream, mut client) = client_of(&running, tls, script).await;
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
        client.send(head).await.unwrap();
        for (number, gate) in gates.iter().enumerate() {
            client.send(format!("data{number}")).await.unwrap();
            soon(gate.wait()).await;
        }
    }
}

#[tokio::test]
async fn an_event_of_a_stream_is_told_while_the_stream_waits() {
    let script = vec![
        Step::ReadHead,
        Step::send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n"),
        Step::ReadToEnd,
    ];
    let running = Running::start().await;
    let (_upstream, mut client) = client_of(&running, true, script).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let event =
        |event: &Event| matches!(event, Event::ResponseData { data, .. } if data == "event");
    running.recorder.told(event).await;
}

#[tokio::test]
async fn both_directions_run_at_once() {
    for tls in [false, true] {
        let mut script = vec![
            Step::ReadHead,
            Step::send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ];
        for number in 0..20 {
            script.push(Step::read_until(format!("ask{number:02}\r\n")));
            script.push(Step::send(format!("8\r\nanswer{number:02}\r\n")));
        }
        script.push(Step::read_until("0\r\n\r\n"));
        script.push(Step::send("0\r\n\r\n"));
        let running = Running::start().await;
        let (upstream, mut client) = client_of(&running, tls, script).await;
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(head).await.unwrap();
        soon(client.read_until("\r\n\r\n")).await.unwrap();
        for number in 0..20 {
            client
                .send(format!("5\r\nask{number:02}\r\n"))
                .await
                .unwrap();
            soon(client.read_until(format!("answer{number:02}\r\n")))
                .await
                .unwrap();
        }
        client.send("0\r\n\r\n").await.unwrap();
        assert_eq!(soon(client.read_exact(5)).await.unwrap(), "0\r\n\r\n");
        let played = soon(upstream.wait_for_scripts(1)).await.remove(0);
        assert_eq!(played.failure, None);
        assert!(running.recorder.only_flow().await.completed());
    }
}

/// Echoes each piece of a body as it comes.
async fn echo(mut streams: Streams) {
    let mut all = tokio::task::JoinSet::new();
    while let Some((request, mut respond)) = streams.next().await {
        all.spawn(async move {
            let mut body = request.into_body();
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                stream.send_data(data, false).unwrap();
            }
            stream.send_data(Bytes::new(), true).unwrap();
        });
    }
}

#[tokio::test]
async fn both_directions_of_an_http2_stream_run_at_once() {
    let peer = Http2Peer::start(echo).await;
    let running = Running::start().await;
    let client = peer.connect(&running).await;
    let post = http::Request::post(format!("https://{NAME}/"))
        .body(())
        .unwrap();
    let mut stream = client.open(post, false).await.unwrap();
    let mut body = soon(&mut stream.response).await.unwrap().into_body();
    for number in 0..20 {
        let piece = Bytes::from(format!("piece {number}"));
        stream.body.send_data(piece.clone(), false).unwrap();
        assert_eq!(soon(body.data()).await.unwrap().unwrap(), piece);
    }
    stream.body.send_data(Bytes::new(), true).unwrap();
    // The end may come in a frame of its own.
    let end = soon(body.data()).await;
    assert!(end.is_none_or(|end| end.unwrap().is_empty() && body.is_end_stream()));
    assert!(running.recorder.only_flow().await.completed());
}

#[tokio::test]
async fn both_directions_run_at_once_from_http1_to_http2() {
    let peer = Http2Peer::start(echo).await;
    let running = Running::start().await;
    let mut client = peer.connect_tls(&running, "http/1.1").await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head).await.unwrap();
    soon(client.read_until("\r\n\r\n")).await.unwrap();
    for number in 0..20 {
        let piece = format!("7\r\npiece{number:02}\r\n");
        client.send(&piece).await.unwrap();
        let got = soon(client.read_exact(piece.len())).await.unwrap();
        assert_eq!(got, piece);
    }
    client.send("0\r\n\r\n").await.unwrap();
    assert_eq!(soon(client.read_exact(5)).await.unwrap(), "0\r\n\r\n");
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_upstream() {
    const LENGTH: u64 = 64 * 1024 * 1024;
    let upstream = http().await;
    let running = Running::with(|config| config.body_bytes_kept = LENGTH).await;
    let mut client = running.through(&upstream).await;
    let request = Request::get(&format!("/bytes/{LENGTH}")).host(NAME);
    client.send(request.to_bytes()).await.unwrap();
    // The kernel's buffers of two connections hold some; the proxy holds next to nothing.
    let taken = stands_still(&running).await;
    assert!(taken < 16 * 1024 * 1024, "{taken}");
    let response = soon(client.read_response("GET")).await.unwrap();
    assert_eq!((response.body.seen, response.body.broken), (LENGTH, None));
    let expected: Vec<u8> = pattern(0, response.body.kept.len() as u64)
        .flatten()
        .collect();
    assert!(response.body.kept == expected);
}

#[tokio::test]
async fn an_upstream_that_does_not_read_stops_its_client() {
    const LENGTH: usize = 64 * 1024 * 1024;
    let go = Gate::new();
    let script = vec![
        Step::ReadHead,
        Step::Wait(go.clone()),
        Step::Read(LENGTH),
        Step::send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    let running = Running::with(|config| config.body_bytes_kept = LENGTH as u64).await;
    let (upstream, mut client) = client_of(&running, false, script).await;
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n");
    client.send(head).await.unwrap();
    let body: Vec<u8> = pattern(0, LENGTH as u64).flatten().collect();
    let upload = async {
        client.send(&body).await.unwrap();
        client.read_response("POST").await.unwrap()
    };
    let watched = async {
        let taken = stands_still(&running).await;
        assert!(taken < 16 * 1024 * 1024, "{taken}");
        go.open();
    };
    let (response, ()) = tokio::join!(soon(upload), watched);
    assert_eq!(response.head.status, 200);
    let played = soon(upstream.wait_for_scripts(1)).await.remove(0);
    assert!(played.received.ends_with(&body));
}
