//! Lines of JSON: `application/x-ndjson`, `application/jsonl` and their other names. Whether a line
//! is JSON is for its reader to find out.

use memchr::memchr;

use super::capture::Capture;
use super::sse::note_on_text;
use super::{MessageKind, Out, StreamEnd};

#[derive(Debug)]
pub(super) struct Ndjson {
    /// The line so far without the CR that may belong to its end.
    line: Capture,
    /// True if the last byte was a CR: part of the line unless an LF follows.
    after_cr: bool,
    is_blank: bool,
}

impl Ndjson {
    pub(super) fn new(bytes_kept: usize) -> Self {
        Self {
            line: Capture::new(bytes_kept),
            after_cr: false,
            is_blank: true,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Out<'_>) {
        let mut rest = bytes;
        while let Some(at) = memchr(b'\n', rest) {
            let (line, end) = rest.split_at_checked(at).unwrap_or((rest, &[]));
            rest = end.get(1..).unwrap_or_default();
            self.take(line);
            self.give(true, out);
        }
        self.take(rest);
    }

    /// The last line needs no end, unless the stream was cut.
    pub(super) fn finish(mut self, end: StreamEnd, out: &mut Out<'_>) {
        self.give(end == StreamEnd::Whole, out);
    }

    fn take(&mut self, piece: &[u8]) {
        let Some((last, start)) = piece.split_last() else {
            return;
        };
        if std::mem::take(&mut self.after_cr) {
            self.line.take(b"\r");
        }
        self.after_cr = *last == b'\r';
        let piece = if self.after_cr { start } else { piece };
        self.is_blank = self.is_blank && piece.iter().all(u8::is_ascii_whitespace);
        self.line.take(piece);
    }

    fn give(&mut self, complete: bool, out: &mut Out<'_>) {
        self.after_cr = false;
        if std::mem::replace(&mut self.is_blank, true) {
            self.line.clear();
            return;
        }
        let mut message = self.line.finish(MessageKind::NdjsonLine);
        message.complete = complete;
        message.note = note_on_text(&message.payload, message.truncated || !complete);
        out.message(message);
    }
}
