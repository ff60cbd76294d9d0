//! Words that are as frequent as those of a language are.

use super::flows::next_number;

const SOUNDS: [&str; 16] = [
    "ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "wa",
];

/// Words drawn one after the other from a vocabulary by Zipf's law: the second of it comes half as often as the first,
/// the third a third as often.
pub(crate) struct Language {
    vocabulary: f64,
    state: u64,
}

impl Language {
    /// Of a vocabulary of so many words. The same seed gives the same row.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a vocabulary has less than 2^52 words"
    )]
    pub(crate) fn new(vocabulary: u64, seed: u64) -> Self {
        Self {
            vocabulary: vocabulary as f64,
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// The next word's place in the vocabulary, from 0 on. The logarithm of what Zipf's law draws is even.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "24 bits, and a place in the vocabulary"
    )]
    fn next_place(&mut self) -> u64 {
        let part = (next_number(&mut self.state) >> 40) as f64 / (1_u64 << 24) as f64;
        self.vocabulary.powf(part) as u64 - 1
    }

    /// Appends the next word and a space.
    pub(crate) fn push_word(&mut self, text: &mut String) {
        text.push_str(&word(self.next_place()));
        text.push(' ');
    }
}

/// The word at a place in a vocabulary: the more frequent one is, the shorter it is.
pub(crate) fn word(place: u64) -> String {
    let mut word = String::new();
    let mut rest = place + 16;
    while rest > 0 {
        word.push_str(SOUNDS[(rest % 16) as usize]);
        rest /= 16;
    }
    word
}
