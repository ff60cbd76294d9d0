//! Max-Forwards (RFC 9110 section 7.6.2): how many proxies a TRACE or OPTIONS request may still
//! pass. Where it may pass none, oriel is the one to answer.

use bytes::Bytes;
use traffic::rules::redact::Redaction;

/// What Max-Forwards asks of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MaxForwards {
    /// We are to answer.
    Answer(Asked),
    /// The request goes on with this number.
    Forward(u64),
}

/// What we are to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Options,
    Trace,
}

/// Reads the field; `None` if it does not concern us: in other methods, and where it is no number.
pub(crate) fn read(method: &[u8], value: &[u8]) -> Option<MaxForwards> {
    let asked = match method {
        b"OPTIONS" => Asked::Options,
        b"TRACE" => Asked::Trace,
        _ => return None,
    };
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = std::str::from_utf8(value).ok()?;
    // A larger number than we can count with becomes the largest (same section).
    let left = digits.parse().unwrap_or(u64::MAX);
    Some(match u64::checked_sub(left, 1) {
        None => MaxForwards::Answer(asked),
        Some(left) => MaxForwards::Forward(left),
    })
}

/// An answer of our own, always 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    content_type: Option<&'static str>,
    pub(crate) body: Bytes,
}

impl Answer {
    /// `head` is the request's as it came; what a TRACE gives back of it has no credentials (RFC
    /// 9110 section 9.3.8).
    pub(crate) fn new(asked: Asked, head: &[u8]) -> Self {
        match asked {
            Asked::Options => Self {
                content_type: None,
                body: Bytes::new(),
            },
            Asked::Trace => Self {
                content_type: Some("message/http"),
                body: Redaction::Basic.mask_head(head).into_owned().into(),
            },
        }
    }

    /// The fields of its head.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, String)> {
        let content_type = self.content_type.map(str::to_owned);
        content_type
            .map(|value| ("content-type", value))
            .into_iter()
            .chain([("content-length", self.body.len().to_string())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_down_to_our_answer() {
        for (method, value, read_as) in [
            ("TRACE", "0", Some(MaxForwards::Answer(Asked::Trace))),
            ("OPTIONS", "00", Some(MaxForwards::Answer(Asked::Options))),
            ("OPTIONS", "1", Some(MaxForwards::Forward(0))),
            ("TRACE", "10", Some(MaxForwards::Forward(9))),
            (
                "TRACE",
                "99999999999999999999",
                Some(MaxForwards::Forward(u64::MAX - 1)),
            ),
            ("GET", "0", None),
            ("options", "0", None),
            ("OPTIONS", "", None),
            ("OPTIONS", "-1", None),
            ("OPTIONS", "+1", None),
            ("OPTIONS", "1, 0", None),
        ] {
            assert_eq!(
                read(method.as_bytes(), value.as_bytes()),
                read_as,
                "{method} {value}"
            );
        }
    }
}
