//! The host and port a client asked for. Parsed once at the edge, compared as values afterwards.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Longest host name in octets (RFC 1035 section 2.3.4, without the final dot).
const NAME_BYTES_MAX: usize = 253;
/// Longest label in octets (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// A host name as A-labels in lower case and without a final dot, or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name, for example `api.openai.com`.
    Name(Arc<str>),
    /// An address literal.
    Ip(IpAddr),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Whom to reach.
    pub host: Host,
    /// TCP port.
    pub port: u16,
}

/// The scheme of a URL that is spoken over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Without TLS towards the upstream.
    Http,
    /// With TLS towards the upstream.
    Https,
}

/// Why a text is not a host, or not a host with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nothing stands where the host should be.
    #[error("the host is empty")]
    Empty,
    /// More than 253 octets, or a label of more than 63.
    #[error("the host name is too long")]
    TooLong,
    /// A character that no host name has.
    #[error("the host has a character that no host name has")]
    BadCharacter,
    /// A name that has no form in A-labels.
    #[error("the host name has no valid ASCII form")]
    BadIdna,
    /// An opening bracket without an IPv6 address in it.
    #[error("the brackets do not hold an IPv6 address")]
    BadIpv6,
    /// Not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
    /// No port is given and none is implied.
    #[error("the port is missing")]
    NoPort,
    /// `user@host` is not a host; credentials do not belong into a request target.
    #[error("the authority has user information before the host")]
    UserInfo,
}

impl Host {
    /// Parses a name, an IPv4 literal, or an IPv6 literal with or without brackets.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if let Some(inner) = text.strip_prefix('[') {
            let address = inner.strip_suffix(']').ok_or(TargetError::BadIpv6)?;
            let address: Ipv6Addr = address.parse().map_err(|_error| TargetError::BadIpv6)?;
            return Ok(Self::Ip(address.into()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(address));
        }
        parse_name(text).map(|name| Self::Name(name.into()))
    }

    /// The name, unless it is an address.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Ip(_) => None,
        }
    }

    /// Whether this names the machine itself: a loopback address, or `localhost` and what is
    /// below it (RFC 6761 section 6.3).
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => &**name == "localhost" || name.ends_with(".localhost"),
            Self::Ip(IpAddr::V4(address)) => address.is_loopback(),
            Self::Ip(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
                Some(mapped) => mapped.is_loopback(),
                None => address.is_loopback(),
            },
        }
    }
}

impl Target {
    /// The same as a URL or a Host field of this scheme says it: without the port that the scheme
    /// implies.
    #[must_use]
    pub fn authority(&self, scheme: Scheme) -> String {
        match self.port == scheme.default_port() {
            true => self.host.to_string(),
            false => self.to_string(),
        }
    }

    /// Parses `host` or `host:port`; `default_port` is used where the text names none.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, TargetError> {
        let (host, port) = split_port(text)?;
        let port = match port {
            Some(digits) => parse_port(digits)?,
            None => default_port,
        };
        Ok(Self {
            host: Host::parse(host)?,
            port,
        })
    }

    /// Parses `host:port`; the port must be there, as in a CONNECT request (RFC 9110 section 9.3.6).
    pub fn parse_with_port(text: &str) -> Result<Self, TargetError> {
        let (host, port) = split_port(text)?;
        let port = parse_port(port.ok_or(TargetError::NoPort)?)?;
        Ok(Self {
            host: Host::parse(host)?,
            port,
        })
    }
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that a URL of this scheme leaves out.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: Host::Ip(address.ip()),
            port: address.port(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Splits at the colon that stands before a port; a bare IPv6 address has no port.
fn split_port(text: &str) -> Result<(&str, Option<&str>), TargetError> {
    if text.is_empty() {
        return Err(TargetError::Empty);
    }
    if text.contains('@') {
        return Err(TargetError::UserInfo);
    }
    if text.starts_with('[') {
        let (host, rest) = text.split_once(']').ok_or(TargetError::BadIpv6)?;
        let host = text.get(..host.len() + 1).ok_or(TargetError::BadIpv6)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(TargetError::BadIpv6),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

fn parse_port(digits: &str) -> Result<u16, TargetError> {
    // `u16::from_str` takes a plus sign, which no URL has.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(TargetError::BadPort);
    }
    match digits.parse() {
        Ok(0) | Err(_) => Err(TargetError::BadPort),
        Ok(port) => Ok(port),
    }
}

fn parse_name(text: &str) -> Result<String, TargetError> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err(TargetError::Empty);
    }
    let name = if text.is_ascii() {
        text.to_ascii_lowercase()
    } else {
        idna::domain_to_ascii(text).map_err(|_error| TargetError::BadIdna)?
    };
    if name.len() > NAME_BYTES_MAX || name.split('.').any(|label| label.len() > LABEL_BYTES_MAX) {
        return Err(TargetError::TooLong);
    }
    // The underscore is no host name character, but names with it are in use.
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.bytes().all(good) {
        return Err(TargetError::BadCharacter);
    }
    if name.split('.').any(str::is_empty) {
        return Err(TargetError::BadCharacter);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let got = match Target::parse(text, 443) {
            Ok(target) => target.to_string(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(got, expected, "for {text:?}");
    }

    #[test]
    fn parses_names_and_addresses() {
        check("api.openai.com", "api.openai.com:443");
        check("API.OpenAI.com.:8443", "api.openai.com:8443");
        check("bücher.example", "xn--bcher-kva.example:443");
        check("XN--BCHER-KVA.example", "xn--bcher-kva.example:443");
        check("127.0.0.1:80", "127.0.0.1:80");
        check("[::1]:80", "[::1]:80");
        check("::1", "[::1]:443");
        check("my_host.internal", "my_host.internal:443");
    }

    #[test]
    fn refuses_what_is_no_target() {
        check("", "error: the host is empty");
        check(":443", "error: the host is empty");
        check(
            "a b",
            "error: the host has a character that no host name has",
        );
        check(
            "a..b",
            "error: the host has a character that no host name has",
        );
        check("a:0", "error: the port is not a number from 1 to 65535");
        check("a:+80", "error: the port is not a number from 1 to 65535");
        check("a:65536", "error: the port is not a number from 1 to 65535");
        check("a:", "error: the port is not a number from 1 to 65535");
        check("[::1", "error: the brackets do not hold an IPv6 address");
        check("[::1]x", "error: the brackets do not hold an IPv6 address");
        check(
            "user@host",
            "error: the authority has user information before the host",
        );
        check(&"a".repeat(64), "error: the host name is too long");
        check(&["a"; 128].join("."), "error: the host name is too long");
    }

    #[test]
    fn connect_wants_a_port() {
        assert_eq!(
            Target::parse_with_port("example.com"),
            Err(TargetError::NoPort)
        );
    }

    #[test]
    fn knows_loopback() {
        for text in [
            "localhost",
            "a.localhost",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(Host::parse(text).unwrap().is_loopback(), "{text}");
        }
        assert!(!Host::parse("localhost.example").unwrap().is_loopback());
    }
}
