//! How a callback that is told something ends its connection by a panic, where panics are not to
//! stay in the callback. It is called by another task than the one that serves the connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;

/// Asks the task of one client connection to end.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    is_asked: AtomicBool,
    serving: AtomicWaker,
}

impl Cut {
    /// Has the connection cut.
    pub(super) fn ask(&self) {
        self.is_asked.store(true, Ordering::Release);
        self.serving.wake();
    }

    /// Waits until the connection is to be cut. Only one task may wait.
    pub(crate) async fn asked(&self) {
        std::future::poll_fn(|cx| {
            self.serving.register(cx.waker());
            match self.is_asked.load(Ordering::Acquire) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}
