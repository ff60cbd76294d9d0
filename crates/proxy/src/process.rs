//! Finds the local process that opened a connection.
//!
//! Where it stands: beside the path of the bytes. A connection has a [`ConnectionProcess`], which
//! anybody may ask as often as they like; the first to ask causes the one lookup. A process that had
//! connections a moment ago is mostly found in place, by a few calls of the system of which none waits
//! and whose number is bounded ([`PROCESS_GUESSES_MAX`]); whatever needs more is done on a thread for
//! blocking work. It never looks at what is not on this machine, never delays the bytes, and an
//! answer that takes too long is an error. A client that is gone before it is looked up is an
//! error too: ask soon after the accept.
//!
//! What it says is what was true when it looked, or within [`PROCESS_DESCRIBED_AGE_MAX`] before: a
//! process that connects again and again is read anew when it begins another program, and now and
//! then. A process may hand its sockets on, and of several that share one after a fork, the youngest
//! is named.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use traffic::{AttributionError, ProcessAnswer, ProcessCell};

#[cfg(doc)]
use crate::limits::{PROCESS_DESCRIBED_AGE_MAX, PROCESS_GUESSES_MAX};
use crate::limits::{PROCESS_LOOKUP, PROCESS_LOOKUPS_MAX};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux::{Seen, System};

// Compiled with the tests too, so that it is not forgotten where only Linux is built.
#[cfg(any(test, not(target_os = "linux")))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
use elsewhere::{Seen, System};

/// Finds processes, and remembers which had connections before. One for an engine.
#[derive(Debug)]
pub struct Attribution {
    system: System,
    running: Arc<Semaphore>,
}

impl Attribution {
    /// Nothing is read until something is asked.
    #[must_use]
    pub fn new() -> Self {
        Self {
            system: System::new(),
            running: Arc::new(Semaphore::new(PROCESS_LOOKUPS_MAX)),
        }
    }

    /// The process that holds the client's end of an accepted TCP connection. `client` and `proxy`
    /// are the addresses of the accepted socket, the peer's and its own.
    ///
    /// It blocks while it reads files of the kernel, for at most [`PROCESS_LOOKUP`].
    pub fn lookup(&self, client: SocketAddr, proxy: SocketAddr) -> ProcessAnswer {
        let end = ClientEnd::Tcp { client, proxy };
        self.lookup_until(end, Seen::default(), Instant::now() + PROCESS_LOOKUP)
    }

    /// The process that connected to a Unix socket, by the credentials that the kernel kept of that
    /// moment (`SO_PEERCRED`, unix(7)). If the number is another user's by now, the process is gone.
    ///
    /// It blocks while it reads files of the kernel, for at most [`PROCESS_LOOKUP`].
    pub fn lookup_peer(&self, pid: u32, uid: u32) -> ProcessAnswer {
        let end = ClientEnd::Unix { pid, uid };
        self.lookup_until(end, Seen::default(), Instant::now() + PROCESS_LOOKUP)
    }

    /// The answer, if it takes some microseconds in which nothing is waited for; else what was seen of it,
    /// for [`lookup_until`](Self::lookup_until).
    fn lookup_at_once(&self, end: ClientEnd) -> Result<ProcessAnswer, Seen> {
        let end = end.canonical();
        if !end.is_local() {
            return Ok(Err(AttributionError::NotLocal));
        }
        match end {
            ClientEnd::Tcp { client, proxy } => self.system.lookup_at_once(client, proxy),
            ClientEnd::Unix { .. } => Err(Seen::default()),
        }
    }

    fn lookup_until(&self, end: ClientEnd, seen: Seen, deadline: Instant) -> ProcessAnswer {
        let end = end.canonical();
        if !end.is_local() {
            return Err(AttributionError::NotLocal);
        }
        match end {
            ClientEnd::Tcp { client, proxy } => self.system.lookup(client, proxy, seen, deadline),
            ClientEnd::Unix { pid, uid } => self.system.lookup_peer(pid, uid, deadline),
        }
    }
}

impl Default for Attribution {
    fn default() -> Self {
        Self::new()
    }
}

/// What is known of the client's end of a connection.
#[derive(Clone, Copy, Debug)]
enum ClientEnd {
    Tcp {
        client: SocketAddr,
        proxy: SocketAddr,
    },
    Unix {
        pid: u32,
        uid: u32,
    },
}

impl ClientEnd {
    /// With IPv4 addresses in IPv6 form as IPv4: a listener for both sees the former.
    fn canonical(self) -> Self {
        match self {
            Self::Tcp { client, proxy } => Self::Tcp {
                client: canonical(client),
                proxy: canonical(proxy),
            },
            Self::Unix { .. } => self,
        }
    }

    /// Whether the client can be on this machine. One that connects from an address of this machine
    /// to another of its addresses is not taken for local; nobody does so without being asked to.
    fn is_local(self) -> bool {
        match self {
            Self::Tcp { client, proxy } => client.ip().is_loopback() || client.ip() == proxy.ip(),
            Self::Unix { .. } => true,
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(six) => match six.ip().to_ipv4_mapped() {
            Some(four) => SocketAddr::from((four, six.port())),
            // The scope of a link-local address stays.
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

/// The process behind one connection: looked up once, when first asked for. It is kept for as long as the
/// connection is: when it is dropped, a next connection of that process is looked for in its place.
#[derive(Debug)]
pub struct ConnectionProcess {
    attribution: Arc<Attribution>,
    end: ClientEnd,
    limit: Duration,
    lookup: OnceLock<Lookup>,
    known: ProcessCell,
}

#[derive(Debug)]
enum Lookup {
    /// In place.
    Done(ProcessAnswer),
    /// On a thread for blocking work.
    Begun(Shared<BoxFuture<'static, ProcessAnswer>>),
}

impl ConnectionProcess {
    /// For an accepted TCP connection, by the addresses of its socket.
    #[must_use]
    pub fn of_tcp(attribution: Arc<Attribution>, client: SocketAddr, proxy: SocketAddr) -> Self {
        Self::new(attribution, ClientEnd::Tcp { client, proxy })
    }

    /// For a connection to a Unix socket, by the credentials of its peer.
    #[must_use]
    pub fn of_unix(attribution: Arc<Attribution>, pid: u32, uid: u32) -> Self {
        Self::new(attribution, ClientEnd::Unix { pid, uid })
    }

    fn new(attribution: Arc<Attribution>, end: ClientEnd) -> Self {
        Self {
            attribution,
            end,
            limit: PROCESS_LOOKUP,
            lookup: OnceLock::new(),
            known: ProcessCell::default(),
        }
    }

    /// Waits for at most `limit`, in place of [`PROCESS_LOOKUP`].
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Where the answer will be, for those who do not wait for it.
    #[must_use]
    pub fn known(&self) -> ProcessCell {
        self.known.clone()
    }

    /// The process; waits for it for at most [`PROCESS_LOOKUP`] or what
    /// [`within`](Self::within) said, from the first call on, in which it may have to wait for [`PROCESS_LOOKUPS_MAX`] other lookups.
    /// One that is found in place is there at the first poll.
    ///
    /// Dropping the future ends nothing: the next caller gets the answer of the same lookup.
    pub async fn find(&self) -> ProcessAnswer {
        match self.lookup.get_or_init(|| self.begin()) {
            Lookup::Done(answer) => answer.clone(),
            Lookup::Begun(lookup) => lookup.clone().await,
        }
    }

    fn begin(&self) -> Lookup {
        let known = self.known();
        let attribution = Arc::clone(&self.attribution);
        match attribution.lookup_at_once(self.end) {
            Ok(answer) => {
                known.set(answer.clone());
                Lookup::Done(answer)
            }
            Err(seen) => {
                let found = look_up(attribution, self.end, seen, self.limit);
                let found = found.inspect(move |answer| known.set(answer.clone()));
                Lookup::Begun(found.boxed().shared())
            }
        }
    }

    /// The answer if it is there already; nothing is begun.
    #[must_use]
    pub fn answer(&self) -> Option<ProcessAnswer> {
        self.known.get().cloned()
    }
}

impl Drop for ConnectionProcess {
    /// What was found for a connection that has ended is a hint where the next one is.
    fn drop(&mut self) {
        if let (Some(Ok(info)), ClientEnd::Tcp { client, .. }) = (self.known.get(), self.end) {
            self.attribution.system.note_end(info.pid, client);
        }
    }
}

async fn look_up(
    attribution: Arc<Attribution>,
    end: ClientEnd,
    seen: Seen,
    limit: Duration,
) -> ProcessAnswer {
    let deadline = Instant::now() + limit;
    let running = Arc::clone(&attribution.running);
    let found = async move {
        let permit = running.acquire_owned().await;
        let looking = tokio::task::spawn_blocking(move || {
            // It is held until the thread is done, also if nobody waits any more.
            let _permit = permit;
            attribution.lookup_until(end, seen, deadline)
        });
        looking.await
    };
    match tokio::time::timeout_at(deadline, found).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            // A panic, or the runtime ends.
            tracing::error!(%error, "a lookup of a process did not end");
            Err(AttributionError::Gone)
        }
        Err(_elapsed) => Err(AttributionError::TimedOut),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
