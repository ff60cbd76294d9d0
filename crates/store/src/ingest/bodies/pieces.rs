//! A content as a list of pieces of what other rows of `bodies` hold, and of its own.
//!
//! A row holds its *own bytes*: all of its content, or, where it has pieces, only what no earlier row
//! held. Pieces always are of own bytes, so a content is put together from rows that need no others.
//!
//! The format is a list of varints (see [`crate::detail`]): how many own bytes there are; how many
//! other rows are used, and for each the distance of its number from the one before, the first from
//! zero; then three for each piece. These are, zigzag-coded, by how much the place of its row among
//! those used differs from that of the piece before (place 0 is the row itself, and where the first
//! piece counts from), by how much its start differs from the end of the last piece of that row; and
//! its length.

use std::collections::HashMap;
use std::ops::Range;

use crate::detail::{micros as unzigzag, put_varint, take_varint};
use crate::limits::{PIECE_SOURCES_MAX, PIECED_BODY_BYTES_MAX};

/// Collects the pieces of a content that is not stored yet.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pieces: Vec<Collecting>,
    /// Bytes that no row holds yet.
    pub(super) own: Vec<u8>,
}

/// A piece of another row, or of the own bytes.
#[derive(Clone, Copy, Debug)]
struct Collecting {
    row: Option<i64>,
    start: usize,
    length: usize,
}

/// What a row with pieces is made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pieces {
    /// How many own bytes the row has.
    pub(crate) own_bytes: usize,
    /// Which of these stand where in the content.
    pub(crate) own: Vec<Piece>,
    /// Rows that others of its bytes are in, with these bytes.
    pub(crate) others: Vec<(i64, Vec<Piece>)>,
}

/// Some of the own bytes of a row, and where they stand in the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) from: Range<usize>,
    pub(crate) at: usize,
}

impl Collected {
    /// The next bytes are own bytes; answers where among these they stand.
    pub(super) fn add_own(&mut self, bytes: &[u8]) -> usize {
        let start = self.own.len();
        self.own.extend_from_slice(bytes);
        self.add(None, start, bytes.len());
        start
    }

    /// The next bytes are those that another row has there.
    pub(super) fn add_known(&mut self, row: i64, start: usize, length: usize) {
        self.add(Some(row), start, length);
    }

    fn add(&mut self, row: Option<i64>, start: usize, length: usize) {
        match self.pieces.last_mut() {
            Some(last) if last.row == row && last.start + last.length == start => {
                last.length += length;
            }
            _ => self.pieces.push(Collecting { row, start, length }),
        }
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.own.clear();
    }

    /// Writes the list; `None` if it names more rows than one content should be made of.
    pub(super) fn write(&self) -> Option<Vec<u8>> {
        let mut rows: Vec<i64> = self.pieces.iter().filter_map(|piece| piece.row).collect();
        rows.sort_unstable();
        rows.dedup();
        if rows.len() > PIECE_SOURCES_MAX {
            return None;
        }
        let mut out = Vec::with_capacity(16 + 2 * rows.len() + 6 * self.pieces.len());
        put_varint(&mut out, number(self.own.len()));
        put_varint(&mut out, number(rows.len()));
        let mut places = HashMap::with_capacity(rows.len());
        let mut before = 0;
        for (index, row) in rows.iter().enumerate() {
            put_varint(&mut out, u64::try_from(row - before).ok()?);
            before = *row;
            places.insert(*row, index + 1);
        }
        let mut ends = vec![0; rows.len() + 1];
        let mut last = 0;
        for piece in &self.pieces {
            let place = match piece.row {
                Some(row) => *places.get(&row)?,
                None => 0,
            };
            let end = ends.get_mut(place)?;
            put_varint(&mut out, zigzag(difference(place, last)?));
            put_varint(&mut out, zigzag(difference(piece.start, *end)?));
            put_varint(&mut out, number(piece.length));
            *end = piece.start + piece.length;
            last = place;
        }
        Some(out)
    }
}

impl Pieces {
    /// Reads a list for a content of this length; `None` if it is none.
    pub(crate) fn read(mut bytes: &[u8], content_bytes: usize) -> Option<Self> {
        if content_bytes > PIECED_BODY_BYTES_MAX {
            return None;
        }
        let mut number = || usize::try_from(take_varint(&mut bytes)?).ok();
        let own_bytes = number()?;
        let count = number()?;
        if own_bytes > content_bytes || count > PIECE_SOURCES_MAX {
            return None;
        }
        let mut used = vec![(0, Vec::new())];
        let mut row = 0_i64;
        for _ in 0..count {
            row = row.checked_add(i64::try_from(number()?).ok()?)?;
            used.push((row, Vec::new()));
        }
        let mut ends = vec![0; used.len()];
        let (mut place, mut at) = (0, 0);
        while at < content_bytes {
            place = moved(place, number()?)?;
            let end = ends.get_mut(place)?;
            let start = moved(*end, number()?)?;
            let length = number()?;
            *end = start.checked_add(length)?;
            let (_, pieces) = used.get_mut(place)?;
            pieces.push(Piece {
                from: start..*end,
                at,
            });
            // Each takes some, so that the list has an end.
            at = at.checked_add(length).filter(|_| length > 0)?;
        }
        let mut used = used.into_iter();
        let (_, own) = used.next()?;
        (at == content_bytes).then(|| Self {
            own_bytes,
            own,
            others: used.collect(),
        })
    }
}

/// Copies what stands in the own bytes of a row to where it stands in the content; `None` if it is
/// not there.
pub(crate) fn copy(pieces: &[Piece], own: &[u8], content: &mut [u8]) -> Option<()> {
    for piece in pieces {
        let from = own.get(piece.from.clone())?;
        content
            .get_mut(piece.at..)?
            .get_mut(..from.len())?
            .copy_from_slice(from);
    }
    Some(())
}

fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn difference(new: usize, old: usize) -> Option<i64> {
    i64::try_from(new)
        .ok()?
        .checked_sub(i64::try_from(old).ok()?)
}

fn zigzag(number: i64) -> u64 {
    u64::from_ne_bytes(((number << 1) ^ (number >> 63)).to_ne_bytes())
}

/// A place that lies this far, zigzag-coded, from another.
fn moved(from: usize, by: usize) -> Option<usize> {
    let by = unzigzag(u64::try_from(by).ok()?);
    from.checked_add_signed(isize::try_from(by).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_what_it_writes(
            parts in prop::collection::vec((0_i64..5, 0_usize..1900, 1_usize..100), 1..60),
        ) {
            // What each row holds, the one in the making excepted.
            let held = |row: i64| -> Vec<u8> {
                (0..2000_i64).map(|at| ((at * (row + 3)) >> 3).to_le_bytes()[0]).collect()
            };
            let mut collected = Collected::default();
            let mut expected = Vec::new();
            for (row, start, length) in parts {
                let bytes = &held(row)[start..start + length];
                expected.extend_from_slice(bytes);
                if row == 0 {
                    collected.add_own(bytes);
                } else {
                    collected.add_known(row * 1000, start, length);
                }
            }
            let list = collected.write().unwrap();
            let pieces = Pieces::read(&list, expected.len()).unwrap();
            prop_assert_eq!(pieces.own_bytes, collected.own.len());
            let mut content = vec![0; expected.len()];
            copy(&pieces.own, &collected.own, &mut content).unwrap();
            for (row, pieces) in &pieces.others {
                copy(pieces, &held(row / 1000), &mut content).unwrap();
            }
            prop_assert_eq!(content, expected);
        }

        #[test]
        fn takes_any_list(bytes in any::<Vec<u8>>(), length in 0_usize..100_000) {
            if let Some(pieces) = Pieces::read(&bytes, length) {
                let mut content = vec![0; length];
                for (_, pieces) in &pieces.others {
                    let _missing = copy(pieces, &bytes, &mut content);
                }
            }
        }
    }

    #[test]
    fn a_content_of_too_many_rows_is_not_written_so() {
        let mut collected = Collected::default();
        for row in 0..=PIECE_SOURCES_MAX {
            assert!(collected.write().is_some(), "{row}");
            collected.add_known(row as i64 + 1, 0, 1);
        }
        assert!(collected.write().is_none());
    }
}
