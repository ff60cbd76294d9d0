//! WebSockets where a side speaks HTTP/2.

use testbed::client::Http2Client;
use testbed::upstream::{Protocols, Upstream, UpstreamOptions, Version};
use testbed::websocket::{ACCEPT, BINARY, Frame, TEXT};
use traffic::{FailureKind, FlowKind, Sender};

use super::deflated::{check_deflated, converse_deflated};
use super::{http2, its_flow, open_by, told};
use crate::running::{NAME, Running, authority_of, upstream_authority};
use crate::soon;

/// An upstream, and how its HTTP/2 is.
async fn upstream(protocols: Protocols, extended_connect: bool) -> Upstream {
    let identity = upstream_authority().issue(&[NAME]);
    let mut options = UpstreamOptions::https(identity, protocols);
    options.extended_connect = extended_connect;
    Upstream::start(options).await.unwrap()
}

/// Where at least one side speaks HTTP/2: client, upstream, whether its HTTP/2 takes WebSockets, and
/// what carries it there.
const TURNED_OVER: [(Version, Protocols, bool, Version); 5] = [
    (Version::Http2, Protocols::Http2, true, Version::Http2),
    (Version::Http2, Protocols::Both, true, Version::Http2),
    (Version::Http2, Protocols::Both, false, Version::Http1),
    (Version::Http1, Protocols::Http2, true, Version::Http2),
    (Version::Http1, Protocols::Both, true, Version::Http1),
];

#[tokio::test]
async fn passes_over_each_version_of_http() {
    for (version, protocols, extended_connect, carried) in TURNED_OVER {
        let case = format!("{version:?} {protocols:?} {extended_connect}");
        let upstream = upstream(protocols, extended_connect).await;
        let running = Running::start().await;
        let fields = [
            ("sec-websocket-extensions", "permessage-deflate"),
            ("sec-websocket-protocol", "chat"),
        ];
        let socket = open_by(version, &running, &upstream, "/websocket?a=b", &fields).await;
        let (mut socket, _client) = socket.unwrap_or_else(|error| panic!("{case}: {error}"));
        let answer = socket.response.take().unwrap().headers;
        assert_eq!(answer.get("sec-websocket-protocol"), Some("chat"), "{case}");
        let expected = (version == Version::Http1).then_some(ACCEPT);
        assert_eq!(answer.get("sec-websocket-accept"), expected, "{case}");
        converse_deflated(&mut socket).await;
        drop(socket);

        let received = upstream.received().pop().unwrap();
        assert_eq!(
            (received.version, received.target.as_str()),
            (carried, "/websocket?a=b")
        );
        let field = |name| received.headers.get(name);
        assert_eq!(field("sec-websocket-version"), Some("13"), "{case}");
        assert_eq!(
            field("sec-websocket-extensions"),
            Some("permessage-deflate")
        );
        match carried {
            Version::Http1 => assert_eq!(received.method, "GET"),
            Version::Http2 => {
                assert_eq!(received.method, "CONNECT");
                assert_eq!(field(":protocol"), Some("websocket"));
                assert_eq!(field("sec-websocket-key"), None);
                assert_eq!(field("upgrade"), None);
            }
        }
        check_deflated(&its_flow(&running, version).await);
    }
}

#[tokio::test]
async fn a_refusal_passes_over_each_version_of_http() {
    for (version, protocols, extended_connect, _) in TURNED_OVER {
        let upstream = upstream(protocols, extended_connect).await;
        let running = Running::start().await;
        let path = "/websocket?refuse=403";
        let refused = open_by(version, &running, &upstream, path, &[]).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("403"), "{error}");
        let flow = its_flow(&running, version).await;
        assert!(flow.completed(), "{:?}", flow.outcome());
        assert_eq!(flow.started.kind, FlowKind::WebSocket);
        assert_eq!(flow.response_body(), b"no websocket for you\n");
    }
}

#[tokio::test]
async fn an_upstream_without_websockets_is_told_of() {
    for version in [Version::Http1, Version::Http2] {
        let upstream = upstream(Protocols::Http2, false).await;
        let running = Running::start().await;
        let refused = open_by(version, &running, &upstream, "/websocket", &[]).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("501"), "{error}");
        let flow = its_flow(&running, version).await;
        let (failure, replied) = flow.failure();
        assert_eq!(
            (failure.kind, replied),
            (FailureKind::Unsupported, Some(501))
        );
        assert!(failure.text.contains("no WebSockets"), "{}", failure.text);
    }
}

#[tokio::test]
async fn an_end_passes_over_each_version_of_http() {
    for (version, protocols, extended_connect, _) in TURNED_OVER {
        let upstream = upstream(protocols, extended_connect).await;
        let running = Running::start().await;
        let socket = open_by(version, &running, &upstream, "/websocket", &[]).await;
        let (mut socket, _client) = socket.unwrap();
        let frame = Frame::new(BINARY, vec![7; 3_000_000]);
        // More than any window holds.
        let sent = frame.to_bytes(Some([0; 4]));
        soon(socket.send_bytes(sent)).await.unwrap();
        assert_eq!(soon(socket.read()).await.unwrap(), Some(frame));
        socket.close_write().await.unwrap();
        assert_eq!(soon(socket.read()).await.unwrap(), None);
        assert!(its_flow(&running, version).await.completed());
    }
}

#[tokio::test]
async fn a_client_that_goes_is_told_to_the_upstream() {
    for (version, protocols, extended_connect, _) in TURNED_OVER {
        let upstream = upstream(protocols, extended_connect).await;
        let running = Running::start().await;
        let socket = open_by(version, &running, &upstream, "/websocket", &[]).await;
        let (mut socket, _client) = socket.unwrap();
        socket
            .send(&Frame::new(TEXT, "a").unfinished())
            .await
            .unwrap();
        soon(socket.read()).await.unwrap().unwrap();
        drop(socket);
        let flow = its_flow(&running, version).await;
        let told = told(&flow.observed(Sender::Client));
        assert_eq!(
            told,
            ["Note EndedEarly", "Text a 1/1 in 1, cut"],
            "{:?}",
            flow.outcome()
        );
    }
}

/// One of many WebSockets of one connection: a message larger than any window there and back, then
/// one of the ways to end.
async fn converse_and_end(client: &Http2Client, authority: &str, number: usize) {
    let path = match number % 4 {
        3 => "/websocket?close=4001",
        _ => "/websocket",
    };
    let url = format!("https://{authority}{path}");
    let mut socket = client.start_websocket(&url, &[]).await.unwrap();
    let message = Frame::new(BINARY, vec![7; 700_000]);
    let sent = message.to_bytes(Some([0; 4]));
    socket.send_bytes(sent.clone()).await.unwrap();
    let close = Frame::close(1000, "");
    match number % 4 {
        0 => {
            assert_eq!(socket.read().await.unwrap(), Some(message));
            socket.send(&close).await.unwrap();
            assert_eq!(socket.read().await.unwrap(), Some(close));
        }
        1 => {
            assert_eq!(socket.read().await.unwrap(), Some(message));
            socket.close_write().await.unwrap();
        }
        // Reset while the echo is on its way and a message goes up.
        2 => return socket.send_bytes(sent).await.unwrap(),
        _ => {
            let close = Frame::close(4001, "as you asked");
            assert_eq!(socket.read().await.unwrap(), Some(close.clone()));
            socket.send(&close).await.unwrap();
        }
    }
    assert_eq!(socket.read().await.unwrap(), None);
}

#[tokio::test]
async fn many_share_a_connection_however_they_end() {
    let (upstream, running) = (
        upstream(Protocols::Http2, true).await,
        Running::start().await,
    );
    let client = http2(&running, &upstream).await;
    let authority = authority_of(&upstream);
    let sockets = (0..12).map(|number| converse_and_end(&client, &authority, number));
    soon(futures_util::future::join_all(sockets)).await;
    for number in 0..8 {
        soon(converse_and_end(&client, &authority, number)).await;
    }
    assert_eq!(upstream.connection_count(), 1);
    let flows = running.recorder.ended(1 + 20).await;
    let broken = flows.iter().filter(|flow| !flow.completed()).count();
    assert_eq!(broken, 5, "those that the client reset");
}
