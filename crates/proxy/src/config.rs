//! What an embedder decides, as plain structs. Nothing here is read from files or the
//! environment: the program around the engine does that.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::SupportedProtocolVersion;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use traffic::rules::gateway::GatewayRoutes;
use traffic::rules::pattern::HostPatterns;
use traffic::rules::private::DialGuard;
use traffic::rules::route::Rules;
use traffic::rules::upstream_proxy::ProxyRules;
use traffic::{ListenAddress, Scheme, Target, TargetError};

use crate::admission::Admission;
use crate::handler::HandlerLimits;
use crate::limits::{CONNECTIONS_PER_CLIENT_MAX, FLOWS_MAX};
use crate::local_site::LocalSite;
use crate::tls::authority::Authority;
use crate::tls::identity::Identity;
pub use crate::tls::listener_side::ListenerTls;
pub use upstream_proxy::{ProxyCredentials, ProxyScheme, ProxyUrl, ProxyUrlError, UpstreamProxy};

mod upstream_proxy;

/// Everything the engine needs to run. There is no `Default`: trust and exposure are decided by
/// whoever embeds it.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Where clients are accepted: at least one place.
    pub listeners: Vec<Listener>,
    /// What is intercepted, tunnelled and blocked.
    pub rules: Arc<Rules>,
    /// The certificate authority whose leaves clients see on intercepted connections.
    pub authority: Arc<Authority>,
    /// Which upstream certificates are believed.
    pub upstream_trust: UpstreamTrust,
    /// Which upstreams are reached through which proxy, and which directly.
    pub upstream_proxies: ProxyRules<Arc<UpstreamProxy>>,
    /// Which requests on opened connections, and plain ones, go to a gateway in the place of their
    /// upstream.
    pub gateways: GatewayRoutes,
    /// Which addresses clients of forward listeners may have dialled. What the configuration itself
    /// names is not asked about: upstreams of reverse listeners, gateways, proxies.
    pub dial_guard: DialGuard,
    /// A host whose requests are answered here and go nowhere, if there is to be one.
    pub local_site: Option<Arc<LocalSite>>,
    /// The oldest version of TLS that is spoken, with clients and with upstreams.
    pub min_tls_version: MinTlsVersion,
    /// Ports that a CONNECT request may name.
    pub connect_ports: ConnectPorts,
    /// Further addresses that are oriel's own (the admin port) and so never dialled; those of
    /// `listeners` are always among them.
    pub own_addresses: Vec<SocketAddr>,
    /// Bytes of each body that are reported to the watcher, from the start on. The wire is never
    /// cut by it.
    pub body_bytes_kept: u64,
    /// How long the engine waits for its peers.
    pub timeouts: Timeouts,
    /// The pause after which a connection that an upstream refused is tried once more; `None`
    /// reports the refusal at once. No request is sent twice by it.
    pub dial_again: Option<Duration>,
    /// How many upstream connections there may be, and what is kept of idle ones.
    pub pool: Pool,
    /// What is shown to upstreams that ask for a certificate of their client. The first entry whose
    /// hosts match counts; others are shown none.
    pub client_certificates: Vec<ClientCertificate>,
    /// What becomes of a client that names one host to us and another in TLS. Only connections
    /// that are opened are looked at.
    pub sni_mismatch: SniMismatch,
    /// What becomes of clients that will not take our certificate.
    pub rejections: Rejections,
    /// What becomes of offers to leave for HTTP/3.
    pub alt_svc: AltSvc,
    /// How long the local process behind each client connection is looked for, once and beside the
    /// traffic, where somebody watches; `None` looks for none. Only a question to a handler waits
    /// for it.
    pub attribution: Option<Duration>,
    /// How much may go on at once.
    pub governor: Governor,
    /// How long a handler may take, and what happens when it fails. Without a handler it says
    /// nothing.
    pub handler: HandlerLimits,
}

/// One place where clients are accepted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listener {
    /// A TCP port, where 0 lets the system choose (see `Proxy::addresses`), or the path of a
    /// Unix-domain socket. Its file belongs to us: mode 0600, removed at the end. One that nobody
    /// listens on is replaced, anything else that is there is an error.
    pub address: ListenAddress,
    /// Where what its clients ask for goes.
    pub mode: ListenerMode,
    /// TLS from the first byte on, if clients are to speak it.
    pub tls: Option<ListenerTls>,
    /// Every connection begins with a header of the PROXY protocol, version 1 or 2, which says
    /// where its client is; without one it is closed. Only for listeners that nobody but a load
    /// balancer reaches: who can connect can say to be anybody.
    pub proxy_protocol: bool,
    /// Who may use a forward listener; `None` serves everybody who reaches it.
    pub admission: Option<Admission>,
}

/// Where what the clients of a listener ask for goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerMode {
    /// A proxy: clients say whom they want, by HTTP or SOCKS 5.
    Forward,
    /// Clients take it for the upstream, which all their requests go to. The Host field becomes
    /// the upstream's; nothing else of a request is changed.
    Reverse(ReverseTo),
}

/// The upstream of a reverse listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReverseTo {
    /// Whether TLS is spoken with it.
    pub scheme: Scheme,
    /// Where it is.
    pub target: Target,
}

/// Why a text is no upstream of a reverse listener.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReverseToError {
    /// It begins with neither `http://` nor `https://`.
    #[error("an upstream begins with http:// or https://")]
    Scheme,
    /// It has a path, a query or user information.
    #[error(
        "an upstream is a scheme, a host and perhaps a port, for example https://api.openai.com"
    )]
    More,
    /// Its host or port is none.
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl Listener {
    /// A proxy: its clients say whom they want.
    #[must_use]
    pub fn forward(address: impl Into<ListenAddress>) -> Self {
        Self {
            address: address.into(),
            mode: ListenerMode::Forward,
            tls: None,
            proxy_protocol: false,
            admission: None,
        }
    }

    /// Stands in front of one upstream.
    #[must_use]
    pub fn reverse(address: impl Into<ListenAddress>, to: ReverseTo) -> Self {
        Self {
            mode: ListenerMode::Reverse(to),
            ..Self::forward(address)
        }
    }

    /// The same with TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: ListenerTls) -> Self {
        self.tls = Some(tls);
        self
    }
}

impl FromStr for ReverseTo {
    type Err = ReverseToError;

    fn from_str(text: &str) -> Result<Self, ReverseToError> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            _ => return Err(ReverseToError::Scheme),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(ReverseToError::More);
        }
        let target = Target::parse(authority, scheme.default_port())?;
        Ok(Self { scheme, target })
    }
}

impl fmt::Display for ReverseTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, authority) = (self.scheme.as_str(), self.target.authority(self.scheme));
        write!(f, "{scheme}://{authority}")
    }
}

/// Which upstream certificates are believed.
#[derive(Clone, Debug)]
pub struct UpstreamTrust {
    /// Whether the roots that the system trusts are trusted. They are loaded once, at start; the
    /// bundled Mozilla roots stand in where the system has none.
    pub system_roots: bool,
    /// Roots trusted besides.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Host patterns (see [`traffic::rules::pattern`]) whose certificates are not verified at all.
    /// Every flow that such a connection carried is marked.
    pub danger_accept_invalid: Vec<String>,
}

/// A certificate for upstreams that ask for one.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// To whom it is shown.
    pub hosts: HostPatterns,
    /// The certificate and its key.
    pub identity: Identity,
}

/// What becomes of a connection whose ClientHello names another host than its CONNECT request.
/// Where it goes and whether it may is decided on the latter; upstreams are asked for the former.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SniMismatch {
    /// It goes on, and its flows say so.
    Allow,
    /// It is ended with the alert `unrecognized_name` (RFC 6066 section 3).
    Deny,
}

/// What becomes of programs that refuse our certificate for a host, again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejections {
    /// After how many times it is said, and a bypass begins.
    pub times: NonZeroU32,
    /// For whom the host passes unopened then.
    pub auto_bypass: AutoBypass,
    /// For how long it does. After it the host is opened and refusals are counted anew.
    pub bypass_for: Duration,
}

/// For whom a host passes unopened whose certificate was refused. Whoever can start a program that
/// refuses certificates can bring this about, so it is off unless asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoBypass {
    /// For nobody.
    Off,
    /// For the program that refused; it must be known which it is.
    Process,
    /// For everybody.
    Host,
}

/// What becomes of offers of HTTP/3 in the Alt-Svc fields (RFC 7838) of responses that are seen: a
/// client that follows one goes over UDP, past the proxy.
///
/// It is configuration and nothing else: no field of a request changes it.
#[derive(Clone, Debug)]
pub struct AltSvc {
    /// Whether they are taken out. Other offers stay.
    pub strip: bool,
    /// Hosts whose offers stay all the same, so that their clients may use HTTP/3 unseen.
    pub http3_passthrough: HostPatterns,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MinTlsVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

impl MinTlsVersion {
    /// What is spoken, the newest first.
    pub(crate) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        use rustls::version::{TLS12, TLS13};
        static VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match self {
            Self::Tls12 => &VERSIONS,
            Self::Tls13 => VERSIONS.split_at(1).0,
        }
    }
}

/// Ports that a CONNECT request may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectPorts {
    /// Every port.
    Any,
    /// These ports; all others are answered with 403.
    Only(Vec<u16>),
}

/// How long the engine waits for its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For name resolution and the TCP connection to an upstream, all addresses together.
    pub connect: Duration,
    /// For one TLS handshake, on either side.
    pub tls: Duration,
    /// For the whole of a message head once its first byte has come, and for the first bytes
    /// after a CONNECT.
    pub head: Duration,
    /// How long a client connection may stay silent between two requests.
    pub idle_client: Duration,
    /// How long a body, a response or a tunnel may stand still.
    pub idle_body: Duration,
    /// How long flows may go on after a stop was asked for, before they are cut.
    pub drain: Duration,
}

/// How many upstream connections there may be, and what is kept of idle ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Connections to one target at once, tunnels not counted. Requests beyond wait for one, at
    /// most for `timeouts.connect`.
    pub connections_per_target_max: usize,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// Idle HTTP/1.1 connections per target.
    pub idle_per_target_max: usize,
}

impl AltSvc {
    /// Whether offers of HTTP/3 of this target are taken out.
    pub(crate) fn hides_http3(&self, target: &Target) -> bool {
        self.strip && self.http3_passthrough.matches(target).is_none()
    }
}

impl Default for Rejections {
    /// The strict way.
    fn default() -> Self {
        Self {
            // Once may be a race of connections, and twice a client that tries again.
            times: NonZeroU32::MIN.saturating_add(2),
            auto_bypass: AutoBypass::Off,
            bypass_for: Duration::from_secs(15 * 60),
        }
    }
}

impl Default for AltSvc {
    /// The strict way.
    fn default() -> Self {
        Self {
            strip: true,
            http3_passthrough: HostPatterns::default(),
        }
    }
}

/// How much may go on at once. What is beyond is answered with 503 and `Retry-After`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Governor {
    /// Flows under way: requests, WebSockets and tunnels.
    pub flows_max: usize,
    /// Connections of one client: of one address, or over Unix-domain sockets of one user.
    pub connections_per_client_max: usize,
}

impl Default for Governor {
    fn default() -> Self {
        Self {
            flows_max: FLOWS_MAX,
            connections_per_client_max: CONNECTIONS_PER_CLIENT_MAX,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            tls: Duration::from_secs(10),
            head: Duration::from_secs(15),
            idle_client: Duration::from_secs(90),
            // A model may think for minutes before the first byte of its answer.
            idle_body: Duration::from_secs(600),
            drain: Duration::from_secs(10),
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            // More than any agent has under way, and few enough to leave descriptors for others.
            connections_per_target_max: 1024,
            // Below the 60 s after which common upstreams close an idle connection.
            idle: Duration::from_secs(45),
            idle_per_target_max: 32,
        }
    }
}
