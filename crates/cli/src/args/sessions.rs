//! `oriel sessions` and `oriel stats`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use store::StatsKey;

use super::db::HowToRemove;
use super::flows::ListForm;
use super::proxy::DataFlags;
use crate::quantity::Period;

pub(super) const SESSIONS_EXAMPLES: &str = "Examples:
  oriel sessions
  oriel sessions show @last
  oriel sessions rename 5cbd fix-ci-hang
  oriel flows 'session:fix-ci-hang'";

pub(super) const STATS_EXAMPLES: &str = "Examples:
  oriel stats
  oriel stats --by agent --since 7d
  oriel stats --by user 'type:llm'
  oriel stats 'type:llm' --by session --json";

#[derive(Clone, Debug, Args)]
pub(crate) struct Sessions {
    #[command(subcommand)]
    pub(crate) command: Option<SessionsCommand>,
    #[command(flatten)]
    pub(crate) list: SessionsList,
}

impl Sessions {
    /// Where the sessions are that are meant.
    pub(crate) fn data(&self) -> &DataFlags {
        match &self.command {
            None => &self.list.data,
            Some(SessionsCommand::List(list)) => &list.data,
            Some(SessionsCommand::Show(show) | SessionsCommand::Watch(show)) => &show.data,
            Some(SessionsCommand::Diff(diff)) => &diff.data,
            Some(SessionsCommand::Rename(rename)) => &rename.data,
            Some(SessionsCommand::Merge(merge)) => &merge.data,
            Some(SessionsCommand::Rm(rm)) => &rm.data,
        }
    }
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List the sessions of agents, those first that were seen last
    List(SessionsList),
    /// Show one session: its agents, its hosts, what it sums up to
    #[command(after_help = "Example:\n  oriel sessions show @last")]
    Show(SessionsShow),
    /// Compare two sessions: what each sums up to, and the hosts that each asked
    #[command(after_help = "Example:\n  oriel sessions diff 5cbd 8a01")]
    Diff(SessionsDiff),
    /// Show the flows of a session as they come
    #[command(after_help = "Example:\n  oriel sessions watch @last")]
    Watch(SessionsShow),
    /// Name a session; an empty name takes the name away
    #[command(after_help = "Example:\n  oriel sessions rename @last fix-ci-hang")]
    Rename(SessionsRename),
    /// Make one session of two: what is of the second, and will come of it, belongs to the first
    #[command(after_help = "Example:\n  oriel sessions merge 5cbd 8a01")]
    Merge(SessionsMerge),
    /// Remove sessions with their flows, bodies and messages; marked flows stay
    #[command(after_help = "Example:\n  oriel sessions rm 5cbd --dry-run")]
    Rm(SessionsRm),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SessionsList {
    /// How many
    #[arg(
        short = 'n',
        long = "limit",
        value_name = "COUNT",
        default_value_t = 50
    )]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) form: ListForm,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SessionsShow {
    /// The session: its id, the start of it, its name, or @last
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SessionsDiff {
    /// A session: its id, the start of it, its name, or @last
    pub(crate) id: String,
    /// Another
    pub(crate) other: String,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SessionsRename {
    /// The session: its id, the start of it, its name, or @last
    pub(crate) id: String,
    /// The name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SessionsMerge {
    /// The session that stays
    pub(crate) id: String,
    /// The session that becomes part of it
    pub(crate) other: String,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SessionsRm {
    /// The sessions
    #[arg(required = true)]
    pub(crate) ids: Vec<String>,
    /// Also flows that are marked, and those that the archive does not have yet
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) how: HowToRemove,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Stats {
    /// Only flows that match
    pub(crate) filter: Vec<String>,
    /// As comma-separated values: a line of names, then one for each group
    #[arg(long, conflicts_with_all = ["json", "jsonl", "fields"])]
    pub(crate) csv: bool,
    /// With values as they are: those that a spreadsheet takes for formulas have an apostrophe in front
    /// otherwise
    #[arg(long, requires = "csv")]
    pub(crate) csv_raw: bool,
    /// By what they are grouped; days and hours are those of UTC, and a flow with several tags is in
    /// several groups
    #[arg(long, value_name = "KEY", default_value = "host", value_parser = stats_key())]
    pub(crate) by: StatsKey,
    /// Only flows of this last time, for example 7d
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Period>,
    #[command(flatten)]
    pub(crate) form: ListForm,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

fn stats_key() -> impl TypedValueParser<Value = StatsKey> {
    PossibleValuesParser::new(StatsKey::ALL.map(StatsKey::as_str))
        .try_map(|name| StatsKey::named(&name).ok_or("no such key"))
}
