//! `oriel db` and its commands.

use clap::{Args, Subcommand};

use super::proxy::DataFlags;
use crate::quantity::{Period, Size};

pub(super) const EXAMPLES: &str = "Examples:
  oriel db prune --older-than 30d --dry-run
  oriel db prune --bodies-older-than 7d --yes
  oriel db prune --max-size 5GiB";

#[derive(Clone, Debug, Args)]
pub(crate) struct Db {
    #[command(subcommand)]
    pub(crate) command: DbCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Remove old flows, or their bodies alone; flows that are marked stay
    #[command(after_help = EXAMPLES)]
    Prune(DbPrune),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DbPrune {
    /// Flows that began longer ago; otherwise what `retention.keep` says
    #[arg(long, value_name = "PERIOD")]
    pub(crate) older_than: Option<Period>,
    /// Bodies of flows that began longer ago; otherwise what `retention.keep_bodies` says
    #[arg(long, value_name = "PERIOD")]
    pub(crate) bodies_older_than: Option<Period>,
    /// The oldest bodies, then flows, until the rest takes no more; otherwise `retention.max_size`
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_size: Option<Size>,
    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}
