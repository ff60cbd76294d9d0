//! Passes bytes between a client and an upstream without looking at them: both ways at once,
//! counted, and with each side's end passed on as it comes.
//!
//! Between two sockets on Linux the bytes stay in the kernel (`splice(2)`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use traffic::{Failure, Side, Stage};

use crate::deadline::Deadline;
use crate::error;
use crate::limits::TUNNEL_BYTES;
use crate::stream::{Replay, Wire};

#[cfg(target_os = "linux")]
mod splice;

/// What a tunnel ended with.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// Bytes that came from the client and were sent on.
    pub(crate) from_client: u64,
    /// Bytes that came from the upstream and were sent on.
    pub(crate) from_upstream: u64,
    /// Why it ended, unless both sides ended it in order.
    pub(crate) failure: Option<Failure>,
}

/// One direction of a tunnel.
struct Lane {
    held: Vec<u8>,
    /// What of `held` is still to be written.
    from: usize,
    to: usize,
    passed: u64,
    state: LaneState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LaneState {
    Open,
    /// The source has ended; the sink is to be told.
    Ending,
    Ended,
}

/// Runs until both sides have ended, one of them breaks, or nothing moves for `idle`. What does not
/// end in order, or is cut, ends with a reset for both sides: an orderly end would pass for the end
/// of what was to come. (A Unix-domain socket has no reset; TLS in the tunnel tells the two apart.)
/// `passed` holds the counts at every moment, so they are there if this is dropped.
pub(crate) async fn run(client: Replay, upstream: Replay, idle: Duration, passed: &mut Passed) {
    let (client, upstream) = (client.into_parts(), upstream.into_parts());
    match (client, upstream) {
        #[cfg(target_os = "linux")]
        ((Wire::Tcp(client), up), (Wire::Tcp(upstream), down)) => {
            let ahead = splice::Ahead { up, down };
            splice::run(client, upstream, ahead, idle, passed).await;
        }
        (client, upstream) => copy(client, upstream, idle, passed).await,
    }
}

/// Each end comes with what was read from it already.
async fn copy(
    (mut client, up): (Wire, BytesMut),
    (mut upstream, down): (Wire, BytesMut),
    idle: Duration,
    passed: &mut Passed,
) {
    // On the client's side, dropping the stream resets it.
    upstream.reset_on_drop(true);
    let mut up = Lane::new(&up);
    let mut down = Lane::new(&down);
    let mut deadline = Deadline::after(idle);
    passed.failure = std::future::poll_fn(|cx| {
        let moved_before = up.passed + down.passed;
        let going_up = up.poll(cx, &mut client, &mut upstream);
        let coming_down = down.poll(cx, &mut upstream, &mut client);
        (passed.from_client, passed.from_upstream) = (up.passed, down.passed);
        match (going_up, coming_down) {
            (Poll::Ready(Err((side, error))), _) => {
                // What a lane reads from is the other side of what it writes to.
                return Poll::Ready(Some(broken(side, Side::Client, &error)));
            }
            (_, Poll::Ready(Err((side, error)))) => {
                return Poll::Ready(Some(broken(side, Side::Upstream, &error)));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(None),
            _ => {}
        }
        if up.passed + down.passed != moved_before {
            deadline.set(idle);
        }
        ready!(deadline.poll_passed(cx));
        Poll::Ready(Some(idled()))
    })
    .await;
    if passed.failure.is_none() {
        upstream.reset_on_drop(false);
    }
}

/// Which end of a lane an error came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Source,
    Sink,
}

fn broken(end: End, source: Side, error: &io::Error) -> Failure {
    let side = match (end, source) {
        (End::Source, side) => side,
        (End::Sink, Side::Client) => Side::Upstream,
        (End::Sink, _) => Side::Client,
    };
    error::broken(side, Stage::Tunnel, error)
}

fn idled() -> Failure {
    error::timed_out(
        Side::Upstream,
        Stage::Tunnel,
        "and the client sent nothing for too long",
    )
}

impl Lane {
    fn new(ahead: &[u8]) -> Self {
        Self {
            held: ahead.to_vec(),
            from: 0,
            to: ahead.len(),
            passed: 0,
            state: LaneState::Open,
        }
    }

    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
    ) -> Poll<Result<(), (End, io::Error)>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let at_sink = |error| (End::Sink, error);
        loop {
            while self.from < self.to {
                let waiting = self.held.get(self.from..self.to).unwrap_or_default();
                let written =
                    ready!(Pin::new(&mut *sink).poll_write(cx, waiting)).map_err(at_sink)?;
                if written == 0 {
                    return Poll::Ready(Err((End::Sink, io::ErrorKind::WriteZero.into())));
                }
                self.from += written;
                self.passed += written as u64;
            }
            match self.state {
                LaneState::Ended => return Poll::Ready(Ok(())),
                LaneState::Ending => {
                    // A peer that is gone already needs no telling.
                    let _told = ready!(Pin::new(&mut *sink).poll_shutdown(cx));
                    self.state = LaneState::Ended;
                    return Poll::Ready(Ok(()));
                }
                LaneState::Open => {}
            }
            if self.held.len() < TUNNEL_BYTES {
                self.held.resize(TUNNEL_BYTES, 0);
            }
            let mut room = ReadBuf::new(&mut self.held);
            match Pin::new(&mut *source).poll_read(cx, &mut room) {
                Poll::Ready(Ok(())) => {
                    (self.from, self.to) = (0, room.filled().len());
                    if self.to == 0 {
                        self.state = LaneState::Ending;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err((End::Source, error))),
                Poll::Pending => {
                    ready!(Pin::new(&mut *sink).poll_flush(cx)).map_err(at_sink)?;
                    return Poll::Pending;
                }
            }
        }
    }
}
