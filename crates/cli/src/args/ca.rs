//! `oriel ca` and its commands.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::proxy::DataFlags;

#[derive(Clone, Debug, Args)]
pub(crate) struct Ca {
    #[command(subcommand)]
    pub(crate) command: CaCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Show the certificate
    #[command(after_help = "Example:\n  oriel ca show")]
    Show {
        #[command(flatten)]
        data: DataFlags,
    },
    /// Write the certificate; never the key
    #[command(after_help = "Example:\n  oriel ca export --format bundle -o bundle.pem")]
    Export {
        #[arg(long, default_value = "pem")]
        format: ExportFormat,
        /// Write into this file
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// For a bundle: also the certificates of this file
        #[arg(long, value_name = "FILE")]
        with: Option<PathBuf>,
        #[command(flatten)]
        data: DataFlags,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    Pem,
    Der,
    /// The system's roots and this certificate, PEM
    Bundle,
}
