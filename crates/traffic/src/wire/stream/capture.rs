//! Bytes of one message while it comes: kept up to a bound, counted beyond it.

use bytes::Bytes;

use super::{MessageKind, StreamMessage};

/// A message from here on is handed over with its buffer; a shorter one is copied, so that the
/// buffer serves the next and no small message holds a large block.
const HANDED_OVER_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Capture {
    kept: Vec<u8>,
    seen: u64,
    bytes_max: usize,
}

impl Capture {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            kept: Vec::new(),
            seen: 0,
            bytes_max,
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.take_start(bytes, bytes.len() as u64);
    }

    /// Takes bytes of which only the start is at hand: `seen` came.
    pub(super) fn take_start(&mut self, bytes: &[u8], seen: u64) {
        let room = self.bytes_max - self.kept.len();
        self.kept
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.seen += seen;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seen == 0
    }

    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    pub(super) fn is_truncated(&self) -> bool {
        self.seen > self.kept.len() as u64
    }

    /// Forgets the bytes, and a large buffer with them.
    pub(super) fn clear(&mut self) {
        if self.kept.capacity() > HANDED_OVER_BYTES {
            self.kept = Vec::new();
        }
        self.kept.clear();
        self.seen = 0;
    }

    /// Makes a message of what was kept, and is empty again.
    pub(super) fn finish(&mut self, kind: MessageKind) -> StreamMessage {
        let (size, truncated) = (self.seen, self.is_truncated());
        let payload = if self.kept.len() >= HANDED_OVER_BYTES {
            Bytes::from(std::mem::take(&mut self.kept))
        } else {
            Bytes::copy_from_slice(&self.kept)
        };
        self.clear();
        StreamMessage {
            sequence: 0,
            kind,
            payload,
            size,
            truncated,
            complete: true,
            name: None,
            id: None,
            headers: Vec::new(),
            note: None,
        }
    }
}
