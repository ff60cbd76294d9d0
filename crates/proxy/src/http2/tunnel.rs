//! One HTTP/2 stream as a stream of bytes, for a tunnel that CONNECT opened on it (RFC 9113
//! section 8.5).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The two directions of one stream. Dropping it resets the stream unless both have ended.
#[derive(Debug)]
pub(crate) struct Http2Tunnel {
    incoming: RecvStream,
    outgoing: SendStream<Bytes>,
    /// Received and not read yet; its flow-control capacity is given back as it is read.
    held: Bytes,
    ended: bool,
}

impl Http2Tunnel {
    pub(crate) fn new(incoming: RecvStream, outgoing: SendStream<Bytes>) -> Self {
        Self {
            incoming,
            outgoing,
            held: Bytes::new(),
            ended: false,
        }
    }
}

impl AsyncRead for Http2Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.held.is_empty() {
            match ready!(this.incoming.poll_data(cx)) {
                Some(Ok(data)) => this.held = data,
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = this.held.len().min(buf.remaining());
        buf.put_slice(this.held.get(..length).unwrap_or_default());
        this.held.advance(length);
        this.incoming
            .flow_control()
            .release_capacity(length)
            .map_err(to_io)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.outgoing.reserve_capacity(buf.len());
        while this.outgoing.capacity() == 0 {
            match ready!(this.outgoing.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let length = this.outgoing.capacity().min(buf.len());
        let data = Bytes::copy_from_slice(buf.get(..length).unwrap_or_default());
        this.outgoing.send_data(data, false).map_err(to_io)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task writes what its streams have queued.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ended {
            this.ended = true;
            this.outgoing.send_data(Bytes::new(), true).map_err(to_io)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Http2Tunnel {
    fn drop(&mut self) {
        if !self.ended {
            // RFC 9113 section 8.5: a connection that broke is told as CONNECT_ERROR.
            self.outgoing.send_reset(Reason::CONNECT_ERROR);
        }
    }
}

fn to_io(error: h2::Error) -> io::Error {
    match error.reason() {
        Some(Reason::NO_ERROR | Reason::CANCEL | Reason::CONNECT_ERROR) => {
            io::Error::new(io::ErrorKind::ConnectionReset, error)
        }
        _ if error.is_io() => error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()),
        _ => io::Error::other(error),
    }
}
