//! Copies of what is small, for the watcher. What it is told of lies in buffers that are read into again, or
//! that are much larger than the piece.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

use crate::limits::{COPIED_BYTES_MAX, COPIES_BYTES};

thread_local! {
    /// Where the next copies of this thread go.
    static ROOM: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Copies bytes behind those that were copied before: one allocation for the pieces of many flows, in the
/// order in which the watcher will read them.
pub(crate) fn copied(bytes: &[u8]) -> Bytes {
    if bytes.len() > COPIED_BYTES_MAX {
        return Bytes::copy_from_slice(bytes);
    }
    ROOM.with_borrow_mut(|room| {
        // It is empty: what was written was split off.
        if room.capacity() < bytes.len() {
            *room = BytesMut::with_capacity(COPIES_BYTES);
        }
        room.extend_from_slice(bytes);
        room.split().freeze()
    })
}

/// The first bytes of a piece, so that the piece does not pin a buffer that is much larger.
pub(crate) fn kept(piece: &Bytes, length: usize) -> Bytes {
    let length = length.min(piece.len());
    if length > COPIED_BYTES_MAX {
        return piece.slice(..length);
    }
    copied(piece.get(..length).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stay_as_they_were_copied() {
        let lengths = [
            0,
            1,
            COPIED_BYTES_MAX,
            COPIED_BYTES_MAX + 1,
            COPIES_BYTES,
            300,
        ];
        let piece = |number: usize, length: usize| -> Vec<u8> {
            (0..length)
                .map(|at| (number * 31 + at * 7).to_le_bytes()[0])
                .collect()
        };
        let copies: Vec<(Vec<u8>, Bytes)> = (0..1000)
            .zip(lengths.into_iter().cycle())
            .map(|(number, length)| {
                let bytes = piece(number, length);
                let copy = copied(&bytes);
                (bytes, copy)
            })
            .collect();
        for (bytes, copy) in copies {
            assert_eq!(copy, bytes);
        }
    }

    #[test]
    fn small_pieces_lie_one_behind_the_other() {
        let first = copied(b"one");
        let second = copied(b"two");
        assert_eq!(second.as_ptr() as usize, first.as_ptr() as usize + 3);
    }

    #[test]
    fn no_more_is_kept_than_there_is() {
        let large = Bytes::from(vec![7; 2 * COPIED_BYTES_MAX]);
        for (length, kept_length) in [(0, 0), (3, 3), (COPIED_BYTES_MAX + 1, COPIED_BYTES_MAX + 1)]
        {
            assert_eq!(kept(&large, length).len(), kept_length);
        }
        assert_eq!(kept(&Bytes::from_static(b"abc"), 10), "abc");
    }
}
