//! Turns a head into the texts of a row: a start line, a JSON array of fields, and the few values
//! that have a column of their own. Credentials are masked first.
//!
//! A field value may hold any byte. One that is no UTF-8 is read as Latin-1, as RFC 9110 section
//! 5.5 explains where such values come from.

use std::borrow::Cow;
use std::fmt::Write as _;

use traffic::Head;
use traffic::rules::redact::Redaction;

use crate::limits::HEAD_BYTES_MAX;

/// The texts of one head. Kept between flows to use their memory again.
#[derive(Debug, Default)]
pub(crate) struct HeadTexts {
    /// The start line.
    pub(crate) line: String,
    /// `[[name, value], ...]`.
    pub(crate) fields: String,
    content_type: String,
    has_content_type: bool,
}

impl HeadTexts {
    /// Reads a head.
    pub(crate) fn read(&mut self, head: &Head, redaction: Redaction) {
        let text = head.text.get(..HEAD_BYTES_MAX).unwrap_or(&head.text);
        let masked = redaction.mask_head(text);
        self.line.clear();
        self.fields.clear();
        self.content_type.clear();
        self.has_content_type = false;
        let text = text_of_head(&masked);
        let is_plain = is_plain(&text);
        let (line, mut rest) = split_line(&text);
        self.line.push_str(line);
        self.fields.push('[');
        while !rest.is_empty() {
            let (line, after) = split_line(rest);
            let Some((name, value)) = split_field(line) else {
                break;
            };
            self.push_field(name, trim(value), is_plain);
            rest = after;
        }
        self.fields.push(']');
    }

    /// Value of the first content-type field.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.has_content_type.then_some(&*self.content_type)
    }

    fn push_field(&mut self, name: &str, value: &str, is_plain: bool) {
        if !self.has_content_type && name.eq_ignore_ascii_case("content-type") {
            self.has_content_type = true;
            self.content_type.push_str(value);
        }
        let out = &mut self.fields;
        out.push_str(if out.len() > 1 { ",[" } else { "[" });
        if is_plain {
            out.extend(["\"", name, "\",\"", value, "\"]"]);
        } else {
            push_json(out, name);
            out.push(',');
            push_json(out, value);
            out.push(']');
        }
    }
}

/// A head as text: each line is UTF-8, or else Latin-1.
fn text_of_head(head: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(head) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let lines = head.split_inclusive(|byte| *byte == b'\n');
            Cow::Owned(lines.map(text_of_line).collect())
        }
    }
}

fn text_of_line(line: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(line) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(line.iter().map(|byte| char::from(*byte)).collect()),
    }
}

/// The first line without its line end, and what follows.
fn split_line(text: &str) -> (&str, &str) {
    let (line, rest) = match memchr::memchr(b'\n', text.as_bytes()) {
        Some(end) => text.split_at(end),
        None => (text, ""),
    };
    let rest = rest.strip_prefix('\n').unwrap_or(rest);
    (line.strip_suffix('\r').unwrap_or(line), rest)
}

/// Name and value. The name of a pseudo-header field begins with a colon (RFC 9113 section 8.3).
fn split_field(line: &str) -> Option<(&str, &str)> {
    let pseudo = usize::from(line.starts_with(':'));
    let colon = pseudo + memchr::memchr(b':', line.as_bytes().get(pseudo..)?)?;
    let (name, value) = line.split_at(colon);
    Some((name, value.strip_prefix(':')?))
}

fn trim(value: &str) -> &str {
    value.trim_matches(|letter: char| letter.is_ascii_whitespace())
}

/// Whether no byte but a line end needs an escape in JSON. Without an early exit, so that the
/// compiler looks at many bytes at once.
fn is_plain(text: &str) -> bool {
    let needs_escape = |byte: u8| {
        (byte < 0x20) & (byte != b'\r') & (byte != b'\n') | (byte == b'"') | (byte == b'\\')
    };
    let special = text
        .bytes()
        .fold(false, |any, byte| any | needs_escape(byte));
    // A carriage return that ends no line is a part of a value.
    let bytes = text.as_bytes();
    let mut returns = memchr::memchr_iter(b'\r', bytes);
    !special && returns.all(|at| bytes.get(at + 1) == Some(&b'\n'))
}

/// Appends a text as a JSON string.
pub(crate) fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if u32::from(control) < 0x20 => {
                write!(out, "\\u{:04x}", u32::from(control)).expect("a String takes all");
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use traffic::Version;

    use super::*;

    fn texts(text: &[u8]) -> HeadTexts {
        let mut texts = HeadTexts::default();
        let head = Head {
            version: Version::Http11,
            text: Bytes::copy_from_slice(text),
        };
        texts.read(&head, Redaction::Basic);
        texts
    }

    #[test]
    fn keeps_order_case_and_duplicates() {
        let texts =
            texts(b"GET /\"q\" HTTP/1.1\r\nHost: x\r\nA: \"1\\\t\r\na: 2\r\nCookie: c\r\n\r\n");
        assert_eq!(texts.line, "GET /\"q\" HTTP/1.1");
        assert_eq!(
            texts.fields,
            r#"[["Host","x"],["A","\"1\\"],["a","2"],["Cookie","[redacted:cookie:1]"]]"#
        );
    }

    #[test]
    fn reads_other_bytes_as_latin_1() {
        let texts = texts(b"GET /\xe9 HTTP/1.1\r\nA: \xfc\x01\r\nB: \xc3\xbc\r\n\r\n");
        assert_eq!(texts.line, "GET /\u{e9} HTTP/1.1");
        assert_eq!(
            texts.fields,
            "[[\"A\",\"\u{fc}\\u0001\"],[\"B\",\"\u{fc}\"]]"
        );
    }

    proptest! {
        #[test]
        fn writes_json_of_any_text(text in any::<String>()) {
            let mut out = String::new();
            push_json(&mut out, &text);
            let back: String = serde_json::from_str(&out).unwrap();
            prop_assert_eq!(back, text);
        }

        /// Whatever the head holds, its fields are JSON, and the same fields that it says.
        #[test]
        fn writes_json_of_any_head(bytes in "([a-zA-Z:\"\\\\ \r\n\t\u{1}é]){0,60}") {
            let head = Head {
                version: Version::Http11,
                text: Bytes::from(format!("GET / HTTP/1.1\r\n{bytes}")),
            };
            let mut texts = HeadTexts::default();
            texts.read(&head, Redaction::None);
            let fields: Vec<(String, String)> = serde_json::from_str(&texts.fields).unwrap();
            let expected: Vec<(String, String)> = head
                .fields()
                .map(|(name, value)| (text_of_line(name).into_owned(), text_of_line(value).into_owned()))
                .collect();
            prop_assert_eq!(fields, expected);
        }
    }
}
