//! Undoes content codings (RFC 9110 section 8.4.1) of bodies that were captured: the only place
//! that decompresses.
//!
//! Bodies pass and are stored as they came; this is for reading them. A body may be hostile (a
//! few bytes that grow to gigabytes), cut short, or not what its header says. The answer is always
//! what could be read, and a note on what could not.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use flate2::{Decompress, FlushDecompress, Status};

/// Codings that one body may have. Nobody sends more than two.
const CODINGS_MAX: usize = 4;
/// Largest window that zstd may ask memory for, as a power of two: 8 MiB, what RFC 9659 demands
/// of decoders and allows encoders.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const CHUNK_BYTES: usize = 16 * 1024;

/// What could be read of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The bytes; borrowed where nothing had to be decoded.
    pub bytes: Cow<'a, [u8]>,
    /// True if that is all there is.
    pub complete: bool,
    /// What is worth knowing about it.
    pub note: Option<Note>,
}

/// What is worth knowing about a body that was decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The body ends before its coding does.
    Truncated {
        /// The coding.
        coding: &'static str,
    },
    /// The body is not in the coding that its header names, or not from some byte on.
    Corrupt {
        /// The coding.
        coding: &'static str,
    },
    /// There is more than was asked for.
    TooLarge {
        /// The bytes asked for.
        bytes_max: usize,
    },
    /// Bytes follow the end of the coding. They were left out.
    BytesAfterEnd {
        /// The coding.
        coding: &'static str,
    },
    /// A coding that is not known here. The bytes are still in it.
    Unknown {
        /// Its name in the header.
        coding: String,
    },
    /// More codings than any honest body has. The bytes are still in them.
    TooManyCodings,
}

/// Undoes what a Content-Encoding field lists, the last coding first, and gives at most
/// `bytes_max` bytes. No step gives more than that either.
#[must_use]
pub fn decode<'a>(encodings: &str, body: &'a [u8], bytes_max: usize) -> Decoded<'a> {
    let names: Vec<&str> = encodings
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"))
        .collect();
    let mut decoded = Decoded {
        bytes: Cow::Borrowed(body),
        complete: true,
        note: None,
    };
    if names.len() > CODINGS_MAX {
        decoded.add_note(Note::TooManyCodings);
        decoded.cap(bytes_max);
        return decoded;
    }
    for name in names.iter().rev() {
        let Some(coding) = Coding::named(name) else {
            let coding = (*name).to_owned();
            decoded.complete = false;
            decoded.add_note(Note::Unknown { coding });
            break;
        };
        // A reply to HEAD, and a 304, name the coding of a body that is not there.
        if decoded.bytes.is_empty() {
            break;
        }
        let (bytes, end) = coding.decode(&decoded.bytes, bytes_max);
        decoded.bytes = Cow::Owned(bytes);
        decoded.take_end(coding, end, bytes_max);
    }
    decoded.cap(bytes_max);
    decoded
}

impl Decoded<'_> {
    /// Keeps the first note: the ones after it follow from it.
    fn add_note(&mut self, note: Note) {
        self.note.get_or_insert(note);
    }

    fn take_end(&mut self, coding: Coding, end: End, bytes_max: usize) {
        let coding = coding.as_str();
        let note = match end {
            End::Whole => return,
            End::Followed => Note::BytesAfterEnd { coding },
            End::Truncated => Note::Truncated { coding },
            End::Corrupt => Note::Corrupt { coding },
            End::TooLarge => Note::TooLarge { bytes_max },
        };
        self.complete &= matches!(end, End::Followed);
        self.add_note(note);
    }

    fn cap(&mut self, bytes_max: usize) {
        if self.bytes.len() <= bytes_max {
            return;
        }
        match &mut self.bytes {
            Cow::Borrowed(bytes) => *bytes = bytes.get(..bytes_max).unwrap_or(bytes),
            Cow::Owned(bytes) => bytes.truncate(bytes_max),
        }
        self.complete = false;
        self.add_note(Note::TooLarge { bytes_max });
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { coding } => write!(f, "the {coding} body is cut short"),
            Self::Corrupt { coding } => write!(f, "the body is not valid {coding}"),
            Self::TooLarge { bytes_max } => write!(f, "only the first {bytes_max} bytes"),
            Self::BytesAfterEnd { coding } => {
                write!(f, "bytes follow the end of the {coding} body")
            }
            Self::Unknown { coding } => write!(f, "the content coding `{coding}` is not known"),
            Self::TooManyCodings => write!(f, "more than {CODINGS_MAX} content codings"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// How a decoder came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Followed,
    Truncated,
    Corrupt,
    TooLarge,
}

impl Coding {
    fn named(name: &str) -> Option<Self> {
        const NAMES: [(&str, Coding); 5] = [
            ("gzip", Coding::Gzip),
            ("x-gzip", Coding::Gzip),
            ("deflate", Coding::Deflate),
            ("br", Coding::Brotli),
            ("zstd", Coding::Zstd),
        ];
        NAMES
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, coding)| coding)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    fn decode(self, body: &[u8], bytes_max: usize) -> (Vec<u8>, End) {
        let mut output = Output {
            bytes: Vec::new(),
            bytes_max,
        };
        let end = match self {
            Self::Gzip => decode_gzip(body, &mut output),
            Self::Deflate => decode_deflate(body, &mut output),
            Self::Brotli => decode_brotli(body, &mut output),
            Self::Zstd => decode_zstd(body, &mut output),
        };
        (output.bytes, end)
    }
}

/// Decoded bytes, up to a bound.
struct Output {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Output {
    /// Takes the first `length` bytes of a chunk; `TooLarge` if they do not all fit.
    fn take(&mut self, chunk: &[u8], length: usize) -> Result<(), End> {
        let chunk = chunk.get(..length).unwrap_or(chunk);
        let room = self.bytes_max - self.bytes.len();
        let fitting = chunk.get(..room).unwrap_or(chunk);
        self.bytes.extend_from_slice(fitting);
        if fitting.len() < chunk.len() {
            return Err(End::TooLarge);
        }
        Ok(())
    }

    /// Takes all that a decoder gives.
    fn take_all(&mut self, decoder: &mut impl Read) -> End {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            match decoder.read(&mut chunk) {
                Ok(0) => return End::Whole,
                Ok(length) => {
                    if let Err(end) = self.take(&chunk, length) {
                        return end;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return End::Truncated;
                }
                Err(_) => return End::Corrupt,
            }
        }
    }
}

/// A gzip body may have several members (RFC 1952 section 2.2), and some have padding after them.
fn decode_gzip(body: &[u8], output: &mut Output) -> End {
    let mut rest = body;
    loop {
        let mut decoder = flate2::bufread::GzDecoder::new(rest);
        let end = output.take_all(&mut decoder);
        if end != End::Whole {
            return end;
        }
        rest = decoder.into_inner();
        if rest.is_empty() {
            return End::Whole;
        }
        if !rest.starts_with(&[0x1f, 0x8b]) {
            return End::Followed;
        }
    }
}

/// `deflate` is the zlib format (RFC 9110 section 8.4.1.2), but some send the bare stream.
fn decode_deflate(body: &[u8], output: &mut Output) -> End {
    let zlib_header = match body {
        [method, flags, ..] => {
            method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31)
        }
        _ => true,
    };
    let mut decoder = Decompress::new(zlib_header);
    let mut chunk = [0; CHUNK_BYTES];
    let mut rest = body;
    loop {
        let (read_before, written_before) = (decoder.total_in(), decoder.total_out());
        let status = decoder.decompress(rest, &mut chunk, FlushDecompress::None);
        let read = advance(read_before, decoder.total_in());
        let written = advance(written_before, decoder.total_out());
        rest = rest.get(read..).unwrap_or_default();
        if let Err(end) = output.take(&chunk, written) {
            return end;
        }
        match status {
            Ok(Status::StreamEnd) if rest.is_empty() => return End::Whole,
            Ok(Status::StreamEnd) => return End::Followed,
            Ok(Status::Ok | Status::BufError) if read == 0 && written == 0 => {
                return End::Truncated;
            }
            Ok(Status::Ok | Status::BufError) => {}
            Err(_) => return End::Corrupt,
        }
    }
}

/// How far a counter of bytes in memory went on.
fn advance(before: u64, after: u64) -> usize {
    usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX)
}

fn decode_brotli(body: &[u8], output: &mut Output) -> End {
    use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, HeapAlloc, HuffmanCode};

    // Strict: without the large windows that RFC 7932 does not have, which take up to 1 GiB.
    let mut state = BrotliState::new_strict(
        HeapAlloc::<u8>::new(0),
        HeapAlloc::<u32>::new(0),
        HeapAlloc::<HuffmanCode>::new(HuffmanCode::default()),
    );
    let mut chunk = [0; CHUNK_BYTES];
    let (mut input_left, mut input_at, mut total) = (body.len(), 0, 0);
    loop {
        let (mut room, mut written) = (chunk.len(), 0);
        let result = BrotliDecompressStream(
            &mut input_left,
            &mut input_at,
            body,
            &mut room,
            &mut written,
            &mut chunk,
            &mut total,
            &mut state,
        );
        if let Err(end) = output.take(&chunk, written) {
            return end;
        }
        match result {
            BrotliResult::ResultSuccess if input_left == 0 => return End::Whole,
            BrotliResult::ResultSuccess => return End::Followed,
            BrotliResult::NeedsMoreOutput => {}
            // It took all the input and may still hold more output than the chunk could take.
            BrotliResult::NeedsMoreInput if written > 0 => {}
            BrotliResult::NeedsMoreInput => return End::Truncated,
            BrotliResult::ResultFailure => return End::Corrupt,
        }
    }
}

fn decode_zstd(body: &[u8], output: &mut Output) -> End {
    let Ok(mut decoder) = zstd::stream::read::Decoder::with_buffer(body) else {
        return End::Corrupt;
    };
    if decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).is_err() {
        return End::Corrupt;
    }
    output.take_all(&mut decoder)
}

#[cfg(test)]
mod tests;
