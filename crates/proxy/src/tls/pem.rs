//! Writes PEM (RFC 7468), the text form of certificates and keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Certificates, one after the other.
#[must_use]
pub fn certificates(all: &[CertificateDer<'_>]) -> String {
    all.iter().map(|der| labelled("CERTIFICATE", der)).collect()
}

/// A request for a certificate.
pub(crate) fn request(der: &[u8]) -> String {
    labelled("CERTIFICATE REQUEST", der)
}

/// A key, under the name of its form.
pub(crate) fn key(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        // PKCS#8; there is no other form.
        _ => "PRIVATE KEY",
    };
    labelled(label, key.secret_der())
}

fn labelled(label: &str, der: &[u8]) -> String {
    let mut pem = format!("-----BEGIN {label}-----\n");
    // 48 octets make a line of 64 characters.
    for line in der.chunks(48) {
        STANDARD.encode_string(line, &mut pem);
        pem.push('\n');
    }
    pem.push_str("-----END ");
    pem.push_str(label);
    pem.push_str("-----\n");
    pem
}
