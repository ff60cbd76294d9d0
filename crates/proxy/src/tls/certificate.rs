//! Reads certificates, ours and those of upstreams: short facts for people and records.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use traffic::{CertificateFacts, Timestamp};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{self, Oid};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::limits::READ_CERTIFICATES_MAX;

/// Names of a certificate that are kept. Some have a hundred.
const NAMES_MAX: usize = 32;
/// Longest text kept of a name in a certificate: names come from strangers.
const NAME_CHARS_MAX: usize = 512;

/// The attributes that RFC 4514 section 3 gives short names.
const SHORT_NAMES: &[(Oid<'_>, &str)] = &[
    (oid_registry::OID_X509_COMMON_NAME, "CN"),
    (oid_registry::OID_X509_LOCALITY_NAME, "L"),
    (oid_registry::OID_X509_STATE_OR_PROVINCE_NAME, "ST"),
    (oid_registry::OID_X509_ORGANIZATION_NAME, "O"),
    (oid_registry::OID_X509_ORGANIZATIONAL_UNIT, "OU"),
    (oid_registry::OID_X509_COUNTRY_NAME, "C"),
    (oid_registry::OID_X509_STREET_ADDRESS, "STREET"),
    (oid_registry::OID_DOMAIN_COMPONENT, "DC"),
    (oid_registry::OID_USERID, "UID"),
];

/// Certificates that were read lately: a host shows the same one at each connection, and many hosts may
/// show one together.
#[derive(Debug, Default)]
pub(crate) struct ReadCertificates(Mutex<HashMap<[u8; 32], Arc<CertificateFacts>>>);

impl ReadCertificates {
    /// As [`facts`].
    pub(crate) fn facts(&self, chain: &[CertificateDer<'_>]) -> Option<CertificateFacts> {
        let Self(known) = self;
        let sha256 = sha256(chain.first()?);
        let found = known.lock().get(&sha256).map(Arc::clone);
        let read = match found {
            Some(read) => read,
            None => {
                let read = Arc::new(facts(chain)?);
                let mut known = known.lock();
                if known.len() >= READ_CERTIFICATES_MAX {
                    known.clear();
                }
                known.insert(sha256, Arc::clone(&read));
                read
            }
        };
        Some(CertificateFacts {
            chain_length: chain.len(),
            ..CertificateFacts::clone(&read)
        })
    }
}

/// The short view of a chain as an upstream sent it; `None` if its leaf cannot be read.
pub(crate) fn facts(chain: &[CertificateDer<'_>]) -> Option<CertificateFacts> {
    let leaf = chain.first()?;
    let certificate = parse(leaf)?;
    Some(CertificateFacts {
        subject: distinguished_name(certificate.subject()),
        issuer: distinguished_name(certificate.issuer()),
        not_before: timestamp(certificate.validity().not_before.timestamp()),
        not_after: timestamp(certificate.validity().not_after.timestamp()),
        names: names(&certificate),
        sha256: sha256(leaf),
        chain_length: chain.len(),
    })
}

/// Reads a certificate; bytes after it are an error.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    match X509Certificate::from_der(der.as_ref()) {
        Ok(([], certificate)) => Some(certificate),
        Ok(_) | Err(_) => None,
    }
}

/// A name as RFC 4514 writes it: the most specific part first, as in `CN=a.com,O=A,C=DE`.
pub(crate) fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .take(NAMES_MAX)
        .map(|part| {
            let attributes: Vec<_> = part.iter().take(NAMES_MAX).map(attribute).collect();
            attributes.join("+")
        })
        .collect();
    parts.reverse();
    bounded(parts.join(","))
}

/// One attribute; a value that is no text of today is written in hexadecimal.
fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = attribute.attr_type();
    let known = SHORT_NAMES
        .iter()
        .find(|(identifier, _)| kind == identifier);
    let kind = match known {
        Some((_, short)) => (*short).to_owned(),
        None => kind.to_id_string(),
    };
    match attribute.as_str() {
        Ok(value) => format!("{kind}={}", escaped(value)),
        Err(_) => {
            let octets = attribute.as_slice().iter().take(NAME_CHARS_MAX);
            let value: String = octets.map(|octet| format!("{octet:02x}")).collect();
            format!("{kind}=#{value}")
        }
    }
}

/// As RFC 4514 section 2.4 has it, and what controls a terminal in hexadecimal as well.
fn escaped(value: &str) -> String {
    let mut written = String::with_capacity(value.len());
    for (index, character) in value.char_indices() {
        if character.is_control() {
            let mut octets = [0; 4];
            let octets = character.encode_utf8(&mut octets).bytes();
            written.extend(octets.map(|octet| format!("\\{octet:02x}")));
            continue;
        }
        let first = index == 0 && matches!(character, '#' | ' ');
        let last = index + 1 == value.len() && character == ' ';
        let special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        if first || last || special {
            written.push('\\');
        }
        written.push(character);
    }
    written
}

/// SHA-1, which some systems still name certificates by.
pub(crate) fn sha1(bytes: &[u8]) -> [u8; 20] {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    digest.as_ref().try_into().expect("SHA-1 gives 20 octets")
}

/// SHA-256, from the provider that TLS uses.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256 as SUITE;

    let suite = SUITE.tls13().expect("its name begins with TLS13");
    let digest = suite.common.hash_provider.hash(bytes);
    digest
        .as_ref()
        .try_into()
        .expect("SHA-256 gives 32 octets, and the suite's name ends with SHA256")
}

/// Seconds since the epoch, as certificates count, in our unit.
pub(crate) fn timestamp(seconds: i64) -> Timestamp {
    Timestamp(seconds.saturating_mul(1_000_000))
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(octets) => address(octets),
            _ => None,
        })
        .take(NAMES_MAX)
        .map(bounded)
        .collect()
}

fn address(octets: &[u8]) -> Option<String> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(std::net::Ipv4Addr::from(octets).to_string());
    }
    let octets = <[u8; 16]>::try_from(octets).ok()?;
    Some(std::net::Ipv6Addr::from(octets).to_string())
}

/// Names come from strangers and end up in logs, records and replies.
fn bounded(text: String) -> String {
    if text.len() <= NAME_CHARS_MAX && !text.contains(char::is_control) {
        return text;
    }
    let plain = |character: char| match character.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => character,
    };
    text.chars().take(NAME_CHARS_MAX).map(plain).collect()
}

#[cfg(test)]
mod tests;
