//! What signals mean to a service: SIGTERM and SIGINT end it, SIGHUP has it reload; unless that
//! came because the terminal is gone, which ends it too.

use std::io::IsTerminal;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Stance;
use crate::problem::Problem;
use crate::service::orders::Orders;

/// The signals that a service listens for.
pub(super) struct ServiceSignals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    has_terminal: bool,
}

impl ServiceSignals {
    pub(super) fn listen(stance: &Stance) -> Result<Self, Problem> {
        let listen = |kind: SignalKind| {
            signal(kind)
                .map_err(|error| Problem::bug(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            has_terminal: matches!(stance, Stance::Foreground) && has_terminal(),
        })
    }

    /// Passes on what signals mean. It does not end: a second one that says stop has to be heard.
    pub(super) async fn pass_on(mut self, orders: &Orders) {
        loop {
            self.stop_once(orders).await;
            orders.stop(None);
        }
    }

    async fn stop_once(&mut self, orders: &Orders) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {}
            }
            if self.has_terminal && !has_terminal() {
                // It was closed. Until the next SIGHUP nobody would notice.
                self.has_terminal = false;
                return;
            }
            orders.reload();
        }
    }
}

/// A terminal that hung up answers that it is none.
fn has_terminal() -> bool {
    std::io::stdin().is_terminal()
        || std::io::stdout().is_terminal()
        || std::io::stderr().is_terminal()
}
