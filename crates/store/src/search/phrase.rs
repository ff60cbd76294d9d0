//! Words, what is asked for of them, and where they stand in a text.

use std::borrow::Cow;
use std::ops::Range;

use traffic::rules::filter::Words;

use super::{Excerpt, TextPart};
use crate::limits::ARCHIVE_WORD_BYTES_MAX;

/// Words that are looked for.
#[derive(Debug)]
pub(super) struct Phrase {
    /// In lower case.
    words: Vec<String>,
    /// The last one may go on.
    is_open: bool,
}

/// The question to the index for the flows that have all these words; `None` if there are none.
pub(crate) fn matching(words: &Words) -> Option<String> {
    let phrase = Phrase::new(words);
    let mut out = String::new();
    for word in &phrase.words {
        // Within quotes nothing has a meaning, and a word has no quotes in it.
        out.push_str(&format!("\"{word}\" "));
    }
    if out.is_empty() {
        return None;
    }
    out.pop();
    if phrase.is_open {
        out.push('*');
    }
    Some(out)
}

/// What the index of an archive is asked for: all of these words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Whole words.
    pub(crate) words: Vec<String>,
    /// What a further one begins with.
    pub(crate) beginning: Option<String>,
}

/// The same for the index of an archive; `None` if there are none.
pub(crate) fn wanted(words: &Words) -> Option<Wanted> {
    let phrase = Phrase::new(words);
    let mut wanted = Wanted {
        words: phrase.words,
        beginning: None,
    };
    if phrase.is_open {
        // One that the index has only the beginning of cannot go on there.
        let is_short = |word: &mut String| word.len() < ARCHIVE_WORD_BYTES_MAX;
        wanted.beginning = wanted.words.pop_if(is_short);
    }
    for word in &mut wanted.words {
        word.truncate(kept(word));
    }
    let is_something = !wanted.words.is_empty() || wanted.beginning.is_some();
    is_something.then_some(wanted)
}

/// The words of a text as archives have them: in lower case, and of very long ones the beginning.
pub(super) fn indexed_words(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    words_of(text).map(|range| {
        let word = text.get(range).unwrap_or_default();
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let mut word = match word.bytes().all(is_plain) {
            true => Cow::Borrowed(word),
            false => Cow::Owned(lower(word)),
        };
        let length = kept(&word);
        if length < word.len() {
            word.to_mut().truncate(length);
        }
        word
    })
}

/// How many bytes an archive keeps of a word.
fn kept(word: &str) -> usize {
    word.floor_char_boundary(ARCHIVE_WORD_BYTES_MAX)
}

impl Phrase {
    pub(super) fn new(words: &Words) -> Self {
        let text = words.text.as_str();
        let found = words_of(text).map(|range| lower(text.get(range).unwrap_or_default()));
        Self {
            words: found.collect(),
            is_open: words.is_open,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub(super) fn is_one_word(&self) -> bool {
        self.words.len() == 1
    }

    /// Where these words stand one after the other for the first time.
    fn find(&self, text: &str) -> Option<Range<usize>> {
        let (first, others) = self.words.split_first()?;
        let mut at = words_of(text);
        while let Some(word) = at.next() {
            let mut end = word.end;
            if !self.is(text, &word, first, others.is_empty()) {
                continue;
            }
            // The iterator is cheap to copy: it is where it stands in the text.
            let mut next = at.clone();
            let all = others.iter().enumerate().all(|(position, wanted)| {
                let is_last = position + 1 == others.len();
                next.next().is_some_and(|word| {
                    end = word.end;
                    self.is(text, &word, wanted, is_last)
                })
            });
            if all {
                return Some(word.start..end);
            }
        }
        None
    }

    fn is(&self, text: &str, word: &Range<usize>, wanted: &str, is_last: bool) -> bool {
        let word = text.get(word.clone()).unwrap_or_default();
        let is_same = |word: &str| match is_last && self.is_open {
            true => word.starts_with(wanted),
            false => word == wanted,
        };
        // Most words are of ASCII and not the one that is looked for.
        match word.is_ascii() {
            true => {
                let start = word.get(..wanted.len());
                start.is_some_and(|start| start.eq_ignore_ascii_case(wanted))
                    && (word.len() == wanted.len() || (is_last && self.is_open))
            }
            false => is_same(&lower(word)),
        }
    }
}

/// The words of a text as the tokenizer `unicode61` of SQLite sees them: letters and digits.
#[derive(Clone)]
struct WordsOf<'t> {
    text: &'t str,
    at: usize,
}

fn words_of(text: &str) -> WordsOf<'_> {
    WordsOf { text, at: 0 }
}

impl Iterator for WordsOf<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.text.get(self.at..)?;
        let start = self.at + rest.find(char::is_alphanumeric)?;
        let word = self.text.get(start..)?;
        let length = word.find(|letter: char| !letter.is_alphanumeric());
        let end = start + length.unwrap_or(word.len());
        self.at = end;
        Some(start..end)
    }
}

fn lower(word: &str) -> String {
    word.to_lowercase()
}

/// The first place of a phrase in a text, in one line.
pub(super) fn excerpt(
    text: &str,
    phrase: &Phrase,
    part: TextPart,
    context: usize,
) -> Option<Excerpt> {
    let found = phrase.find(text)?;
    let before = text.get(..found.start).unwrap_or_default();
    let behind = text.get(found.end..).unwrap_or_default();
    let start = before.char_indices().rev().take(context).last();
    let start = start.map_or(found.start, |(at, _)| at);
    let behind: String = behind.chars().take(context).collect();
    Some(Excerpt {
        part,
        before: one_line(text.get(start..found.start).unwrap_or_default()),
        found: one_line(text.get(found).unwrap_or_default()),
        behind: one_line(&behind),
    })
}

/// White space becomes a space each, however much of it there is.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_whitespace() {
            true if line.ends_with(' ') => {}
            true => line.push(' '),
            false => line.push(letter),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, is_open: bool) -> Words {
        Words {
            text: text.to_owned(),
            is_open,
        }
    }

    #[test]
    fn words_are_asked_for_without_their_signs() {
        for (text, is_open, expected) in [
            ("rm -rf", false, Some("\"rm\" \"rf\"")),
            ("Über_all*\"", true, Some("\"über\" \"all\"*")),
            ("-- !", false, None),
        ] {
            assert_eq!(matching(&words(text, is_open)).as_deref(), expected);
        }
    }

    #[test]
    fn an_archive_has_words_once_and_in_lower_case() {
        let long = "ü".repeat(ARCHIVE_WORD_BYTES_MAX);
        let text = format!("RM -rf Über {long}");
        let half = "ü".repeat(ARCHIVE_WORD_BYTES_MAX / 2);
        let found: Vec<_> = indexed_words(&text).collect();
        assert_eq!(found, ["rm", "rf", "über", &half]);
        let wanted = |text: &str, is_open| {
            let wanted = wanted(&words(text, is_open)).unwrap_or_default();
            (wanted.words.join(" "), wanted.beginning)
        };
        assert_eq!(wanted("Rm_RF", false), ("rm rf".to_owned(), None));
        let begins = Some("rf".to_owned());
        assert_eq!(wanted("Rm_RF", true), ("rm".to_owned(), begins));
        assert_eq!(wanted(&long, true), (half, None));
        assert_eq!(wanted("--", false), (String::new(), None));
    }

    #[test]
    fn a_phrase_is_found_across_signs_and_case() {
        for (text, phrase, is_open, expected) in [
            ("a RM\n  -rf /", "rm -rf", false, Some("RM\n  -rf")),
            ("rm x rf", "rm rf", false, None),
            ("rm rm rf", "rm rf", false, Some("rm rf")),
            ("deadlocks", "deadlock", false, None),
            ("x deadlocks", "deadlock", true, Some("deadlocks")),
            ("ÜBER alles", "über ALL", true, Some("ÜBER alles")),
        ] {
            let found = Phrase::new(&words(phrase, is_open)).find(text);
            let found = found.and_then(|range| text.get(range));
            assert_eq!(found, expected, "{phrase} in {text}");
        }
    }

    #[test]
    fn an_excerpt_is_one_line_of_characters() {
        let text = "äöü one\r\n\ttwo three ßßß";
        let phrase = Phrase::new(&words("one two", false));
        let found = excerpt(text, &phrase, TextPart::Response, 5).unwrap();
        assert_eq!(
            (&*found.before, &*found.found, &*found.behind),
            ("äöü ", "one two", " thre")
        );
    }
}
