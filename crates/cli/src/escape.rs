//! Makes captured text safe to print. What was captured is hostile: a terminal obeys control
//! sequences, and bidirectional controls make text read other than it is.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Escapes everything that a terminal would obey, line ends and tabs included.
pub(crate) fn escape_line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// Escapes everything that a terminal would obey but line feeds and tabs.
pub(crate) fn escape_text(text: &str) -> Cow<'_, str> {
    escape(text, |letter| matches!(letter, '\n' | '\t'))
}

/// Escapes in a JSON document everything that a terminal would obey but line feeds, in the way of JSON: it
/// stays the same document.
pub(crate) fn escape_json(document: &str) -> Cow<'_, str> {
    let obeyed = |letter: char| is_obeyed(letter) && letter != '\n';
    // Most are ASCII, in which JSON escapes all but one itself.
    let may_be_obeyed = !document.is_ascii() || document.contains('\u{7f}');
    if !may_be_obeyed || !document.contains(obeyed) {
        return Cow::Borrowed(document);
    }
    let mut escaped = String::with_capacity(document.len() + 16);
    for letter in document.chars() {
        match obeyed(letter) {
            true => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    let _infallible = write!(escaped, "\\u{unit:04x}");
                }
            }
            false => escaped.push(letter),
        }
    }
    Cow::Owned(escaped)
}

/// Escapes bytes: what is no UTF-8 becomes `\xNN`.
pub(crate) fn escape_bytes(bytes: &[u8]) -> String {
    let mut escaped = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        escaped.push_str(&escape_text(chunk.valid()));
        for byte in chunk.invalid() {
            let _infallible = write!(escaped, "\\x{byte:02x}");
        }
    }
    escaped
}

fn escape(text: &str, kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    let obeyed = |letter: char| is_obeyed(letter) && !kept(letter);
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if obeyed(letter) {
            push_escaped(&mut escaped, letter);
        } else {
            escaped.push(letter);
        }
    }
    Cow::Owned(escaped)
}

/// Controls (C0, DEL, C1), line and paragraph separators, and characters that change the order
/// of text or are not seen.
fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{061c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn push_escaped(escaped: &mut String, letter: char) {
    match letter {
        '\n' => escaped.push_str("\\n"),
        '\r' => escaped.push_str("\\r"),
        '\t' => escaped.push_str("\\t"),
        '\u{1b}' => escaped.push('␛'),
        _ => {
            let _infallible = write!(escaped, "\\u{{{:x}}}", u32::from(letter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(escape_bytes(bytes), expected, "{bytes:?}");
    }

    #[test]
    fn leaves_text_alone() {
        check(
            "naïve 日本語 🦀\n\ttab".as_bytes(),
            "naïve 日本語 🦀\n\ttab",
        );
        assert!(matches!(escape_line("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn disarms_what_a_terminal_obeys() {
        check(b"\x1b[31mred\x1b[0m", "␛[31mred␛[0m");
        check(b"\x1b]0;title\x07", "␛]0;title\\u{7}");
        check(b"\x1b]52;c;aGk=\x1b\\", "␛]52;c;aGk=␛\\");
        check(b"\x1bP+q\x1b\\", "␛P+q␛\\");
        check("\u{9b}31m".as_bytes(), "\\u{9b}31m");
        check("\u{90}\u{9d}".as_bytes(), "\\u{90}\\u{9d}");
        check(b"a\rb\x08c\x00\x7f", "a\\rb\\u{8}c\\u{0}\\u{7f}");
        check("\u{202e}live\u{2066}".as_bytes(), "\\u{202e}live\\u{2066}");
        check("zero\u{200b}width".as_bytes(), "zero\\u{200b}width");
        check("\u{e0041}tag".as_bytes(), "\\u{e0041}tag");
        check(b"\xff\xfe\x9b31m", "\\xff\\xfe\\x9b31m");
        // A C1 control hidden in bytes that are no UTF-8.
        check(b"\xc2\x9b", "\\u{9b}");
    }

    #[test]
    fn a_line_has_no_line_ends() {
        assert_eq!(escape_line("a\nb\tc"), "a\\nb\\tc");
    }

    #[test]
    fn an_escaped_document_is_the_same() {
        for letter in ('\0'..=char::MAX).filter(|letter| is_obeyed(*letter)) {
            let value = serde_json::json!({"é": format!("a{letter}b")});
            let escaped = format!("{value}\n");
            let escaped = escape_json(&escaped);
            assert!(!escaped.trim_end().contains(is_obeyed), "{letter:?}");
            let read: serde_json::Value = serde_json::from_str(&escaped).unwrap();
            assert_eq!(read, value);
        }
        assert!(matches!(escape_json("{\"a\": \"é\"}\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn no_character_gets_through_that_is_obeyed() {
        for letter in ('\0'..=char::MAX).filter(|letter| is_obeyed(*letter)) {
            let text = letter.to_string();
            assert!(!escape_line(&text).contains(is_obeyed), "{letter:?}");
        }
    }
}
