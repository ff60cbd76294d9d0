//! What the watcher is told.

use testbed::client::Request;
use testbed::script::Step;
use traffic::{BodySize, Event, FlowKind};

use crate::recorder::FlowSeen;
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
        Event::ResponseEnded { trailers, .. } => trailers.clone(),
        _ => None,
    });
    assert_eq!(trailers.unwrap().field("t"), Some(&b"1"[..]));
}

#[tokio::test]
async fn large_bodies_that_come_again_are_one_memory() {
    let (upstream, running) = (http().await, Running::start().await);
    let body: String = (0..20_000).map(|number| format!("{number},")).collect();
    let mut other = body.clone();
    other.replace_range(body.len() - 1.., ".");
    let mut bodies = vec![&body; 4];
    bodies.push(&other);
    for body in &bodies {
        // Each on a connection of its own.
        let mut client = running.through(&upstream).await;
        let request = Request::post("/echo", (*body).clone()).host(NAME);
        soon(client.request(&request)).await.unwrap();
    }
    let flows = running.recorder.ended(bodies.len()).await;
    for (flow, body) in flows.iter().zip(bodies) {
        assert_eq!(flow.request_body(), body.as_bytes());
    }
    let lies_at = |flow: &FlowSeen| {
        flow.events.iter().find_map(|event| match event {
            Event::RequestData { data, .. } => Some(data.as_ptr()),
            _ => None,
        })
    };
    let places: Vec<_> = flows.iter().map(lies_at).collect();
    assert_ne!(places[0], places[1]);
    assert_eq!(places[1..4], [places[1]; 3]);
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

#[tokio::test]
async fn the_size_of_a_request_that_was_answered_early_is_told() {
    let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
    let script = vec![Step::read_until("abc"), Step::send(answer), Step::ReadToEnd];
    for http2 in [false, true] {
        let upstream = scripted(false, vec![script.clone()]).await;
        let running = Running::start().await;
        let mut client = running.through(&upstream).await;
        if http2 {
            let client = client.start_http2().await.unwrap();
            let request = http::Request::post(format!("http://{NAME}/"));
            let opened = client.open(request.body(()).unwrap(), false).await;
            let mut stream = opened.unwrap();
            stream.body.send_data("abc".into(), false).unwrap();
            assert_eq!(soon(stream.response).await.unwrap().status(), 413);
        } else {
            let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";
            client.send(format!("{head}abc")).await.unwrap();
            let response = soon(client.read_response("POST")).await.unwrap();
            assert_eq!(response.head.status, 413);
        }
        let flow = running.recorder.only_flow().await;
        assert!(flow.completed());
        let size = flow.sizes().0.map(|size| (size.seen, size.kept));
        assert_eq!(size, Some((3, 3)), "{http2}");
        assert!(flow.course().ends_with("request-ended ended"));
    }
}
