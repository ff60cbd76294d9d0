//! The pieces of a flow as people read them, the same in every view.

use jiff::tz::TimeZone;
use store::{FlowKind, FlowRow, FlowState, Redaction};
use traffic::Timestamp;

use crate::escape::escape_line;
use crate::quantity::{bytes, millis};
use crate::table::Cell;
use crate::terminal::{Colour, Glyph, Pen};

/// `POST https://api.openai.com/v1/…`, or the target of a tunnel.
pub(crate) fn request(row: &FlowRow) -> String {
    format!("{} {}", escape_line(&row.method), escape_line(&row.url))
}

/// The tags, each behind a hash, with a space in front.
pub(crate) fn tags(row: &FlowRow) -> String {
    let tags = row.tags.iter();
    tags.map(|tag| format!(" #{}", escape_line(tag))).collect()
}

/// The status, or in a word why there is none.
pub(crate) fn status(row: &FlowRow, pen: Pen) -> Cell {
    let with = |glyph: Glyph, word: &str| format!("{} {word}", pen.glyph(glyph));
    if row.state == FlowState::Open {
        return Cell::coloured(with(Glyph::Live, "open"), Colour::Cyan);
    }
    if row.route_action == "block" {
        return Cell::coloured(with(Glyph::Blocked, "blocked"), Colour::Magenta);
    }
    if let Some(error) = &row.error {
        return Cell::coloured(with(Glyph::Failed, &escape_line(&error.kind)), Colour::Red);
    }
    if row.state == FlowState::Interrupted {
        return Cell::coloured(with(Glyph::Failed, "interrupted"), Colour::Red);
    }
    match (row.kind, row.status) {
        (FlowKind::Tunnel, _) => Cell::coloured(with(Glyph::Tunnel, "tunnel"), Colour::Dim),
        (FlowKind::WebSocket, _) if is_opened(row) => Cell::coloured("websocket", Colour::Green),
        (FlowKind::Http | FlowKind::WebSocket, Some(status)) => {
            Cell::coloured(status.to_string(), status_colour(status))
        }
        (FlowKind::Http | FlowKind::WebSocket, None) => Cell::new(pen.unknown()),
    }
}

/// True for a WebSocket that the upstream agreed to: with 101, or over HTTP/2 with success.
pub(crate) fn is_opened(row: &FlowRow) -> bool {
    let over_http2 = row.upstream_version.as_deref() == Some("HTTP/2");
    row.kind == FlowKind::WebSocket
        && match row.status {
            Some(200..300) => over_http2,
            status => status == Some(101),
        }
}

fn status_colour(status: u16) -> Colour {
    match status {
        ..400 => Colour::Green,
        400..500 => Colour::Yellow,
        500.. => Colour::Red,
    }
}

/// Bytes of the response; of a tunnel or WebSocket, both ways. A mark says that not all of it was kept.
pub(crate) fn size(row: &FlowRow, pen: Pen) -> String {
    let count = match row.kind {
        FlowKind::Http => row.response_bytes,
        FlowKind::WebSocket | FlowKind::Tunnel => sum(row.request_bytes, row.response_bytes),
    };
    let mark = if row.truncated {
        pen.glyph(Glyph::Truncated)
    } else {
        ""
    };
    match count {
        Some(count) => format!("{}{mark}", bytes(count)),
        None => pen.unknown().to_owned(),
    }
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (None, None) => None,
        (one, other) => Some(
            one.unwrap_or_default()
                .saturating_add(other.unwrap_or_default()),
        ),
    }
}

/// A length of time that may not be known.
pub(crate) fn period(value: Option<f64>, pen: Pen) -> String {
    match value {
        Some(value) => millis(value),
        None => pen.unknown().to_owned(),
    }
}

/// How a moment is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// `09:08:31` today, `03-02 09:08` otherwise.
    Short,
    /// `2026-03-02 09:08:31`.
    Full,
    /// `2026-03-02 09:08:31.402`.
    Exact,
}

/// A moment in a zone.
pub(crate) fn moment(at: Timestamp, now: Timestamp, zone: &TimeZone, clock: Clock) -> String {
    let local = |at: Timestamp| {
        let at = jiff::Timestamp::from_microsecond(at.0).unwrap_or_default();
        at.to_zoned(zone.clone())
    };
    let at = local(at);
    let form = match clock {
        Clock::Short if at.date() == local(now).date() => "%H:%M:%S",
        Clock::Short => "%m-%d %H:%M",
        Clock::Full => "%Y-%m-%d %H:%M:%S",
        Clock::Exact => "%Y-%m-%d %H:%M:%S%.3f",
    };
    at.strftime(form).to_string()
}

/// Whether credentials of the flow were stored as they came.
pub(crate) fn has_secrets(row: &FlowRow) -> bool {
    row.redaction == Redaction::None
}

/// Said on every screen that shows credentials.
pub(crate) fn secrets_warning(pen: Pen) -> String {
    let mark = pen.paint(Colour::Yellow, pen.glyph(Glyph::Stored));
    format!("{mark} credentials are stored as they came (--redact none)\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_short_for_today() {
        let now = Timestamp(1_772_442_511_402_000);
        let yesterday = Timestamp(now.0 - 86_400_000_000);
        let at = |at, clock| moment(at, now, &TimeZone::UTC, clock);
        assert_eq!(at(now, Clock::Short), "09:08:31");
        assert_eq!(at(yesterday, Clock::Short), "03-01 09:08");
        assert_eq!(at(now, Clock::Full), "2026-03-02 09:08:31");
        assert_eq!(at(now, Clock::Exact), "2026-03-02 09:08:31.402");
    }
}
