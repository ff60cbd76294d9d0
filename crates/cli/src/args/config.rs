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
    Path,
    /// Print what is set
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
    Check {
        /// The file; by default all that are in force
        file: Option<PathBuf>,
    },
    /// Print the JSON Schema of the config file
    Schema,
    /// Write a commented config file, unless there is one
    Init,
}
