//! The number by which OpenSSL finds a certificate in a folder: `<hash>.0`. It is the first four
//! octets of the SHA-1 of the subject in a form of OpenSSL's own (`X509_NAME_hash`): each value as
//! UTF-8, in lower case as far as it is ASCII, with single spaces, and without the outer SEQUENCE.

use aws_lc_rs::digest;

use super::der::{self, Values};

const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const T61_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const VISIBLE_STRING: u8 = 0x1a;
const UNIVERSAL_STRING: u8 = 0x1c;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// The hash of a name in DER; `None` if it is no name.
pub(crate) fn subject_hash(name: &[u8]) -> Option<u32> {
    let mut canonical = Vec::with_capacity(name.len());
    for part in Values::in_sequence(name)? {
        let mut attributes = Vec::new();
        for attribute in Values::of(part.content) {
            let mut values = Values::of(attribute.content);
            let (kind, text) = (values.next()?, values.next()?);
            let text = match decode(text.tag, text.content) {
                Some(text) => der::value(UTF8_STRING, fold(&text).as_bytes()),
                None => text.whole.to_vec(),
            };
            attributes.push(der::value(SEQUENCE, &[kind.whole, &text].concat()));
        }
        // A SET in DER is in the order of its encodings (X.690 section 11.6).
        attributes.sort();
        canonical.extend(der::value(SET, &attributes.concat()));
    }
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &canonical);
    let first: [u8; 4] = digest.as_ref().get(..4)?.try_into().ok()?;
    Some(u32::from_le_bytes(first))
}

/// The text of a string type; `None` for what OpenSSL takes as it is.
fn decode(tag: u8, content: &[u8]) -> Option<String> {
    match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING | VISIBLE_STRING => {
            Some(String::from_utf8_lossy(content).into_owned())
        }
        // As OpenSSL, which reads it as Latin-1.
        T61_STRING => Some(content.iter().copied().map(char::from).collect()),
        BMP_STRING => {
            let units = content.chunks_exact(2).map(|two| {
                two.iter()
                    .fold(0, |sum: u16, octet| sum << 8 | u16::from(*octet))
            });
            Some(
                char::decode_utf16(units)
                    .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                    .collect(),
            )
        }
        UNIVERSAL_STRING => {
            let codes = content.chunks(4).map(number);
            Some(
                codes
                    .map(|code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
                    .collect(),
            )
        }
        _ => None,
    }
}

fn number(octets: &[u8]) -> u32 {
    octets
        .iter()
        .fold(0, |sum, octet| sum << 8 | u32::from(*octet))
}

fn fold(text: &str) -> String {
    let is_space = |c: char| c == ' ' || ('\t'..='\r').contains(&c);
    let words = text.split(is_space).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `openssl x509 -subject_hash` says of certificates with these names.
    #[test]
    fn openssl_says_the_same() {
        let attribute = |kind: u8, tag: u8, text: &[u8]| {
            let kind = der::value(0x06, &[0x55, 0x04, kind]);
            let parts = [kind, der::value(tag, text)].concat();
            der::value(SET, &der::value(SEQUENCE, &parts))
        };
        for (attributes, hash) in VECTORS {
            let parts = attributes
                .iter()
                .map(|(kind, tag, text)| attribute(*kind, *tag, text));
            let name = der::value(SEQUENCE, &parts.collect::<Vec<_>>().concat());
            assert_eq!(subject_hash(&name), Some(*hash), "{attributes:?}");
        }
        assert_eq!(subject_hash(b"\x30\x03"), None);
    }

    type Attributes = &'static [(u8, u8, &'static [u8])];
    const VECTORS: &[(Attributes, u32)] = &[
        (&[(3, UTF8_STRING, b"oriel on a")], 0xf91f_175b),
        (
            &[
                (10, PRINTABLE_STRING, b"Big  Corp "),
                (3, UTF8_STRING, "GR\u{c4}Y".as_bytes()),
            ],
            0xb8f9_aecf,
        ),
    ];
}
