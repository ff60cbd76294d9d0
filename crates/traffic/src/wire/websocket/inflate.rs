//! Inflates the messages of one direction (RFC 7692 section 7.2.2).
//!
//! Every message is inflated to its end even if little of it is kept, because later ones may refer
//! to it. The work that a sender may cause so is bounded in proportion to what it sent.

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use super::Problem;
use super::extensions::Compression;
use super::limits::{
    DEFLATED_BLOCK_BYTES, INFLATED_BYTES_FREE, INFLATED_BYTES_PER_BYTE, INFLATED_CHUNK_BYTES,
};

/// What senders leave out at the end of a message (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

pub(super) struct Inflater {
    context_takeover: bool,
    context: Context,
    /// Compressed octets of all messages that could be inflated.
    deflated_bytes: u64,
    /// The same, when this message began.
    deflated_bytes_before: u64,
    /// What came out of all messages.
    inflated_bytes: u64,
    /// The same, when this message began.
    inflated_bytes_before: u64,
    /// True if the decoder stands within a block, for all that is known.
    within: bool,
}

enum Context {
    /// No compressed message has come: a decoder takes 45 kB.
    Unused,
    Known(Box<Decompress>),
    Lost,
}

impl Inflater {
    pub(super) fn new(compression: Compression) -> Self {
        Self {
            context_takeover: compression.context_takeover,
            context: Context::Unused,
            deflated_bytes: 0,
            deflated_bytes_before: 0,
            inflated_bytes: 0,
            inflated_bytes_before: 0,
            within: false,
        }
    }

    /// False if this message cannot be inflated because the context is lost.
    pub(super) fn begin_message(&mut self) -> bool {
        match &mut self.context {
            // A decoder with the largest window reads what was made with any window.
            Context::Unused => self.context = Context::Known(Box::new(Decompress::new(false))),
            Context::Known(decoder) if !self.context_takeover => decoder.reset(false),
            Context::Known(_) => {}
            Context::Lost => return false,
        }
        self.deflated_bytes_before = self.deflated_bytes;
        self.inflated_bytes_before = self.inflated_bytes;
        self.within = false;
        true
    }

    /// Inflates more of the message; appends to `kept` until it has `bytes_max` octets. After an
    /// error, the rest of the message must not be given.
    pub(super) fn inflate(
        &mut self,
        deflated: &[u8],
        kept: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), Problem> {
        let mut rest = deflated;
        while !rest.is_empty() {
            let left = DEFLATED_BLOCK_BYTES - self.deflated_bytes % DEFLATED_BLOCK_BYTES;
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let (block, after) = rest.split_at_checked(left).unwrap_or((rest, &[]));
            if let Err(problem) = self.inflate_in_block(block, kept, bytes_max) {
                // How much of it came until here depends on the pieces.
                self.deflated_bytes = self.deflated_bytes_before;
                return Err(problem);
            }
            self.deflated_bytes = self.deflated_bytes.saturating_add(block.len() as u64);
            rest = after;
        }
        Ok(())
    }

    fn inflate_in_block(
        &mut self,
        deflated: &[u8],
        kept: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), Problem> {
        let inflated_bytes_max = self.inflated_bytes_max();
        let Context::Known(decoder) = &mut self.context else {
            return Err(Problem::ContextLost);
        };
        let mut chunk = [0; INFLATED_CHUNK_BYTES];
        let mut rest = deflated;
        loop {
            let (read_before, written_before) = (decoder.total_in(), decoder.total_out());
            let status = decoder.decompress(rest, &mut chunk, FlushDecompress::None);
            let read = advance(read_before, decoder.total_in());
            let written = advance(written_before, decoder.total_out());
            rest = rest.get(read..).unwrap_or_default();
            self.within |= read > 0;

            let left = inflated_bytes_max.saturating_sub(self.inflated_bytes);
            let bearable = written.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.inflated_bytes += bearable as u64;
            let room = bytes_max.saturating_sub(kept.len()).min(bearable);
            kept.extend_from_slice(chunk.get(..room).unwrap_or_default());
            if bearable < written {
                return Err(Problem::InflatesTooFar);
            }
            match status {
                // RFC 7692 section 7.2.3.4: a last block is not the end of the message.
                Ok(Status::StreamEnd) => {
                    decoder.reset(false);
                    self.within = false;
                    if rest.is_empty() {
                        return Ok(());
                    }
                }
                Ok(Status::Ok | Status::BufError) if written == chunk.len() => {}
                Ok(Status::Ok | Status::BufError) if rest.is_empty() => return Ok(()),
                Ok(Status::Ok | Status::BufError) if read > 0 || written > 0 => {}
                Ok(Status::Ok | Status::BufError) | Err(_) => return Err(Problem::DeflateCorrupt),
            }
        }
    }

    /// Adds what the sender left out. Some leave out the end of a message without octets as well,
    /// or of one whose last block says that it is the last.
    pub(super) fn end_message(
        &mut self,
        kept: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), Problem> {
        if !self.within {
            return Ok(());
        }
        self.inflate_in_block(&TAIL, kept, bytes_max)
    }

    fn inflated_bytes_max(&self) -> u64 {
        (self.deflated_bytes - self.deflated_bytes % DEFLATED_BLOCK_BYTES)
            .saturating_mul(INFLATED_BYTES_PER_BYTE)
            .saturating_add(INFLATED_BYTES_FREE)
    }

    /// Gives up what was sent so far, and with it later messages that may refer to it.
    pub(super) fn lose_context(&mut self) {
        if self.context_takeover {
            self.context = Context::Lost;
        }
    }

    /// Octets that the message has inflated to.
    pub(super) fn message_bytes(&self) -> u64 {
        self.inflated_bytes - self.inflated_bytes_before
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context = match self.context {
            Context::Unused => "unused",
            Context::Known(_) => "known",
            Context::Lost => "lost",
        };
        f.debug_struct("Inflater")
            .field("context_takeover", &self.context_takeover)
            .field("context", &context)
            .field("inflated_bytes", &self.inflated_bytes)
            .finish_non_exhaustive()
    }
}

/// How far a counter of bytes in memory went on.
fn advance(before: u64, after: u64) -> usize {
    usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX)
}
