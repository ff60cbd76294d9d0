//! What a finished handshake settled, on either side.

use rustls::{CommonState, ProtocolVersion};
use traffic::TlsFacts;

/// What a finished handshake settled, but for the certificate that the other side showed.
#[must_use]
pub(crate) fn facts(connection: &CommonState, sni: Option<&str>) -> TlsFacts {
    let cipher = connection.negotiated_cipher_suite();
    let alpn = connection.alpn_protocol();
    TlsFacts {
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "unknown",
        },
        cipher: cipher
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or("unknown"),
        sni: sni.map(str::to_owned),
        alpn: alpn.map(|name| String::from_utf8_lossy(name).into_owned()),
        certificate: None,
        danger_unverified: false,
    }
}
