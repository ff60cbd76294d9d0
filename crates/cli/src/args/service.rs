//! `oriel start`, `stop`, `status` and `logs`: the service in the background.

use clap::{Args, ValueEnum};

use super::serve::Serve;
use crate::quantity::Period;

pub(super) const START_EXAMPLES: &str = "Examples:
  oriel start
  oriel start --listen 127.0.0.1:8080 --intercept '*'
  oriel start --pair http://127.0.0.1:4000      what clients ask a gateway, and what it asks";

#[derive(Clone, Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    pub(crate) serve: Serve,
    /// Also write a user unit of systemd (macOS: an agent of launchd) that serves with these flags
    #[arg(long)]
    pub(crate) enable: bool,
    /// Be the service that another `oriel start` waits for.
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Stop {
    /// How long open connections may go on; by default as long as timeouts.drain says
    #[arg(long, value_name = "TIME", conflicts_with = "now")]
    pub(crate) drain: Option<Period>,
    /// Cut what is open
    #[arg(long)]
    pub(crate) now: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Restart {
    /// How long open connections may go on in the process that is replaced
    #[arg(long, value_name = "TIME")]
    pub(crate) drain: Option<Period>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Logs {
    /// Go on as they come
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many lines to begin with
    #[arg(
        short = 'n',
        long = "limit",
        value_name = "COUNT",
        default_value_t = 100
    )]
    pub(crate) limit: usize,
    /// Only lines of this last time, for example 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Period>,
    /// Only lines of this level and above it
    #[arg(long, value_name = "LEVEL")]
    pub(crate) level: Option<LogLevel>,
}

/// How much a line of the log matters, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}
