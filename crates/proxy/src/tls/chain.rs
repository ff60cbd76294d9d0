//! An authority's certificate and those it was issued by, up to the root: put in order, and checked
//! as a client would.

use rustls::pki_types::CertificateDer;
use traffic::Timestamp;
use x509_parser::certificate::X509Certificate;

use super::certificate::{distinguished_name, parse, sha256, timestamp};
use super::der::Civil;
use super::signed::Signed;

/// One certificate of a chain, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Signed by its own key: a root.
    pub self_signed: bool,
    /// A root whose signature is of an algorithm that is not checked here, such as SHA-1. Clients do
    /// not check the signature of what they trust (RFC 5280 section 6.1).
    pub unchecked: bool,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid to.
    pub not_after: Timestamp,
    /// Authorities that may stand between it and a leaf; `None` if there is no bound.
    pub path_length: Option<u32>,
    /// Fingerprint.
    pub sha256: [u8; 32],
}

/// Why clients would not accept leaves under a chain, or not all clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// A certificate of the chain cannot be read.
    #[error("certificate {position} of the chain cannot be read")]
    Unreadable {
        /// Counted from 1.
        position: usize,
    },
    /// The next certificate has the name of the issuer, but another key.
    #[error("{subject} was not signed by the key of {issuer} that follows it")]
    WrongKey {
        /// Whose certificate it is.
        subject: String,
        /// Who is said to have signed it.
        issuer: String,
    },
    /// It says that it signed itself, and did not.
    #[error("{subject} names itself as its issuer, and its signature does not hold")]
    NotItsOwn {
        /// Whose certificate it is.
        subject: String,
    },
    /// It is no authority.
    #[error("{subject} is not an authority: {reason}")]
    NotAnAuthority {
        /// Whose certificate it is.
        subject: String,
        /// What is missing.
        reason: &'static str,
    },
    /// Its time is over.
    #[error("{subject} expired on {not_after}")]
    Expired {
        /// Whose certificate it is.
        subject: String,
        /// When, for people.
        not_after: String,
    },
    /// Its time has not come.
    #[error("{subject} is not valid before {not_before}")]
    NotYetValid {
        /// Whose certificate it is.
        subject: String,
        /// When, for people.
        not_before: String,
    },
    /// Its extended key usage leaves servers out (RFC 5280 section 4.2.1.12). Clients take that of an
    /// authority for a bound on what stands below it.
    #[error(
        "{subject} has an extended key usage without serverAuth: it may issue none for servers"
    )]
    NotForServers {
        /// Whose certificate it is.
        subject: String,
    },
    /// More authorities stand below it than it allows.
    #[error("{subject} allows {allowed} authorities below it, and {below} stand there")]
    TooDeep {
        /// Whose certificate it is.
        subject: String,
        /// Its path length.
        allowed: u32,
        /// Authorities between it and a leaf.
        below: usize,
    },
}

/// Puts the certificates that a chain consists of in order: the first one, who signed it, and so on
/// to the root, as far as they are among the others. Those that are not part of it are left out.
pub(crate) fn arrange(
    first: CertificateDer<'static>,
    mut others: Vec<CertificateDer<'static>>,
) -> Vec<CertificateDer<'static>> {
    let mut chain = vec![first];
    while let Some(last) = chain.last() {
        let Some(issuer) = issuer_among(last, &others) else {
            break;
        };
        chain.push(others.remove(issuer));
    }
    chain
}

/// Who signed a certificate; or else who has the name of who signed it, so that it can be said that
/// it is another.
fn issuer_among(of: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Option<usize> {
    let certificate = parse(of)?;
    if is_self_issued(&certificate) {
        return None;
    }
    let signed = Signed::parse(of)?;
    let mut namesake = None;
    for (index, other) in others.iter().enumerate() {
        let Some(other) = parse(other) else { continue };
        if other.subject().as_raw() != certificate.issuer().as_raw() {
            continue;
        }
        if signed.is_signed_by(other.public_key().raw) {
            return Some(index);
        }
        namesake.get_or_insert(index);
    }
    namesake
}

pub(crate) fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == certificate.subject().as_raw()
}

/// Whether a certificate is signed by its own key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SelfSigned {
    Yes,
    /// It says so, by an algorithm that cannot be checked here.
    Unchecked,
    /// It says so, and that is not true.
    Wrong,
    /// It names another issuer.
    No,
}

impl SelfSigned {
    fn of(certificate: &X509Certificate<'_>, signed: Option<&Signed<'_>>) -> Self {
        match signed {
            _ if !is_self_issued(certificate) => Self::No,
            Some(signed) if signed.is_signed_by(certificate.public_key().raw) => Self::Yes,
            Some(signed) if !signed.is_checkable() => Self::Unchecked,
            Some(_) | None => Self::Wrong,
        }
    }
}

/// What each certificate of a chain says; those that cannot be read are left out.
#[must_use]
pub fn links(chain: &[CertificateDer<'_>]) -> Vec<Link> {
    let link = |der| {
        let certificate = parse(der)?;
        let own = SelfSigned::of(&certificate, Signed::parse(der).as_ref());
        Some(Link {
            subject: distinguished_name(certificate.subject()),
            issuer: distinguished_name(certificate.issuer()),
            self_signed: matches!(own, SelfSigned::Yes | SelfSigned::Unchecked),
            unchecked: own == SelfSigned::Unchecked,
            not_before: timestamp(certificate.validity().not_before.timestamp()),
            not_after: timestamp(certificate.validity().not_after.timestamp()),
            path_length: path_length(&certificate),
            sha256: sha256(der),
        })
    };
    chain.iter().filter_map(link).collect()
}

/// Checks a chain of authorities as a client does that trusts the last of them (RFC 5280 section
/// 6.1): names, signatures, times, what each may sign and how many below it. An empty answer means
/// that it holds. Name constraints are about leaves, and are heeded when one is minted.
#[must_use]
pub fn check(chain: &[CertificateDer<'_>], now: Timestamp) -> Vec<ChainFault> {
    let mut faults = Vec::new();
    // Self-issued ones do not count (RFC 5280 section 6.1.4 (l)).
    let mut below = 0;
    for (index, der) in chain.iter().enumerate() {
        let (Some(certificate), Some(signed)) = (parse(der), Signed::parse(der)) else {
            let position = index + 1;
            faults.push(ChainFault::Unreadable { position });
            continue;
        };
        let subject = distinguished_name(certificate.subject());
        if let Err(reason) = is_authority(&certificate) {
            let subject = subject.clone();
            faults.push(ChainFault::NotAnAuthority { subject, reason });
        }
        if let Some(allowed) = path_length(&certificate).filter(|allowed| *allowed < below) {
            faults.push(ChainFault::TooDeep {
                subject: subject.clone(),
                allowed,
                below: below as usize,
            });
        }
        faults.extend(out_of_time(&certificate, &subject, now));
        if leaves_servers_out(&certificate) {
            let subject = subject.clone();
            faults.push(ChainFault::NotForServers { subject });
        }
        match SelfSigned::of(&certificate, Some(&signed)) {
            SelfSigned::Yes | SelfSigned::Unchecked => continue,
            SelfSigned::Wrong => {
                faults.push(ChainFault::NotItsOwn { subject });
                continue;
            }
            SelfSigned::No => below += 1,
        }
        let next = chain.get(index + 1).and_then(parse);
        if next.is_some_and(|next| !signed.is_signed_by(next.public_key().raw)) {
            let issuer = distinguished_name(certificate.issuer());
            faults.push(ChainFault::WrongKey { subject, issuer });
        }
    }
    faults
}

fn out_of_time(
    certificate: &X509Certificate<'_>,
    subject: &str,
    now: Timestamp,
) -> Option<ChainFault> {
    let not_before = timestamp(certificate.validity().not_before.timestamp());
    let not_after = timestamp(certificate.validity().not_after.timestamp());
    if not_after <= now {
        return Some(ChainFault::Expired {
            subject: subject.to_owned(),
            not_after: Civil::from(not_after).to_string(),
        });
    }
    (now < not_before).then(|| ChainFault::NotYetValid {
        subject: subject.to_owned(),
        not_before: Civil::from(not_before).to_string(),
    })
}

/// Whether a certificate may sign others, or why not.
pub(crate) fn is_authority(certificate: &X509Certificate<'_>) -> Result<(), &'static str> {
    match certificate.basic_constraints() {
        Ok(Some(constraints)) if constraints.value.ca => {}
        Ok(_) | Err(_) => return Err("its basic constraints do not say CA:TRUE"),
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => {
            Err("its key usage does not allow signing certificates (keyCertSign)")
        }
        Ok(_) => Ok(()),
        Err(_) => Err("its key usage cannot be read"),
    }
}

/// Whether an authority may issue certificates, and none for servers.
fn leaves_servers_out(certificate: &X509Certificate<'_>) -> bool {
    match certificate.extended_key_usage() {
        Ok(Some(usage)) => !usage.value.server_auth && !usage.value.any,
        Ok(None) => false,
        Err(_) => true,
    }
}

/// Authorities that may stand between one and a leaf.
pub(crate) fn path_length(certificate: &X509Certificate<'_>) -> Option<u32> {
    let constraints = certificate.basic_constraints().ok()??;
    constraints.value.path_len_constraint
}

#[cfg(test)]
mod tests;
