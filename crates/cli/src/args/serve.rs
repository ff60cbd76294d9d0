//! `oriel serve`.

use clap::Args;

use super::given::Given;
use super::proxy::{PairFlags, ProxyFlags};
use crate::config::layer::Layer;
use crate::config::values::{Listen, LogFormat};
use crate::settings::PAIR_ADDRESS;

pub(super) const EXAMPLES: &str = "Examples:
  oriel serve
  oriel serve --listen 127.0.0.1:8080 --intercept 'api.openai.com' --unlisted block
  oriel serve --pair http://127.0.0.1:4000";

#[derive(Clone, Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<Listen>,
    /// Let everybody who reaches the address use the proxy
    #[arg(long)]
    pub(crate) danger_listen_without_credentials: bool,
    /// How log lines are written
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    #[command(flatten)]
    pub(crate) proxy: ProxyFlags,
    #[command(flatten)]
    pub(crate) pair: PairFlags,
    /// Take the place of the service that starts this process.
    #[arg(long, hide = true)]
    pub(crate) take_over: bool,
}

impl Serve {
    /// The settings among the flags.
    pub(crate) fn layer(&self) -> Layer {
        let mut given = Given::default();
        given.add_proxy(&self.proxy);
        given.add_listen(self.listen);
        given.add_pair(&self.pair, PAIR_ADDRESS);
        let danger = self.danger_listen_without_credentials.then_some(true);
        given.set(
            "proxy.danger_listen_without_credentials",
            "--danger-listen-without-credentials",
            danger,
            |file| &mut file.proxy.danger_listen_without_credentials,
        );
        given.set("log.format", "--log-format", self.log_format, |file| {
            &mut file.log.format
        });
        given.into_layer()
    }
}
