//! A deadline that is moved on every step of progress and costs almost nothing to move.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The timer behind it is armed once and re-armed only when it fires or must fire earlier, so a
/// busy connection touches the timer wheel every few seconds instead of on every message.
#[derive(Debug)]
pub(crate) struct Deadline {
    at: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    pub(crate) fn after(wait: Duration) -> Self {
        Self {
            at: Instant::now() + wait,
            sleep: None,
        }
    }

    /// Sets it to `wait` from now.
    pub(crate) fn set(&mut self, wait: Duration) {
        self.at = Instant::now() + wait;
        if let Some(sleep) = &mut self.sleep
            && sleep.deadline() > self.at
        {
            sleep.as_mut().reset(self.at);
        }
    }

    /// Ready once it has passed; otherwise the task is woken when it may have.
    pub(crate) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn passes_when_it_was_last_set_to() {
        let begun = Instant::now();
        let mut deadline = Deadline::after(Duration::from_secs(60));
        let early = std::future::poll_fn(|cx| deadline.poll_passed(cx));
        assert!(
            tokio::time::timeout(Duration::from_secs(1), early)
                .await
                .is_err()
        );
        deadline.set(Duration::from_secs(10));
        std::future::poll_fn(|cx| deadline.poll_passed(cx)).await;
        assert_eq!(begun.elapsed().as_secs(), 11);
        deadline.set(Duration::from_secs(100));
        std::future::poll_fn(|cx| deadline.poll_passed(cx)).await;
        assert_eq!(begun.elapsed().as_secs(), 111);
    }
}
