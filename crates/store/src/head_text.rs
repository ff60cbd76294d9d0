//! Reads the text of a head: a start line, then a line for each field.
//!
//! A field value may hold any byte. A line that is no UTF-8 is read as Latin-1, as RFC 9110 section
//! 5.5 explains where such values come from.

use std::borrow::Cow;

use memchr::memchr;

/// A text as UTF-8, or else as Latin-1.
pub(crate) fn text_of_line(line: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(line) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(line.iter().map(|byte| char::from(*byte)).collect()),
    }
}

/// The first line without its line end, and what follows.
pub(crate) fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = match memchr(b'\n', text) {
        Some(end) => text.split_at(end),
        None => (text, &text[text.len()..]),
    };
    let rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

/// Name and value of a field line, without the white space around the value. The name of a
/// pseudo-header field begins with a colon (RFC 9113 section 8.3).
pub(crate) fn field_of_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let pseudo = usize::from(line.starts_with(b":"));
    let colon = pseudo + memchr(b':', line.get(pseudo..)?)?;
    let (name, value) = line.split_at_checked(colon)?;
    Some((name, value.get(1..)?.trim_ascii()))
}

/// The start line.
pub(crate) fn start_line(head: &[u8]) -> Cow<'_, str> {
    let (line, _) = split_line(head);
    text_of_line(line)
}

/// The fields, up to a line that is none.
pub(crate) fn fields(head: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let (_, mut rest) = split_line(head);
    std::iter::from_fn(move || {
        let (line, after) = split_line(rest);
        rest = after;
        let (name, value) = field_of_line(line)?;
        Some((text_of_line(name), text_of_line(value)))
    })
}

/// The first value of a field, the name compared without regard to case.
pub(crate) fn field(head: &[u8], name: &str) -> Option<String> {
    fields(head)
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use traffic::{Head, Version};

    use super::*;

    fn owned(head: &[u8]) -> Vec<(String, String)> {
        fields(head)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect()
    }

    #[test]
    fn keeps_order_case_and_duplicates() {
        let head = b"GET /\"q\" HTTP/1.1\r\nHost: x\r\nA: \"1\\\t\r\na: 2\r\n:b: 3\r\n\r\n";
        assert_eq!(start_line(head), "GET /\"q\" HTTP/1.1");
        let expected = [("Host", "x"), ("A", "\"1\\"), ("a", "2"), (":b", "3")];
        assert_eq!(
            owned(head),
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(field(head, "A"), Some("\"1\\".to_owned()));
        assert_eq!(field(head, "c"), None);
    }

    #[test]
    fn reads_other_bytes_as_latin_1() {
        let head = b"GET /\xe9 HTTP/1.1\r\nA: \xfc\x01\r\nB: \xc3\xbc\r\n\r\n";
        assert_eq!(start_line(head), "GET /\u{e9} HTTP/1.1");
        assert_eq!(field(head, "a"), Some("\u{fc}\u{1}".to_owned()));
        assert_eq!(field(head, "b"), Some("\u{fc}".to_owned()));
    }

    proptest! {
        /// Whatever the head holds, its fields are those that the engine sees in it.
        #[test]
        fn reads_the_fields_of_any_head(bytes in "([a-zA-Z: \r\n\t\u{1}é]){0,60}") {
            let head = Head {
                version: Version::Http11,
                text: Bytes::from(format!("GET / HTTP/1.1\r\n{bytes}")),
            };
            let expected: Vec<(String, String)> = head
                .fields()
                .map(|(name, value)| (text_of_line(name).into_owned(), text_of_line(value).into_owned()))
                .collect();
            prop_assert_eq!(owned(&head.text), expected);
        }
    }
}
