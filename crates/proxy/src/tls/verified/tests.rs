//! What is remembered, what is not, and what is judged all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};

use super::*;
use crate::tls::authority::Authority;
use crate::tls::leaf::LeafCache;
use crate::tls::provider;
use crate::tls::tests::{authority, host, now, stranger};

/// Does the work, and counts how often it is asked to.
#[derive(Debug)]
struct Counting {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    asked: &'static AtomicUsize,
}

impl SignatureVerificationAlgorithm for Counting {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.algorithm
            .verify_signature(public_key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }
}

/// Takes the signature `right`, whoever made it and of whatever.
#[derive(Debug)]
struct TakesOne;

impl SignatureVerificationAlgorithm for TakesOne {
    fn verify_signature(
        &self,
        _public_key: &[u8],
        _message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        match signature {
            b"right" => Ok(()),
            _ => Err(InvalidSignature),
        }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        rustls::pki_types::alg_id::ED25519
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        rustls::pki_types::alg_id::ED25519
    }
}

/// The algorithms with a memory in front of them, and how often what is behind it was asked.
fn counted(
    algorithms: &[&'static dyn SignatureVerificationAlgorithm],
) -> (
    &'static [&'static dyn SignatureVerificationAlgorithm],
    &'static AtomicUsize,
) {
    let asked: &'static AtomicUsize = Box::leak(Box::default());
    let counting = algorithms.iter().map(|&algorithm| {
        let counting: &'static Counting = Box::leak(Box::new(Counting { algorithm, asked }));
        counting as &'static dyn SignatureVerificationAlgorithm
    });
    (remembering(&counting.collect::<Vec<_>>()), asked)
}

#[test]
fn what_was_right_is_not_asked_for_again_and_what_was_wrong_is() {
    let (algorithms, asked) = counted(&[&TakesOne, &TakesOne]);
    let check = |number: usize, parts: [&[u8]; 3], is_right: bool, asked_for: usize| {
        let [key, message, signature] = parts;
        let verified = algorithms[number].verify_signature(key, message, signature);
        assert_eq!(verified.is_ok(), is_right, "{parts:?}");
        assert_eq!(asked.swap(0, Ordering::Relaxed), asked_for, "{parts:?}");
    };
    check(0, [b"key", b"message", b"right"], true, 1);
    check(0, [b"key", b"message", b"right"], true, 0);
    // Each part counts, where it ends and the algorithm.
    check(0, [b"keymessage", b"", b"right"], true, 1);
    check(0, [b"", b"keymessage", b"right"], true, 1);
    check(0, [b"key", b"messager", b"ight"], false, 1);
    check(1, [b"key", b"message", b"right"], true, 1);
    for _ in 0..2 {
        check(0, [b"key", b"message", b"wrong"], false, 1);
    }
}

#[test]
fn no_bit_of_what_was_signed_may_differ() {
    let key = rcgen::KeyPair::generate().unwrap();
    let (public_key, message) = (rcgen::PublicKeyData::der_bytes(&key), b"certificate");
    let signature = rcgen::SigningKey::sign(&key, message).unwrap();
    let all = provider().signature_verification_algorithms.all;
    let is_p256 = |known: &&&'static dyn SignatureVerificationAlgorithm| {
        known.public_key_alg_id() == rustls::pki_types::alg_id::ECDSA_P256
            && known.signature_alg_id() == rustls::pki_types::alg_id::ECDSA_SHA256
    };
    let (algorithms, asked) = counted(&[*all.iter().find(is_p256).unwrap()]);
    let parts = [public_key, message, &signature];
    let verify = |[key, message, signature]: [&[u8]; 3]| {
        algorithms[0].verify_signature(key, message, signature)
    };
    verify(parts).unwrap();
    for part in 0..parts.len() {
        for bit in 0..parts[part].len() * 8 {
            let mut flipped = parts[part].to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut parts = parts;
            parts[part] = &flipped;
            assert!(verify(parts).is_err(), "part {part}, bit {bit}");
        }
    }
    asked.store(0, Ordering::Relaxed);
    verify(parts).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[test]
fn as_many_as_there_are_places_are_remembered_at_most() {
    let (algorithms, asked) = counted(&[&TakesOne]);
    let verify_many = || {
        for number in 0..2 * VERIFIED_SIGNATURES_MAX {
            let verified = algorithms[0].verify_signature(&[], &number.to_be_bytes(), b"right");
            verified.unwrap();
        }
        asked.swap(0, Ordering::Relaxed)
    };
    assert_eq!(verify_many(), 2 * VERIFIED_SIGNATURES_MAX);
    assert!(verify_many() >= VERIFIED_SIGNATURES_MAX);
}

#[test]
fn a_certificate_is_judged_each_time_although_its_signature_is_remembered() {
    let mut provider = CryptoProvider::clone(&provider());
    let known = &mut provider.signature_verification_algorithms;
    let (algorithms, asked) = counted(known.all);
    known.all = algorithms;
    let provider = Arc::new(provider);
    let trusted = authority();
    let leaves = LeafCache::new(Arc::clone(&trusted), 1).unwrap();
    let leaf = leaves.leaf(&host("a.test"), now()).unwrap();
    let verify = |root: &Authority, name: &str, days: u64| {
        let mut roots = RootCertStore::empty();
        roots.add(root.certificate_der().clone()).unwrap();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let name = ServerName::try_from(name).unwrap();
        let time = Duration::from_secs(UnixTime::now().as_secs() + days * 86_400);
        let time = UnixTime::since_unix_epoch(time);
        let end_entity = leaf.cert.first().unwrap();
        verifier
            .build()
            .unwrap()
            .verify_server_cert(end_entity, &[], &name, &[], time)
    };
    verify(&trusted, "a.test", 0).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    verify(&trusted, "a.test", 0).unwrap();

    let refusal = |root: &Authority, name: &str, days: u64| match verify(root, name, days) {
        Err(Error::InvalidCertificate(error)) => error,
        other => panic!("{other:?}"),
    };
    let expired = refusal(&trusted, "a.test", 300);
    assert!(matches!(expired, CertificateError::ExpiredContext { .. }));
    let other_name = refusal(&trusted, "b.test", 0);
    assert!(matches!(
        other_name,
        CertificateError::NotValidForNameContext { .. }
    ));
    let distrusted = refusal(&stranger(), "a.test", 0);
    assert_eq!(distrusted, CertificateError::UnknownIssuer);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // An authority of the same name has another key.
    let same_name = refusal(&authority(), "a.test", 0);
    assert_eq!(same_name, CertificateError::BadSignature);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}
