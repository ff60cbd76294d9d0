//! TLS towards clients: what oriel answers a ClientHello with.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ServerConfig};
use tokio::io::AsyncWriteExt as _;
use traffic::wire::client_hello::ClientHello as ReadHello;
use traffic::{Failure, FailureKind, Host, Side, Stage, Timestamp};

use super::leaf::{LeafCache, LeafError};
use super::{alert_name, is_about_version};
use crate::config::MinTlsVersion;
use crate::error;
use crate::stream::Replay;

/// Reads the wall clock.
pub type Clock = fn() -> Timestamp;

/// TLS 1.2 sessions without tickets that are remembered, over all names.
const SESSIONS_MAX: usize = 1024;
/// Configurations for addresses that are held ready; they are cheap to make again.
const ADDRESSES_MAX: usize = 256;

/// TLS 1.2 on the wire.
const TLS12: u16 = 0x0303;

/// What the client is offered by ALPN (RFC 7301): what the upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAlpn {
    /// `http/1.1`.
    Http11,
    /// `h2`.
    Http2,
    /// `h2`, then `http/1.1`.
    Both,
    /// Nothing: the client's list is not answered.
    None,
}

/// The configurations for TLS towards clients: one for each ALPN choice, sharing the key of
/// session tickets and the memory of sessions.
#[derive(Debug)]
pub struct ClientSide {
    leaves: Arc<LeafCache>,
    clock: Clock,
    http11: Arc<ServerConfig>,
    http2: Arc<ServerConfig>,
    both: Arc<ServerConfig>,
    none: Arc<ServerConfig>,
    by_address: Mutex<HashMap<(IpAddr, ClientAlpn), Arc<ServerConfig>>>,
}

impl ClientSide {
    /// Makes the configurations, which speak no version below `min`.
    #[must_use]
    pub fn new(leaves: Arc<LeafCache>, clock: Clock, min: MinTlsVersion) -> Self {
        let resolver = Resolver {
            leaves: Arc::clone(&leaves),
            clock,
            address: None,
        };
        let base = base_config(Arc::new(resolver), min);
        let with_alpn = |alpn: ClientAlpn| {
            let mut config = base.clone();
            config.alpn_protocols = alpn.protocols();
            Arc::new(config)
        };
        Self {
            leaves,
            clock,
            http11: with_alpn(ClientAlpn::Http11),
            http2: with_alpn(ClientAlpn::Http2),
            both: with_alpn(ClientAlpn::Both),
            none: with_alpn(ClientAlpn::None),
            by_address: Mutex::default(),
        }
    }

    /// The configuration for a client that asked for `host`. The certificate is the one for the
    /// name in the client's SNI; a client that wants an address sends none and gets the one for
    /// that address.
    #[must_use]
    pub fn server_config(&self, host: &Host, alpn: ClientAlpn) -> Arc<ServerConfig> {
        match host {
            Host::Name(_) => Arc::clone(self.for_names(alpn)),
            Host::Ip(address) => self.for_address(*address, alpn),
        }
    }

    /// Whether clients would take a leaf for a host: whether the authority's name constraints
    /// permit it.
    #[must_use]
    pub fn permits(&self, host: &Host) -> bool {
        self.leaves.permits(host)
    }

    /// Why a handshake failed for want of a certificate, where it was that: the client is not to blame.
    pub(crate) fn own_failure(&self, error: &io::Error, host: &Host) -> Option<Failure> {
        let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        if !matches!(tls, rustls::Error::General(_)) {
            return None;
        }
        let error = self.leaves.leaf(host, (self.clock)()).err()?;
        let (kind, mend) = match &error {
            LeafError::AuthorityExpired { .. } => (
                FailureKind::CertificateExpired,
                "; give oriel another one (oriel ca rotate, or --ca-cert and --ca-key)",
            ),
            LeafError::NotPermitted { .. } | LeafError::Sign(_) => {
                (FailureKind::CertificateInvalid, "")
            }
        };
        let text = format!("oriel has no certificate to show for {host}: {error}{mend}");
        Some(error::failure(Side::Oriel, Stage::Tls, kind, text))
    }

    fn for_names(&self, alpn: ClientAlpn) -> &Arc<ServerConfig> {
        match alpn {
            ClientAlpn::Http11 => &self.http11,
            ClientAlpn::Http2 => &self.http2,
            ClientAlpn::Both => &self.both,
            ClientAlpn::None => &self.none,
        }
    }

    fn for_address(&self, address: IpAddr, alpn: ClientAlpn) -> Arc<ServerConfig> {
        let mut by_address = self.by_address.lock();
        if let Some(config) = by_address.get(&(address, alpn)) {
            return Arc::clone(config);
        }
        if by_address.len() >= ADDRESSES_MAX {
            by_address.clear();
        }
        let mut config = ServerConfig::clone(self.for_names(alpn));
        config.cert_resolver = Arc::new(Resolver {
            leaves: Arc::clone(&self.leaves),
            clock: self.clock,
            address: Some(address),
        });
        let config = Arc::new(config);
        by_address.insert((address, alpn), Arc::clone(&config));
        config
    }
}

impl ClientAlpn {
    pub(super) fn protocols(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Http11 => &[b"http/1.1"],
            Self::Http2 => &[b"h2"],
            Self::Both => &[b"h2", b"http/1.1"],
            Self::None => &[],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

pub(super) fn base_config(
    resolver: Arc<dyn ResolvesServerCert>,
    min: MinTlsVersion,
) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(super::provider())
        .with_protocol_versions(min.versions())
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.ignore_client_order = true;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    match rustls::crypto::aws_lc_rs::Ticketer::new() {
        Ok(ticketer) => config.ticketer = ticketer,
        Err(error) => tracing::warn!(%error, "no session tickets: sessions are kept in memory"),
    }
    // A client that resumes uses one ticket and gets one.
    config.send_tls13_tickets = 1;
    config
}

/// Finds the leaf for a ClientHello.
#[derive(Debug)]
struct Resolver {
    leaves: Arc<LeafCache>,
    clock: Clock,
    /// For a client that sends no SNI.
    address: Option<IpAddr>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = match hello.server_name() {
            Some(name) => Host::parse(name).ok()?,
            None => Host::Ip(self.address?),
        };
        let now = (self.clock)();
        self.leaves
            .leaf(&host, now)
            .inspect_err(|error| tracing::error!(%host, %error, "no certificate for a client"))
            .ok()
    }
}

/// Ends TLS before it has begun, with the alert `unrecognized_name` (RFC 6066 section 3): the
/// ClientHello was read and rustls has not seen it. Waits for at most `limit`.
pub(crate) async fn refuse_name(wire: &mut Replay, limit: Duration) {
    /// A record of the type alert and the version that all readers take (RFC 8446 section 5.1),
    /// with two octets in it: fatal, 112.
    const RECORD: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

    let told = async {
        wire.write_all(&RECORD).await?;
        wire.shutdown().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(limit, told).await {
        tracing::debug!(%error, "a client was gone before it was told of its wrong name");
    }
}

/// Says why the handshake with a client failed. It is for errors after a whole ClientHello was
/// read: a client that goes away then has seen our certificate and does not say what is wrong. It
/// may distrust it; only one that says so is taken to.
#[must_use]
pub fn client_failure(error: &io::Error, hello: &ReadHello) -> (FailureKind, String) {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (tls, error.kind()) {
        (Some(rustls::Error::AlertReceived(alert)), _) => alert_from_client(*alert),
        // What an old client lacks may be missed before its version is.
        (Some(rustls::Error::PeerIncompatible(reason)), _)
            if is_about_version(reason) || hello.newest_version() < TLS12 =>
        {
            (
                FailureKind::TlsVersion,
                "the client speaks no version of TLS that is allowed (tls.min_version)".to_owned(),
            )
        }
        (Some(tls), _) => (
            FailureKind::TlsProtocol,
            format!("the TLS handshake with the client failed: {tls}"),
        ),
        (None, io::ErrorKind::UnexpectedEof) => (
            FailureKind::ClosedEarly,
            "the client closed the connection when it saw oriel's certificate, without a reason"
                .to_owned(),
        ),
        (
            None,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe,
        ) => (
            FailureKind::Reset,
            "the client reset the connection when it saw oriel's certificate, without a reason"
                .to_owned(),
        ),
        (None, io::ErrorKind::TimedOut) => (
            FailureKind::TimedOut,
            "the client did not finish the TLS handshake in time".to_owned(),
        ),
        (None, _) => (
            FailureKind::Io,
            format!("the TLS handshake with the client failed: {error}"),
        ),
    }
}

fn alert_from_client(alert: AlertDescription) -> (FailureKind, String) {
    let name = alert_name(alert);
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied
        | AlertDescription::BadCertificateStatusResponse
        // An older authority of the same name but with another key is trusted instead.
        | AlertDescription::DecryptError
        | AlertDescription::UserCanceled
        | AlertDescription::CloseNotify => (
            FailureKind::ClientDistrusts,
            format!("the client does not trust oriel's certificate (alert {name})"),
        ),
        AlertDescription::ProtocolVersion => (
            FailureKind::TlsVersion,
            format!("the client speaks no version of TLS that is allowed (alert {name})"),
        ),
        _ => (
            FailureKind::TlsProtocol,
            format!("the client ended the TLS handshake (alert {name})"),
        ),
    }
}

#[cfg(test)]
mod tests;
