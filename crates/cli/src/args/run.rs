//! `oriel run`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::given::Given;
use super::proxy::{PairFlags, ProxyFlags};
use crate::assertion::FailOn;
use crate::config::layer::Layer;
use crate::config::values::Listen;
use crate::quantity::Period;
use crate::settings::ANY_PORT;

pub(super) const EXAMPLES: &str = "Examples:
  oriel run -- claude -p \"hi\"
  oriel run -- curl -s https://example.com
  oriel run --capture llm --name nightly -- python agent.py
  oriel run --fail-on 'blocked>0' --fail-on 'errors>0' -- npm test
  oriel run --env-mode base-url --pair http://127.0.0.1:4000 -- python agent.py";

#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// A name for this run
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Which hosts are opened; all others pass as counted tunnels
    #[arg(long, value_name = "WHICH")]
    pub(crate) capture: Option<CaptureWhich>,
    /// Also capture servers on this machine: takes them out of the child's NO_PROXY
    #[arg(long)]
    pub(crate) include_loopback: bool,
    #[command(flatten)]
    pub(crate) proxy: ProxyFlags,
    #[command(flatten)]
    pub(crate) pair: PairFlags,
    /// Listen here; by default the system chooses a port
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<Listen>,
    /// What is said at the end
    #[arg(long, value_name = "FORM", default_value = "auto")]
    pub(crate) summary: SummaryForm,
    /// Write the summary as JSON into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) summary_file: Option<PathBuf>,
    /// End with 99 if this holds of the run and the command succeeded, for example errors>0; may be repeated
    #[arg(long, value_name = "CONDITION", conflicts_with_all = ["no_capture", "print_env"])]
    pub(crate) fail_on: Vec<FailOn>,
    /// How the child is pointed at oriel
    #[arg(long, value_name = "HOW", default_value = "proxy")]
    pub(crate) env_mode: EnvMode,
    /// Do not set the variables that make the child trust oriel's certificates
    #[arg(long)]
    pub(crate) no_ca_env: bool,
    /// Make a certificate authority for this run alone, valid 30 days; its key is removed at the end
    #[arg(long, conflicts_with_all = ["ca_cert", "ca_key", "print_env"])]
    pub(crate) session_ca: bool,
    /// Print the variables and exit
    #[arg(long)]
    pub(crate) print_env: bool,
    /// Run the child in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// End the child with SIGTERM after this time
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<Period>,
    /// Stop the child if capturing breaks; by default it goes on
    #[arg(long, conflicts_with = "no_capture")]
    pub(crate) strict: bool,
    /// The command and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = false,
        required_unless_present = "print_env",
        value_name = "COMMAND"
    )]
    pub(crate) command: Vec<std::ffi::OsString>,
}

/// Which hosts `oriel run` opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CaptureWhich {
    /// Hosts of large model APIs
    Llm,
    /// Those and the hosts of agents' vendors
    Known,
    /// Every host (default)
    All,
}

/// What `oriel run` says at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SummaryForm {
    /// compact on a terminal, line otherwise, none with -q
    Auto,
    Compact,
    /// compact, with every host and every failure
    Full,
    Line,
    None,
}

/// How the child is pointed at oriel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EnvMode {
    /// By the proxy variables
    Proxy,
    /// By the base URLs of model APIs: to what --pair, or a service in the background, stands in
    /// front of
    BaseUrl,
    /// By both
    Both,
    /// Not at all
    None,
}

impl EnvMode {
    /// Whether the variables of proxies are set, and those of trust with them.
    pub(crate) fn sets_proxy(self) -> bool {
        matches!(self, Self::Proxy | Self::Both)
    }

    /// Whether the base URLs of model APIs are set.
    pub(crate) fn sets_base_urls(self) -> bool {
        matches!(self, Self::BaseUrl | Self::Both)
    }
}

impl Run {
    /// The settings among the flags.
    pub(crate) fn layer(&self) -> Layer {
        let mut given = Given::default();
        given.add_proxy(&self.proxy);
        given.add_listen(self.listen);
        given.add_pair(&self.pair, ANY_PORT);
        if let Some(which) = self.capture {
            // `--capture llm --intercept example.com` opens both.
            let mut hosts = which.hosts();
            hosts.extend(self.proxy.intercept.iter().cloned());
            given.set("intercept.hosts", "--capture", Some(hosts), |file| {
                &mut file.intercept.hosts
            });
        }
        given.into_layer()
    }
}

impl CaptureWhich {
    /// The hosts as patterns.
    pub(crate) fn hosts(self) -> Vec<String> {
        use traffic::rules::known::{AGENT_HOSTS, LLM_HOSTS};
        let all: Vec<&str> = match self {
            Self::Llm => LLM_HOSTS.to_vec(),
            Self::Known => [LLM_HOSTS, AGENT_HOSTS].concat(),
            Self::All => vec!["*"],
        };
        all.into_iter().map(str::to_owned).collect()
    }
}
