//! Where clients are accepted: TCP ports and Unix-domain sockets, taken from in turn. It reads
//! nothing from a client.

use std::io;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::net::TcpListener;
use traffic::{ClientAddress, ListenAddress};

use crate::limits::ACCEPT_PAUSE;
use crate::stream::Wire;

mod handed;
use handed::Handed;
pub use handed::{ListeningSocket, SocketFile};

#[cfg(unix)]
mod unix;
#[cfg(unix)]
use unix::UnixSocket;
#[cfg(unix)]
pub(crate) use unix::UnixStream;

#[cfg(not(unix))]
mod elsewhere;
#[cfg(not(unix))]
use elsewhere::UnixSocket;
#[cfg(not(unix))]
pub(crate) use elsewhere::UnixStream;

/// All places where clients are accepted.
#[derive(Debug)]
pub(crate) struct Listening {
    bound: Arc<Vec<Bound>>,
    /// Which is looked at first the next time, so that a busy one does not keep others waiting.
    first: usize,
}

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// The number of the listener.
    pub(crate) listener: usize,
    pub(crate) wire: Wire,
    pub(crate) client_address: ClientAddress,
    /// Where it was reached, which says more than where it listens: one of many addresses.
    pub(crate) proxy_address: ListenAddress,
}

/// The sockets of a [`Listening`], as long as it lives.
#[derive(Clone, Debug)]
pub(crate) struct Sockets(Weak<Vec<Bound>>);

#[derive(Debug)]
struct Bound {
    socket: Socket,
    asked: ListenAddress,
    /// With the port that the system chose.
    address: ListenAddress,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

impl Listening {
    /// Listens on all addresses, or on none. Where one of `handed` is for an address it is used, and
    /// those that are for none are closed.
    pub(crate) async fn bind<'a>(
        addresses: impl Iterator<Item = &'a ListenAddress>,
        mut handed: Vec<ListeningSocket>,
    ) -> Result<Self, (&'a ListenAddress, io::Error)> {
        let mut bound = Vec::new();
        for address in addresses {
            let one = handed.iter().position(|one| one.address == *address);
            let one = match one {
                Some(number) => Bound::take_over(handed.remove(number)),
                None => Bound::new(address).await,
            };
            bound.push(one.map_err(|error| (address, error))?);
        }
        let bound = Arc::new(bound);
        Ok(Self { bound, first: 0 })
    }

    /// The sockets, for handing them on.
    pub(crate) fn sockets(&self) -> Sockets {
        Sockets(Arc::downgrade(&self.bound))
    }

    /// In the order in which they were asked for.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.bound.iter().map(|bound| &bound.address)
    }

    /// The next connection. Dropping it loses none.
    pub(crate) async fn accept(&mut self) -> Accepted {
        loop {
            match std::future::poll_fn(|cx| self.poll_accept(cx)).await {
                Ok(accepted) => return accepted,
                Err(error) if is_about_one_connection(&error) => {
                    tracing::debug!(%error, "a client was gone before it was served");
                }
                Err(error) => {
                    // Most likely out of descriptors: spinning would not free any.
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let numbered = || self.bound.iter().enumerate();
        let in_turn = numbered().skip(self.first).chain(numbered());
        for (number, bound) in in_turn.take(self.bound.len()) {
            if let Poll::Ready(accepted) = bound.poll_accept(number, cx) {
                self.first = (number + 1) % self.bound.len();
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }
}

impl Sockets {
    /// A duplicate of each, which goes on listening when the proxy does not; none once it stopped.
    pub(crate) fn duplicate(&self) -> io::Result<Vec<ListeningSocket>> {
        let bound = self.0.upgrade().unwrap_or_default();
        bound.iter().map(Bound::duplicate).collect()
    }

    /// Leaves the files of Unix-domain sockets where they are.
    pub(crate) fn leave_files(&self) {
        for bound in self.0.upgrade().unwrap_or_default().iter() {
            if let Socket::Unix(socket) = &bound.socket {
                socket.leave_file();
            }
        }
    }
}

impl Bound {
    fn take_over(handed: ListeningSocket) -> io::Result<Self> {
        let asked = handed.address;
        match handed.socket {
            Handed::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Ok(Self {
                    address: socket.local_addr()?.into(),
                    socket: Socket::Tcp(TcpListener::from_std(socket)?),
                    asked,
                })
            }
            #[cfg(unix)]
            Handed::Unix { socket, file } => Ok(Self {
                address: asked.clone(),
                socket: Socket::Unix(UnixSocket::take_over(&asked, socket, file)?),
                asked,
            }),
        }
    }

    fn duplicate(&self) -> io::Result<ListeningSocket> {
        let socket = match &self.socket {
            Socket::Tcp(socket) => Handed::Tcp(duplicate(socket)?.into()),
            Socket::Unix(socket) => socket.duplicate()?,
        };
        Ok(ListeningSocket {
            address: self.asked.clone(),
            socket,
        })
    }

    async fn new(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                Ok(Self {
                    asked: (*address).into(),
                    address: listener.local_addr()?.into(),
                    socket: Socket::Tcp(listener),
                })
            }
            ListenAddress::Unix(path) => Ok(Self {
                asked: address.clone(),
                address: address.clone(),
                socket: Socket::Unix(UnixSocket::bind(path)?),
            }),
        }
    }

    fn poll_accept(&self, listener: usize, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        match &self.socket {
            Socket::Tcp(socket) => socket.poll_accept(cx).map(|accepted| {
                let (stream, client) = accepted?;
                // Without it a small answer waits for the client's delayed acknowledgement.
                stream.set_nodelay(true).map_err(gone)?;
                Ok(Accepted {
                    listener,
                    proxy_address: stream.local_addr().map_err(gone)?.into(),
                    client_address: client.into(),
                    wire: Wire::Tcp(stream),
                })
            }),
            Socket::Unix(socket) => socket.poll_accept(cx).map(|accepted| {
                let (stream, peer) = accepted?;
                Ok(Accepted {
                    listener,
                    proxy_address: self.address.clone(),
                    client_address: ClientAddress::Unix(peer),
                    wire: Wire::Unix(stream),
                })
            }),
        }
    }
}

/// Another descriptor of the same socket.
#[cfg(unix)]
fn duplicate(socket: &TcpListener) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::AsFd;
    socket.as_fd().try_clone_to_owned()
}

#[cfg(windows)]
fn duplicate(socket: &TcpListener) -> io::Result<std::os::windows::io::OwnedSocket> {
    use std::os::windows::io::AsSocket;
    socket.as_socket().try_clone_to_owned()
}

/// What fails on an accepted socket fails because its client has gone.
fn gone(error: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error)
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests;
