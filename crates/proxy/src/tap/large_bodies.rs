//! Large bodies that come again, on whichever connection: whoever keeps events keeps one memory for all of
//! them.
//!
//! A body is known again by what it begins with. The first time only that is remembered, the second time the body
//! is kept as it was told, and from then on one that is the same is told out of that memory, as far as it is the
//! same: every octet is compared.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::limits::{
    BODIES_COLLECTED_MAX, COPIED_BYTES_MAX, KNOWN_BODIES_BYTES_MAX, KNOWN_BODIES_MAX,
    KNOWN_BODY_BYTES_MAX,
};

/// Octets at either end of the first [`COPIED_BYTES_MAX`].
const START_PART_BYTES: usize = 32;

/// What a body begins with: enough to find it, not to tell it from all others.
type Start = [u8; 2 * START_PART_BYTES];

/// Bodies that came more than once. One for a configuration.
#[derive(Debug, Default)]
pub(crate) struct LargeBodies(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    known: HashMap<Start, Known>,
    /// All that are known, the oldest first.
    order: VecDeque<Start>,
    /// What the bodies take that are kept.
    bytes: usize,
    /// How many are being collected.
    collected: usize,
}

#[derive(Debug)]
enum Known {
    /// It came, and is to be collected when it comes again.
    Once,
    /// It is being collected.
    Collected,
    /// The pieces of it.
    Whole(Arc<[Bytes]>),
}

/// One body while it passes.
#[derive(Debug, Default)]
pub(super) enum Passing {
    /// It is told as it comes: it is not known, it is small, or nothing of it came yet.
    #[default]
    Plain,
    /// It came before, and is kept this time.
    Collected(Box<Collected>),
    /// It is the same as one that is kept, so far.
    Same(Box<Same>),
}

#[derive(Debug)]
pub(super) struct Collected {
    start: Start,
    pieces: Vec<Bytes>,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Same {
    start: Start,
    body: Arc<[Bytes]>,
    /// The piece that comes next, and how much of it has come.
    piece: usize,
    passed: usize,
}

impl Passing {
    /// Whether its further pieces are to be given to [`Passing::handle`].
    pub(super) fn is_known(&self) -> bool {
        !matches!(self, Self::Plain)
    }

    /// The first piece of a body came: is it one that came before?
    pub(super) fn begin(&mut self, first: &[u8], bodies: &LargeBodies) {
        if let Some(start) = start_of(first) {
            *self = bodies.0.lock().begin(start);
        }
    }

    /// A piece of the body came; tells it.
    pub(super) fn handle(
        &mut self,
        data: &Bytes,
        bodies: &LargeBodies,
        mut tell: impl FnMut(Bytes),
    ) {
        match self {
            Self::Plain => tell(plain(data.clone())),
            Self::Collected(collected) => {
                // A copy, so that it pins no buffer that is larger than it.
                let copy = Bytes::copy_from_slice(data);
                collected.bytes += copy.len();
                collected.pieces.push(copy.clone());
                tell(copy);
                if collected.bytes > KNOWN_BODY_BYTES_MAX {
                    self.end(false, bodies);
                }
            }
            Self::Same(same) => {
                let count = same.pass(data, &mut tell);
                if count < data.len() {
                    bodies.0.lock().forget(&same.start);
                    *self = Self::Plain;
                    tell(plain(data.slice(count..)));
                }
            }
        }
    }

    /// The body ended; if it is `whole`, it did so in order.
    pub(super) fn end(&mut self, whole: bool, bodies: &LargeBodies) {
        match std::mem::take(self) {
            Self::Plain => {}
            Self::Collected(collected) => {
                let Collected {
                    start,
                    pieces,
                    bytes,
                } = *collected;
                let pieces = whole.then_some(pieces);
                bodies.0.lock().end_collecting(start, pieces, bytes);
            }
            Self::Same(same) => {
                if whole && same.piece < same.body.len() {
                    bodies.0.lock().forget(&same.start);
                }
            }
        }
    }
}

impl Same {
    /// Tells what is the same out of the memory of the one that is kept; answers how much that is.
    fn pass(&mut self, data: &[u8], tell: &mut impl FnMut(Bytes)) -> usize {
        let mut count = 0;
        while count < data.len() {
            let Some(piece) = self.body.get(self.piece) else {
                break;
            };
            let kept = piece.get(self.passed..).unwrap_or_default();
            let length = kept.len().min(data.len() - count);
            if kept.get(..length) != data.get(count..count + length) {
                break;
            }
            tell(piece.slice(self.passed..self.passed + length));
            count += length;
            self.passed += length;
            if self.passed == piece.len() {
                (self.piece, self.passed) = (self.piece + 1, 0);
            }
        }
        count
    }
}

impl State {
    fn begin(&mut self, start: Start) -> Passing {
        match self.known.get_mut(&start) {
            None => {
                self.known.insert(start, Known::Once);
                self.order.push_back(start);
                if self.order.len() > KNOWN_BODIES_MAX {
                    self.drop_oldest();
                }
                Passing::Plain
            }
            Some(known @ Known::Once) if self.collected < BODIES_COLLECTED_MAX => {
                *known = Known::Collected;
                self.collected += 1;
                Passing::Collected(Box::new(Collected {
                    start,
                    pieces: Vec::new(),
                    bytes: 0,
                }))
            }
            Some(Known::Once | Known::Collected) => Passing::Plain,
            Some(Known::Whole(body)) => Passing::Same(Box::new(Same {
                start,
                body: Arc::clone(body),
                piece: 0,
                passed: 0,
            })),
        }
    }

    fn end_collecting(&mut self, start: Start, pieces: Option<Vec<Bytes>>, bytes: usize) {
        self.collected -= 1;
        // It may have been dropped since.
        let Some(known @ Known::Collected) = self.known.get_mut(&start) else {
            return;
        };
        *known = match pieces {
            Some(pieces) => {
                self.bytes += bytes;
                Known::Whole(pieces.into())
            }
            None => Known::Once,
        };
        while self.bytes > KNOWN_BODIES_BYTES_MAX {
            self.drop_oldest();
        }
    }

    /// Another body begins like this one: it is no more worth than any other.
    fn forget(&mut self, start: &Start) {
        if let Some(known @ Known::Whole(_)) = self.known.get_mut(start) {
            let before = std::mem::replace(known, Known::Once);
            self.bytes -= before.bytes();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.order.pop_front() else {
            return;
        };
        if let Some(known) = self.known.remove(&oldest) {
            self.bytes -= known.bytes();
        }
    }
}

impl Known {
    fn bytes(&self) -> usize {
        match self {
            Self::Once | Self::Collected => 0,
            Self::Whole(pieces) => pieces.iter().map(Bytes::len).sum(),
        }
    }
}

/// `None` if that is a small piece.
fn start_of(first: &[u8]) -> Option<Start> {
    let (first, _) = first.split_at_checked(COPIED_BYTES_MAX)?;
    let parts = (first.first_chunk()?, first.last_chunk()?);
    let (begin, end): (&[u8; START_PART_BYTES], &[u8; START_PART_BYTES]) = parts;
    let mut start = [0; 2 * START_PART_BYTES];
    let (left, right) = start.split_at_mut(START_PART_BYTES);
    left.copy_from_slice(begin);
    right.copy_from_slice(end);
    Some(start)
}

/// A piece as it is told of a body that is not known. A small one is copied so that it does not pin the
/// large buffer it is part of.
fn plain(data: Bytes) -> Bytes {
    match data.len() > COPIED_BYTES_MAX {
        true => data,
        false => Bytes::copy_from_slice(&data),
    }
}

#[cfg(test)]
mod tests;
