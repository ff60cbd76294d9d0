//! What is known of the two connections a flow used: the client's and the upstream's.

use std::net::SocketAddr;
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
}

/// The client's side of a flow. Shared by all flows of one connection.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// The connection within this engine.
    pub connection: ConnectionId,
    /// Where the client connects from.
    pub client_address: SocketAddr,
    /// Where oriel listens.
    pub proxy_address: SocketAddr,
    /// When the connection was accepted.
    pub accepted_at: Timestamp,
    /// How the client said whom it wants.
    pub front: Front,
    /// The process at the client's end, once it was found; `None` where nobody looks for it.
    pub process: Option<ProcessCell>,
    /// The ClientHello, where the client sent one.
    pub hello: Option<Arc<ClientHello>>,
    /// TLS between the client and oriel, or why there is none.
    pub tls: Result<TlsFacts, NoTls>,
    /// When the TLS handshake with the client was done.
    pub tls_done_at: Option<Timestamp>,
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
    /// The address dialled.
    pub address: SocketAddr,
    /// Our end of that connection.
    pub local_address: SocketAddr,
    /// When name resolution and dialling began.
    pub dial_started_at: Timestamp,
    /// When the TCP connection stood.
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
