//! Cuts a body into chunks where its bytes say so, so that two bodies that have a stretch in common
//! have chunks in common: each request of an agent repeats the conversation so far.

use crate::limits::{POSTGRES_CHUNK_BYTES_MAX, POSTGRES_CHUNK_BYTES_MIN};

/// A chunk ends where these bits of the hash are zero: 8 KiB beyond its least length on average.
const END_MASK: u64 = 0x1fff << 51;

/// The name of a chunk: the BLAKE3 hash of its bytes.
pub(super) type Hash = [u8; 32];

/// The chunks of a body, in order; together they are the body.
pub(super) fn chunks(mut body: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (chunk, rest) = body.split_at_checked(chunk_length(body))?;
        body = rest;
        (!chunk.is_empty()).then_some(chunk)
    })
}

pub(super) fn hash(chunk: &[u8]) -> Hash {
    *blake3::hash(chunk).as_bytes()
}

/// The hash is that of the last 64 bytes: each step moves those before one bit further out. A
/// multiplication spreads a byte over the bits.
fn chunk_length(body: &[u8]) -> usize {
    let body = body.get(..POSTGRES_CHUNK_BYTES_MAX).unwrap_or(body);
    let Some(tail) = body.get(POSTGRES_CHUNK_BYTES_MIN..) else {
        return body.len();
    };
    let mut hash = 0_u64;
    let end = tail.iter().position(|&byte| {
        let spread = (u64::from(byte) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash = (hash << 1).wrapping_add(spread ^ (spread >> 32));
        hash & END_MASK == 0
    });
    end.map_or(body.len(), |end| POSTGRES_CHUNK_BYTES_MIN + end + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Text that does not repeat.
    fn text(from: usize, bytes: usize) -> Vec<u8> {
        let words = (from..).flat_map(|word| format!("{} ", word * 7919).into_bytes());
        words.take(bytes).collect()
    }

    #[test]
    fn bodies_that_begin_alike_have_their_beginning_in_common() {
        let (mut body, mut stored, mut raw) = (Vec::new(), HashSet::new(), 0);
        let mut kept = 0;
        for turn in 0..200 {
            body.extend(text(turn * 100_000, 3000));
            // What follows the conversation changes with each turn.
            let request = [&body[..], &text(turn * 77 + 50, 300)].concat();
            raw += request.len();
            for chunk in chunks(&request) {
                if stored.insert(hash(chunk)) {
                    kept += chunk.len();
                }
            }
        }
        assert!(kept * 20 < raw, "{kept} bytes kept of {raw}");
    }

    proptest! {
        #[test]
        fn chunks_are_the_body_and_within_bounds(
            from in 0_usize..1_000_000, bytes in 0_usize..100_000, same in any::<bool>(),
        ) {
            let body = if same { vec![7; bytes] } else { text(from, bytes) };
            let cut: Vec<&[u8]> = chunks(&body).collect();
            prop_assert_eq!(cut.concat(), &body[..]);
            for (place, chunk) in cut.iter().enumerate() {
                prop_assert!(!chunk.is_empty() && chunk.len() <= POSTGRES_CHUNK_BYTES_MAX);
                prop_assert!(place + 1 == cut.len() || chunk.len() >= POSTGRES_CHUNK_BYTES_MIN);
            }
        }
    }
}
