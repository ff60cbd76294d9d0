//! What the watcher is told.

use testbed::client::Request;
use testbed::script::Step;
use traffic::{BodySize, FlowKind};

use crate::running::{NAME, Running, http, scripted};
use crate::soon;

#[tokio::test]
async fn the_events_of_a_flow_come_in_order() {
    let (upstream, running) = (http().await, Running::start().await);
    let mut client = running.through(&upstream).await;
    let request = Request::post("/echo", "hello").host(NAME);
    soon(client.request(&request)).await.unwrap();
    let flow = running.recorder.only_flow().await;
    assert_eq!(
        flow.course(),
        "started upstream request-data request-ended response response-data response-ended ended"
    );
    assert!(flow.completed());
    assert_eq!(flow.started.kind, FlowKind::Http);
    assert_eq!(flow.request_body(), b"hello");
}

#[tokio::test]
async fn only_the_payload_of_chunks_is_told() {
    let script = vec![
        Step::read_until("0\r\n\r\n"),
        Step::send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n1\r\nd\r\n0\r\nT: 1\r\n\r\n",
        ),
    ];
    let upstream = scripted(false, vec![script]).await;
    let running = Running::start().await;
    let mut client = running.through(&upstream).await;
    let text =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;y=1\r\nhi\r\n0\r\n\r\n";
    client.send(text).await.unwrap();
    soon(client.read_response("POST")).await.unwrap();
    let flow = running.recorder.only_flow().await;
    assert_eq!(flow.request_body(), b"hi");
    assert_eq!(flow.response_body(), b"abcd");
    let size = |seen| Some(BodySize { seen, kept: seen });
    assert_eq!(flow.sizes(), (size(2), size(4)));
    let trailers = flow.events.iter().find_map(|event| match event {
        traffic::Event::ResponseEnded { trailers, .. } => trailers.clone(),
        _ => None,
    });
    assert_eq!(trailers.unwrap().field("t"), Some(&b"1"[..]));
}

#[tokio::test]
async fn a_capture_is_cut_and_the_wire_is_not() {
    let upstream = http().await;
    let running = Running::with(|config| config.body_bytes_kept = 1000).await;
    let mut client = running.through(&upstream).await;
    let request = Request::post("/echo", "x".repeat(50_000)).host(NAME);
    let response = soon(client.request(&request)).await.unwrap();
    assert!(response.body.seen > 50_000);
    let received = upstream.wait_for_requests(1).await.remove(0);
    assert_eq!(received.body.seen, 50_000);
    let flow = running.recorder.only_flow().await;
    assert_eq!(
        (flow.request_body().len(), flow.response_body().len()),
        (1000, 1000)
    );
    let (request, response_size) = flow.sizes();
    assert_eq!(
        request,
        Some(BodySize {
            seen: 50_000,
            kept: 1000
        })
    );
    assert_eq!(response_size.unwrap().seen, response.body.seen);
}
