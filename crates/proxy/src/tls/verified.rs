//! Remembers which signatures of certificates were found right, so that the next connection does not
//! check them again: intermediates are the same at thousands of hosts, and the keys of authorities
//! are dear to check with.
//!
//! Whether a key signed a message never changes, so an answer is true for as long as it is kept,
//! and for whoever asks. Everything else about a certificate is judged at each connection as before:
//! who issued it, whether that one is trusted, its time, its names, its constraints. The signature of a
//! handshake is new at each connection and is not asked for here.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use parking_lot::Mutex;
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

use crate::limits::VERIFIED_SIGNATURES_MAX;

/// The algorithms of a provider, with one memory. For the signatures in chains of certificates.
///
/// To be called once for a process: what it returns stays for good.
pub(super) fn remembering(
    algorithms: &[&'static dyn SignatureVerificationAlgorithm],
) -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    let verified: &'static Verified = Box::leak(Box::default());
    let remembering = algorithms.iter().enumerate().map(|(number, &algorithm)| {
        let remembering: &'static Remembering = Box::leak(Box::new(Remembering {
            algorithm,
            number,
            verified,
        }));
        remembering as &'static dyn SignatureVerificationAlgorithm
    });
    remembering.collect::<Vec<_>>().leak()
}

/// An algorithm that is asked only what it has not said before.
struct Remembering {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    /// Tells it apart from the others with the same memory.
    number: usize,
    verified: &'static Verified,
}

/// What was found right, by SHA-256 over all that decides it. A digest has one place, and whichever
/// comes later takes it: who fills the memory with signatures of its own costs us time and nothing
/// else.
struct Verified(Mutex<Box<[Digest]>>);

type Digest = [u8; 32];

impl Remembering {
    /// Nothing that differs has the same: each part is preceded by its length.
    fn digest(&self, parts: [&[u8]; 3]) -> Digest {
        let mut context = Context::new(&SHA256);
        context.update(&self.number.to_be_bytes());
        for part in parts {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }
}

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let digest = self.digest([public_key, message, signature]);
        if self.verified.knows(&digest) {
            return Ok(());
        }
        self.algorithm
            .verify_signature(public_key, message, signature)?;
        self.verified.remember(digest);
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}

impl fmt::Debug for Remembering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.algorithm.fmt(f)
    }
}

impl Verified {
    fn knows(&self, digest: &Digest) -> bool {
        self.0.lock().get(place(digest)) == Some(digest)
    }

    fn remember(&self, digest: Digest) {
        if let Some(place) = self.0.lock().get_mut(place(&digest)) {
            *place = digest;
        }
    }
}

impl Default for Verified {
    /// All places have the digest of nothing.
    fn default() -> Self {
        let places = vec![Digest::default(); VERIFIED_SIGNATURES_MAX];
        Self(Mutex::new(places.into_boxed_slice()))
    }
}

fn place(digest: &Digest) -> usize {
    let [first, second, ..] = *digest;
    usize::from(u16::from_be_bytes([first, second])) % VERIFIED_SIGNATURES_MAX
}

#[cfg(test)]
mod tests;
