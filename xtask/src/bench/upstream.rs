//! The benchmark's upstream: it answers as fast as it can from bytes made beforehand, by
//! HTTP/1.1 and HTTP/2, within TLS and in clear. It reads only what its own load sends.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

use testbed::authority::Identity;
use testbed::websocket;

use super::material::{any_key_exchange, like_with_like};
use crate::failure::Failure;

/// How many bytes `/download` sends.
pub(super) const DOWNLOAD_BYTES: u64 = 256 * 1024 * 1024;
const PIECE_BYTES: usize = 64 * 1024;
const LARGE_BYTES: usize = 64 * 1024;
const WORDS_BYTES: usize = 4 * 1024 * 1024;
/// Between a stream's head and its event, so that the event travels alone.
const EVENT_PAUSE: Duration = Duration::from_millis(2);

/// Between two events of `/events`: a model that writes fast.
const EVENT_GAP: Duration = Duration::from_millis(20);
/// Payload of a message of `/websocket`.
const MESSAGE_BYTES: u16 = 1024;
/// Before the payload of a client's message: two octets, two of length, four of the mask (RFC 6455
/// section 5.2). The upstream's are not masked.
const CLIENT_FRAME_BYTES: usize = 8 + MESSAGE_BYTES as usize;
pub(super) const UPSTREAM_FRAME_BYTES: usize = 4 + MESSAGE_BYTES as usize;

const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// A running upstream. Dropping it ends its connections.
#[derive(Debug)]
pub(super) struct Upstream {
    /// TLS with HTTP/1.1 alone, so that a proxy which prefers HTTP/2 is compared like with like.
    pub(super) http1: SocketAddr,
    /// TLS with HTTP/2 alone.
    pub(super) http2: SocketAddr,
    /// As `http1`, with the key exchange that the proxy likes best.
    pub(super) any_key_exchange: SocketAddr,
    pub(super) plain: SocketAddr,
    _tasks: JoinSet<()>,
}

/// Responses ready to send.
#[derive(Debug)]
struct Answers {
    small: Bytes,
    large: Bytes,
    piece: Bytes,
    /// Words, of which each answer of `/64k-new` is another stretch.
    words: Bytes,
    /// Answers of `/64k-new` so far.
    stretches: AtomicU64,
    /// Streams of events so far.
    streams: AtomicU64,
}

impl Upstream {
    pub(super) async fn start(identity: &Identity) -> Result<Self, Failure> {
        let answers = Arc::new(Answers::new());
        let mut tasks = JoinSet::new();
        let mut listen = async |acceptor| -> Result<SocketAddr, Failure> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            tasks.spawn(accept_all(listener, acceptor, Arc::clone(&answers)));
            Ok(address)
        };
        let tls = |protocol, provider| {
            let config = identity.server_config_with(&[protocol], provider);
            Some(TlsAcceptor::from(config))
        };
        let http1 = listen(tls("http/1.1", like_with_like())).await?;
        let http2 = listen(tls("h2", like_with_like())).await?;
        let any_key_exchange = listen(tls("http/1.1", any_key_exchange())).await?;
        let plain = listen(None).await?;
        Ok(Self {
            http1,
            http2,
            any_key_exchange,
            plain,
            _tasks: tasks,
        })
    }
}

impl Answers {
    fn new() -> Self {
        Self {
            small: vec![b'x'; 1024].into(),
            large: vec![b'x'; LARGE_BYTES].into(),
            piece: vec![b'x'; PIECE_BYTES].into(),
            words: words(),
            stretches: AtomicU64::new(0),
            streams: AtomicU64::new(0),
        }
    }

    /// A body that was not sent before. After the number that makes it another, and with which it begins, it is
    /// a stretch of words.
    fn new_body(&self) -> Vec<u8> {
        let number = self.stretches.fetch_add(1, Ordering::Relaxed);
        let mut body = format!("{number:020} ").into_bytes();
        let starts = self.words.len() - LARGE_BYTES;
        let at = usize::try_from(number).unwrap_or_default() * 4099 % starts;
        let rest = LARGE_BYTES - body.len();
        body.extend_from_slice(self.words.get(at..at + rest).unwrap_or_default());
        body
    }

    fn body(&self, path: &[u8]) -> &Bytes {
        if path == b"/64k" {
            &self.large
        } else {
            &self.small
        }
    }
}

/// Words of a small vocabulary in no order, which compress about as text does.
fn words() -> Bytes {
    const PARTS: [&str; 16] = [
        "an", "be", "con", "de", "er", "for", "ing", "is", "le", "mo", "ra", "sta", "ti", "un",
        "ver", "y",
    ];
    // Constants of Knuth's MMIX, TAOCP 3.3.4.
    let mut state: u64 = 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or_default()
    };
    let part = |number: usize| PARTS.get(number % PARTS.len()).copied().unwrap_or_default();
    let mut words = String::new();
    while words.len() < WORDS_BYTES {
        let number = next() % 2048;
        words.push_str(part(number));
        words.push_str(part(number / 16));
        if number % 3 > 0 {
            words.push_str(part(number / 128));
        }
        words.push(' ');
    }
    words.into()
}

/// Nanoseconds on a clock that load and upstream share.
pub(super) fn now_nanoseconds() -> u128 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos()
}

async fn accept_all(listener: TcpListener, tls: Option<TlsAcceptor>, answers: Arc<Answers>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(serve(stream, tls.clone(), Arc::clone(&answers)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Errors end the connection; the load sees them as its own.
async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, answers: Arc<Answers>) {
    let _ended = try_serve(stream, tls, &answers).await;
}

async fn try_serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    answers: &Answers,
) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let Some(acceptor) = tls else {
        return Ok(serve_http1(stream, answers).await?);
    };
    let stream = acceptor.accept(stream).await?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        serve_http2(stream, answers).await
    } else {
        Ok(serve_http1(stream, answers).await?)
    }
}

async fn serve_http1<S>(mut stream: S, answers: &Answers) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ready = |body: &Bytes| {
        let mut response = head(body.len() as u64).into_bytes();
        response.extend_from_slice(body);
        response
    };
    let (small, large) = (ready(&answers.small), ready(&answers.large));
    let mut buffer = BytesMut::with_capacity(4096);
    while stream.read_buf(&mut buffer).await? > 0 {
        while let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let request = buffer.split_to(end + 4);
            let mut words = request.as_ref().split(|byte| *byte == b' ');
            let path = words.nth(1).unwrap_or_default();
            match path {
                b"/64k" => stream.write_all(&large).await?,
                b"/64k-new" => {
                    let body = answers.new_body();
                    stream
                        .write_all(&[head(body.len() as u64).as_bytes(), &body].concat())
                        .await?;
                }
                b"/download" => send_download(&mut stream, answers).await?,
                b"/event" => send_event(&mut stream).await?,
                b"/events" => return send_events(&mut stream, answers).await,
                b"/websocket" => return echo_messages(&mut stream).await,
                _ => stream.write_all(&small).await?,
            }
            stream.flush().await?;
        }
    }
    Ok(())
}

fn head(length: u64) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\
         Server: bench\r\nDate: Fri, 21 Nov 2025 00:00:00 GMT\r\n\r\n"
    )
}

async fn send_download<S: AsyncWrite + Unpin>(stream: &mut S, answers: &Answers) -> io::Result<()> {
    stream.write_all(head(DOWNLOAD_BYTES).as_bytes()).await?;
    for _ in 0..DOWNLOAD_BYTES / PIECE_BYTES as u64 {
        stream.write_all(&answers.piece).await?;
    }
    Ok(())
}

/// A stream of one event.
async fn send_event<S: AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    begin_events(stream).await?;
    tokio::time::sleep(EVENT_PAUSE).await;
    write_event(stream).await?;
    tokio::time::sleep(EVENT_PAUSE).await;
    stream.write_all(b"0\r\n\r\n").await
}

/// One event at once, then one after each gap until the client goes. Streams that begin together
/// are spread over the gap.
async fn send_events<S: AsyncWrite + Unpin>(stream: &mut S, answers: &Answers) -> io::Result<()> {
    begin_events(stream).await?;
    write_event(stream).await?;
    let number = answers.streams.fetch_add(1, Ordering::Relaxed);
    let gap = u64::try_from(EVENT_GAP.as_millis()).map_err(io::Error::other)?;
    let mut next = Instant::now() + EVENT_GAP + Duration::from_millis(number % gap);
    loop {
        sleep_until(next).await;
        write_event(stream).await?;
        next += EVENT_GAP;
    }
}

async fn begin_events<S: AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await
}

/// An event that carries the moment it was sent at.
async fn write_event<S: AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    let event = format!("data: {:020}\n\n", now_nanoseconds());
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    stream.write_all(chunk.as_bytes()).await?;
    stream.flush().await
}

/// Answers each message with one of the same payload until the client goes.
async fn echo_messages<S>(stream: &mut S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        websocket::ACCEPT,
    );
    stream.write_all(head.as_bytes()).await?;
    let (mut received, answer) = ([0; CLIENT_FRAME_BYTES], message(None));
    loop {
        stream.flush().await?;
        stream.read_exact(&mut received).await?;
        stream.write_all(&answer).await?;
    }
}

/// A text message in one frame (RFC 6455 section 5.2).
pub(super) fn message(mask: Option<[u8; 4]>) -> Vec<u8> {
    const FINAL_TEXT: u8 = 0x81;
    const LENGTH_FOLLOWS: u8 = 126;
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![FINAL_TEXT, LENGTH_FOLLOWS | masked];
    frame.extend(MESSAGE_BYTES.to_be_bytes());
    frame.extend(mask.into_iter().flatten());
    let mask = mask.unwrap_or_default();
    let payload = mask.iter().cycle().map(|octet| octet ^ b'x');
    frame.extend(payload.take(usize::from(MESSAGE_BYTES)));
    frame
}

async fn serve_http2<S>(stream: S, answers: &Answers) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(1000)
        .handshake::<_, Bytes>(stream)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted?;
        let body = answers.body(request.uri().path().as_bytes()).clone();
        let response = http::Response::builder()
            .header("content-type", "application/octet-stream")
            .header("content-length", body.len())
            .header("server", "bench")
            .body(())?;
        // The body waits in the connection until the window opens.
        respond
            .send_response(response, false)?
            .send_data(body, true)?;
    }
    Ok(())
}
