//! What certificates (RFC 5280 section 4.1) and requests for them (RFC 2986 section 4.2) have in
//! common: something signed, the algorithm, the signature.

use super::der::Values;
use super::provider;

/// A certificate or a request, taken apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    message: &'a [u8],
    /// The content of its AlgorithmIdentifier.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Takes it apart; nothing else may follow.
    pub(crate) fn parse(der: &'a [u8]) -> Option<Self> {
        let mut values = Values::in_sequence(der)?;
        let (message, algorithm) = (values.next()?, values.next()?);
        Some(Self {
            message: message.whole,
            algorithm: algorithm.content,
            signature: bits(values.next()?.content)?,
        })
    }

    /// Whether the owner of a key (SubjectPublicKeyInfo) has signed it. An algorithm that TLS does
    /// not use any more (SHA-1, RSA below 2048 bits) signs nothing.
    pub(crate) fn is_signed_by(&self, public_key: &[u8]) -> bool {
        let Some(mut values) = Values::in_sequence(public_key) else {
            return false;
        };
        let (Some(kind), Some(key)) = (values.next(), values.next()) else {
            return false;
        };
        let Some(key) = bits(key.content) else {
            return false;
        };
        let known = provider().signature_verification_algorithms.all;
        known.iter().any(|known| {
            known.signature_alg_id().as_ref() == self.algorithm
                && known.public_key_alg_id().as_ref() == kind.content
                && known
                    .verify_signature(key, self.message, self.signature)
                    .is_ok()
        })
    }
}

impl Signed<'_> {
    /// Whether its signature is of an algorithm that can be checked here.
    pub(crate) fn is_checkable(&self) -> bool {
        let known = provider().signature_verification_algorithms.all;
        let is_it = |id: &[u8]| id == self.algorithm;
        known.iter().any(|known| is_it(&known.signature_alg_id()))
    }
}

/// The octets of a BIT STRING without unused bits.
fn bits(content: &[u8]) -> Option<&[u8]> {
    match content.split_first() {
        Some((0, octets)) => Some(octets),
        Some(_) | None => None,
    }
}
