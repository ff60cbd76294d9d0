//! The header of a frame (RFC 6455 section 5.2) and the mask of its payload (section 5.3).

use super::limits::HEADER_BYTES_MAX;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// The bit that marks a compressed message (RFC 7692 section 6), among [`Header::reserved`].
pub const RSV1: u8 = 0x40;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Another part of a message.
    Continuation,
    /// The first part of a message of UTF-8 text.
    Text,
    /// The first part of a message of bytes.
    Binary,
    /// The last frame in its direction.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping, or stands alone.
    Pong,
    /// One that RFC 6455 reserves: 3 to 7 and, for control frames, 11 to 15.
    Reserved(u8),
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// True for the last frame of a message, and for every control frame.
    pub fin: bool,
    /// RSV1 to RSV3 where they stand in the first octet: 0x40, 0x20, 0x10.
    pub reserved: u8,
    /// What the frame is.
    pub opcode: Opcode,
    /// The key its payload is masked with. Clients mask, upstreams do not.
    pub mask: Option<[u8; 4]>,
    /// Octets of its payload, below 2^63.
    pub length: u64,
}

/// A header as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedHeader {
    /// The header.
    pub header: Header,
    /// Octets it takes.
    pub bytes: usize,
    /// False if its length would have fitted into fewer octets (RFC 6455 section 5.2 demands the
    /// fewest).
    pub minimal: bool,
}

/// A length whose highest bit is set. RFC 6455 section 5.2 does not allow it, so nobody can tell
/// where the frame ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame with a length of 2^63 or more")]
pub struct LengthError;

impl Opcode {
    /// The opcode of these four bits.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        match bits & 0x0f {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            reserved => Self::Reserved(reserved),
        }
    }

    /// Its four bits.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
            Self::Reserved(bits) => bits & 0x0f,
        }
    }

    /// True for control frames, the reserved ones included.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.bits() & 0x08 != 0
    }
}

impl Header {
    /// The last or only frame of a message, or a control frame, without a mask.
    #[must_use]
    pub fn new(opcode: Opcode, length: u64) -> Self {
        Self {
            fin: true,
            reserved: 0,
            opcode,
            mask: None,
            length,
        }
    }

    /// Reads the header at the start of `bytes`; `None` while octets of it are missing.
    pub fn parse(bytes: &[u8]) -> Result<Option<ParsedHeader>, LengthError> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        let short = second & !MASKED;
        let (length, minimal, rest) = match short {
            LENGTH_16 => {
                let Some((length, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                let length = u64::from(u16::from_be_bytes(*length));
                (length, length >= u64::from(LENGTH_16), rest)
            }
            LENGTH_64 => {
                let Some((length, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                let length = u64::from_be_bytes(*length);
                (length, length > u64::from(u16::MAX), rest)
            }
            _ => (u64::from(short), true, rest),
        };
        if i64::try_from(length).is_err() {
            return Err(LengthError);
        }
        let (mask, rest) = if second & MASKED == 0 {
            (None, rest)
        } else {
            let Some((key, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            (Some(*key), rest)
        };
        let header = Self {
            fin: first & FIN != 0,
            reserved: first & RESERVED,
            opcode: Opcode::from_bits(first),
            mask,
            length,
        };
        Ok(Some(ParsedHeader {
            header,
            bytes: bytes.len() - rest.len(),
            minimal,
        }))
    }

    /// How many octets a header has, told from those of it that are there: never more than it
    /// has, and right once the first two are there.
    pub(super) fn bytes_wanted(bytes: &[u8]) -> usize {
        let Some(second) = bytes.get(1) else {
            return 2;
        };
        let length_bytes = match second & !MASKED {
            LENGTH_16 => 2,
            LENGTH_64 => 8,
            _ => 0,
        };
        let mask_bytes = if second & MASKED == 0 { 0 } else { 4 };
        2 + length_bytes + mask_bytes
    }

    /// Appends the header to `bytes`, its length in the fewest octets.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.reserve(HEADER_BYTES_MAX);
        let fin = if self.fin { FIN } else { 0 };
        bytes.push(fin | (self.reserved & RESERVED) | self.opcode.bits());
        let masked = if self.mask.is_some() { MASKED } else { 0 };
        match (u8::try_from(self.length), u16::try_from(self.length)) {
            (Ok(short), _) if short < LENGTH_16 => bytes.push(masked | short),
            (_, Ok(length)) => {
                bytes.push(masked | LENGTH_16);
                bytes.extend_from_slice(&length.to_be_bytes());
            }
            _ => {
                bytes.push(masked | LENGTH_64);
                bytes.extend_from_slice(&self.length.to_be_bytes());
            }
        }
        bytes.extend_from_slice(self.mask.as_ref().map_or(&[], |key| key.as_slice()));
    }

    /// Appends a whole frame to `bytes`. `length` is taken from the payload, which is masked if
    /// there is a key.
    pub fn write_frame(&self, payload: &[u8], bytes: &mut Vec<u8>) {
        let header = Self {
            length: payload.len() as u64,
            ..*self
        };
        header.write(bytes);
        match self.mask {
            Some(key) => extend_unmasked(bytes, payload, key, 0),
            None => bytes.extend_from_slice(payload),
        }
    }
}

/// Masks or unmasks `payload` in place: both are the same. `offset` tells how many octets of the
/// frame's payload came before.
pub fn apply_mask(mut key: [u8; 4], offset: u64, payload: &mut [u8]) {
    // Turned so that the first octet of the key meets the first octet here.
    key.rotate_left((offset & 3) as usize);
    let [first, second, third, fourth] = key;
    let wide = [first, second, third, fourth, first, second, third, fourth];
    let wide_word = u64::from_ne_bytes(wide);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide_word).to_ne_bytes();
    }
    for (octet, key) in rest.iter_mut().zip(wide) {
        *octet ^= key;
    }
}

/// Appends `payload` to `bytes` and applies the mask there.
pub(super) fn extend_unmasked(bytes: &mut Vec<u8>, payload: &[u8], key: [u8; 4], offset: u64) {
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    apply_mask(key, offset, bytes.get_mut(start..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let lengths = [
            0,
            1,
            125,
            126,
            127,
            65_535,
            65_536,
            1 << 40,
            i64::MAX as u64,
        ];
        for (place, length) in (0_u8..).zip(lengths) {
            for mask in [None, Some([1, 2, 3, 4])] {
                let header = Header {
                    fin: place % 2 == 0,
                    reserved: 0x10 << (place % 3),
                    opcode: Opcode::from_bits(place * 5),
                    mask,
                    length,
                };
                let mut bytes = Vec::new();
                header.write(&mut bytes);
                let parsed = ParsedHeader {
                    header,
                    bytes: bytes.len(),
                    minimal: true,
                };
                assert_eq!(Header::parse(&bytes), Ok(Some(parsed)));
                bytes.push(0);
                assert_eq!(Header::parse(&bytes), Ok(Some(parsed)));
                for end in 0..bytes.len() - 1 {
                    assert_eq!(Header::parse(&bytes[..end]), Ok(None));
                    let wanted = Header::bytes_wanted(&bytes[..end]);
                    assert!(end < wanted && wanted < bytes.len());
                }
            }
        }
    }

    #[test]
    fn lengths_are_minimal_or_noted_or_refused() {
        let minimal = |bytes: &[u8]| Header::parse(bytes).unwrap().unwrap().minimal;
        assert!(!minimal(&[0x82, 126, 0, 125]));
        assert!(minimal(&[0x82, 126, 0, 126]));
        assert!(!minimal(&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]));
        assert!(minimal(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]));
        let refused = Header::parse(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(refused, Err(LengthError));
    }

    #[test]
    fn every_octet_meets_its_octet_of_the_key() {
        let key = [0x11, 0x22, 0x44, 0x88];
        let payload: Vec<u8> = (0..100).collect();
        let expected: Vec<u8> = (0..100).map(|at| at ^ key[usize::from(at) % 4]).collect();
        for start in 0..40 {
            for end in start..100 {
                let mut octets = payload[start..end].to_vec();
                apply_mask(key, start as u64, &mut octets);
                assert_eq!(octets, expected[start..end]);
            }
        }
    }
}
