//! Flags that several commands have: about traffic, about what is kept, and where.

use std::path::PathBuf;

use clap::Args;

use super::given::Given;
use crate::config::layer::Layer;
use crate::config::values::{AdminListen, Listen, ProxyChoice, Redact, Unlisted, UpstreamUrl};
use crate::quantity::Size;

/// What decides about traffic and about what is kept, wherever a proxy runs.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ProxyFlags {
    /// Listen for /healthz and /status on this loopback address, or `off`
    #[arg(long, value_name = "ADDR|off")]
    pub(crate) admin: Option<AdminListen>,
    /// Trust the certificates in this file besides the system's (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) upstream_ca: Vec<PathBuf>,
    /// Reach upstreams through this proxy: `http://`, `https://` or `socks5://`, or `off`
    #[arg(long, value_name = "URL|off")]
    pub(crate) upstream_proxy: Option<ProxyChoice>,
    /// Trust the certificates in this file for what comes through that proxy
    #[arg(long, value_name = "FILE")]
    pub(crate) upstream_proxy_ca: Option<PathBuf>,
    /// Open connections to this host: `name`, `*.suffix`, `name:port` (repeatable, or with commas)
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub(crate) intercept: Vec<String>,
    /// Never look into traffic with this host, plain HTTP included (repeatable, or with commas)
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub(crate) bypass: Vec<String>,
    /// What happens to hosts on no list
    #[arg(long, value_name = "WHAT")]
    pub(crate) unlisted: Option<Unlisted>,
    /// Store nothing
    #[arg(long)]
    pub(crate) no_capture: bool,
    /// Which credentials are masked before anything is stored
    #[arg(long, value_name = "LEVEL")]
    pub(crate) redact: Option<Redact>,
    /// Bytes kept of each body; the wire is never cut
    #[arg(long, value_name = "SIZE", conflicts_with = "no_bodies")]
    pub(crate) max_body: Option<Size>,
    /// Keep no bodies
    #[arg(long)]
    pub(crate) no_bodies: bool,
    /// Do not verify the certificate of this host (repeatable, or with commas)
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub(crate) danger_accept_invalid_upstream: Vec<String>,
    #[command(flatten)]
    pub(crate) authority: AuthorityFlags,
}

/// A place in front of a gateway, so that what its clients ask it is seen, and not only what it sends
/// out through the proxy.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PairFlags {
    /// Stand in front of this gateway too, for example LiteLLM at http://127.0.0.1:4000
    #[arg(long, value_name = "URL")]
    pub(crate) pair: Option<UpstreamUrl>,
    /// Where clients of that gateway come to
    #[arg(long, value_name = "ADDR", requires = "pair")]
    pub(crate) pair_listen: Option<Listen>,
}

/// Which certificate authority is meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AuthorityFlags {
    /// Certificate of the authority that clients see, with those it was issued by (PEM, DER)
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// Private key of that authority, readable by its owner only (PEM, DER)
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    pub(crate) ca_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

/// Where the data is.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct DataFlags {
    /// Folder of the database and of the certificate authority
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

impl DataFlags {
    /// The settings among the flags.
    pub(crate) fn layer(&self) -> Layer {
        let mut given = Given::default();
        given.add_data(self);
        given.into_layer()
    }
}

impl AuthorityFlags {
    /// The settings among the flags.
    pub(crate) fn layer(&self) -> Layer {
        let mut given = Given::default();
        given.add_authority(self);
        given.into_layer()
    }
}
