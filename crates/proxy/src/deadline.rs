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
    /// What is left of the wait when that has passed.
    rest: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    pub(crate) fn after(wait: Duration) -> Self {
        Self {
            at: Instant::now() + wait,
            rest: None,
            sleep: None,
        }
    }

    /// Sets it to `wait` from now.
    pub(crate) fn set(&mut self, wait: Duration) {
        self.at = Instant::now() + wait;
        self.rest = None;
        if let Some(sleep) = &mut self.sleep
            && sleep.deadline() > self.at
        {
            sleep.as_mut().reset(self.at);
        }
    }

    /// Sets it to `wait` from now, with a stop on the way: it passes for a first time after `stop`, unless it is
    /// moved before.
    pub(crate) fn set_with_stop(&mut self, stop: Duration, wait: Duration) {
        self.set(stop.min(wait));
        self.rest = Some(wait.saturating_sub(stop));
    }

    /// Whether it is on its way to a stop.
    pub(crate) fn has_stop(&self) -> bool {
        self.rest.is_some()
    }

    /// It has passed: was that the stop? Then it goes on from now.
    pub(crate) fn go_on(&mut self) -> bool {
        let rest = self.rest.take();
        if let Some(rest) = rest {
            self.set(rest);
        }
        rest.is_some()
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

    #[tokio::test(start_paused = true)]
    async fn stops_once_on_the_way() {
        const SECOND: Duration = Duration::from_secs(1);
        let begun = Instant::now();
        let mut deadline = Deadline::after(60 * SECOND);
        let passed = async |deadline: &mut Deadline| {
            std::future::poll_fn(|cx| deadline.poll_passed(cx)).await;
            (begun.elapsed().as_secs(), deadline.go_on())
        };
        deadline.set_with_stop(2 * SECOND, 10 * SECOND);
        assert_eq!(passed(&mut deadline).await, (2, true));
        assert_eq!(passed(&mut deadline).await, (10, false));
        // Whoever moves it takes the stop away.
        deadline.set_with_stop(2 * SECOND, 10 * SECOND);
        deadline.set(5 * SECOND);
        assert_eq!(passed(&mut deadline).await, (15, false));
        // The stop is never later than the end.
        deadline.set_with_stop(20 * SECOND, 5 * SECOND);
        assert_eq!(passed(&mut deadline).await, (20, true));
        assert_eq!(passed(&mut deadline).await, (20, false));
    }
}
