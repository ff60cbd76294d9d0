//! Finds where a body ends and what in it is payload, without changing a byte (RFC 9112 sections
//! 6 and 7).
//!
//! The bytes that a [`Framing`] has accepted are sent on as they are: chunk sizes, extensions and
//! trailers included. Only what it points to as payload goes to the watcher.

use std::ops::Range;

use crate::http1::head::BodyLength;
use crate::limits::{CHUNK_EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX};

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A chunk size that is no hexadecimal number of at most 16 digits.
    #[error("a chunk size is not a hexadecimal number")]
    ChunkSize,
    /// A line of the chunked framing that does not end in CR LF.
    #[error("a line of the chunked body does not end in CR LF")]
    LineEnd,
    /// More octets of chunk extensions than anyone needs.
    #[error("the chunk extensions are larger than 16 KiB")]
    Extensions,
    /// A trailer section that is too large.
    #[error("the trailer section is larger than 32 KiB")]
    Trailers,
    /// A line of the trailer section that is no field.
    #[error("a trailer line is not a field")]
    TrailerField,
}

/// One step of reading a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Octets that belong to the body, from the start of what was given.
    pub consumed: usize,
    /// Which of them are payload.
    pub payload: Range<usize>,
}

/// The reader of one body. Feed it whatever has come; it takes what belongs to the body.
#[derive(Debug)]
pub struct Framing {
    state: State,
    extension_bytes: u64,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Done,
    Exactly(u64),
    UntilClose,
    Size {
        value: u64,
        digits: u8,
    },
    /// White space between the size and what follows it.
    SizeSpace {
        value: u64,
    },
    Extension {
        value: u64,
        quoted: bool,
        escaped: bool,
    },
    SizeLf {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    TrailerStart,
    TrailerLine {
        colon: bool,
    },
    TrailerLf,
    LastLf,
}

impl Framing {
    /// A reader for a body of this length.
    #[must_use]
    pub fn new(length: BodyLength) -> Self {
        let state = match length {
            BodyLength::None | BodyLength::Exactly(0) => State::Done,
            BodyLength::Exactly(left) => State::Exactly(left),
            BodyLength::Chunked => State::Size {
                value: 0,
                digits: 0,
            },
            BodyLength::UntilClose => State::UntilClose,
        };
        Self {
            state,
            extension_bytes: 0,
            trailers: Vec::new(),
        }
    }

    /// True once the whole body was taken.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Octets that are still to come, where that is known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Exactly(left) => Some(left),
            _ => None,
        }
    }

    /// Tells that the peer has ended its side; true if the body is whole with that.
    #[must_use]
    pub fn handle_end(&mut self) -> bool {
        if self.state == State::UntilClose {
            self.state = State::Done;
        }
        self.is_done()
    }

    /// The trailer lines, each with its CRLF and then the empty line; empty if there were none.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        if self.trailers == b"\r\n" {
            &[]
        } else {
            &self.trailers
        }
    }

    /// Takes from `bytes` up to the end of one run of payload, or all of them, or up to the end
    /// of the body. Call it again while bytes are left and it is not done.
    ///
    /// # Errors
    /// If the framing is broken. What was consumed by earlier steps was in order.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Step, BodyError> {
        let mut at = 0;
        while at < bytes.len() {
            let left = bytes.get(at..).unwrap_or_default();
            match self.state {
                State::Done => break,
                State::UntilClose => return Ok(payload(at, left.len())),
                State::Exactly(want) | State::Data { left: want } => {
                    let taken = left.len().min(usize::try_from(want).unwrap_or(usize::MAX));
                    self.take_payload(want - taken as u64);
                    return Ok(payload(at, taken));
                }
                _ => {
                    at += 1;
                    let byte = left.first().copied().unwrap_or_default();
                    self.handle_byte(byte)?;
                }
            }
        }
        Ok(Step {
            consumed: at,
            payload: at..at,
        })
    }

    fn take_payload(&mut self, left: u64) {
        self.state = match self.state {
            State::Exactly(_) if left == 0 => State::Done,
            State::Exactly(_) => State::Exactly(left),
            _ if left == 0 => State::DataCr,
            _ => State::Data { left },
        };
    }

    /// One octet of the chunked framing itself.
    fn handle_byte(&mut self, byte: u8) -> Result<(), BodyError> {
        self.state = match self.state {
            // A signed reader would take more for a negative number.
            State::Size { value, .. } if value >> 59 != 0 && hex_digit(byte).is_some() => {
                return Err(BodyError::ChunkSize);
            }
            State::Size { value, digits } => match (hex_digit(byte), digits) {
                (Some(digit), 0..16) => State::Size {
                    value: value << 4 | digit,
                    digits: digits + 1,
                },
                (None, 1..) => self.after_size(value, byte)?,
                _ => return Err(BodyError::ChunkSize),
            },
            State::SizeSpace { value } => self.after_size(value, byte)?,
            State::Extension {
                value,
                quoted,
                escaped,
            } => self.in_extension(value, quoted, escaped, byte)?,
            State::SizeLf { value } => match (byte, value) {
                (b'\n', 0) => State::TrailerStart,
                (b'\n', left) => State::Data { left },
                _ => return Err(BodyError::LineEnd),
            },
            State::DataCr => expect(byte, b'\r', State::DataLf)?,
            State::DataLf => expect(
                byte,
                b'\n',
                State::Size {
                    value: 0,
                    digits: 0,
                },
            )?,
            State::TrailerStart | State::TrailerLine { .. } | State::TrailerLf | State::LastLf => {
                self.in_trailers(byte)?
            }
            state @ (State::Done | State::Exactly(_) | State::UntilClose | State::Data { .. }) => {
                state
            }
        };
        Ok(())
    }

    /// What follows a chunk size: the line end, an extension, or white space that some servers
    /// pad with.
    fn after_size(&mut self, value: u64, byte: u8) -> Result<State, BodyError> {
        match byte {
            b'\r' => Ok(State::SizeLf { value }),
            b';' => Ok(State::Extension {
                value,
                quoted: false,
                escaped: false,
            }),
            b' ' | b'\t' => {
                self.count_extension()?;
                Ok(State::SizeSpace { value })
            }
            _ => Err(BodyError::ChunkSize),
        }
    }

    fn in_extension(
        &mut self,
        value: u64,
        quoted: bool,
        escaped: bool,
        byte: u8,
    ) -> Result<State, BodyError> {
        self.count_extension()?;
        match byte {
            b'\r' if !quoted => Ok(State::SizeLf { value }),
            // Neither a quoted string nor a token holds a control character.
            0..=8 | 10..=31 | 127 => Err(BodyError::LineEnd),
            b'"' if !escaped => Ok(State::Extension {
                value,
                quoted: !quoted,
                escaped: false,
            }),
            b'\\' if quoted && !escaped => Ok(State::Extension {
                value,
                quoted,
                escaped: true,
            }),
            _ => Ok(State::Extension {
                value,
                quoted,
                escaped: false,
            }),
        }
    }

    fn count_extension(&mut self) -> Result<(), BodyError> {
        self.extension_bytes += 1;
        if self.extension_bytes > CHUNK_EXTENSION_BYTES_MAX {
            return Err(BodyError::Extensions);
        }
        Ok(())
    }

    fn in_trailers(&mut self, byte: u8) -> Result<State, BodyError> {
        self.trailers.push(byte);
        if self.trailers.len() > TRAILER_BYTES_MAX {
            return Err(BodyError::Trailers);
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::LastLf),
            (State::LastLf, b'\n') => Ok(State::Done),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::LastLf | State::TrailerLf, _) => Err(BodyError::LineEnd),
            (State::TrailerLine { colon: true }, b'\r') => Ok(State::TrailerLf),
            (State::TrailerLine { colon: true }, b'\t' | b' '..=b'~' | 128..) => {
                Ok(State::TrailerLine { colon: true })
            }
            (State::TrailerLine { colon: false }, b':') => Ok(State::TrailerLine { colon: true }),
            (State::TrailerStart | State::TrailerLine { colon: false }, byte) if is_token(byte) => {
                Ok(State::TrailerLine { colon: false })
            }
            _ => Err(BodyError::TrailerField),
        }
    }
}

fn payload(start: usize, length: usize) -> Step {
    Step {
        consumed: start + length,
        payload: start..start + length,
    }
}

fn expect(byte: u8, wanted: u8, next: State) -> Result<State, BodyError> {
    if byte == wanted {
        Ok(next)
    } else {
        Err(BodyError::LineEnd)
    }
}

fn hex_digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

/// A character of a field name (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
