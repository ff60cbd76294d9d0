//! The header with which a load balancer says for whom it connects: versions 1 and 2 of "The PROXY
//! protocol" (HAProxy, `doc/proxy-protocol.txt`, revision 2020/03/05).
//!
//! It looks at the bytes that came so far and says what they are, or that more are needed; an
//! answer once given does not change with more bytes. Whether the sender is to be believed is not
//! decided here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::wire::limits::{PROXY_HEADER_V1_BYTES_MAX, PROXY_HEADER_V2_BYTES_MAX};

/// What version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";

/// What bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A header that takes `length` bytes.
    Whole {
        /// For whom the connection is.
        source: Source,
        /// Bytes it takes; the client's follow.
        length: usize,
    },
    /// More bytes are needed.
    Incomplete,
    /// No header.
    Malformed(Problem),
}

/// For whom a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// For the sender itself (a health check), or for somebody it cannot name: the addresses of
    /// the connection stand.
    Unnamed,
    /// For a client.
    Client {
        /// Where the client connects from.
        address: SocketAddr,
        /// Where the client connected to.
        to: SocketAddr,
    },
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Something else comes first.
    #[error("the connection does not begin with a PROXY protocol header")]
    Missing,
    /// It is longer than it may be.
    #[error("the PROXY protocol header is too long")]
    TooLong,
    /// A line of version 1 that is not as it must be.
    #[error("the PROXY protocol header of version 1 is malformed")]
    Line,
    /// A version that is neither 1 nor 2.
    #[error("the version of the PROXY protocol header is not 2")]
    Version,
    /// Neither LOCAL nor PROXY.
    #[error("the command of the PROXY protocol header is unknown")]
    Command,
    /// Something else than a stream, or no kind of address that there is.
    #[error("the PROXY protocol header is for another kind of connection")]
    Family,
    /// Fewer bytes than the addresses take.
    #[error("the PROXY protocol header ends before its addresses do")]
    TooShort,
}

/// Reads the header that a connection begins with.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    let parsed = match begins(bytes, SIGNATURE) {
        Some(true) => binary(bytes),
        Some(false) => return Parsed::Incomplete,
        None => match begins(bytes, WORD) {
            Some(true) => line(bytes),
            Some(false) => return Parsed::Incomplete,
            None => Err(Problem::Missing),
        },
    };
    match parsed {
        Ok(Some((source, length))) => Parsed::Whole { source, length },
        Ok(None) => Parsed::Incomplete,
        Err(problem) => Parsed::Malformed(problem),
    }
}

/// Whether bytes begin so; `Some(false)` if they may with more of them.
fn begins(bytes: &[u8], with: &[u8]) -> Option<bool> {
    let length = bytes.len().min(with.len());
    (bytes.get(..length) == with.get(..length)).then_some(length == with.len())
}

/// Version 1 (section 2.1): one line of words.
fn line(bytes: &[u8]) -> Result<Option<(Source, usize)>, Problem> {
    let most = bytes.get(..PROXY_HEADER_V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = most.windows(2).position(|pair| pair == b"\r\n") else {
        return match most.len() < PROXY_HEADER_V1_BYTES_MAX {
            true => Ok(None),
            false => Err(Problem::TooLong),
        };
    };
    let line = most.get(WORD.len()..end).unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_error| Problem::Line)?;
    let source = words(line).ok_or(Problem::Line)?;
    Ok(Some((source, end + 2)))
}

fn words(line: &str) -> Option<Source> {
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        // Whatever else the line says is to be ignored.
        return Some(Source::Unnamed);
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse().ok().map(IpAddr::V4),
            "TCP6" => text.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (from, to) = (address(words.next()?)?, address(words.next()?)?);
    let (from_port, to_port) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then_some(Source::Client {
        address: SocketAddr::new(from, from_port),
        to: SocketAddr::new(to, to_port),
    })
}

/// Digits without a sign and without a zero before others.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let padded = text.len() > 1 && text.starts_with('0');
    (plain && !padded).then(|| text.parse().ok())?
}

/// Version 2 (section 2.2): the signature, version and command, family, length, addresses, and
/// further fields that are skipped.
fn binary(bytes: &[u8]) -> Result<Option<(Source, usize)>, Problem> {
    let mut fields = Fields {
        rest: bytes.get(SIGNATURE.len()..).unwrap_or_default(),
    };
    let Some([version_and_command]) = fields.array() else {
        return Ok(None);
    };
    if version_and_command >> 4 != 2 {
        return Err(Problem::Version);
    }
    let local = match version_and_command & 0xf {
        0 => true,
        1 => false,
        _ => return Err(Problem::Command),
    };
    let Some([family]) = fields.array() else {
        return Ok(None);
    };
    let needed = match (local, family) {
        // What else a LOCAL header says is to be ignored.
        (true, _) | (false, 0x00) => 0,
        (false, 0x11) => 12,
        (false, 0x21) => 36,
        (false, 0x31) => 216,
        _ => return Err(Problem::Family),
    };
    let Some(length) = fields.array().map(u16::from_be_bytes).map(usize::from) else {
        return Ok(None);
    };
    let whole = SIGNATURE.len() + 4 + length;
    if whole > PROXY_HEADER_V2_BYTES_MAX {
        return Err(Problem::TooLong);
    }
    if length < needed {
        return Err(Problem::TooShort);
    }
    if bytes.len() < whole {
        return Ok(None);
    }
    let client = match (local, family) {
        (false, 0x11) => fields.addresses(|bytes: [u8; 4]| Ipv4Addr::from(bytes).into()),
        (false, 0x21) => fields.addresses(|bytes: [u8; 16]| Ipv6Addr::from(bytes).into()),
        // A Unix-domain socket of the sender's machine names nobody here.
        _ => None,
    };
    Ok(Some((client.unwrap_or(Source::Unnamed), whole)))
}

/// Takes fields off bytes.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*field)
    }

    fn addresses<const N: usize>(&mut self, read: fn([u8; N]) -> IpAddr) -> Option<Source> {
        let (from, to) = (read(self.array()?), read(self.array()?));
        let from_port = u16::from_be_bytes(self.array()?);
        let to_port = u16::from_be_bytes(self.array()?);
        Some(Source::Client {
            address: SocketAddr::new(from, from_port),
            to: SocketAddr::new(to, to_port),
        })
    }
}

#[cfg(test)]
mod tests;
