//! The certificate authority whose leaves clients see: made here, or brought by whoever runs this.

mod error;
mod files;

use std::fmt;
use std::path::Path;

use aws_lc_rs::digest;
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use tokio::sync::SetOnce;
use traffic::{Host, Timestamp};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry;

pub use self::error::AuthorityError;
use self::files::certificates_in;
pub use self::files::{read_certificates, read_key};
pub(super) use self::files::{read_file, refuse_exposed};
use super::certificate::{distinguished_name, parse, sha1, sha256, timestamp};
use super::chain::{self, ChainFault, Link};
use super::constraints::{Constraints, Subtree};
use super::key::{self, KeyError, KeyKind};
use super::request::CertificateRequest;
use super::subject_hash::subject_hash;
use super::{der, pem, provider};

/// How long an authority made here is valid unless it is said. Whoever trusts it trusts it for
/// everything, so it should not outlive its use by much.
pub const LIFETIME_DAYS: u32 = 365;
/// The longest that an authority made here is valid: what roots of companies have.
pub const LIFETIME_DAYS_MAX: u32 = 3_650;
/// A client's clock may be behind ours.
const BACK_DATED_SECONDS: i64 = 3_600;
/// Longest common name (RFC 5280 appendix A.1, ub-common-name).
pub(crate) const COMMON_NAME_CHARS_MAX: usize = 64;
/// Longest name of an organization (the same, ub-organization-name).
const ORGANIZATION_CHARS_MAX: usize = 64;
/// A certificate and its key, able to sign leaves.
pub struct Authority {
    /// The authority first, then what it was issued by, in order.
    chain: Vec<CertificateDer<'static>>,
    certificate_pem: String,
    key: KeyPair,
    key_pem: String,
    subject: String,
    subject_der: Vec<u8>,
    key_id: Vec<u8>,
    constraints: Constraints,
    chain_to_serve: Vec<CertificateDer<'static>>,
    /// Certificates of the same key by authorities that this one took the place of, and their ends.
    by_predecessors: Vec<(CertificateDer<'static>, Timestamp)>,
    not_before: Timestamp,
    not_after: Timestamp,
    /// Set with the first leaf.
    used: SetOnce<()>,
}

/// What a new authority is to be.
#[derive(Clone, Debug)]
pub struct NewAuthority {
    /// 1 to 64 characters.
    pub common_name: String,
    /// 1 to 64 characters.
    pub organization: Option<String>,
    /// Its key.
    pub key: KeyKind,
    /// Days that it is valid: 1 to `LIFETIME_DAYS_MAX`.
    pub days: u32,
    /// Other authorities that may stand between it and a leaf: none, unless it is to sign them.
    pub path_length: u8,
    /// The hosts that it can sign for; every host if there are none.
    pub only: Vec<Subtree>,
}

/// On what terms another authority is signed.
#[derive(Clone, Debug)]
pub struct CrossSigning {
    /// Days that it is valid, but never longer than who signs it.
    pub days: u32,
    /// Other authorities that may stand between it and a leaf.
    pub path_length: u8,
    /// The hosts that it can sign for; as many as who signs it if there are none.
    pub only: Vec<Subtree>,
}

impl Authority {
    /// Makes a new authority with an ECDSA P-256 key. It can sign leaves, but no other authority.
    pub fn generate(common_name: &str, now: Timestamp) -> Result<Self, AuthorityError> {
        Self::create(&NewAuthority::named(common_name), now)
    }

    /// Makes a new authority. An RSA key of 4,096 bits takes seconds.
    pub fn create(new: &NewAuthority, now: Timestamp) -> Result<Self, AuthorityError> {
        let constraints = match new.only.as_slice() {
            [] => None,
            only => Some(der::name_constraints(only)),
        };
        Self::create_constrained(new, constraints, now)
    }

    /// Makes a new authority of the same kind with a key and a name of its own: what it may sign is
    /// the same.
    pub fn successor(
        &self,
        common_name: &str,
        days: u32,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let own = parse(self.certificate_der());
        let own = own.ok_or(AuthorityError::BadCertificate { position: 1 })?;
        let organization = own.subject().iter_organization().next();
        let organization = organization.and_then(|attribute| attribute.as_str().ok());
        let path_length = chain::path_length(&own).unwrap_or_default();
        let new = NewAuthority {
            common_name: common_name.to_owned(),
            organization: organization.map(str::to_owned),
            key: KeyKind::like(&self.key),
            days,
            path_length: u8::try_from(path_length).unwrap_or(u8::MAX),
            only: Vec::new(),
        };
        Self::create_constrained(&new, constraints_of(&own), now)
    }

    fn create_constrained(
        new: &NewAuthority,
        constraints: Option<Vec<u8>>,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        new.check()?;
        let key = new.key.generate().map_err(failed)?;
        let name = der::name(Some(&new.common_name), new.organization.as_deref());
        let key_id = key_id(key.der_bytes());
        let mut extensions = der::authority_extensions(new.path_length);
        extensions.extend(constraints);
        extensions.extend(der::key_identifiers(&key_id, &key_id));
        // What is said of its life is true of the certificate, not from now on.
        let not_before = back_dated(now);
        let template = der::Template {
            serial: &random_serial().map_err(failed)?,
            issuer: &name,
            not_before,
            not_after: days_after(not_before, new.days),
            subject: &name,
            public_key: &key.subject_public_key_info(),
            extensions: &extensions,
        };
        let certificate = der::certificate(&template, &key).map_err(failed)?;
        let key_pem = key.serialize_pem();
        Self::from_parts(vec![certificate.into()], key, key_pem)
    }

    /// Takes an authority from texts, as `from_bytes` does.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, AuthorityError> {
        Self::from_bytes(certificates.as_bytes(), key.as_bytes())
    }

    /// Takes an authority from the content of files: its certificate and those it was issued by
    /// (PEM in any order, or one in DER), and its key (PKCS#8, PKCS#1 or SEC1 in PEM or DER, not
    /// encrypted). The authority's certificate is the first that the key belongs to. What is no
    /// part of its chain is left out.
    pub fn from_bytes(certificates: &[u8], key: &[u8]) -> Result<Self, AuthorityError> {
        Self::from_certificates(certificates_in(certificates)?, key)
    }

    /// The same from certificates that were read.
    pub fn from_certificates(
        certificates: Vec<CertificateDer<'static>>,
        key: &[u8],
    ) -> Result<Self, AuthorityError> {
        let (key, key_pem) = key::read(key).map_err(|error| match error {
            KeyError::Absent => AuthorityError::NoKey,
            KeyError::Encrypted => AuthorityError::EncryptedKey,
            KeyError::Unusable => AuthorityError::BadKey,
        })?;
        Self::from_parts(certificates, key, key_pem)
    }

    /// Reads an authority from files. A key that others than its owner can read is refused:
    /// whoever has it can pretend to be any host towards everyone who trusts the certificate.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        Self::from_certificates(read_certificates(certificate)?, &read_key(key)?)
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

    /// SHA-1 of the certificate in DER, by which Windows names it. It is no proof of anything.
    #[must_use]
    pub fn sha1(&self) -> [u8; 20] {
        sha1(self.certificate_der())
    }

    /// The hash of its subject by which OpenSSL finds it in a folder.
    #[must_use]
    pub fn openssl_subject_hash(&self) -> Option<u32> {
        subject_hash(&self.subject_der)
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

    /// The certificates: the authority's first, then those it was issued by.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// What the certificates of the chain say.
    #[must_use]
    pub fn links(&self) -> Vec<Link> {
        chain::links(&self.chain)
    }

    /// Why clients that trust the last certificate of the chain would not take leaves.
    #[must_use]
    pub fn check_chain(&self, now: Timestamp) -> Vec<ChainFault> {
        chain::check(&self.chain, now)
    }

    /// What kind of key it has, for people: `ECDSA P-256`, `RSA 2048`.
    #[must_use]
    pub fn key_kind(&self) -> String {
        key::describe(&self.key)
    }

    /// The common name of the subject, if there is one.
    #[must_use]
    pub fn common_name(&self) -> Option<String> {
        let own = parse(self.certificate_der())?;
        let mut names = own.subject().iter_common_name();
        names.next()?.as_str().ok().map(str::to_owned)
    }

    /// Whether clients would take a leaf for a host: whether the name constraints of the chain
    /// permit it (RFC 5280 section 4.2.1.10).
    #[must_use]
    pub fn permits(&self, host: &Host) -> bool {
        self.constraints.permit(host)
    }

    /// A host whose name begins with this label and that the name constraints of the chain permit;
    /// `None` where they permit addresses alone.
    #[must_use]
    pub fn name_permitted(&self, label: &str) -> Option<Host> {
        self.constraints.name_permitted(label)
    }

    /// The name constraints of the chain, for people; `None` where there are none.
    #[must_use]
    pub fn constraints_text(&self) -> Option<String> {
        (!self.constraints.is_empty()).then(|| self.constraints.to_string())
    }

    /// A request in PEM to be signed by another authority, under the same name or another.
    pub fn request(&self, common_name: Option<&str>) -> Result<String, AuthorityError> {
        if common_name.is_some_and(|name| !fits(name, COMMON_NAME_CHARS_MAX)) {
            return Err(AuthorityError::BadCommonName);
        }
        let own = parse(self.certificate_der())
            .as_ref()
            .and_then(chain::path_length);
        let path_length = own.and_then(|length| u8::try_from(length).ok());
        let subject = match common_name {
            Some(_) => der::name(common_name, None),
            None => self.subject_der.clone(),
        };
        let extensions = der::authority_extensions(path_length.unwrap_or_default());
        let public_key = self.key.subject_public_key_info();
        let request = der::request(&subject, &public_key, &extensions, &self.key);
        request.map(|der| pem::request(&der)).map_err(failed)
    }

    /// Signs another authority, whose leaves are then taken by all who trust this one. The chain to
    /// serve is the result, followed by this authority's own.
    pub fn cross_sign(
        &self,
        request: &CertificateRequest,
        terms: &CrossSigning,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let subject = || self.subject.clone();
        if !(1..=LIFETIME_DAYS_MAX).contains(&terms.days) {
            return Err(AuthorityError::BadLifetime);
        }
        if request.public_key_bits() == self.key.der_bytes() {
            return Err(AuthorityError::OwnRequest { subject: subject() });
        }
        if self.not_after <= now {
            return Err(AuthorityError::Expired { subject: subject() });
        }
        let wanted = u32::from(terms.path_length) + 1;
        if let Some(allowed) = self.path_left().filter(|allowed| *allowed < wanted) {
            return Err(AuthorityError::PathTooLong {
                subject: subject(),
                allowed,
                wanted,
            });
        }
        let mut extensions = der::authority_extensions(terms.path_length);
        if !terms.only.is_empty() {
            extensions.push(der::name_constraints(&terms.only));
        }
        let key_id = key_id(request.public_key_bits());
        let not_before = back_dated(now).max(self.not_before);
        extensions.extend(der::key_identifiers(&key_id, &self.key_id));
        let template = der::Template {
            serial: &random_serial().map_err(failed)?,
            issuer: &self.subject_der,
            not_before,
            not_after: days_after(not_before, terms.days).min(self.not_after),
            subject: request.subject_der(),
            public_key: request.public_key(),
            extensions: &extensions,
        };
        let certificate = der::certificate(&template, &self.key).map_err(failed)?;
        Ok(certificate.into())
    }

    /// Signs the authority that takes the place of this one, so that who trusts this one alone takes
    /// its leaves until `until`. One that may sign no other authority cannot.
    pub fn certify_successor(
        &self,
        successor: &Self,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let theirs = parse(successor.certificate_der());
        let theirs = theirs.ok_or(AuthorityError::BadCertificate { position: 1 })?;
        let below = chain::path_length(&theirs).unwrap_or(u32::MAX);
        let left = self.path_left().unwrap_or(u32::MAX);
        let Some(below) = left.checked_sub(1).map(|left| left.min(below)) else {
            return Err(AuthorityError::PathTooLong {
                subject: self.subject.clone(),
                allowed: left,
                wanted: 1,
            });
        };
        let mut extensions = der::authority_extensions(u8::try_from(below).unwrap_or(u8::MAX));
        extensions.extend(constraints_of(&theirs));
        extensions.extend(der::key_identifiers(&successor.key_id, &self.key_id));
        let template = der::Template {
            serial: &random_serial().map_err(failed)?,
            issuer: &self.subject_der,
            not_before: back_dated(now).max(self.not_before),
            not_after: until.min(self.not_after).min(successor.not_after),
            subject: &successor.subject_der,
            public_key: &successor.key.subject_public_key_info(),
            extensions: &extensions,
        };
        let certificate = der::certificate(&template, &self.key).map_err(failed)?;
        Ok(certificate.into())
    }

    /// Shows clients certificates of this authority that were signed by those before it as well, each
    /// as long as it is valid. Those of other keys are left out.
    #[must_use]
    pub fn with_certificates_by_predecessors(mut self, all: &[CertificateDer<'static>]) -> Self {
        let by_predecessor = |der: &CertificateDer<'static>| {
            let certificate = parse(der)?;
            let is_own = belongs(&self.key, &certificate);
            let not_after = timestamp(certificate.validity().not_after.timestamp());
            (is_own && !chain::is_self_issued(&certificate)).then(|| (der.clone(), not_after))
        };
        self.by_predecessors = all.iter().filter_map(by_predecessor).collect();
        self
    }

    /// Authorities that may stand between this one and a leaf, by its own path length and those of
    /// the ones above it; `None` if there is no bound.
    fn path_left(&self) -> Option<u32> {
        let lengths = self.chain.iter().zip(0..).filter_map(|(der, above)| {
            let length = parse(der).as_ref().and_then(chain::path_length)?;
            Some(length.saturating_sub(above))
        });
        lengths.min()
    }

    /// What constrains leaves.
    pub(crate) fn constraints(&self) -> &Constraints {
        &self.constraints
    }

    /// What is sent after a leaf: intermediates. A root is not: who trusts it has it.
    pub(crate) fn chain_to_serve(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = &CertificateDer<'static>> {
        let by_predecessors = self.by_predecessors.iter();
        let in_time = by_predecessors.filter(move |(_, not_after)| now < *not_after);
        let in_time = in_time.map(|(certificate, _)| certificate);
        self.chain_to_serve.iter().chain(in_time)
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
        mut certificates: Vec<CertificateDer<'static>>,
        key: KeyPair,
        key_pem: String,
    ) -> Result<Self, AuthorityError> {
        let mut own = None;
        let mut first_subject = None;
        for (index, der) in certificates.iter().enumerate() {
            let position = index + 1;
            let certificate = parse(der).ok_or(AuthorityError::BadCertificate { position })?;
            first_subject.get_or_insert_with(|| distinguished_name(certificate.subject()));
            if belongs(&key, &certificate) {
                own.get_or_insert(index);
            }
        }
        let first_subject = first_subject.ok_or(AuthorityError::NoCertificate)?;
        let Some(own) = own else {
            return Err(AuthorityError::KeyMismatch {
                subject: first_subject,
            });
        };
        let own = certificates.remove(own);
        let chain = chain::arrange(own, certificates);
        let mut chain_to_serve = Vec::new();
        let mut constraints = Constraints::default();
        for (index, der) in chain.iter().enumerate() {
            let position = index + 1;
            let certificate = parse(der).ok_or(AuthorityError::BadCertificate { position })?;
            if !chain::is_self_issued(&certificate) {
                chain_to_serve.push(der.clone());
            }
            constraints.add(&certificate).map_err(|_unreadable| {
                AuthorityError::NotAnAuthority {
                    subject: distinguished_name(certificate.subject()),
                    reason: "its name constraints cannot be read",
                }
            })?;
        }
        let own = chain.first().and_then(parse);
        let own = own.ok_or(AuthorityError::BadCertificate { position: 1 })?;
        let subject = distinguished_name(own.subject());
        if let Err(reason) = chain::is_authority(&own) {
            return Err(AuthorityError::NotAnAuthority { subject, reason });
        }
        let subject_der = own.subject().as_raw().to_vec();
        let key_id = subject_key_id(&own).unwrap_or_else(|| key_id(key.der_bytes()));
        let not_before = timestamp(own.validity().not_before.timestamp());
        let not_after = timestamp(own.validity().not_after.timestamp());
        Ok(Self {
            certificate_pem: pem::certificates(&chain),
            chain,
            key,
            key_pem,
            subject,
            subject_der,
            key_id,
            constraints,
            chain_to_serve,
            by_predecessors: Vec::new(),
            not_before,
            not_after,
            used: SetOnce::new(),
        })
    }

    /// Waits until it has signed its first leaf. Any number may wait; dropping this changes nothing.
    pub async fn used(&self) {
        self.used.wait().await;
    }

    pub(super) fn note_use(&self) {
        if !self.used.initialized() {
            // Another leaf may have been the first meanwhile.
            let _already = self.used.set(());
        }
    }
}

impl NewAuthority {
    /// One with a name and otherwise what most want: ECDSA P-256, a year, every host, leaves only.
    #[must_use]
    pub fn named(common_name: &str) -> Self {
        Self {
            common_name: common_name.to_owned(),
            organization: None,
            key: KeyKind::P256,
            days: LIFETIME_DAYS,
            path_length: 0,
            only: Vec::new(),
        }
    }

    fn check(&self) -> Result<(), AuthorityError> {
        if !fits(&self.common_name, COMMON_NAME_CHARS_MAX) {
            return Err(AuthorityError::BadCommonName);
        }
        let organization = self.organization.as_deref();
        if organization.is_some_and(|name| !fits(name, ORGANIZATION_CHARS_MAX)) {
            return Err(AuthorityError::BadOrganization);
        }
        match (1..=LIFETIME_DAYS_MAX).contains(&self.days) {
            true => Ok(()),
            false => Err(AuthorityError::BadLifetime),
        }
    }
}

/// The extension of a certificate that says what it may sign for.
fn constraints_of(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    let mut extensions = certificate.extensions().iter();
    let found = extensions
        .find(|extension| extension.oid == oid_registry::OID_X509_EXT_NAME_CONSTRAINTS)?;
    Some(der::name_constraints_extension(found.value))
}

fn fits(name: &str, chars_max: usize) -> bool {
    !name.is_empty() && name.chars().count() <= chars_max
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> AuthorityError {
    AuthorityError::Generate(error.into())
}

fn back_dated(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(BACK_DATED_SECONDS * 1_000_000))
}

fn days_after(now: Timestamp, days: u32) -> Timestamp {
    let lifetime = i64::from(days) * der::DAY_SECONDS * 1_000_000;
    Timestamp(now.0.saturating_add(lifetime))
}

fn belongs(key: &KeyPair, certificate: &X509Certificate<'_>) -> bool {
    certificate.public_key().subject_public_key.data.as_ref() == key.der_bytes()
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

/// SHA-1 of the key (RFC 5280 section 4.2.1.2, the first way). It protects nothing; it is what
/// openssl writes, so that a leaf finds its issuer by it also among certificates that openssl made
/// for the same key.
pub(crate) fn key_id(public_key: &[u8]) -> Vec<u8> {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, public_key);
    digest.as_ref().to_vec()
}

fn subject_key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
            _ => None,
        })
}

#[cfg(test)]
mod tests;
