//! Files that flows are exported to and imported from, one flow after the other: memory holds one.
//!
//! | format | what it keeps |
//! |---|---|
//! | JSONL | everything: read back, each record is equal |
//! | HAR 1.2 | requests and responses, decoded, and messages of WebSockets; no tunnels |
//! | mitmproxy | requests and responses as they passed, and messages of WebSockets |
//! | Parquet | what a list shows, heads and bodies; written only, and with a feature of this crate |
//!
//! Files that are read are hostile: what is wrong with one flow leaves out that flow, what is wrong with
//! the file ends reading where it is wrong, and what was read before stays.

mod draft;
mod har;
mod jsonl;
mod mitmproxy;
mod opcode;
#[cfg(feature = "parquet")]
mod parquet;
mod source;
mod tnetstring;

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use traffic::rules::redact::Redaction;

#[cfg(feature = "parquet")]
pub use self::parquet::ParquetWriter;
use self::source::Source;
use crate::{FlowRecord, RunRecord, StoreError};

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// One JSON object in a line per flow, with everything that is known of it.
    Jsonl,
    /// HTTP Archive 1.2.
    Har,
    /// The flow file of mitmproxy.
    Mitmproxy,
}

/// A file that flows are written to.
#[derive(Debug)]
pub struct FlowWriter<W> {
    format: Format,
    out: W,
    written: u64,
}

/// What flows are read for.
#[derive(Debug)]
pub struct Import {
    /// The run that they become part of. Those of JSONL keep their own.
    pub run: Arc<RunRecord>,
    /// Which credentials are masked.
    pub redaction: Redaction,
    last_seq: u64,
}

/// What is found in a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A flow.
    Flow(Box<FlowRecord>),
    /// Something that is no flow that can be stored.
    LeftOut {
        /// Where it stands.
        place: Place,
        /// What is the matter with it: "it has no URL".
        what: String,
    },
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line, from 1 on.
    Line(u64),
    /// A flow, from 1 on.
    Entry(u64),
    /// A byte, from 0 on.
    Byte(u64),
}

/// Why a file was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is none of the formats.
    #[error("it is neither a HAR, nor JSON lines of oriel, nor a flow file of mitmproxy")]
    Unknown,
    /// It is damaged from here on.
    #[error("it is damaged at {place}: {what}")]
    Damaged {
        /// Where.
        place: Place,
        /// What is wrong.
        what: String,
    },
    /// A flow has more bytes than are taken.
    #[error("at {place} is a flow with more than {} MiB", crate::limits::IMPORTED_FLOW_BYTES_MAX >> 20)]
    TooLarge {
        /// Where.
        place: Place,
    },
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// What was read cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes what is found; an error ends reading.
type Each<'e> = dyn FnMut(Found) -> Result<(), ReadError> + 'e;

impl<W: Write> FlowWriter<W> {
    /// Begins a file. It is written in small pieces: give it a buffer.
    pub fn begin(format: Format, mut out: W) -> io::Result<Self> {
        if format == Format::Har {
            har::begin(&mut out)?;
        }
        Ok(Self {
            format,
            out,
            written: 0,
        })
    }

    /// Writes a flow; false if the format has no place for it.
    pub fn write(&mut self, record: &FlowRecord) -> io::Result<bool> {
        let is_written = match self.format {
            Format::Jsonl => jsonl::write(record, &mut self.out).map(|()| true),
            Format::Har => har::write(record, self.written == 0, &mut self.out),
            Format::Mitmproxy => mitmproxy::write(record, &mut self.out).map(|()| true),
        }?;
        self.written += u64::from(is_written);
        Ok(is_written)
    }

    /// Ends the file; answers how many flows are in it.
    pub fn finish(mut self) -> io::Result<u64> {
        if self.format == Format::Har {
            har::finish(&mut self.out)?;
        }
        self.out.flush()?;
        Ok(self.written)
    }
}

impl Import {
    /// Reads for a run that has no flows yet.
    #[must_use]
    pub fn new(run: Arc<RunRecord>, redaction: Redaction) -> Self {
        Self {
            run,
            redaction,
            last_seq: 0,
        }
    }

    /// Reads a file of any of the formats, in order. `each` is given what is found; what it was given
    /// before an error is good.
    pub fn read(
        &mut self,
        file: impl Read,
        mut each: impl FnMut(Found) -> Result<(), ReadError>,
    ) -> Result<Format, ReadError> {
        let mut source = Source::new(file);
        let format = detect(&mut source)?;
        match format {
            Format::Jsonl => jsonl::read(&mut source, self, &mut each),
            Format::Har => har::read(&mut source, self, &mut each),
            Format::Mitmproxy => mitmproxy::read(&mut source, self, &mut each),
        }?;
        Ok(format)
    }

    fn next_seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }

    /// The random bits of the UUID of a flow: those of the run make them unique.
    fn random_bits(&self, seq: u64) -> u64 {
        let hash = blake3::hash(format!("{} {seq}", self.run.uuid).as_bytes());
        let first = hash.as_bytes().first_chunk::<8>();
        first.map_or(seq, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// Tells by its beginning what a file is.
fn detect<R: Read>(source: &mut Source<R>) -> Result<Format, ReadError> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    if source.peek()?.starts_with(MARK) {
        source.skip(MARK.len());
    }
    let start = source.peek()?.trim_ascii_start();
    if start.starts_with(jsonl::BEGINNING.as_bytes()) {
        return Ok(Format::Jsonl);
    }
    match start.first() {
        Some(b'{') => Ok(Format::Har),
        Some(b'0'..=b'9') => Ok(Format::Mitmproxy),
        _ => Err(ReadError::Unknown),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Entry(entry) => write!(f, "flow {entry}"),
            Self::Byte(byte) => write!(f, "byte {byte}"),
        }
    }
}
