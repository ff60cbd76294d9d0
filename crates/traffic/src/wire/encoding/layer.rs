//! One content coding, undone as its bytes come: what was flushed into it comes out at once.

use std::fmt;

use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, HeapAlloc, HuffmanCode};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Operation};

use crate::wire::limits::ZSTD_WINDOW_LOG_MAX;

const CHUNK_BYTES: usize = 8 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const GZIP_WINDOW_BITS: u8 = 15;
const ZSTD_BLOCK_HEADER_BYTES: usize = 3;
/// Steps in a row that may change the state of a decoder alone.
const IDLE_STEPS_MAX: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// How a coding came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It ended where its bytes did, or there were none.
    Whole,
    /// Bytes follow its end.
    Followed,
    /// The bytes ended before it did.
    Truncated,
    /// The bytes are not in it.
    Corrupt,
    /// It gives more than its bound.
    TooLarge,
}

/// How much a layer may give.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes in all.
    pub(super) bytes_max: u64,
    /// Bytes for each byte that came, if that matters, beyond `slack_bytes`.
    pub(super) expansion_max: Option<u64>,
    pub(super) slack_bytes: u64,
}

/// One coding and how far it came.
#[derive(Debug)]
pub(super) struct Layer {
    coding: Coding,
    machine: Machine,
    bounds: Bounds,
    read: u64,
    written: u64,
    /// Set when nothing more comes out, whatever goes in.
    end: Option<End>,
}

impl Coding {
    pub(super) fn named(name: &str) -> Option<Self> {
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

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

impl Layer {
    pub(super) fn new(coding: Coding, bounds: Bounds) -> Self {
        Self {
            coding,
            machine: Machine::new(coding),
            bounds,
            read: 0,
            written: 0,
            end: None,
        }
    }

    pub(super) fn coding(&self) -> Coding {
        self.coding
    }

    /// True if it failed, so that nothing more comes out.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.end, Some(End::Corrupt | End::TooLarge))
    }

    /// How it ended so far; none while more may come out.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// How it ended, if no bytes follow.
    pub(super) fn end_of_input(&self) -> End {
        match self.end {
            Some(end) => end,
            // A reply to HEAD, and a 304, name the coding of a body that is not there.
            None if self.read == 0 || self.machine.is_at_end() => End::Whole,
            None if self.machine.is_after_end() => End::Followed,
            None => End::Truncated,
        }
    }

    /// Takes bytes and gives all that they let out, in pieces. `out` says whether it wants more.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8]) -> bool) {
        let mut chunk = [0; CHUNK_BYTES];
        let mut rest = bytes;
        let mut drained = rest.is_empty();
        let mut idle_steps = 0;
        while self.end.is_none() && !drained {
            let step = self.machine.step(rest, &mut chunk);
            // A decompressor that neither reads nor writes would be asked for ever.
            let idle = step.read == 0 && step.written == 0;
            idle_steps = if idle { idle_steps + 1 } else { 0 };
            rest = rest.get(step.read..).unwrap_or_default();
            self.read += step.read as u64;
            let piece = chunk.get(..step.written).unwrap_or(&chunk);
            let (fitting, too_large) = self.fit(piece);
            self.written += fitting.len() as u64;
            if !fitting.is_empty() && !out(fitting) {
                return;
            }
            match step.state {
                _ if too_large => self.end = Some(End::TooLarge),
                State::Ended if rest.is_empty() => break,
                State::Ended => self.end = Some(End::Followed),
                State::Corrupt => self.end = Some(End::Corrupt),
                State::Open { .. } if idle_steps > IDLE_STEPS_MAX => self.end = Some(End::Corrupt),
                State::Open { drained: all } => drained = all && rest.is_empty(),
            }
        }
    }

    /// What of a piece is within the bounds, and whether that is not all.
    fn fit<'a>(&self, piece: &'a [u8]) -> (&'a [u8], bool) {
        let by_expansion = self.bounds.expansion_max.map_or(u64::MAX, |factor| {
            let fair = self.read.saturating_mul(factor);
            fair.saturating_add(self.bounds.slack_bytes)
        });
        let room = by_expansion.min(self.bounds.bytes_max) - self.written;
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        match piece.get(..room) {
            Some(fitting) => (fitting, fitting.len() < piece.len()),
            None => (piece, false),
        }
    }
}

/// What one call of a decompressor did.
struct Step {
    read: usize,
    written: usize,
    state: State,
}

enum State {
    /// It goes on. `drained` if it needs more input to give more output.
    Open {
        drained: bool,
    },
    /// It is over: what was not read follows it.
    Ended,
    Corrupt,
}

type Brotli = BrotliState<HeapAlloc<u8>, HeapAlloc<u32>, HeapAlloc<HuffmanCode>>;

/// A decompressor with what has to be known around it.
enum Machine {
    Gzip(Gzip),
    /// `deflate` before its second byte tells whether it has the zlib header.
    DeflateStart(Option<u8>),
    Deflate {
        inflate: Decompress,
        ended: bool,
    },
    Brotli {
        state: Box<Brotli>,
        ended: bool,
    },
    Zstd {
        decoder: zstd::stream::raw::Decoder<'static>,
        /// What the decoder would like to have next, in bytes; 0 at the end of a frame.
        wanted: usize,
    },
    /// The decompressor could not be made.
    Unavailable,
}

impl Machine {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Gzip => Self::Gzip(Gzip::new()),
            Coding::Deflate => Self::DeflateStart(None),
            Coding::Brotli => {
                // Strict: without the large windows that RFC 7932 does not have, which take up
                // to 1 GiB.
                let state = BrotliState::new_strict(
                    HeapAlloc::<u8>::new(0),
                    HeapAlloc::<u32>::new(0),
                    HeapAlloc::<HuffmanCode>::new(HuffmanCode::default()),
                );
                Self::Brotli {
                    state: Box::new(state),
                    ended: false,
                }
            }
            Coding::Zstd => {
                let window = DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
                let decoder = zstd::stream::raw::Decoder::new().and_then(|mut decoder| {
                    decoder.set_parameter(window)?;
                    Ok(decoder)
                });
                match decoder {
                    Ok(decoder) => Self::Zstd { decoder, wanted: 1 },
                    Err(_) => Self::Unavailable,
                }
            }
        }
    }

    /// True where the bytes may end.
    fn is_at_end(&self) -> bool {
        match self {
            Self::Gzip(gzip) => matches!(gzip, Gzip::Between),
            Self::Deflate { ended, .. } | Self::Brotli { ended, .. } => *ended,
            Self::Zstd { wanted, .. } => *wanted == 0,
            Self::DeflateStart(_) | Self::Unavailable => false,
        }
    }

    /// True if it is over and something else began.
    fn is_after_end(&self) -> bool {
        matches!(self, Self::Gzip(Gzip::NextStart))
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        match self {
            Self::Gzip(gzip) => gzip.step(input, output),
            Self::DeflateStart(first) => match (*first, input) {
                (None, [byte, ..]) => {
                    *first = Some(*byte);
                    Step::taken(1)
                }
                (Some(byte), [next, ..]) => {
                    *self = deflate_after(byte, *next);
                    Step::taken(0)
                }
                (_, []) => Step::taken(0),
            },
            Self::Deflate { ended, .. } | Self::Brotli { ended, .. } if *ended => Step {
                read: 0,
                written: 0,
                state: State::Ended,
            },
            Self::Deflate { inflate, ended } => {
                let step = inflate_step(inflate, input, output);
                *ended = matches!(step.state, State::Ended);
                step
            }
            Self::Brotli { state, ended } => {
                let step = brotli_step(state, input, output);
                *ended = matches!(step.state, State::Ended);
                step
            }
            Self::Zstd { decoder, wanted } => zstd_step(decoder, wanted, input, output),
            Self::Unavailable => Step::corrupt(),
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

impl Step {
    fn taken(read: usize) -> Self {
        Self {
            read,
            written: 0,
            state: State::Open { drained: true },
        }
    }

    fn corrupt() -> Self {
        Self {
            read: 0,
            written: 0,
            state: State::Corrupt,
        }
    }
}

/// A gzip body may have several members (RFC 1952 section 2.2), and some have padding after them.
enum Gzip {
    Within(Decompress),
    /// A member has ended.
    Between,
    /// A member has ended and the first byte of another's magic followed.
    NextStart,
}

impl Gzip {
    fn new() -> Self {
        Self::Within(Decompress::new_gzip(GZIP_WINDOW_BITS))
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        let [first, second] = GZIP_MAGIC;
        match (&mut *self, input) {
            (Self::Within(inflate), _) => {
                let mut step = inflate_step(inflate, input, output);
                if matches!(step.state, State::Ended) {
                    *self = Self::Between;
                    step.state = State::Open { drained: true };
                }
                step
            }
            (Self::Between, [byte, ..]) if *byte == first => {
                *self = Self::NextStart;
                Step::taken(1)
            }
            (Self::NextStart, [byte, ..]) if *byte == second => {
                let mut inflate = Decompress::new_gzip(GZIP_WINDOW_BITS);
                let step = inflate_step(&mut inflate, &GZIP_MAGIC, &mut []);
                let begun = step.read == GZIP_MAGIC.len();
                *self = Self::Within(inflate);
                if begun {
                    Step::taken(1)
                } else {
                    Step::corrupt()
                }
            }
            (Self::Between | Self::NextStart, _) => Step {
                read: 0,
                written: 0,
                state: State::Ended,
            },
        }
    }
}

/// `deflate` is the zlib format (RFC 9110 section 8.4.1.2), but some send the bare stream.
fn deflate_after(method: u8, flags: u8) -> Machine {
    let zlib_header = method & 0x0f == 8 && u16::from_be_bytes([method, flags]).is_multiple_of(31);
    let mut inflate = Decompress::new(zlib_header);
    // The first byte holds no output: of zlib it is half of the header, of the bare stream it
    // is at most the head of a block.
    let step = inflate_step(&mut inflate, &[method], &mut [0; 1]);
    match step.state {
        State::Open { .. } if step.read == 1 && step.written == 0 => Machine::Deflate {
            inflate,
            ended: false,
        },
        _ => Machine::Unavailable,
    }
}

fn inflate_step(inflate: &mut Decompress, input: &[u8], output: &mut [u8]) -> Step {
    let (read_before, written_before) = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, output, FlushDecompress::None);
    let read = advance(read_before, inflate.total_in());
    let written = advance(written_before, inflate.total_out());
    let state = match status {
        Ok(Status::StreamEnd) => State::Ended,
        Ok(Status::Ok | Status::BufError) => State::Open {
            drained: written < output.len(),
        },
        Err(_) => State::Corrupt,
    };
    Step {
        read,
        written,
        state,
    }
}

/// How far a counter of bytes in memory went on.
fn advance(before: u64, after: u64) -> usize {
    usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX)
}

fn brotli_step(state: &mut Brotli, input: &[u8], output: &mut [u8]) -> Step {
    let (mut input_left, mut read) = (input.len(), 0);
    let (mut room, mut written, mut total) = (output.len(), 0, 0);
    let result = BrotliDecompressStream(
        &mut input_left,
        &mut read,
        input,
        &mut room,
        &mut written,
        output,
        &mut total,
        state,
    );
    let state = match result {
        BrotliResult::ResultSuccess => State::Ended,
        BrotliResult::NeedsMoreOutput => State::Open { drained: false },
        // It took all the input and may still hold more output than the chunk could take.
        BrotliResult::NeedsMoreInput => State::Open {
            drained: written == 0,
        },
        BrotliResult::ResultFailure => State::Corrupt,
    };
    Step {
        read,
        written,
        state,
    }
}

/// Gives the decoder no more than it asks for, without the head of the next block: when it fails,
/// the output of the whole call is lost, and so no block before the bad one is.
fn zstd_step(
    decoder: &mut zstd::stream::raw::Decoder<'_>,
    wanted: &mut usize,
    input: &[u8],
    output: &mut [u8],
) -> Step {
    if input.is_empty() && *wanted == 0 {
        // To ask for more at the end of a frame would begin another.
        return Step {
            read: 0,
            written: 0,
            state: State::Open { drained: true },
        };
    }
    let length = match *wanted {
        0..=ZSTD_BLOCK_HEADER_BYTES => (*wanted).max(1),
        more => more - ZSTD_BLOCK_HEADER_BYTES,
    };
    let piece = input.get(..length).unwrap_or(input);
    let Ok(status) = decoder.run_on_buffers(piece, output) else {
        return Step::corrupt();
    };
    *wanted = status.remaining;
    Step {
        read: status.bytes_read,
        written: status.bytes_written,
        state: State::Open {
            drained: status.bytes_written < output.len(),
        },
    }
}
