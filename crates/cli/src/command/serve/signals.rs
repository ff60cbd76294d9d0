//! What signals mean to a service: SIGTERM and SIGINT end it, SIGHUP has it reload; unless that
//! came because the terminal is gone, which ends it too.

use std::io::IsTerminal;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot};

use crate::problem::Problem;

/// The signals that a service listens for.
pub(super) struct ServiceSignals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    has_terminal: bool,
}

impl ServiceSignals {
    pub(super) fn listen() -> Result<Self, Problem> {
        let listen = |kind: SignalKind| {
            signal(kind)
                .map_err(|error| Problem::bug(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            has_terminal: has_terminal(),
        })
    }

    /// Asks to stop at the first signal that says so, and is done at the second: then nobody wants
    /// to wait.
    pub(super) async fn stop_twice(mut self, stop: oneshot::Sender<()>, reload: &Notify) {
        self.stop_once(reload).await;
        tracing::info!("stopping: no new connections, open ones may end");
        drop(stop);
        self.stop_once(reload).await;
    }

    async fn stop_once(&mut self, reload: &Notify) {
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
            reload.notify_one();
        }
    }
}

/// A terminal that hung up answers that it is none.
fn has_terminal() -> bool {
    std::io::stdin().is_terminal()
        || std::io::stdout().is_terminal()
        || std::io::stderr().is_terminal()
}
