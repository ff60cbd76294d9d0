//! Why there is no authority.

use std::path::PathBuf;

use super::{COMMON_NAME_CHARS_MAX, LIFETIME_DAYS_MAX, ORGANIZATION_CHARS_MAX};

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Others than the owner can read the key.
    #[error("the key {path} can be read by others (mode {mode:o}); run: chmod 600 '{path}'")]
    KeyExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is no certificate in the bytes.
    #[error("there is no certificate in it, neither PEM (-----BEGIN CERTIFICATE-----) nor DER")]
    NoCertificate,
    /// The certificate is broken.
    #[error("certificate {position} of the chain cannot be read")]
    BadCertificate {
        /// Counted from 1.
        position: usize,
    },
    /// There is no private key in the bytes.
    #[error("there is no private key in it, neither PEM (-----BEGIN PRIVATE KEY-----) nor DER")]
    NoKey,
    /// The key is protected by a passphrase.
    #[error("the key is encrypted; decrypt it first: openssl pkey -in KEY -out DECRYPTED")]
    EncryptedKey,
    /// The key is broken, or of a kind that cannot be used.
    #[error(
        "the key cannot be used; RSA (2048 bits and more), ECDSA (P-256, P-384, P-521) and \
         Ed25519 keys can"
    )]
    BadKey,
    /// The certificate is not one of an authority.
    #[error("{subject} is not an authority: {reason}")]
    NotAnAuthority {
        /// Whose certificate it is.
        subject: String,
        /// What is missing.
        reason: &'static str,
    },
    /// Key and certificate do not belong together.
    #[error("the key does not belong to the certificate of {subject}")]
    KeyMismatch {
        /// Whose certificate it is.
        subject: String,
    },
    /// The common name is longer than a certificate can hold, or empty.
    #[error("the common name must have 1 to {COMMON_NAME_CHARS_MAX} characters")]
    BadCommonName,
    /// The same of the organization.
    #[error("the name of an organization must have 1 to {ORGANIZATION_CHARS_MAX} characters")]
    BadOrganization,
    /// It would be valid for too long, or not at all.
    #[error("an authority is valid for 1 to {LIFETIME_DAYS_MAX} days")]
    BadLifetime,
    /// The one that is to sign another allows no more authorities below it.
    #[error(
        "{subject} allows {allowed} authorities between it and a leaf; signing this one takes \
         {wanted}"
    )]
    PathTooLong {
        /// Who was to sign.
        subject: String,
        /// What its path length, and those above it, leave.
        allowed: u32,
        /// The one that is signed, and those that it may sign.
        wanted: u32,
    },
    /// The one that is to sign another has the same key.
    #[error("the request was made with the key of {subject}: nobody can vouch for themselves")]
    OwnRequest {
        /// Who was to sign.
        subject: String,
    },
    /// The time of who is to sign is over.
    #[error("{subject} has expired")]
    Expired {
        /// Who was to sign.
        subject: String,
    },
    /// Making or using the key failed.
    #[error("cannot make the certificate authority")]
    Generate(#[source] Box<dyn std::error::Error + Send + Sync>),
}
