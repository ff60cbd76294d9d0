//! How long something took, sorted into buckets with fixed bounds.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::{add, get};

/// Upper bounds of the buckets, in microseconds: from what parsing takes to what a handler may.
const BOUNDS_MICROS: [u64; 13] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000,
];

/// Counts durations.
#[derive(Debug, Default)]
pub(super) struct Durations {
    /// One for each bound, and one for what is above.
    counts: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

/// How long something took, sorted into buckets.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Histogram {
    /// From the shortest on; the last has no bound.
    pub buckets: Vec<Bucket>,
    /// All together, in seconds.
    pub sum: f64,
}

/// Durations up to a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// The bound, in seconds, that belongs to it; infinite in the last one.
    pub up_to: f64,
    /// How many were above the bound before and not above this one.
    pub count: u64,
}

impl Durations {
    pub(super) fn add(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let index = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get(index) {
            add(count, 1);
        }
        add(&self.sum_micros, micros);
    }

    pub(super) fn snapshot(&self) -> Histogram {
        let bounds = BOUNDS_MICROS.into_iter().map(seconds);
        let buckets = bounds.chain([f64::INFINITY]).zip(&self.counts);
        Histogram {
            buckets: buckets
                .map(|(up_to, count)| Bucket {
                    up_to,
                    count: get(count),
                })
                .collect(),
            sum: seconds(get(&self.sum_micros)),
        }
    }
}

impl Histogram {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let durations = Durations::default();
        for micros in [0, 25, 26, 5_000_000, 5_000_001] {
            durations.add(Duration::from_micros(micros));
        }
        let histogram = durations.snapshot();
        let counts: Vec<u64> = histogram
            .buckets
            .iter()
            .map(|bucket| bucket.count)
            .collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum - 10.000_052).abs() < 1e-9);
        assert!(histogram.buckets.last().unwrap().up_to.is_infinite());
    }
}
