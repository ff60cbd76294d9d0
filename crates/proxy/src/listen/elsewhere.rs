//! Systems on which Unix-domain sockets are not listened on.
//!
//! Windows has them (`afunix.h`), but neither the standard library nor tokio does there, and their
//! files have no mode that would keep others out. There are no values of these types, so that what
//! would be done with one costs nothing.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use traffic::PeerCredentials;

#[derive(Debug)]
pub(super) enum UnixSocket {}

#[derive(Debug)]
pub(crate) enum UnixStream {}

impl UnixSocket {
    /// An error of kind `Unsupported`.
    pub(super) fn bind(_path: &Path) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn duplicate(&self) -> io::Result<super::Handed> {
        match *self {}
    }

    pub(super) fn leave_file(&self) {
        match *self {}
    }

    pub(super) fn poll_accept(
        &self,
        _cx: &mut Context<'_>,
    ) -> Poll<io::Result<(UnixStream, PeerCredentials)>> {
        match *self {}
    }
}

impl AsyncRead for UnixStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for UnixStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}
