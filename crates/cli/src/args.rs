//! The command line as types. A flag that belongs to something not built yet is absent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::file::ConfigFile;
use crate::config::layer::{Layer, Origin};
use crate::config::values::{AdminListen, Listen, LogFormat, Redact, Unlisted};
use crate::quantity::{Period, Size};
use crate::terminal::When;

/// See, understand and govern what your AI agents send.
#[derive(Debug, Parser)]
#[command(
    name = "oriel",
    version,
    disable_help_subcommand = false,
    infer_subcommands = false,
    after_help = "Exit codes and variables are in the manual page: oriel man"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Global {
    /// Print one JSON document on stdout; errors as JSON on stderr
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// When to use colours (NO_COLOR and CLICOLOR_FORCE are honoured)
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Global options"
    )]
    pub(crate) color: When,
    /// Print neither glyphs nor box drawing
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) ascii: bool,
    /// Say nothing but errors
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        help_heading = "Global options"
    )]
    pub(crate) quiet: bool,
    /// Say what is done, on stderr; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub(crate) verbose: u8,
    /// Read this config file in place of the user's and the project's
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub(crate) config: Option<PathBuf>,
    /// Zone of the times that people read; JSON is always UTC
    #[arg(
        long,
        global = true,
        value_name = "ZONE",
        default_value = "local",
        help_heading = "Global options"
    )]
    pub(crate) timezone: Zone,
}

/// The zone of times for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Zone {
    #[default]
    Local,
    Utc,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command with its traffic captured
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<Run>),
    /// Run the proxy in the foreground
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<Serve>),
    /// Show it all offline: a small agent talks to a model that answers from this machine
    #[command(after_help = "Example:\n  oriel demo")]
    Demo(Demo),
    /// Print the variables that point this shell at `oriel serve`
    #[command(
        after_help = "Examples:\n  eval \"$(oriel env)\"\n  oriel env --shell fish | source\n  eval \"$(oriel env --unset)\""
    )]
    Env(Env),
    /// Look at what was captured
    #[command(args_conflicts_with_subcommands = true, after_help = FLOWS_EXAMPLES)]
    Flows(Flows),
    /// The certificate authority whose leaves clients see
    #[command(
        after_help = "Examples:\n  oriel ca show\n  oriel ca export --format bundle -o bundle.pem"
    )]
    Ca(Ca),
    /// What is set, and where
    #[command(
        after_help = "Examples:\n  oriel config init\n  oriel config check\n  oriel config show --effective --origin"
    )]
    Config(Config),
    /// Explain an error code, offline
    #[command(after_help = "Example:\n  oriel explain ORL0103")]
    Explain {
        /// A code such as ORL0103; all codes if left out
        code: Option<String>,
    },
    /// Print the completions of a shell
    #[command(
        after_help = "Example:\n  oriel completions bash > ~/.local/share/bash-completion/completions/oriel"
    )]
    Completions { shell: clap_complete::Shell },
    /// Print a manual page
    #[command(
        after_help = "Examples:\n  oriel man | man -l -\n  oriel man --out /usr/local/share/man/man1"
    )]
    Man {
        /// The page: a command such as `run` or `flows-list`
        page: Option<String>,
        /// Write all pages into this folder
        #[arg(long, value_name = "DIR", conflicts_with = "page")]
        out: Option<PathBuf>,
    },
    /// Print the version
    #[command(after_help = "Example:\n  oriel version --json")]
    Version,
}

const RUN_EXAMPLES: &str = "Examples:
  oriel run -- claude -p \"hi\"
  oriel run -- curl -s https://example.com
  oriel run --capture llm --name nightly -- python agent.py";

const SERVE_EXAMPLES: &str = "Examples:
  oriel serve
  oriel serve --listen 127.0.0.1:8080 --intercept 'api.openai.com' --unlisted block";

const FLOWS_EXAMPLES: &str = "Examples:
  oriel flows
  oriel flows 'host:api.openai.com status:>=400' -n 20
  oriel flows show @last.1 --body
  oriel flows tail -f";

/// What decides about traffic and about what is kept, wherever a proxy runs.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ProxyFlags {
    /// Listen for /healthz and /status on this loopback address, or `off`
    #[arg(long, value_name = "ADDR|off")]
    pub(crate) admin: Option<AdminListen>,
    /// Certificate of the authority that clients see, PEM
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// Private key of that authority, PEM, readable by its owner only
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    pub(crate) ca_key: Option<PathBuf>,
    /// Trust the certificates in this file besides the system's (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) upstream_ca: Vec<PathBuf>,
    /// Open connections to this host: `name`, `*.suffix`, `name:port` (repeatable, or with commas)
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub(crate) intercept: Vec<String>,
    /// Never open connections to this host (repeatable, or with commas)
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub(crate) bypass: Vec<String>,
    /// What happens to hosts on no list
    #[arg(long, value_name = "WHAT")]
    pub(crate) unlisted: Option<Unlisted>,
    /// Store nothing
    #[arg(long)]
    pub(crate) no_capture: bool,
    /// Which credentials are masked before anything is stored
    #[arg(long, value_name = "LEVEL")]
    pub(crate) redact: Option<Redact>,
    /// Bytes kept of each body; the wire is never cut
    #[arg(long, value_name = "SIZE", conflicts_with = "no_bodies")]
    pub(crate) max_body: Option<Size>,
    /// Keep no bodies
    #[arg(long)]
    pub(crate) no_bodies: bool,
    /// Do not verify the certificate of this host (repeatable, or with commas)
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub(crate) danger_accept_invalid_upstream: Vec<String>,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

/// Where the data is.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct DataFlags {
    /// Folder of the database and of the certificate authority
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// A name for this run
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Which hosts are opened; all others pass as counted tunnels
    #[arg(long, value_name = "WHICH")]
    pub(crate) capture: Option<CaptureWhich>,
    /// Also capture servers on this machine: takes them out of the child's NO_PROXY
    #[arg(long)]
    pub(crate) include_loopback: bool,
    #[command(flatten)]
    pub(crate) proxy: ProxyFlags,
    /// Listen here; by default the system chooses a port
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<Listen>,
    /// What is said at the end
    #[arg(long, value_name = "FORM", default_value = "auto")]
    pub(crate) summary: SummaryForm,
    /// Write the summary as JSON into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) summary_file: Option<PathBuf>,
    /// How the child is pointed at oriel
    #[arg(long, value_name = "HOW", default_value = "proxy")]
    pub(crate) env_mode: EnvMode,
    /// Do not set the variables that make the child trust oriel's certificates
    #[arg(long)]
    pub(crate) no_ca_env: bool,
    /// Print the variables and exit
    #[arg(long)]
    pub(crate) print_env: bool,
    /// Run the child in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// End the child with SIGTERM after this time
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<Period>,
    /// Stop the child if capturing breaks; by default it goes on
    #[arg(long)]
    pub(crate) strict: bool,
    /// The command and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = false,
        required_unless_present = "print_env",
        value_name = "COMMAND"
    )]
    pub(crate) command: Vec<std::ffi::OsString>,
}

/// Which hosts `oriel run` opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CaptureWhich {
    /// Hosts of large model APIs
    Llm,
    /// Those and the hosts of agents' vendors
    Known,
    /// Every host (default)
    All,
}

/// What `oriel run` says at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SummaryForm {
    /// compact on a terminal, line otherwise, none with -q
    Auto,
    Compact,
    /// compact, with every host and every failure
    Full,
    Line,
    None,
}

/// How the child is pointed at oriel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EnvMode {
    /// By the proxy variables
    Proxy,
    /// Not at all
    None,
}

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
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Demo {
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Env {
    /// The shell to write for; by default told from SHELL
    #[arg(long)]
    pub(crate) shell: Option<ShellName>,
    /// Print what takes the variables back
    #[arg(long)]
    pub(crate) unset: bool,
    /// Where `oriel serve` listens, if not at its default
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<Listen>,
    /// Certificate of the authority that `oriel serve` was given
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellName {
    Bash,
    Zsh,
    Fish,
    Pwsh,
    Nu,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Flows {
    #[command(subcommand)]
    pub(crate) command: Option<FlowsCommand>,
    #[command(flatten)]
    pub(crate) list: FlowsList,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum FlowsCommand {
    /// List flows, the newest first
    #[command(after_help = FLOWS_EXAMPLES)]
    List(FlowsList),
    /// Show one flow
    #[command(
        after_help = "Examples:\n  oriel flows show @last.1\n  oriel flows show k7q2.31 --part response --body\n  oriel flows show k7q2.31 --as curl"
    )]
    Show(FlowsShow),
    /// Show flows as they come
    #[command(after_help = "Example:\n  oriel flows tail -f 'status:>=400'")]
    Tail(FlowsTail),
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
    /// One JSON object per line
    #[arg(long, conflicts_with = "json")]
    pub(crate) jsonl: bool,
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
    /// With its bodies
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
    /// As a command that sends it again
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
    Timing,
    Tls,
    /// Heads and bodies as on the wire
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShowAs {
    Curl,
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
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

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

/// Settings that flags gave, with the flag of each.
#[derive(Debug, Default)]
struct Given {
    values: ConfigFile,
    origins: BTreeMap<String, Origin>,
}

impl Given {
    fn note(&mut self, path: &str, flag: &'static str) {
        self.origins.insert(path.to_owned(), Origin::Flag(flag));
    }

    /// Puts a value in its place, if the flag was given.
    fn set<T>(
        &mut self,
        path: &str,
        flag: &'static str,
        value: Option<T>,
        place: impl FnOnce(&mut ConfigFile) -> &mut Option<T>,
    ) {
        if value.is_some() {
            *place(&mut self.values) = value;
            self.note(path, flag);
        }
    }

    fn add_data(&mut self, flags: &DataFlags) {
        self.set("store.data_folder", "--data", flags.data.clone(), |file| {
            &mut file.store.data_folder
        });
    }

    fn add_listen(&mut self, listen: Option<Listen>) {
        self.set("proxy.listen", "--listen", listen, |file| {
            &mut file.proxy.listen
        });
    }

    fn add_proxy(&mut self, flags: &ProxyFlags) {
        self.add_data(&flags.data);
        self.set("admin.listen", "--admin", flags.admin, |file| {
            &mut file.admin.listen
        });
        self.set(
            "ca.certificate",
            "--ca-cert",
            flags.ca_cert.clone(),
            |file| &mut file.ca.certificate,
        );
        self.set("ca.key", "--ca-key", flags.ca_key.clone(), |file| {
            &mut file.ca.key
        });
        self.set(
            "upstream.ca_files",
            "--upstream-ca",
            some_of(&flags.upstream_ca),
            |file| &mut file.upstream.ca_files,
        );
        self.set(
            "intercept.hosts",
            "--intercept",
            some_of(&flags.intercept),
            |file| &mut file.intercept.hosts,
        );
        self.set(
            "intercept.bypass",
            "--bypass",
            some_of(&flags.bypass),
            |file| &mut file.intercept.bypass,
        );
        self.set("intercept.unlisted", "--unlisted", flags.unlisted, |file| {
            &mut file.intercept.unlisted
        });
        self.set(
            "upstream.danger_accept_invalid",
            "--danger-accept-invalid-upstream",
            some_of(&flags.danger_accept_invalid_upstream),
            |file| &mut file.upstream.danger_accept_invalid,
        );
        self.add_capture(flags);
    }

    fn add_capture(&mut self, flags: &ProxyFlags) {
        let off = flags.no_capture.then_some(false);
        self.set("capture.enabled", "--no-capture", off, |file| {
            &mut file.capture.enabled
        });
        self.set("capture.redact", "--redact", flags.redact, |file| {
            &mut file.capture.redact
        });
        let none = flags.no_bodies.then_some(Size(0));
        self.set("capture.body_bytes_kept", "--no-bodies", none, |file| {
            &mut file.capture.body_bytes_kept
        });
        self.set(
            "capture.body_bytes_kept",
            "--max-body",
            flags.max_body,
            |file| &mut file.capture.body_bytes_kept,
        );
    }

    fn into_layer(self) -> Layer {
        Layer::of_flags(self.values, self.origins)
    }
}

fn some_of<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

impl Run {
    /// The settings among the flags.
    pub(crate) fn layer(&self) -> Layer {
        let mut given = Given::default();
        given.add_proxy(&self.proxy);
        given.add_listen(self.listen);
        if let Some(which) = self.capture {
            // `--capture llm --intercept example.com` opens both.
            let mut hosts = which.hosts();
            hosts.extend(self.proxy.intercept.iter().cloned());
            given.set("intercept.hosts", "--capture", Some(hosts), |file| {
                &mut file.intercept.hosts
            });
        }
        given.into_layer()
    }
}

impl CaptureWhich {
    /// The hosts as patterns.
    pub(crate) fn hosts(self) -> Vec<String> {
        use traffic::rules::known::{AGENT_HOSTS, LLM_HOSTS};
        let all: Vec<&str> = match self {
            Self::Llm => LLM_HOSTS.to_vec(),
            Self::Known => [LLM_HOSTS, AGENT_HOSTS].concat(),
            Self::All => vec!["*"],
        };
        all.into_iter().map(str::to_owned).collect()
    }
}

impl Serve {
    /// The settings among the flags.
    pub(crate) fn layer(&self) -> Layer {
        let mut given = Given::default();
        given.add_proxy(&self.proxy);
        given.add_listen(self.listen);
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

impl Demo {
    /// What a demo is made of, whatever is configured: one host, opened; nothing of the network.
    pub(crate) fn layer(&self) -> Layer {
        let mut given = Given::default();
        given.add_data(&self.data);
        let host = Some(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
        given.set("intercept.hosts", "demo", host, |file| {
            &mut file.intercept.hosts
        });
        given.set("intercept.bypass", "demo", Some(Vec::new()), |file| {
            &mut file.intercept.bypass
        });
        given.set(
            "intercept.unlisted",
            "demo",
            Some(Unlisted::Block),
            |file| &mut file.intercept.unlisted,
        );
        given.set("intercept.ip_targets", "demo", Some(false), |file| {
            &mut file.intercept.ip_targets
        });
        given.set("upstream.system_roots", "demo", Some(false), |file| {
            &mut file.upstream.system_roots
        });
        given.set("capture.enabled", "demo", Some(true), |file| {
            &mut file.capture.enabled
        });
        given.set("capture.redact", "demo", Some(Redact::Basic), |file| {
            &mut file.capture.redact
        });
        given.into_layer()
    }
}

impl Env {
    /// The settings among the flags.
    pub(crate) fn layer(&self) -> Layer {
        let mut given = Given::default();
        given.add_data(&self.data);
        given.add_listen(self.listen);
        given.set(
            "ca.certificate",
            "--ca-cert",
            self.ca_cert.clone(),
            |file| &mut file.ca.certificate,
        );
        given.into_layer()
    }
}

impl DataFlags {
    /// The settings among the flags.
    pub(crate) fn layer(&self) -> Layer {
        let mut given = Given::default();
        given.add_data(self);
        given.into_layer()
    }
}

impl ShellName {
    /// The shell of the person, as far as SHELL tells.
    pub(crate) fn of_variable(shell: Option<&str>) -> Self {
        match shell.and_then(|path| path.rsplit('/').next()) {
            Some("zsh") => Self::Zsh,
            Some("fish") => Self::Fish,
            Some("pwsh") => Self::Pwsh,
            Some("nu") => Self::Nu,
            _ => Self::Bash,
        }
    }
}

/// The address that clients are told for a listening address.
pub(crate) fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::keys::KEYS;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_flag_of_a_setting_exists() {
        let command = Arguments::command();
        let serve = command.find_subcommand("serve").unwrap();
        for flag in KEYS.iter().filter_map(|key| key.flag) {
            let long = flag.trim_start_matches("--");
            let exists = serve
                .get_arguments()
                .any(|arg| arg.get_long() == Some(long));
            assert!(exists, "serve has no {flag}");
        }
    }

    #[test]
    fn what_follows_the_command_is_its_own() {
        let parsed =
            Arguments::try_parse_from(["oriel", "run", "--name", "x", "curl", "-s", "--json"]);
        let Command::Run(run) = parsed.unwrap().command else {
            panic!("it is a run");
        };
        assert_eq!(run.command, ["curl", "-s", "--json"]);
    }
}
