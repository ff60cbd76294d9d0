//! A stretch of bad network: a TCP relay between two ends that delays, throttles, stalls, cuts or
//! resets, each direction on its own.
//!
//! It knows no protocol. One fault plan serves all connections; each counts its bytes from zero.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::wire::Wire;

const READ_BYTES: usize = 16 * 1024;

/// What happens in each direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// From the end that connected to the one behind.
    pub to_upstream: Fault,
    /// From the end behind to the one that connected.
    pub to_client: Fault,
}

/// What happens in one direction. By default, nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fault {
    /// Each piece is held this long before it is passed on and the next one read.
    pub delay: Duration,
    /// No more than this many bytes pass in a second.
    pub bytes_per_second: Option<u32>,
    /// What ends the direction early.
    pub break_at: Option<BreakAt>,
}

/// An early end, after as many bytes as given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakAt {
    /// Both connections are closed in an orderly way.
    Cut(u64),
    /// Both connections are reset.
    Reset(u64),
    /// Nothing more passes, and nothing is closed.
    Stall(u64),
}

/// A running relay. Dropping it ends all its connections.
#[derive(Debug)]
pub struct BadNetwork {
    address: SocketAddr,
    tasks: JoinSet<()>,
}

impl BadNetwork {
    /// Listens on a loopback port and relays each connection to this address.
    pub async fn start(target: SocketAddr, faults: Faults) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept_all(listener, target, faults));
        Ok(Self { address, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections and waits until their tasks are gone.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn accept_all(listener: TcpListener, target: SocketAddr, faults: Faults) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(relay(stream, target, faults));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr, faults: Faults) {
    // An upstream that refuses is seen by the client as a connection that closes at once.
    let Ok(Wire::Plain(mut upstream)) = Wire::dial(target).await else {
        return;
    };
    let is_broken = {
        let (client_read, client_write) = client.split();
        let (upstream_read, upstream_write) = upstream.split();
        let to_upstream = pass(client_read, upstream_write, faults.to_upstream);
        let to_client = pass(upstream_read, client_write, faults.to_client);
        tokio::try_join!(to_upstream, to_client)
    };
    if is_broken == Err(Broken::Reset) {
        for stream in [&client, &upstream] {
            stream
                .set_zero_linger()
                .expect("an open socket takes a linger time");
        }
    }
}

/// Why a direction ended before its sender closed it: both connections end with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Cut,
    Reset,
}

impl From<io::Error> for Broken {
    /// A connection that fails on one side is reset on the other.
    fn from(_error: io::Error) -> Self {
        Self::Reset
    }
}

/// Passes bytes until the sender closes, which is passed on as a half-close.
async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, fault: Fault) -> Result<(), Broken> {
    let mut buffer = vec![0; READ_BYTES];
    let mut passed = 0;
    let mut due = Instant::now();
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(to.shutdown().await?);
        }
        let piece = buffer.get(..count).unwrap_or_default();
        let (piece, end) = fault.cut(piece, passed);
        passed += piece.len() as u64;
        due = due.max(Instant::now() + fault.delay) + fault.time_of(piece.len());
        sleep_until(due).await;
        to.write_all(piece).await?;
        match end {
            None => {}
            Some(BreakAt::Cut(_)) => return Err(Broken::Cut),
            Some(BreakAt::Reset(_)) => return Err(Broken::Reset),
            Some(BreakAt::Stall(_)) => std::future::pending().await,
        }
    }
}

impl Fault {
    /// The part of this piece that may pass, and the early end if it is reached with it.
    fn cut<'a>(&self, piece: &'a [u8], passed: u64) -> (&'a [u8], Option<BreakAt>) {
        let Some(end) = self.break_at else {
            return (piece, None);
        };
        let (BreakAt::Cut(limit) | BreakAt::Reset(limit) | BreakAt::Stall(limit)) = end;
        let room = usize::try_from(limit.saturating_sub(passed)).unwrap_or(usize::MAX);
        match piece.get(..room) {
            Some(allowed) => (allowed, Some(end)),
            None => (piece, None),
        }
    }

    fn time_of(&self, bytes: usize) -> Duration {
        match self.bytes_per_second {
            Some(rate) if rate > 0 => Duration::from_secs_f64(bytes as f64 / f64::from(rate)),
            Some(_) | None => Duration::ZERO,
        }
    }
}
