//! Name constraints (RFC 5280 section 4.2.1.10): the hosts that an authority may sign for. Clients
//! refuse a leaf for any other host, so none is minted for it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use traffic::Host;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree, NameConstraints, ParsedExtension};

/// Hosts that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subtree {
    /// A name with every name below it; with a dot before it, those below it alone; every name
    /// where it is empty. In lower case.
    Names(String),
    /// Addresses of one family: 4 or 16 octets, and as many of which bits count.
    Addresses {
        /// The address.
        octets: Vec<u8>,
        /// Which of its bits count.
        mask: Vec<u8>,
    },
}

/// Why a text names no hosts that an authority can be constrained to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubtreeError {
    /// It has a wildcard.
    #[error(
        "`{text}` has a wildcard; write `{name}`, which stands for every name below it as well"
    )]
    Wildcard {
        /// What was given.
        text: String,
        /// What is meant.
        name: String,
    },
    /// It is neither a name, nor an address, nor a range of addresses.
    #[error("`{text}` is neither a host name, nor an address, nor a range such as 10.0.0.0/8")]
    NotAHost {
        /// What was given.
        text: String,
    },
}

impl Subtree {
    pub(crate) fn every_name() -> Self {
        Self::Names(String::new())
    }

    /// Of both families.
    pub(crate) fn every_address() -> [Self; 2] {
        [4, 16].map(|length| Self::Addresses {
            octets: vec![0; length],
            mask: vec![0; length],
        })
    }

    pub(crate) fn is_name(&self) -> bool {
        matches!(self, Self::Names(_))
    }

    fn range(address: IpAddr, bits: u8) -> Option<Self> {
        let octets = octets(address);
        let bits = usize::from(bits);
        if bits > octets.len() * 8 {
            return None;
        }
        let mask: Vec<u8> = (0..octets.len())
            .map(|index| match bits.saturating_sub(index * 8) {
                0 => 0,
                some @ 1..8 => 0xff << (8 - some),
                _ => 0xff,
            })
            .collect();
        let kept = octets.iter().zip(&mask).map(|(octet, mask)| octet & mask);
        let octets = kept.collect();
        Some(Self::Addresses { octets, mask })
    }

    fn holds(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Names(subtree), Host::Name(name)) => {
                let name = name.to_ascii_lowercase();
                match name.strip_suffix(subtree.as_str()) {
                    None => false,
                    Some("") => true,
                    Some(before) => {
                        subtree.is_empty() || subtree.starts_with('.') || before.ends_with('.')
                    }
                }
            }
            (Self::Addresses { octets: of, mask }, Host::Ip(address)) => {
                let octets = octets(*address);
                octets.len() == of.len()
                    && octets
                        .iter()
                        .zip(of)
                        .zip(mask)
                        .all(|((octet, of), mask)| octet & mask == of & mask)
            }
            (Self::Names(_), Host::Ip(_)) | (Self::Addresses { .. }, Host::Name(_)) => false,
        }
    }
}

impl FromStr for Subtree {
    type Err = SubtreeError;

    fn from_str(text: &str) -> Result<Self, SubtreeError> {
        let not_a_host = || SubtreeError::NotAHost {
            text: text.to_owned(),
        };
        if let Some((address, bits)) = text.split_once('/') {
            let address = address.parse().map_err(|_error| not_a_host())?;
            let bits = bits.parse().map_err(|_error| not_a_host())?;
            return Self::range(address, bits).ok_or_else(not_a_host);
        }
        if let Some(name) = text.strip_prefix("*.") {
            return Err(SubtreeError::Wildcard {
                text: text.to_owned(),
                name: name.to_owned(),
            });
        }
        match Host::parse(text) {
            Ok(Host::Name(name)) => Ok(Self::Names(name.to_ascii_lowercase())),
            Ok(Host::Ip(address)) => {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                Self::range(address, bits).ok_or_else(not_a_host)
            }
            Err(_) => Err(not_a_host()),
        }
    }
}

impl fmt::Display for Subtree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names(name) if name.is_empty() => f.write_str("every name"),
            Self::Names(name) => f.write_str(name),
            Self::Addresses { octets, mask } => {
                let bits: u32 = mask.iter().map(|mask| mask.count_ones()).sum();
                match address(octets) {
                    Some(address) if bits as usize == octets.len() * 8 => write!(f, "{address}"),
                    Some(address) => write!(f, "{address}/{bits}"),
                    None => f.write_str("no address"),
                }
            }
        }
    }
}

/// What the certificates of a chain constrain leaves to, each of them for itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Constraints(Vec<Level>);

/// What one certificate says.
#[derive(Clone, Debug, Default)]
struct Level {
    permitted: Vec<Subtree>,
    excluded: Vec<Subtree>,
    /// Subjects are constrained as well.
    subjects: bool,
}

/// Name constraints that cannot be read, so that nobody knows what they permit.
#[derive(Debug)]
pub(crate) struct Unreadable;

impl Constraints {
    /// Adds what a certificate says.
    pub(crate) fn add(&mut self, certificate: &X509Certificate<'_>) -> Result<(), Unreadable> {
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::NameConstraints(said) => self.0.push(Level::read(said)?),
                // What is not understood is reported as such or as an error.
                _ if extension.oid == x509_parser::oid_registry::OID_X509_EXT_NAME_CONSTRAINTS => {
                    return Err(Unreadable);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether clients would take a leaf for a host.
    pub(crate) fn permit(&self, host: &Host) -> bool {
        self.0.iter().all(|level| level.permits(host))
    }

    /// A name with this label that they permit: below one of those that they are about, if there
    /// are such.
    pub(crate) fn name_permitted(&self, label: &str) -> Option<Host> {
        let permitted = self.0.iter().flat_map(|level| &level.permitted);
        let names = permitted.filter_map(|subtree| match subtree {
            Subtree::Names(name) => Some(name.trim_start_matches('.')),
            Subtree::Addresses { .. } => None,
        });
        let mut hosts = names
            .filter(|name| !name.is_empty())
            // Nobody has a name below this one (RFC 2606).
            .chain(std::iter::once("test"))
            .filter_map(|name| Host::parse(&format!("{label}.{name}")).ok());
        hosts.find(|host| self.permit(host))
    }

    /// Whether a subject could break them; a leaf then has none.
    pub(crate) fn are_about_subjects(&self) -> bool {
        self.0.iter().any(|level| level.subjects)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// For people: `only a.test, 10.0.0.0/8` and `not b.test`.
impl fmt::Display for Constraints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |subtrees: &[Subtree]| {
            let texts: Vec<_> = subtrees.iter().map(ToString::to_string).collect();
            texts.join(", ")
        };
        let mut parts = Vec::new();
        for level in &self.0 {
            if !level.permitted.is_empty() {
                parts.push(format!("only {}", list(&level.permitted)));
            }
            if !level.excluded.is_empty() {
                parts.push(format!("not {}", list(&level.excluded)));
            }
        }
        f.write_str(&parts.join("; "))
    }
}

impl Level {
    fn read(said: &NameConstraints<'_>) -> Result<Self, Unreadable> {
        let mut level = Self::default();
        let permitted = said.permitted_subtrees.as_deref().unwrap_or_default();
        let excluded = said.excluded_subtrees.as_deref().unwrap_or_default();
        level.permitted = level.subtrees(permitted)?;
        level.excluded = level.subtrees(excluded)?;
        Ok(level)
    }

    fn subtrees(&mut self, said: &[GeneralSubtree<'_>]) -> Result<Vec<Subtree>, Unreadable> {
        let mut read = Vec::with_capacity(said.len());
        for subtree in said {
            match &subtree.base {
                GeneralName::DNSName(name) => {
                    read.push(Subtree::Names(name.to_ascii_lowercase()));
                }
                GeneralName::IPAddress(both) => {
                    let (octets, mask) = both.split_at(both.len() / 2);
                    if !matches!(both.len(), 8 | 32) {
                        return Err(Unreadable);
                    }
                    let (octets, mask) = (octets.to_vec(), mask.to_vec());
                    read.push(Subtree::Addresses { octets, mask });
                }
                GeneralName::DirectoryName(_) => self.subjects = true,
                GeneralName::Invalid(..) => return Err(Unreadable),
                // No leaf has names of the other kinds.
                _ => {}
            }
        }
        Ok(read)
    }

    /// A kind of name is free unless some of it are permitted.
    fn permits(&self, host: &Host) -> bool {
        let is_name = matches!(host, Host::Name(_));
        let mut of_kind = self
            .permitted
            .iter()
            .filter(|subtree| subtree.is_name() == is_name)
            .peekable();
        let permitted = of_kind.peek().is_none() || of_kind.any(|subtree| subtree.holds(host));
        permitted && !self.excluded.iter().any(|subtree| subtree.holds(host))
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests;
