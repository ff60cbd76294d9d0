//! How many requests a client may reset before they are answered: a bucket that fills with time.

use tokio::time::Instant;

use crate::limits::{HTTP2_RESETS_BURST, HTTP2_RESETS_PER_SECOND};

/// What is left of the patience with one client.
#[derive(Debug)]
pub(super) struct Patience {
    left: u32,
    filled_at: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self {
            left: HTTP2_RESETS_BURST,
            filled_at: Instant::now(),
        }
    }

    /// Counts one reset; false if it was one too many.
    pub(super) fn allows_reset(&mut self) -> bool {
        let seconds = self.filled_at.elapsed().as_secs();
        if seconds > 0 {
            let more = u32::try_from(seconds)
                .unwrap_or(u32::MAX)
                .saturating_mul(HTTP2_RESETS_PER_SECOND);
            self.left = self.left.saturating_add(more).min(HTTP2_RESETS_BURST);
            self.filled_at = Instant::now();
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn allowed(patience: &mut Patience) -> u32 {
        let mut count = 0;
        while patience.allows_reset() {
            count += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_and_comes_back_with_time() {
        let mut patience = Patience::new();
        assert_eq!(allowed(&mut patience), HTTP2_RESETS_BURST);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(allowed(&mut patience), 2 * HTTP2_RESETS_PER_SECOND);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(allowed(&mut patience), HTTP2_RESETS_BURST);
    }
}
