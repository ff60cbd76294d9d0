//! TLS on both sides: our authority and its leaves towards clients, verification towards
//! upstreams.

pub mod authority;
pub(crate) mod certificate;
pub mod chain;
pub mod client_side;
pub mod constraints;
pub(crate) mod der;
pub mod identity;
pub mod key;
pub mod leaf;
pub mod listener_side;
pub mod pem;
pub mod pkcs12;
pub mod request;
pub(crate) mod settled;
pub(crate) mod signed;
pub(crate) mod subject_hash;
#[cfg(test)]
pub(crate) mod tests;
pub mod upstream_side;
mod verified;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::{AlertDescription, CipherSuite, PeerIncompatible};

/// The one cryptography provider. It is passed explicitly and never installed for the process: an
/// embedder may have its own.
///
/// AES-128 comes first, as in browsers. Its hash is SHA-256, for which processors have instructions.
/// They have none for SHA-384, of AES-256: it makes a new connection cost a sixth more.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(|suite| {
            !matches!(
                suite.suite(),
                CipherSuite::TLS13_AES_128_GCM_SHA256
                    | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                    | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            )
        });
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

/// Octets that nobody can guess. They are all zero if the system has none to give, which TLS would
/// not survive.
pub(crate) fn nonce() -> [u8; 16] {
    let mut nonce = [0; 16];
    if provider().secure_random.fill(&mut nonce).is_err() {
        tracing::warn!("the system has no randomness to give");
    }
    nonce
}

/// The alert that a connection ended with. The h2 crate keeps only the text of an error, so that of
/// the alerts about certificates is compared.
pub(crate) fn alert_in(error: &std::io::Error) -> Option<AlertDescription> {
    let inner = error.get_ref()?;
    if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
        return match tls {
            rustls::Error::AlertReceived(alert) => Some(*alert),
            _ => None,
        };
    }
    let text = inner.to_string();
    ABOUT_CERTIFICATES
        .into_iter()
        .find(|alert| rustls::Error::AlertReceived(*alert).to_string() == text)
}

/// Whether two sides have no version of TLS in common.
pub(crate) fn is_about_version(reason: &PeerIncompatible) -> bool {
    matches!(
        reason,
        PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
    )
}

/// Alerts by which a peer refuses a certificate, or that it was shown none (RFC 8446 section 6.2).
const ABOUT_CERTIFICATES: [AlertDescription; 9] = [
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
    AlertDescription::CertificateRequired,
];

/// The name of an alert as the standard writes it (RFC 8446 section 6), for example `unknown_ca`.
pub(crate) fn alert_name(alert: AlertDescription) -> String {
    let Some(name) = alert.as_str() else {
        return u8::from(alert).to_string();
    };
    let mut written = String::with_capacity(name.len() + 4);
    let mut after_lower = false;
    for character in name.chars() {
        if character.is_ascii_uppercase() && after_lower {
            written.push('_');
        }
        after_lower = character.is_ascii_lowercase();
        written.push(character.to_ascii_lowercase());
    }
    written
}
