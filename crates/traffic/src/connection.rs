//! What is known of the two connections a flow used: the client's and the upstream's.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::wire::client_hello::ClientHello;
use crate::{ConnectionId, ProcessCell, Timestamp, Version};

/// How the client said whom it wants to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Front {
    /// `CONNECT host:port` (RFC 9110 section 9.3.6).
    Connect,
    /// `GET http://host/path` (RFC 9112 section 3.2.2).
    AbsoluteForm,
    /// `GET /path` with a Host field, as sent to an origin server.
    OriginForm,
    /// SOCKS 5 (RFC 1928).
    Socks5,
    /// Not at all: it reached a listener that stands in front of one upstream.
    Reverse,
}

/// On whose behalf oriel stands between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyDirection {
    /// The client's, which names whom it wants.
    Forward,
    /// The upstream's, which the client takes oriel for.
    Reverse,
}

impl Front {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::AbsoluteForm => "absolute_form",
            Self::OriginForm => "origin_form",
            Self::Socks5 => "socks5",
            Self::Reverse => "reverse",
        }
    }

    /// On whose behalf oriel stands there.
    #[must_use]
    pub fn direction(self) -> ProxyDirection {
        match self {
            Self::Connect | Self::AbsoluteForm | Self::OriginForm | Self::Socks5 => {
                ProxyDirection::Forward
            }
            Self::Reverse => ProxyDirection::Reverse,
        }
    }
}

impl ProxyDirection {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Reverse => "reverse",
        }
    }
}

/// The client's side of a flow. Shared by all flows of one connection.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// The connection within this engine.
    pub connection: ConnectionId,
    /// Where the client connects from.
    pub client_address: ClientAddress,
    /// Where oriel was reached.
    pub proxy_address: ListenAddress,
    /// When the connection was accepted.
    pub accepted_at: Timestamp,
    /// How the client said whom it wants.
    pub front: Front,
    /// The name that the client said, where clients have to say who they are; never empty.
    pub user: Option<Arc<str>>,
    /// The process at the client's end, once it was found; `None` where nobody looks for it.
    pub process: Option<ProcessCell>,
    /// The ClientHello, where the client sent one.
    pub hello: Option<Arc<ClientHello>>,
    /// TLS between the client and oriel, or why there is none.
    pub tls: Result<TlsFacts, NoTls>,
    /// When the TLS handshake with the client was done.
    pub tls_done_at: Option<Timestamp>,
}

/// Where clients are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix-domain socket, by its path.
    Unix(PathBuf),
}

/// Where a client connects from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// An address of its own.
    Tcp(SocketAddr),
    /// This machine, through a Unix-domain socket. The file has a name, the client's end has none.
    Unix(PeerCredentials),
}

/// Who connected to a Unix-domain socket, as the kernel noted it at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerCredentials {
    /// The process; `None` if it has no number here, as one outside of our container.
    pub pid: Option<u32>,
    /// Its user.
    pub uid: u32,
}

/// Why TLS was not opened between the client and oriel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoTls {
    /// The client spoke plain HTTP.
    PlainHttp,
    /// The bytes pass as they are; what TLS they hold is between client and upstream.
    Tunnelled,
    /// The handshake with the client did not succeed.
    HandshakeFailed,
}

/// The upstream's side of a flow. Shared by all flows of one upstream connection.
#[derive(Clone, Debug)]
pub struct UpstreamFacts {
    /// The upstream proxy it goes through, as a URL without credentials.
    pub proxy: Option<Arc<str>>,
    /// The address dialled: the upstream's, or the proxy's.
    pub address: SocketAddr,
    /// Our end of that connection.
    pub local_address: SocketAddr,
    /// When name resolution and dialling began.
    pub dial_started_at: Timestamp,
    /// When the connection stood; a proxy has agreed to it by then.
    pub connected_at: Timestamp,
    /// When the TLS handshake was done.
    pub tls_done_at: Option<Timestamp>,
    /// TLS between oriel and the upstream.
    pub tls: Option<TlsFacts>,
    /// The HTTP version spoken, `None` for a tunnel.
    pub version: Option<Version>,
}

/// What one TLS handshake settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// For example `TLSv1.3`.
    pub version: &'static str,
    /// For example `TLS13_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// The name the client side asked for, where it sent one.
    pub sni: Option<String>,
    /// The protocol chosen by ALPN, for example `h2`.
    pub alpn: Option<String>,
    /// The certificate the server side showed.
    pub certificate: Option<CertificateFacts>,
    /// True where `danger_accept_invalid_upstream` kept the certificate from being verified.
    pub danger_unverified: bool,
}

/// A short view of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Distinguished name of the subject (RFC 4514 form).
    pub subject: String,
    /// Distinguished name of the issuer.
    pub issuer: String,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid to.
    pub not_after: Timestamp,
    /// Names and addresses it is for, at most 32 of them.
    pub names: Vec<String>,
    /// SHA-256 of the certificate in DER.
    pub sha256: [u8; 32],
    /// Certificates the server sent, the leaf included.
    pub chain_length: usize,
}

impl ListenAddress {
    /// The address, if it is one of TCP.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<SocketAddr> for ClientAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// `127.0.0.1:6743` or `unix:/run/oriel.sock`.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `127.0.0.1:50000` or `unix:pid=4711,uid=1000`.
impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(PeerCredentials { pid: None, uid }) => write!(f, "unix:uid={uid}"),
            Self::Unix(PeerCredentials {
                pid: Some(pid),
                uid,
            }) => write!(f, "unix:pid={pid},uid={uid}"),
        }
    }
}
