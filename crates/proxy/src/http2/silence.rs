//! Notices that an upstream does not answer any more though its connection stays open: it is asked
//! with a PING (RFC 9113 section 6.7) once it has been silent while streams were open. What is shared
//! by many flows must not swallow them all until each has waited for as long as a model may think.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::limits::{HTTP2_PING_INTERVAL, HTTP2_SILENCE};
use crate::stream::{Transport, hand_on};

/// A transport that counts the octets that come.
#[derive(Debug)]
pub(super) struct Counted {
    transport: Transport,
    received: Arc<AtomicU64>,
}

impl Counted {
    pub(super) fn new(transport: Transport, received: Arc<AtomicU64>) -> Self {
        Self {
            transport,
            received,
        }
    }
}

/// Returns once a peer with open streams was silent for [`HTTP2_SILENCE`] and `answers` says that it
/// did not answer a PING. After an answer it is asked again at the next silence, but if nothing else
/// came in between only after [`HTTP2_PING_INTERVAL`].
pub(super) async fn until_lost<A: Future<Output = bool>>(
    received: &AtomicU64,
    streams: &AtomicUsize,
    answers: impl Fn() -> A,
) {
    let mut heard = received.load(Ordering::Relaxed);
    let mut asked: Option<Instant> = None;
    loop {
        tokio::time::sleep(HTTP2_SILENCE).await;
        let before = received.load(Ordering::Relaxed);
        if before != heard {
            heard = before;
            asked = None;
            continue;
        }
        let asked_lately = asked.is_some_and(|asked| asked.elapsed() < HTTP2_PING_INTERVAL);
        if asked_lately || streams.load(Ordering::Relaxed) == 0 {
            continue;
        }
        asked = Some(Instant::now());
        let answered = answers().await;
        heard = received.load(Ordering::Relaxed);
        if !answered && heard == before {
            return;
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.transport).poll_read(cx, buf))?;
        let count = buf.filled().len().saturating_sub(before);
        this.received.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

hand_on!(write Counted |io| { Self { transport: io, .. } });

#[cfg(test)]
mod tests;
