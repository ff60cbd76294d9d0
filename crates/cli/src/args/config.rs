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
