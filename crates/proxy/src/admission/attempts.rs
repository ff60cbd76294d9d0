//! How often a client may be wrong about who it is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use traffic::ClientAddress;

use crate::limits::{ATTEMPTS_CLIENTS_MAX, ATTEMPTS_MAX, ATTEMPTS_WINDOW};

/// Wrong logins of the last minute, by where they came from.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    clients: Mutex<HashMap<IpAddr, Window>>,
}

/// The wrong logins of one client since one moment.
#[derive(Debug)]
struct Window {
    since: Instant,
    wrong: u32,
}

impl Window {
    fn left(&self) -> Duration {
        ATTEMPTS_WINDOW.saturating_sub(self.since.elapsed())
    }
}

impl Attempts {
    /// How long a client has to wait that was wrong too often.
    pub(crate) fn barred(&self, client: ClientAddress) -> Option<Duration> {
        let client = network(client)?;
        let clients = self.clients.lock();
        let window = clients.get(&client)?;
        let left = window.left();
        (window.wrong >= ATTEMPTS_MAX && !left.is_zero()).then_some(left)
    }

    /// Counts a wrong login; gives how many there are in this window.
    pub(crate) fn count(&self, client: ClientAddress) -> u32 {
        let Some(client) = network(client) else {
            return 1;
        };
        let mut clients = self.clients.lock();
        if clients.len() >= ATTEMPTS_CLIENTS_MAX {
            clients.retain(|_, window| !window.left().is_zero());
        }
        let full = clients.len() >= ATTEMPTS_CLIENTS_MAX;
        let window = match clients.entry(client) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if full => return 1,
            Entry::Vacant(place) => place.insert(Window {
                since: Instant::now(),
                wrong: 0,
            }),
        };
        if window.left().is_zero() {
            *window = Window {
                since: Instant::now(),
                wrong: 0,
            };
        }
        window.wrong = window.wrong.saturating_add(1);
        window.wrong
    }
}

/// Whose attempts are counted together: an IPv4 address, or the 64 bits of an IPv6 address that one
/// subscriber has all addresses of. Nobody on a Unix-domain socket is asked.
fn network(client: ClientAddress) -> Option<IpAddr> {
    let ClientAddress::Tcp(address) = client else {
        return None;
    };
    Some(match address.ip().to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> ClientAddress {
        ClientAddress::Tcp(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_wrong_too_often_waits() {
        let attempts = Attempts::default();
        let one = client("[2001:db8::1]:1");
        for count in 1..=ATTEMPTS_MAX {
            assert_eq!(attempts.barred(one), None);
            assert_eq!(attempts.count(one), count);
        }
        assert_eq!(attempts.barred(one), Some(ATTEMPTS_WINDOW));
        // Another address of the same subscriber, and another subscriber.
        assert!(attempts.barred(client("[2001:db8::2]:9")).is_some());
        assert!(attempts.barred(client("[2001:db8:0:1::1]:1")).is_none());
        tokio::time::advance(ATTEMPTS_WINDOW).await;
        assert_eq!(attempts.barred(one), None);
        assert_eq!(attempts.count(one), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_clients_are_remembered_than_is_bounded() {
        let attempts = Attempts::default();
        for index in 0..ATTEMPTS_CLIENTS_MAX + 100 {
            let [.., a, b] = index.to_be_bytes();
            attempts.count(client(&format!("10.0.{a}.{b}:1")));
        }
        assert_eq!(attempts.clients.lock().len(), ATTEMPTS_CLIENTS_MAX);
        tokio::time::advance(ATTEMPTS_WINDOW).await;
        attempts.count(client("10.1.0.0:1"));
        assert_eq!(attempts.clients.lock().len(), 1);
    }
}
