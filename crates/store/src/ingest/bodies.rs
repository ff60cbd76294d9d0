//! Stores contents once each, compressed where that helps.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, Statement};

use super::number_hash::NumberHash;
use super::recent::Recent;
use crate::limits::{
    COMPRESSED_BODY_BYTES_MIN, REMEMBERED_BODIES_MAX, REMEMBERED_HASHES_MAX, SMALL_BODY_BYTES_MAX,
    ZSTD_LEVEL,
};
use crate::{Message, StoreError};

/// Prepared statements and what is known to be stored.
pub(crate) struct Bodies<'c> {
    find: Statement<'c>,
    insert: Statement<'c>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    hashes: Recent<[u8; 32], i64>,
    /// Small bodies by a few of their bytes; what is found is compared whole.
    small: Recent<Sample, (Box<[u8]>, i64), NumberHash>,
    joined: Vec<u8>,
}

/// A content as it is stored.
pub(crate) enum Packed<'a> {
    Raw(&'a [u8]),
    Zstd(Vec<u8>),
}

impl<'c> Bodies<'c> {
    pub(crate) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            find: connection.prepare("SELECT id FROM bodies WHERE hash = ?1")?,
            insert: connection
                .prepare("INSERT INTO bodies (hash, codec, size, data) VALUES (?1, ?2, ?3, ?4)")?,
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL).ok(),
            hashes: Recent::new(REMEMBERED_HASHES_MAX),
            small: Recent::new(REMEMBERED_BODIES_MAX),
            joined: Vec::new(),
        })
    }

    /// Forgets what is stored: another process may have removed it, or a write was undone.
    pub(crate) fn forget(&mut self) {
        self.hashes.clear();
        self.small.clear();
    }

    /// Stores a content, unless it is there already; answers its row, or none if it is empty.
    pub(crate) fn store(&mut self, chunks: &[Bytes]) -> rusqlite::Result<Option<i64>> {
        match chunks {
            [] => Ok(None),
            [whole] => self.store_bytes(whole).map(Some),
            chunks => {
                let mut joined = std::mem::take(&mut self.joined);
                joined.clear();
                for chunk in chunks {
                    joined.extend_from_slice(chunk);
                }
                let row = self.store_bytes(&joined);
                // One large body should not hold its memory for good.
                joined.shrink_to(1024 * 1024);
                self.joined = joined;
                row.map(Some)
            }
        }
    }

    /// Stores a content given whole.
    pub(crate) fn store_bytes(&mut self, content: &[u8]) -> rusqlite::Result<i64> {
        if content.len() <= SMALL_BODY_BYTES_MAX {
            return self.store_small(content);
        }
        let hash = blake3::hash(content);
        let hash = hash.as_bytes();
        if let Some(row) = self.hashes.find(hash) {
            return Ok(*row);
        }
        let known: Option<i64> = self
            .find
            .query_row([&hash[..]], |row| row.get(0))
            .optional()?;
        let row = match known {
            Some(row) => row,
            None => self.insert(Some(&hash[..]), content)?,
        };
        self.hashes.insert(*hash, row);
        Ok(row)
    }

    fn insert(&mut self, hash: Option<&[u8]>, content: &[u8]) -> rusqlite::Result<i64> {
        let packed = self.pack(content);
        let size = i64::try_from(content.len()).unwrap_or(i64::MAX);
        self.insert
            .insert((hash, packed.codec(), size, packed.data()))
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

    fn store_small(&mut self, content: &[u8]) -> rusqlite::Result<i64> {
        let key = sample(content);
        if let Some((known, row)) = self.small.find(&key)
            && **known == *content
        {
            return Ok(*row);
        }
        let row = self.insert(None, content)?;
        self.small.insert(key, (content.into(), row));
        Ok(row)
    }
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

/// The content of a row of `bodies`.
pub(crate) fn read_body(connection: &Connection, row: i64) -> Result<Vec<u8>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT codec, size, data FROM bodies WHERE id = ?1")?;
    let mut rows = statement.query([row])?;
    match rows.next()? {
        Some(packed) => unpack(packed),
        None => Err(StoreError::Damaged {
            detail: format!("body {row} is missing"),
        }),
    }
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
            zstd::bulk::decompress(&data, size)
                .map_err(|error| damaged(format!("a body cannot be unpacked: {error}")))
        }
        other => Err(damaged(format!("a body is packed as {other:?}"))),
    }
}
