//! Plays replies on an HTTP/2 connection, one future per stream, all within the connection's task.
//!
//! The receive window opens only as request bodies are read, so flow control is real.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::reply::{HeadPace, Part, Reply, ReplyFraming};
use super::websocket::Answer;
use super::{Journal, Received, Version, routes, websocket};
use crate::message::{Body, Headers};
use crate::stream::{fields_of, read_body, send_data};
use crate::websocket::{Pipe, Role, WebSocket};
use crate::wire::Wire;

const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const STREAMS_MAX: u32 = 1000;

pub(super) async fn serve(
    wire: Wire,
    connection: u64,
    extended_connect: bool,
    journal: &Journal,
) -> io::Result<()> {
    let mut settings = h2::server::Builder::new();
    if extended_connect {
        settings.enable_connect_protocol();
    }
    let mut accepted = settings
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .handshake::<_, Bytes>(wire)
        .await
        .map_err(io::Error::other)?;
    let mut streams = FuturesUnordered::new();
    loop {
        tokio::select! {
            stream = accepted.accept() => {
                let Some(stream) = stream else { return Ok(()) };
                let (request, respond) = stream.map_err(io::Error::other)?;
                streams.push(answer(request, respond, connection, journal));
            }
            Some(result) = streams.next() => {
                if let Err(error) = result {
                    journal.add_error(format!("stream on connection {connection}: {error}"));
                }
            }
        }
    }
}

async fn answer(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: u64,
    journal: &Journal,
) -> io::Result<()> {
    let (head, stream) = request.into_parts();
    if head.extensions.get::<Protocol>().is_none() {
        let answered = answer_plain(&head, stream, respond, connection, journal).await;
        return answered.map_err(io::Error::other);
    }
    let request = received(connection, &head, Body::default());
    let answer = websocket::answer(&request);
    journal.add_request(request);
    match answer {
        Answer::NotAsked => {
            let reply = Reply::full(501, "text/plain", "no such protocol\n");
            play(respond, reply, false).await.map_err(io::Error::other)
        }
        Answer::Refuse(reply) => play(respond, reply, false).await.map_err(io::Error::other),
        Answer::Open(fields, manner) => {
            let head = interim_head(200, &fields);
            let send = respond
                .send_response(head, false)
                .map_err(io::Error::other)?;
            let pipe = Pipe::Http2 {
                send,
                receive: stream,
            };
            websocket::serve(WebSocket::new(pipe, Role::Upstream, None), manner).await
        }
    }
}

async fn answer_plain(
    head: &http::request::Parts,
    mut stream: RecvStream,
    mut respond: SendResponse<Bytes>,
    connection: u64,
    journal: &Journal,
) -> Result<(), h2::Error> {
    let refused = routes::refuses_body(head.uri.path());
    if !refused && head.headers.get("expect").is_some() {
        respond.send_informational(interim_head(100, &Headers::default()))?;
    }
    let body = if refused {
        Body::default()
    } else {
        read_body(&mut stream).await
    };
    if body.broken.is_some() {
        return Ok(());
    }
    let is_head = head.method == http::Method::HEAD;
    let request = received(connection, head, body);
    let reply = routes::answer(&request);
    journal.add_request(request);
    play(respond, reply, is_head).await
}

fn received(connection: u64, head: &http::request::Parts, body: Body) -> Received {
    let authority = head.uri.authority().map(ToString::to_string);
    let target = head.uri.path_and_query().map(ToString::to_string);
    let mut headers = fields_of(&head.headers);
    if let Some(protocol) = head.extensions.get::<Protocol>() {
        let protocol = protocol.as_str().to_owned();
        headers.0.insert(0, (":protocol".to_owned(), protocol));
    }
    if let Some(authority) = &authority {
        headers
            .0
            .insert(0, (":authority".to_owned(), authority.clone()));
    }
    Received {
        connection,
        version: Version::Http2,
        method: head.method.to_string(),
        target: target.or(authority).unwrap_or_default(),
        headers,
        raw_head: Bytes::new(),
        body,
    }
}

async fn play(
    mut respond: SendResponse<Bytes>,
    reply: Reply,
    is_head: bool,
) -> Result<(), h2::Error> {
    for (status, headers) in &reply.interim {
        respond.send_informational(interim_head(*status, headers))?;
    }
    if let HeadPace::Split(pause) = reply.head {
        tokio::time::sleep(pause).await;
    }
    if reply.head == HeadPace::Never {
        end_without_head(respond, reply).await;
        return Ok(());
    }
    let ends_here = is_head || reply.framing == ReplyFraming::Bodiless;
    let stream = respond.send_response(response_head(&reply), ends_here)?;
    if ends_here {
        return Ok(());
    }
    play_body(stream, reply).await
}

async fn play_body(mut stream: SendStream<Bytes>, reply: Reply) -> Result<(), h2::Error> {
    for part in reply.parts {
        match part {
            Part::Data(data) => send_data(&mut stream, data).await?,
            Part::Pause(pause) => tokio::time::sleep(pause).await,
            Part::Trailers(fields) => return stream.send_trailers(header_map(&fields)),
            // The stream ends short of its content-length: what HTTP/2 has for a cut body.
            Part::Cut => break,
            Part::Reset(code) => {
                stream.send_reset(Reason::from(code));
                return Ok(());
            }
            Part::Hang => {
                let given_up = poll_fn(|context| stream.poll_reset(context)).await;
                return given_up.map(|_| ());
            }
        }
    }
    stream.send_data(Bytes::new(), true)
}

async fn end_without_head(mut respond: SendResponse<Bytes>, mut reply: Reply) {
    match reply.parts.next() {
        Some(Part::Reset(code)) => respond.send_reset(Reason::from(code)),
        _ => {
            // Only the peer ends this wait: by a reset or by closing the connection.
            let _ended = poll_fn(|context| respond.poll_reset(context)).await;
        }
    }
}

fn response_head(reply: &Reply) -> Response<()> {
    let mut response = interim_head(reply.status, &reply.headers);
    response.headers_mut().remove("connection");
    if let ReplyFraming::Length(length) = reply.framing {
        response
            .headers_mut()
            .insert("content-length", length.into());
    }
    response
}

fn interim_head(status: u16, headers: &Headers) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() =
        http::StatusCode::from_u16(status).expect("routes answer with three-digit codes");
    *response.headers_mut() = header_map(headers);
    response
}

fn header_map(fields: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in &fields.0 {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("routes name fields in ASCII");
        let value = HeaderValue::from_str(value).expect("routes give values in ASCII");
        map.append(name, value);
    }
    map
}
