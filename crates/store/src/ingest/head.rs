//! Turns a head into the texts of a row: a start line, a JSON array of fields, and the few values
//! that have a column of their own. Credentials are masked first.
//!
//! A field value may hold any byte. One that is no UTF-8 is read as Latin-1, as RFC 9110 section
//! 5.5 explains where such values come from.

use std::borrow::Cow;

use bytes::Bytes;
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
    /// Value of the first content-type field.
    pub(crate) content_type: Option<String>,
}

impl HeadTexts {
    /// Reads a head.
    pub(crate) fn read(&mut self, head: &Head, redaction: Redaction) {
        let text = head.text.get(..HEAD_BYTES_MAX).unwrap_or(&head.text);
        let masked = match redaction.mask_head(text) {
            Cow::Borrowed(text) => head.text.slice_ref(text),
            Cow::Owned(text) => Bytes::from(text),
        };
        let head = Head {
            version: head.version,
            text: masked,
        };
        self.line.clear();
        push_text(&mut self.line, head.start_line());
        self.fields.clear();
        self.content_type = None;
        self.fields.push('[');
        for (name, value) in head.fields() {
            if self.content_type.is_none() && name.eq_ignore_ascii_case(b"content-type") {
                self.content_type = Some(text_of(value).into_owned());
            }
            if self.fields.len() > 1 {
                self.fields.push(',');
            }
            self.fields.push('[');
            push_json(&mut self.fields, name);
            self.fields.push(',');
            push_json(&mut self.fields, value);
            self.fields.push(']');
        }
        self.fields.push(']');
    }
}

/// Bytes of the wire as text.
pub(crate) fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()),
    }
}

fn push_text(out: &mut String, bytes: &[u8]) {
    out.push_str(&text_of(bytes));
}

/// Appends bytes as a JSON string. Written by hand: it runs for each field of each flow.
pub(crate) fn push_json(out: &mut String, bytes: &[u8]) {
    let text = text_of(bytes);
    out.push('"');
    if text.bytes().any(must_escape) {
        push_escaped(out, &text);
    } else {
        out.push_str(&text);
    }
    out.push('"');
}

fn must_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn push_escaped(out: &mut String, text: &str) {
    use std::fmt::Write as _;
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
}

#[cfg(test)]
mod tests {
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
        fn writes_json_of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut out = String::new();
            push_json(&mut out, &bytes);
            let back: String = serde_json::from_str(&out).unwrap();
            prop_assert_eq!(back, text_of(&bytes));
        }
    }
}
