//! Writes certificates to trust as PKCS#12 (RFC 7292), the form that Java, Windows and macOS import.
//!
//! There is no key in it and so nothing to encrypt: the password is for the checksum that readers
//! ask for. Java takes those certificates for trusted that have the attribute `trustedKeyUsage`.

use aws_lc_rs::{digest, hmac};
use rustls::pki_types::CertificateDer;

use super::certificate::{distinguished_name, parse};
use super::der::{INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, value};
use super::provider;

const BMP_STRING: u8 = 0x1e;

/// PKCS#7 data (1.2.840.113549.1.7.1).
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// A bag with a certificate (1.2.840.113549.1.12.10.1.3).
const CERT_BAG: &[u8] = &[
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03,
];
/// 1.2.840.113549.1.9.22.1.
const X509_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
/// 1.2.840.113549.1.9.20.
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x14];
/// Oracle's trustedKeyUsage (2.16.840.1.113894.746875.1.1).
const TRUSTED_KEY_USAGE: &[u8] = &[
    0x60, 0x86, 0x48, 0x01, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 0x01, 0x01,
];
const ANY_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// SHA-256 (2.16.840.1.101.3.4.2.1) without parameters.
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

/// Rounds of the derivation of the checksum's key: what Java writes. It protects no secret.
const ITERATIONS: u16 = 10_000;
const SALT_OCTETS: usize = 20;
/// Octets of a block of SHA-256.
const BLOCK_OCTETS: usize = 64;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
#[error("the system has no randomness to give")]
pub struct NoRandomness;

/// A trust store with these certificates.
pub fn trust_store(
    certificates: &[CertificateDer<'_>],
    password: &str,
) -> Result<Vec<u8>, NoRandomness> {
    let bags: Vec<u8> = certificates.iter().flat_map(bag).collect();
    let safe = value(SEQUENCE, &data(&value(SEQUENCE, &bags)));
    let mut salt = [0; SALT_OCTETS];
    let filled = provider().secure_random.fill(&mut salt);
    filled.map_err(|_error| NoRandomness)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &derive(password, &salt));
    let checksum = hmac::sign(&key, &safe);
    let algorithm = [value(OBJECT_IDENTIFIER, SHA256), vec![0x05, 0x00]].concat();
    let digest_info = [
        value(SEQUENCE, &algorithm),
        value(OCTET_STRING, checksum.as_ref()),
    ];
    let mac_data = [
        value(SEQUENCE, &digest_info.concat()),
        value(OCTET_STRING, &salt),
        value(INTEGER, &ITERATIONS.to_be_bytes()),
    ];
    let parts = [
        value(INTEGER, &[3]),
        data(&safe),
        value(SEQUENCE, &mac_data.concat()),
    ];
    Ok(value(SEQUENCE, &parts.concat()))
}

/// ContentInfo of what is not encrypted.
fn data(content: &[u8]) -> Vec<u8> {
    let parts = [
        value(OBJECT_IDENTIFIER, DATA),
        value(0xa0, &value(OCTET_STRING, content)),
    ];
    value(SEQUENCE, &parts.concat())
}

/// SafeBag of a certificate, under the name of its subject.
fn bag(certificate: &CertificateDer<'_>) -> Vec<u8> {
    let name = parse(certificate).map(|parsed| distinguished_name(parsed.subject()));
    let name = utf16(&name.unwrap_or_default());
    let mut attributes = [
        attribute(FRIENDLY_NAME, &value(BMP_STRING, &name)),
        attribute(
            TRUSTED_KEY_USAGE,
            &value(OBJECT_IDENTIFIER, ANY_EXTENDED_KEY_USAGE),
        ),
    ];
    // The elements of a SET OF stand in the order of their octets (X.690 section 11.6).
    attributes.sort();
    let certificate = [
        value(OBJECT_IDENTIFIER, X509_CERTIFICATE),
        value(0xa0, &value(OCTET_STRING, certificate)),
    ];
    let parts = [
        value(OBJECT_IDENTIFIER, CERT_BAG),
        value(0xa0, &value(SEQUENCE, &certificate.concat())),
        value(SET, &attributes.concat()),
    ];
    value(SEQUENCE, &parts.concat())
}

fn attribute(kind: &[u8], content: &[u8]) -> Vec<u8> {
    let parts = [value(OBJECT_IDENTIFIER, kind), value(SET, content)];
    value(SEQUENCE, &parts.concat())
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// The key of the checksum (RFC 7292 appendix B.2), which is as long as one digest.
fn derive(password: &str, salt: &[u8]) -> Vec<u8> {
    /// What the octets are for: integrity (appendix B.3).
    const INTEGRITY: u8 = 3;

    let mut password = utf16(password);
    password.extend([0, 0]);
    let repeated = |octets: &[u8]| -> Vec<u8> {
        let length = octets.len().div_ceil(BLOCK_OCTETS) * BLOCK_OCTETS;
        octets.iter().copied().cycle().take(length).collect()
    };
    let mut derived = [
        vec![INTEGRITY; BLOCK_OCTETS],
        repeated(salt),
        repeated(&password),
    ]
    .concat();
    for _ in 0..ITERATIONS {
        derived = digest::digest(&digest::SHA256, &derived).as_ref().to_vec();
    }
    derived
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::tls::tests::{authority, stranger};

    /// Runs a program in a folder; gives what it prints.
    fn run(folder: &std::path::Path, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap();
        let (said, text) = (output.stdout, String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{program} {arguments:?}: {text}");
        String::from_utf8(said).unwrap()
    }

    #[test]
    fn openssl_and_java_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let certificates = [
            authority().certificate_der().clone(),
            stranger().certificate_der().clone(),
        ];
        let store = trust_store(&certificates, "chang\u{e9}it").unwrap();
        std::fs::write(folder.join("trust.p12"), store).unwrap();
        let password = "pass:chang\u{e9}it";
        let read = ["pkcs12", "-in", "trust.p12", "-nokeys", "-passin", password];
        let said = run(folder, "openssl", &read);
        assert_eq!(said.matches("BEGIN CERTIFICATE").count(), 2);
        assert!(
            said.contains("friendlyName: CN=another authority"),
            "{said}"
        );

        let plain = trust_store(&certificates, "changeit").unwrap();
        std::fs::write(folder.join("java.p12"), plain).unwrap();
        if Command::new("keytool").arg("-help").output().is_err() {
            eprintln!("skipped: there is no keytool here");
            return;
        }
        let list = ["-list", "-keystore", "java.p12", "-storepass", "changeit"];
        let said = run(folder, "keytool", &list);
        assert_eq!(said.matches("trustedCertEntry").count(), 2, "{said}");
    }
}
