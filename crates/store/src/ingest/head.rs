//! Reads heads for the rows of flows: masks credentials, finds the few values that have a column of
//! their own, and packs the rest.
//!
//! What was read last is remembered for each side of a connection, since the same head often comes
//! again, and what differs from the first head of that side is all that a row keeps of a head.

use std::borrow::Cow;

use bytes::Bytes;
use llm::Glance;
use traffic::Head;
use traffic::rules::redact::Redaction;

use super::repeated::Repeated;
use crate::head_delta::{self, Base};
use crate::head_text::{field_of_line, split_line, text_of_line};
use crate::limits::{HEAD_BYTES_MAX, REMEMBERED_HEAD_BYTES_MAX};

/// The heads of one side of a connection.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    /// The first one, which is stored beside the connection.
    base: Option<Base>,
    /// The one that was read last.
    last: ReadHead,
}

/// What a row needs of a head.
#[derive(Debug, Default)]
pub(crate) struct ReadHead {
    /// The head as it came, to know it again: mostly by where it lies, since who reports what is said again
    /// keeps one memory for it.
    raw: Bytes,
    /// The start line, masked.
    pub(crate) line: String,
    /// Value of the first content-type field.
    pub(crate) content_type: Option<String>,
    /// A glance at it.
    pub(crate) glance: Glance,
    /// The status code of a response.
    pub(crate) status: Option<u16>,
    /// The head, masked, as `head_delta` writes it.
    pub(crate) packed: Vec<u8>,
    /// It was read before.
    pub(crate) is_again: bool,
    /// Of a request that came again.
    pub(crate) repeated: Option<Repeated>,
}

impl Heads {
    /// Takes a head as the one that others are compared with, if it is small enough to be
    /// remembered; answers its masked text, which is to be stored beside the connection.
    pub(crate) fn begin<'h>(
        &mut self,
        head: &'h Head,
        redaction: Redaction,
    ) -> Option<Cow<'h, [u8]>> {
        if self.base.is_some() || head.text.len() > REMEMBERED_HEAD_BYTES_MAX {
            return None;
        }
        let masked = redaction.mask_head(&head.text);
        self.base = Some(Base::new(&masked));
        Some(masked)
    }

    /// Reads a head. A large one is read into `large` and not remembered.
    pub(crate) fn read<'a>(
        &'a mut self,
        head: &Head,
        redaction: Redaction,
        large: &'a mut ReadHead,
    ) -> &'a mut ReadHead {
        if head.text.len() > REMEMBERED_HEAD_BYTES_MAX {
            *large = ReadHead::default();
            large.read(head, redaction, &Base::default());
            return large;
        }
        self.last.is_again = is_same(&self.last.raw, &head.text);
        if !self.last.is_again {
            let none = Base::default();
            let base = self.base.as_ref().unwrap_or(&none);
            self.last.read(head, redaction, base);
            self.last.raw = head.text.clone();
        }
        &mut self.last
    }
}

impl ReadHead {
    fn read(&mut self, head: &Head, redaction: Redaction, base: &Base) {
        let masked = mask(head, redaction);
        let (line, mut rest) = split_line(&masked);
        self.line.clear();
        self.line.push_str(&text_of_line(line));
        self.status = head.status();
        self.glance = Glance::of(head);
        self.content_type = None;
        while self.content_type.is_none() && !rest.is_empty() {
            let (line, after) = split_line(rest);
            let Some((name, value)) = field_of_line(line) else {
                break;
            };
            if name.eq_ignore_ascii_case(b"content-type") {
                self.content_type = Some(text_of_line(value).into_owned());
            }
            rest = after;
        }
        self.repeated = None;
        self.packed.clear();
        head_delta::write(base, &masked, &mut self.packed);
    }
}

/// Whether two texts are the same, which is seen at once where they are one.
fn is_same(one: &Bytes, other: &Bytes) -> bool {
    one.len() == other.len() && (one.as_ptr() == other.as_ptr() || one == other)
}

/// The text of a head without its credentials, up to the bound.
pub(crate) fn mask(head: &Head, redaction: Redaction) -> Cow<'_, [u8]> {
    redaction.mask_head(head.text.get(..HEAD_BYTES_MAX).unwrap_or(&head.text))
}
