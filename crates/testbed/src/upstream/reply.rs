//! A response as a plan that either version of HTTP can play: head, pieces, pauses and the ways
//! to end badly.

use std::time::Duration;

use bytes::Bytes;

use crate::message::Headers;

/// One response.
pub(super) struct Reply {
    /// Heads with a 1xx status that go first.
    pub(super) interim: Vec<(u16, Headers)>,
    pub(super) head: HeadPace,
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) headers: Headers,
    pub(super) framing: ReplyFraming,
    pub(super) parts: Box<dyn Iterator<Item = Part> + Send>,
}

/// How the head goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadPace {
    AtOnce,
    /// In two pieces with this pause between them. By HTTP/2 the pause comes first.
    Split(Duration),
    /// Not at all: the parts decide how the request ends.
    Never,
}

/// How the end of the body is told by HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyFraming {
    Length(u64),
    Chunked,
    Close,
    /// The status forbids a body.
    Bodiless,
}

/// One step of the body.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Data(Bytes),
    Pause(Duration),
    Trailers(Headers),
    /// Closes in an orderly way, whatever the framing has promised.
    Cut,
    /// A TCP reset; by HTTP/2 a stream reset with this code.
    Reset(u32),
    /// Stays silent until the peer gives up.
    Hang,
}

impl Reply {
    /// A response whose body is at hand.
    pub(super) fn full(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let length = body.len() as u64;
        Self::new(status, ReplyFraming::Length(length))
            .with("content-type", content_type)
            .parts([Part::Data(body)])
    }

    /// A response without parts yet.
    pub(super) fn new(status: u16, framing: ReplyFraming) -> Self {
        Self {
            interim: Vec::new(),
            head: HeadPace::AtOnce,
            status,
            reason: reason(status),
            headers: Headers::default(),
            framing,
            parts: Box::new(std::iter::empty()),
        }
    }

    /// No response at all.
    pub(super) fn none(end: Part) -> Self {
        let mut reply = Self::new(200, ReplyFraming::Close).parts([end]);
        reply.head = HeadPace::Never;
        reply
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.0.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn parts<I>(mut self, parts: I) -> Self
    where
        I: IntoIterator<Item = Part>,
        I::IntoIter: Send + 'static,
    {
        self.parts = Box::new(parts.into_iter());
        self
    }
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Status")
}
