//! `oriel config` and its commands.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Clone, Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print where files are
    #[command(after_help = "Example:\n  oriel config path --json")]
    Path,
    /// Print what is set
    #[command(after_help = "Example:\n  oriel config show --effective --origin")]
    Show {
        /// With what is not set and so has its default
        #[arg(long)]
        effective: bool,
        /// With where each value comes from
        #[arg(long)]
        origin: bool,
    },
    /// Print one value that is in force
    #[command(after_help = "Example:\n  oriel config get capture.redact --origin")]
    Get {
        /// The setting, for example capture.redact
        key: String,
        /// With where the value comes from
        #[arg(long)]
        origin: bool,
    },
    /// Change one value in the config file, and leave all else in it as it is
    #[command(
        after_help = "Examples:\n  oriel config set capture.redact=basic\n  oriel config set intercept.bypass+=chat.internal\n  oriel config set intercept.bypass-=chat.internal\n  oriel config set upstream_proxy.credentials - < FILE      a secret stays off the command line"
    )]
    Set {
        /// What is to be so; += adds to a list, -= takes out of it
        #[arg(value_name = "SETTING=VALUE")]
        change: String,
        /// The value, where the setting stands alone; - reads it from standard input
        #[arg(allow_hyphen_values = true)]
        value: Option<String>,
    },
    /// Take one value out of the config file, so that its default is in force
    #[command(after_help = "Example:\n  oriel config unset intercept.bypass")]
    Unset {
        /// The setting, for example intercept.bypass
        key: String,
    },
    /// Look for mistakes
    #[command(
        after_help = "Examples:\n  oriel config check\n  oriel config check ./new.toml && mv new.toml ~/.config/oriel/config.toml"
    )]
    Check {
        /// The file; by default all that are in force
        file: Option<PathBuf>,
    },
    /// Print the JSON Schema of the config file
    #[command(
        after_help = "Example:\n  oriel config schema > oriel.schema.json      for an editor that completes keys"
    )]
    Schema,
    /// Write a commented config file, unless there is one
    #[command(after_help = "Example:\n  oriel config init && $EDITOR ~/.config/oriel/config.toml")]
    Init,
}
