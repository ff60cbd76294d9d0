//! Server-sent events (WHATWG HTML section 9.2.5 and 9.2.6).

use std::sync::Arc;

use memchr::{memchr, memchr2};

use super::capture::Capture;
use super::{MessageKind, Out, StreamItem, StreamNote};
use crate::wire::limits::{COMMENT_BYTES_KEPT, EVENT_FIELD_BYTES_MAX};

const BOM: &[u8] = b"\xef\xbb\xbf";
/// Bytes of a line that are not the value of its field: the BOM, the longest name, a colon, a
/// blank.
const LINE_EXTRA_BYTES: usize = 16;

#[derive(Debug)]
pub(super) struct Sse {
    /// A line whose end has not come.
    line: Capture,
    at_first_line: bool,
    /// The last byte was a CR: an LF after it belongs to it.
    after_cr: bool,
    data: Capture,
    has_data: bool,
    name: Option<Arc<str>>,
    /// The name of the event before: most streams repeat one.
    recent_name: Arc<str>,
    id: Option<Arc<str>>,
}

impl Sse {
    pub(super) fn new(bytes_kept: usize) -> Self {
        Self {
            line: Capture::new(bytes_kept.max(EVENT_FIELD_BYTES_MAX) + LINE_EXTRA_BYTES),
            at_first_line: true,
            after_cr: false,
            data: Capture::new(bytes_kept),
            has_data: false,
            name: None,
            recent_name: "".into(),
            id: None,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Out<'_>) {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            self.after_cr = false;
        }
        while let Some(at) = memchr2(b'\n', b'\r', rest) {
            let (line, end) = rest.split_at_checked(at).unwrap_or((rest, &[]));
            let is_cr = end.first() == Some(&b'\r');
            rest = end.get(1..).unwrap_or_default();
            if is_cr {
                self.after_cr = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            self.end_line(line, out);
        }
        self.line.take(rest);
    }

    /// An event that no blank line ended is not dispatched to a script; here it is shown as
    /// incomplete.
    pub(super) fn finish(mut self, out: &mut Out<'_>) {
        let line = std::mem::replace(&mut self.line, Capture::new(0));
        let rest = self.without_bom(line.kept());
        if rest.starts_with(b"data") {
            let seen = line.seen() - (line.kept().len() - rest.len()) as u64;
            self.take_line(rest, seen, out);
        }
        if self.has_data {
            self.give(false, out);
        }
    }

    /// Takes the last piece of a line.
    fn end_line(&mut self, last: &[u8], out: &mut Out<'_>) {
        if self.line.is_empty() {
            self.take_line_of(last, last.len() as u64, out);
            return;
        }
        self.line.take(last);
        let empty = Capture::new(0);
        let mut line = std::mem::replace(&mut self.line, empty);
        self.take_line_of(line.kept(), line.seen(), out);
        line.clear();
        self.line = line;
    }

    fn take_line_of(&mut self, line: &[u8], seen: u64, out: &mut Out<'_>) {
        let bare = self.without_bom(line);
        let seen = seen - (line.len() - bare.len()) as u64;
        self.at_first_line = false;
        if bare.is_empty() {
            self.end_event(out);
        } else {
            self.take_line(bare, seen, out);
        }
    }

    fn without_bom<'a>(&self, line: &'a [u8]) -> &'a [u8] {
        match line.strip_prefix(BOM) {
            Some(bare) if self.at_first_line => bare,
            _ => line,
        }
    }

    /// Takes a line that is not blank; `seen` bytes of it came.
    fn take_line(&mut self, line: &[u8], seen: u64, out: &mut Out<'_>) {
        let (field, value) = match memchr(b':', line) {
            Some(colon) => {
                let (field, value) = line.split_at_checked(colon).unwrap_or((line, &[]));
                let value = value.get(1..).unwrap_or_default();
                (field, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &[][..]),
        };
        match field {
            b"data" => {
                if self.has_data {
                    self.data.take(b"\n");
                }
                self.has_data = true;
                let start = line.len() - value.len();
                self.data.take_start(value, seen - start as u64);
            }
            b"event" => self.name = self.name_of(value, out),
            // A NUL would let the id end early in a header field.
            b"id" if memchr(0, value).is_none() => self.id = Some(text_of(value, out)),
            b"id" => {}
            b"retry" => {
                let text = std::str::from_utf8(value).unwrap_or_default();
                let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
                if let (true, Ok(time)) = (is_number, text.parse()) {
                    out.item(StreamItem::Retry(time));
                }
            }
            b"" => {
                let kept = value.get(..COMMENT_BYTES_KEPT).unwrap_or(value);
                out.item(StreamItem::Comment(bytes::Bytes::copy_from_slice(kept)));
            }
            _ => out.note(StreamNote::SseUnknownField),
        }
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.line.kept().len() + self.data.kept().len()
    }

    fn name_of(&mut self, value: &[u8], out: &mut Out<'_>) -> Option<Arc<str>> {
        if value.is_empty() {
            return None;
        }
        if value != self.recent_name.as_bytes() {
            self.recent_name = text_of(value, out);
        }
        Some(Arc::clone(&self.recent_name))
    }

    fn end_event(&mut self, out: &mut Out<'_>) {
        if self.has_data {
            self.give(true, out);
        }
        self.name = None;
    }

    fn give(&mut self, complete: bool, out: &mut Out<'_>) {
        let mut message = self.data.finish(MessageKind::SseData);
        self.has_data = false;
        message.complete = complete;
        message.name = self.name.take();
        message.id.clone_from(&self.id);
        let cut = message.truncated || !complete;
        message.note = note_on_text(&message.payload, cut);
        out.message(message);
    }
}

/// The text of a field, as much as is kept of one.
fn text_of(value: &[u8], out: &mut Out<'_>) -> Arc<str> {
    let kept = value.get(..EVENT_FIELD_BYTES_MAX).unwrap_or(value);
    if kept.len() < value.len() {
        out.note(StreamNote::SseFieldTooLong);
    }
    String::from_utf8_lossy(kept).into()
}

/// Says if a text is not UTF-8. The last character of a `cut` text may be incomplete.
pub(super) fn note_on_text(text: &[u8], cut: bool) -> Option<StreamNote> {
    let error = std::str::from_utf8(text).err()?;
    let only_cut = cut && error.error_len().is_none();
    (!only_cut).then_some(StreamNote::NotUtf8)
}
