//! One file per command.

pub(crate) mod auth;
pub(crate) mod ca;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod db;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod env;
pub(crate) mod explain;
pub(crate) mod flows;
pub(crate) mod import;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod restart;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod sessions;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod topics;
pub(crate) mod version;

use crate::args::Command;
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;

/// Runs the command.
pub(crate) fn dispatch(context: &Context, command: Command) -> Result<Exit, Problem> {
    match command {
        Command::Run(arguments) => run::run(context, &arguments),
        Command::Serve(arguments) => serve::run(context, &arguments),
        Command::Start(arguments) => start::run(context, &arguments),
        Command::Stop(arguments) => stop::run(context, &arguments),
        Command::Restart(arguments) => restart::run(context, &arguments),
        Command::Status => status::run(context),
        Command::Logs(arguments) => logs::run(context, &arguments),
        Command::Env(arguments) => env::run(context, &arguments),
        Command::Ca(arguments) => ca::run(context, &arguments.command),
        Command::Db(arguments) => db::run(context, &arguments),
        Command::Auth(arguments) => auth::run(context, &arguments.command),
        Command::Config(arguments) => config::run(context, &arguments.command),
        Command::Explain { code } => explain::run(context, code.as_deref()),
        Command::Completions { shell } => completions::run(context, shell),
        Command::Man { page, out } => man::run(context, page.as_deref(), out.as_deref()),
        Command::Version => version::run(context),
        Command::Demo(arguments) => demo::run(context, &arguments),
        Command::Doctor(arguments) => doctor::run(context, &arguments),
        Command::Flows(arguments) => flows::run(context, &arguments),
        Command::Sessions(arguments) => sessions::run(context, &arguments),
        Command::Stats(arguments) => stats::run(context, &arguments),
        Command::Export(arguments) => flows::run_export(context, &arguments),
        Command::Import(arguments) => import::run(context, &arguments),
    }
}
