//! Leaf certificates: one per name, signed by the authority when a name is first asked for.
//!
//! All leaves of a cache have the same key, made when the cache is made and never stored.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use traffic::{Host, Timestamp};

use super::authority::{Authority, COMMON_NAME_CHARS_MAX, key_id, random_serial};
use super::{der, provider};
use crate::metrics::{LeafCounts, add};

const DAY_MICROS: i64 = der::DAY_SECONDS * 1_000_000;
/// A client's clock may be behind ours.
const BACK_DATED_DAYS: i64 = 1;
/// Below the 200 days that browsers accept of public certificates issued since March 2026.
const LIFETIME_DAYS: i64 = 199;
/// A leaf with less left is minted anew, so that none expires on a connection just made.
const RENEW_DAYS: i64 = 1;

/// Leaves of one authority, held ready. At most `leaves_max` of them: the one longest not asked
/// for makes room.
pub struct LeafCache {
    authority: Arc<Authority>,
    key: Arc<dyn SigningKey>,
    public_key: Vec<u8>,
    /// The extensions that are the same in every leaf.
    extensions: Vec<Vec<u8>>,
    leaves_max: usize,
    slots: Mutex<Slots>,
    counts: Arc<LeafCounts>,
}

#[derive(Default)]
struct Slots {
    by_host: HashMap<Host, Slot>,
    /// Counts every look-up; a slot keeps the count of its last.
    clock: u64,
}

struct Slot {
    leaf: Arc<Mutex<Option<Leaf>>>,
    used: u64,
}

#[derive(Debug)]
pub(super) struct Leaf {
    certified: Arc<CertifiedKey>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Why there is no leaf.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// The authority itself has expired.
    #[error("the certificate authority {subject} expired at {not_after}")]
    AuthorityExpired {
        /// Whose certificate it is.
        subject: String,
        /// When, for people.
        not_after: String,
    },
    /// The authority's name constraints leave the host out.
    #[error("the name constraints of {subject} leave {host} out")]
    NotPermitted {
        /// Whose certificate it is.
        subject: String,
        /// For which a leaf was asked.
        host: Host,
    },
    /// The key for leaves could not be made, or a leaf could not be signed.
    #[error("cannot make a leaf certificate")]
    Sign(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl LeafCache {
    /// Makes an empty cache and the key of its leaves.
    pub fn new(authority: Arc<Authority>, leaves_max: usize) -> Result<Self, LeafError> {
        let key = KeyPair::generate().map_err(|error| LeafError::Sign(error.into()))?;
        let extensions = der::leaf_extensions(&key_id(key.der_bytes()), authority.key_id());
        let public_key = key.subject_public_key_info();
        let key = provider()
            .key_provider
            .load_private_key(PrivateKeyDer::from(key))
            .map_err(|error| LeafError::Sign(error.into()))?;
        Ok(Self {
            authority,
            key,
            public_key,
            extensions,
            leaves_max: leaves_max.max(1),
            slots: Mutex::default(),
            counts: Arc::default(),
        })
    }

    /// Counts here how it fares.
    pub(crate) fn counted(mut self, counts: &Arc<LeafCounts>) -> Self {
        self.counts = Arc::clone(counts);
        self
    }

    /// Whether clients would take a leaf for a host: whether the authority's name constraints
    /// permit it.
    pub(crate) fn permits(&self, host: &Host) -> bool {
        self.authority.permits(host)
    }

    /// Leaves that are held.
    pub(crate) fn held(&self) -> usize {
        self.slots.lock().by_host.len()
    }

    /// The leaf for a host, minted if there is none or if it does not serve any more. Whoever
    /// asks for a name that is being minted waits for it; other names do not wait.
    pub fn leaf(&self, host: &Host, now: Timestamp) -> Result<Arc<CertifiedKey>, LeafError> {
        let slot = self.slots.lock().slot(host, self.leaves_max);
        let mut leaf = slot.lock();
        self.renew(&mut leaf, std::slice::from_ref(host), now)
    }

    /// The leaf for these names that is there, or a new one in its place if it does not serve.
    pub(super) fn renew(
        &self,
        leaf: &mut Option<Leaf>,
        names: &[Host],
        now: Timestamp,
    ) -> Result<Arc<CertifiedKey>, LeafError> {
        if let Some(leaf) = leaf
            && leaf.serves(now, self.authority.not_after())
        {
            add(&self.counts.found, 1);
            return Ok(Arc::clone(&leaf.certified));
        }
        let minted = self.mint(names, now)?;
        add(&self.counts.made, 1);
        let certified = Arc::clone(&minted.certified);
        *leaf = Some(minted);
        Ok(certified)
    }

    fn mint(&self, names: &[Host], now: Timestamp) -> Result<Leaf, LeafError> {
        if self.authority.not_after() <= now {
            return Err(LeafError::AuthorityExpired {
                subject: self.authority.subject().to_owned(),
                not_after: der::Civil::from(self.authority.not_after()).to_string(),
            });
        }
        if let Some(host) = names.iter().find(|name| !self.permits(name)) {
            return Err(LeafError::NotPermitted {
                subject: self.authority.subject().to_owned(),
                host: host.clone(),
            });
        }
        let not_before = Timestamp(now.0.saturating_sub(BACK_DATED_DAYS * DAY_MICROS));
        let not_after = Timestamp(not_before.0.saturating_add(LIFETIME_DAYS * DAY_MICROS))
            .min(self.authority.not_after());
        let constraints = self.authority.constraints();
        let common_name = names
            .first()
            // Some verifiers take an address in it for a host name, and constrain that.
            .filter(|host| constraints.is_empty() || matches!(host, Host::Name(_)))
            .filter(|_| !constraints.are_about_subjects())
            .and_then(common_name);
        let mut extensions = self.extensions.clone();
        extensions.push(der::subject_alt_name(names, common_name.is_none()));
        let template = der::Template {
            serial: &random_serial().map_err(|error| LeafError::Sign(error.into()))?,
            issuer: self.authority.subject_der(),
            not_before,
            not_after,
            subject: &der::name(common_name.as_deref(), None),
            public_key: &self.public_key,
            extensions: &extensions,
        };
        let certificate = der::certificate(&template, self.authority.key())
            .map_err(|error| LeafError::Sign(error.into()))?;
        self.authority.note_use();
        let mut chain = vec![CertificateDer::from(certificate)];
        chain.extend(self.authority.chain_to_serve(now).cloned());
        Ok(Leaf {
            certified: Arc::new(CertifiedKey::new(chain, Arc::clone(&self.key))),
            not_before,
            not_after,
        })
    }
}

impl Leaf {
    /// Near the authority's own end a new leaf would not live longer, so the old one serves on.
    fn serves(&self, now: Timestamp, authority_not_after: Timestamp) -> bool {
        let left = self.not_after.micros_since(now);
        let lasts = left > RENEW_DAYS * DAY_MICROS;
        let is_last = left > 0 && self.not_after == authority_not_after;
        self.not_before <= now && (lasts || is_last)
    }
}

impl Slots {
    fn slot(&mut self, host: &Host, leaves_max: usize) -> Arc<Mutex<Option<Leaf>>> {
        self.clock += 1;
        if let Some(slot) = self.by_host.get_mut(host) {
            slot.used = self.clock;
            return Arc::clone(&slot.leaf);
        }
        if self.by_host.len() >= leaves_max {
            self.drop_oldest();
        }
        let leaf = Arc::default();
        let slot = Slot {
            leaf: Arc::clone(&leaf),
            used: self.clock,
        };
        self.by_host.insert(host.clone(), slot);
        leaf
    }

    /// Looks at all slots: some microseconds, on a miss of a full cache only, where a signature
    /// follows anyway. The look-up of a hot name stays one hash.
    fn drop_oldest(&mut self) {
        let oldest = self.by_host.iter().min_by_key(|(_, slot)| slot.used);
        if let Some(host) = oldest.map(|(host, _)| host.clone()) {
            self.by_host.remove(&host);
        }
    }
}

impl fmt::Debug for LeafCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeafCache")
            .field("authority", &self.authority)
            .field("leaves", &self.slots.lock().by_host.len())
            .finish_non_exhaustive()
    }
}

/// The host, unless it is longer than a common name may be: then the subject stays empty.
fn common_name(host: &Host) -> Option<String> {
    let name = match host {
        Host::Name(name) => name.as_ref().to_owned(),
        Host::Ip(address) => address.to_string(),
    };
    (name.len() <= COMMON_NAME_CHARS_MAX).then_some(name)
}

#[cfg(test)]
mod tests;
