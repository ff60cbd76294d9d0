//! Where clients are accepted: TCP ports and Unix-domain sockets, taken from in turn. It reads
//! nothing from a client.

use std::io;
use std::task::{Context, Poll};

use tokio::net::TcpListener;
use traffic::{ClientAddress, ListenAddress};

use crate::limits::ACCEPT_PAUSE;
use crate::stream::Wire;

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
    bound: Vec<Bound>,
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

#[derive(Debug)]
struct Bound {
    socket: Socket,
    /// With the port that the system chose.
    address: ListenAddress,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

impl Listening {
    /// Listens on all addresses, or on none.
    pub(crate) async fn bind<'a>(
        addresses: impl Iterator<Item = &'a ListenAddress>,
    ) -> Result<Self, (&'a ListenAddress, io::Error)> {
        let mut bound = Vec::new();
        for address in addresses {
            bound.push(
                Bound::new(address)
                    .await
                    .map_err(|error| (address, error))?,
            );
        }
        Ok(Self { bound, first: 0 })
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

impl Bound {
    async fn new(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                Ok(Self {
                    address: listener.local_addr()?.into(),
                    socket: Socket::Tcp(listener),
                })
            }
            ListenAddress::Unix(path) => Ok(Self {
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
