//! A fake client that controls each byte: HTTP/1.1 by hand over any mix of proxy, CONNECT and
//! TLS, and [`Http2Client`] on top of the same connection.
//!
//! It reports what arrived and when, and never repairs anything.

mod http2;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::message::{Body, Buffered, Framing, Headers, ResponseHead};
use crate::websocket::{self, Pipe, Role, WebSocket};
use crate::wire::Wire;

pub use http2::{Http2Client, Http2Stream};

/// One connection of a client.
#[derive(Debug)]
pub struct Client {
    // Taken only while TLS is put on it; a failed handshake leaves the client without one.
    peer: Option<Buffered<Wire>>,
}

/// A request for [`Client::request`], written as HTTP/1.1.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// What stands in the request line: a path, or an absolute form for a plain proxy request.
    pub target: String,
    /// The fields, written in this order and case.
    pub headers: Headers,
    /// The body, written with a `Content-Length` unless it is empty.
    pub body: Bytes,
}

/// A response with all that led up to it.
#[derive(Clone, Debug)]
pub struct Response {
    /// Heads with a 1xx status that came first.
    pub interim: Vec<ResponseHead>,
    /// The final head.
    pub head: ResponseHead,
    /// The body, whole or broken.
    pub body: Body,
    /// When its parts arrived.
    pub timing: Timing,
}

/// Times from the moment the request was handed to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Until the final head was there.
    pub head: Duration,
    /// Until the body had ended.
    pub complete: Duration,
}

impl Client {
    /// Connects to an upstream or a proxy.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::on(Wire::dial(address).await?))
    }

    /// Connects to a proxy and asks it for a tunnel. Any answer but 2xx is an error that says
    /// which; use [`Client::send`] to look at such an answer in full.
    pub async fn connect_through(proxy: SocketAddr, authority: &str) -> io::Result<Self> {
        let mut client = Self::connect(proxy).await?;
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        client.send(request).await?;
        let head = client.read_head().await?;
        if !(200..300).contains(&head.status) {
            let refusal = format!("CONNECT {authority}: {} {}", head.status, head.reason);
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, refusal));
        }
        Ok(client)
    }

    /// Speaks on a connection that exists already.
    pub fn on(wire: Wire) -> Self {
        Self {
            peer: Some(Buffered::new(wire)),
        }
    }

    /// Puts TLS on the connection, within the TLS that is there already if there is some. The name
    /// is sent as SNI, or verified as an IP address.
    pub async fn start_tls(&mut self, name: &str, config: Arc<ClientConfig>) -> io::Result<()> {
        let Ok(name) = ServerName::try_from(name.to_owned()) else {
            return Err(io::Error::other(format!("{name} is no server name")));
        };
        let (wire, early) = self.take_peer()?.into_parts();
        if !early.is_empty() {
            return Err(io::Error::other("the peer spoke before the TLS handshake"));
        }
        let stream = TlsConnector::from(config).connect(name, wire).await?;
        self.peer = Some(Buffered::new(Wire::Tls(Box::new(stream.into()))));
        Ok(())
    }

    /// Speaks HTTP/2 on this connection from here on.
    pub async fn start_http2(mut self) -> io::Result<Http2Client> {
        let (wire, _nothing_read) = self.take_peer()?.into_parts();
        Http2Client::start(wire).await
    }

    /// Asks for a WebSocket with a GET of this target and these fields besides the ones it takes
    /// (RFC 6455 section 4.1). Any answer but 101 with the right proof is an error that says which;
    /// use [`Client::request`] to look at such an answer in full.
    pub async fn start_websocket(
        mut self,
        target: &str,
        fields: &[(&str, &str)],
    ) -> io::Result<WebSocket> {
        let mut request = Request::get(target)
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", websocket::KEY);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        self.send(request.to_bytes()).await?;
        let head = self.read_head().await?;
        let proof = head.headers.get("sec-websocket-accept");
        if head.status != 101 || proof != Some(websocket::ACCEPT) {
            let refusal = format!(
                "websocket: {} {}, proof {proof:?}",
                head.status, head.reason
            );
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, refusal));
        }
        let pipe = Pipe::Http1(self.take_peer()?);
        Ok(WebSocket::new(pipe, Role::Client, Some(head)))
    }

    /// Gives the bare connection back, for a caller that reads it in its own way. What was read
    /// too far is lost, so this belongs right after a handshake.
    pub fn into_wire(mut self) -> io::Result<Wire> {
        Ok(self.take_peer()?.into_parts().0)
    }

    /// The connection below, to ask for its addresses, ALPN or certificates.
    pub fn wire(&self) -> io::Result<&Wire> {
        self.peer.as_ref().map(Buffered::stream).ok_or_else(gone)
    }

    /// Sends exactly these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let wire = self.peer()?.stream_mut();
        wire.write_all(bytes.as_ref()).await?;
        wire.flush().await
    }

    /// Reads exactly this many bytes.
    pub async fn read_exact(&mut self, count: usize) -> io::Result<Bytes> {
        self.peer()?.read_exact(count).await
    }

    /// Reads what arrives next. Empty means the peer has closed its side.
    pub async fn read_some(&mut self) -> io::Result<Bytes> {
        self.peer()?.read_some().await
    }

    /// Reads up to and with this pattern.
    pub async fn read_until(&mut self, pattern: impl AsRef<[u8]>) -> io::Result<Bytes> {
        self.peer()?.read_until(pattern.as_ref()).await
    }

    /// Reads until the peer closes its side.
    pub async fn read_to_end(&mut self) -> io::Result<Bytes> {
        self.peer()?.read_to_end().await
    }

    /// Reads the next head, interim or final.
    pub async fn read_head(&mut self) -> io::Result<ResponseHead> {
        self.peer()?.read_response_head().await
    }

    /// Reads a body; one that breaks off says so in [`Body::broken`].
    pub async fn read_body(&mut self, framing: Framing) -> io::Result<Body> {
        Ok(self.peer()?.read_body(framing).await)
    }

    /// Reads the next response to a request with this method, even one whose body breaks off.
    /// Times count from now.
    pub async fn read_response(&mut self, method: &str) -> io::Result<Response> {
        self.read_response_since(method, Instant::now()).await
    }

    /// Sends a request and reads its response. A body that breaks off is an error.
    pub async fn request(&mut self, request: &Request) -> io::Result<Response> {
        let started = Instant::now();
        self.send(request.to_bytes()).await?;
        let response = self.read_response_since(&request.method, started).await?;
        response.whole()
    }

    /// Sends all requests in one write, then reads all responses.
    pub async fn pipeline(&mut self, requests: &[Request]) -> io::Result<Vec<Response>> {
        let started = Instant::now();
        let wire: Vec<u8> = requests.iter().flat_map(Request::to_bytes).collect();
        self.send(wire).await?;
        let mut responses = Vec::with_capacity(requests.len());
        for request in requests {
            let response = self.read_response_since(&request.method, started).await?;
            responses.push(response.whole()?);
        }
        Ok(responses)
    }

    /// Closes our side: TLS says goodbye, TCP sends FIN. Reading goes on.
    pub async fn close_write(&mut self) -> io::Result<()> {
        self.peer()?.stream_mut().shutdown().await
    }

    /// Ends the connection with a TCP reset.
    pub fn reset(mut self) -> io::Result<()> {
        self.take_peer()?.into_parts().0.reset()
    }

    async fn read_response_since(
        &mut self,
        method: &str,
        started: Instant,
    ) -> io::Result<Response> {
        let mut interim = Vec::new();
        let head = loop {
            let head = self.read_head().await?;
            if !head.is_interim() {
                break head;
            }
            interim.push(head);
        };
        let head_time = started.elapsed();
        let framing = head.framing(method)?;
        let body = self.read_body(framing).await?;
        let timing = Timing {
            head: head_time,
            complete: started.elapsed(),
        };
        Ok(Response {
            interim,
            head,
            body,
            timing,
        })
    }

    fn peer(&mut self) -> io::Result<&mut Buffered<Wire>> {
        self.peer.as_mut().ok_or_else(gone)
    }

    fn take_peer(&mut self) -> io::Result<Buffered<Wire>> {
        self.peer.take().ok_or_else(gone)
    }
}

impl Request {
    /// A GET without fields.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST with this body.
    pub fn post(target: &str, body: impl Into<Bytes>) -> Self {
        let mut request = Self::new("POST", target);
        request.body = body.into();
        request
    }

    /// A request without fields or body.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Headers::default(),
            body: Bytes::new(),
        }
    }

    /// Adds a `Host` field.
    #[must_use]
    pub fn host(self, host: &str) -> Self {
        self.header("Host", host)
    }

    /// Adds a field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The bytes that go on the wire.
    pub fn to_bytes(&self) -> Bytes {
        let mut wire = BytesMut::new();
        wire.extend_from_slice(format!("{} {} HTTP/1.1\r\n", self.method, self.target).as_bytes());
        for (name, value) in &self.headers.0 {
            wire.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if !self.body.is_empty() {
            wire.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(&self.body);
        wire.freeze()
    }
}

impl Response {
    /// Turns a response whose body broke off into an error.
    pub fn whole(mut self) -> io::Result<Self> {
        self.body = self.body.whole()?;
        Ok(self)
    }

    /// The kept body as text, with what is no UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.kept).into_owned()
    }
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the TLS handshake on this connection failed",
    )
}
