//! Bounds what is held in memory for a handler, over all flows: bodies that wait to be whole, and
//! what waits to be told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Octets that are held now. Shared by all flows of a proxy.
#[derive(Debug, Default)]
pub(crate) struct HeldBytes(AtomicUsize);

/// What one flow holds of it. Dropping it gives all back.
#[derive(Debug)]
pub(crate) struct Hold {
    all: Arc<HeldBytes>,
    all_max: usize,
    own: usize,
}

impl HeldBytes {
    pub(crate) fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Hold {
    /// Nothing yet; together all may hold `all_max`.
    pub(crate) fn new(all: &Arc<HeldBytes>, all_max: usize) -> Self {
        Self {
            all: Arc::clone(all),
            all_max,
            own: 0,
        }
    }

    /// What this one holds.
    pub(crate) fn own(&self) -> usize {
        self.own
    }

    /// Holds so many octets more; false, and nothing more, if all together would hold too much.
    pub(crate) fn grow(&mut self, by: usize) -> bool {
        if by == 0 {
            return true;
        }
        let before = self.all.0.fetch_add(by, Ordering::Relaxed);
        if before.saturating_add(by) > self.all_max {
            self.all.0.fetch_sub(by, Ordering::Relaxed);
            return false;
        }
        self.own += by;
        true
    }

    /// Gives so many octets back.
    pub(crate) fn shrink(&mut self, by: usize) {
        let by = by.min(self.own);
        self.own -= by;
        self.all.0.fetch_sub(by, Ordering::Relaxed);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shrink(self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn together_they_hold_no_more_than_allowed_and_give_all_back() {
        let all = Arc::new(HeldBytes::default());
        let (mut one, mut other) = (Hold::new(&all, 10), Hold::new(&all, 10));
        assert!(one.grow(6) && other.grow(4));
        assert!(!one.grow(1) && one.grow(0));
        other.shrink(3);
        assert!(one.grow(3));
        assert_eq!((all.now(), one.own(), other.own()), (10, 9, 1));
        drop((one, other));
        assert_eq!(all.now(), 0);
    }
}
