//! What can be wrong with a stream, as a closed list with stable codes.

use std::fmt;

use crate::wire::encoding::Note;

/// Something that is not as the format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamNote {
    /// The content coding is not known: nothing can be read.
    CodingUnknown,
    /// There are more content codings than any honest stream has: nothing can be read.
    TooManyCodings,
    /// The stream is not in its content coding, or not from some byte on. Nothing follows.
    CodingCorrupt,
    /// The stream ends before its content coding does.
    CodingTruncated,
    /// The content coding gives more than honest streams do. Nothing follows.
    CodingBomb,
    /// Bytes follow the end of the content coding. They are left out.
    BytesAfterCoding,
    /// Text that is not UTF-8.
    NotUtf8,
    /// A line of an event stream with a field that the format does not have, which is ignored.
    SseUnknownField,
    /// The name or the id of an event is longer than what is kept of it.
    SseFieldTooLong,
    /// A gRPC message with flags that are not defined: nothing after it can be read.
    GrpcFlags,
    /// A gRPC message is compressed, and no field says how. It is given as it came.
    GrpcCodingMissing,
    /// A gRPC message is in a coding that is not known. It is given as it came.
    GrpcCodingUnknown,
    /// A gRPC message is not in its coding, or not from some byte on. What was read is given.
    GrpcMessageCorrupt,
    /// The text of a gRPC-Web stream is not base64: nothing after it can be read.
    Base64Invalid,
    /// The checksum of a prelude is wrong: nothing after it can be read.
    EventStreamPreludeChecksum,
    /// The lengths in a prelude cannot be: nothing after it can be read.
    EventStreamLengths,
    /// The checksum of a message is wrong. The message is given.
    EventStreamMessageChecksum,
    /// The headers of a message cannot be read, or not from some header on.
    EventStreamHeaders,
    /// The headers of a message are longer or more than what is kept of them.
    EventStreamHeadersTooLong,
    /// The stream ends within a message of which nothing could be shown.
    Cut,
}

impl StreamNote {
    /// A stable name.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::CodingUnknown => "coding_unknown",
            Self::TooManyCodings => "too_many_codings",
            Self::CodingCorrupt => "coding_corrupt",
            Self::CodingTruncated => "coding_truncated",
            Self::CodingBomb => "coding_bomb",
            Self::BytesAfterCoding => "bytes_after_coding",
            Self::NotUtf8 => "not_utf8",
            Self::SseUnknownField => "sse_unknown_field",
            Self::SseFieldTooLong => "sse_field_too_long",
            Self::GrpcFlags => "grpc_flags",
            Self::GrpcCodingMissing => "grpc_coding_missing",
            Self::GrpcCodingUnknown => "grpc_coding_unknown",
            Self::GrpcMessageCorrupt => "grpc_message_corrupt",
            Self::Base64Invalid => "base64_invalid",
            Self::EventStreamPreludeChecksum => "eventstream_prelude_checksum",
            Self::EventStreamLengths => "eventstream_lengths",
            Self::EventStreamMessageChecksum => "eventstream_message_checksum",
            Self::EventStreamHeaders => "eventstream_headers",
            Self::EventStreamHeadersTooLong => "eventstream_headers_too_long",
            Self::Cut => "cut",
        }
    }

    pub(super) fn of_coding(note: &Note) -> Self {
        match note {
            Note::Truncated { .. } => Self::CodingTruncated,
            Note::Corrupt { .. } => Self::CodingCorrupt,
            Note::TooLarge { .. } | Note::Bomb { .. } => Self::CodingBomb,
            Note::BytesAfterEnd { .. } => Self::BytesAfterCoding,
            Note::Unknown { .. } => Self::CodingUnknown,
            Note::TooManyCodings => Self::TooManyCodings,
        }
    }
}

impl fmt::Display for StreamNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CodingUnknown => "the content coding is not known",
            Self::TooManyCodings => "more content codings than a stream may have",
            Self::CodingCorrupt => "the stream is not in its content coding",
            Self::CodingTruncated => "the stream ends before its content coding",
            Self::CodingBomb => "the content coding grows without measure",
            Self::BytesAfterCoding => "bytes follow the end of the content coding",
            Self::NotUtf8 => "text that is not UTF-8",
            Self::SseUnknownField => "a line with a field that event streams do not have",
            Self::SseFieldTooLong => "the name or the id of an event is too long",
            Self::GrpcFlags => "a gRPC message with flags that are not defined",
            Self::GrpcCodingMissing => "a compressed gRPC message, and no grpc-encoding",
            Self::GrpcCodingUnknown => "the coding of a gRPC message is not known",
            Self::GrpcMessageCorrupt => "a gRPC message is not in its coding",
            Self::Base64Invalid => "the text is not base64",
            Self::EventStreamPreludeChecksum => "the checksum of a prelude is wrong",
            Self::EventStreamLengths => "the lengths in a prelude cannot be",
            Self::EventStreamMessageChecksum => "the checksum of a message is wrong",
            Self::EventStreamHeaders => "the headers of a message cannot be read",
            Self::EventStreamHeadersTooLong => "the headers of a message are too long",
            Self::Cut => "the stream ends within a message",
        })
    }
}

/// The notes that a stream had already.
#[derive(Debug, Default)]
pub(super) struct NoteSet(u32);

impl NoteSet {
    /// True if the note is new.
    pub(super) fn insert(&mut self, note: StreamNote) -> bool {
        let bit = 1 << (note as u32);
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        is_new
    }
}
