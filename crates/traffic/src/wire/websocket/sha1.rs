//! SHA-1 (RFC 3174), for the handshake of WebSocket alone, where it shows that the upstream has
//! understood the request. No security rests on it there, and none may anywhere.

/// The digest of `message`, which has a few dozen octets.
pub(super) fn digest(message: &[u8]) -> [u8; 20] {
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend_from_slice(&(message.len() as u64 * 8).to_be_bytes());

    let mut state = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    let (words, _) = padded.as_chunks::<4>();
    let (blocks, _) = words.as_chunks::<16>();
    for block in blocks {
        add_block(&mut state, block);
    }
    let mut digest = [0; 20];
    let (places, _) = digest.as_chunks_mut::<4>();
    for (place, word) in places.iter_mut().zip(state) {
        *place = word.to_be_bytes();
    }
    digest
}

/// RFC 3174 section 6.2: the sixteen words of the schedule are kept as a ring whose oldest word
/// comes first.
fn add_block(state: &mut [u32; 5], block: &[[u8; 4]; 16]) {
    let mut schedule = block.map(u32::from_be_bytes);
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    for round in 0..80 {
        let [word, _, third, _, _, _, _, _, ninth, .., fourteenth, _, _] = schedule;
        let (choice, constant) = match round {
            0..20 => ((b & c) | (!b & d), 0x5a82_7999),
            20..40 => (b ^ c ^ d, 0x6ed9_eba1),
            40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6_u32),
        };
        let sum = [choice, e, word, constant]
            .into_iter()
            .fold(a.rotate_left(5), u32::wrapping_add);
        (a, b, c, d, e) = (sum, a, b.rotate_left(30), c, d);

        schedule.rotate_left(1);
        let next = (word ^ third ^ ninth ^ fourteenth).rotate_left(1);
        if let Some(last) = schedule.last_mut() {
            *last = next;
        }
    }
    for (sum, word) in state.iter_mut().zip([a, b, c, d, e]) {
        *sum = sum.wrapping_add(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &[u8], expected: &str) {
        let hex: String = digest(message)
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect();
        assert_eq!(hex, expected);
    }

    /// The vectors of RFC 3174 section 7.3, and lengths around the padding's edge.
    #[test]
    fn digests_the_vectors() {
        check(b"", "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        check(b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
        check(
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
        );
        check(
            &b"a".repeat(1_000_000),
            "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
        );
        check(
            &b"0123456701234567012345670123456701234567012345670123456701234567".repeat(10),
            "dea356a2cddd90c7a7ecedc5ebb563934f460452",
        );
    }
}
