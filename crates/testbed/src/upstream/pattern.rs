//! The bytes of the bodies that the fake upstream makes up: a fixed pattern, so that both ends
//! know each byte from its place, without keeping a copy.

use std::sync::LazyLock;

use bytes::Bytes;

/// A prime, so that a piece that is lost or doubled does not go unseen.
const PERIOD: usize = 251;
const PIECE_BYTES: usize = 64 * 1024;

static BLOCK: LazyLock<Bytes> = LazyLock::new(|| {
    let value = |index: usize| b' ' + u8::try_from((index % PERIOD) % 90).unwrap_or(0);
    (0..PIECE_BYTES + PERIOD).map(value).collect()
});

/// The pattern from one place on, in pieces of at most 64 KiB that share one allocation.
pub fn pattern(start: u64, length: u64) -> impl Iterator<Item = Bytes> + Send + use<> {
    let end = start + length;
    let mut place = start;
    std::iter::from_fn(move || {
        let left = usize::try_from(end - place).unwrap_or(usize::MAX);
        if left == 0 {
            return None;
        }
        let count = left.min(PIECE_BYTES);
        let phase = usize::try_from(place % PERIOD as u64).unwrap_or(0);
        place += count as u64;
        Some(BLOCK.slice(phase..phase + count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_start_continues_the_same_bytes() {
        let all: Vec<u8> = pattern(0, 200_000).flatten().collect();
        let tail: Vec<u8> = pattern(70_001, 129_999).flatten().collect();
        assert_eq!(all.len(), 200_000);
        assert_eq!(all[70_001..], tail);
    }
}
