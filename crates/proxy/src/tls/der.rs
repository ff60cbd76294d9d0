//! Writes X.509 certificates (RFC 5280) and requests for them (RFC 2986) in DER, authorities and
//! leaves alike, and takes apart what is signed.
//!
//! The issuer's name goes into a leaf byte for byte as it stands in the authority's certificate:
//! verifiers compare those bytes, and an authority of a company has names (several `DC` parts,
//! old string types) that do not survive being read and written again.

use rcgen::{KeyPair, SigningKey};
use traffic::Timestamp;

use super::constraints::Subtree;

const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// PKCS#9 extensionRequest (RFC 2985 section 5.4.2).
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// Seconds of a day.
pub(crate) const DAY_SECONDS: i64 = 86_400;

/// What a certificate says; the key that signs it is given besides.
pub(crate) struct Template<'a> {
    /// Random, positive, at most 20 octets.
    pub(crate) serial: &'a [u8],
    /// Name in DER.
    pub(crate) issuer: &'a [u8],
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// Name in DER.
    pub(crate) subject: &'a [u8],
    /// SubjectPublicKeyInfo in DER.
    pub(crate) public_key: &'a [u8],
    /// Each in DER, from the functions below.
    pub(crate) extensions: &'a [Vec<u8>],
}

/// Why a certificate was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error("cannot sign with this kind of key")]
    UnsupportedKey,
    #[error("signing failed")]
    Sign(#[source] rcgen::Error),
}

/// Writes a certificate and signs it.
pub(crate) fn certificate(template: &Template<'_>, key: &KeyPair) -> Result<Vec<u8>, SignError> {
    let algorithm = signature_algorithm(key).ok_or(SignError::UnsupportedKey)?;
    let validity = [time(template.not_before), time(template.not_after)].concat();
    let version_3 = value(0xa0, &value(INTEGER, &[2]));
    let extensions = value(0xa3, &value(SEQUENCE, &template.extensions.concat()));
    let parts: [&[u8]; 8] = [
        &version_3,
        &value(INTEGER, template.serial),
        &algorithm,
        template.issuer,
        &value(SEQUENCE, &validity),
        template.subject,
        template.public_key,
        &extensions,
    ];
    signed(value(SEQUENCE, &parts.concat()), algorithm, key)
}

/// Writes a request for a certificate with these extensions and signs it with its own key
/// (RFC 2986 section 4).
pub(crate) fn request(
    subject: &[u8],
    public_key: &[u8],
    extensions: &[Vec<u8>],
    key: &KeyPair,
) -> Result<Vec<u8>, SignError> {
    let algorithm = signature_algorithm(key).ok_or(SignError::UnsupportedKey)?;
    let wanted = [
        value(OBJECT_IDENTIFIER, EXTENSION_REQUEST),
        value(SET, &value(SEQUENCE, &extensions.concat())),
    ];
    let attributes = value(0xa0, &value(SEQUENCE, &wanted.concat()));
    let parts: [&[u8]; 4] = [&value(INTEGER, &[0]), subject, public_key, &attributes];
    signed(value(SEQUENCE, &parts.concat()), algorithm, key)
}

/// What is signed, by what algorithm, and the signature.
fn signed(to_be_signed: Vec<u8>, algorithm: Vec<u8>, key: &KeyPair) -> Result<Vec<u8>, SignError> {
    let signature = key.sign(&to_be_signed).map_err(SignError::Sign)?;
    let signature = bit_string(&signature);
    Ok(value(
        SEQUENCE,
        &[to_be_signed, algorithm, signature].concat(),
    ))
}

/// A name of what is given of it, or of nothing.
pub(crate) fn name(common_name: Option<&str>, organization: Option<&str>) -> Vec<u8> {
    let attribute = |kind: &[u8], text: &str| {
        let parts = [
            value(OBJECT_IDENTIFIER, kind),
            value(UTF8_STRING, text.as_bytes()),
        ];
        value(SET, &value(SEQUENCE, &parts.concat()))
    };
    let organization = organization.map(|text| attribute(ORGANIZATION, text));
    let common_name = common_name.map(|text| attribute(COMMON_NAME, text));
    let parts: Vec<_> = organization.into_iter().chain(common_name).collect();
    value(SEQUENCE, &parts.concat())
}

/// What makes an authority: it may sign certificates, with at most `path_length` authorities
/// between it and a leaf.
pub(crate) fn authority_extensions(path_length: u8) -> Vec<Vec<u8>> {
    // The encoding of INTEGER is signed.
    let path_length = match path_length < 0x80 {
        true => value(INTEGER, &[path_length]),
        false => value(INTEGER, &[0, path_length]),
    };
    let constraints = [value(BOOLEAN, &[0xff]), path_length].concat();
    // keyCertSign and cRLSign are bits 5 and 6; the last bit is unused.
    let key_usage = value(BIT_STRING, &[1, 0b0000_0110]);
    vec![
        extension(BASIC_CONSTRAINTS, true, &value(SEQUENCE, &constraints)),
        extension(KEY_USAGE, true, &key_usage),
    ]
}

/// The extensions that tell keys of one name apart.
pub(crate) fn key_identifiers(key_id: &[u8], authority_key_id: &[u8]) -> Vec<Vec<u8>> {
    let identifier = value(SEQUENCE, &value(0x80, authority_key_id));
    vec![
        extension(SUBJECT_KEY_IDENTIFIER, false, &value(OCTET_STRING, key_id)),
        extension(AUTHORITY_KEY_IDENTIFIER, false, &identifier),
    ]
}

/// Name constraints (RFC 5280 section 4.2.1.10) that permit these hosts and no others. A kind of
/// name that is not constrained is free, so the kind that is not among them is excluded as a whole.
pub(crate) fn name_constraints(permitted: &[Subtree]) -> Vec<u8> {
    let every_name = Subtree::every_name();
    let every_address = Subtree::every_address();
    let mut excluded: Vec<&Subtree> = Vec::new();
    if !permitted.iter().any(Subtree::is_name) {
        excluded.push(&every_name);
    }
    if permitted.iter().all(Subtree::is_name) {
        excluded.extend(&every_address);
    }
    let mut content = subtrees(0xa0, permitted.iter());
    if !excluded.is_empty() {
        content.extend(subtrees(0xa1, excluded.into_iter()));
    }
    name_constraints_extension(&value(SEQUENCE, &content))
}

/// Name constraints whose value is written already.
pub(crate) fn name_constraints_extension(content: &[u8]) -> Vec<u8> {
    extension(NAME_CONSTRAINTS, true, content)
}

fn subtrees<'a>(tag: u8, subtrees: impl Iterator<Item = &'a Subtree>) -> Vec<u8> {
    let written = subtrees.map(|subtree| {
        let base = match subtree {
            Subtree::Names(name) => value(0x82, name.as_bytes()),
            Subtree::Addresses { octets, mask } => value(0x87, &[&octets[..], mask].concat()),
        };
        value(SEQUENCE, &base)
    });
    value(tag, &written.collect::<Vec<_>>().concat())
}

/// The extensions of a leaf that are the same for all names.
pub(crate) fn leaf_extensions(key_id: &[u8], authority_key_id: &[u8]) -> Vec<Vec<u8>> {
    // digitalSignature is bit 0; the last seven are unused.
    let key_usage = value(BIT_STRING, &[7, 0b1000_0000]);
    let usages = value(SEQUENCE, &value(OBJECT_IDENTIFIER, SERVER_AUTH));
    let mut extensions = vec![
        extension(BASIC_CONSTRAINTS, true, &value(SEQUENCE, &[])),
        extension(KEY_USAGE, true, &key_usage),
        extension(EXTENDED_KEY_USAGE, false, &usages),
    ];
    extensions.extend(key_identifiers(key_id, authority_key_id));
    extensions
}

/// The name a leaf is for. It is critical if the subject is empty (RFC 5280 section 4.2.1.6).
pub(crate) fn subject_alt_name(hosts: &[traffic::Host], critical: bool) -> Vec<u8> {
    let name = |host: &traffic::Host| match host {
        traffic::Host::Name(name) => value(0x82, name.as_bytes()),
        traffic::Host::Ip(std::net::IpAddr::V4(address)) => value(0x87, &address.octets()),
        traffic::Host::Ip(std::net::IpAddr::V6(address)) => value(0x87, &address.octets()),
    };
    let names: Vec<u8> = hosts.iter().flat_map(name).collect();
    extension(SUBJECT_ALT_NAME, critical, &value(SEQUENCE, &names))
}

fn extension(identifier: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let critical = if critical {
        value(BOOLEAN, &[0xff])
    } else {
        Vec::new()
    };
    let parts = [
        value(OBJECT_IDENTIFIER, identifier),
        critical,
        value(OCTET_STRING, content),
    ];
    value(SEQUENCE, &parts.concat())
}

/// The AlgorithmIdentifier of the signatures that a key makes.
fn signature_algorithm(key: &KeyPair) -> Option<Vec<u8>> {
    const NULL: &[u8] = &[0x05, 0x00];
    const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
    const ECDSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];
    const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
    const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

    let known = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, ECDSA_SHA256, &[][..]),
        (&rcgen::PKCS_ECDSA_P384_SHA384, ECDSA_SHA384, &[]),
        (&rcgen::PKCS_ECDSA_P521_SHA256, ECDSA_SHA256, &[]),
        (&rcgen::PKCS_ECDSA_P521_SHA384, ECDSA_SHA384, &[]),
        (&rcgen::PKCS_ECDSA_P521_SHA512, ECDSA_SHA512, &[]),
        (&rcgen::PKCS_RSA_SHA256, RSA_SHA256, NULL),
        (&rcgen::PKCS_ED25519, ED25519, &[]),
    ];
    let (_, identifier, parameters) = known
        .into_iter()
        .find(|(algorithm, _, _)| *algorithm == key.algorithm())?;
    let identifier = value(OBJECT_IDENTIFIER, identifier);
    Some(value(SEQUENCE, &[&identifier, parameters].concat()))
}

fn bit_string(bytes: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &[&[0], bytes].concat())
}

/// UTCTime up to 2049 and GeneralizedTime from 2050 on (RFC 5280 section 4.1.2.5).
fn time(moment: Timestamp) -> Vec<u8> {
    let civil = Civil::from(moment);
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
    } = civil;
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    if (1950..2050).contains(&year) {
        let year = year % 100;
        value(UTC_TIME, format!("{year:02}{rest}").as_bytes())
    } else {
        value(GENERALIZED_TIME, format!("{year:04}{rest}").as_bytes())
    }
}

/// A tag, the length of the content, and the content.
pub(crate) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(content.len() + 6);
    written.push(tag);
    match u8::try_from(content.len()) {
        Ok(length) if length < 0x80 => written.push(length),
        Ok(_) | Err(_) => {
            let length = content.len().to_be_bytes();
            let zeros = length.iter().take_while(|byte| **byte == 0).count();
            let octets = length.len() - zeros;
            written.push(0x80 | u8::try_from(octets).expect("a usize has at most 8 octets"));
            written.extend(length.iter().skip(zeros));
        }
    }
    written.extend_from_slice(content);
    written
}

/// The values within the content of a value of this tag, one after the other: tag, content, and the
/// value as a whole. Nothing if it is not so.
pub(crate) struct Values<'a>(&'a [u8]);

/// One value in DER.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

impl<'a> Values<'a> {
    /// The values that this is made of.
    pub(crate) fn of(content: &'a [u8]) -> Self {
        Self(content)
    }

    /// The values in a SEQUENCE that is all there is.
    pub(crate) fn in_sequence(der: &'a [u8]) -> Option<Self> {
        let mut outer = Values(der);
        let sequence = outer.next()?;
        (sequence.tag == SEQUENCE && outer.0.is_empty()).then_some(Self(sequence.content))
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    /// The next value, unless nothing or something else than a value is left.
    fn next(&mut self) -> Option<Value<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..0x80 => (usize::from(first), rest),
            _ => {
                let octets = usize::from(first & 0x7f);
                // Lengths of more than four octets are none of ours.
                if octets > 4 {
                    return None;
                }
                let (octets, rest) = rest.split_at_checked(octets)?;
                let sum = |length, octet: &u8| length << 8 | usize::from(*octet);
                (octets.iter().fold(0, sum), rest)
            }
        };
        let (content, after) = rest.split_at_checked(length)?;
        let whole = self.0.get(..self.0.len() - after.len())?;
        self.0 = after;
        Some(Value {
            tag,
            content,
            whole,
        })
    }
}

/// Date and time of day, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl From<Timestamp> for Civil {
    fn from(moment: Timestamp) -> Self {
        let seconds = moment.0.div_euclid(1_000_000);
        let of_day = seconds.rem_euclid(DAY_SECONDS);
        // Count days from 1 March of year 0, so that the leap day is the last of its year: then
        // 400 years have 146,097 days, and month lengths follow 153 days per five months.
        let days = seconds.div_euclid(DAY_SECONDS) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let in_next_year = month_from_march >= 10;
        Self {
            year: era * 400 + year_of_era + i64::from(in_next_year),
            month: month_from_march + if in_next_year { -9 } else { 3 },
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: of_day / 3_600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }
}

impl std::fmt::Display for Civil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = self;
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_civil(seconds: i64, expected: &str) {
        let civil = Civil::from(Timestamp(seconds * 1_000_000));
        assert_eq!(civil.to_string(), expected);
    }

    #[test]
    fn tells_dates() {
        check_civil(0, "1970-01-01 00:00:00 UTC");
        check_civil(-1, "1969-12-31 23:59:59 UTC");
        check_civil(951_782_400, "2000-02-29 00:00:00 UTC");
        check_civil(1_709_251_199, "2024-02-29 23:59:59 UTC");
        check_civil(2_524_608_000, "2050-01-01 00:00:00 UTC");
        check_civil(4_107_542_400, "2100-03-01 00:00:00 UTC");
    }

    #[test]
    fn times_change_form_in_2050() {
        assert_eq!(time(Timestamp(0)), b"\x17\x0d700101000000Z");
        assert_eq!(
            time(Timestamp(2_524_608_000_000_000)),
            b"\x18\x0f20500101000000Z"
        );
    }

    #[test]
    fn lengths_take_what_they_need() {
        assert_eq!(value(4, &[0; 127])[..2], [4, 127]);
        assert_eq!(value(4, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(value(4, &[0; 256])[..4], [4, 0x82, 1, 0]);
    }
}
