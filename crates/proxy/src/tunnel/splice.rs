//! A tunnel between two sockets whose bytes stay in the kernel: `splice(2)` from a socket into a
//! pipe and from the pipe into the other socket.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;
use traffic::Side;

use super::{End, LaneState, Passed, broken, idled};
use crate::deadline::Deadline;
use crate::limits::{PIPE_BYTES, PIPE_KEPT, READ_BYTES};
use crate::stream::reset_on_drop;

/// A lane that carries this much at once is given a larger pipe.
const WIDEN_FROM_BYTES: usize = 16 * 1024;

/// The end that is read from and the one that is written to.
type Pipe = (OwnedFd, OwnedFd);

/// One direction.
struct Lane {
    /// What was read before the tunnel began, and what is read while no pipe can be had; sent
    /// first.
    copied: BytesMut,
    open_pipe: fn() -> io::Result<Pipe>,
    /// Made when there is something to carry, given back after a rest.
    pipe: Option<Pipe>,
    /// The pipe was made larger.
    widened: bool,
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
    client: TcpStream,
    upstream: TcpStream,
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
    passed.failure = std::future::poll_fn(|cx| {
        let moved_before = up.passed + down.passed;
        let going_up = up.poll(cx, &client, &upstream);
        let coming_down = down.poll(cx, &upstream, &client);
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
    Ok(rustix::pipe::pipe_with(flags)?)
}

impl Lane {
    fn new(copied: BytesMut, open_pipe: fn() -> io::Result<Pipe>) -> Self {
        Self {
            copied,
            open_pipe,
            pipe: None,
            widened: false,
            held: 0,
            passed: 0,
            state: LaneState::Open,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &TcpStream,
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
                Ok(_) if !self.copied.is_empty() => {}
                Ok(moved) => {
                    self.held = moved;
                    self.widen();
                }
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
            self.widened = false;
        }
        if self.copied.is_empty() {
            self.copied = BytesMut::new();
        }
    }

    /// Gives a lane with much to carry a larger pipe: each fragment of a packet takes a page of it,
    /// so the usual 16 pages fill up far below 64 KiB.
    fn widen(&mut self) {
        let Some((_, into)) = &self.pipe else { return };
        if self.held >= WIDEN_FROM_BYTES && !self.widened {
            self.widened = true;
            // Where the system allows no more, the pipe stays as it is.
            let _widened = rustix::pipe::fcntl_setpipe_size(into, PIPE_BYTES);
        }
    }

    /// Reads into the pipe, or where no pipe can be had, into memory.
    fn poll_in(&mut self, cx: &mut Context<'_>, source: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(source.poll_read_ready(cx))?;
            if self.pipe.is_none() {
                // Without descriptors the bytes still pass, at the price of a copy.
                self.pipe = (self.open_pipe)().ok();
            }
            let moved = match &self.pipe {
                Some((_, into)) => source.try_io(Interest::READABLE, || {
                    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                    Ok(rustix::pipe::splice(
                        source, None, into, None, PIPE_BYTES, flags,
                    )?)
                }),
                None => {
                    self.copied.reserve(READ_BYTES);
                    source.try_read_buf(&mut (&mut self.copied).limit(READ_BYTES))
                }
            };
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
