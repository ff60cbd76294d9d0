//! A tunnel between two sockets. Where much comes at once the bytes stay in the kernel: `splice(2)` from a
//! socket into a pipe and from the pipe into the other socket. A little is copied: that takes as many calls,
//! and cheaper ones.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use traffic::Side;

use super::{End, LaneState, Passed, broken, idled};
use crate::deadline::Deadline;
use crate::limits::{PIPE_BYTES, PIPE_KEPT, PIPE_LITTLE_MAX, READ_BYTES};
use crate::stream::reset_on_drop;

/// The end that is read from and the one that is written to.
type Pipe = (OwnedFd, OwnedFd);

/// One direction.
struct Lane {
    /// What was read before the tunnel began, and what is copied.
    copied: BytesMut,
    open_pipe: fn() -> io::Result<Pipe>,
    /// Made when more came than is copied at once; given back after a rest, or when it is not worth it.
    pipe: Option<Pipe>,
    /// How often in a row the pipe carried no more than would have been copied.
    little: u32,
    /// Octets that are in the pipe.
    held: usize,
    passed: u64,
    state: LaneState,
}

/// What was read from the two ends before the tunnel began.
pub(super) struct Ahead {
    /// From the client.
    pub(super) up: BytesMut,
    /// From the upstream.
    pub(super) down: BytesMut,
}

pub(super) async fn run(
    mut client: TcpStream,
    mut upstream: TcpStream,
    ahead: Ahead,
    idle: Duration,
    passed: &mut Passed,
) {
    reset_on_drop(&client, true);
    reset_on_drop(&upstream, true);
    let mut up = Lane::new(ahead.up, open_pipe);
    let mut down = Lane::new(ahead.down, open_pipe);
    // One timer for both: the pipes go first, then the tunnel.
    let pipes_kept = PIPE_KEPT.min(idle);
    let mut resting = false;
    let mut deadline = Deadline::after(pipes_kept);
    let (mut from_client, to_client) = client.split();
    let (mut from_upstream, to_upstream) = upstream.split();
    passed.failure = std::future::poll_fn(|cx| {
        let moved_before = up.passed + down.passed;
        let going_up = up.poll(cx, &mut from_client, to_upstream.as_ref());
        let coming_down = down.poll(cx, &mut from_upstream, to_client.as_ref());
        (passed.from_client, passed.from_upstream) = (up.passed, down.passed);
        match (going_up, coming_down) {
            (Poll::Ready(Err((end, error))), _) => {
                return Poll::Ready(Some(broken(end, Side::Client, &error)));
            }
            (_, Poll::Ready(Err((end, error)))) => {
                return Poll::Ready(Some(broken(end, Side::Upstream, &error)));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(None),
            _ => {}
        }
        if up.passed + down.passed != moved_before {
            resting = false;
            deadline.set(pipes_kept);
        }
        if !resting {
            ready!(deadline.poll_passed(cx));
            resting = true;
            up.rest();
            down.rest();
            deadline.set(idle - pipes_kept);
        }
        ready!(deadline.poll_passed(cx));
        Poll::Ready(Some(idled()))
    })
    .await;
    if passed.failure.is_none() {
        reset_on_drop(&client, false);
        reset_on_drop(&upstream, false);
    }
}

fn open_pipe() -> io::Result<Pipe> {
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (from, into) = rustix::pipe::pipe_with(flags)?;
    // Each fragment of a packet takes a page, so that the usual 16 are full far below 64 KiB. Where the system
    // allows no more, it stays as it is.
    let _widened = rustix::pipe::fcntl_setpipe_size(&into, PIPE_BYTES);
    Ok((from, into))
}

impl Lane {
    fn new(copied: BytesMut, open_pipe: fn() -> io::Result<Pipe>) -> Self {
        Self {
            copied,
            open_pipe,
            pipe: None,
            little: 0,
            held: 0,
            passed: 0,
            state: LaneState::Open,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut ReadHalf<'_>,
        sink: &TcpStream,
    ) -> Poll<Result<(), (End, io::Error)>> {
        loop {
            while !self.copied.is_empty() {
                let sent =
                    ready!(self.poll_copied(cx, sink)).map_err(|error| (End::Sink, error))?;
                self.copied.advance(sent);
                self.passed += sent as u64;
            }
            while self.held > 0 {
                let moved = ready!(self.poll_out(cx, sink)).map_err(|error| (End::Sink, error))?;
                self.held = self.held.saturating_sub(moved);
                self.passed += moved as u64;
            }
            match self.state {
                LaneState::Ended => return Poll::Ready(Ok(())),
                LaneState::Ending => {
                    // A peer that is gone already needs no telling.
                    let _told = rustix::net::shutdown(sink, rustix::net::Shutdown::Write);
                    self.pipe = None;
                    self.state = LaneState::Ended;
                    return Poll::Ready(Ok(()));
                }
                LaneState::Open => {}
            }
            match ready!(self.poll_in(cx, source)) {
                Ok(0) => self.state = LaneState::Ending,
                Ok(moved) if self.pipe.is_some() => self.note_piped(moved),
                Ok(copied) => self.note_copied(copied),
                Err(error) => return Poll::Ready(Err((End::Source, error))),
            }
        }
    }

    fn poll_copied(&self, cx: &mut Context<'_>, sink: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(sink.poll_write_ready(cx))?;
            match sink.try_write(&self.copied) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Gives back what an idle lane does not need: of many tunnels most are idle, and the pipes
    /// would be four of the six descriptors of each.
    fn rest(&mut self) {
        if self.held == 0 {
            self.pipe = None;
        }
        if self.copied.is_empty() {
            self.copied = BytesMut::new();
        }
    }

    /// So much is in the pipe now.
    fn note_piped(&mut self, moved: usize) {
        self.held = moved;
        self.little = match moved < READ_BYTES {
            true => self.little + 1,
            false => 0,
        };
    }

    /// So much was copied. Where there was more, the rest goes through a pipe; without descriptors for one it
    /// passes all the same.
    fn note_copied(&mut self, copied: usize) {
        if copied >= READ_BYTES {
            self.pipe = (self.open_pipe)().ok();
            self.little = 0;
        }
    }

    /// Reads into the pipe, or into memory.
    fn poll_in(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut ReadHalf<'_>,
    ) -> Poll<io::Result<usize>> {
        // Nothing is in it.
        if self.little > PIPE_LITTLE_MAX {
            self.pipe = None;
        }
        let Some((_, into)) = &self.pipe else {
            // Memory is for who has something to read.
            ready!(source.as_ref().poll_read_ready(cx))?;
            self.copied.reserve(READ_BYTES);
            let mut room = (&mut self.copied).limit(READ_BYTES);
            // Of a read that does not fill its room the socket knows that there is no more.
            return pin!(source.read_buf(&mut room)).poll(cx);
        };
        let source = source.as_ref();
        loop {
            ready!(source.poll_read_ready(cx))?;
            let moved = source.try_io(Interest::READABLE, || {
                let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                Ok(rustix::pipe::splice(
                    source, None, into, None, PIPE_BYTES, flags,
                )?)
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_out(&self, cx: &mut Context<'_>, sink: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(sink.poll_write_ready(cx))?;
            let Some((from, _)) = &self.pipe else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            let moved = sink.try_io(Interest::WRITABLE, || {
                let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                Ok(rustix::pipe::splice(
                    from, None, sink, None, self.held, flags,
                )?)
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

#[cfg(test)]
mod tests;
