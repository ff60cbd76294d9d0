//! What is said again and again on a connection is copied once, and whoever keeps events keeps one memory for
//! all of it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use traffic::Sender;

use crate::limits::{COPIED_BYTES_MAX, REPEATED_BYTES_MAX};

/// What was told last of one direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    head: Bytes,
    piece: Bytes,
    /// Memory that is used again.
    written: Vec<u8>,
}

/// What was told last of the requests and of the responses of a connection.
pub(crate) type BothWays = [Repeats; 2];

/// Where it is kept.
#[derive(Debug)]
pub(super) enum Told {
    /// With who reports of the connection.
    Here(BothWays),
    /// With the connection, whose streams report each by themselves.
    Shared(Arc<Mutex<BothWays>>),
}

impl Told {
    pub(super) fn of<T>(&mut self, sender: Sender, tell: impl FnOnce(&mut Repeats) -> T) -> T {
        match self {
            Self::Here(both) => tell(one_way(both, sender)),
            Self::Shared(both) => tell(one_way(&mut both.lock(), sender)),
        }
    }
}

fn one_way([requests, responses]: &mut BothWays, sender: Sender) -> &mut Repeats {
    match sender {
        Sender::Client => requests,
        Sender::Upstream => responses,
    }
}

impl Repeats {
    /// The text of a head, in memory that nothing else shares but the same text.
    pub(crate) fn head(&mut self, text: &[u8]) -> Bytes {
        copy(text, &mut self.head)
    }

    /// The same, of one that is written only to be told.
    pub(crate) fn written(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut text = std::mem::take(&mut self.written);
        write(&mut text);
        let head = self.head(&text);
        text.clear();
        // One large head should not hold its memory for good.
        text.shrink_to(REPEATED_BYTES_MAX);
        self.written = text;
        head
    }

    /// The first `kept` bytes of a piece of a body. A small piece is copied so that it does not pin the
    /// large buffer it is part of. Only the first piece of a body is remembered: those that follow it are of
    /// a stream, or of a large body, which seldom come again.
    pub(super) fn piece(&mut self, data: &Bytes, kept: usize, is_first: bool) -> Bytes {
        if kept > COPIED_BYTES_MAX {
            return data.slice(..kept);
        }
        let piece = data.get(..kept).unwrap_or(data);
        match is_first {
            true => copy(piece, &mut self.piece),
            false => Bytes::copy_from_slice(piece),
        }
    }
}

/// A copy of the bytes: the last one, if it is the same.
fn copy(bytes: &[u8], last: &mut Bytes) -> Bytes {
    if *bytes == **last {
        return last.clone();
    }
    let copy = Bytes::copy_from_slice(bytes);
    if copy.len() <= REPEATED_BYTES_MAX {
        *last = copy.clone();
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_takes_no_memory() {
        let mut repeats = Repeats::default();
        let first = repeats.head(b"GET / HTTP/1.1\r\n\r\n");
        let again = repeats.head(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(first.as_ptr(), again.as_ptr());
        let other = repeats.head(b"GET /2 HTTP/1.1\r\n\r\n");
        assert_eq!(&*other, b"GET /2 HTTP/1.1\r\n\r\n");
        assert_eq!(&*first, b"GET / HTTP/1.1\r\n\r\n");
        let written = repeats.written(|text| text.extend_from_slice(&other));
        assert_eq!(written.as_ptr(), other.as_ptr());
        let written = repeats.written(|text| text.extend_from_slice(&first));
        assert_eq!(written, first);
        // A head is no piece of a body.
        let piece = repeats.piece(&other, other.len(), true);
        assert_ne!(piece.as_ptr(), other.as_ptr());
    }

    #[test]
    fn no_small_piece_pins_a_large_buffer() {
        let mut repeats = Repeats::default();
        let buffer = Bytes::from(vec![7; COPIED_BYTES_MAX + 1]);
        let large = repeats.piece(&buffer, buffer.len(), true);
        assert_eq!(large.as_ptr(), buffer.as_ptr());
        let small = repeats.piece(&buffer, REPEATED_BYTES_MAX, true);
        assert_ne!(small.as_ptr(), buffer.as_ptr());
        let again = repeats.piece(&buffer, REPEATED_BYTES_MAX, true);
        assert_eq!(again.as_ptr(), small.as_ptr());
        // What is remembered is bounded.
        let medium = repeats.piece(&buffer, REPEATED_BYTES_MAX + 1, true);
        assert_eq!(medium, buffer[..=REPEATED_BYTES_MAX]);
        assert_eq!(repeats.piece.as_ptr(), small.as_ptr());
        // So is what it costs to watch a stream.
        let later = repeats.piece(&buffer, 100, false);
        assert_eq!(later, buffer[..100]);
        assert_eq!(repeats.piece.as_ptr(), small.as_ptr());
    }
}
