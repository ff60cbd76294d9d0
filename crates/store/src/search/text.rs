//! The texts of a flow as people read them.

use std::borrow::Cow;
use std::collections::HashSet;

use traffic::wire::encoding::decode;

use super::TextPart;
use super::phrase::indexed_words;
use crate::limits::{ARCHIVE_WORDS_BYTES_MAX, TEXT_BYTES_MAX, TEXT_RUN_BYTES_MAX};
use crate::{FlowKind, FlowRecord, FlowState, Message};

/// A text of a flow; empty where there is none.
pub(super) fn text_of(flow: &FlowRecord, part: TextPart) -> Cow<'_, str> {
    let detail = &flow.detail;
    let (message, head, body) = match part {
        TextPart::Url => return Cow::Borrowed(&detail.row.url),
        TextPart::Request => (Message::Request, Some(&detail.request), &flow.request_body),
        TextPart::Response => (
            Message::Response,
            detail.response.as_ref(),
            &flow.response_body,
        ),
    };
    match detail.row.kind {
        FlowKind::Tunnel => Cow::Borrowed(""),
        FlowKind::WebSocket => {
            let mut text = String::new();
            for message in flow
                .messages
                .iter()
                .filter(|sent| sent.kind == "text" && sent.sender == sender(message))
            {
                if !push_message(&message.payload, &mut text) {
                    break;
                }
            }
            Cow::Owned(text)
        }
        FlowKind::Http => {
            let coding = head.and_then(|head| head.field("content-encoding"));
            let content = body.as_deref().unwrap_or_default();
            Cow::Owned(body_text(coding.unwrap_or_default(), content))
        }
    }
}

/// The words of a flow in their order, each once and as many as an archive keeps; none of one that has not
/// ended, whose texts are not whole.
pub(crate) fn words_of_flow(flow: &FlowRecord) -> Vec<String> {
    match flow.detail.row.state {
        FlowState::Open => Vec::new(),
        _ => words_of(&TextPart::ALL.map(|part| text_of(flow, part))),
    }
}

/// The same of a flow that has nothing but its URL.
pub(crate) fn words_of_url(url: &str) -> Vec<String> {
    words_of(&[Cow::Borrowed(url)])
}

fn words_of(texts: &[Cow<'_, str>]) -> Vec<String> {
    // So that most words need no memory of their own.
    let texts: Vec<String> = texts.iter().map(|text| text.to_ascii_lowercase()).collect();
    let mut room = ARCHIVE_WORDS_BYTES_MAX;
    let (mut seen, mut words) = (HashSet::new(), Vec::new());
    for word in texts.iter().flat_map(|text| indexed_words(text)) {
        if !seen.insert(word.clone()) {
            continue;
        }
        let Some(rest) = room.checked_sub(word.len()) else {
            break;
        };
        room = rest;
        words.push(word.into_owned());
    }
    words
}

/// Who sends what a text of a WebSocket consists of.
fn sender(message: Message) -> &'static str {
    match message {
        Message::Request => "client",
        Message::Response => "upstream",
    }
}

/// Appends a message; false if that is enough.
fn push_message(payload: &[u8], text: &mut String) -> bool {
    push_readable(payload, text);
    text.push('\n');
    text.len() < TEXT_BYTES_MAX
}

/// A body as it is read, its content coding undone.
fn body_text(coding: &str, content: &[u8]) -> String {
    if content.is_empty() {
        return String::new();
    }
    let decoded = decode(coding, content, TEXT_BYTES_MAX);
    let mut text = String::new();
    push_readable(&decoded.bytes, &mut text);
    push_joined(&decoded.bytes, &mut text);
    text
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

/// Whether a body, its content coding undone, is not made to be read: a zero byte, or much that is no UTF-8,
/// near its start.
#[must_use]
pub fn is_binary(body: &[u8]) -> bool {
    const LOOKED_AT: usize = 4096;
    let start = body.get(..LOOKED_AT).unwrap_or(body);
    let invalid: usize = start.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    start.contains(&0) || invalid > start.len() / 10 + 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_as_many_words_are_kept_as_of_a_flow() {
        assert_eq!(
            words_of_url("https://A.test/b?a=B"),
            ["https", "a", "test", "b"]
        );
        let long: String = (0..200_000).map(|word| format!("/{word}")).collect();
        let bytes: usize = words_of_url(&long).iter().map(String::len).sum();
        assert!(bytes <= ARCHIVE_WORDS_BYTES_MAX && bytes + 6 > ARCHIVE_WORDS_BYTES_MAX);
    }

    fn readable(body: &[u8]) -> String {
        let mut out = String::new();
        push_readable(body, &mut out);
        push_joined(body, &mut out);
        out
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
