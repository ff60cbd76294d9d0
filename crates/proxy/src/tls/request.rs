//! Requests for certificates (PKCS#10, RFC 2986): another authority asks to be signed.

use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::certificate::distinguished_name;
use super::signed::Signed;

/// A request whose signature was verified, so that who made it has the key.
#[derive(Clone, Debug)]
pub struct CertificateRequest {
    subject: String,
    subject_der: Vec<u8>,
    public_key: Vec<u8>,
    public_key_bits: Vec<u8>,
}

/// Why a request cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is none, or a broken one.
    #[error(
        "there is no certificate request in it, neither PEM (-----BEGIN CERTIFICATE REQUEST-----) \
         nor DER"
    )]
    NotARequest,
    /// Its signature is wrong, or made in a way that is too weak.
    #[error(
        "its signature does not hold; RSA (2048 bits and more), ECDSA and Ed25519 with SHA-256 and \
         better do"
    )]
    BadSignature,
    /// It names nobody.
    #[error("its subject is empty; an authority needs a name")]
    NoSubject,
}

impl CertificateRequest {
    /// Reads a request in PEM or DER and verifies its signature.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RequestError> {
        let der = match CertificateSigningRequestDer::from_pem_slice(bytes) {
            Ok(request) => request.as_ref().to_vec(),
            Err(_) => bytes.to_vec(),
        };
        let Ok(([], request)) = X509CertificationRequest::from_der(&der) else {
            return Err(RequestError::NotARequest);
        };
        let info = &request.certification_request_info;
        let public_key = info.subject_pki.raw;
        let signed = Signed::parse(&der).ok_or(RequestError::NotARequest)?;
        if !signed.is_signed_by(public_key) {
            return Err(RequestError::BadSignature);
        }
        if info.subject.iter().next().is_none() {
            return Err(RequestError::NoSubject);
        }
        Ok(Self {
            subject: distinguished_name(&info.subject),
            subject_der: info.subject.as_raw().to_vec(),
            public_key: public_key.to_vec(),
            public_key_bits: info.subject_pki.subject_public_key.data.to_vec(),
        })
    }

    /// Who asks, for people.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The subject as it stands in the request.
    pub(crate) fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// SubjectPublicKeyInfo in DER.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The key alone.
    pub(crate) fn public_key_bits(&self) -> &[u8] {
        &self.public_key_bits
    }
}
