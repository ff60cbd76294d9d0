//! Fake upstreams on loopback: a general HTTP server whose routes show each way a response can
//! look, with model APIs among them, and a scripted one for exact bytes.
//!
//! An upstream records what it received. It stops when it is dropped; [`Upstream::stop`] also
//! waits until its last task is gone.

mod http1;
mod http2;
mod models;
mod pattern;
mod reply;
mod routes;
mod streams;
mod websocket;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::authority::Identity;
use crate::message::{Body, Headers, RequestHead};
use crate::script::{self, Played, Step};
use crate::wire::Wire;

pub use pattern::pattern;

/// How many requests are remembered; later ones are only counted.
const REQUESTS_KEPT: usize = 10_000;
/// How many body bytes are remembered over all requests.
const BODY_BYTES_KEPT_TOTAL: usize = 64 * 1024 * 1024;

/// What an upstream speaks and how it behaves.
#[derive(Debug)]
pub struct UpstreamOptions {
    /// The certificate it shows. Without one it speaks in clear.
    pub tls: Option<Identity>,
    /// The versions of HTTP it offers by ALPN; in clear, the one it assumes.
    pub protocols: Protocols,
    /// Whether its HTTP/2 takes extended CONNECT, and so WebSockets (RFC 8441 section 3).
    pub extended_connect: bool,
    /// What it does with a connection.
    pub behaviour: Behaviour,
}

/// The versions of HTTP an upstream offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; in clear, by prior knowledge.
    Http2,
    /// Both, preferring HTTP/2; in clear, HTTP/1.1.
    Both,
}

/// What an upstream does with a connection.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers HTTP requests by their path. `upstream/routes.rs` opens with the list of routes;
    /// `/v1/…` and
    /// `/v1beta/…` speak like the APIs of OpenAI, Anthropic and Google.
    Http,
    /// Plays one script per connection, in this order; the last one is played again for all
    /// connections after it.
    Scripts(Vec<Vec<Step>>),
}

/// A running upstream.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    journal: Arc<Journal>,
    tasks: JoinSet<()>,
}

/// One request as the upstream received it.
#[derive(Clone, Debug)]
pub struct Received {
    /// The connection it came on, counted from zero.
    pub connection: u64,
    /// The version of HTTP it came by.
    pub version: Version,
    /// The method.
    pub method: String,
    /// The request target; for HTTP/2 the `:path`, or the `:authority` of a CONNECT.
    pub target: String,
    /// The fields in their order and, by HTTP/1.1, their case. For HTTP/2 `:authority` is first,
    /// then `:protocol`.
    pub headers: Headers,
    /// The head's bytes. Empty for HTTP/2.
    pub raw_head: bytes::Bytes,
    /// The body.
    pub body: Body,
}

/// A version of HTTP on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl UpstreamOptions {
    /// An HTTP server behind TLS.
    pub fn https(identity: Identity, protocols: Protocols) -> Self {
        Self {
            tls: Some(identity),
            protocols,
            extended_connect: true,
            behaviour: Behaviour::Http,
        }
    }

    /// An HTTP/1.1 server in clear.
    pub fn http() -> Self {
        Self {
            tls: None,
            protocols: Protocols::Http1,
            extended_connect: true,
            behaviour: Behaviour::Http,
        }
    }

    /// A server that plays these scripts, within TLS if an identity is given.
    pub fn scripts(tls: Option<Identity>, scripts: Vec<Vec<Step>>) -> Self {
        Self {
            tls,
            protocols: Protocols::Http1,
            extended_connect: true,
            behaviour: Behaviour::Scripts(scripts),
        }
    }
}

impl Upstream {
    /// Listens on a loopback port of the kernel's choice.
    pub async fn start(options: UpstreamOptions) -> io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), options).await
    }

    /// Listens on this address. Tests take a free port by [`start`](Self::start); this is for a
    /// process that has a network of its own.
    pub async fn start_at(address: SocketAddr, options: UpstreamOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let journal = Arc::new(Journal::new());
        let tls = options
            .tls
            .map(|identity| TlsAcceptor::from(identity.server_config(options.protocols.alpn())));
        let server = Arc::new(Server {
            tls,
            protocols: options.protocols,
            extended_connect: options.extended_connect,
            behaviour: options.behaviour,
            journal: Arc::clone(&journal),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(server.accept_all(listener));
        Ok(Self {
            address,
            journal,
            tasks,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests received so far, oldest first. At most 10,000 are remembered.
    pub fn received(&self) -> Vec<Received> {
        self.journal.entries.lock().requests.clone()
    }

    /// How many requests have been received.
    pub fn request_count(&self) -> u64 {
        self.journal.counts.borrow().requests
    }

    /// How many connections have been accepted.
    pub fn connection_count(&self) -> u64 {
        self.journal.counts.borrow().connections
    }

    /// What ended connections early: a failed handshake, a broken request.
    pub fn errors(&self) -> Vec<String> {
        self.journal.entries.lock().errors.clone()
    }

    /// Waits until this many requests have been received in all, and gives them.
    pub async fn wait_for_requests(&self, count: u64) -> Vec<Received> {
        self.wait_for(|counts| counts.requests >= count).await;
        self.received()
    }

    /// Waits until this many scripts have been played, and tells how they went.
    pub async fn wait_for_scripts(&self, count: u64) -> Vec<Played> {
        self.wait_for(|counts| counts.scripts >= count).await;
        self.journal.entries.lock().played.clone()
    }

    /// Ends all connections and waits until their tasks are gone.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }

    async fn wait_for(&self, reached: impl FnMut(&Counts) -> bool) {
        let mut counts = self.journal.counts.subscribe();
        counts
            .wait_for(reached)
            .await
            .expect("the journal outlives this borrow of it");
    }
}

impl Protocols {
    fn alpn(self) -> &'static [&'static str] {
        match self {
            Self::Http1 => &["http/1.1"],
            Self::Http2 => &["h2"],
            Self::Both => &["h2", "http/1.1"],
        }
    }
}

/// What all connections of one upstream share.
struct Server {
    tls: Option<TlsAcceptor>,
    protocols: Protocols,
    extended_connect: bool,
    behaviour: Behaviour,
    journal: Arc<Journal>,
}

impl Server {
    /// Accepts until dropped. The connections' tasks end with this future.
    async fn accept_all(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    // Out of descriptors or reset in the queue: the next one may be fine.
                    let Ok((stream, _)) = accepted else { continue };
                    let connection = self.journal.add_connection();
                    connections.spawn(Arc::clone(&self).serve(stream, connection));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, connection: u64) {
        if let Err(error) = self.try_serve(stream, connection).await {
            self.journal
                .add_error(format!("connection {connection}: {error}"));
        }
    }

    async fn try_serve(&self, stream: TcpStream, connection: u64) -> io::Result<()> {
        let wire = Wire::accepted(stream)?;
        let wire = match &self.tls {
            None => wire,
            Some(acceptor) => Wire::Tls(Box::new(acceptor.accept(wire).await?.into())),
        };
        let speaks_http2 = match wire.alpn() {
            Some(protocol) => protocol == b"h2",
            None => self.protocols == Protocols::Http2,
        };
        match &self.behaviour {
            Behaviour::Scripts(scripts) => self.play(scripts, wire, connection).await,
            Behaviour::Http if speaks_http2 => {
                http2::serve(wire, connection, self.extended_connect, &self.journal).await
            }
            Behaviour::Http => http1::serve(wire, connection, &self.journal).await,
        }
    }

    async fn play(&self, scripts: &[Vec<Step>], mut wire: Wire, connection: u64) -> io::Result<()> {
        let turn = usize::try_from(connection).unwrap_or(usize::MAX);
        let Some(steps) = scripts.get(turn).or_else(|| scripts.last()) else {
            return Ok(());
        };
        let played = script::play(steps, &mut wire).await;
        if played.reset {
            wire.reset()?;
        }
        self.journal.add_played(played);
        Ok(())
    }
}

/// What an upstream remembers.
#[derive(Debug)]
struct Journal {
    entries: Mutex<Entries>,
    counts: watch::Sender<Counts>,
}

#[derive(Debug, Default)]
struct Entries {
    requests: Vec<Received>,
    body_bytes: usize,
    played: Vec<Played>,
    errors: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    connections: u64,
    requests: u64,
    scripts: u64,
}

impl Journal {
    fn new() -> Self {
        Self {
            entries: Mutex::default(),
            counts: watch::Sender::new(Counts::default()),
        }
    }

    fn add_connection(&self) -> u64 {
        let mut number = 0;
        self.counts.send_modify(|counts| {
            number = counts.connections;
            counts.connections += 1;
        });
        number
    }

    fn add_request(&self, mut request: Received) {
        let mut entries = self.entries.lock();
        if entries.requests.len() < REQUESTS_KEPT {
            let size = request.body.kept.len() + request.body.raw.len();
            if entries.body_bytes + size > BODY_BYTES_KEPT_TOTAL {
                request.body.kept.clear();
                request.body.raw.clear();
            } else {
                entries.body_bytes += size;
            }
            entries.requests.push(request);
        }
        drop(entries);
        self.counts.send_modify(|counts| counts.requests += 1);
    }

    fn add_played(&self, played: Played) {
        self.entries.lock().played.push(played);
        self.counts.send_modify(|counts| counts.scripts += 1);
    }

    fn add_error(&self, error: String) {
        let mut entries = self.entries.lock();
        if entries.errors.len() < REQUESTS_KEPT {
            entries.errors.push(error);
        }
    }
}

impl Received {
    fn http1(connection: u64, head: RequestHead, body: Body) -> Self {
        Self {
            connection,
            version: Version::Http1,
            method: head.method,
            target: head.target,
            headers: head.headers,
            raw_head: head.raw,
            body,
        }
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of a query parameter, as it stands.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}
