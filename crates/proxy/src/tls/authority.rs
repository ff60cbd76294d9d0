//! The certificate authority whose leaves clients see: made here, or brought by whoever runs this.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use traffic::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use super::certificate::{distinguished_name, parse, sha256, timestamp};
use super::{der, provider};

/// How long an authority made here is valid. Whoever trusts it trusts it for everything, so it
/// should not outlive its use by much.
const LIFETIME_DAYS: i64 = 365;
/// A client's clock may be behind ours.
const BACK_DATED_SECONDS: i64 = 3_600;
/// Longest common name (RFC 5280 appendix A.1, ub-common-name).
pub(crate) const COMMON_NAME_CHARS_MAX: usize = 64;
/// A file of certificates or of a key is some kilobytes; this guards against a wrong path.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A certificate and its key, able to sign leaves.
pub struct Authority {
    /// As imported: the authority first, then what it was issued by.
    chain: Vec<CertificateDer<'static>>,
    certificate_pem: String,
    key: KeyPair,
    key_pem: String,
    subject: String,
    subject_der: Vec<u8>,
    key_id: Vec<u8>,
    chain_to_serve: Vec<CertificateDer<'static>>,
    not_before: Timestamp,
    not_after: Timestamp,
}

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
    /// There is no certificate in the text.
    #[error("there is no certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// The certificate is broken.
    #[error("certificate {position} of the chain cannot be read")]
    BadCertificate {
        /// Counted from 1.
        position: usize,
    },
    /// There is no private key in the text.
    #[error("there is no private key in PEM form (-----BEGIN PRIVATE KEY-----)")]
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
    /// The name is longer than a certificate can hold, or empty.
    #[error("the common name must have 1 to {COMMON_NAME_CHARS_MAX} characters")]
    BadCommonName,
    /// Making or using the key failed.
    #[error("cannot make the certificate authority")]
    Generate(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Authority {
    /// Makes a new authority with an ECDSA P-256 key. It can sign leaves, but no other authority.
    pub fn generate(common_name: &str, now: Timestamp) -> Result<Self, AuthorityError> {
        if common_name.is_empty() || common_name.chars().count() > COMMON_NAME_CHARS_MAX {
            return Err(AuthorityError::BadCommonName);
        }
        let key = KeyPair::generate().map_err(|error| AuthorityError::Generate(error.into()))?;
        let name = der::name(Some(common_name));
        let lifetime = LIFETIME_DAYS * der::DAY_SECONDS;
        let template = der::Template {
            serial: &random_serial().map_err(|error| AuthorityError::Generate(error.into()))?,
            issuer: &name,
            not_before: Timestamp(now.0.saturating_sub(BACK_DATED_SECONDS * 1_000_000)),
            not_after: Timestamp(now.0.saturating_add(lifetime * 1_000_000)),
            subject: &name,
            public_key: &key.subject_public_key_info(),
            extensions: &der::authority_extensions(&key_id(key.der_bytes())),
        };
        let certificate = der::certificate(&template, &key)
            .map_err(|error| AuthorityError::Generate(error.into()))?;
        let key_pem = key.serialize_pem();
        Self::from_parts(vec![certificate.into()], key, key_pem)
    }

    /// Takes an authority from PEM texts: its certificate, followed by those it was issued by
    /// where it is not a root, and its key (PKCS#8, PKCS#1 or SEC1, not encrypted).
    pub fn from_pem(certificate_chain: &str, key: &str) -> Result<Self, AuthorityError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate_chain.as_bytes())
            .enumerate()
            .map(|(index, certificate)| {
                let position = index + 1;
                certificate.map_err(|_error| AuthorityError::BadCertificate { position })
            })
            .collect::<Result<_, _>>()?;
        let key_der = match PrivateKeyDer::from_pem_slice(key.as_bytes()) {
            Ok(key) => key,
            Err(PemError::NoItemsFound) if key.contains("ENCRYPTED PRIVATE KEY") => {
                return Err(AuthorityError::EncryptedKey);
            }
            Err(PemError::NoItemsFound) => return Err(AuthorityError::NoKey),
            // The old form of an encrypted key says so in a header line, and then is no base64.
            Err(_error) if key.contains("Proc-Type: 4,ENCRYPTED") => {
                return Err(AuthorityError::EncryptedKey);
            }
            Err(_error) => return Err(AuthorityError::BadKey),
        };
        let key_pair = KeyPair::try_from(&key_der).map_err(|_error| AuthorityError::BadKey)?;
        Self::from_parts(chain, key_pair, key.to_owned())
    }

    /// Reads an authority from files. A key that others than its owner can read is refused:
    /// whoever has it can pretend to be any host towards everyone who trusts the certificate.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let certificate = read_file(certificate, |_| Ok(()))?;
        let key_text = read_file(key, |file| refuse_exposed(file, key))?;
        Self::from_pem(&certificate, &key_text)
    }

    /// The certificates in PEM form: the authority's first, then those it was issued by.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        self.chain
            .first()
            .expect("from_parts refuses an empty chain")
    }

    /// The private key in PEM form: a secret.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Whose certificate it is, for people.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// SHA-256 of the certificate in DER, the fingerprint that tools show.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        sha256(self.certificate_der())
    }

    /// Valid from.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Valid to.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// What is sent after a leaf: intermediates. A root is not: who trusts it has it.
    pub(crate) fn chain_to_serve(&self) -> &[CertificateDer<'static>] {
        &self.chain_to_serve
    }

    pub(crate) fn key(&self) -> &KeyPair {
        &self.key
    }

    /// The subject as it stands in the certificate.
    pub(crate) fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// The key identifier that leaves name their issuer by.
    pub(crate) fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    fn from_parts(
        chain: Vec<CertificateDer<'static>>,
        key: KeyPair,
        key_pem: String,
    ) -> Result<Self, AuthorityError> {
        let first = chain.first().ok_or(AuthorityError::NoCertificate)?;
        let mut chain_to_serve = Vec::new();
        for (index, der) in chain.iter().enumerate() {
            let position = index + 1;
            let certificate = parse(der).ok_or(AuthorityError::BadCertificate { position })?;
            if certificate.issuer().as_raw() != certificate.subject().as_raw() {
                chain_to_serve.push(der.clone());
            }
        }
        let certificate = parse(first).ok_or(AuthorityError::BadCertificate { position: 1 })?;
        let subject = distinguished_name(certificate.subject());
        check_is_authority(&certificate, &subject)?;
        if certificate.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
            return Err(AuthorityError::KeyMismatch { subject });
        }
        let subject_der = certificate.subject().as_raw().to_vec();
        let key_id = subject_key_id(&certificate).unwrap_or_else(|| key_id(key.der_bytes()));
        let not_before = timestamp(certificate.validity().not_before.timestamp());
        let not_after = timestamp(certificate.validity().not_after.timestamp());
        Ok(Self {
            certificate_pem: chain.iter().map(certificate_to_pem).collect(),
            chain,
            key,
            key_pem,
            subject,
            subject_der,
            key_id,
            chain_to_serve,
            not_before,
            not_after,
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("subject", &self.subject)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// A serial that no other certificate has: 16 random octets, positive and without leading zeros.
pub(crate) fn random_serial() -> Result<[u8; 16], rustls::Error> {
    let mut serial = [0; 16];
    provider().secure_random.fill(&mut serial)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

/// The first 160 bits of the SHA-256 of the key (RFC 7093 section 2).
pub(crate) fn key_id(public_key: &[u8]) -> Vec<u8> {
    sha256(public_key).into_iter().take(20).collect()
}

fn check_is_authority(
    certificate: &X509Certificate<'_>,
    subject: &str,
) -> Result<(), AuthorityError> {
    let refuse = |reason| {
        Err(AuthorityError::NotAnAuthority {
            subject: subject.to_owned(),
            reason,
        })
    };
    match certificate.basic_constraints() {
        Ok(Some(constraints)) if constraints.value.ca => {}
        Ok(_) | Err(_) => return refuse("its basic constraints do not say CA:TRUE"),
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => {
            refuse("its key usage does not allow signing certificates (keyCertSign)")
        }
        Ok(_) => Ok(()),
        Err(_) => refuse("its key usage cannot be read"),
    }
}

fn subject_key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
            _ => None,
        })
}

pub(super) fn read_file(
    path: &Path,
    check: impl FnOnce(&std::fs::File) -> Result<(), AuthorityError>,
) -> Result<String, AuthorityError> {
    let failed = |source| AuthorityError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    check(&file)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

/// Looks at the file that is open, not at the path: the path may lead elsewhere by now.
#[cfg(unix)]
pub(super) fn refuse_exposed(file: &std::fs::File, path: &Path) -> Result<(), AuthorityError> {
    use std::os::unix::fs::MetadataExt;

    let metadata = file.metadata().map_err(|source| AuthorityError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(AuthorityError::KeyExposed { path, mode });
    }
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn refuse_exposed(_file: &std::fs::File, _path: &Path) -> Result<(), AuthorityError> {
    Ok(())
}

/// PEM (RFC 7468): base64 in lines of 64 characters.
pub(crate) fn certificate_to_pem(certificate: &CertificateDer<'_>) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    // 48 octets make a line of 64 characters.
    for line in certificate.chunks(48) {
        STANDARD.encode_string(line, &mut pem);
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests;
