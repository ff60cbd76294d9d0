//! A hash for small numbers: ids that the engine counts up, addresses in memory, and samples of
//! bodies. The first two nobody chooses; the last are in a map so small that chosen keys gain
//! nothing. So it needs no defence, and is cheaper than the hash of the standard library.

use std::hash::{BuildHasherDefault, Hasher};

/// For maps whose keys are such numbers.
pub(crate) type NumberHash = BuildHasherDefault<NumberHasher>;

/// Multiplies once (Fibonacci hashing).
#[derive(Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut number = [0; 8];
            number[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(number));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The map takes its place from the low bits and its tag from the high ones.
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(u64::try_from(number).unwrap_or(u64::MAX));
    }
}
