//! When a child is ended.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::limits::KILL_AFTER;

/// When the child is to be ended: with SIGTERM first, with SIGKILL if that does not help.
pub(super) struct Deadline {
    at: Option<Instant>,
    signalled: bool,
}

impl Deadline {
    pub(super) fn new(timeout: Option<Duration>, began: Instant) -> Self {
        Self {
            at: timeout.map(|timeout| began + timeout),
            signalled: false,
        }
    }

    pub(super) fn end_now(&mut self) {
        if !self.signalled {
            self.at = Some(Instant::now());
        }
    }

    pub(super) async fn passed(&self) {
        match self.at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn next_signal(&mut self) -> Signal {
        match std::mem::replace(&mut self.signalled, true) {
            false => {
                self.at = Some(Instant::now() + KILL_AFTER);
                Signal::TERM
            }
            true => {
                self.at = None;
                Signal::KILL
            }
        }
    }
}
