//! Cuts a content into chunks where the bytes themselves say so, so that two contents that have a
//! stretch in common have chunks in common, wherever the stretch stands in each.
//!
//! A gear hash (Xia et al., "FastCDC", USENIX ATC 2016, section 3.1) rolls over the bytes; a chunk
//! ends where its upper bits are zero. The same bytes are always cut alike: nothing is random.

use crate::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};

/// The upper ten bits: a chunk goes on for a kibibyte beyond its least length on average.
const END_MASK: u64 = 0x3ff << 54;

/// One number per byte, of which each bit is as good as random.
const GEAR: [u64; 256] = gear();

/// The chunks of a content, in order; together they are the content.
pub(super) fn chunks(mut content: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (chunk, rest) = content.split_at_checked(chunk_length(content))?;
        content = rest;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn chunk_length(content: &[u8]) -> usize {
    let content = content.get(..CHUNK_BYTES_MAX).unwrap_or(content);
    let Some(tail) = content.get(CHUNK_BYTES_MIN..) else {
        return content.len();
    };
    let mut hash = 0_u64;
    let end = tail.iter().position(|byte| {
        hash = (hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
        hash & END_MASK == 0
    });
    end.map_or(content.len(), |end| CHUNK_BYTES_MIN + end + 1)
}

/// The outputs of SplitMix64 (Steele et al., OOPSLA 2014) from zero on.
const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut state = 0_u64;
    let mut index = 0;
    while index < table.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[index] = mixed ^ (mixed >> 31);
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_are_the_content_and_within_bounds(content in contents()) {
            let cut: Vec<&[u8]> = chunks(&content).collect();
            prop_assert_eq!(cut.concat(), &content[..]);
            let (last, others) = cut.split_last().unwrap();
            prop_assert!(last.len() <= CHUNK_BYTES_MAX && !last.is_empty());
            for chunk in others {
                prop_assert!((CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk.len()));
            }
        }
    }

    /// Bytes that are as good as random, and ones that repeat.
    fn contents() -> impl Strategy<Value = Vec<u8>> {
        (any::<u64>(), 1_usize..100_000, 1_u64..10_000).prop_map(|(seed, length, period)| {
            let bytes = (0..length as u64).map(|at| {
                let mixed = (at % period)
                    .wrapping_add(seed)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (mixed >> 56) as u8
            });
            bytes.collect()
        })
    }

    #[test]
    fn what_is_put_in_between_changes_few_chunks() {
        let mut hash = blake3::Hasher::new();
        hash.update(b"any");
        let mut before = vec![0; 200_000];
        hash.finalize_xof().fill(&mut before);
        let mut after = before.clone();
        after.splice(
            70_000..70_000,
            *b"\"cache_control\":{\"type\":\"ephemeral\"}",
        );
        let known: Vec<&[u8]> = chunks(&before).collect();
        let fresh = chunks(&after).filter(|chunk| !known.contains(chunk));
        let fresh: usize = fresh.map(<[u8]>::len).sum();
        assert!(fresh < 10_000, "{fresh} of {} bytes", after.len());
    }
}
