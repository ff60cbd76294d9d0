//! One HTTP/2 connection to an upstream, shared by the flows that go there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use traffic::{Failure, FailureKind, Side, Stage, UpstreamFacts};

use crate::config::Timeouts;
use crate::error;
use crate::http2::silence::{self, Counted};
use crate::limits::{
    HEAD_BYTES_MAX, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_PING_ANSWER, HTTP2_RESETS_MAX,
    HTTP2_SEND_BUFFER_BYTES, HTTP2_STREAM_WINDOW_BYTES,
};
use crate::shutdown::Tasks;
use crate::stream::Transport;

/// An HTTP/2 connection to an upstream.
#[derive(Debug)]
pub(crate) struct Http2Upstream {
    sender: SendRequest<Bytes>,
    /// Asks whether the upstream is there.
    ping: Arc<tokio::sync::Mutex<Option<PingPong>>>,
    /// The upstream has said its settings.
    settled: AtomicBool,
    pub(crate) facts: Arc<UpstreamFacts>,
    open: Arc<AtomicBool>,
    streams: Arc<AtomicUsize>,
    served: AtomicBool,
    last_used: Arc<Mutex<Instant>>,
    /// Of the bound on connections to one target.
    _permit: OwnedSemaphorePermit,
}

/// Counts one stream as long as it lives.
#[derive(Debug)]
pub(crate) struct StreamGuard {
    last_used: Arc<Mutex<Instant>>,
    streams: Arc<AtomicUsize>,
}

impl Http2Upstream {
    /// Exchanges prefaces and starts the task that drives the connection.
    pub(crate) async fn connect(
        transport: Transport,
        facts: Arc<UpstreamFacts>,
        permit: OwnedSemaphorePermit,
        timeouts: &Timeouts,
        tasks: &Tasks,
    ) -> Result<Self, Failure> {
        let received = Arc::new(AtomicU64::new(0));
        let transport = Counted::new(transport, Arc::clone(&received));
        let handshake = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .max_send_buffer_size(HTTP2_SEND_BUFFER_BYTES)
            .max_concurrent_reset_streams(HTTP2_RESETS_MAX)
            .handshake(transport);
        let (sender, mut connection) = match tokio::time::timeout(timeouts.tls, handshake).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return Err(from_h2(Side::Upstream, Stage::Dial, &error)),
            Err(_) => {
                let what = "did not finish the HTTP/2 preface in time";
                return Err(error::timed_out(Side::Upstream, Stage::Dial, what));
            }
        };
        let ping = Arc::new(tokio::sync::Mutex::new(connection.ping_pong()));
        let asks = Arc::clone(&ping);
        let streams = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&streams);
        let open = Arc::new(AtomicBool::new(true));
        let closes = Arc::clone(&open);
        tasks.spawn("http2 upstream", async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "an HTTP/2 connection to an upstream ended");
                },
                () = silence::until_lost(&received, &counted, || answers(&asks)) => {
                    tracing::debug!("an HTTP/2 connection to an upstream went dead");
                }
            }
            closes.store(false, Ordering::Release);
        });
        Ok(Self {
            sender,
            ping,
            settled: AtomicBool::new(false),
            facts,
            open,
            streams,
            served: AtomicBool::new(false),
            last_used: Arc::new(Mutex::new(Instant::now())),
            _permit: permit,
        })
    }

    /// A handle for one request, and the guard that counts it. True if the connection has served
    /// before.
    pub(crate) fn begin(&self) -> (SendRequest<Bytes>, StreamGuard, bool) {
        *self.last_used.lock() = Instant::now();
        self.streams.fetch_add(1, Ordering::Relaxed);
        let guard = StreamGuard {
            last_used: Arc::clone(&self.last_used),
            streams: Arc::clone(&self.streams),
        };
        (
            self.sender.clone(),
            guard,
            self.served.swap(true, Ordering::Relaxed),
        )
    }

    /// True if the upstream takes WebSockets (RFC 8441 section 3). It says so in its settings, which
    /// are the first it says (RFC 9113 section 3.4): they have come once it answers a ping.
    pub(crate) async fn takes_websockets(&self, limit: Duration) -> bool {
        if self.sender.is_extended_connect_protocol_enabled() {
            return true;
        }
        if self.settled.load(Ordering::Relaxed) {
            return false;
        }
        let mut ping = self.ping.lock().await;
        if !self.settled.load(Ordering::Relaxed)
            && let Some(asking) = &mut *ping
        {
            let answer = tokio::time::timeout(limit, asking.ping(Ping::opaque()));
            if matches!(answer.await, Ok(Ok(_))) {
                self.settled.store(true, Ordering::Relaxed);
            }
        }
        self.sender.is_extended_connect_protocol_enabled()
    }

    /// True if a request was begun on it.
    pub(crate) fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Takes the connection out of use: it is going away, or is gone.
    pub(crate) fn retire(&self) {
        self.open.store(false, Ordering::Release);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.streams() < self.sender.current_max_send_streams()
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// False once it is closed, or was idle for longer than `idle`: then the last handle to it
    /// goes, and with it the connection.
    pub(crate) fn stays(&self, idle: Duration) -> bool {
        self.is_open() && (self.streams() > 0 || self.last_used.lock().elapsed() < idle)
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        *self.last_used.lock() = Instant::now();
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// True unless a PING goes unanswered for too long; one that cannot be sent says nothing.
async fn answers(ping: &tokio::sync::Mutex<Option<PingPong>>) -> bool {
    let mut ping = ping.lock().await;
    let Some(ping) = &mut *ping else { return true };
    let answer = tokio::time::timeout(HTTP2_PING_ANSWER, ping.ping(Ping::opaque()));
    answer.await.is_ok()
}

/// What an error of the h2 crate means.
pub(crate) fn from_h2(side: Side, stage: Stage, error: &h2::Error) -> Failure {
    if let Some(io) = error.get_io() {
        return error::broken(side, stage, io);
    }
    let kind = match error.reason() {
        Some(_) if error.is_reset() => FailureKind::Reset,
        Some(h2::Reason::NO_ERROR) => FailureKind::ClosedEarly,
        Some(_) => FailureKind::Malformed,
        None => FailureKind::Io,
    };
    error::failure(
        side,
        stage,
        kind,
        format!("HTTP/2 with the {}: {error}", side.as_str()),
    )
}

#[cfg(test)]
mod tests;
