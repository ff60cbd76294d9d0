//! The command line as types, with a file for each family of commands. A flag that belongs to
//! something not built yet is absent.

mod auth;
mod ca;
mod config;
mod db;
mod demo;
mod doctor;
mod env;
mod flows;
mod given;
mod proxy;
mod run;
mod serve;
mod service;
mod sessions;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use auth::{Auth, AuthCommand};
pub(crate) use ca::{
    Ca, CaCommand, CaCrossSign, CaCsr, CaExport, CaImport, CaInit, CaInstall, CaRotate, CaShow,
    CaUninstall, CaVerify, ChangeFlags, ExportFormat, TrustStore,
};
pub(crate) use config::{Config, ConfigCommand};
pub(crate) use db::{
    Db, DbBackup, DbCommand, DbCopy, DbForget, DbMigrate, DbPrune, DbSchema, HowToRemove,
    ServerKind,
};
pub(crate) use demo::Demo;
pub(crate) use doctor::{Doctor, probe_layer};
pub(crate) use env::{Env, ShellName};
pub(crate) use flows::{
    ColorBy, ExportForm, Flows, FlowsCommand, FlowsExport, FlowsList, FlowsMark, FlowsNote,
    FlowsRm, FlowsSearch, FlowsShow, FlowsTail, ImportFiles, ListForm, Part, SearchIn, ShowAs,
    Sort,
};
pub(crate) use proxy::{AuthorityFlags, DataFlags};
pub(crate) use run::{CaptureWhich, Run, SummaryForm};
pub(crate) use serve::Serve;
pub(crate) use service::{LogLevel, Logs, Restart, Start, Stop};
pub(crate) use sessions::{
    Sessions, SessionsCommand, SessionsDiff, SessionsList, SessionsMerge, SessionsRename,
    SessionsRm, SessionsShow, Stats,
};

use crate::terminal::When;

/// See, understand and govern what your AI agents send.
#[derive(Debug, Parser)]
#[command(
    name = "oriel",
    version,
    disable_help_subcommand = false,
    infer_subcommands = false,
    after_help = "Filters, JSON, exit codes, variables and ids: oriel help topics"
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
    /// Show neither bars nor lines of how far it is (CI=true does so too)
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) no_progress: bool,
    /// Print everything at once, however long it is
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) no_pager: bool,
    /// Never ask: fail, and say which flag would have answered
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) no_input: bool,
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

/// A shell that completes words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompletionShell {
    Bash,
    Elvish,
    Fish,
    #[value(alias = "nu")]
    Nushell,
    #[value(alias = "pwsh")]
    Powershell,
    Zsh,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command with its traffic captured
    #[command(after_help = run::EXAMPLES)]
    Run(Box<Run>),
    /// Run the proxy in the background
    #[command(after_help = service::START_EXAMPLES)]
    Start(Box<Start>),
    /// Stop the proxy in the background; what it saw is stored
    #[command(after_help = "Examples:\n  oriel stop\n  oriel stop --drain 2m")]
    Stop(Stop),
    /// Have another process take the place of the one in the background; nothing is cut
    #[command(
        after_help = "Example:\n  oriel restart      after an update, or a change that needs it"
    )]
    Restart(Restart),
    /// Whether the proxy in the background runs, where, and how it does
    #[command(
        after_help = "Examples:\n  oriel status\n  oriel status --json; echo $?    3 if it does not run"
    )]
    Status,
    /// What the proxy in the background says about itself
    #[command(after_help = "Examples:\n  oriel logs -f\n  oriel logs --level warn --since 1h")]
    Logs(Logs),
    /// Run the proxy in the foreground
    #[command(after_help = serve::EXAMPLES)]
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
    #[command(args_conflicts_with_subcommands = true, after_help = flows::EXAMPLES)]
    Flows(Flows),
    /// The conversations of agents
    #[command(args_conflicts_with_subcommands = true, after_help = sessions::SESSIONS_EXAMPLES)]
    Sessions(Sessions),
    /// What was captured, summed up by host, agent, day and more
    #[command(after_help = sessions::STATS_EXAMPLES)]
    Stats(Stats),
    /// Write flows into a file for other tools: HAR, mitmproxy, JSON lines, curl
    #[command(after_help = flows::EXPORT_EXAMPLES)]
    Export(FlowsExport),
    /// Take flows from files: HAR, mitmproxy, JSON lines
    #[command(after_help = flows::IMPORT_EXAMPLES)]
    Import(ImportFiles),
    /// Look after the database
    #[command(
        after_help = "Examples:\n  oriel db status\n  oriel db prune --older-than 30d --dry-run\n  oriel db backup -o oriel-monday.db\n  oriel db copy --to postgres://me@db.corp/oriel"
    )]
    Db(Db),
    /// The certificate authority whose leaves clients see
    #[command(
        after_help = "Examples:\n  oriel ca show\n  oriel ca export --format bundle -o bundle.pem"
    )]
    Ca(Ca),
    /// Who may use the proxy
    Auth(Auth),
    /// What is set, and where
    #[command(
        after_help = "Examples:\n  oriel config init\n  oriel config check\n  oriel config show --effective --origin"
    )]
    Config(Config),
    /// Check this machine: which tools oriel sees and why not the others, ports, files, variables
    #[command(
        after_help = "Examples:\n  oriel doctor\n  oriel doctor --tools curl,node\n  oriel doctor --tools none --json"
    )]
    Doctor(Doctor),
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
    Completions { shell: CompletionShell },
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
