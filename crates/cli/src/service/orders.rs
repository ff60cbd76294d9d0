//! What a running service is told to do, by a signal or through its control socket.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// How far it is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Not,
    /// No new connections; open ones may end within this time, or that of the settings.
    Drain(Option<Duration>),
    /// Another process has its place; open connections may end within this time.
    Replaced(Duration),
    /// Nobody wants to wait for what is open.
    Cut,
}

/// Takes orders. Clones take them for the same service.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    ending: watch::Sender<Ending>,
    reload: Arc<Notify>,
}

impl Orders {
    pub(crate) fn new() -> Self {
        Self {
            ending: watch::Sender::new(Ending::Not),
            reload: Arc::default(),
        }
    }

    /// Has it stop. Asked a second time, it does not wait for what is open.
    pub(crate) fn stop(&self, drain: Option<Duration>) {
        self.ending.send_modify(|ending| {
            *ending = match ending {
                Ending::Not => Ending::Drain(drain),
                Ending::Drain(_) | Ending::Replaced(_) | Ending::Cut => Ending::Cut,
            }
        });
    }

    /// Has it end, since another process has its place.
    pub(crate) fn replace(&self, drain: Duration) {
        self.ending.send_replace(Ending::Replaced(drain));
    }

    /// Done when another process has its place.
    pub(crate) async fn replaced(&self) {
        self.wait_for(|ending| matches!(ending, Ending::Replaced(_)))
            .await;
    }

    pub(crate) fn is_replaced(&self) -> bool {
        matches!(*self.ending.borrow(), Ending::Replaced(_))
    }

    async fn wait_for(&self, wanted: impl FnMut(&Ending) -> bool) {
        let mut ending = self.ending.subscribe();
        // `self` keeps the other end, so the wait does not fail.
        let _came = ending.wait_for(wanted).await;
    }

    /// Has it take its configuration anew.
    pub(crate) fn reload(&self) {
        self.reload.notify_one();
    }

    /// Done when it is to stop, with the time that open connections have.
    pub(crate) async fn stopped(&self) -> Option<Duration> {
        self.wait_for(|ending| *ending != Ending::Not).await;
        match *self.ending.borrow() {
            Ending::Drain(drain) => drain,
            Ending::Replaced(drain) => Some(drain),
            Ending::Not | Ending::Cut => Some(Duration::ZERO),
        }
    }

    /// Done when what is open is to be cut.
    pub(crate) async fn cut(&self) {
        self.wait_for(|ending| *ending == Ending::Cut).await;
    }

    /// Done when the configuration is to be taken anew.
    pub(crate) async fn reload_asked(&self) {
        self.reload.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_order_to_stop_does_not_wait() {
        let orders = Orders::new();
        orders.stop(Some(Duration::from_secs(3)));
        assert_eq!(orders.stopped().await, Some(Duration::from_secs(3)));
        orders.stop(None);
        orders.cut().await;
    }
}
