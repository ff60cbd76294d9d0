//! Plays replies on an HTTP/1.1 connection, one request after the other.
//!
//! Head and first piece leave in one write, as a well-behaved server's do.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::reply::{HeadPace, Part, Reply, ReplyFraming};
use super::websocket::{Answer, Manner};
use super::{Journal, Received, routes, websocket};
use crate::message::{Body, Buffered, Headers, RequestHead};
use crate::websocket::{Pipe, Role, WebSocket};
use crate::wire::Wire;

/// Whether the connection takes another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Next,
    Close,
    Reset,
}

pub(super) async fn serve(wire: Wire, connection: u64, journal: &Journal) -> io::Result<()> {
    let mut peer = Buffered::new(wire);
    loop {
        let Some(head) = peer.read_request_head().await? else {
            return peer.stream_mut().shutdown().await;
        };
        let refused = routes::refuses_body(&head.target);
        let body = if refused {
            Body::default()
        } else {
            read_body(&mut peer, &head).await?
        };
        let (is_head, closes) = (head.method == "HEAD", head.closes() || refused);
        let request = Received::http1(connection, head, body);
        let reply = match websocket::answer(&request) {
            Answer::NotAsked => routes::answer(&request),
            Answer::Refuse(reply) => reply,
            Answer::Open(fields, manner) => {
                journal.add_request(request);
                return upgrade(peer, &fields, manner).await;
            }
        };
        journal.add_request(request);
        match play(&mut peer, reply, is_head).await? {
            After::Next if !closes => {}
            After::Next | After::Close => return peer.stream_mut().shutdown().await,
            After::Reset => return peer.into_parts().0.reset(),
        }
    }
}

async fn upgrade(mut peer: Buffered<Wire>, fields: &Headers, manner: Manner) -> io::Result<()> {
    let mut head = BytesMut::from(&b"HTTP/1.1 101 Switching Protocols\r\n"[..]);
    put_fields(&mut head, fields);
    send(peer.stream_mut(), &mut head).await?;
    let socket = WebSocket::new(Pipe::Http1(peer), Role::Upstream, None);
    websocket::serve(socket, manner).await
}

async fn read_body(peer: &mut Buffered<Wire>, head: &RequestHead) -> io::Result<Body> {
    if head.expects_continue() {
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        peer.stream_mut().write_all(interim).await?;
        peer.stream_mut().flush().await?;
    }
    peer.read_body(head.framing()?).await.whole()
}

async fn play(peer: &mut Buffered<Wire>, reply: Reply, is_head: bool) -> io::Result<After> {
    let wire = peer.stream_mut();
    let mut pending = BytesMut::new();
    for (status, headers) in &reply.interim {
        pending.extend_from_slice(b"HTTP/1.1 ");
        pending.extend_from_slice(format!("{status} Interim\r\n").as_bytes());
        put_fields(&mut pending, headers);
        send(wire, &mut pending).await?;
    }
    match reply.head {
        HeadPace::AtOnce => put_head(&mut pending, &reply),
        HeadPace::Never => {}
        HeadPace::Split(pause) => {
            put_head(&mut pending, &reply);
            let mut first = pending.split_to(pending.len() / 2);
            send(wire, &mut first).await?;
            tokio::time::sleep(pause).await;
        }
    }
    if is_head || reply.framing == ReplyFraming::Bodiless {
        send(wire, &mut pending).await?;
        return Ok(After::Next);
    }
    let is_chunked = reply.framing == ReplyFraming::Chunked;
    let mut has_trailers = false;
    for part in reply.parts {
        match part {
            Part::Data(data) => put_data(wire, &mut pending, &data, is_chunked).await?,
            Part::Pause(pause) => {
                send(wire, &mut pending).await?;
                tokio::time::sleep(pause).await;
            }
            Part::Trailers(fields) => {
                pending.extend_from_slice(b"0\r\n");
                put_fields(&mut pending, &fields);
                has_trailers = true;
            }
            Part::Cut => {
                send(wire, &mut pending).await?;
                return Ok(After::Close);
            }
            Part::Reset(_) => {
                send(wire, &mut pending).await?;
                return Ok(After::Reset);
            }
            Part::Hang => {
                send(wire, &mut pending).await?;
                wait_for_close(wire).await?;
                return Ok(After::Close);
            }
        }
    }
    if is_chunked && !has_trailers {
        pending.extend_from_slice(b"0\r\n\r\n");
    }
    send(wire, &mut pending).await?;
    Ok(match reply.framing {
        ReplyFraming::Close => After::Close,
        ReplyFraming::Length(_) | ReplyFraming::Chunked | ReplyFraming::Bodiless => After::Next,
    })
}

fn put_head(pending: &mut BytesMut, reply: &Reply) {
    let line = format!("HTTP/1.1 {} {}\r\n", reply.status, reply.reason);
    pending.extend_from_slice(line.as_bytes());
    match reply.framing {
        ReplyFraming::Length(length) => {
            pending.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        }
        ReplyFraming::Chunked => pending.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        ReplyFraming::Close | ReplyFraming::Bodiless => {}
    }
    put_fields(pending, &reply.headers);
}

fn put_fields(pending: &mut BytesMut, fields: &Headers) {
    for (name, value) in &fields.0 {
        pending.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    pending.extend_from_slice(b"\r\n");
}

async fn put_data(
    wire: &mut Wire,
    pending: &mut BytesMut,
    data: &Bytes,
    is_chunked: bool,
) -> io::Result<()> {
    if is_chunked {
        pending.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    }
    pending.extend_from_slice(data);
    if is_chunked {
        pending.extend_from_slice(b"\r\n");
    }
    send(wire, pending).await
}

async fn send(wire: &mut Wire, pending: &mut BytesMut) -> io::Result<()> {
    if pending.is_empty() {
        return Ok(());
    }
    wire.write_all(pending).await?;
    pending.clear();
    wire.flush().await
}

async fn wait_for_close(wire: &mut Wire) -> io::Result<()> {
    let mut ignored = [0; 1024];
    while wire.read(&mut ignored).await? > 0 {}
    Ok(())
}
