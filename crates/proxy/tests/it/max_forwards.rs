//! TRACE and OPTIONS requests that say how far they may go.

use bytes::Bytes;
use testbed::client::Request;
use testbed::script::Step;
use testbed::upstream::Protocols;

use crate::running::{NAME, Running, authority_of, http, https, scripted};
use crate::soon;

#[tokio::test]
async fn a_request_that_may_go_no_further_is_answered_here() {
    let (upstream, running) = (http().await, Running::start().await);
    let mut client = running.through(&upstream).await;
    // The second shows that the connection stays.
    for time in 1..=2 {
        let options = Request::new("OPTIONS", "/x").host("a");
        let options = options.header("Max-Forwards", "0");
        let response = soon(client.request(&options)).await.unwrap();
        assert_eq!((response.head.status, response.body.seen), (200, 0));
        assert_eq!(response.head.headers.get("content-length"), Some("0"));
        assert_eq!(running.recorder.ended(time).await.len(), time);
    }
    let trace = Request::new("TRACE", "/x").host("a");
    let trace = trace
        .header("Max-Forwards", "0")
        .header("X-Seen", "yes")
        .header("Authorization", "Bearer secret");
    let response = soon(client.request(&trace)).await.unwrap();
    assert_eq!(response.head.status, 200);
    let headers = &response.head.headers;
    assert_eq!(headers.get("content-type"), Some("message/http"));
    let text = response.text();
    assert!(text.starts_with("TRACE /x HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("X-Seen: yes\r\n"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let flows = running.recorder.ended(3).await;
    assert!(flows[2].completed());
    assert_eq!(
        flows[2].course(),
        "started response response-data response-ended request-ended ended"
    );
    assert_eq!(upstream.connection_count(), 0);
}

#[tokio::test]
async fn an_http2_request_that_may_go_no_further_is_answered_here() {
    let (upstream, running) = (http().await, Running::start().await);
    let client = running.through(&upstream).await;
    let client = client.start_http2().await.unwrap();
    for method in ["OPTIONS", "TRACE"] {
        let request = http::Request::builder().method(method);
        let request = request.uri(format!("http://{NAME}/x"));
        let request = request.header("max-forwards", "0");
        let request = request.header("cookie", "secret").body(Bytes::new());
        let response = soon(client.request(request.unwrap())).await.unwrap();
        assert_eq!(response.head.status, 200);
        assert_eq!(response.text().is_empty(), method == "OPTIONS");
        assert!(!response.text().contains("secret"));
    }
    assert_eq!(upstream.connection_count(), 0);
    let flows = running.recorder.ended(2).await;
    assert!(flows.iter().all(crate::recorder::FlowSeen::completed));
}

#[tokio::test]
async fn what_may_go_further_is_counted_down() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for (method, value, sent) in [
        ("OPTIONS", "5", "4"),
        ("TRACE", "1", "0"),
        ("GET", "5", "5"),
        ("GET", "0", "0"),
        ("OPTIONS", "many", "many"),
    ] {
        let fields = format!("A: 1\r\nmax-FORWARDS: {value}\r\nB: 2\r\n");
        for version in ["1.1", "1.0"] {
            let script = vec![Step::ReadHead, Step::send(answer)];
            let upstream = scripted(false, vec![script]).await;
            let running = Running::start().await;
            let mut client = running.connect().await;
            let host = authority_of(&upstream);
            let line = format!("{method} http://{host}/ HTTP/{version}");
            client
                .send(format!("{line}\r\nHost: a\r\n{fields}\r\n"))
                .await
                .unwrap();
            let response = soon(client.read_response(method)).await.unwrap();
            assert_eq!(response.head.status, 200);
            let played = soon(upstream.wait_for_scripts(1)).await.remove(0);
            let received = String::from_utf8_lossy(&played.received).to_lowercase();
            let expected = format!("a: 1\r\nmax-forwards: {sent}\r\nb: 2\r\n");
            assert!(received.contains(&expected), "{received}");
        }
        let (upstream, running) = (https(Protocols::Http2).await, Running::start().await);
        let client = running.through_tls(&upstream, &["h2"]).await;
        let client = client.start_http2().await.unwrap();
        let request = http::Request::builder().method(method);
        let request = request.uri(format!("https://{NAME}/"));
        let request = request.header("max-forwards", value).body(Bytes::new());
        soon(client.request(request.unwrap())).await.unwrap();
        let received = upstream.wait_for_requests(1).await.remove(0);
        assert_eq!(received.headers.get("max-forwards"), Some(sent), "{method}");
    }
}
