//! Asking for a WebSocket, and what comes of it.

use bytes::Bytes;
use testbed::client::Request;
use testbed::script::Step;
use testbed::websocket::{ACCEPT, KEY};
use traffic::wire::websocket::{Observation, Problem};
use traffic::{FailureKind, FlowKind, Sender};

use super::{switching, upgrade};
use crate::recorder::FlowSeen;
use crate::running::{NAME, Running, http, scripted};
use crate::soon;

#[tokio::test]
async fn a_refusal_passes_as_it_is_and_the_connection_stays() {
    let (upstream, running) = (http().await, Running::start().await);
    let mut client = running.through(&upstream).await;
    let ask = |path: &str| {
        Request::get(path)
            .host(NAME)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", KEY)
    };
    let response = soon(client.request(&ask("/websocket?refuse=403"))).await;
    let response = response.unwrap();
    assert_eq!(response.head.status, 403);
    assert_eq!(response.text(), "no websocket for you\n");
    let plain = soon(client.request(&ask("/bytes/3"))).await.unwrap();
    assert_eq!((plain.head.status, plain.body.seen), (200, 3));
    assert_eq!(upstream.connection_count(), 1);
    for flow in running.recorder.ended(2).await {
        assert!(flow.completed() && flow.started.kind == FlowKind::WebSocket);
        assert_eq!(flow.observed(Sender::Upstream), []);
    }
}

#[tokio::test]
async fn what_is_no_proper_upgrade_goes_on_without_it() {
    let (upstream, running) = (http().await, Running::start().await);
    let mut client = running.through(&upstream).await;
    let flawed = Request::get("/echo")
        .host(NAME)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket");
    let response = soon(client.request(&flawed)).await.unwrap();
    assert_eq!(response.head.status, 200);
    let mut with_body = Request::post("/echo", "body")
        .host(NAME)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY);
    with_body.method = "GET".to_owned();
    soon(client.request(&with_body)).await.unwrap();
    for received in upstream.wait_for_requests(2).await {
        assert_eq!(received.headers.get("upgrade"), None);
        assert_eq!(received.headers.get("connection"), None);
    }
    for flow in running.recorder.ended(2).await {
        assert_eq!(flow.started.kind, FlowKind::Http);
    }
}

/// What becomes of an answer to an upgrade.
async fn answered(answer: &str) -> (Bytes, FlowSeen) {
    let script = vec![Step::ReadHead, Step::send(answer), Step::CloseWrite];
    let (upstream, running) = (scripted(false, vec![script]).await, Running::start().await);
    let mut client = running.through(&upstream).await;
    client.send(upgrade()).await.unwrap();
    let got = soon(client.read_until("\r\n\r\n")).await.unwrap();
    drop(client);
    (got, running.recorder.only_flow().await)
}

#[tokio::test]
async fn a_switch_to_something_else_is_refused() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let (got, flow) = answered(answer).await;
        assert!(got.starts_with(b"HTTP/1.1 502 "), "{got:?}");
        let (failure, replied) = flow.failure();
        assert_eq!((failure.kind, replied), (FailureKind::Malformed, Some(502)));
    }
}

#[tokio::test]
async fn a_wrong_proof_passes_and_is_noted() {
    let answer = switching().replace(ACCEPT, "wrong");
    let (got, flow) = answered(&answer).await;
    assert_eq!(got, answer);
    assert_eq!(
        flow.observed(Sender::Upstream),
        [Observation::Note(Problem::AcceptWrong)]
    );
}
