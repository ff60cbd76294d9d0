//! What may be wrong with a WebSocket, as a closed list.

use std::fmt;

/// What breaks the rules of RFC 6455 or RFC 7692, or could not be read. Nothing of it changes
/// what passes. Observation goes on after all of them but [`Problem::FramingLost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// A frame of the client without a mask (RFC 6455 section 5.1).
    NotMasked,
    /// A frame of the upstream with a mask (RFC 6455 section 5.1).
    Masked,
    /// Reserved bits that no extension gives a meaning to (RFC 6455 section 5.2).
    ReservedBits,
    /// An opcode without a meaning (RFC 6455 section 5.2).
    ReservedOpcode,
    /// A length in more octets than it needs (RFC 6455 section 5.2).
    LengthNotMinimal,
    /// A length of 2^63 or more (RFC 6455 section 5.2). Bytes pass on, but nobody can tell where
    /// frames begin: nothing more is observed.
    FramingLost,
    /// A control frame that is not the last fragment of itself (RFC 6455 section 5.5).
    ControlFragmented,
    /// A control frame with more than 125 octets (RFC 6455 section 5.5); the first were kept.
    ControlTooLong,
    /// A continuation frame with no message to continue (RFC 6455 section 5.4); it was left out.
    ContinuationWithoutStart,
    /// A message that begins before the last one has ended (RFC 6455 section 5.4).
    MessageInMessage,
    /// A close frame of one octet (RFC 6455 section 5.5.1).
    CloseTooShort,
    /// A close code that must not be sent (RFC 6455 section 7.4).
    CloseCode,
    /// Text, or the reason of a close frame, that is not UTF-8 (RFC 6455 section 8.1). Of a
    /// message, what was kept was looked at.
    TextNotUtf8,
    /// A frame after the close frame (RFC 6455 section 5.5.1).
    FrameAfterClose,
    /// The direction ended within a frame or a message.
    EndedEarly,
    /// Reserved bits or opcodes in use by an extension that is not known here.
    ExtensionUnknown,
    /// A compressed message that is no DEFLATE data (RFC 7692 section 7.2.2).
    DeflateCorrupt,
    /// A compressed message that inflates to more than is bearable.
    InflatesTooFar,
    /// Later messages refer to one that could not be inflated: they are told as they passed, still
    /// compressed (RFC 7692 section 7.1.1).
    ContextLost,
    /// The answer to the upgrade does not prove that the key was understood (RFC 6455 section
    /// 4.1): clients give up on it.
    AcceptWrong,
}

impl Problem {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::NotMasked,
        Self::Masked,
        Self::ReservedBits,
        Self::ReservedOpcode,
        Self::LengthNotMinimal,
        Self::FramingLost,
        Self::ControlFragmented,
        Self::ControlTooLong,
        Self::ContinuationWithoutStart,
        Self::MessageInMessage,
        Self::CloseTooShort,
        Self::CloseCode,
        Self::TextNotUtf8,
        Self::FrameAfterClose,
        Self::EndedEarly,
        Self::ExtensionUnknown,
        Self::DeflateCorrupt,
        Self::InflatesTooFar,
        Self::ContextLost,
        Self::AcceptWrong,
    ];

    /// Its stable name, for records and JSON.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotMasked => "not_masked",
            Self::Masked => "masked",
            Self::ReservedBits => "reserved_bits",
            Self::ReservedOpcode => "reserved_opcode",
            Self::LengthNotMinimal => "length_not_minimal",
            Self::FramingLost => "framing_lost",
            Self::ControlFragmented => "control_fragmented",
            Self::ControlTooLong => "control_too_long",
            Self::ContinuationWithoutStart => "continuation_without_start",
            Self::MessageInMessage => "message_in_message",
            Self::CloseTooShort => "close_too_short",
            Self::CloseCode => "close_code",
            Self::TextNotUtf8 => "text_not_utf8",
            Self::FrameAfterClose => "frame_after_close",
            Self::EndedEarly => "ended_early",
            Self::ExtensionUnknown => "extension_unknown",
            Self::DeflateCorrupt => "deflate_corrupt",
            Self::InflatesTooFar => "inflates_too_far",
            Self::ContextLost => "context_lost",
            Self::AcceptWrong => "accept_wrong",
        }
    }

    /// A bit of its own, so that a set of them is a number.
    pub(super) fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotMasked => "the client does not mask its frames",
            Self::Masked => "the upstream masks its frames",
            Self::ReservedBits => "reserved bits are set that no extension explains",
            Self::ReservedOpcode => "a frame has a reserved opcode",
            Self::LengthNotMinimal => "a length takes more octets than it needs",
            Self::FramingLost => {
                "a frame has a length of 2^63 or more: bytes pass, but are not understood any more"
            }
            Self::ControlFragmented => "a control frame is fragmented",
            Self::ControlTooLong => "a control frame has more than 125 octets",
            Self::ContinuationWithoutStart => "a frame continues no message",
            Self::MessageInMessage => "a message begins before the last one has ended",
            Self::CloseTooShort => "a close frame has one octet",
            Self::CloseCode => "a close frame has a code that must not be sent",
            Self::TextNotUtf8 => "text is not UTF-8",
            Self::FrameAfterClose => "frames follow the close frame",
            Self::EndedEarly => "the bytes end within a frame or a message",
            Self::ExtensionUnknown => "an extension is in use that is not known here",
            Self::DeflateCorrupt => "a compressed message is damaged",
            Self::InflatesTooFar => "a compressed message grows too large",
            Self::ContextLost => "compressed messages depend on one that could not be read",
            Self::AcceptWrong => "the answer to the upgrade does not prove that it was understood",
        })
    }
}
