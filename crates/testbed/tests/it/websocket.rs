//! WebSockets, by HTTP/1.1 and by HTTP/2.

use std::io;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};
use oriel_testbed::client::{Client, Http2Client, Request};
use oriel_testbed::upstream::{Upstream, Version};
use oriel_testbed::websocket::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT, WebSocket};

use crate::{NAME, start_http, start_http2};

const DEFLATE: (&str, &str) = ("Sec-WebSocket-Extensions", "permessage-deflate");

async fn open_http1(path: &str, fields: &[(&str, &str)]) -> io::Result<(Upstream, WebSocket)> {
    let (upstream, client) = start_http().await;
    let fields = [&[("Host", NAME)], fields].concat();
    Ok((upstream, client.start_websocket(path, &fields).await?))
}

/// The client keeps the connection alive.
async fn open_http2(
    path: &str,
    fields: &[(&str, &str)],
) -> io::Result<((Upstream, Http2Client), WebSocket)> {
    let (upstream, client) = start_http2().await;
    let first = http::Request::get(format!("https://{NAME}/")).body(Bytes::new());
    client.request(first.unwrap()).await?;
    let uri = format!("https://{NAME}{path}");
    let socket = client.start_websocket(&uri, fields).await?;
    Ok(((upstream, client), socket))
}

async fn check_echo(mut socket: WebSocket) {
    let frames = [
        Frame::new(TEXT, "Hello"),
        Frame::new(BINARY, vec![7; 300]),
        Frame::new(BINARY, vec![8; 200_000]),
        Frame::new(TEXT, "Hel").unfinished(),
        Frame::new(CONTINUATION, "lo"),
        Frame::new(TEXT, ""),
        Frame::new(3, "no such opcode"),
        Frame::close(1000, "done"),
    ];
    for frame in &frames {
        socket.send(frame).await.unwrap();
    }
    for frame in frames {
        assert_eq!(socket.read().await.unwrap(), Some(frame));
    }
    assert_eq!(socket.read().await.unwrap(), None);
}

#[tokio::test]
async fn frames_come_back() {
    let (_upstream, socket) = open_http1("/websocket", &[]).await.unwrap();
    check_echo(socket).await;
    let (_upstream, socket) = open_http2("/websocket", &[]).await.unwrap();
    check_echo(socket).await;
}

async fn check_pings(mut socket: WebSocket) {
    let ping = socket.read().await.unwrap().unwrap();
    assert_eq!(ping.opcode, PING);
    socket.send(&Frame::new(PONG, ping.payload)).await.unwrap();
    let told = socket.read().await.unwrap();
    assert_eq!(told, Some(Frame::new(TEXT, "pong: are you there")));

    socket
        .send(&Frame::new(TEXT, "a").unfinished())
        .await
        .unwrap();
    socket.send(&Frame::new(PING, "p")).await.unwrap();
    let expected = [Frame::new(TEXT, "a").unfinished(), Frame::new(PONG, "p")];
    for frame in expected {
        assert_eq!(socket.read().await.unwrap(), Some(frame));
    }
}

#[tokio::test]
async fn pings_go_both_ways() {
    let (_upstream, socket) = open_http1("/websocket?ping=1", &[]).await.unwrap();
    check_pings(socket).await;
    let (_upstream, socket) = open_http2("/websocket?ping=1", &[]).await.unwrap();
    check_pings(socket).await;
}

async fn check_close(mut socket: WebSocket) {
    socket.send(&Frame::new(TEXT, "bye")).await.unwrap();
    let close = socket.read().await.unwrap();
    assert_eq!(close, Some(Frame::close(4001, "as you asked")));
    socket.send(&Frame::new(CLOSE, "")).await.unwrap();
    assert_eq!(socket.read().await.unwrap(), None);
}

#[tokio::test]
async fn the_upstream_closes_with_a_code() {
    let (_upstream, socket) = open_http1("/websocket?close=4001", &[]).await.unwrap();
    check_close(socket).await;
    let (_upstream, socket) = open_http2("/websocket?close=4001", &[]).await.unwrap();
    check_close(socket).await;
}

#[tokio::test]
async fn a_websocket_is_refused() {
    let refused = open_http1("/websocket?refuse=403", &[]).await.unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");
    let refused = open_http2("/websocket?refuse=403", &[]).await.unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");
}

#[tokio::test]
async fn a_plain_request_is_told_to_upgrade() {
    let (_upstream, mut client): (_, Client) = start_http().await;
    let request = Request::get("/websocket").host(NAME);
    assert_eq!(client.request(&request).await.unwrap().head.status, 426);
}

/// Compresses with one history (RFC 7692 section 7.2.1).
fn deflate(compress: &mut Compress, message: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(message.len() + 100);
    let flush = FlushCompress::Sync;
    compress
        .compress_vec(message, &mut deflated, flush)
        .unwrap();
    deflated.truncate(deflated.len() - 4);
    deflated
}

async fn check_compressed(mut socket: WebSocket) {
    let agreed = &socket.response.as_ref().unwrap().headers;
    assert_eq!(
        agreed.get("sec-websocket-extensions"),
        Some("permessage-deflate")
    );
    assert_eq!(agreed.get("sec-websocket-protocol"), Some("chat"));
    let mut compress = Compress::new(Compression::default(), false);
    for _ in 0..2 {
        let frame = Frame::new(TEXT, deflate(&mut compress, b"Hello Hello Hello")).compressed();
        socket.send(&frame).await.unwrap();
        assert_eq!(socket.read().await.unwrap(), Some(frame));
    }
}

#[tokio::test]
async fn compressed_messages_and_a_subprotocol_are_agreed() {
    let fields = [DEFLATE, ("Sec-WebSocket-Protocol", "chat, superchat")];
    let (upstream, socket) = open_http1("/websocket", &fields).await.unwrap();
    check_compressed(socket).await;
    assert_eq!(
        upstream.received()[0].headers.get("upgrade"),
        Some("websocket")
    );

    let ((upstream, _client), socket) = open_http2("/websocket", &fields).await.unwrap();
    check_compressed(socket).await;
    let received = &upstream.received()[1];
    assert_eq!(
        (received.version, received.method.as_str(), received.path()),
        (Version::Http2, "CONNECT", "/websocket")
    );
    assert_eq!(received.headers.get(":protocol"), Some("websocket"));
}

#[tokio::test]
async fn both_directions_get_the_same_parameters() {
    for (offered, agreed) in [
        (
            "permessage-deflate; server_no_context_takeover",
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ),
        (
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits",
            Some("permessage-deflate; server_max_window_bits=10; client_max_window_bits=10"),
        ),
        ("permessage-deflate; server_max_window_bits=10", None),
        ("x-webkit-deflate-frame", None),
        ("other, permessage-deflate", Some("permessage-deflate")),
    ] {
        let fields = [("Sec-WebSocket-Extensions", offered)];
        let (_upstream, socket) = open_http1("/websocket", &fields).await.unwrap();
        let response = socket.response.unwrap();
        assert_eq!(response.headers.get("sec-websocket-extensions"), agreed);
    }
}
