//! `oriel doctor`, and the tools that it and `oriel ca verify` try.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::given::Given;
use super::proxy::AuthorityFlags;
use crate::config::layer::Layer;
use crate::config::values::{AdminListen, Listen, ProxyChoice};
use crate::doctor::{Choice, NAMES};

#[derive(Clone, Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) tools: ToolFlags,
    /// Do what was printed, where that is safe: take oriel's own files from others. Asks first
    #[arg(long)]
    pub(crate) fix: bool,
    /// Do it without asking
    #[arg(long, requires = "fix")]
    pub(crate) yes: bool,
    /// Where the proxy is to listen, if not at its default
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<Listen>,
    /// Where the admin port is to be, or `off`
    #[arg(long, value_name = "ADDR|off")]
    pub(crate) admin: Option<AdminListen>,
    #[command(flatten)]
    pub(crate) authority: AuthorityFlags,
}

/// Which tools are tried.
#[derive(Clone, Debug, Args)]
pub(crate) struct ToolFlags {
    /// Try these tools: `auto` for all that are found, `none`, or names with commas
    #[arg(
        long,
        value_name = "TOOL",
        value_delimiter = ',',
        default_value = "auto",
        value_parser = PossibleValuesParser::new(NAMES)
    )]
    tools: Vec<String>,
}

impl ToolFlags {
    pub(crate) fn choice(&self) -> Choice {
        Choice::of(&self.tools)
    }
}

impl Doctor {
    /// The settings among the flags.
    pub(crate) fn layer(&self) -> Layer {
        let mut given = Given::default();
        given.add_authority(&self.authority);
        given.add_listen(self.listen);
        given.set("admin.listen", "--admin", self.admin, |file| {
            &mut file.admin.listen
        });
        given.into_layer()
    }
}

/// What the engine of a probe is made of, whatever is configured: this machine, opened; nothing of the
/// network. What is left is how oriel speaks TLS.
pub(crate) fn probe_layer() -> Layer {
    let mut given = Given::default();
    given.keep_to_this_machine("doctor");
    given.set("intercept.ip_targets", "doctor", Some(true), |file| {
        &mut file.intercept.ip_targets
    });
    given.set("upstream.ca_files", "doctor", Some(Vec::new()), |file| {
        &mut file.upstream.ca_files
    });
    let certificates = Some(Vec::new());
    given.set(
        "upstream.client_certificates",
        "doctor",
        certificates,
        |file| &mut file.upstream.client_certificates,
    );
    let direct = Some(ProxyChoice::Off);
    given.set("upstream_proxy.url", "doctor", direct, |file| {
        &mut file.upstream_proxy.url
    });
    given.set(
        "upstream_proxy.routes",
        "doctor",
        Some(Vec::new()),
        |file| &mut file.upstream_proxy.routes,
    );
    given.set("gateway.routes", "doctor", Some(Vec::new()), |file| {
        &mut file.gateway.routes
    });
    given.set("proxy.attribution", "doctor", Some(false), |file| {
        &mut file.proxy.attribution
    });
    given.set("capture.enabled", "doctor", Some(false), |file| {
        &mut file.capture.enabled
    });
    given.into_layer()
}
