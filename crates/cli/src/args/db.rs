//! `oriel db`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use store::Location;

use super::flows::FlowsExport;
use super::proxy::DataFlags;
use crate::config::values::TagPeriod;
use crate::quantity::{Period, Size};

const PRUNE_EXAMPLES: &str = "Examples:
  oriel db prune --older-than 30d --dry-run
  oriel db prune --bodies-older-than 7d --yes
  oriel db prune --max-size 5GiB
  oriel db prune --larger-than 1MiB --keep 'tag:gold OR host:api.example.com'
  oriel db prune --tag scratch=7d
  oriel db prune --archive --older-than 90d --bodies-older-than 14d";

#[derive(Clone, Debug, Args)]
pub(crate) struct Db {
    #[command(subcommand)]
    pub(crate) command: DbCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Say where flows are kept, how many, and what waits for the archive
    Status(DataFlags),
    /// Bring the schema of the file, and of the archive, to what this program knows
    #[command(after_help = "Example:\n  oriel db migrate --dry-run")]
    Migrate(DbMigrate),
    /// Print the SQL that makes the tables of an archive, for who does not let oriel do it
    #[command(
        after_help = "Examples:\n  oriel db schema clickhouse --cluster fleet | clickhouse-client --database oriel --multiquery\n  oriel db schema postgres --read-only-role | psql postgres://owner@db.corp/oriel"
    )]
    Schema(DbSchema),
    /// Check that the file is whole; reads all of it
    Check(DataFlags),
    /// Copy the file as it is now to a new one, while others write to it
    #[command(after_help = "Example:\n  oriel db backup -o oriel-monday.db")]
    Backup(DbBackup),
    /// Copy all flows to another database; doing it again copies what is new
    #[command(
        after_help = "Examples:\n  oriel db copy --to postgres://me@db.corp/oriel\n  oriel db copy --from postgres://me@db.corp/oriel --to sqlite:/tmp/oriel.db"
    )]
    Copy(DbCopy),
    /// Keep nothing any longer for an archive that the file was copied to once
    #[command(after_help = "Example:\n  oriel db forget postgres://me@old.corp/oriel")]
    Forget(DbForget),
    /// Remove old flows, or their bodies alone; flows that are marked stay, unless their tags say how long
    #[command(after_help = PRUNE_EXAMPLES)]
    Prune(DbPrune),
    /// Write flows to a file, as `oriel flows export` does
    Export(FlowsExport),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DbMigrate {
    /// Say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DbSchema {
    /// The kind of database
    #[arg(value_enum, value_name = "KIND")]
    pub(crate) kind: ServerKind,
    /// For all servers of this cluster of ClickHouse: tables that are replicated, and span its shards
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// Instead of the tables, a role that may read them and change nothing
    #[arg(long)]
    pub(crate) read_only_role: bool,
}

/// A database server that can be an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServerKind {
    Postgres,
    #[value(name = "clickhouse")]
    ClickHouse,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DbBackup {
    /// The new file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DbCopy {
    /// Where to: a URL such as postgres://user:password@host/database, or a file
    #[arg(long, value_name = "URL")]
    pub(crate) to: Location,
    /// Where from; the file of this machine if left out
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    pub(crate) from: Option<Location>,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DbForget {
    /// The archive, as `oriel db status` has it; what it has stays there
    #[arg(value_name = "URL")]
    pub(crate) archive: Location,
    #[command(flatten)]
    pub(crate) data: DataFlags,
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
    #[arg(long, value_name = "SIZE", conflicts_with = "archive")]
    pub(crate) max_size: Option<Size>,
    /// Bodies and messages of more bytes than that, whatever their age; their flows stay
    #[arg(long, value_name = "SIZE", conflicts_with = "archive")]
    pub(crate) larger_than: Option<Size>,
    /// Flows with this tag that began longer ago, for example scratch=7d (repeatable, or with commas);
    /// otherwise what `retention.tags` says
    #[arg(long = "tag", value_name = "TAG=PERIOD", value_delimiter = ',')]
    pub(crate) tags: Vec<TagPeriod>,
    /// Leave flows that match as they are; marked ones stay without that, unless `--tag` says otherwise
    #[arg(long, value_name = "FILTER")]
    pub(crate) keep: Option<String>,
    /// From the archive, of all who write there; without it from the file of this machine, which
    /// `[retention]` is about
    #[arg(long, conflicts_with = "data")]
    pub(crate) archive: bool,
    #[command(flatten)]
    pub(crate) how: HowToRemove,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

/// How flows are removed.
#[derive(Clone, Debug, Args)]
pub(crate) struct HowToRemove {
    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}
