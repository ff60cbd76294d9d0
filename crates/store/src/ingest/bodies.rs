//! Stores contents once each, compressed where that helps. Of a request that repeats what others
//! said before it, as those of agents do, only what is new is stored.

mod chunks;
pub(crate) mod pieces;

use std::ops::Range;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, Statement};

use self::chunks::chunks;
use self::pieces::{Collected, Pieces, copy};
use super::number_hash::NumberHash;
use super::recent::Recent;
use crate::limits::{
    COMPRESSED_BODY_BYTES_MIN, PIECED_BODY_BYTES_MAX, PIECED_BODY_BYTES_MIN, REMEMBERED_BODIES_MAX,
    REMEMBERED_CHUNKS_MAX, REMEMBERED_HASHES_MAX, REMEMBERED_LARGE_BODIES_MAX,
    REMEMBERED_LARGE_BODY_BYTES_MAX, REMEMBERED_LARGE_BODY_PIECES_MAX, SMALL_BODY_BYTES_MAX,
    ZSTD_LEVEL,
};
use crate::{Message, StoreError};

/// Prepared statements and what is known to be stored.
pub(crate) struct Bodies<'c> {
    connection: &'c Connection,
    find: Statement<'c>,
    insert: Statement<'c>,
    insert_pieces: Statement<'c>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    known: Remembered,
    // Memory that is used again.
    joined: Vec<u8>,
    collected: Collected,
    cut: Vec<Cut>,
}

/// What is known to be stored.
#[derive(Debug)]
pub(crate) struct Remembered {
    hashes: Recent<[u8; 32], i64>,
    /// Small bodies by a few of their bytes; what is found is compared whole.
    small: Recent<Sample, (Box<[u8]>, i64), NumberHash>,
    /// Of these the ones that came again, by where they lie. Holding them here keeps the address from being
    /// used again.
    same: Recent<usize, (Bytes, i64), NumberHash>,
    /// The same of large bodies, by where their first piece lies.
    same_large: Recent<usize, (Box<[Bytes]>, i64), NumberHash>,
    /// Where chunks of requests stand: the row, and where among its own bytes.
    chunks: Recent<[u8; 32], (i64, usize)>,
    /// How often bodies had been removed when this was known.
    removals: i64,
}

impl Default for Remembered {
    fn default() -> Self {
        Self {
            hashes: Recent::new(REMEMBERED_HASHES_MAX),
            small: Recent::new(REMEMBERED_BODIES_MAX),
            same: Recent::new(REMEMBERED_BODIES_MAX),
            same_large: Recent::new(REMEMBERED_LARGE_BODIES_MAX),
            chunks: Recent::new(REMEMBERED_CHUNKS_MAX),
            removals: 0,
        }
    }
}

/// A chunk of the content that is being stored.
#[derive(Debug)]
struct Cut {
    hash: [u8; 32],
    /// Where in the content it stands.
    at: usize,
    /// Where among the own bytes, if it is one of them.
    own: Option<usize>,
}

/// A content as it is stored.
pub(crate) enum Packed<'a> {
    Raw(&'a [u8]),
    Zstd(Vec<u8>),
}

impl<'c> Bodies<'c> {
    /// Prepares the statements; `known` is what was known when others of this file ended.
    pub(crate) fn new(connection: &'c Connection, known: Remembered) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            find: connection.prepare("SELECT id FROM bodies WHERE hash = ?1")?,
            insert: connection
                .prepare("INSERT INTO bodies (hash, codec, size, data) VALUES (?1, ?2, ?3, ?4)")?,
            insert_pieces: connection.prepare(
                "INSERT INTO bodies (hash, codec, size, data, pieces) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL).ok(),
            known,
            joined: Vec::new(),
            collected: Collected::default(),
            cut: Vec::new(),
        })
    }

    /// What is known to be stored, for others of this file.
    pub(crate) fn into_remembered(self) -> Remembered {
        self.known
    }

    /// Forgets what is stored: a write was undone.
    pub(crate) fn forget(&mut self) {
        let Remembered {
            hashes,
            small,
            same,
            same_large,
            chunks,
            ..
        } = &mut self.known;
        hashes.clear();
        small.clear();
        same.clear();
        same_large.clear();
        chunks.clear();
    }

    /// Forgets what is stored if another connection removed bodies or connections, and answers
    /// whether it did. To be called in a transaction that writes, before anything is stored in it.
    pub(crate) fn heed_removals(&mut self) -> rusqlite::Result<bool> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT removals FROM upkeep")?;
        let removals = statement.query_row((), |row| row.get(0))?;
        if removals == self.known.removals {
            return Ok(false);
        }
        self.forget();
        self.known.removals = removals;
        Ok(true)
    }

    /// Of a body that others are made of, and that is no content any more, keeps these parts of its
    /// own bytes; answers whether anything was to be done.
    pub(crate) fn thin(&mut self, row: i64, parts: &[Range<usize>]) -> Result<bool, StoreError> {
        let is_thin = "SELECT hash IS NULL AND pieces IS NULL FROM bodies WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(is_thin)?;
        if statement.query_row([row], |row| row.get(0))? {
            return Ok(false);
        }
        let own = read_own(self.connection, row)?.own;
        let mut thinned = vec![0; own.len()];
        for part in parts {
            let places = thinned.get_mut(part.clone()).zip(own.get(part.clone()));
            if let Some((to, from)) = places {
                to.copy_from_slice(from);
            }
        }
        let packed = self.pack(&thinned);
        let size = i64::try_from(thinned.len()).unwrap_or(i64::MAX);
        self.connection
            .prepare_cached(
                "UPDATE bodies SET hash = NULL, pieces = NULL, codec = ?2, size = ?3, data = ?4
                 WHERE id = ?1",
            )?
            .execute((row, packed.codec(), size, packed.data()))?;
        Ok(true)
    }

    /// Stores the content of a message, unless it is there already; answers its row, or none if it
    /// is empty.
    pub(crate) fn store(
        &mut self,
        message: Message,
        parts: &[Bytes],
    ) -> rusqlite::Result<Option<i64>> {
        match parts {
            [] => Ok(None),
            [whole] if whole.len() <= SMALL_BODY_BYTES_MAX => self.store_whole(whole).map(Some),
            parts => self.store_large(message, parts).map(Some),
        }
    }

    /// Stores a content that is large or came in pieces. One that came again is mostly known by where it lies,
    /// as in [`Self::store_whole`].
    fn store_large(&mut self, message: Message, parts: &[Bytes]) -> rusqlite::Result<i64> {
        let address = parts.first().map_or(0, |part| part.as_ptr().addr());
        if let Some((known, row)) = self.known.same_large.find(&address)
            && lies_in(parts).eq(lies_in(known))
        {
            return Ok(*row);
        }
        let (row, is_new) = match parts {
            [whole] => self.store_content(message, whole)?,
            parts => {
                let mut joined = std::mem::take(&mut self.joined);
                joined.clear();
                for part in parts {
                    joined.extend_from_slice(part);
                }
                let stored = self.store_content(message, &joined);
                // One large body should not hold its memory for good.
                joined.shrink_to(1024 * 1024);
                self.joined = joined;
                stored?
            }
        };
        let size: usize = parts.iter().map(Bytes::len).sum();
        let is_bounded = size <= REMEMBERED_LARGE_BODY_BYTES_MAX
            && parts.len() <= REMEMBERED_LARGE_BODY_PIECES_MAX;
        if !is_new && is_bounded {
            let known = (parts.into(), row);
            self.known.same_large.insert(address, known);
        }
        Ok(row)
    }

    /// Stores a content given whole.
    pub(crate) fn store_bytes(
        &mut self,
        message: Message,
        content: &[u8],
    ) -> rusqlite::Result<i64> {
        self.store_content(message, content).map(|(row, _)| row)
    }

    /// Answers the row, and whether it was not known to be there before.
    fn store_content(&mut self, message: Message, content: &[u8]) -> rusqlite::Result<(i64, bool)> {
        if content.len() <= SMALL_BODY_BYTES_MAX {
            return self.store_small(content);
        }
        let hash = blake3::hash(content);
        let hash = hash.as_bytes();
        if let Some(row) = self.known.hashes.find(hash) {
            return Ok((*row, false));
        }
        let known: Option<i64> = self
            .find
            .query_row([&hash[..]], |row| row.get(0))
            .optional()?;
        let row = match known {
            Some(row) => row,
            None if message == Message::Request && may_repeat(content) => {
                self.insert_new_of(hash, content)?
            }
            None => self.insert(Some(&hash[..]), content.len(), content, None)?,
        };
        self.known.hashes.insert(*hash, row);
        Ok((row, true))
    }

    /// Stores a row: its own bytes, and of what the content is made if they are not all of it.
    fn insert(
        &mut self,
        hash: Option<&[u8]>,
        size: usize,
        own: &[u8],
        pieces: Option<&[u8]>,
    ) -> rusqlite::Result<i64> {
        let packed = self.pack(own);
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let (codec, data) = (packed.codec(), packed.data());
        match pieces {
            None => self.insert.insert((hash, codec, size, data)),
            Some(pieces) => self.insert_pieces.insert((hash, codec, size, data, pieces)),
        }
    }

    /// Stores of a content what no row holds that is remembered, if that is much less.
    fn insert_new_of(&mut self, hash: &[u8; 32], content: &[u8]) -> rusqlite::Result<i64> {
        let mut collected = std::mem::take(&mut self.collected);
        collected.clear();
        self.cut.clear();
        let mut at = 0;
        for chunk in chunks(content) {
            let hash = *blake3::hash(chunk).as_bytes();
            let own = match self.known.chunks.find(&hash) {
                Some((row, start)) => {
                    collected.add_known(*row, *start, chunk.len());
                    None
                }
                None => Some(collected.add_own(chunk)),
            };
            self.cut.push(Cut { hash, at, own });
            at += chunk.len();
        }
        // Where little is known already, whole contents are simpler.
        let worth_it = collected.own.len() < content.len() / 4 * 3;
        let list = worth_it.then(|| collected.write()).flatten();
        let own = match list {
            Some(_) => &*collected.own,
            None => content,
        };
        let row = self.insert(Some(hash), content.len(), own, list.as_deref())?;
        for Cut { hash, at, own } in self.cut.drain(..) {
            match (&list, own) {
                (Some(_), Some(start)) => self.known.chunks.insert(hash, (row, start)),
                (Some(_), None) => {}
                (None, _) => self.known.chunks.insert(hash, (row, at)),
            }
        }
        // One large body should not hold its memory for good.
        collected.own.shrink_to(1024 * 1024);
        self.collected = collected;
        Ok(row)
    }

    /// Compresses a content where that helps.
    pub(crate) fn pack<'a>(&mut self, content: &'a [u8]) -> Packed<'a> {
        if content.len() < COMPRESSED_BODY_BYTES_MIN {
            return Packed::Raw(content);
        }
        let packed = self
            .compressor
            .as_mut()
            .and_then(|compressor| compressor.compress(content).ok());
        match packed {
            // Below a twentieth saved it is not worth unpacking it each time.
            Some(packed) if packed.len() < content.len() / 20 * 19 => Packed::Zstd(packed),
            _ => Packed::Raw(content),
        }
    }

    /// Stores a small content that came in one piece. Who reports what is said again keeps one memory for it,
    /// so it is mostly known by where it lies.
    fn store_whole(&mut self, content: &Bytes) -> rusqlite::Result<i64> {
        let address = content.as_ptr().addr();
        if let Some((known, row)) = self.known.same.find(&address)
            && known.len() == content.len()
        {
            return Ok(*row);
        }
        let (row, is_new) = self.store_small(content)?;
        if !is_new {
            self.known.same.insert(address, (content.clone(), row));
        }
        Ok(row)
    }

    /// Answers the row, and whether it was not there before.
    fn store_small(&mut self, content: &[u8]) -> rusqlite::Result<(i64, bool)> {
        let key = sample(content);
        if let Some((known, row)) = self.known.small.find(&key)
            && **known == *content
        {
            return Ok((*row, false));
        }
        let row = self.insert(None, content.len(), content, None)?;
        self.known.small.insert(key, (content.into(), row));
        Ok((row, true))
    }
}

/// Where the pieces of a content lie, those together that follow each other in memory: two contents that are
/// both held there are the same.
fn lies_in(parts: &[Bytes]) -> impl Iterator<Item = (usize, usize)> {
    let mut parts = parts.iter().map(|part| (part.as_ptr().addr(), part.len()));
    let mut next = parts.next();
    std::iter::from_fn(move || {
        let (begin, mut length) = next.take()?;
        for (address, more) in parts.by_ref() {
            if address != begin + length {
                next = Some((address, more));
                break;
            }
            length += more;
        }
        Some((begin, length))
    })
}

/// The length and a few bytes of a content: enough to find it, not to tell it from all others.
type Sample = [u64; 4];

fn sample(content: &[u8]) -> Sample {
    let length = content.len();
    let part = |start: usize| {
        let part = content.get(start..start + 8);
        let bytes = part.and_then(|part| part.first_chunk::<8>());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let number = u64::try_from(length).unwrap_or(u64::MAX);
    [
        number,
        part(16),
        part(length / 2),
        part(length.saturating_sub(16)),
    ]
}

impl Packed<'_> {
    pub(crate) fn codec(&self) -> &'static str {
        match self {
            Self::Raw(_) => "raw",
            Self::Zstd(_) => "zstd",
        }
    }

    pub(crate) fn data(&self) -> &[u8] {
        match self {
            Self::Raw(data) => data,
            Self::Zstd(data) => data,
        }
    }
}

/// Whether a request may repeat what others said: it is a text of some length.
fn may_repeat(content: &[u8]) -> bool {
    let start = content.get(..512).unwrap_or(content);
    (PIECED_BODY_BYTES_MIN..=PIECED_BODY_BYTES_MAX).contains(&content.len())
        && start.iter().all(|byte| *byte >= b'\t')
}

/// The content of a row of `bodies`.
pub(crate) fn read_body(connection: &Connection, row: i64) -> Result<Vec<u8>, StoreError> {
    let Held { own, pieces, size } = read_own(connection, row)?;
    let Some(list) = pieces else {
        return Ok(own);
    };
    let damaged = || StoreError::Damaged {
        detail: format!("body {row} cannot be put together"),
    };
    let size = usize::try_from(size).map_err(|_negative| damaged())?;
    let pieces = Pieces::read(&list, size).ok_or_else(damaged)?;
    let mut content = vec![0; size];
    copy(&pieces.own, &own, &mut content).ok_or_else(damaged)?;
    for (other, pieces) in &pieces.others {
        let held = read_own(connection, *other)?;
        copy(pieces, &held.own, &mut content).ok_or_else(damaged)?;
    }
    Ok(content)
}

/// What a row of `bodies` holds.
struct Held {
    own: Vec<u8>,
    pieces: Option<Vec<u8>>,
    /// Of the content.
    size: i64,
}

fn read_own(connection: &Connection, row: i64) -> Result<Held, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT codec, size, data, pieces FROM bodies WHERE id = ?1")?;
    let mut rows = statement.query([row])?;
    let Some(packed) = rows.next()? else {
        return Err(StoreError::Damaged {
            detail: format!("body {row} is missing"),
        });
    };
    Ok(Held {
        own: unpack(packed)?,
        pieces: packed.get(3)?,
        size: packed.get(1)?,
    })
}

/// What was moved of a body while its flow was open, put together.
pub(crate) fn read_parts(
    connection: &Connection,
    flow: i64,
    message: Message,
) -> Result<Vec<u8>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT codec, size, data FROM body_parts WHERE flow = ?1 AND message = ?2 ORDER BY id",
    )?;
    let mut parts = statement.query((flow, message.as_str()))?;
    let mut content = Vec::new();
    while let Some(part) = parts.next()? {
        content.extend_from_slice(&unpack(part)?);
    }
    Ok(content)
}

/// Unpacks codec, size and data.
fn unpack(packed: &Row<'_>) -> Result<Vec<u8>, StoreError> {
    let codec: String = packed.get(0)?;
    let size: i64 = packed.get(1)?;
    let data: Vec<u8> = packed.get(2)?;
    let damaged = |detail: String| StoreError::Damaged { detail };
    match &*codec {
        "raw" => Ok(data),
        "zstd" => {
            let size = usize::try_from(size)
                .map_err(|error| damaged(format!("a body has the size {size}: {error}")))?;
            // Own bytes may be few of a large content.
            let told = zstd::zstd_safe::get_frame_content_size(&data)
                .ok()
                .flatten();
            let told = told.and_then(|told| usize::try_from(told).ok());
            zstd::bulk::decompress(&data, told.unwrap_or(size).min(size))
                .map_err(|error| damaged(format!("a body cannot be unpacked: {error}")))
        }
        other => Err(damaged(format!("a body is packed as {other:?}"))),
    }
}

#[cfg(test)]
mod tests;
