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

/// The wrong logins of one client since one moment, with those that are being looked at.
#[derive(Debug)]
struct Window {
    since: Instant,
    wrong: u32,
}

impl Window {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            wrong: 0,
        }
    }

    /// How long whoever has as many as allowed has to wait.
    fn barred(&self) -> Option<Duration> {
        let left = self.left();
        (self.wrong >= ATTEMPTS_MAX && !left.is_zero()).then_some(left)
    }

    fn left(&self) -> Duration {
        ATTEMPTS_WINDOW.saturating_sub(self.since.elapsed())
    }
}

/// A login that is being looked at. It counts as a wrong one from its beginning, so that many at once
/// are no more than may be wrong one after the other; it counts no more once it is dropped, unless it
/// [was wrong](Self::was_wrong).
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    attempts: &'a Attempts,
    /// Whose it is, and in which window; `None` if it is not counted, or for good.
    counted: Option<(IpAddr, Instant)>,
    /// How many there are in the window, with this one.
    wrong: u32,
}

impl Attempts {
    /// How long a client has to wait that was wrong too often.
    pub(crate) fn barred(&self, client: ClientAddress) -> Option<Duration> {
        let client = network(client)?;
        let clients = self.clients.lock();
        clients.get(&client).and_then(Window::barred)
    }

    /// Begins to look at a login.
    ///
    /// # Errors
    /// How long the client has to wait, if it was wrong too often or tries too many at once.
    pub(crate) fn begin(&self, client: ClientAddress) -> Result<Attempt<'_>, Duration> {
        let uncounted = Attempt {
            attempts: self,
            counted: None,
            wrong: 1,
        };
        let Some(client) = network(client) else {
            return Ok(uncounted);
        };
        let mut clients = self.clients.lock();
        if clients.len() >= ATTEMPTS_CLIENTS_MAX {
            clients.retain(|_, window| !window.left().is_zero());
        }
        let full = clients.len() >= ATTEMPTS_CLIENTS_MAX;
        let window = match clients.entry(client) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if full => return Ok(uncounted),
            Entry::Vacant(place) => place.insert(Window::new()),
        };
        if window.left().is_zero() {
            *window = Window::new();
        }
        if let Some(wait) = window.barred() {
            return Err(wait);
        }
        window.wrong += 1;
        Ok(Attempt {
            counted: Some((client, window.since)),
            wrong: window.wrong,
            ..uncounted
        })
    }

    /// Takes back one of those that are counted since a moment.
    fn take_back(&self, client: IpAddr, since: Instant) {
        let mut clients = self.clients.lock();
        let Entry::Occupied(mut known) = clients.entry(client) else {
            return;
        };
        let window = known.get_mut();
        if window.since != since {
            return;
        }
        window.wrong = window.wrong.saturating_sub(1);
        if window.wrong == 0 {
            known.remove();
        }
    }
}

impl Attempt<'_> {
    /// It stays counted; gives how many there are in its window.
    pub(crate) fn was_wrong(mut self) -> u32 {
        self.counted = None;
        self.wrong
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some((client, since)) = self.counted.take() {
            self.attempts.take_back(client, since);
        }
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

    fn wrong(attempts: &Attempts, client: ClientAddress) -> u32 {
        attempts.begin(client).unwrap().was_wrong()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_being_looked_at_counts_until_it_is_found_right() {
        let attempts = Attempts::default();
        let one = client("192.0.2.1:1");
        let begin = || attempts.begin(one);
        let mut under_way: Vec<_> = (0..ATTEMPTS_MAX).map(|_| begin().unwrap()).collect();
        assert_eq!(begin().unwrap_err(), ATTEMPTS_WINDOW);
        // One was right, and one takes its place that is wrong.
        drop(under_way.pop());
        assert_eq!(begin().unwrap().was_wrong(), ATTEMPTS_MAX);
        assert_eq!(begin().unwrap_err(), ATTEMPTS_WINDOW);
        // What began before does not count in the next window, and is not taken back from it.
        tokio::time::advance(ATTEMPTS_WINDOW).await;
        assert_eq!(wrong(&attempts, one), 1);
        drop(under_way);
        assert_eq!(wrong(&attempts, one), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_right_leaves_nothing_behind() {
        let attempts = Attempts::default();
        drop(attempts.begin(client("192.0.2.1:1")).unwrap());
        assert!(attempts.clients.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_wrong_too_often_waits() {
        let attempts = Attempts::default();
        let one = client("[2001:db8::1]:1");
        for count in 1..=ATTEMPTS_MAX {
            assert_eq!(attempts.barred(one), None);
            assert_eq!(wrong(&attempts, one), count);
        }
        assert_eq!(attempts.barred(one), Some(ATTEMPTS_WINDOW));
        // Another address of the same subscriber, and another subscriber.
        assert!(attempts.barred(client("[2001:db8::2]:9")).is_some());
        assert!(attempts.barred(client("[2001:db8:0:1::1]:1")).is_none());
        tokio::time::advance(ATTEMPTS_WINDOW).await;
        assert_eq!(attempts.barred(one), None);
        assert_eq!(wrong(&attempts, one), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_clients_are_remembered_than_is_bounded() {
        let attempts = Attempts::default();
        for index in 0..ATTEMPTS_CLIENTS_MAX + 100 {
            let [.., a, b] = index.to_be_bytes();
            wrong(&attempts, client(&format!("10.0.{a}.{b}:1")));
        }
        assert_eq!(attempts.clients.lock().len(), ATTEMPTS_CLIENTS_MAX);
        tokio::time::advance(ATTEMPTS_WINDOW).await;
        wrong(&attempts, client("10.1.0.0:1"));
        assert_eq!(attempts.clients.lock().len(), 1);
    }
}
