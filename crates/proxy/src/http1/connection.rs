//! One HTTP/1.1 connection, on either side: reads heads, holds what was read ahead and what is
//! still to be written. It knows framing only through its callers.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::deadline::Deadline;
use crate::http1::head::{self, HeadError, Line, LineEnd};
use crate::limits::{EMPTY_LINES_MAX, GATHERED_BYTES, HEAD_ROOM_BYTES_KEPT, READ_BYTES};
use crate::stream::{Transport, poll_read_record};

thread_local! {
    /// Where the first octets of a message land; see [`Http1::poll_read`].
    static FIRST: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// A connection that speaks HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Http1 {
    io: Transport,
    /// Read and not consumed.
    pub(crate) input: BytesMut,
    /// Nothing of the next message was read yet, and `input` has no room.
    rests: bool,
    /// Octets that the last read gave.
    last_read: usize,
    /// A read that failed after others of the same [`Http1::gather`]; the next one tells it.
    fault: Option<io::Error>,
    /// Octets of `input` in which no end of a head was found.
    scanned: usize,
    /// Empty lines skipped before it.
    empty_lines: usize,
    /// To be written, from `sent` on.
    pub(crate) output: Vec<u8>,
    sent: usize,
    unflushed: bool,
    /// Room for the lines of a head, reused from message to message.
    pub(crate) lines: Vec<Line>,
    /// Room for the octets of a head; see [`Http1::take_head`].
    head: Vec<u8>,
    pub(crate) deadline: Deadline,
    /// The peer has ended its side.
    pub(crate) read_ended: bool,
    /// It did so without the words that TLS has for it, so something may be missing.
    pub(crate) read_cut: bool,
}

/// Why no head came.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The peer closed.
    Closed,
    /// It did not come in time; so many octets had come.
    TimedOut(usize),
    /// It cannot become a head.
    Head(HeadError),
    /// The connection broke.
    Broken,
}

impl Http1 {
    pub(crate) fn new(mut io: Transport, input: BytesMut) -> Self {
        io.set_write_bytes_max(GATHERED_BYTES);
        Self {
            io,
            rests: input.is_empty(),
            last_read: input.len(),
            fault: None,
            input,
            scanned: 0,
            empty_lines: 0,
            output: Vec::new(),
            sent: 0,
            unflushed: false,
            lines: Vec::new(),
            head: Vec::new(),
            deadline: Deadline::after(Duration::from_secs(60)),
            read_ended: false,
            read_cut: false,
        }
    }

    /// The transport and what was read from it; what was still to be written is dropped.
    pub(crate) fn into_parts(self) -> (Transport, BytesMut) {
        (self.io, self.input)
    }

    /// Waits for the whole head of a request and says how many octets it has; it stays in `input`.
    ///
    /// `idle` bounds the wait for its first octet, `whole` the wait for the rest of it.
    /// Dropping it loses nothing.
    pub(crate) async fn read_head(
        &mut self,
        idle: Duration,
        whole: Duration,
    ) -> Result<usize, ReadError> {
        self.deadline
            .set(if self.input.is_empty() { idle } else { whole });
        let mut begun = !self.input.is_empty();
        std::future::poll_fn(|cx| {
            loop {
                if let Some(length) = self.find_head(LineEnd::CrLf)? {
                    return Poll::Ready(Ok(length));
                }
                if self.read_ended {
                    return Poll::Ready(Err(ReadError::Closed));
                }
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(ReadError::Broken)),
                    Poll::Pending => {
                        if !begun && !self.input.is_empty() {
                            begun = true;
                            self.deadline.set(whole);
                        }
                        self.rest();
                        ready!(self.deadline.poll_passed(cx));
                        return Poll::Ready(Err(ReadError::TimedOut(self.input.len())));
                    }
                }
            }
        })
        .await
    }

    /// The length of the head at the start of `input`, if it is there whole.
    pub(crate) fn find_head(&mut self, line_end: LineEnd) -> Result<Option<usize>, ReadError> {
        // Empty lines before a start line are ignored (RFC 9112 section 2.2); a peer that sends
        // nothing else is not.
        while self.scanned < 3 && self.input.starts_with(b"\r\n") {
            self.input.advance(2);
            self.scanned = 0;
            self.empty_lines += 1;
            if self.empty_lines > EMPTY_LINES_MAX {
                let text = "more empty lines than anyone sends before a message";
                return Err(ReadError::Head(HeadError::Malformed(text)));
            }
        }
        if line_end == LineEnd::CrLfOrLf {
            head::check_response_start(&self.input).map_err(ReadError::Head)?;
        }
        let found = head::find_end(&self.input, self.scanned, line_end).map_err(ReadError::Head)?;
        self.scanned = if found.is_some() { 0 } else { self.input.len() };
        self.empty_lines = if found.is_some() { 0 } else { self.empty_lines };
        Ok(found)
    }

    /// Consumes octets of `input`.
    pub(crate) fn consume(&mut self, length: usize) {
        self.input.advance(length);
        self.scanned = 0;
    }

    /// Consumes the head at the start of `input` and gives its octets.
    pub(crate) fn take_head(&mut self, length: usize) -> Vec<u8> {
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        head.extend_from_slice(self.input.get(..length).unwrap_or_default());
        self.consume(length);
        head
    }

    /// Takes back the room that a head was held in.
    pub(crate) fn reuse(&mut self, head: Vec<u8>, lines: Vec<Line>) {
        self.lines = lines;
        if head.capacity() <= HEAD_ROOM_BYTES_KEPT {
            self.head = head;
        }
    }

    /// Reads once; 0 means that the peer has ended its side, which is remembered.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(fault) = self.fault.take() {
            return Poll::Ready(Err(fault));
        }
        if self.read_ended {
            return Poll::Ready(Ok(0));
        }
        match self.poll_read(cx) {
            Poll::Ready(Ok(0)) => {
                self.read_ended = true;
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Ok(length)) => {
                self.last_read = length;
                Poll::Ready(Ok(length))
            }
            // A TLS peer that leaves out close_notify. Where the framing says that the message is
            // whole nothing is lost.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.read_ended = true;
                self.read_cut = true;
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Reads on while a body comes in large pieces, until `input` has all that is left of the body or
    /// [`GATHERED_BYTES`], so that they leave in one write. Waits for nothing. A small piece is held
    /// up by nothing either: it may be an event.
    ///
    /// Where it is not known how much is left, room grows with what has come: a watcher holds the
    /// whole of it for as long as it holds a part.
    pub(crate) fn gather(&mut self, cx: &mut Context<'_>, left: Option<u64>) {
        let most =
            |left| usize::try_from(left).map_or(GATHERED_BYTES, |all| all.min(GATHERED_BYTES));
        let known = left.map(most);
        let wanted = known.unwrap_or(GATHERED_BYTES);
        while self.last_read >= READ_BYTES / 2 && self.input.len() < wanted {
            let expected = known.map_or(0, |all| all.saturating_sub(self.input.len()));
            let room = expected + READ_BYTES / 2;
            self.input.reserve(room);
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) | Poll::Pending => return,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    self.fault = Some(error);
                    return;
                }
            }
        }
    }

    /// A connection that waits for a message holds no buffer. TLS gives one record at a time, in memory of
    /// its own; of other bytes what comes first is read elsewhere and copied, what follows is read in place.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Transport::Tls(tls) = &mut self.io {
            let length = ready!(poll_read_record(tls, cx, &mut self.input))?;
            self.rests &= length == 0;
            return Poll::Ready(Ok(length));
        }
        if !self.rests {
            if self.input.capacity() - self.input.len() < READ_BYTES / 2 {
                self.input.reserve(READ_BYTES);
            }
            return pin!(self.io.read_buf(&mut self.input)).poll(cx);
        }
        FIRST.with_borrow_mut(|first| {
            let mut room = ReadBuf::new(first);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut room))?;
            self.input.extend_from_slice(room.filled());
            self.rests = false;
            Poll::Ready(Ok(room.filled().len()))
        })
    }

    /// Lets go of an empty read buffer: a connection that waits holds none.
    pub(crate) fn rest(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
            self.rests = true;
        }
    }

    /// Writes what waits in `output` and then octets of `more`, in one go where possible.
    /// Returns how many octets of `more` were taken; `more` must not be empty.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        more: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.output.get(self.sent..).unwrap_or_default();
            let written = if waiting.is_empty() {
                ready!(Pin::new(&mut self.io).poll_write(cx, more))?
            } else {
                let slices = [io::IoSlice::new(waiting), io::IoSlice::new(more)];
                ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            let of_waiting = written.min(waiting.len());
            self.advance_output(of_waiting);
            if written > of_waiting {
                return Poll::Ready(Ok(written - of_waiting));
            }
        }
    }

    /// True if not all that was to be written is.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.unflushed || self.sent < self.output.len()
    }

    /// Writes all that waits in `output` and flushes.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            let waiting = self.output.get(self.sent..).unwrap_or_default();
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.advance_output(written);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all that waits in `output` and flushes, within `limit`.
    pub(crate) async fn drain(&mut self, limit: Duration) -> io::Result<()> {
        let drained = std::future::poll_fn(|cx| self.poll_drain(cx));
        match tokio::time::timeout(limit, drained).await {
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Sends the end of a handshake that would leave with the first octets.
    pub(crate) async fn end_handshake(&mut self, limit: Duration) -> io::Result<()> {
        self.unflushed = true;
        self.drain(limit).await
    }

    /// Writes all that waits in `output` and flushes, however long it takes, as long as the peer takes
    /// something within each `stall`. What it sends meanwhile is read and dropped where it `discards`:
    /// some send all they have before they read.
    ///
    /// Dropping it leaves the rest in `output`.
    pub(crate) async fn drain_steadily(
        &mut self,
        stall: Duration,
        discards: bool,
    ) -> io::Result<()> {
        self.deadline.set(stall);
        std::future::poll_fn(|cx| {
            let before = self.output.len() - self.sent;
            if let Poll::Ready(drained) = self.poll_drain(cx) {
                return Poll::Ready(drained);
            }
            if self.output.len() - self.sent < before {
                self.deadline.set(stall);
            }
            while discards && matches!(self.poll_fill(cx), Poll::Ready(Ok(1..))) {
                self.input.clear();
            }
            ready!(self.deadline.poll_passed(cx));
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        })
        .await
    }

    fn advance_output(&mut self, written: usize) {
        self.sent += written;
        if self.sent >= self.output.len() {
            self.output.clear();
            self.sent = 0;
        }
    }

    /// Writes all that waits in `output` and ends our side.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Ends our side, reads what still comes for a moment and lets go, so that the peer can read
    /// our last words before a reset (RFC 9112 section 9.6).
    pub(crate) async fn close(mut self, linger: Duration) {
        let deadline = tokio::time::Instant::now() + linger;
        let shutdown = std::future::poll_fn(|cx| self.poll_shutdown(cx));
        if !matches!(
            tokio::time::timeout_at(deadline, shutdown).await,
            Ok(Ok(()))
        ) {
            return;
        }
        loop {
            self.input.clear();
            let more = std::future::poll_fn(|cx| self.poll_fill(cx));
            match tokio::time::timeout_at(deadline, more).await {
                Ok(Ok(length)) if length > 0 => {}
                _ => return,
            }
        }
    }

    /// Has the connection end with a reset when it is dropped, where it is a plain socket: an
    /// orderly end would pass for the end of the message.
    pub(crate) fn reset_on_drop(&self, armed: bool) {
        self.io.reset_on_drop(armed);
    }

    /// True if the connection is as an idle one should be: open, and the peer silent. One that
    /// is not quiet may have lost an octet and serves no more.
    pub(crate) fn is_quiet(&mut self) -> bool {
        if self.read_ended || self.fault.is_some() || !self.input.is_empty() {
            return false;
        }
        let mut octet = [0];
        let mut room = ReadBuf::new(&mut octet);
        let read = std::future::poll_fn(|cx| {
            ready!(self.io.poll_readable(cx));
            Pin::new(&mut self.io).poll_read(cx, &mut room)
        });
        // A task that has used up its budget is told that everything waits.
        let read = pin!(tokio::task::unconstrained(read));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        read.poll(&mut cx).is_pending()
    }
}

#[cfg(test)]
mod tests;
