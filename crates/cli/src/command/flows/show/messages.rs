//! What a WebSocket carried, a line each.

use std::fmt::Write as _;

use store::StreamMessage;
use store::limits::PAGE_MESSAGES_MAX;

use super::{View, since};
use crate::escape::{escape_bytes, escape_line};
use crate::problem::Problem;
use crate::quantity::{bytes, count};
use crate::store_problem::store_problem;
use crate::terminal::{Colour, Glyph};

/// Messages shown unless all are asked for.
const SHOWN_MAX: usize = 100;
/// Octets shown of a message unless it is asked for in its whole length.
const SHOWN_BYTES_MAX: usize = 160;

impl View<'_> {
    /// The messages that are to be shown: all with `--full`.
    pub(super) fn messages(&self) -> Result<Vec<StreamMessage>, Problem> {
        let mut messages: Vec<StreamMessage> = Vec::new();
        loop {
            let limit = match self.arguments.full {
                true => PAGE_MESSAGES_MAX,
                false => SHOWN_MAX,
            };
            let after = messages.last().map_or(0, |last| last.sequence);
            let page = self
                .reader
                .messages(self.detail.row.id, after, limit)
                .map_err(|error| store_problem(&error))?;
            let is_last = page.len() < limit || !self.arguments.full;
            messages.extend(page);
            if is_last {
                return Ok(messages);
            }
        }
    }

    /// How many there were, and those that are to be shown.
    pub(super) fn push_messages(&self, text: &mut String) -> Result<(), Problem> {
        let Some(counts) = self.detail.messages else {
            return Ok(());
        };
        let line = format!(
            "messages   client {}   upstream {}",
            count(counts.from_client),
            count(counts.from_upstream)
        );
        let _infallible = writeln!(text, "\n{}", self.pen().paint(Colour::Bold, &line));
        let messages = self.messages()?;
        for message in &messages {
            self.push_line(text, message);
        }
        let told = counts.from_client + counts.from_upstream;
        let shown = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        if shown < told {
            let mark = self.pen().glyph(Glyph::Truncated);
            let more = match self.arguments.full {
                true => "were not kept",
                false => "more: --full",
            };
            let note = format!("({mark} {} {more})", count(told - shown));
            let _infallible = writeln!(text, "{}", self.pen().paint(Colour::Dim, &note));
        }
        Ok(())
    }

    fn push_line(&self, text: &mut String, message: &StreamMessage) {
        let at = since(self.detail.row.started_at, message.at);
        let sender = format!("{:8}", escape_line(&message.sender));
        let colour = match message.sender.as_str() {
            "client" => Colour::Cyan,
            _ => Colour::Green,
        };
        let sender = self.pen().paint(colour, &sender);
        let mark = match message.is_truncated() {
            true => self.pen().glyph(Glyph::Truncated),
            false => "",
        };
        let size = format!("{}{mark}", bytes(message.bytes));
        let kind = escape_line(&message.kind);
        let said = self.said(message);
        let line = format!("{at:>10}  {sender}  {kind:7}  {size:>9}  {said}");
        text.push_str(line.trim_end());
        text.push('\n');
    }

    /// What it says, on one line; escaped, since a terminal would obey what was captured.
    fn said(&self, message: &StreamMessage) -> String {
        let limit = match self.wants_bodies() {
            true => usize::MAX,
            false => SHOWN_BYTES_MAX,
        };
        let payload = &message.payload;
        let shown = payload.get(..limit.min(payload.len())).unwrap_or(payload);
        // A letter is not cut in two.
        let shown = match std::str::from_utf8(shown) {
            Err(error) if error.error_len().is_none() => {
                shown.get(..error.valid_up_to()).unwrap_or(shown)
            }
            _ => shown,
        };
        let mut said = match message.kind.as_str() {
            "binary" => hexadecimal(shown),
            _ => escape_bytes(shown)
                .replace('\n', "\\n")
                .replace('\t', "\\t"),
        };
        if shown.len() < payload.len() {
            said.push_str(self.pen().glyph(Glyph::Truncated));
        }
        match message.close_code {
            Some(code) => format!("{code} {said}"),
            None => said,
        }
    }
}

fn hexadecimal(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len() * 2);
    for octet in octets {
        let _infallible = write!(text, "{octet:02x}");
    }
    text
}
