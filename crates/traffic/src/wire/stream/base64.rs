//! The base64 of `application/grpc-web-text`: pieces that may each end in padding, one after the
//! other (RFC 4648 section 4; gRPC-Web protocol, "text-encoded streams").

use super::grpc::Grpc;
use super::{Out, StreamNote};

const CHUNK_BYTES: usize = 1024;
const INVALID: u8 = 0xff;
const VALUES: [u8; 256] = values();

/// What of a group of four characters has not come out.
#[derive(Debug, Default)]
pub(super) struct Base64 {
    bits: u32,
    bits_count: u32,
    after_padding: bool,
}

impl Base64 {
    /// Gives the bytes of each group as soon as their last bit is there. False if nothing more can
    /// be understood.
    pub(super) fn push(&mut self, text: &[u8], out: &mut Out<'_>, grpc: &mut Grpc) -> bool {
        let mut bytes = [0; CHUNK_BYTES];
        for piece in text.chunks(CHUNK_BYTES) {
            let mut length = 0;
            let mut valid = true;
            for character in piece {
                match self.take(*character) {
                    Ok(None) => {}
                    Ok(Some(byte)) => {
                        if let Some(place) = bytes.get_mut(length) {
                            *place = byte;
                        }
                        length += 1;
                    }
                    Err(Invalid) => {
                        valid = false;
                        break;
                    }
                }
            }
            if !grpc.push(bytes.get(..length).unwrap_or_default(), out) {
                return false;
            }
            if !valid {
                out.note(StreamNote::Base64Invalid);
                return false;
            }
        }
        true
    }

    fn take(&mut self, character: u8) -> Result<Option<u8>, Invalid> {
        match character {
            b'\r' | b'\n' => return Ok(None),
            b'=' if self.bits_count > 0 || self.after_padding => {
                // Bits before the padding belong to no byte.
                self.bits_count = 0;
                self.after_padding = true;
                return Ok(None);
            }
            _ => {}
        }
        let value = VALUES
            .get(usize::from(character))
            .copied()
            .unwrap_or(INVALID);
        if value == INVALID {
            return Err(Invalid);
        }
        self.after_padding = false;
        self.bits = (self.bits << 6 | u32::from(value)) & 0xffff;
        self.bits_count += 6;
        if self.bits_count < 8 {
            return Ok(None);
        }
        self.bits_count -= 8;
        let [.., byte] = (self.bits >> self.bits_count).to_be_bytes();
        Ok(Some(byte))
    }
}

struct Invalid;

const fn values() -> [u8; 256] {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [INVALID; 256];
    let mut value = 0;
    while value < 64 {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        let character = alphabet[value as usize];
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            values[character as usize] = value;
        }
        value += 1;
    }
    values
}
