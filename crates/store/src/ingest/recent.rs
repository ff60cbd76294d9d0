//! A bounded memory of what was seen lately.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

/// Remembers at least the last `half` entries that were used, and at most twice as many: two
/// generations, the older of which is dropped whole. Cheaper than a list in the order of use.
#[derive(Debug)]
pub(crate) struct Recent<K, V, S = RandomState> {
    young: HashMap<K, V, S>,
    old: HashMap<K, V, S>,
    half: usize,
}

impl<K: Hash + Eq, V, S: BuildHasher + Default> Recent<K, V, S> {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            half: (bound / 2).max(1),
        }
    }

    pub(crate) fn find(&mut self, key: &K) -> Option<&mut V> {
        // Mostly so, and then one look is enough.
        if self.old.is_empty() {
            return self.young.get_mut(key);
        }
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_was_not_used_lately() {
        let mut recent: Recent<i32, i32> = Recent::new(8);
        for number in 0..100 {
            recent.insert(number, number);
            assert!(recent.find(&0).is_some(), "used all the time");
            assert!(recent.young.len() + recent.old.len() <= 8);
        }
        assert_eq!(recent.find(&50), None);
        assert_eq!(recent.find(&99), Some(&mut 99));
    }
}
