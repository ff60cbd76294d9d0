//! The HTTP/2 side of the fake client: many streams on one connection.
//!
//! The connection is driven by a task of its own, which ends when the client is dropped.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Response, Timing};
use crate::message::ResponseHead;
use crate::stream::{fields_of, read_body, send_data};
use crate::websocket::{Pipe, Role, WebSocket};
use crate::wire::Wire;

const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// A client on one HTTP/2 connection.
#[derive(Debug)]
pub struct Http2Client {
    sender: SendRequest<Bytes>,
    driver: JoinSet<Result<(), h2::Error>>,
}

/// One stream, for a test that wants each step in its own hand.
#[derive(Debug)]
pub struct Http2Stream {
    /// Where the request's body goes.
    pub body: SendStream<Bytes>,
    /// Where the response comes from.
    pub response: ResponseFuture,
}

impl Http2Client {
    /// Starts HTTP/2 on a connection, whatever its ALPN says.
    pub async fn start(wire: Wire) -> io::Result<Self> {
        let mut settings = h2::client::Builder::new();
        settings
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .enable_push(false);
        Self::start_with(wire, &settings).await
    }

    /// Starts HTTP/2 with settings of the caller's choice, such as a small window.
    pub async fn start_with(wire: Wire, settings: &h2::client::Builder) -> io::Result<Self> {
        let (sender, connection) = settings.handshake(wire).await.map_err(io::Error::other)?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self { sender, driver })
    }

    /// Sends a request and reads its response. A body that breaks off is an error. Requests may
    /// run side by side on clones of the sender.
    pub async fn request(&self, request: http::Request<Bytes>) -> io::Result<Response> {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let bodiless = body.is_empty();
        let mut stream = self
            .open(http::Request::from_parts(head, ()), bodiless)
            .await?;
        if !bodiless {
            send_data(&mut stream.body, body)
                .await
                .map_err(io::Error::other)?;
            stream
                .body
                .send_data(Bytes::new(), true)
                .map_err(io::Error::other)?;
        }
        read_response(stream.response, started).await?.whole()
    }

    /// Opens a stream and sends its head. The URI carries scheme and authority.
    pub async fn open(&self, head: http::Request<()>, ends_here: bool) -> io::Result<Http2Stream> {
        let mut sender = self
            .sender
            .clone()
            .ready()
            .await
            .map_err(io::Error::other)?;
        let (response, body) = sender
            .send_request(head, ends_here)
            .map_err(io::Error::other)?;
        Ok(Http2Stream { body, response })
    }

    /// Asks for a WebSocket with an extended CONNECT (RFC 8441 section 5). The peer must have
    /// allowed it in its settings, which have come for certain once it has answered a request.
    /// Any answer but 200 is an error that says which.
    pub async fn start_websocket(
        &self,
        uri: &str,
        fields: &[(&str, &str)],
    ) -> io::Result<WebSocket> {
        if !self.sender.is_extended_connect_protocol_enabled() {
            let refusal = "the peer has not allowed extended CONNECT";
            return Err(io::Error::new(io::ErrorKind::Unsupported, refusal));
        }
        let mut request = http::Request::connect(uri)
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).map_err(io::Error::other)?;
        let Http2Stream { body, response } = self.open(request, false).await?;
        let (head, receive) = response.await.map_err(io::Error::other)?.into_parts();
        if head.status != http::StatusCode::OK {
            let refusal = format!("websocket: {}", head.status);
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, refusal));
        }
        let pipe = Pipe::Http2 {
            send: body,
            receive,
        };
        let head = plain_head(&http::Response::from_parts(head, ()));
        Ok(WebSocket::new(pipe, Role::Client, Some(head)))
    }

    /// Waits until the connection has ended and tells how: `Ok` after a GOAWAY without error.
    pub async fn closed(mut self) -> Result<(), h2::Error> {
        drop(self.sender);
        match self.driver.join_next().await {
            Some(Ok(ended)) => ended,
            Some(Err(_)) | None => Ok(()),
        }
    }
}

impl Http2Stream {
    /// Reads the response, even one whose body breaks off. Times count from now.
    pub async fn read_response(self) -> io::Result<Response> {
        read_response(self.response, Instant::now()).await
    }
}

async fn read_response(mut response: ResponseFuture, started: Instant) -> io::Result<Response> {
    let mut interim = Vec::new();
    loop {
        let next = poll_fn(|context| response.poll_informational(context)).await;
        let Some(head) = next else { break };
        interim.push(plain_head(&head.map_err(io::Error::other)?));
    }
    let (head, mut stream): (_, RecvStream) =
        response.await.map_err(io::Error::other)?.into_parts();
    let head_time = started.elapsed();
    let body = read_body(&mut stream).await;
    let timing = Timing {
        head: head_time,
        complete: started.elapsed(),
    };
    let head = plain_head(&http::Response::from_parts(head, ()));
    Ok(Response {
        interim,
        head,
        body,
        timing,
    })
}

fn plain_head(head: &http::Response<()>) -> ResponseHead {
    ResponseHead {
        raw: Bytes::new(),
        status: head.status().as_u16(),
        reason: String::new(),
        http10: false,
        headers: fields_of(head.headers()),
    }
}
