//! Systems on which processes are not looked up.
//!
//! macOS could answer by `proc_pidfdinfo` and Windows by `GetExtendedTcpTable`. Both are calls into
//! C that this crate, which forbids unsafe code, would make through a crate, and neither can be
//! tried where oriel is built and tested so far. An honest error is better than a guess.

use std::net::SocketAddr;

use tokio::time::Instant;
use traffic::{AttributionError, ProcessAnswer};

#[derive(Debug)]
pub(super) struct System;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen;

impl System {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn lookup_at_once(
        &self,
        _client: SocketAddr,
        _proxy: SocketAddr,
    ) -> Result<ProcessAnswer, Seen> {
        Ok(Err(AttributionError::Unsupported))
    }

    pub(super) fn lookup(
        &self,
        _client: SocketAddr,
        _proxy: SocketAddr,
        _seen: Seen,
        _deadline: Instant,
    ) -> ProcessAnswer {
        Err(AttributionError::Unsupported)
    }

    pub(super) fn lookup_peer(&self, _pid: u32, _uid: u32, _deadline: Instant) -> ProcessAnswer {
        Err(AttributionError::Unsupported)
    }

    pub(super) fn note_end(&self, _pid: u32, _client: SocketAddr) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_is_looked_up_and_that_is_said() {
        let (system, now) = (System::new(), Instant::now());
        let client = "127.0.0.1:1".parse().unwrap();
        let unsupported = Err(AttributionError::Unsupported);
        assert_eq!(system.lookup(client, client, Seen, now), unsupported);
        let at_once = system.lookup_at_once(client, client);
        assert_eq!(at_once.unwrap(), unsupported);
        system.note_end(1, client);
        assert_eq!(system.lookup_peer(1, 1, now), unsupported);
    }
}
