//! Certificates that oriel is given to show: to upstreams that ask their clients for one (mutual
//! TLS), and to the clients of its listeners.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::authority::{self, AuthorityError};
use super::certificate::{distinguished_name, parse};
use super::provider;

/// A certificate with its chain and its key, shown to upstreams or to the clients of a listener.
#[derive(Clone)]
pub struct Identity {
    resolver: Arc<SingleCertAndKey>,
    subject: String,
}

/// Why a certificate cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read, or others can read the key.
    #[error(transparent)]
    File(AuthorityError),
    /// There is no certificate in the text, or one that cannot be read.
    #[error("there is no certificate in PEM form (-----BEGIN CERTIFICATE-----), or a broken one")]
    BadCertificate,
    /// There is no key in the text, or one that cannot be used.
    #[error(
        "there is no key in PEM form (-----BEGIN PRIVATE KEY-----) that can be used: RSA, ECDSA or \
         Ed25519, and not encrypted"
    )]
    BadKey,
    /// Key and certificate do not belong together.
    #[error("the key does not belong to the certificate of {subject}")]
    KeyMismatch {
        /// Whose certificate it is.
        subject: String,
    },
}

impl Identity {
    /// Reads both from files. A key that others than its owner can read is refused.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let certificate = authority::read_file(certificate, |_| Ok(()));
        let key_text = authority::read_file(key, |file| authority::refuse_exposed(file, key));
        let (certificate, key) = (
            certificate.map_err(IdentityError::File)?,
            key_text.map_err(IdentityError::File)?,
        );
        Self::from_pem(
            &String::from_utf8_lossy(&certificate),
            &String::from_utf8_lossy(&key),
        )
    }

    /// Takes both from PEM texts: the certificate, followed by those it was issued by, and its key.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, IdentityError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
        let chain = chain.map_err(|_error| IdentityError::BadCertificate)?;
        let first = chain.first().and_then(|first| parse(first));
        let first = first.ok_or(IdentityError::BadCertificate)?;
        let subject = distinguished_name(first.subject());
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
        let key = key.map_err(|_error| IdentityError::BadKey)?;
        let key = provider().key_provider.load_private_key(key);
        let key = key.map_err(|_error| IdentityError::BadKey)?;
        let certified = CertifiedKey::new(chain, key);
        if certified.keys_match().is_err() {
            return Err(IdentityError::KeyMismatch { subject });
        }
        Ok(Self {
            resolver: Arc::new(certified.into()),
            subject,
        })
    }

    /// Whose certificate it is.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::clone(&self.resolver)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use testbed::authority::Authority;

    use super::*;

    #[test]
    fn a_key_must_belong_to_its_certificate() {
        let authority = Authority::new("clients");
        let (own, other) = (authority.issue_client("a"), authority.issue_client("b"));
        let identity = Identity::from_pem(own.chain_pem(), own.key_pem()).unwrap();
        assert_eq!(identity.subject(), "CN=a");
        let mixed = Identity::from_pem(own.chain_pem(), other.key_pem());
        assert!(matches!(mixed, Err(IdentityError::KeyMismatch { .. })));
        let none = Identity::from_pem("", own.key_pem());
        assert!(matches!(none, Err(IdentityError::BadCertificate)));
        let none = Identity::from_pem(own.chain_pem(), "");
        assert!(matches!(none, Err(IdentityError::BadKey)));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let identity = Authority::new("clients").issue_client("a");
        let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        std::fs::write(&certificate, identity.chain_pem()).unwrap();
        std::fs::write(&key, identity.key_pem()).unwrap();
        let allow = |mode| {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            Identity::load(&certificate, &key)
        };
        let exposed = allow(0o640).unwrap_err();
        assert!(matches!(
            exposed,
            IdentityError::File(AuthorityError::KeyExposed { mode: 0o640, .. })
        ));
        assert!(allow(0o600).is_ok());
    }
}
