//! Connections to upstreams: kept, used again, and given up where they cannot be trusted.

use std::time::Duration;

use oriel_proxy::Pool;
use testbed::client::Request;
use testbed::script::Step;
use testbed::upstream::Protocols;
use traffic::Event;

use crate::http2_peer::{Http2Peer, Streams};
use crate::running::{NAME, Running, authority_of, http, https, scripted};
use crate::soon;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Whether each flow's last connection had served before.
fn reused(events: &[Event]) -> Vec<bool> {
    let reused = |event: &Event| match event {
        Event::UpstreamChosen { reused, .. } => Some(*reused),
        _ => None,
    };
    events.iter().filter_map(reused).collect()
}

#[tokio::test]
async fn a_request_that_may_be_repeated_is_sent_again_if_its_kept_connection_was_closed() {
    for (method, status) in [("GET", 200), ("HEAD", 200), ("POST", 502), ("DELETE", 502)] {
        // The first connection takes a second request and closes without a word.
        let first = vec![Step::ReadHead, Step::send(OK), Step::ReadHead];
        let second = vec![Step::ReadHead, Step::send(OK), Step::ReadToEnd];
        let upstream = scripted(false, vec![first, second]).await;
        let running = Running::start().await;
        let mut client = running.through(&upstream).await;
        let get = Request::get("/").host("a");
        soon(client.request(&get)).await.unwrap();
        let request = Request::new(method, "/again").host("a");
        let response = soon(client.request(&request)).await.unwrap();
        assert_eq!(response.head.status, status, "{method}");
        let expected = if status == 200 { 2 } else { 1 };
        assert_eq!(upstream.connection_count(), expected, "{method}");
        let flow = running.recorder.ended(2).await.remove(1);
        assert_eq!(flow.completed(), status == 200);
        let expected: &[bool] = if status == 200 {
            &[true, false]
        } else {
            &[true]
        };
        assert_eq!(reused(&flow.events), expected, "{method}");
    }
}

#[tokio::test]
async fn a_request_of_whose_answer_anything_came_is_not_sent_again() {
    for begun in [
        "HTTP/1.1 20",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    ] {
        for over_http2 in [false, true] {
            let first = vec![
                Step::ReadHead,
                Step::send(OK),
                Step::ReadHead,
                Step::send(begun),
            ];
            let second = vec![Step::ReadHead, Step::send(OK), Step::ReadToEnd];
            let upstream = scripted(false, vec![first, second]).await;
            let running = Running::start().await;
            let url = format!("http://{}/", authority_of(&upstream));
            let mut client = running.connect().await;
            let mut statuses = Vec::new();
            if over_http2 {
                let client = client.start_http2().await.unwrap();
                for _request in 0..2 {
                    let get = http::Request::get(&url).body(bytes::Bytes::new()).unwrap();
                    statuses.push(soon(client.request(get)).await.unwrap().head.status);
                }
            } else {
                for _request in 0..2 {
                    let get = Request::get(&url).host("a");
                    statuses.push(soon(client.request(&get)).await.unwrap().head.status);
                }
            }
            assert_eq!(statuses, [200, 502], "{begun} {over_http2}");
            assert_eq!(upstream.connection_count(), 1, "{begun} {over_http2}");
        }
    }
}

#[tokio::test]
async fn a_new_connection_that_closes_is_not_tried_again() {
    let upstream = scripted(false, vec![vec![Step::ReadHead]]).await;
    let running = Running::start().await;
    let mut client = running.through(&upstream).await;
    let response = soon(client.request(&Request::get("/").host("a")))
        .await
        .unwrap();
    assert_eq!(response.head.status, 502);
    assert_eq!(upstream.connection_count(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_before_is_noticed() {
    // Even a POST goes through: the close was there to be seen before it was sent.
    let first = vec![Step::ReadHead, Step::send(OK), Step::CloseWrite];
    let second = vec![Step::ReadHead, Step::send(OK)];
    let upstream = scripted(false, vec![first, second]).await;
    let running = Running::start().await;
    let mut client = running.through(&upstream).await;
    soon(client.request(&Request::get("/").host("a")))
        .await
        .unwrap();
    soon(upstream.wait_for_scripts(1)).await;
    let post = Request::post("/", "x").host("a");
    assert_eq!(soon(client.request(&post)).await.unwrap().text(), "ok");
}

/// With this pool no connection serves twice.
async fn check_none_kept(pool: Pool) {
    let upstream = http().await;
    let running = Running::with(|config| config.pool = pool).await;
    let mut client = running.through(&upstream).await;
    for _request in 0..3 {
        soon(client.request(&Request::get("/").host("a")))
            .await
            .unwrap();
    }
    assert_eq!(upstream.connection_count(), 3);
}

#[tokio::test]
async fn a_connection_that_was_idle_for_too_long_is_not_used() {
    check_none_kept(Pool {
        idle: Duration::ZERO,
        ..Pool::default()
    })
    .await;
}

#[tokio::test]
async fn no_more_idle_connections_are_kept_than_allowed() {
    check_none_kept(Pool {
        idle_per_target_max: 0,
        ..Pool::default()
    })
    .await;
}

#[tokio::test]
async fn clear_and_tls_connections_are_not_mixed_up() {
    let (plain, tls, running) = (
        http().await,
        https(Protocols::Http1).await,
        Running::start().await,
    );
    let mut client = running.connect().await;
    for (scheme, upstream) in [
        ("http", &plain),
        ("https", &tls),
        ("http", &plain),
        ("https", &tls),
    ] {
        let url = format!("{scheme}://{}/bytes/5", authority_of(upstream));
        let response = soon(client.request(&Request::get(&url).host("x")))
            .await
            .unwrap();
        assert_eq!(response.body.seen, 5, "{url}");
    }
    assert_eq!((plain.connection_count(), tls.connection_count()), (1, 1));
}

#[tokio::test]
async fn many_clients_share_one_http2_connection() {
    let (upstream, running) = (https(Protocols::Both).await, Running::start().await);
    let mut clients = Vec::new();
    for _client in 0..3 {
        let client = running.through_tls(&upstream, &["h2"]).await;
        clients.push(client.start_http2().await.unwrap());
    }
    for client in &clients {
        let request = http::Request::get(format!("https://{NAME}/bytes/7"));
        let request = request.body(bytes::Bytes::new()).unwrap();
        assert_eq!(soon(client.request(request)).await.unwrap().body.seen, 7);
    }
    assert_eq!(upstream.connection_count(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_for_other_versions_too() {
    for (method, status) in [("GET", 200), ("HEAD", 200), ("POST", 502), ("DELETE", 502)] {
        let first = vec![Step::ReadHead, Step::send(OK), Step::ReadHead];
        let second = vec![Step::ReadHead, Step::send(OK), Step::ReadToEnd];
        let upstream = scripted(false, vec![first, second]).await;
        let running = Running::start().await;
        let client = running.through(&upstream).await;
        let client = client.start_http2().await.unwrap();
        let request = |method: &str| {
            let request = http::Request::builder().method(method);
            let request = request.uri(format!("http://{NAME}/"));
            request.body(bytes::Bytes::new()).unwrap()
        };
        soon(client.request(request("GET"))).await.unwrap();
        let response = soon(client.request(request(method))).await.unwrap();
        assert_eq!(response.head.status, status, "{method}");
        let flow = running.recorder.ended(2).await.remove(1);
        let expected: &[bool] = match status {
            200 => &[true, false],
            _ => &[true],
        };
        assert_eq!(reused(&flow.events), expected, "{method}");
    }
    let first = vec![Step::ReadHead, Step::send(OK), Step::ReadHead];
    let second = vec![Step::ReadHead, Step::send(OK), Step::ReadToEnd];
    let upstream = scripted(false, vec![first, second]).await;
    let running = Running::start().await;
    for _time in 0..2 {
        let mut client = running.connect().await;
        let host = authority_of(&upstream);
        let request = format!("GET http://{host}/ HTTP/1.0\r\n\r\n");
        client.send(request).await.unwrap();
        let response = soon(client.read_response("GET")).await.unwrap();
        assert_eq!(response.text(), "ok");
    }
    assert_eq!(upstream.connection_count(), 2);
}

/// An HTTP/2 upstream that refuses the first streams and answers the others with their number.
async fn refusing(count: usize) -> Http2Peer {
    Http2Peer::start(move |mut streams: Streams| async move {
        let mut number = 0;
        while let Some((_request, mut respond)) = streams.next().await {
            number += 1;
            if number <= count {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                continue;
            }
            let response = http::Response::new(());
            let mut body = respond.send_response(response, false).unwrap();
            body.send_data(number.to_string().into(), true).unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn a_request_that_the_upstream_did_not_process_is_sent_once_more() {
    let running = Running::start().await;
    for method in ["GET", "POST", "DELETE"] {
        let request = http::Request::builder().method(method);
        let request = request.uri(format!("https://{NAME}/"));
        let request = request.body(bytes::Bytes::new()).unwrap();
        let peer = refusing(1).await;
        let client = peer.connect(&running).await;
        let response = soon(client.request(request.clone())).await.unwrap();
        assert_eq!(response.text(), "2", "{method}");
        let peer = refusing(2).await;
        let client = peer.connect(&running).await;
        let refused = soon(client.request(request)).await;
        assert!(refused.is_err(), "{method}: it is sent twice, not thrice");

        for (count, status) in [(1, 200), (2, 502)] {
            let peer = refusing(count).await;
            let mut client = peer.connect_tls(&running, "http/1.1").await;
            let request = Request::new(method, "/").host(NAME);
            let request = match method {
                "POST" => request.header("Content-Length", "0"),
                _ => request,
            };
            let response = soon(client.request(&request)).await.unwrap();
            assert_eq!(response.head.status, status, "{method}");
        }
    }
}

/// An HTTP/2 upstream that answers the first stream of a connection, and hangs up at the second.
async fn hanging_up() -> Http2Peer {
    Http2Peer::start(|mut streams: Streams| async move {
        let mut answers = Vec::new();
        while let Some((request, mut respond)) = streams.next().await {
            if !answers.is_empty() {
                streams.hang_up();
                return while streams.next().await.is_some() {};
            }
            let response = http::Response::new(());
            let opens = request.extensions().get::<h2::ext::Protocol>().is_some();
            answers.push((respond.send_response(response, !opens).unwrap(), request));
        }
    })
    .await
}

#[tokio::test]
async fn of_a_kept_http2_connection_that_broke_what_is_safe_is_sent_once_more() {
    let running = Running::start().await;
    for (method, status, connections) in [("GET", 200, 2), ("POST", 502, 1)] {
        let peer = hanging_up().await;
        let client = peer.connect(&running).await;
        let request = |method| {
            let request = http::Request::builder().method(method);
            let request = request.uri(format!("https://{NAME}/"));
            request.body(bytes::Bytes::new()).unwrap()
        };
        soon(client.request(request("GET"))).await.unwrap();
        let again = soon(client.request(request(method))).await.unwrap();
        assert_eq!(again.head.status, status, "{method}");
        assert_eq!(peer.connections(), connections, "{method}");
    }
}

#[tokio::test]
async fn a_websocket_is_asked_for_once_more_where_a_kept_http2_connection_broke() {
    let (peer, running) = (hanging_up().await, Running::start().await);
    let client = peer.connect(&running).await;
    let uri = format!("https://{NAME}/");
    let get = http::Request::get(&uri).body(bytes::Bytes::new()).unwrap();
    soon(client.request(get)).await.unwrap();
    soon(client.start_websocket(&uri, &[])).await.unwrap();
    assert_eq!(peer.connections(), 2);
}

#[tokio::test]
async fn a_body_is_not_sent_once_more() {
    let (peer, running) = (refusing(1).await, Running::start().await);
    let mut client = peer.connect_tls(&running, "http/1.1").await;
    let request = Request::post("/", "x").host(NAME);
    let response = soon(client.request(&request)).await.unwrap();
    assert_eq!(response.head.status, 502);
}

#[tokio::test]
async fn a_request_above_the_last_stream_of_a_goodbye_is_sent_elsewhere() {
    let running = Running::start().await;
    for alpn in ["h2", "http/1.1"] {
        let peer = Http2Peer::saying_goodbye_first().await;
        let text = if alpn == "h2" {
            let client = peer.connect(&running).await;
            let request = http::Request::post(format!("https://{NAME}/"));
            let request = request.body(bytes::Bytes::new()).unwrap();
            soon(client.request(request)).await.unwrap().text()
        } else {
            let mut client = peer.connect_tls(&running, alpn).await;
            let request = Request::new("DELETE", "/").host(NAME);
            soon(client.request(&request)).await.unwrap().text()
        };
        assert_eq!(text, "elsewhere", "{alpn}");
    }
}
