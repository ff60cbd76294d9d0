//! Sockets that listen before the proxy does: a service manager's, or those of a process whose place
//! is taken. Clients that connect in between wait, and none is refused.

use std::net::TcpListener;
#[cfg(unix)]
use std::os::{
    fd::{AsFd, BorrowedFd},
    unix::net::UnixListener,
};
#[cfg(unix)]
use std::path::PathBuf;

use traffic::ListenAddress;

/// A socket that listens already.
#[derive(Debug)]
pub struct ListeningSocket {
    pub(super) address: ListenAddress,
    pub(super) socket: Handed,
}

#[derive(Debug)]
pub(super) enum Handed {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix {
        socket: UnixListener,
        file: SocketFile,
    },
}

/// Whose the file of a Unix-domain socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketFile {
    /// The proxy's, which removes it at its end.
    Ours,
    /// Somebody else's, who wants to listen there again.
    Foreign,
}

impl ListeningSocket {
    /// `address` is what [`crate::Listener::address`] says: with port 0 if the system chose one.
    #[must_use]
    pub fn tcp(address: std::net::SocketAddr, socket: TcpListener) -> Self {
        Self {
            address: address.into(),
            socket: Handed::Tcp(socket),
        }
    }

    /// `path` is where the file is, whatever the socket says of itself.
    #[cfg(unix)]
    #[must_use]
    pub fn unix(path: PathBuf, socket: UnixListener, file: SocketFile) -> Self {
        Self {
            address: ListenAddress::Unix(path),
            socket: Handed::Unix { socket, file },
        }
    }

    /// The listener that it is for.
    #[must_use]
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Whose its file is; `None` if it has none.
    #[must_use]
    pub fn file(&self) -> Option<SocketFile> {
        match &self.socket {
            Handed::Tcp(_) => None,
            #[cfg(unix)]
            Handed::Unix { file, .. } => Some(*file),
        }
    }
}

#[cfg(unix)]
impl AsFd for ListeningSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Handed::Tcp(socket) => socket.as_fd(),
            Handed::Unix { socket, .. } => socket.as_fd(),
        }
    }
}
