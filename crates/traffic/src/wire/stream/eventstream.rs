//! `application/vnd.amazon.eventstream`, what Bedrock and other AWS services stream: messages of a
//! prelude (two lengths, a checksum), headers, payload and a checksum over it all, in network
//! order. Format: AWS SDK documentation, "Amazon Event Stream Specification".

use std::sync::Arc;

use bytes::Bytes;
use flate2::Crc;

use super::capture::Capture;
use super::{MessageKind, Out, StreamNote};
use crate::wire::limits::{EVENT_STREAM_HEADER_BYTES_MAX, EVENT_STREAM_HEADERS_MAX};

const PRELUDE_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;
const UUID_BYTES: usize = 16;

/// A header of an event stream message.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Its name. Those that the format knows begin with a colon.
    pub name: String,
    /// Its value.
    pub value: HeaderValue,
}

/// The value of a header, of one of ten types.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderValue {
    /// Types 0 and 1.
    Bool(bool),
    /// Type 2.
    Byte(i8),
    /// Type 3.
    Short(i16),
    /// Type 4.
    Integer(i32),
    /// Type 5.
    Long(i64),
    /// Type 6.
    Bytes(Bytes),
    /// Type 7. What is not UTF-8 in it is replaced.
    Text(String),
    /// Type 8: milliseconds since 1970.
    Timestamp(i64),
    /// Type 9.
    Uuid([u8; UUID_BYTES]),
}

#[derive(Debug)]
pub(super) struct EventStream {
    part: Part,
    /// Bytes of the part that have not come.
    bytes_left: u64,
    payload_bytes: u64,
    checksum: Crc,
    /// The prelude, the headers or the checksum, as far as they came.
    buffer: Capture,
    headers: Vec<Header>,
    headers_note: Option<StreamNote>,
    payload: Capture,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Prelude,
    Headers,
    Payload,
    Checksum,
}

impl EventStream {
    pub(super) fn new(bytes_kept: usize) -> Self {
        Self {
            part: Part::Prelude,
            bytes_left: PRELUDE_BYTES as u64,
            payload_bytes: 0,
            checksum: Crc::new(),
            buffer: Capture::new(EVENT_STREAM_HEADER_BYTES_MAX),
            headers: Vec::new(),
            headers_note: None,
            payload: Capture::new(bytes_kept),
        }
    }

    /// False if nothing more can be understood: without good lengths the next message cannot be
    /// found.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Out<'_>) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = usize::try_from(self.bytes_left).unwrap_or(usize::MAX);
            let (piece, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = after;
            self.bytes_left -= piece.len() as u64;
            self.take(piece);
            while self.bytes_left == 0 {
                if let Err(note) = self.end_part(out) {
                    out.note(note);
                    return false;
                }
            }
        }
        true
    }

    pub(super) fn finish(mut self, out: &mut Out<'_>) {
        match self.part {
            Part::Prelude if self.buffer.is_empty() => {}
            Part::Prelude | Part::Headers => out.note(StreamNote::Cut),
            Part::Payload | Part::Checksum => self.give(false, None, out),
        }
    }

    fn take(&mut self, piece: &[u8]) {
        if self.part != Part::Checksum {
            self.checksum.update(piece);
        }
        match self.part {
            Part::Payload => self.payload.take(piece),
            Part::Prelude | Part::Headers | Part::Checksum => self.buffer.take(piece),
        }
    }

    fn end_part(&mut self, out: &mut Out<'_>) -> Result<(), StreamNote> {
        match self.part {
            Part::Prelude => {
                let (headers, payload) = read_prelude(self.buffer.kept())?;
                self.payload_bytes = payload;
                self.begin(Part::Headers, headers);
            }
            Part::Headers => {
                self.headers_note = if self.buffer.is_truncated() {
                    Some(StreamNote::EventStreamHeadersTooLong)
                } else {
                    read_headers(self.buffer.kept(), &mut self.headers).err()
                };
                self.begin(Part::Payload, self.payload_bytes);
            }
            Part::Payload => self.begin(Part::Checksum, CHECKSUM_BYTES as u64),
            Part::Checksum => {
                let good = self.buffer.kept() == self.checksum.sum().to_be_bytes();
                let note = (!good).then_some(StreamNote::EventStreamMessageChecksum);
                self.give(true, note, out);
                self.checksum.reset();
                self.begin(Part::Prelude, PRELUDE_BYTES as u64);
            }
        }
        Ok(())
    }

    fn begin(&mut self, part: Part, bytes: u64) {
        self.part = part;
        self.bytes_left = bytes;
        self.buffer.clear();
    }

    fn give(&mut self, complete: bool, note: Option<StreamNote>, out: &mut Out<'_>) {
        let mut message = self.payload.finish(MessageKind::EventStreamMessage);
        message.complete = complete;
        let headers_note = self.headers_note.take();
        message.note = note.or(headers_note);
        message.headers = std::mem::take(&mut self.headers);
        message.name = name_of(&message.headers);
        out.message(message);
    }
}

/// The lengths of headers and payload.
fn read_prelude(prelude: &[u8]) -> Result<(u64, u64), StreamNote> {
    let mut fields = Reader(prelude);
    let (Some(total), Some(headers), Some(checksum)) =
        (fields.array(), fields.array(), fields.array())
    else {
        return Err(StreamNote::EventStreamLengths);
    };
    let mut expected = Crc::new();
    expected.update(&total);
    expected.update(&headers);
    if expected.sum() != u32::from_be_bytes(checksum) {
        return Err(StreamNote::EventStreamPreludeChecksum);
    }
    let (total, headers) = (u32::from_be_bytes(total), u32::from_be_bytes(headers));
    let around = (PRELUDE_BYTES + CHECKSUM_BYTES) as u64;
    let inner = u64::from(total).checked_sub(around);
    let payload = inner.and_then(|inner| inner.checked_sub(u64::from(headers)));
    let payload = payload.ok_or(StreamNote::EventStreamLengths)?;
    Ok((u64::from(headers), payload))
}

/// Reads what can be read.
fn read_headers(bytes: &[u8], headers: &mut Vec<Header>) -> Result<(), StreamNote> {
    let mut rest = Reader(bytes);
    while !rest.0.is_empty() {
        if headers.len() == EVENT_STREAM_HEADERS_MAX {
            return Err(StreamNote::EventStreamHeadersTooLong);
        }
        let header = read_header(&mut rest).ok_or(StreamNote::EventStreamHeaders)?;
        headers.push(header);
    }
    Ok(())
}

fn read_header(rest: &mut Reader<'_>) -> Option<Header> {
    let [name_bytes] = rest.array()?;
    let name = rest.take(usize::from(name_bytes))?;
    let name = String::from_utf8_lossy(name).into_owned();
    let [kind] = rest.array()?;
    let value = match kind {
        0 => HeaderValue::Bool(true),
        1 => HeaderValue::Bool(false),
        2 => HeaderValue::Byte(i8::from_be_bytes(rest.array()?)),
        3 => HeaderValue::Short(i16::from_be_bytes(rest.array()?)),
        4 => HeaderValue::Integer(i32::from_be_bytes(rest.array()?)),
        5 => HeaderValue::Long(i64::from_be_bytes(rest.array()?)),
        6 => HeaderValue::Bytes(Bytes::copy_from_slice(rest.sized()?)),
        7 => HeaderValue::Text(String::from_utf8_lossy(rest.sized()?).into_owned()),
        8 => HeaderValue::Timestamp(i64::from_be_bytes(rest.array()?)),
        9 => HeaderValue::Uuid(rest.array()?),
        _ => return None,
    };
    Some(Header { name, value })
}

fn name_of(headers: &[Header]) -> Option<Arc<str>> {
    let named = |wanted: &str| {
        let header = headers.iter().find(|header| header.name == wanted)?;
        match &header.value {
            HeaderValue::Text(text) => Some(Arc::from(text.as_str())),
            _ => None,
        }
    };
    named(":event-type")
        .or_else(|| named(":exception-type"))
        .or_else(|| named(":error-code"))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Bytes after their length of two bytes.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(self.array()?);
        self.take(usize::from(length))
    }
}
