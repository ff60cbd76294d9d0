//! The texts of a flow as people read them, and words in them.

use std::ops::Range;

use rusqlite::{Connection, OptionalExtension};
use traffic::rules::filter::Words;
use traffic::wire::encoding::decode;

use super::{Excerpt, TextPart};
use crate::limits::{TEXT_BYTES_MAX, TEXT_RUN_BYTES_MAX};
use crate::reader::detail::{read_content, read_head_field};
use crate::{FlowKind, FlowRow, Message, StoreError};

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

impl Phrase {
    pub(super) fn new(words: &Words) -> Self {
        let text = words.text.as_str();
        let found = words_of(text).map(|range| lower(text.get(range).unwrap_or_default()));
        Self {
            words: found.collect(),
            is_open: words.is_open,
        }
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

/// A text of a flow; empty where there is none.
pub(super) fn texts_of(
    connection: &Connection,
    id: i64,
    row: &FlowRow,
    part: TextPart,
) -> Result<String, StoreError> {
    let message = match part {
        TextPart::Url => return Ok(row.url.clone()),
        TextPart::Request => Message::Request,
        TextPart::Response => Message::Response,
    };
    match row.kind {
        FlowKind::Tunnel => Ok(String::new()),
        FlowKind::WebSocket => messages_text(connection, id, message),
        FlowKind::Http => body_text(connection, id, message),
    }
}

fn messages_text(connection: &Connection, id: i64, message: Message) -> Result<String, StoreError> {
    let sender = match message {
        Message::Request => "client",
        Message::Response => "upstream",
    };
    let mut statement = connection.prepare_cached(
        "SELECT data, body FROM messages WHERE flow = ?1 AND sender = ?2 AND kind = 'text'
         ORDER BY sequence",
    )?;
    let mut messages = statement.query((id, sender))?;
    let mut text = String::new();
    while let Some(row) = messages.next()? {
        let data: Option<Vec<u8>> = row.get(0)?;
        let payload = match (data, row.get::<_, Option<i64>>(1)?) {
            (Some(data), _) => data,
            (None, Some(body)) => crate::ingest::bodies::read_body(connection, body)?,
            (None, None) => continue,
        };
        push_readable(&payload, &mut text);
        text.push('\n');
        if text.len() >= TEXT_BYTES_MAX {
            break;
        }
    }
    Ok(text)
}

fn body_text(connection: &Connection, id: i64, message: Message) -> Result<String, StoreError> {
    let mut statement = connection.prepare_cached("SELECT * FROM flows_shown WHERE id = ?1")?;
    let content = statement
        .query_row([id], |row| Ok(read_content(connection, row, message)))
        .optional()?;
    let content = content.transpose()?.unwrap_or_default();
    if content.is_empty() {
        return Ok(String::new());
    }
    let coding = statement
        .query_row([id], |row| {
            Ok(read_head_field(
                connection,
                row,
                message,
                "content-encoding",
            ))
        })
        .optional()?;
    let coding = coding.transpose()?.flatten().unwrap_or_default();
    let decoded = decode(&coding, &content, TEXT_BYTES_MAX);
    let mut text = String::new();
    push_readable(&decoded.bytes, &mut text);
    push_joined(&decoded.bytes, &mut text);
    Ok(text)
}

/// Appends the readable part of a body: nothing of a binary one, JSON without its escapes, and no runs of
/// base64, which are words to nobody.
fn push_readable(body: &[u8], out: &mut String) {
    let body = body.get(..TEXT_BYTES_MAX).unwrap_or(body);
    if is_binary(body) {
        return;
    }
    let text = String::from_utf8_lossy(body);
    let start = text.trim_start();
    let has_escapes = ["{", "[", "data:", "event:", ":"]
        .iter()
        .any(|begin| start.starts_with(begin));
    let mut rest: &str = &text;
    while let Some(letter) = rest.chars().next() {
        if has_escapes && letter == '\\' {
            let (plain, behind) = unescape(rest);
            out.push(plain);
            rest = behind;
            continue;
        }
        let end = rest
            .find(|letter: char| !is_base64(letter))
            .unwrap_or(rest.len());
        let (run, behind) = rest
            .split_at_checked(end.max(letter.len_utf8()))
            .unwrap_or((rest, ""));
        match run.len() > TEXT_RUN_BYTES_MAX {
            true => out.push(' '),
            false => out.push_str(run),
        }
        rest = behind;
    }
}

fn is_base64(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '+' | '/' | '=' | '-' | '_')
}

/// The character that an escape of JSON (RFC 8259 section 7) stands for, and what follows it.
fn unescape(text: &str) -> (char, &str) {
    let behind = |count: usize| text.get(count..).unwrap_or_default();
    match text.as_bytes().get(1) {
        Some(b'n' | b't' | b'r' | b'b' | b'f') => ('\n', behind(2)),
        Some(letter @ (b'"' | b'\\' | b'/')) => (char::from(*letter), behind(2)),
        Some(b'u') => {
            let unit = |at: usize| {
                let digits = text.get(at..at + 4)?;
                u32::from_str_radix(digits, 16).ok()
            };
            let Some(high) = unit(2) else {
                return (' ', behind(2));
            };
            if let Some(letter) = char::from_u32(high) {
                return (letter, behind(6));
            }
            let low = unit(8).filter(|_| text.get(6..8) == Some("\\u"));
            let pair = low.and_then(|low| {
                let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                let high = high.checked_sub(0xd800).filter(|high| *high < 0x400)?;
                char::from_u32(0x1_0000 + (high << 10) + low)
            });
            match pair {
                Some(letter) => (letter, behind(12)),
                None => (' ', behind(6)),
            }
        }
        _ => (' ', behind(1)),
    }
}

/// Appends what the pieces of a streamed answer of a model add up to: a word may be cut in two by them.
fn push_joined(body: &[u8], out: &mut String) {
    const KEYS: [&str; 6] = [
        "text",
        "content",
        "thinking",
        "partial_json",
        "arguments",
        "delta",
    ];
    let Ok(text) = std::str::from_utf8(body) else {
        return;
    };
    let start = text.trim_start();
    if !start.starts_with("data:") && !start.starts_with("event:") {
        return;
    }
    for key in KEYS {
        let mut joined = String::new();
        for name in [format!("\"{key}\":\""), format!("\"{key}\": \"")] {
            for piece in text.split(&*name).skip(1) {
                push_string(piece, &mut joined);
            }
        }
        if !joined.is_empty() {
            out.push('\n');
            out.push_str(&joined);
        }
    }
}

/// Appends a JSON string up to its closing quote.
fn push_string(mut rest: &str, out: &mut String) {
    loop {
        let end = rest.find(['"', '\\']).unwrap_or(rest.len());
        out.push_str(rest.get(..end).unwrap_or_default());
        rest = rest.get(end..).unwrap_or_default();
        if !rest.starts_with('\\') {
            return;
        }
        let (plain, behind) = unescape(rest);
        out.push(plain);
        rest = behind;
    }
}

/// A zero byte, or much that is no UTF-8, near the start.
fn is_binary(body: &[u8]) -> bool {
    const LOOKED_AT: usize = 4096;
    let start = body.get(..LOOKED_AT).unwrap_or(body);
    let invalid: usize = start.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    start.contains(&0) || invalid > start.len() / 10 + 4
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

    fn readable(body: &[u8]) -> String {
        let mut out = String::new();
        push_readable(body, &mut out);
        push_joined(body, &mut out);
        out
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

    #[test]
    fn json_is_read_without_its_escapes() {
        let text = readable(br#"{"a":"one\ntwo \"three\" \u00fc\ud83d\ude00 \ud83d \x"}"#);
        assert_eq!(text, "{\"a\":\"one\ntwo \"three\" ü😀    x\"}");
        assert_eq!(readable(br"C:\new"), r"C:\new");
    }

    #[test]
    fn what_nobody_reads_is_left_out() {
        let run = "QUJD".repeat(100);
        let body = format!("{{\"image\":\"{run}\",\"b\":\"c\"}}");
        assert_eq!(readable(body.as_bytes()), "{\"image\":\" \",\"b\":\"c\"}");
        assert_eq!(readable(b"\x00\x01"), "");
    }

    #[test]
    fn pieces_of_an_answer_are_joined() {
        let body = b"event: a\ndata: {\"delta\":{\"text\":\"dead\"}}\n\ndata: {\"delta\":{\"text\": \"lo\"}}\n\ndata: {\"text\":\"ck\\nx\"}\n\n";
        let text = readable(body);
        // Those with a space behind the colon come from another writer.
        assert!(text.contains("deadck\nx"), "{text}");
    }
}
