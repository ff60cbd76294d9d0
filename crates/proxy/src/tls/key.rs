//! Keys of authorities: the kinds that are made here, and those that are read.

use rcgen::{KeyPair, PublicKeyData, RsaKeySize};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{Error as PemError, PemObject};

use super::{der, pem};

/// A kind of key that an authority can be made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on the curve P-256. Signing a leaf takes less time than with RSA.
    P256,
    /// ECDSA on the curve P-384.
    P384,
    /// RSA with 2,048 bits.
    Rsa2048,
    /// RSA with 3,072 bits.
    Rsa3072,
    /// RSA with 4,096 bits. Of all kinds it takes longest to make.
    Rsa4096,
}

/// Why there is no key in some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyError {
    Absent,
    Encrypted,
    Unusable,
}

impl KeyKind {
    /// Makes a key.
    pub(crate) fn generate(self) -> Result<KeyPair, rcgen::Error> {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        match self {
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::Rsa2048 => rsa(RsaKeySize::_2048),
            Self::Rsa3072 => rsa(RsaKeySize::_3072),
            Self::Rsa4096 => rsa(RsaKeySize::_4096),
        }
    }

    /// The kind that a key has, or the nearest that can be made.
    pub(crate) fn like(key: &KeyPair) -> Self {
        let algorithm = key.algorithm();
        if algorithm == &rcgen::PKCS_RSA_SHA256 {
            return match rsa_bits(key.der_bytes()) {
                Some(..=2048) | None => Self::Rsa2048,
                Some(..=3072) => Self::Rsa3072,
                Some(_) => Self::Rsa4096,
            };
        }
        match algorithm == &rcgen::PKCS_ECDSA_P256_SHA256 || algorithm == &rcgen::PKCS_ED25519 {
            true => Self::P256,
            false => Self::P384,
        }
    }
}

/// What kind of key it is, for people.
pub(crate) fn describe(key: &KeyPair) -> String {
    let algorithm = key.algorithm();
    let known = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, "ECDSA P-256"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "ECDSA P-384"),
        (&rcgen::PKCS_ECDSA_P521_SHA512, "ECDSA P-521"),
        (&rcgen::PKCS_ED25519, "Ed25519"),
    ];
    if let Some((_, name)) = known.iter().find(|(known, _)| *known == algorithm) {
        return (*name).to_owned();
    }
    match rsa_bits(key.der_bytes()) {
        Some(bits) if algorithm == &rcgen::PKCS_RSA_SHA256 => format!("RSA {bits}"),
        _ => "ECDSA P-521".to_owned(),
    }
}

/// The length of the modulus (RFC 8017 appendix A.1.1).
fn rsa_bits(public_key: &[u8]) -> Option<usize> {
    let modulus = der::Values::in_sequence(public_key)?.next()?.content;
    let zeros = modulus.iter().take_while(|octet| **octet == 0).count();
    Some((modulus.len() - zeros) * 8)
}

/// Reads a key in PEM or DER: PKCS#8, PKCS#1 or SEC1, not encrypted. Gives it in PEM as well.
pub(crate) fn read(bytes: &[u8]) -> Result<(KeyPair, String), KeyError> {
    let contains = |text: &str| {
        let mut windows = bytes.windows(text.len());
        windows.any(|window| window == text.as_bytes())
    };
    let key = match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => key,
        Err(PemError::NoItemsFound) if contains("ENCRYPTED PRIVATE KEY") => {
            return Err(KeyError::Encrypted);
        }
        Err(PemError::NoItemsFound) if contains("-----BEGIN") => return Err(KeyError::Absent),
        Err(PemError::NoItemsFound) => {
            PrivateKeyDer::try_from(bytes).map_err(|_error| KeyError::Absent)?
        }
        // The old form of an encrypted key says so in a header line, and then is no base64.
        Err(_error) if contains("Proc-Type: 4,ENCRYPTED") => return Err(KeyError::Encrypted),
        Err(_error) => return Err(KeyError::Unusable),
    };
    let pair = KeyPair::try_from(&key).map_err(|_error| KeyError::Unusable)?;
    Ok((pair, pem::key(&key)))
}
