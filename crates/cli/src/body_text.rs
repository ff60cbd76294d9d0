//! A stored body as text: its codings undone, JSON in lines, a line for each message of a stream, hostile
//! bytes escaped.

use store::{Body, is_binary};
use traffic::wire::encoding::decode;

use crate::escape::escape_bytes;
use crate::limits::{DECODED_BYTES_MAX, SHOWN_BYTES_MAX};
use crate::quantity::bytes;
use crate::stream_text::{StreamText, stream_text};

/// How a body is to be shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style<'a> {
    /// Breaks JSON into lines.
    pub(crate) pretty: bool,
    /// Shows all of it.
    pub(crate) full: bool,
    /// What `grpc-encoding` says.
    pub(crate) message_coding: &'a str,
}

/// A body for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BodyText {
    pub(crate) text: String,
    /// What there is to know about it, each a line.
    pub(crate) notes: Vec<String>,
}

/// The body as text.
pub(crate) fn body_text(body: &Body, style: Style<'_>) -> BodyText {
    let mut notes = Vec::new();
    if body.truncated {
        let seen = body.seen.map(bytes).unwrap_or_else(|| "more".to_owned());
        notes.push(format!("kept {} of {seen}", bytes(body.bytes.len() as u64)));
    }
    let encoding = body.content_encoding.as_deref().unwrap_or_default();
    let decoded = decode(encoding, &body.bytes, DECODED_BYTES_MAX);
    if let Some(note) = &decoded.note {
        notes.push(note.to_string());
    }
    match stream_text(body, &decoded.bytes, style.message_coding, style.full) {
        StreamText::None => {}
        StreamText::Unreadable(why) => notes.push(why),
        StreamText::Lines { text, notes: more } => {
            notes.extend(more);
            return BodyText { text, notes };
        }
    }
    if is_binary(&decoded.bytes) {
        let kind = body.content_type.as_deref().unwrap_or("no content type");
        notes.push(format!(
            "binary, {} ({kind}); --raw writes it into a file or pipe",
            bytes(decoded.bytes.len() as u64)
        ));
        return BodyText {
            text: String::new(),
            notes,
        };
    }
    let broken = style.pretty.then(|| pretty(&decoded.bytes)).flatten();
    let whole: &[u8] = broken.as_deref().map_or(&decoded.bytes, str::as_bytes);
    let shown = match style.full {
        true => whole,
        false => whole.get(..SHOWN_BYTES_MAX).unwrap_or(whole),
    };
    if shown.len() < whole.len() {
        notes.push(format!(
            "shown {} of {}; --full shows all",
            bytes(shown.len() as u64),
            bytes(whole.len() as u64)
        ));
    }
    BodyText {
        text: escape_bytes(shown),
        notes,
    }
}

/// JSON with line ends; `None` if it is none.
fn pretty(body: &[u8]) -> Option<String> {
    if !matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return None;
    }
    // `RawValue` would keep numbers; a value re-writes 1.0e2 as 100.0, which a view may not.
    let mut text = String::with_capacity(body.len() + body.len() / 2);
    let body = std::str::from_utf8(body).ok()?;
    serde_json::from_str::<serde::de::IgnoredAny>(body).ok()?;
    break_lines(body, &mut text);
    Some(text)
}

/// Breaks valid JSON into lines, leaving every token as it is.
fn break_lines(json: &str, text: &mut String) {
    let mut depth = 0_usize;
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                text.push('"');
                while let Some(inner) = letters.next() {
                    text.push(inner);
                    match inner {
                        '\\' => text.extend(letters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                text.push(letter);
                while letters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(closing) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    text.push(closing);
                    continue;
                }
                depth += 1;
                push_line_end(text, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                push_line_end(text, depth);
                text.push(letter);
            }
            ',' => {
                text.push(',');
                push_line_end(text, depth);
            }
            ':' => text.push_str(": "),
            space if space.is_ascii_whitespace() => {}
            other => text.push(other),
        }
    }
}

fn push_line_end(text: &mut String, depth: usize) {
    text.push('\n');
    text.push_str(&"  ".repeat(depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(bytes: &[u8]) -> Body {
        Body {
            bytes: bytes.to_vec(),
            seen: Some(bytes.len() as u64),
            truncated: false,
            content_encoding: None,
            content_type: Some("application/json".to_owned()),
        }
    }

    fn shown(bytes: &[u8]) -> BodyText {
        let style = Style {
            pretty: true,
            full: false,
            message_coding: "",
        };
        body_text(&body(bytes), style)
    }

    #[test]
    fn json_gets_lines_and_keeps_its_tokens() {
        let text = shown(br#"{"a":1.0e2,"b":[ ],"c":{"d":"x,{\"\\"},"e":[true,null]}"#).text;
        insta::assert_snapshot!(text, @r#"
        {
          "a": 1.0e2,
          "b": [],
          "c": {
            "d": "x,{\"\\"
          },
          "e": [
            true,
            null
          ]
        }
        "#);
    }

    #[test]
    fn what_is_no_json_stays_as_it_is() {
        assert_eq!(shown(b"{broken").text, "{broken");
        assert_eq!(shown(b"data: {}\n\n").text, "data: {}\n\n");
    }

    #[test]
    fn hostile_text_is_disarmed_and_binary_is_not_shown() {
        assert_eq!(shown(b"\x1b]0;x\x07").text, "␛]0;x\\u{7}");
        let binary = shown(b"\x00\x01\x02");
        assert!(binary.text.is_empty());
        assert!(binary.notes[0].starts_with("binary, 3 B"), "{binary:?}");
    }

    #[test]
    fn what_is_left_out_is_said() {
        let mut cut = body(&b"x".repeat(SHOWN_BYTES_MAX + 1));
        cut.truncated = true;
        cut.seen = Some(1 << 30);
        let style = Style {
            pretty: false,
            full: false,
            message_coding: "",
        };
        let notes = body_text(&cut, style).notes;
        assert_eq!(
            notes,
            [
                "kept 64.0 KiB of 1.0 GiB",
                "shown 64.0 KiB of 64.0 KiB; --full shows all"
            ]
        );
    }
}
