//! Bounds how much goes on at once, and counts it: connections of each client, and flows.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use traffic::{ClientAddress, Failure, FailureKind, Side, Stage};

use crate::error;

/// The connections of each client. There are at most as many clients as connections.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    connections: Mutex<HashMap<Client, usize>>,
}

/// Whose connections are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    Address(IpAddr),
    /// A user of this machine, over Unix-domain sockets.
    User(u32),
}

/// The place of one connection among those of its client, as long as it lives.
#[derive(Debug)]
pub(crate) struct Place {
    clients: Arc<Clients>,
    client: Client,
}

impl Clients {
    /// Takes a place for one more connection of a client; `None` if it has `max` already.
    pub(crate) fn admit(self: &Arc<Self>, address: ClientAddress, max: usize) -> Option<Place> {
        let client = match address {
            ClientAddress::Tcp(address) => Client::Address(address.ip().to_canonical()),
            ClientAddress::Unix(peer) => Client::User(peer.uid),
        };
        let mut connections = self.connections.lock();
        if connections.get(&client).copied().unwrap_or(0) >= max {
            return None;
        }
        *connections.entry(client).or_default() += 1;
        Some(Place {
            clients: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.clients.connections.lock();
        if let Some(count) = connections.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.client);
            }
        }
    }
}

/// Why something is refused that may pass later.
pub(crate) fn busy(text: impl Into<String>) -> Failure {
    error::failure(Side::Oriel, Stage::Front, FailureKind::Busy, text)
}

/// Why a request is refused whose body would have to be held.
pub(crate) fn no_room() -> Failure {
    busy("too much of other requests is held in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_places() {
        let clients = Arc::new(Clients::default());
        let admit = |text: &str| clients.admit(ClientAddress::Tcp(text.parse().unwrap()), 2);
        let (one, two) = (admit("10.0.0.1:1").unwrap(), admit("10.0.0.1:2").unwrap());
        assert!(admit("10.0.0.1:3").is_none());
        // The same client, seen by a listener for both kinds of address.
        assert!(admit("[::ffff:10.0.0.1]:4").is_none());
        let other = admit("10.0.0.2:1").unwrap();
        drop(one);
        let again = admit("10.0.0.1:5").unwrap();
        drop((two, other, again));
        assert!(clients.connections.lock().is_empty());
    }

    #[test]
    fn a_client_that_may_have_none_leaves_nothing_behind() {
        let clients = Arc::new(Clients::default());
        let address = ClientAddress::Tcp("10.0.0.1:1".parse().unwrap());
        assert!(clients.admit(address, 0).is_none());
        assert!(clients.connections.lock().is_empty());
    }
}
