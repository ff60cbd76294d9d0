//! WebSockets pass byte for byte, and their messages are told.

mod deflated;
mod ending;
mod messages;
mod opening;
mod versions;

use std::io;

use bytes::Bytes;
use testbed::client::Http2Client;
use testbed::upstream::{Protocols, Upstream, Version};
use testbed::websocket::{ACCEPT, Frame, KEY, WebSocket};
use traffic::wire::websocket::{Close, Observation};

use crate::recorder::FlowSeen;
use crate::running::{NAME, Running, authority_of, https};
use crate::soon;

/// An upgrade as a client may write it: case, order and white space of its own.
fn upgrade() -> String {
    format!(
        "GET /chat?x=1 HTTP/1.1\r\nhost:a\r\nConnection: keep-alive, Upgrade\r\nX-Two: 2\r\n\
         upgrade: WebSocket\r\nSec-WebSocket-Key:  {KEY}\r\nSEC-WEBSOCKET-VERSION: 13\r\n\r\n"
    )
}

fn switching() -> String {
    format!(
        "HTTP/1.1 101 Of Course\r\nSec-WebSocket-Accept: {ACCEPT}\r\nConnection: upgrade\r\n\
         Upgrade: websocket\r\nX-One: 1\r\n\r\n"
    )
}

/// The client's bytes of these frames, as one would see them on the wire.
fn masked(frames: &[Frame]) -> Vec<u8> {
    let bytes = frames
        .iter()
        .map(|frame| frame.to_bytes(Some([1, 2, 3, 4])));
    bytes.collect::<Vec<_>>().concat()
}

fn unmasked(frames: &[Frame]) -> Vec<u8> {
    let bytes = frames.iter().map(|frame| frame.to_bytes(None));
    bytes.collect::<Vec<_>>().concat()
}

/// What a message says in short.
fn told(observed: &[Observation]) -> Vec<String> {
    let told = |observation: &Observation| match observation {
        Observation::Message(message) => format!(
            "{:?} {} {}/{} in {}{}",
            message.kind,
            String::from_utf8_lossy(message.payload.get(..20).unwrap_or(&message.payload)),
            message.payload_bytes,
            message.wire_bytes,
            message.frames,
            if message.complete { "" } else { ", cut" },
        ),
        Observation::Ping(payload) => format!("Ping {}", String::from_utf8_lossy(payload)),
        Observation::Pong(payload) => format!("Pong {}", String::from_utf8_lossy(payload)),
        Observation::Close(Close { code, reason }) => {
            format!("Close {code:?} {}", String::from_utf8_lossy(reason))
        }
        Observation::Note(problem) => format!("Note {problem:?}"),
    };
    observed.iter().map(told).collect()
}

/// A WebSocket of the general upstream through the proxy by HTTP/1.1.
async fn open(running: &Running, path: &str, fields: &[(&str, &str)]) -> (WebSocket, Upstream) {
    let upstream = https(Protocols::Both).await;
    let opened = open_by(Version::Http1, running, &upstream, path, fields).await;
    (opened.unwrap().0, upstream)
}

/// Opens a WebSocket as a client of either version; with the connection that it is a stream of.
async fn open_by(
    version: Version,
    running: &Running,
    upstream: &Upstream,
    path: &str,
    fields: &[(&str, &str)],
) -> io::Result<(WebSocket, Option<Http2Client>)> {
    match version {
        Version::Http1 => {
            let client = running.through_tls(upstream, &["http/1.1"]).await;
            let fields = [&[("Host", NAME)], fields].concat();
            let socket = soon(client.start_websocket(path, &fields)).await?;
            Ok((socket, None))
        }
        Version::Http2 => {
            let url = format!("https://{}{path}", authority_of(upstream));
            let client = http2(running, upstream).await;
            let socket = soon(client.start_websocket(&url, fields)).await?;
            Ok((socket, Some(client)))
        }
    }
}

/// A client of HTTP/2 that knows the settings of its peer.
async fn http2(running: &Running, upstream: &Upstream) -> Http2Client {
    let client = running.through_tls(upstream, &["h2", "http/1.1"]).await;
    let client = client.start_http2().await.unwrap();
    let url = format!("https://{}/bytes/1", authority_of(upstream));
    let get = http::Request::get(url).body(Bytes::new()).unwrap();
    assert_eq!(soon(client.request(get)).await.unwrap().head.status, 200);
    client
}

/// The flow of a WebSocket that was opened with [`open_by`].
async fn its_flow(running: &Running, version: Version) -> FlowSeen {
    // A client of HTTP/2 asks for something else first.
    let count = 1 + usize::from(version == Version::Http2);
    running.recorder.ended(count).await.pop().unwrap()
}
