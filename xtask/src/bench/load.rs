//! The benchmark's load: clients that ask as fast as they are answered, and keep times.
//!
//! It runs on one thread together with the upstream, so that both have the same clock and leave
//! the proxy a core of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

use testbed::client::Client;
use testbed::websocket;
use testbed::wire::Wire;

use super::cases::Load;
use super::turns::Place;
use super::upstream::{DOWNLOAD_BYTES, UPSTREAM_FRAME_BYTES, message, now_nanoseconds};
use crate::failure::Failure;

/// Connections or streams that are busy at once.
const CONNECTIONS: usize = 24;
/// New connections that are made at once.
const AT_A_TIME: usize = 8;
const READ_BYTES: usize = 256 * 1024;
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// A stall of this kind comes from a delayed acknowledgement, which waits for 40 ms.
const STALL: Duration = Duration::from_millis(35);

/// How a client gets to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the upstream itself, or to a reverse proxy in its place.
    Straight(SocketAddr),
    /// By CONNECT through a proxy.
    Connect(SocketAddr),
    /// By a request with an absolute target, in clear.
    Absolute(SocketAddr),
}

/// Where to go and how to ask.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    pub(super) way: Way,
    /// The upstream's name, sent as SNI, and its port.
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) path: &'static str,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// When to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Requests before this moment only warm up.
    pub(super) start: Instant,
    pub(super) end: Instant,
}

/// What was seen within the window.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// One per request, in microseconds.
    pub(super) latencies: Vec<f64>,
    pub(super) stalls: u64,
    /// One per stream, in microseconds: from the request to its first event.
    pub(super) firsts: Vec<f64>,
}

impl Window {
    pub(super) fn new(warm_up: Duration, length: Duration) -> Self {
        let start = Instant::now() + warm_up;
        Self {
            start,
            end: start + length,
        }
    }
}

impl Window {
    fn has(&self, moment: Instant) -> bool {
        (self.start..=self.end).contains(&moment)
    }
}

impl Seen {
    fn add(&mut self, is_measured: bool, asked: Instant) {
        if is_measured {
            self.push(asked.elapsed());
        }
    }

    pub(super) fn push(&mut self, latency: Duration) {
        self.latencies.push(latency.as_secs_f64() * 1e6);
        self.stalls += u64::from(latency >= STALL);
    }

    pub(super) fn merge(&mut self, mut other: Self) {
        self.latencies.append(&mut other.latencies);
        self.firsts.append(&mut other.firsts);
        self.stalls += other.stalls;
    }
}

impl Aim {
    async fn open(&self) -> io::Result<Wire> {
        self.open_from(Ipv4Addr::LOCALHOST).await
    }

    /// Opens a connection from this address of the machine.
    async fn open_from(&self, source: Ipv4Addr) -> io::Result<Wire> {
        let mut client = match self.way {
            Way::Straight(address) | Way::Absolute(address) => Client::connect(address).await?,
            Way::Connect(proxy) => {
                let mut client = Client::on(dial_from(source, proxy).await?);
                let authority = format!("{}:{}", self.name, self.port);
                let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
                client.send(request).await?;
                let status = client.read_head().await?.status;
                if !(200..300).contains(&status) {
                    return Err(io::Error::other(format!(
                        "CONNECT was answered with {status}"
                    )));
                }
                client
            }
        };
        if let Some(config) = &self.tls {
            client.start_tls(&self.name, Arc::clone(config)).await?;
        }
        client.into_wire()
    }

    fn request(&self) -> Vec<u8> {
        let (name, port, path) = (&self.name, self.port, self.path);
        let target = match self.way {
            Way::Absolute(_) => format!("http://{name}:{port}{path}"),
            Way::Straight(_) | Way::Connect(_) => path.to_owned(),
        };
        format!(
            "GET {target} HTTP/1.1\r\nHost: {name}:{port}\r\nUser-Agent: bench\r\n\
             Accept: */*\r\nAuthorization: Bearer bench\r\n\r\n"
        )
        .into_bytes()
    }
}

async fn dial_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<Wire> {
    let socket = TcpSocket::new_v4()?;
    // Bound, a port is not used again for a minute; new connections need more than there are.
    if source != Ipv4Addr::LOCALHOST {
        socket.bind((source, 0).into())?;
    }
    Wire::accepted(socket.connect(address).await?)
}

/// Begins the tasks of a load that takes turns.
pub(super) async fn spawn_workers(
    load: Load,
    aim: &Aim,
    place: &Place,
    workers: &mut JoinSet<io::Result<Seen>>,
) -> Result<(), Failure> {
    let sender = match load {
        Load::Http2 => Some(open_http2(aim, workers).await?),
        _ => None,
    };
    let count = match load {
        Load::NewConnections => AT_A_TIME,
        _ => CONNECTIONS,
    };
    for _ in 0..count {
        let (aim, place) = (aim.clone(), place.clone());
        match (load, &sender) {
            (_, Some(sender)) => workers.spawn(http2_worker(aim, sender.clone(), place)),
            (Load::NewConnections, _) => workers.spawn(new_connections_worker(aim, place)),
            (Load::Messages, _) => workers.spawn(message_worker(aim, place)),
            _ => workers.spawn(http1_worker(aim, place)),
        };
    }
    Ok(())
}

async fn http1_worker(aim: Aim, mut place: Place) -> io::Result<Seen> {
    let mut wire = aim.open().await?;
    let request = aim.request();
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut seen = Seen::default();
    while let Some(is_measured) = place.turn().await {
        let asked = Instant::now();
        wire.write_all(&request).await?;
        wire.flush().await?;
        read_response(&mut wire, &mut buffer).await?;
        seen.add(is_measured, asked);
    }
    Ok(seen)
}

/// Opens a connection for several streams. It ends when nobody sends on it any more.
async fn open_http2(
    aim: &Aim,
    workers: &mut JoinSet<io::Result<Seen>>,
) -> Result<h2::client::SendRequest<Bytes>, Failure> {
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake::<_, Bytes>(aim.open().await?)
        .await?;
    workers.spawn(async move {
        connection.await.map_err(io::Error::other)?;
        Ok(Seen::default())
    });
    Ok(sender)
}

async fn http2_worker(
    aim: Aim,
    mut sender: h2::client::SendRequest<Bytes>,
    mut place: Place,
) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let uri = format!("https://{}:{}{}", aim.name, aim.port, aim.path);
    let mut request = http::Request::new(());
    *request.uri_mut() = uri.parse().map_err(io::Error::other)?;
    while let Some(is_measured) = place.turn().await {
        let asked = Instant::now();
        http2_request(&mut sender, request.clone())
            .await
            .map_err(io::Error::other)?;
        seen.add(is_measured, asked);
    }
    Ok(seen)
}

async fn http2_request(
    sender: &mut h2::client::SendRequest<Bytes>,
    request: http::Request<()>,
) -> Result<(), h2::Error> {
    std::future::poll_fn(|context| sender.poll_ready(context)).await?;
    let (response, _) = sender.send_request(request, true)?;
    let mut body = response.await?.into_body();
    while let Some(piece) = body.data().await {
        body.flow_control().release_capacity(piece?.len())?;
    }
    Ok(())
}

/// Makes a connection for each request.
async fn new_connections_worker(aim: Aim, mut place: Place) -> io::Result<Seen> {
    let mut seen = Seen::default();
    while let Some(is_measured) = place.turn().await {
        let asked = Instant::now();
        ask_once(&aim).await?;
        seen.add(is_measured, asked);
    }
    Ok(seen)
}

/// Makes one connection to each name, some at a time.
pub(super) async fn new_names(aim: &Aim, names: &[String]) -> Result<Seen, Failure> {
    let mut workers = JoinSet::new();
    for part in names.chunks(names.len().div_ceil(AT_A_TIME).max(1)) {
        let (aim, part) = (aim.clone(), part.to_vec());
        workers.spawn(async move {
            let mut seen = Seen::default();
            for name in part {
                let aim = Aim {
                    name,
                    ..aim.clone()
                };
                let asked = Instant::now();
                ask_once(&aim).await?;
                seen.push(asked.elapsed());
            }
            Ok(seen)
        });
    }
    collect(workers).await
}

async fn ask_once(aim: &Aim) -> io::Result<()> {
    let mut wire = aim.open().await?;
    wire.write_all(&aim.request()).await?;
    wire.flush().await?;
    read_response(&mut wire, &mut BytesMut::with_capacity(4096)).await?;
    wire.shutdown().await
}

/// Downloads once. The latency is that of the whole.
pub(super) async fn download(aim: &Aim) -> Result<Seen, Failure> {
    let asked = Instant::now();
    let mut wire = aim.open().await?;
    wire.write_all(&aim.request()).await?;
    wire.flush().await?;
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let length = read_response(&mut wire, &mut buffer).await?;
    if length != DOWNLOAD_BYTES {
        return Err(Failure::new(format!("the download had {length} bytes")));
    }
    Ok(Seen {
        latencies: vec![asked.elapsed().as_secs_f64() * 1e6],
        ..Seen::default()
    })
}

/// Asks for streams one after the other; the latency is an event's way from upstream to here.
pub(super) async fn events(aim: &Aim, count: usize) -> Result<Seen, Failure> {
    let mut wire = aim.open().await?;
    let request = aim.request();
    let mut buffer = BytesMut::with_capacity(4096);
    let mut seen = Seen::default();
    for _ in 0..count {
        wire.write_all(&request).await?;
        wire.flush().await?;
        let sent = loop {
            if let Some((sent, _)) = next_event(&buffer) {
                break sent;
            }
            read_more(&mut wire, &mut buffer).await?;
        };
        seen.push(since(sent));
        while !buffer.ends_with(b"0\r\n\r\n") {
            read_more(&mut wire, &mut buffer).await?;
        }
        buffer.clear();
    }
    Ok(seen)
}

/// Asks for a stream of events on each of these connections at once, and takes what comes until
/// the window ends; latencies are the ways of events from upstream to here.
pub(super) async fn streams(aim: &Aim, wires: Vec<Wire>, window: Window) -> Result<Seen, Failure> {
    let mut workers = JoinSet::new();
    for wire in wires {
        workers.spawn(stream_worker(aim.request(), wire, window));
    }
    collect(workers).await
}

async fn stream_worker(request: Vec<u8>, mut wire: Wire, window: Window) -> io::Result<Seen> {
    let mut buffer = BytesMut::with_capacity(4096);
    let mut seen = Seen::default();
    let asked = Instant::now();
    wire.write_all(&request).await?;
    wire.flush().await?;
    while Instant::now() < window.end {
        read_more(&mut wire, &mut buffer).await?;
        while let Some((sent, end)) = next_event(&buffer) {
            buffer.advance(end);
            if seen.firsts.is_empty() {
                seen.firsts.push(asked.elapsed().as_secs_f64() * 1e6);
            } else if window.has(Instant::now()) {
                seen.push(since(sent));
            }
        }
    }
    Ok(seen)
}

/// Opens so many connections at once.
pub(super) async fn open_all(aim: &Aim, count: usize) -> Result<Vec<Wire>, Failure> {
    let mut workers = JoinSet::new();
    for _ in 0..count {
        let aim = aim.clone();
        workers.spawn(async move { aim.open().await });
    }
    let mut wires = Vec::new();
    while let Some(worker) = workers.join_next().await {
        wires.push(worker??);
    }
    Ok(wires)
}

/// Opens so many connections, this many at a time, asks once on each, and keeps them. They come from
/// as many loopback addresses as are open at a time: a proxy may bound what one client has.
pub(super) async fn ask_and_keep(
    aim: &Aim,
    count: usize,
    at_a_time: usize,
) -> Result<(Seen, Vec<Wire>), Failure> {
    let mut workers = JoinSet::new();
    for first in 0..at_a_time {
        let aim = aim.clone();
        let source = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + u32::try_from(first)?);
        workers.spawn(async move {
            let (mut seen, mut wires) = (Seen::default(), Vec::new());
            for _ in (first..count).step_by(at_a_time) {
                let mut wire = aim.open_from(source).await?;
                let asked = Instant::now();
                wire.write_all(&aim.request()).await?;
                wire.flush().await?;
                read_response(&mut wire, &mut BytesMut::with_capacity(4096)).await?;
                seen.push(asked.elapsed());
                wires.push(wire);
            }
            Ok((seen, wires))
        });
    }
    let (mut all, mut kept) = (Seen::default(), Vec::new());
    while let Some(worker) = workers.join_next().await {
        let worker: io::Result<(Seen, Vec<Wire>)> = worker?;
        let (seen, mut wires) = worker?;
        all.merge(seen);
        kept.append(&mut wires);
    }
    Ok((all, kept))
}

/// Sends messages over a WebSocket, each when the one before has come back.
async fn message_worker(aim: Aim, mut place: Place) -> io::Result<Seen> {
    let wire = aim.open().await?;
    let mut wire = open_websocket(&aim, wire).await?;
    let (sent, mut received) = (message(Some(*b"mask")), [0; UPSTREAM_FRAME_BYTES]);
    let expected = message(None);
    let mut seen = Seen::default();
    while let Some(is_measured) = place.turn().await {
        let asked = Instant::now();
        wire.write_all(&sent).await?;
        wire.flush().await?;
        wire.read_exact(&mut received).await?;
        if received[..] != expected {
            return Err(io::Error::other("another message came back"));
        }
        seen.add(is_measured, asked);
    }
    Ok(seen)
}

/// Asks for a WebSocket (RFC 6455 section 4.1).
async fn open_websocket(aim: &Aim, mut wire: Wire) -> io::Result<Wire> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}:{}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
        aim.path,
        aim.name,
        aim.port,
        websocket::KEY,
    );
    wire.write_all(request.as_bytes()).await?;
    wire.flush().await?;
    let mut head = BytesMut::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        read_more(&mut wire, &mut head).await?;
    }
    match head.starts_with(b"HTTP/1.1 101 ") {
        true => Ok(wire),
        false => Err(io::Error::other("no WebSocket was opened")),
    }
}

/// The moment that the first complete event in these bytes carries, and where the event ends.
fn next_event(bytes: &[u8]) -> Option<(u128, usize)> {
    let start = bytes.windows(6).position(|window| window == b"data: ")? + 6;
    let digits = bytes.get(start..start + 20)?;
    let sent = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((sent, start + 20))
}

/// How long ago the upstream sent what carries this moment.
fn since(sent: u128) -> Duration {
    let delay = now_nanoseconds().saturating_sub(sent);
    Duration::from_nanos(u64::try_from(delay).unwrap_or(u64::MAX))
}

/// Reads one response with a length and gives the length of its body.
async fn read_response(wire: &mut Wire, buffer: &mut BytesMut) -> io::Result<u64> {
    let (head_length, body_length) = loop {
        if let Some(lengths) = parse_head(buffer)? {
            break lengths;
        }
        read_more(wire, buffer).await?;
    };
    let mut left = body_length;
    let mut have = buffer.len() - head_length;
    while (have as u64) < left {
        left -= have as u64;
        buffer.clear();
        read_more(wire, buffer).await?;
        have = buffer.len();
    }
    buffer.clear();
    Ok(body_length)
}

fn parse_head(bytes: &[u8]) -> io::Result<Option<(usize, u64)>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = response.parse(bytes).map_err(io::Error::other)?
    else {
        return Ok(None);
    };
    if response.code != Some(200) {
        return Err(io::Error::other(format!("status {:?}", response.code)));
    }
    let is_length =
        |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case("content-length");
    let text = response
        .headers
        .iter()
        .find(is_length)
        .map(|field| field.value);
    let body = text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    match body {
        Some(body) => Ok(Some((length, body))),
        None => Err(io::Error::other("the response has no length")),
    }
}

async fn read_more(wire: &mut Wire, buffer: &mut BytesMut) -> io::Result<()> {
    buffer.reserve(4096);
    match wire.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

async fn collect(mut workers: JoinSet<io::Result<Seen>>) -> Result<Seen, Failure> {
    let mut all = Seen::default();
    while let Some(worker) = workers.join_next().await {
        all.merge(worker??);
    }
    Ok(all)
}
