//! A stored body that streams as text: a line for each event or message, escaped, as its Content-Type says
//! that it is cut. What cannot be read that way is left to who shows bodies as they are.

use std::fmt::Write as _;

use store::{Body, is_binary};
use traffic::wire::limits::MESSAGE_BYTES_KEPT;
use traffic::wire::stream::{
    MessageKind, StreamCodings, StreamDecoder, StreamEnd, StreamItem, StreamKind, StreamMessage,
    StreamNote, kind_of,
};

use crate::escape::{escape_bytes, escape_line};
use crate::limits::SHOWN_BYTES_MAX;
use crate::quantity::{bytes, plural};

/// What was read of a body.
#[derive(Debug)]
pub(crate) enum StreamText {
    /// It does not stream.
    None,
    /// It is not what its Content-Type says; why, in a line.
    Unreadable(String),
    /// Its messages, and what there is to know about them.
    Lines { text: String, notes: Vec<String> },
}

/// The messages of a body whose content coding is undone. `message_coding` is what `grpc-encoding`
/// says, `full` shows all of them.
pub(crate) fn stream_text(
    body: &Body,
    decoded: &[u8],
    message_coding: &str,
    full: bool,
) -> StreamText {
    let kind = body.content_type.as_deref().and_then(kind_of);
    let Some(kind) = kind.filter(|_| !decoded.is_empty()) else {
        return StreamText::None;
    };
    let codings = StreamCodings {
        content: "",
        message: message_coding,
    };
    let mut lines = Lines::new(full);
    let mut take = |item| lines.take(item);
    let mut decoder = StreamDecoder::new(kind, codings, MESSAGE_BYTES_KEPT);
    decoder.push(decoded, &mut take);
    let end = match body.truncated {
        true => StreamEnd::Cut,
        false => StreamEnd::Whole,
    };
    decoder.finish(end, &mut take);
    lines.told(kind)
}

struct Lines {
    text: String,
    text_bytes_max: usize,
    shown: u64,
    messages: u64,
    comments: u64,
    notes: Vec<StreamNote>,
}

impl Lines {
    fn new(full: bool) -> Self {
        Self {
            text: String::new(),
            text_bytes_max: if full { usize::MAX } else { SHOWN_BYTES_MAX },
            shown: 0,
            messages: 0,
            comments: 0,
            notes: Vec::new(),
        }
    }

    fn take(&mut self, item: StreamItem) {
        match item {
            StreamItem::Message(message) => {
                self.messages += 1;
                if self.text.len() < self.text_bytes_max {
                    self.push(&message);
                }
            }
            StreamItem::Comment(_) => self.comments += 1,
            StreamItem::Retry(millis) => {
                if self.text.len() < self.text_bytes_max {
                    let _infallible = writeln!(self.text, "      retry: {millis} ms");
                }
            }
            StreamItem::Note(note) => self.notes.push(note),
        }
    }

    fn push(&mut self, message: &StreamMessage) {
        let _infallible = write!(self.text, "{:>4}  ", message.sequence);
        if let Some(name) = &message.name {
            let word = match message.kind {
                MessageKind::SseData => "event: ",
                _ => "",
            };
            let _infallible = write!(self.text, "{word}{}  ", escape_line(name));
        }
        match message.kind {
            MessageKind::GrpcMessage => {
                let _infallible = write!(self.text, "message {}  ", bytes(message.size));
            }
            MessageKind::GrpcTrailers => self.text.push_str("trailers  "),
            _ => {}
        }
        let room = self.text_bytes_max.saturating_sub(self.text.len());
        let payload = &message.payload;
        let kept = payload.get(..room).unwrap_or(payload);
        self.text.push_str(&in_one_line(kept));
        if kept.len() < payload.len() || message.truncated || !message.complete {
            self.text.push_str(" (cut)");
        }
        if let Some(note) = message.note {
            let _infallible = write!(self.text, " ({note})");
        }
        self.text.push('\n');
        self.shown += 1;
    }

    fn told(self, kind: StreamKind) -> StreamText {
        let lost = self.notes.iter().find(|note| is_lost(**note));
        if lost.is_some() || self.messages == 0 {
            let why = lost.or_else(|| self.notes.first());
            let why = why.map_or_else(|| "no message is in it".to_owned(), StreamNote::to_string);
            return StreamText::Unreadable(format!("cannot be read as {}: {why}", name(kind)));
        }
        let mut notes: Vec<String> = self.notes.iter().map(StreamNote::to_string).collect();
        if self.comments > 0 {
            let comments = plural(self.comments, "comment");
            notes.push(format!("{comments} left out; --part raw shows all"));
        }
        if self.shown < self.messages {
            let all = plural(self.messages, "message");
            notes.push(format!("shown {} of {all}; --full shows all", self.shown));
        }
        StreamText::Lines {
            text: self.text,
            notes,
        }
    }
}

/// Bytes in one line: text as it is but for what a terminal would obey, all else as `\xNN`.
fn in_one_line(payload: &[u8]) -> String {
    let mut end = payload.len();
    while end > 0 && matches!(payload.get(end - 1), Some(b'\r' | b'\n')) {
        end -= 1;
    }
    let line = payload.get(..end).unwrap_or(payload);
    match std::str::from_utf8(line) {
        Ok(text) if !is_binary(line) => escape_line(text).into_owned(),
        _ => escape_bytes(payload)
            .replace('\n', "\\n")
            .replace('\t', "\\t"),
    }
}

/// Whether nothing that follows can be read.
fn is_lost(note: StreamNote) -> bool {
    matches!(
        note,
        StreamNote::GrpcFlags
            | StreamNote::Base64Invalid
            | StreamNote::EventStreamPreludeChecksum
            | StreamNote::EventStreamLengths
    )
}

fn name(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Sse => "server-sent events",
        StreamKind::Ndjson => "lines of JSON",
        StreamKind::Grpc | StreamKind::GrpcWeb | StreamKind::GrpcWebText => "gRPC messages",
        StreamKind::EventStream => "an AWS event stream",
        _ => "a stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content_type: &str, bytes: &[u8]) -> StreamText {
        let body = Body {
            bytes: bytes.to_vec(),
            seen: Some(bytes.len() as u64),
            truncated: false,
            content_encoding: None,
            content_type: Some(content_type.to_owned()),
        };
        stream_text(&body, bytes, "", false)
    }

    #[track_caller]
    fn check(content_type: &str, bytes: &[u8], lines: &[&str], told: &[&str]) {
        let read = read(content_type, bytes);
        let StreamText::Lines { text, notes } = &read else {
            assert!(lines.is_empty(), "{read:?}");
            return;
        };
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
        assert_eq!(notes, told);
    }

    #[test]
    fn events_have_a_line_each() {
        check(
            "text/event-stream; charset=utf-8",
            b": hi\nretry: 100\nevent: a\x1bb\ndata: {\"x\":1}\ndata: 2\n\ndata: [DONE]\n\n",
            &[
                "      retry: 100 ms",
                "   0  event: a␛b  {\"x\":1}\\n2",
                "   1  [DONE]",
            ],
            &["1 comment left out; --part raw shows all"],
        );
    }

    #[test]
    fn lines_of_json_have_a_line_each() {
        check(
            "application/x-ndjson",
            b"{\"a\":1}\r\n{\"b\":\"\xe2\x80\xae\"}\n",
            &["   0  {\"a\":1}", "   1  {\"b\":\"\\u{202e}\"}"],
            &[],
        );
    }

    #[test]
    fn grpc_messages_and_trailers_have_a_line_each() {
        let message = b"\0\0\0\0\x07\x0a\x05hello";
        let line = "   0  message 7 B  \\n\\u{5}hello";
        check("application/grpc", message, &[line], &[]);
        let web = [&message[..], b"\x80\0\0\0\x0fgrpc-status:0\r\n"].concat();
        let lines = [line, "   1  trailers  grpc-status:0"];
        check("application/grpc-web+proto", &web, &lines, &[]);
        check(
            "application/grpc-web-text",
            b"AAAAAAcKBWhlbGxv",
            &[line],
            &[],
        );
    }

    #[test]
    fn garbage_is_told_and_not_shown_as_a_stream() {
        for (content_type, bytes, why) in [
            ("application/grpc", &b"\xffgarbage"[..], "flags"),
            ("application/grpc-web-text", b"!!!", "base64"),
            ("application/vnd.amazon.eventstream", &[7; 40], "prelude"),
            ("text/event-stream", b"no event", "server-sent events"),
        ] {
            let read = read(content_type, bytes);
            let StreamText::Unreadable(told) = &read else {
                unreachable!("{read:?}");
            };
            assert!(told.contains(why), "{told}");
        }
        assert!(matches!(
            read("text/plain", b"data: 1\n\n"),
            StreamText::None
        ));
        assert!(matches!(read("text/event-stream", b""), StreamText::None));
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let event = format!("data: {}\n\n", "x".repeat(999));
        let read = read("text/event-stream", event.repeat(1000).as_bytes());
        let StreamText::Lines { text, notes } = read else {
            unreachable!("it is one");
        };
        assert!(text.len() < SHOWN_BYTES_MAX + 100, "{}", text.len());
        assert!(text.ends_with(" (cut)\n"));
        assert_eq!(notes, ["shown 66 of 1,000 messages; --full shows all"]);
    }
}
