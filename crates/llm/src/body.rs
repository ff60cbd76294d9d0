//! The body of a request as it was captured: in pieces, content-encoded, maybe cut.

use std::borrow::Cow;

use bytes::Bytes;
use traffic::wire::encoding;

/// What was kept of a body.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// The pieces, in order.
    pub pieces: &'a [Bytes],
    /// True if more came than is here, or may still come.
    pub cut: bool,
}

impl Body<'_> {
    /// Nothing is known of it.
    pub const UNKNOWN: Self = Self {
        pieces: &[],
        cut: true,
    };
}

impl<'a> Body<'a> {
    /// At most so many bytes of it, without these content codings as far as it can be.
    pub(crate) fn read(self, encodings: &[u8], bytes_max: usize) -> Cow<'a, [u8]> {
        let coded = self.joined();
        let encodings = std::str::from_utf8(encodings).unwrap_or_default();
        if encodings.is_empty() {
            return match coded {
                Cow::Borrowed(whole) => Cow::Borrowed(whole.get(..bytes_max).unwrap_or(whole)),
                Cow::Owned(mut whole) => {
                    whole.truncate(bytes_max);
                    Cow::Owned(whole)
                }
            };
        }
        Cow::Owned(
            encoding::decode(encodings, &coded, bytes_max)
                .bytes
                .into_owned(),
        )
    }

    fn joined(self) -> Cow<'a, [u8]> {
        match self.pieces {
            [] => Cow::Borrowed(&[]),
            [whole] => Cow::Borrowed(whole),
            pieces => Cow::Owned(pieces.concat()),
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }
}
