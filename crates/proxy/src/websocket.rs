//! Passes what an open WebSocket carries (RFC 6455, RFC 8441): both ways at once in the one task,
//! byte for byte, each side's end passed on as it comes. Each direction holds one piece between
//! reading and writing; a side that cannot be written to is not read from.
//!
//! What the frames say is read by the tap and changes nothing here.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use traffic::wire::websocket::handshake::{self, Accepted, Asked};
use traffic::{Failure, FailureKind, Side, Stage};

use crate::deadline::Deadline;
use crate::error;
use crate::http1::connection::Http1;
use crate::limits::LINGER;
use crate::tap::Flow;
use crate::translate::{Broken, Fault, stage};

/// The two ends of an open WebSocket. What an HTTP/1.1 end still has to write goes first, what was
/// read ahead of it comes first.
#[derive(Debug)]
pub(crate) struct Ends<'a> {
    pub(crate) client: End<'a>,
    pub(crate) upstream: End<'a>,
}

/// What carries a WebSocket on one side.
#[derive(Debug)]
pub(crate) enum End<'a> {
    /// A whole connection.
    Http1(&'a mut Http1),
    /// One stream of a connection. Who lends it resets it, with a code of its choice, when the
    /// WebSocket has broken off.
    Http2 {
        incoming: &'a mut RecvStream,
        outgoing: &'a mut SendStream<Bytes>,
    },
}

/// One direction.
#[derive(Debug)]
struct Lane {
    from: Side,
    /// Read and not written yet.
    held: Bytes,
    state: LaneState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LaneState {
    Open,
    /// The source has ended; the sink is to be told.
    Ending,
    Ended,
}

/// Reads the answer 101 to the upgrade that was asked for. An answer without the right proof
/// passes: the client knows what to make of it.
///
/// # Errors
/// If it switches to something else.
pub(crate) fn accepted<'a>(
    asked: &Asked,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
) -> Result<Accepted, Failure> {
    if handshake::switches(fields.clone()) {
        return Ok(asked.read_response(fields));
    }
    let text = "the upstream switches to a protocol that was not asked for";
    let (side, stage) = (Side::Upstream, Stage::Response);
    Err(error::failure(side, stage, FailureKind::Malformed, text))
}

/// Passes bytes until both ends have ended, one of them breaks, or nothing moves for `idle`.
///
/// Dropping it, or what does not end in order, ends both sides with a reset: an orderly end would
/// pass for the end of what was to come. Once both ends have sent a close frame nothing is to come
/// any more, however they hang up.
pub(crate) async fn run(
    mut ends: Ends<'_>,
    flow: &mut Flow<'_>,
    idle: Duration,
) -> Result<(), Broken> {
    let Ends { client, upstream } = &mut ends;
    client.reset_on_drop(true);
    upstream.reset_on_drop(true);
    let mut up = Lane::new(Side::Client);
    let mut down = Lane::new(Side::Upstream);
    let mut deadline = Deadline::after(idle);
    let result = std::future::poll_fn(|cx| {
        flow.begin_step();
        let mut step = Step { flow, moved: false };
        let going_up = up.poll(cx, client, upstream, &mut step)?;
        let coming_down = down.poll(cx, upstream, client, &mut step)?;
        let moved = step.moved;
        flow.end_step();
        if going_up.is_ready() && coming_down.is_ready() {
            return Poll::Ready(Ok(()));
        }
        // Noticed even while the direction that would tell stands still.
        client.poll_reset(cx, Side::Client)?;
        upstream.poll_reset(cx, Side::Upstream)?;
        flow.hand_over();
        if moved {
            deadline.set(idle);
        }
        ready!(deadline.poll_passed(cx));
        let what = "and the client sent nothing for too long";
        let failure = error::timed_out(Side::Upstream, Stage::Response, what);
        Poll::Ready(Err(Fault::from(failure)))
    })
    .await;
    flow.end_step();
    match result {
        Err(fault) if !flow.websocket_is_closed() => Err(Broken {
            failure: fault.failure,
            responded: true,
            answered: true,
            until_close: true,
            // RFC 8441 section 5: a connection that was reset is told as CANCEL.
            reason: Some(fault.reason.unwrap_or(Reason::CANCEL)),
        }),
        result => {
            for (lane, sink) in [(&up, &mut *upstream), (&down, &mut *client)] {
                if lane.state != LaneState::Ended {
                    lane.tell_end(flow);
                    sink.end_at_once();
                }
            }
            client.reset_on_drop(false);
            upstream.reset_on_drop(false);
            if result.is_err() {
                // The upstream may hang up first (RFC 6455 section 7.1.1), the client after it.
                let _ended = tokio::time::timeout(LINGER, client.discard()).await;
            }
            Ok(())
        }
    }
}

/// One turn of both directions.
struct Step<'s, 'r> {
    flow: &'s mut Flow<'r>,
    moved: bool,
}

impl Lane {
    fn new(from: Side) -> Self {
        Self {
            from,
            held: Bytes::new(),
            state: LaneState::Open,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut End<'_>,
        sink: &mut End<'_>,
        step: &mut Step<'_, '_>,
    ) -> Poll<Result<(), Fault>> {
        let to = match self.from {
            Side::Client => Side::Upstream,
            Side::Upstream | Side::Oriel => Side::Client,
        };
        loop {
            while !self.held.is_empty() {
                let written = ready!(sink.poll_write(cx, &mut self.held, to))?;
                source.release(written, self.from)?;
                step.moved = true;
            }
            match self.state {
                LaneState::Open => {}
                LaneState::Ending => {
                    // A peer that is gone already needs no telling.
                    let _told = ready!(sink.poll_end(cx, to));
                    self.state = LaneState::Ended;
                    self.tell_end(step.flow);
                    return Poll::Ready(Ok(()));
                }
                LaneState::Ended => return Poll::Ready(Ok(())),
            }
            match source.poll_read(cx, self.from)? {
                Poll::Ready(Some(data)) => {
                    match self.from {
                        Side::Client => step.flow.request_bytes(&data),
                        Side::Upstream | Side::Oriel => step.flow.response_bytes(&data),
                    }
                    self.held = data;
                    step.moved = true;
                }
                Poll::Ready(None) => {
                    self.state = LaneState::Ending;
                    step.moved = true;
                }
                Poll::Pending => {
                    ready!(sink.poll_flush(cx, to))?;
                    return Poll::Pending;
                }
            }
        }
    }

    fn tell_end(&self, flow: &mut Flow<'_>) {
        match self.from {
            Side::Client => flow.request_ended(None),
            Side::Upstream | Side::Oriel => flow.response_ended(None),
        }
    }
}

impl End<'_> {
    /// Reads what is there; `None` once the peer has ended its side.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        side: Side,
    ) -> Poll<Result<Option<Bytes>, Fault>> {
        match self {
            Self::Http1(connection) => {
                if connection.input.is_empty() {
                    match connection.poll_fill(cx) {
                        Poll::Ready(Ok(0)) => return Poll::Ready(Ok(None)),
                        Poll::Ready(Ok(_)) => {}
                        Poll::Ready(Err(error)) => {
                            return Poll::Ready(Err(Fault::from_io(side, &error)));
                        }
                        Poll::Pending => {
                            connection.rest();
                            return Poll::Pending;
                        }
                    }
                }
                Poll::Ready(Ok(Some(connection.input.split().freeze())))
            }
            Self::Http2 { incoming, .. } => Poll::Ready(match ready!(incoming.poll_data(cx)) {
                Some(Ok(data)) => Ok(Some(data)),
                Some(Err(error)) => Err(Fault::from_h2(side, stage(side), &error)),
                None => Ok(None),
            }),
        }
    }

    /// Gives flow-control capacity back for what was taken on the other side.
    fn release(&mut self, length: usize, side: Side) -> Result<(), Fault> {
        match self {
            Self::Http1(_) => Ok(()),
            Self::Http2 { incoming, .. } => incoming
                .flow_control()
                .release_capacity(length)
                .map_err(|error| Fault::from_h2(side, stage(side), &error)),
        }
    }

    /// Writes a part of `data`, takes it off and says how much it was.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &mut Bytes,
        side: Side,
    ) -> Poll<Result<usize, Fault>> {
        match self {
            Self::Http1(connection) => {
                let written = ready!(connection.poll_write(cx, data));
                let written = written.map_err(|error| Fault::from_io(side, &error))?;
                data.advance(written);
                if data.is_empty() {
                    // Even of no length it would hold the buffer, which is read into again.
                    *data = Bytes::new();
                }
                Poll::Ready(Ok(written))
            }
            Self::Http2 { outgoing, .. } => {
                let fault = |error| Fault::from_h2(side, stage(side), &error);
                outgoing.reserve_capacity(data.len());
                while outgoing.capacity() == 0 {
                    match ready!(outgoing.poll_capacity(cx)) {
                        Some(granted) => granted.map(drop).map_err(fault)?,
                        None => return Poll::Ready(Err(gone(side).into())),
                    }
                }
                let part = data.split_to(outgoing.capacity().min(data.len()));
                let length = part.len();
                outgoing.send_data(part, false).map_err(fault)?;
                Poll::Ready(Ok(length))
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, side: Side) -> Poll<Result<(), Fault>> {
        match self {
            Self::Http1(connection) => connection
                .poll_drain(cx)
                .map_err(|error| Fault::from_io(side, &error)),
            // The connection's task writes what its streams have queued.
            Self::Http2 { .. } => Poll::Ready(Ok(())),
        }
    }

    /// Ends our side of it.
    fn poll_end(&mut self, cx: &mut Context<'_>, side: Side) -> Poll<Result<(), Fault>> {
        match self {
            Self::Http1(connection) => connection
                .poll_shutdown(cx)
                .map_err(|error| Fault::from_io(side, &error)),
            Self::Http2 { outgoing, .. } => Poll::Ready(
                outgoing
                    .send_data(Bytes::new(), true)
                    .map_err(|error| Fault::from_h2(side, stage(side), &error)),
            ),
        }
    }

    /// Ends our side of a stream without waiting; a connection is ended by who lent it.
    fn end_at_once(&mut self) {
        if let Self::Http2 { outgoing, .. } = self {
            // A peer that is gone already needs no telling.
            let _told = outgoing.send_data(Bytes::new(), true);
        }
    }

    /// Reads a stream to its end: letting go of it before would reset it. A connection is closed by
    /// who lent it.
    async fn discard(&mut self) {
        if let Self::Http2 { incoming, .. } = self {
            while let Some(Ok(data)) = incoming.data().await {
                let _released = incoming.flow_control().release_capacity(data.len());
            }
        }
    }

    /// Fails once the peer has reset the stream.
    fn poll_reset(&mut self, cx: &mut Context<'_>, side: Side) -> Result<(), Fault> {
        let Self::Http2 { outgoing, .. } = self else {
            return Ok(());
        };
        match outgoing.poll_reset(cx) {
            Poll::Ready(Ok(reason)) => Err(Fault {
                failure: gone(side),
                reason: Some(reason),
            }),
            Poll::Ready(Err(error)) => Err(Fault::from_h2(side, stage(side), &error)),
            Poll::Pending => Ok(()),
        }
    }

    fn reset_on_drop(&self, armed: bool) {
        if let Self::Http1(connection) = self {
            connection.reset_on_drop(armed);
        }
    }
}

fn gone(side: Side) -> Failure {
    let text = format!("the {} reset the stream", side.as_str());
    error::failure(side, stage(side), FailureKind::Reset, text)
}
