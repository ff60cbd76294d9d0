//! UUIDs of flows (RFC 9562 version 7): the time in front, random bits behind.

use traffic::Timestamp;
use uuid::{Builder, Uuid};

/// Makes UUIDs. The random bits come from a generator that is seeded once, since the system's
/// costs a call per flow; they need to be unique, not secret.
#[derive(Debug)]
pub(crate) struct TraceIds {
    state: u64,
    buffer: [u8; 36],
}

impl TraceIds {
    pub(crate) fn new() -> Self {
        let (_, random) = Uuid::now_v7().as_u64_pair();
        Self {
            state: random,
            buffer: [0; 36],
        }
    }

    /// The UUID of a flow that started at this time, as text.
    pub(crate) fn next(&mut self, at: Timestamp) -> &str {
        let millis = u64::try_from(at.0 / 1000).unwrap_or(0);
        let mut random = [0; 10];
        let (first, second) = random.split_at_mut(8);
        first.copy_from_slice(&self.random().to_le_bytes());
        second.copy_from_slice(&self.random().to_le_bytes()[..2]);
        let uuid = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        uuid.hyphenated().encode_lower(&mut self.buffer)
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_the_time_and_differs() {
        let mut ids = TraceIds::new();
        let at = Timestamp(1_767_225_600_123_456);
        let first = Uuid::parse_str(ids.next(at)).unwrap();
        let second = Uuid::parse_str(ids.next(at)).unwrap();
        assert_ne!(first, second);
        assert_eq!(first.get_version_num(), 7);
        let (seconds, nanos) = first.get_timestamp().unwrap().to_unix();
        assert_eq!((seconds, nanos), (1_767_225_600, 123_000_000));
    }
}
