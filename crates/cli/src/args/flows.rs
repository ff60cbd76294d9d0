//! `oriel flows` and its commands.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::db::HowToRemove;
use super::proxy::DataFlags;
use crate::config::values::Redact;
use crate::quantity::Period;

pub(super) const EXAMPLES: &str = "Examples:
  oriel flows
  oriel flows 'host:api.openai.com status:>=400' -n 20
  oriel flows show @last.1 --body
  oriel flows tail -f";

#[derive(Clone, Debug, Args)]
pub(crate) struct Flows {
    #[command(subcommand)]
    pub(crate) command: Option<FlowsCommand>,
    #[command(flatten)]
    pub(crate) list: FlowsList,
}

impl Flows {
    /// Where the flows are that are meant.
    pub(crate) fn data(&self) -> &DataFlags {
        match &self.command {
            None => &self.list.data,
            Some(FlowsCommand::List(list)) => &list.data,
            Some(FlowsCommand::Show(show)) => &show.data,
            Some(FlowsCommand::Search(search)) => &search.data,
            Some(FlowsCommand::Tail(tail)) => &tail.data,
            Some(FlowsCommand::Mark(mark)) => &mark.data,
            Some(FlowsCommand::Note(note)) => &note.data,
            Some(FlowsCommand::Rm(rm)) => &rm.data,
            Some(FlowsCommand::Export(export)) => &export.data,
        }
    }
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum FlowsCommand {
    /// List flows, the newest first
    #[command(after_help = EXAMPLES)]
    List(FlowsList),
    /// Show one flow
    #[command(
        after_help = "Examples:\n  oriel flows show @last.1\n  oriel flows show k7q2.31 --part response --body\n  oriel flows show k7q2.31 --as python > again.py"
    )]
    Show(FlowsShow),
    /// Find flows by what stands in their bodies, messages and URLs
    #[command(
        after_help = "Examples:\n  oriel flows search \"flow control deadlock\"\n  oriel flows search 'dead*' host:api.openai.com --in response"
    )]
    Search(FlowsSearch),
    /// Show flows as they come
    #[command(
        after_help = "Examples:\n  oriel flows tail -f 'status:>=400'\n  oriel flows tail -f -o template='{id} {status} {host} {took}'"
    )]
    Tail(FlowsTail),
    /// Mark flows with tags, to find them again with `tag:`
    #[command(
        after_help = "Examples:\n  oriel flows mark @last.3 --tag slow\n  oriel flows mark @last.3 --untag slow\n  oriel flows tag:slow"
    )]
    Mark(FlowsMark),
    /// Note something about a flow, to find it again with `note:`
    #[command(
        after_help = "Examples:\n  oriel flows note @last.3 \"hangs after the second tool call\"\n  oriel flows note:hangs"
    )]
    Note(FlowsNote),
    /// Remove flows with their bodies and messages; marked ones only if they are named one by one
    #[command(
        after_help = "Examples:\n  oriel flows rm k7q2.31 k7q2.32\n  oriel flows rm @last\n  oriel flows rm 'host:telemetry.example.com' --dry-run"
    )]
    Rm(FlowsRm),
    /// Write flows into a file for other tools
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(FlowsExport),
}

pub(super) const EXPORT_EXAMPLES: &str = "Examples:
  oriel export -o flows.har
  oriel export 'host:api.openai.com since:1h' -o flows.mitm
  oriel export @last --format jsonl | gzip > flows.jsonl.gz
  oriel export k7q2.31 --format curl";

#[derive(Clone, Debug, Args)]
pub(crate) struct FlowsRm {
    /// Ids of flows, a run, or a filter
    #[arg(value_name = "ID|RUN|FILTER", required_unless_present = "since")]
    pub(crate) what: Vec<String>,
    /// Only flows of this last time, for example 1h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Period>,
    /// Also those that are marked, and those that the archive does not have yet
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) how: HowToRemove,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FlowsExport {
    /// Ids of flows, a run, or a filter; all flows if left out
    #[arg(value_name = "ID|RUN|FILTER")]
    pub(crate) what: Vec<String>,
    /// What to write; else the name of the file says it, and JSON lines if it does not
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<ExportForm>,
    /// The file; stdout if left out, or `-`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Values of csv as they are: those that a spreadsheet takes for formulas have an apostrophe in front
    /// otherwise
    #[arg(long)]
    pub(crate) csv_raw: bool,
    /// Only flows of this last time, for example 1h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Period>,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportForm {
    /// One JSON object per flow with everything that is known of it
    Jsonl,
    /// HTTP Archive 1.2, for browsers and many tools
    Har,
    /// The flow file of mitmproxy
    Mitmproxy,
    /// A curl command per flow
    Curl,
    /// A line per flow with the fields that `--fields help` lists
    Csv,
    /// Parquet, with heads and bodies; into a file, and only if oriel was built with it
    Parquet,
}

pub(super) const IMPORT_EXAMPLES: &str = "Examples:
  oriel import capture.har
  oriel import flows.mitm flows.jsonl";

#[derive(Clone, Debug, Args)]
pub(crate) struct ImportFiles {
    /// Files: HAR, JSON lines of `oriel export`, flow files of mitmproxy
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Which credentials are masked before anything is stored
    #[arg(long, value_name = "LEVEL")]
    pub(crate) redact: Option<Redact>,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FlowsList {
    /// Only flows that match, for example `host:api.openai.com status:>=400`
    pub(crate) filter: Vec<String>,
    /// How many
    #[arg(
        short = 'n',
        long = "limit",
        value_name = "COUNT",
        default_value_t = 50
    )]
    pub(crate) limit: usize,
    /// All of them
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    /// Only flows of this last time, for example 1h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Period>,
    /// Only flows of this run: an id, a name, @last, @-2
    #[arg(long, value_name = "RUN")]
    pub(crate) session: Option<String>,
    /// What they are ordered by, the latest, longest or largest first
    #[arg(long, value_name = "KEY", default_value = "time")]
    pub(crate) sort: Sort,
    /// The other way round
    #[arg(short, long)]
    pub(crate) reverse: bool,
    /// What to show of each, for example `id,host,status,took`; `help` lists all columns
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', conflicts_with_all = ["json", "jsonl", "fields"])]
    pub(crate) columns: Vec<String>,
    #[command(flatten)]
    pub(crate) form: ListForm,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

/// How a list is printed for programs.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListForm {
    /// One JSON object per line
    #[arg(long, conflicts_with = "json")]
    pub(crate) jsonl: bool,
    /// Only these fields of the JSON objects, for example `id,flows`; `help` lists them
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    pub(crate) fields: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FlowsSearch {
    /// Words, one after the other; letters match in either case, a star behind the last lets it go on
    pub(crate) text: String,
    /// Only flows that match, for example `host:api.openai.com`
    pub(crate) filter: Vec<String>,
    /// How many
    #[arg(
        short = 'n',
        long = "limit",
        value_name = "COUNT",
        default_value_t = 20
    )]
    pub(crate) limit: usize,
    /// Characters to show before and behind what was found
    #[arg(
        short = 'C',
        long = "context",
        value_name = "COUNT",
        default_value_t = 60
    )]
    pub(crate) context: usize,
    /// Only there (repeatable, or with commas)
    #[arg(long = "in", value_name = "PART", value_delimiter = ',')]
    pub(crate) parts: Vec<SearchIn>,
    /// Only flows of this last time, for example 1h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Period>,
    /// Only flows of this run: an id, a name, @last, @-2
    #[arg(long, value_name = "RUN")]
    pub(crate) session: Option<String>,
    #[command(flatten)]
    pub(crate) form: ListForm,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SearchIn {
    Url,
    /// Bodies of requests, and what clients of WebSockets sent
    Request,
    /// Bodies of responses, and what upstreams of WebSockets sent
    Response,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FlowsMark {
    /// The flows: `k7q2.31`, `@last.31` or a UUID
    #[arg(required = true)]
    pub(crate) ids: Vec<String>,
    /// A tag that they get (repeatable, or with commas); `marked` if none is named
    #[arg(long = "tag", value_name = "TAG", value_delimiter = ',')]
    pub(crate) tags: Vec<String>,
    /// A tag that they lose (repeatable, or with commas)
    #[arg(long = "untag", value_name = "TAG", value_delimiter = ',')]
    pub(crate) untags: Vec<String>,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FlowsNote {
    /// The flow: `k7q2.31`, `@last.31` or a UUID
    pub(crate) id: String,
    /// What to note, in the place of what was noted before
    #[arg(required_unless_present = "clear")]
    pub(crate) text: Vec<String>,
    /// Take the note away
    #[arg(long, conflicts_with = "text")]
    pub(crate) clear: bool,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    Time,
    Dur,
    Size,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FlowsShow {
    /// The flow: `k7q2.31`, `@last.31` or a UUID
    pub(crate) id: String,
    /// Only this part of it
    #[arg(long, value_enum)]
    pub(crate) part: Option<Part>,
    /// With its bodies; those that stream have a line for each message (`--part raw` shows them as they came)
    #[arg(long)]
    pub(crate) body: bool,
    /// With everything, bodies in their whole length
    #[arg(long)]
    pub(crate) full: bool,
    /// The stored bytes of the message as they came, neither decoded nor escaped
    #[arg(long)]
    pub(crate) raw: bool,
    /// Write raw bytes to a terminal too
    #[arg(long, requires = "raw")]
    pub(crate) force: bool,
    /// As something that sends it again, or that other tools read
    #[arg(long = "as", value_name = "FORM", conflicts_with_all = ["part", "raw"])]
    pub(crate) form: Option<ShowAs>,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Overview,
    Request,
    Response,
    /// What a WebSocket carried
    Messages,
    Timing,
    Tls,
    /// Heads and bodies as on the wire
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShowAs {
    /// A command for a shell
    Curl,
    /// A Python program that uses requests
    Python,
    /// A JavaScript module that uses fetch
    Js,
    /// A request for the HTTP clients of editors (.http)
    Http,
    /// The flow with its answer, as browsers keep it
    Har,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorBy {
    Session,
    Host,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FlowsTail {
    /// Only flows that match
    pub(crate) filter: Vec<String>,
    /// Go on as they come
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many to begin with
    #[arg(
        short = 'n',
        long = "limit",
        value_name = "COUNT",
        default_value_t = 10
    )]
    pub(crate) limit: usize,
    /// How a line is written: `short`, `wide`, or `template=TEXT`, in which the names of columns stand in
    /// braces
    #[arg(
        short,
        long,
        value_name = "FORM",
        default_value = "short",
        conflicts_with = "json"
    )]
    pub(crate) output: String,
    /// Tell flows apart by the colour of their id or request
    #[arg(long, value_name = "KEY", conflicts_with = "json")]
    pub(crate) color_by: Option<ColorBy>,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}
