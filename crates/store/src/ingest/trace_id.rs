//! The random bits of the UUIDs of flows (RFC 9562 section 5.7); the schema puts the time in front.

use uuid::Uuid;

/// Makes them. They come from a generator that is seeded once, since the system's costs a call per
/// flow; they need to be unique, not secret.
#[derive(Debug)]
pub(crate) struct TraceBits {
    state: u64,
}

impl TraceBits {
    pub(crate) fn new() -> Self {
        let (_, random) = Uuid::now_v7().as_u64_pair();
        Self { state: random }
    }

    /// The 62 bits of the next flow.
    pub(crate) fn next(&mut self) -> i64 {
        i64::try_from(self.random() >> 2).expect("62 bits fit")
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
