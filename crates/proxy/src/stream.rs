//! The byte streams of the engine: raw ones whose first bytes can be looked at without being
//! consumed, and the same with TLS on top.

mod last_flight;

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use self::last_flight::LastFlight;
use crate::http2::tunnel::Http2Tunnel;
use crate::limits::{READ_AHEAD_BYTES, READ_AHEAD_BYTES_MIN, READ_ROOMS_MAX};
use crate::listen::UnixStream;

/// What carries the bytes beneath everything else.
#[derive(Debug)]
pub(crate) enum Wire {
    /// A socket.
    Tcp(TcpStream),
    /// A Unix-domain socket.
    Unix(UnixStream),
    /// TLS beneath what is spoken: on a listener itself, or with an upstream proxy.
    Tls(Box<TlsStream<Replay>>),
    /// One stream of an HTTP/2 connection, opened by CONNECT.
    Http2(Http2Tunnel),
    /// Two ends in memory, for tests of the engine.
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

/// A wire with the bytes that were read from it and not consumed yet.
///
/// It serves two ends. First bytes are looked at and given back, so that a ClientHello can be read
/// and then be passed on or be handed to TLS. And rustls asks for 4 KiB at a time, which would be
/// five system calls for a full record: small reads are served from a larger one.
#[derive(Debug)]
pub(crate) struct Replay {
    wire: Wire,
    ahead: BytesMut,
    /// While a handshake is under way, and until what it withheld was sent.
    last_flight: Option<Box<LastFlight>>,
}

/// A connection as the HTTP codecs use it.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Without TLS.
    Plain(Replay),
    /// With TLS ended here.
    Tls(Box<TlsStream<Replay>>),
}

impl Transport {
    /// See [`crate::http1::connection::Http1::reset_on_drop`]. Not every TLS
    /// client heeds a missing close_notify.
    pub(crate) fn reset_on_drop(&self, armed: bool) {
        let replay = match self {
            Self::Plain(replay) => replay,
            Self::Tls(tls) => tls.get_ref().0,
        };
        replay.reset_on_drop(armed);
    }

    /// Waits as long as nothing can be read for certain. To ask TLS for bytes that have not come takes
    /// several times as long.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(_) => Poll::Ready(()),
            Self::Tls(tls) => poll_record(tls, cx),
        }
    }

    /// TLS takes so many octets in one write, instead of 64 KiB.
    pub(crate) fn set_write_bytes_max(&mut self, bytes: usize) {
        match self {
            Self::Plain(_) => {}
            Self::Tls(tls) => match &mut **tls {
                TlsStream::Client(tls) => tls.get_mut().1.set_buffer_limit(Some(bytes)),
                TlsStream::Server(tls) => tls.get_mut().1.set_buffer_limit(Some(bytes)),
            },
        }
    }
}

/// While armed, a socket ends with a reset when it is dropped.
pub(crate) fn reset_on_drop(stream: &TcpStream, armed: bool) {
    let linger = armed.then_some(std::time::Duration::ZERO);
    // If it cannot be set, the connection ends in order: nothing better is left.
    let _set = socket2::SockRef::from(stream).set_linger(linger);
}

/// Appends the plaintext of the record that came; 0 means that the peer has ended its side. Unlike a read it
/// does not look for another record once it has one.
pub(crate) fn poll_read_record(
    tls: &mut TlsStream<Replay>,
    cx: &mut Context<'_>,
    input: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    ready!(poll_record(tls, cx));
    let opened = ready!(Pin::new(&mut *tls).poll_fill_buf(cx))?;
    input.extend_from_slice(opened);
    let length = opened.len();
    if length > 0 {
        Pin::new(tls).consume(length);
    }
    Poll::Ready(Ok(length))
}

/// Waits as long as no record can have come.
fn poll_record(tls: &TlsStream<Replay>, cx: &mut Context<'_>) -> Poll<()> {
    let (replay, wants_read) = match tls {
        TlsStream::Client(tls) => (&tls.get_ref().0, tls.get_ref().1.wants_read()),
        TlsStream::Server(tls) => (&tls.get_ref().0, tls.get_ref().1.wants_read()),
    };
    match &replay.wire {
        // Neither TLS nor the wire holds anything that was read before.
        Wire::Tcp(stream) if wants_read && replay.ahead.is_empty() => {
            stream.poll_read_ready(cx).map(drop)
        }
        _ => Poll::Ready(()),
    }
}

thread_local! {
    /// Room that reads land in first, so that an idle connection holds no buffer. As many as reads
    /// stand within each other (TLS on the listener is read through a wire of its own), and as came
    /// back from connections that had read ahead.
    static ROOMS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Room for one read from a wire.
fn take_room() -> BytesMut {
    let free = ROOMS.with_borrow_mut(Vec::pop);
    free.unwrap_or_else(|| BytesMut::with_capacity(READ_AHEAD_BYTES))
}

/// Keeps room for the next read, if it is what [`take_room`] gave.
fn give_back_room(mut room: BytesMut) {
    room.clear();
    if room.try_reclaim(READ_AHEAD_BYTES) {
        ROOMS.with_borrow_mut(|rooms| {
            if rooms.len() < READ_ROOMS_MAX {
                rooms.push(room);
            }
        });
    }
}

impl Wire {
    /// While armed, the socket beneath ends with a reset when it is dropped.
    pub(crate) fn reset_on_drop(&self, armed: bool) {
        match self {
            Self::Tcp(stream) => reset_on_drop(stream, armed),
            Self::Tls(tls) => tls.get_ref().0.reset_on_drop(armed),
            // Nothing resets a Unix-domain socket; a stream of HTTP/2 is reset when it is dropped.
            _ => {}
        }
    }
}

impl Replay {
    pub(crate) fn new(wire: Wire) -> Self {
        Self {
            wire,
            ahead: BytesMut::new(),
            last_flight: None,
        }
    }

    /// A handshake begins, whose last flight is to wait. To be ended by
    /// [`Self::send_last_flight_with_next`].
    pub(crate) fn withhold_last_flight(&mut self) {
        self.last_flight = Some(Box::default());
    }

    /// The handshake is over: its last flight leaves with what is written next, or when it is flushed.
    pub(crate) fn send_last_flight_with_next(&mut self) {
        if let Some(last_flight) = &mut self.last_flight {
            last_flight.end();
            if last_flight.is_done() {
                self.last_flight = None;
            }
        }
    }

    fn reset_on_drop(&self, armed: bool) {
        self.wire.reset_on_drop(armed);
    }

    /// Consumes bytes that were looked at.
    pub(crate) fn consume(&mut self, length: usize) {
        self.ahead.advance(length.min(self.ahead.len()));
    }

    /// Puts bytes back that were taken out before all others.
    pub(crate) fn put_back(mut self, mut before: BytesMut) -> Self {
        if !before.is_empty() {
            before.extend_from_slice(&self.ahead);
            self.ahead = before;
        }
        self
    }

    /// What was read and not consumed.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Reads more without consuming anything; 0 means the peer has ended its side.
    ///
    /// Dropping it loses nothing.
    pub(crate) async fn read_ahead(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read_ahead(cx)).await
    }

    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = take_room();
        let read = pin!(self.wire.read_buf(&mut room)).poll(cx);
        self.ahead.extend_from_slice(&room);
        give_back_room(room);
        read
    }

    /// Reads more than is asked for and keeps the rest.
    fn poll_read_more(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut room = take_room();
        let read = pin!(self.wire.read_buf(&mut room)).poll(cx);
        let now = room.len().min(buf.remaining());
        buf.put_slice(&room[..now]);
        room.advance(now);
        if room.len() >= READ_AHEAD_BYTES_MIN {
            self.ahead = room;
        } else {
            self.ahead.extend_from_slice(&room);
            give_back_room(room);
        }
        read.map_ok(drop)
    }

    fn note_read(&mut self) {
        if let Some(last_flight) = &mut self.last_flight {
            last_flight.note_read();
        }
    }

    /// The wire and what was read ahead of it.
    pub(crate) fn into_parts(self) -> (Wire, BytesMut) {
        (self.wire, self.ahead)
    }
}

impl AsyncRead for Replay {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            let read = match buf.remaining() >= READ_AHEAD_BYTES_MIN {
                true => Pin::new(&mut this.wire).poll_read(cx, buf),
                false => this.poll_read_more(cx, buf),
            };
            if read.is_ready() {
                this.note_read();
            }
            return read;
        }
        this.note_read();
        let length = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..length]);
        this.ahead.advance(length);
        if this.ahead.is_empty() {
            give_back_room(std::mem::take(&mut this.ahead));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &self.last_flight {
            None => Pin::new(&mut self.get_mut().wire).poll_write(cx, buf),
            Some(_) => self.poll_write_vectored(cx, &[io::IoSlice::new(buf)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self {
            wire, last_flight, ..
        } = self.get_mut();
        let wire = Pin::new(wire);
        let Some(withholding) = last_flight else {
            return wire.poll_write_vectored(cx, bufs);
        };
        let written = withholding.poll_write(wire, cx, bufs);
        if withholding.is_done() {
            *last_flight = None;
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            wire, last_flight, ..
        } = self.get_mut();
        if let Some(withholding) = last_flight {
            ready!(withholding.poll_flush(Pin::new(wire), cx))?;
            if withholding.is_done() {
                *last_flight = None;
            }
        }
        Pin::new(wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.get_mut().wire).poll_shutdown(cx)
    }
}

/// Writes `AsyncRead` and `AsyncWrite`, or the latter alone, for a type that hands on to what it holds:
/// `hand_on!(write Type |io| { patterns that bind io })`.
macro_rules! hand_on {
    (read $kind:ident |$io:ident| { $($(#[$meta:meta])* $holds:pat),+ }) => {
        impl AsyncRead for $kind {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($(#[$meta])* $holds => Pin::new($io).poll_read(cx, buf),)+
                }
            }
        }
        hand_on!(write $kind |$io| { $($(#[$meta])* $holds),+ });
    };
    (write $kind:ident |$io:ident| { $($(#[$meta:meta])* $holds:pat),+ }) => {
        impl AsyncWrite for $kind {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $($(#[$meta])* $holds => Pin::new($io).poll_write(cx, buf),)+
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $($(#[$meta])* $holds => Pin::new($io).poll_write_vectored(cx, bufs),)+
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $($(#[$meta])* $holds => $io.is_write_vectored(),)+
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($(#[$meta])* $holds => Pin::new($io).poll_flush(cx),)+
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($(#[$meta])* $holds => Pin::new($io).poll_shutdown(cx),)+
                }
            }
        }
    };
}

hand_on!(read Wire |io| {
    Self::Tcp(io), Self::Unix(io), Self::Tls(io), Self::Http2(io), #[cfg(test)] Self::Memory(io)
});
hand_on!(read Transport |io| { Self::Plain(io), Self::Tls(io) });

pub(crate) use hand_on;
