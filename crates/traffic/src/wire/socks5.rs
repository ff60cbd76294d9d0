//! The messages of SOCKS 5 (RFC 1928) and of its user name and password (RFC 1929), as a server
//! and as a client read and write them.
//!
//! Every reader looks at the bytes that came so far and says what they are, or that more are
//! needed; an answer once given does not change with more bytes. A message has at most 513 bytes,
//! which its own length fields ensure. It never reads from a peer and checks no password.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::secret::Secret;
use crate::{Host, Target, TargetError};

/// First byte of every message but those of the password.
pub const VERSION: u8 = 5;
/// First byte of a SOCKS 4 request, which is another protocol.
pub const VERSION_4: u8 = 4;
/// First byte of the messages of RFC 1929.
const PASSWORD_VERSION: u8 = 1;

/// What bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// A message that takes `length` bytes.
    Whole {
        /// The message.
        message: T,
        /// Bytes it takes; others may follow.
        length: usize,
    },
    /// More bytes are needed.
    Incomplete,
    /// No such message.
    Malformed(Problem),
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Another first byte than the version of the message.
    #[error("the SOCKS message begins with {0:#04x} in place of its version")]
    Version(u8),
    /// BIND, UDP ASSOCIATE or a number without a meaning.
    #[error("the SOCKS command {0} is not supported, only CONNECT is")]
    Command(u8),
    /// Neither IPv4, nor a name, nor IPv6.
    #[error("the SOCKS address type {0} is none of RFC 1928")]
    AddressType(u8),
    /// A name that is none, or port 0.
    #[error("the SOCKS request names no target: {0}")]
    Target(TargetError),
}

/// The ways to say who one is that a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods {
    /// Not at all.
    pub nothing: bool,
    /// By user name and password.
    pub password: bool,
}

/// The way that a server chooses (RFC 1928 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The request follows.
    Nothing,
    /// Name and password follow.
    Password,
    /// None will do; the connection ends.
    NoneAcceptable,
}

/// What a client says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The name, any bytes.
    pub user: Vec<u8>,
    /// The password, any bytes.
    pub password: Secret<Vec<u8>>,
}

/// The answer to a request (RFC 1928 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Bytes may follow.
    Succeeded,
    /// Nothing of what follows.
    Failed,
    /// It is not allowed.
    NotAllowed,
    /// No route to the network.
    NetworkUnreachable,
    /// The host cannot be reached or has no address.
    HostUnreachable,
    /// The target refuses connections.
    Refused,
    /// Nobody answered in time.
    TimedOut,
    /// Another command than CONNECT.
    CommandNotSupported,
    /// An address of an unknown kind.
    AddressTypeNotSupported,
}

/// Reads the first message: which ways the client offers.
#[must_use]
pub fn parse_greeting(bytes: &[u8]) -> Parsed<Methods> {
    parse(bytes, VERSION, |fields| {
        let count = fields.byte()?;
        let offered = fields.take(usize::from(count))?;
        Ok(Methods {
            nothing: offered.contains(&0),
            password: offered.contains(&2),
        })
    })
}

/// Reads name and password (RFC 1929 section 2).
#[must_use]
pub fn parse_credentials(bytes: &[u8]) -> Parsed<Credentials> {
    parse(bytes, PASSWORD_VERSION, |fields| {
        let user = fields.counted()?.to_vec();
        let password = Secret::new(fields.counted()?.to_vec());
        Ok(Credentials { user, password })
    })
}

/// Reads a request for a connection. A command that is not CONNECT is told once its address has
/// come, so that the answer is not cut off by bytes that nobody has read.
#[must_use]
pub fn parse_request(bytes: &[u8]) -> Parsed<Target> {
    parse(bytes, VERSION, |fields| {
        let command = fields.byte()?;
        let _reserved = fields.byte()?;
        let host = match fields.byte()? {
            1 => Ok(Host::Ip(IpAddr::V4(Ipv4Addr::from(fields.array()?)))),
            3 => host(fields.counted()?),
            4 => Ok(Host::Ip(IpAddr::V6(Ipv6Addr::from(fields.array()?)))),
            kind => return Err(Stop::Problem(Problem::AddressType(kind))),
        };
        let port = u16::from_be_bytes(fields.array()?);
        if command != 1 {
            return Err(Stop::Problem(Problem::Command(command)));
        }
        let host = host.map_err(|error| Stop::Problem(Problem::Target(error)))?;
        match port {
            0 => Err(Stop::Problem(Problem::Target(TargetError::BadPort))),
            port => Ok(Target { host, port }),
        }
    })
}

/// Some clients give an address as a name: it is the address that is meant.
fn host(name: &[u8]) -> Result<Host, TargetError> {
    let name = std::str::from_utf8(name).map_err(|_error| TargetError::BadCharacter)?;
    Host::parse(name)
}

impl Method {
    /// The message that says so.
    #[must_use]
    pub fn message(self) -> [u8; 2] {
        let code = match self {
            Self::Nothing => 0,
            Self::Password => 2,
            Self::NoneAcceptable => 0xff,
        };
        [VERSION, code]
    }
}

/// The answer to name and password (RFC 1929 section 2).
#[must_use]
pub fn credentials_answer(accepted: bool) -> [u8; 2] {
    [PASSWORD_VERSION, u8::from(!accepted)]
}

impl Reply {
    /// The message that says so. It names no address of ours: clients make no use of it, and it
    /// is nobody's business.
    #[must_use]
    pub fn message(self) -> [u8; 10] {
        [VERSION, self.code(), 0, 1, 0, 0, 0, 0, 0, 0]
    }

    /// The code in the message.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Failed => 1,
            Self::NotAllowed => 2,
            Self::NetworkUnreachable => 3,
            Self::HostUnreachable => 4,
            Self::Refused => 5,
            Self::TimedOut => 6,
            Self::CommandNotSupported => 7,
            Self::AddressTypeNotSupported => 8,
        }
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Command(_) => Self::CommandNotSupported,
            Problem::AddressType(_) => Self::AddressTypeNotSupported,
            Problem::Version(_) | Problem::Target(_) => Self::Failed,
        }
    }
}

/// The first message of a client (RFC 1928 section 3): without credentials it offers to say nothing
/// of itself, with them either.
#[must_use]
pub fn greeting(has_credentials: bool) -> &'static [u8] {
    match has_credentials {
        true => &[VERSION, 2, 0, 2],
        false => &[VERSION, 1, 0],
    }
}

/// Reads the way that the server chose; one that was not offered is none that can be gone.
#[must_use]
pub fn parse_method(bytes: &[u8]) -> Parsed<Method> {
    parse(bytes, VERSION, |fields| {
        Ok(match fields.byte()? {
            0 => Method::Nothing,
            2 => Method::Password,
            _ => Method::NoneAcceptable,
        })
    })
}

/// The message with name and password (RFC 1929 section 2); `None` if one of them has no octet or
/// more than 255.
#[must_use]
pub fn credentials(user: &[u8], password: &[u8]) -> Option<Vec<u8>> {
    let mut message = vec![PASSWORD_VERSION];
    for text in [user, password] {
        let length = u8::try_from(text.len()).ok().filter(|length| *length > 0)?;
        message.push(length);
        message.extend_from_slice(text);
    }
    Some(message)
}

/// Reads whether the server believes name and password.
#[must_use]
pub fn parse_credentials_answer(bytes: &[u8]) -> Parsed<bool> {
    parse(bytes, PASSWORD_VERSION, |fields| Ok(fields.byte()? == 0))
}

/// A request for a connection. A name is sent as it is: the server resolves it.
#[must_use]
pub fn request(target: &Target) -> Vec<u8> {
    let mut message = vec![VERSION, 1, 0];
    match &target.host {
        Host::Ip(IpAddr::V4(address)) => {
            message.push(1);
            message.extend_from_slice(&address.octets());
        }
        Host::Ip(IpAddr::V6(address)) => {
            message.push(4);
            message.extend_from_slice(&address.octets());
        }
        Host::Name(name) => {
            // No host name has more than 253 octets.
            let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
            message.extend_from_slice(&[3, length]);
            message.extend_from_slice(name.as_bytes());
        }
    }
    message.extend_from_slice(&target.port.to_be_bytes());
    message
}

/// Reads the answer to a request, with the code as it came (RFC 1928 section 6). The address in it
/// is the server's own and of no use to us.
#[must_use]
pub fn parse_reply(bytes: &[u8]) -> Parsed<u8> {
    parse(bytes, VERSION, |fields| {
        let code = fields.byte()?;
        let _reserved = fields.byte()?;
        if code != Reply::Succeeded.code() {
            // Some servers say no more than that.
            return Ok(code);
        }
        let _address = match fields.byte()? {
            1 => fields.take(4)?,
            3 => fields.counted()?,
            4 => fields.take(16)?,
            kind => return Err(Stop::Problem(Problem::AddressType(kind))),
        };
        let _port = fields.take(2)?;
        Ok(code)
    })
}

/// What the code of an answer says.
#[must_use]
pub fn describe_reply(code: u8) -> &'static str {
    match code {
        0 => "succeeded",
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "timed out",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "a code without a meaning",
    }
}

/// The answer to a SOCKS 4 request: rejected (a reply of version 0 with code 91).
pub const VERSION_4_REJECTED: [u8; 8] = [0, 91, 0, 0, 0, 0, 0, 0];

/// Takes fields off bytes.
struct Fields<'a> {
    bytes: &'a [u8],
    taken: usize,
}

/// Why reading a message ended before its end.
enum Stop {
    Incomplete,
    Problem(Problem),
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let end = self.taken + length;
        let field = self.bytes.get(self.taken..end).ok_or(Stop::Incomplete)?;
        self.taken = end;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        self.take(N)?.try_into().map_err(|_error| Stop::Incomplete)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// A byte that says how many follow, and those.
    fn counted(&mut self) -> Result<&'a [u8], Stop> {
        let length = self.byte()?;
        self.take(usize::from(length))
    }
}

fn parse<'a, T>(
    bytes: &'a [u8],
    version: u8,
    read: impl FnOnce(&mut Fields<'a>) -> Result<T, Stop>,
) -> Parsed<T> {
    let mut fields = Fields { bytes, taken: 0 };
    let read = fields.byte().and_then(|first| match first {
        first if first == version => read(&mut fields),
        first => Err(Stop::Problem(Problem::Version(first))),
    });
    match read {
        Ok(message) => Parsed::Whole {
            message,
            length: fields.taken,
        },
        Err(Stop::Incomplete) => Parsed::Incomplete,
        Err(Stop::Problem(problem)) => Parsed::Malformed(problem),
    }
}

#[cfg(test)]
mod tests;
