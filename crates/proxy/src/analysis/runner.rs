//! The builder: a few settings, a chain of analyzers, a proxy that runs.

use std::fmt;
use std::io;
use std::net::{AddrParseError, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use traffic::rules::gateway::GatewayRoutes;
use traffic::rules::pattern::{HostPattern, PatternError};
use traffic::rules::private::DialGuard;
use traffic::rules::route::{RouteConfig, RuleError, Rules, Unlisted};
use traffic::rules::upstream_proxy::ProxyRules;

use super::authority_files::load_or_make;
use super::pipeline::{AnalysisCounts, Chain, Pipeline};
use super::queue::Queue;
use super::{Analyzer, AuthHeaderRemover};
use crate::accept::{BindError, Drained, Proxy};
use crate::clock;
use crate::config::{
    AltSvc, ConnectPorts, Governor, Listener, MinTlsVersion, Pool, ProxyConfig, Rejections,
    SniMismatch, Timeouts, UpstreamTrust,
};
use crate::handler::HandlerLimits;
use crate::limits::ANALYSIS_BODY_BYTES_MAX;
use crate::shutdown::asked_to_end;
use crate::tls::authority::{Authority, AuthorityError};

/// A proxy with its analyzers, set up but not bound yet. See [the module](super).
pub struct MitmProxyRunner {
    settings: RunnerBuilder,
}

/// Sets up a [`MitmProxyRunner`].
pub struct RunnerBuilder {
    listen_addr: String,
    allowlist: Vec<String>,
    ca_cert_path: Option<PathBuf>,
    connect_ports: Option<ConnectPorts>,
    upstream_trust: UpstreamTrust,
    keep_credentials: bool,
    analyzers: Vec<Box<dyn Analyzer>>,
}

/// A runner that is bound to its address.
#[derive(Debug)]
pub struct BoundRunner {
    address: SocketAddr,
    proxy: Proxy,
    authority: Arc<Authority>,
    pipeline: Pipeline,
    counts: Arc<AnalysisCounts>,
}

/// Why a runner does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The listening address is none.
    #[error("listen_addr `{text}` is not an address with a port, such as 127.0.0.1:8080")]
    ListenAddr {
        /// What was given.
        text: String,
        /// Why.
        source: AddrParseError,
    },
    /// An entry of the allowlist is none.
    #[error("allowlist")]
    Allowlist(#[from] PatternError),
    /// The rules made of the allowlist cannot be compiled.
    #[error("allowlist")]
    Rules(#[from] RuleError),
    /// No path for the certificate was given.
    #[error("ca_cert_path is missing: the certificate that clients are to trust is written there")]
    NoCaCertPath,
    /// The key would have the same path as the certificate.
    #[error("ca_cert_path {path} must not end in .key: the key is written there")]
    CaCertPath {
        /// The path of the certificate.
        path: PathBuf,
    },
    /// There is a certificate, but not its key.
    #[error("the key {path} of the certificate is missing; delete the certificate to make both")]
    CaKeyMissing {
        /// The path of the key.
        path: PathBuf,
    },
    /// The certificate has expired.
    #[error("the certificate {path} has expired; delete it and its key to make both")]
    CaExpired {
        /// The path of the certificate.
        path: PathBuf,
    },
    /// The certificate or its key cannot be written.
    #[error("cannot write {path}")]
    CaWrite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The authority cannot be used.
    #[error("cannot use the certificate authority")]
    Authority(#[from] AuthorityError),
    /// The proxy cannot be bound.
    #[error("cannot start the proxy")]
    Bind(#[from] BindError),
    /// The thread of the analyzers cannot be started, or signals not be listened for.
    #[error("cannot start what runs beside the proxy")]
    Start(#[source] io::Error),
}

impl MitmProxyRunner {
    /// Begins with a proxy on `127.0.0.1:8080` that opens nothing and analyzes nothing.
    #[must_use]
    pub fn builder() -> RunnerBuilder {
        RunnerBuilder {
            listen_addr: "127.0.0.1:8080".to_owned(),
            allowlist: Vec::new(),
            ca_cert_path: None,
            connect_ports: None,
            upstream_trust: UpstreamTrust {
                system_roots: true,
                extra_roots: Vec::new(),
                danger_accept_invalid: Vec::new(),
            },
            keep_credentials: false,
            analyzers: Vec::new(),
        }
    }

    /// Serves until the process is asked to end (SIGINT, or SIGTERM on Unix), then lets flows and
    /// analyzers finish.
    ///
    /// Dropping it cuts every connection at once; the analyzers still get what is queued.
    ///
    /// # Errors
    /// If a setting is wrong or the proxy cannot be started; afterwards nothing fails.
    pub async fn run(self) -> Result<(), RunError> {
        let stop = asked_to_end().map_err(RunError::Start)?;
        self.bind().await?.run_until(stop).await;
        Ok(())
    }

    /// Loads or makes the certificate authority, binds the address and starts the thread of the
    /// analyzers.
    ///
    /// # Errors
    /// If a setting is wrong or the proxy cannot be started.
    pub async fn bind(self) -> Result<BoundRunner, RunError> {
        let settings = self.settings;
        let listen = settings.listen_addr.parse::<SocketAddr>();
        let listen = listen.map_err(|source| RunError::ListenAddr {
            text: settings.listen_addr.clone(),
            source,
        })?;
        let hosts = parse_hosts(&settings.allowlist)?;
        let rules = Rules::compile(&RouteConfig {
            intercept: hosts.iter().map(ToString::to_string).collect(),
            bypass: Vec::new(),
            unlisted: Unlisted::Tunnel,
            ip_targets: true,
        })?;
        let path = settings.ca_cert_path.ok_or(RunError::NoCaCertPath)?;
        let authority = Arc::new(load_or_make(&path, clock::now())?);
        let ports = || named_ports(&hosts);
        let config = ProxyConfig {
            listeners: vec![Listener::forward(listen)],
            rules: Arc::new(rules),
            authority: Arc::clone(&authority),
            gateways: GatewayRoutes::default(),
            dial_guard: DialGuard::default(),
            local_site: None,
            upstream_trust: settings.upstream_trust,
            upstream_proxies: ProxyRules::default(),
            min_tls_version: MinTlsVersion::default(),
            connect_ports: settings.connect_ports.unwrap_or_else(ports),
            own_addresses: Vec::new(),
            body_bytes_kept: ANALYSIS_BODY_BYTES_MAX as u64,
            timeouts: Timeouts::default(),
            dial_again: None,
            pool: Pool::default(),
            client_certificates: Vec::new(),
            sni_mismatch: SniMismatch::Allow,
            rejections: Rejections::default(),
            alt_svc: AltSvc::default(),
            // No message names the process.
            attribution: None,
            governor: Governor::default(),
            handler: HandlerLimits::default(),
        };
        let mut analyzers = settings.analyzers;
        if !settings.keep_credentials {
            analyzers.insert(0, Box::new(AuthHeaderRemover::new()));
        }
        let counts = Arc::new(AnalysisCounts::default());
        let queue = Arc::new(Queue::new(Arc::clone(&counts)));
        let proxy = Proxy::bind(config, Some(Arc::clone(&queue) as _)).await?;
        let chain = Chain::new(analyzers, Arc::clone(&counts));
        Ok(BoundRunner {
            // There is one listener, and it has an address.
            address: proxy.local_address().unwrap_or(listen),
            proxy,
            authority,
            pipeline: Pipeline::start(queue, chain).map_err(RunError::Start)?,
            counts,
        })
    }
}

impl RunnerBuilder {
    /// The address to listen on, for example `127.0.0.1:8080`. Port 0 lets the system choose. Off
    /// loopback everybody who reaches it can use the proxy: it asks for no credentials.
    #[must_use]
    pub fn listen_addr(mut self, address: impl Into<String>) -> Self {
        self.listen_addr = address.into();
        self
    }

    /// The hosts whose TLS is opened; all others pass unopened. An entry is a host
    /// (`api.openai.com`), all below one (`*.openai.com`), every host (`*`) or an address, each
    /// with or without a port (`localhost:8443`); see [`traffic::rules::pattern`]. Case does not
    /// matter, empty entries are left out.
    #[must_use]
    pub fn allowlist(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allowlist = hosts.into_iter().map(Into::into).collect();
        self
    }

    /// The file of the certificate that clients are to trust. If it is not there, an authority is
    /// made: the certificate here, and its key (mode 0600) beside it with the ending `key`. It is
    /// valid for a year.
    #[must_use]
    pub fn ca_cert_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_cert_path = Some(path.into());
        self
    }

    /// Ports that a CONNECT request may name: by default 443, 80 and those that the allowlist
    /// names.
    #[must_use]
    pub fn connect_ports(mut self, ports: ConnectPorts) -> Self {
        self.connect_ports = Some(ports);
        self
    }

    /// Which certificates of upstreams are believed: by default those that the system trusts.
    #[must_use]
    pub fn upstream_trust(mut self, trust: UpstreamTrust) -> Self {
        self.upstream_trust = trust;
        self
    }

    /// Adds a step to the end of the chain.
    #[must_use]
    pub fn add_analyzer(mut self, analyzer: impl Analyzer) -> Self {
        self.analyzers.push(Box::new(analyzer));
        self
    }

    /// Shows analyzers the credentials that passed, and so has them written to files.
    #[must_use]
    pub fn danger_keep_credentials(mut self) -> Self {
        self.keep_credentials = true;
        self
    }

    /// Ends the setting up. Nothing is checked, bound or written before the runner runs.
    #[must_use]
    pub fn build(self) -> MitmProxyRunner {
        MitmProxyRunner { settings: self }
    }
}

impl BoundRunner {
    /// The address it listens on.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The authority that clients are to trust.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What goes wrong beside the traffic, as it is counted.
    #[must_use]
    pub fn counts(&self) -> Arc<AnalysisCounts> {
        Arc::clone(&self.counts)
    }

    /// Serves until `stop` is done; see [`MitmProxyRunner::run`].
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send) -> Drained {
        let drained = self.proxy.serve(stop).await;
        if !self.pipeline.finish().await {
            tracing::warn!("the analyzers did not finish in time");
        }
        drained
    }
}

fn parse_hosts(entries: &[String]) -> Result<Vec<HostPattern>, PatternError> {
    let entries = entries.iter().filter(|entry| !entry.trim().is_empty());
    entries.map(|entry| HostPattern::parse(entry)).collect()
}

fn named_ports(hosts: &[HostPattern]) -> ConnectPorts {
    let mut ports = vec![443, 80];
    ports.extend(hosts.iter().filter_map(HostPattern::port));
    ConnectPorts::Only(ports)
}

impl fmt::Debug for MitmProxyRunner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(out)
    }
}

impl fmt::Debug for RunnerBuilder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analyzers: Vec<_> = self.analyzers.iter().map(|one| one.name()).collect();
        out.debug_struct("MitmProxyRunner")
            .field("listen_addr", &self.listen_addr)
            .field("allowlist", &self.allowlist)
            .field("ca_cert_path", &self.ca_cert_path)
            .field("keep_credentials", &self.keep_credentials)
            .field("analyzers", &analyzers)
            .finish_non_exhaustive()
    }
}
