//! Bodies as pieces of payload: where they come from, where they go, and the loop between.

use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use parking_lot::Mutex;
use traffic::{FailureKind, Head, Side, Stage};

use super::fault::{Fault, client_reset, stage};
use super::heads;
use crate::error;
use crate::http1::body::Framing;
use crate::http1::connection::Http1;
use crate::limits::READ_BYTES;

/// Where a body comes from.
pub(super) enum Source<'a, 'c> {
    Http1 {
        connection: &'a Mutex<&'c mut Http1>,
        framing: Framing,
        side: Side,
    },
    Http2 {
        body: RecvStream,
        side: Side,
    },
    /// A body that is there whole.
    Held {
        data: Bytes,
        trailers: Option<HeaderMap>,
    },
    /// A body that is known to be none.
    Nothing,
    /// No body, but what a WebSocket carries, once it is open.
    Later,
}

/// Where a body goes.
pub(super) enum Sink<'a, 'c> {
    Http1 {
        connection: &'a Mutex<&'c mut Http1>,
        coding: Coding,
        side: Side,
    },
    Http2 {
        stream: Outgoing<'a>,
        side: Side,
    },
}

/// A stream that is written to. Who lends it can still reset it with a code of its choice when the
/// flow has broken off; dropping it would say CANCEL.
pub(super) enum Outgoing<'a> {
    Own(SendStream<Bytes>),
    Lent(&'a mut SendStream<Bytes>),
}

/// How HTTP/1 delimits a body that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// By its length or by the end of the connection.
    AsItIs,
    Chunked,
    /// There can be none: what came after such a head would be taken for the next answer.
    Nothing,
}

/// A part of a body.
enum Piece {
    Data(Bytes),
    End(Option<HeaderMap>),
}

/// How the end of a body is told.
enum End {
    /// It went out with the last piece.
    Said,
    Plain,
    Trailers(HeaderMap),
}

/// An end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    Source,
    Sink,
}

/// Passes a body on, piece by piece. `seen` is shown each piece, `turns_to` is called before an end is
/// waited for. Returns the trailers.
pub(super) async fn carry(
    mut source: Source<'_, '_>,
    mut sink: Sink<'_, '_>,
    mut seen: impl FnMut(&Bytes),
    turns_to: impl Fn(BodyEnd),
) -> Result<Option<Head>, Fault> {
    loop {
        let piece = std::future::poll_fn(|cx| {
            if let Poll::Ready(piece) = source.poll_piece(cx) {
                return Poll::Ready(piece);
            }
            turns_to(BodyEnd::Source);
            sink.poll_while_waiting(cx).map(Err)
        });
        let piece = piece.await?;
        turns_to(BodyEnd::Sink);
        match piece {
            // Some peers say the end in a frame of its own.
            Piece::Data(data) if data.is_empty() => {
                if source.is_ended() {
                    std::future::poll_fn(|cx| sink.poll_end(cx, &mut End::Plain)).await?;
                    return Ok(None);
                }
            }
            Piece::Data(mut data) => {
                seen(&data);
                let length = data.len();
                let ended = source.is_ended();
                std::future::poll_fn(|cx| sink.poll_send(cx, &mut data, ended)).await?;
                source.release(length)?;
                if ended {
                    std::future::poll_fn(|cx| sink.poll_end(cx, &mut End::Said)).await?;
                    return Ok(None);
                }
            }
            Piece::End(trailers) => {
                let text = trailers.as_ref().map(heads::trailers_text);
                let send = |trailers| End::Trailers(heads::trailers_to_send(trailers));
                let mut end = trailers.map_or(End::Plain, send);
                std::future::poll_fn(|cx| sink.poll_end(cx, &mut end)).await?;
                return Ok(text);
            }
        }
    }
}

impl Source<'_, '_> {
    /// True once nothing more will come.
    pub(super) fn is_ended(&self) -> bool {
        match self {
            Self::Http1 { framing, .. } => framing.is_done() && framing.trailers().is_empty(),
            Self::Http2 { body, .. } => body.is_end_stream(),
            Self::Held { data, trailers } => data.is_empty() && trailers.is_none(),
            Self::Nothing | Self::Later => true,
        }
    }

    /// What an HTTP/2 peer sends.
    pub(super) fn into_stream(self) -> Option<RecvStream> {
        match self {
            Self::Http2 { body, .. } => Some(body),
            Self::Http1 { .. } | Self::Held { .. } | Self::Nothing | Self::Later => None,
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Fault>> {
        match self {
            Self::Http1 {
                connection,
                framing,
                side,
            } => poll_http1_piece(&mut connection.lock(), framing, *side, cx),
            Self::Http2 { body, side } => {
                let fault = |error| Fault::from_h2(*side, stage(*side), &error);
                match ready!(body.poll_data(cx)) {
                    Some(data) => Poll::Ready(data.map(Piece::Data).map_err(fault)),
                    None => body.poll_trailers(cx).map_ok(Piece::End).map_err(fault),
                }
            }
            Self::Held { data, trailers } => Poll::Ready(Ok(match data.is_empty() {
                false => Piece::Data(std::mem::take(data)),
                true => Piece::End(trailers.take()),
            })),
            Self::Nothing | Self::Later => Poll::Ready(Ok(Piece::End(None))),
        }
    }

    /// Gives flow-control capacity back once the data was taken on the other side, so that a slow
    /// reader slows its own stream only.
    fn release(&mut self, length: usize) -> Result<(), Fault> {
        match self {
            Self::Http1 { .. } | Self::Held { .. } | Self::Nothing | Self::Later => Ok(()),
            Self::Http2 { body, side } => body
                .flow_control()
                .release_capacity(length)
                .map_err(|error| Fault::from_h2(*side, stage(*side), &error)),
        }
    }
}

fn poll_http1_piece(
    connection: &mut Http1,
    framing: &mut Framing,
    side: Side,
    cx: &mut Context<'_>,
) -> Poll<Result<Piece, Fault>> {
    loop {
        if framing.is_done() {
            return Poll::Ready(Ok(Piece::End(heads::trailers_map(framing.trailers()))));
        }
        if connection.input.is_empty() {
            match ready!(connection.poll_fill(cx)) {
                Ok(0) if !connection.read_cut && framing.handle_end() => {}
                Ok(0) => {
                    let failure =
                        error::closed_early(side, stage(side), "in the middle of the body");
                    return Poll::Ready(Err(failure.into()));
                }
                Ok(_) => {}
                Err(error) => {
                    return Poll::Ready(Err(Fault::from_io(side, &error)));
                }
            }
            continue;
        }
        let step = framing
            .decode(&connection.input)
            .map_err(|error| error::bad_body(side, stage(side), error))?;
        let after = step.consumed - step.payload.end;
        connection.input.advance(step.payload.start);
        let data = connection.input.split_to(step.payload.len()).freeze();
        connection.consume(after);
        if !data.is_empty() {
            return Poll::Ready(Ok(Piece::Data(data)));
        }
    }
}

impl Deref for Outgoing<'_> {
    type Target = SendStream<Bytes>;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Own(stream) => stream,
            Self::Lent(stream) => stream,
        }
    }
}

impl DerefMut for Outgoing<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Own(stream) => stream,
            Self::Lent(stream) => stream,
        }
    }
}

impl Sink<'_, '_> {
    /// Sends `data` to its last octet; `last` says that the body ends with it.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        data: &mut Bytes,
        last: bool,
    ) -> Poll<Result<(), Fault>> {
        match self {
            Self::Http1 {
                connection,
                coding,
                side,
            } => {
                let mut held = connection.lock();
                if !data.is_empty() && *coding == Coding::Nothing {
                    let text = "a body follows a response that has none";
                    let side = Side::Upstream;
                    let kind = FailureKind::Malformed;
                    let failure = error::failure(side, Stage::Response, kind, text);
                    return Poll::Ready(Err(failure.into()));
                }
                if !data.is_empty() {
                    write_chunk(&mut held.output, data, *coding);
                    data.clear();
                }
                held.poll_drain(cx)
                    .map_err(|error| Fault::from_io(*side, &error))
            }
            Self::Http2 { stream, side } => {
                while !data.is_empty() {
                    stream.reserve_capacity(data.len());
                    while stream.capacity() == 0 {
                        match ready!(stream.poll_capacity(cx)) {
                            Some(Ok(_)) => {}
                            Some(Err(error)) => {
                                return Poll::Ready(Err(Fault::from_h2(
                                    *side,
                                    stage(*side),
                                    &error,
                                )));
                            }
                            None => return Poll::Ready(Err(stream_closed(*side))),
                        }
                    }
                    let part = data.split_to(stream.capacity().min(data.len()));
                    let ends = last && data.is_empty();
                    stream
                        .send_data(part, ends)
                        .map_err(|error| Fault::from_h2(*side, stage(*side), &error))?;
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Ends the body. Polled again, it only drains.
    fn poll_end(&mut self, cx: &mut Context<'_>, end: &mut End) -> Poll<Result<(), Fault>> {
        let told = std::mem::replace(end, End::Said);
        match self {
            Self::Http1 {
                connection,
                coding,
                side,
            } => {
                let mut held = connection.lock();
                if *coding == Coding::Chunked {
                    *coding = Coding::AsItIs;
                    held.output.extend_from_slice(b"0\r\n");
                    if let End::Trailers(trailers) = told {
                        heads::write_fields(&trailers, &mut held.output);
                    }
                    held.output.extend_from_slice(b"\r\n");
                }
                held.poll_drain(cx)
                    .map_err(|error| Fault::from_io(*side, &error))
            }
            Self::Http2 { stream, side } => {
                let sent = match told {
                    End::Said => Ok(()),
                    End::Plain => stream.send_data(Bytes::new(), true),
                    End::Trailers(trailers) => stream.send_trailers(trailers),
                };
                Poll::Ready(sent.map_err(|error| Fault::from_h2(*side, stage(*side), &error)))
            }
        }
    }

    /// While the source is waited for: writes what was held back and notices that the other end
    /// has gone.
    fn poll_while_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        match self {
            Self::Http1 {
                connection, side, ..
            } => {
                let mut held = connection.lock();
                if let Poll::Ready(Err(error)) = held.poll_drain(cx) {
                    return Poll::Ready(Fault::from_io(*side, &error));
                }
                if *side != Side::Client || held.read_ended || held.input.len() >= READ_BYTES {
                    return Poll::Pending;
                }
                while !held.read_ended && held.input.len() < READ_BYTES {
                    if let Err(error) = ready!(held.poll_fill(cx)) {
                        return Poll::Ready(Fault::from_io(*side, &error));
                    }
                }
                Poll::Pending
            }
            Self::Http2 { stream, side } => match ready!(stream.poll_reset(cx)) {
                Ok(reason) if *side == Side::Client => Poll::Ready(client_reset(reason)),
                Ok(reason) => {
                    let mut fault = stream_closed(*side);
                    fault.reason = Some(reason);
                    Poll::Ready(fault)
                }
                Err(error) => Poll::Ready(Fault::from_h2(*side, stage(*side), &error)),
            },
        }
    }

    /// Writes the head where no body follows.
    pub(super) async fn flush_head(self) -> Result<(), Fault> {
        match self {
            Self::Http1 {
                connection, side, ..
            } => std::future::poll_fn(|cx| connection.lock().poll_drain(cx))
                .await
                .map_err(|error| Fault::from_io(side, &error)),
            Self::Http2 { .. } => Ok(()),
        }
    }
}

fn write_chunk(output: &mut Vec<u8>, data: &Bytes, coding: Coding) {
    match coding {
        Coding::AsItIs | Coding::Nothing => output.extend_from_slice(data),
        Coding::Chunked => {
            output.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            output.extend_from_slice(data);
            output.extend_from_slice(b"\r\n");
        }
    }
}

fn stream_closed(side: Side) -> Fault {
    let text = format!("the {} closed the stream", side.as_str());
    error::failure(side, stage(side), FailureKind::Reset, text).into()
}
