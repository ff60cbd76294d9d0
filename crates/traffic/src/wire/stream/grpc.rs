//! gRPC messages: a byte of flags, a length of four bytes, the message (gRPC over HTTP/2,
//! "Length-Prefixed-Message"); gRPC-Web adds a frame that holds the trailers.

use bytes::Bytes;

use super::capture::Capture;
use super::{MessageKind, Out, StreamMessage, StreamNote};
use crate::wire::encoding::{Note, decode};
use crate::wire::limits::{
    GRPC_TRAILER_BYTES_KEPT, STREAM_EXPANSION_MAX, STREAM_EXPANSION_SLACK_BYTES,
};

const PREFIX_BYTES: usize = 5;
const COMPRESSED: u8 = 1;
const TRAILERS: u8 = 0x80;

/// Which flags may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Envelope {
    Http2,
    Web,
}

#[derive(Debug)]
pub(super) struct Grpc {
    envelope: Envelope,
    /// What `grpc-encoding` says.
    coding: String,
    bytes_kept: usize,
    prefix: Capture,
    /// The message whose prefix was read.
    message: Option<Current>,
    payload: Capture,
    /// Bytes that compressed messages may still give, so that many small bombs are none.
    expansion_left: u64,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    flags: u8,
    bytes_left: usize,
}

impl Grpc {
    pub(super) fn new(envelope: Envelope, coding: &str, bytes_kept: usize) -> Self {
        Self {
            envelope,
            coding: coding.trim().to_owned(),
            bytes_kept,
            prefix: Capture::new(PREFIX_BYTES),
            message: None,
            payload: Capture::new(bytes_kept),
            expansion_left: STREAM_EXPANSION_SLACK_BYTES,
        }
    }

    /// False if nothing more can be understood.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Out<'_>) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(mut current) = self.message else {
                rest = self.take_prefix(rest);
                if !self.begin(out) {
                    return false;
                }
                continue;
            };
            let (piece, after) = rest
                .split_at_checked(current.bytes_left)
                .unwrap_or((rest, &[]));
            rest = after;
            self.payload.take(piece);
            current.bytes_left -= piece.len();
            self.message = Some(current);
            self.end_if_whole(out);
        }
        true
    }

    pub(super) fn finish(mut self, out: &mut Out<'_>) {
        match self.message {
            Some(current) => self.give(current.flags, false, out),
            None if !self.prefix.is_empty() => out.note(StreamNote::Cut),
            None => {}
        }
    }

    fn take_prefix<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let missing = PREFIX_BYTES - self.prefix.kept().len();
        let (piece, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        self.prefix.take(piece);
        rest
    }

    /// Begins a message if its prefix is there. False if there cannot be such a message.
    fn begin(&mut self, out: &mut Out<'_>) -> bool {
        let [flags, length @ ..] = self.prefix.kept() else {
            return true;
        };
        let known = match self.envelope {
            Envelope::Http2 => COMPRESSED,
            Envelope::Web => COMPRESSED | TRAILERS,
        };
        if flags & !known != 0 {
            out.note(StreamNote::GrpcFlags);
            return false;
        }
        let Ok(length) = <[u8; 4]>::try_from(length) else {
            return true;
        };
        self.message = Some(Current {
            flags: *flags,
            bytes_left: u32::from_be_bytes(length) as usize,
        });
        self.prefix.clear();
        self.end_if_whole(out);
        true
    }

    fn end_if_whole(&mut self, out: &mut Out<'_>) {
        if let Some(Current {
            flags,
            bytes_left: 0,
        }) = self.message
        {
            self.message = None;
            self.give(flags, true, out);
        }
    }

    fn give(&mut self, flags: u8, complete: bool, out: &mut Out<'_>) {
        let (kind, bytes_kept) = if flags & TRAILERS == 0 {
            (MessageKind::GrpcMessage, self.bytes_kept)
        } else {
            (
                MessageKind::GrpcTrailers,
                self.bytes_kept.min(GRPC_TRAILER_BYTES_KEPT),
            )
        };
        let mut message = self.payload.finish(kind);
        message.complete = complete;
        if flags & COMPRESSED != 0 {
            self.decompress(&mut message, bytes_kept);
        }
        if message.payload.len() > bytes_kept {
            message.payload.truncate(bytes_kept);
            message.truncated = true;
        }
        out.message(message);
    }

    fn decompress(&mut self, message: &mut StreamMessage, bytes_kept: usize) {
        if self.coding.is_empty() || self.coding.eq_ignore_ascii_case("identity") {
            message.note = Some(StreamNote::GrpcCodingMissing);
            return;
        }
        let fair = message.size.saturating_mul(STREAM_EXPANSION_MAX);
        self.expansion_left = self.expansion_left.saturating_add(fair);
        let room = usize::try_from(self.expansion_left).unwrap_or(usize::MAX);
        let decoded = decode(&self.coding, &message.payload, bytes_kept.min(room));
        // What was not kept, or has not come, is missing in the coding too.
        let expected_cut = message.truncated || !message.complete;
        match decoded.note {
            Some(Note::Unknown { .. } | Note::TooManyCodings) => {
                message.note = Some(StreamNote::GrpcCodingUnknown);
                return;
            }
            Some(Note::TooLarge { .. } | Note::Bomb { .. }) => {
                message.truncated = true;
                message.note = (room < bytes_kept).then_some(StreamNote::CodingBomb);
            }
            Some(Note::Truncated { .. }) if expected_cut => {}
            Some(Note::Truncated { .. } | Note::Corrupt { .. } | Note::BytesAfterEnd { .. }) => {
                message.note = Some(StreamNote::GrpcMessageCorrupt);
            }
            None => {}
        }
        self.expansion_left -= decoded.bytes.len() as u64;
        let bytes = Bytes::from(decoded.bytes.into_owned());
        message.payload = bytes;
    }
}
