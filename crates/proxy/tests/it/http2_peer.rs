//! An upstream that speaks HTTP/2 as a test wants it, stream by stream.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use testbed::client::{Client, Http2Client};
use testbed::gate::Gate;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::running::{NAME, Running, upstream_authority};
use crate::soon;

type Stream = (Request<RecvStream>, SendResponse<Bytes>);

/// An upstream whose connections are served by a function of the test. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Http2Peer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

/// The streams of one connection, as they are opened. The connection is driven beside it.
#[derive(Debug)]
pub(crate) struct Streams {
    opened: mpsc::Receiver<Stream>,
    ending: mpsc::Sender<Ending>,
}

/// How an upstream ends a connection.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Goodbye,
    HangUp,
}

impl Streams {
    /// The next stream; `None` once the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }

    /// Says that no further stream is taken, and closes once those that are open have ended.
    pub(crate) fn go_away(&self) {
        // It may have been said already.
        let _said = self.ending.try_send(Ending::Goodbye);
    }

    /// Closes the connection without a word.
    pub(crate) fn hang_up(&self) {
        let _said = self.ending.try_send(Ending::HangUp);
    }
}

impl Http2Peer {
    /// Listens, offering `h2` alone, and serves each connection with `serve`.
    pub(crate) async fn start<F, S>(serve: F) -> Self
    where
        F: Fn(Streams) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let identity = upstream_authority().issue(&[NAME]);
        let acceptor = TlsAcceptor::from(identity.server_config(&["h2"]));
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut running = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                // The proxy asks for HTTP/1.1 first where its client speaks nothing else.
                let Ok(tls) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut settings = h2::server::Builder::new();
                let connection = settings.enable_connect_protocol().handshake(tls);
                let connection = connection.await.unwrap();
                let (opens, opened) = mpsc::channel(64);
                let (ending, asked) = mpsc::channel(1);
                running.spawn(drive(connection, opens, asked));
                running.spawn(serve(Streams { opened, ending }));
            }
        });
        Self {
            address,
            connections,
            _tasks: tasks,
        }
    }

    /// Sends half of a response to the first request, and resets its stream when the gate opens.
    pub(crate) async fn breaking_off(reason: Reason) -> (Self, Gate) {
        let gate = Gate::new();
        let go = gate.clone();
        let peer = Self::start(move |mut streams: Streams| {
            let go = go.clone();
            async move {
                let (_request, mut respond) = streams.next().await.unwrap();
                let head = http::Response::new(());
                let mut stream = respond.send_response(head, false).unwrap();
                let half = Bytes::from_static(b"half");
                stream.send_data(half, false).unwrap();
                go.wait().await;
                stream.send_reset(reason);
                while streams.next().await.is_some() {}
            }
        });
        (peer.await, gate)
    }

    /// Says on the first connection that carries a request that it has processed none, and answers
    /// on the others.
    pub(crate) async fn saying_goodbye_first() -> Self {
        /// SETTINGS without any, and GOAWAY with 0 as the last stream and NO_ERROR as its reason
        /// (RFC 9113 sections 6.5 and 6.8).
        const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        const HEADERS: u8 = 1;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let identity = upstream_authority().issue(&[NAME]);
        let acceptor = TlsAcceptor::from(identity.server_config(&["h2"]));
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut first = loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                if let Ok(tls) = acceptor.accept(stream).await {
                    break tls;
                }
            };
            first.write_all(&SETTINGS).await.unwrap();
            first.read_exact(&mut [0; 24]).await.unwrap();
            loop {
                let mut header = [0; 9];
                first.read_exact(&mut header).await.unwrap();
                let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
                let mut payload = vec![0; length as usize];
                first.read_exact(&mut payload).await.unwrap();
                if header[3] == HEADERS {
                    break;
                }
            }
            first.write_all(&GOAWAY).await.unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                let Ok(tls) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut connection = h2::server::handshake(tls).await.unwrap();
                while let Some(Ok((_request, mut respond))) = connection.accept().await {
                    let response = http::Response::new(());
                    let mut body = respond.send_response(response, false).unwrap();
                    body.send_data(Bytes::from_static(b"elsewhere"), true)
                        .unwrap();
                }
            }
        });
        Self {
            address,
            connections,
            _tasks: tasks,
        }
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The authority to ask the proxy for.
    pub(crate) fn authority(&self) -> String {
        format!("{NAME}:{}", self.address.port())
    }

    /// A client of this upstream through the proxy, by HTTP/2.
    pub(crate) async fn connect(&self, running: &Running) -> Http2Client {
        let client = self.connect_tls(running, "h2").await;
        client.start_http2().await.unwrap()
    }

    /// A client of this upstream through the proxy, with TLS.
    pub(crate) async fn connect_tls(&self, running: &Running, alpn: &str) -> Client {
        let authority = self.authority();
        let connected = Client::connect_through(running.address, &authority);
        let mut client = soon(connected).await.unwrap();
        let tls = client.start_tls(NAME, running.client_config(&[alpn]));
        soon(tls).await.unwrap();
        client
    }
}

async fn drive(
    mut connection: Connection<TlsStream<TcpStream>, Bytes>,
    opens: mpsc::Sender<Stream>,
    mut asked: mpsc::Receiver<Ending>,
) {
    let mut open = true;
    loop {
        tokio::select! {
            stream = connection.accept() => match stream {
                // What the test does not take any more is dropped, which resets it.
                Some(Ok(stream)) => drop(opens.send(stream).await),
                Some(Err(_)) | None => return,
            },
            ending = asked.recv(), if open => match ending {
                Some(Ending::Goodbye) => connection.graceful_shutdown(),
                Some(Ending::HangUp) => return,
                None => open = false,
            },
        }
    }
}

/// A stream that CONNECT opened as a pipe.
pub(crate) fn as_pipe(mut outgoing: SendStream<Bytes>, mut incoming: RecvStream) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut read, mut write) = tokio::io::split(far);
    let up = async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = read.read(&mut buffer).await.unwrap_or(0);
            if length == 0 {
                let _ended = outgoing.send_data(Bytes::new(), true);
                return;
            }
            let mut data = Bytes::copy_from_slice(&buffer[..length]);
            while !data.is_empty() {
                outgoing.reserve_capacity(data.len());
                let granted = std::future::poll_fn(|cx| outgoing.poll_capacity(cx)).await;
                let Some(Ok(capacity)) = granted else { return };
                let piece = data.split_to(capacity.min(data.len()));
                if outgoing.send_data(piece, false).is_err() {
                    return;
                }
            }
        }
    };
    let down = async move {
        while let Some(Ok(data)) = incoming.data().await {
            let _released = incoming.flow_control().release_capacity(data.len());
            if write.write_all(&data).await.is_err() {
                return;
            }
        }
        let _ended = write.shutdown().await;
    };
    // The pipe lives as long as the test's runtime.
    drop(tokio::runtime::Handle::current().spawn(async move { tokio::join!(up, down) }));
    near
}
