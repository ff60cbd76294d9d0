//! `oriel`: see, understand and govern what your AI agents send.
//!
//! The one place where the crates meet. A command is parsed (`args`), what is set is put together
//! (`settings`), and one file per command (`command/`) does the rest; `wiring` joins the engine to
//! the store. stdout is data, stderr is talk, and one door leads to both (`output`).

mod accept;
mod admin;
mod admission;
mod archive;
mod args;
mod assertion;
mod authority;
mod body_text;
mod bundle;
mod child;
mod child_env;
mod clock;
mod command;
mod config;
mod context;
mod crash;
mod csv;
mod descriptors;
mod diagnosis;
mod direct;
mod doctor;
mod downloads;
mod environment;
mod escape;
mod exit;
mod fields;
mod flow_text;
mod free_space;
mod gateways;
mod limits;
mod listeners;
mod logging;
mod output;
mod output_file;
mod overridden;
mod own_folder;
mod pager;
mod paths;
mod phases;
mod port;
mod problem;
mod progress;
mod quantity;
mod question;
mod record_status;
mod removal;
mod retention;
mod run_folder;
mod runtime;
mod screen;
mod secret_file;
mod service;
mod session_authority;
mod settings;
mod shell_word;
mod signals;
mod sockets;
mod store_problem;
mod stream_text;
mod summary;
mod table;
mod terminal;
mod trust_store;
mod trusted;
mod upstream_proxies;
mod usage;
mod version_of;
mod whole_file;
mod wiring;

use std::process::ExitCode;

use crate::context::Context;
use crate::crash::Crashes;
use crate::environment::Environment;
use crate::output::report;
use crate::pager::Pager;
use crate::paths::Paths;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let environment = Environment::of_process();
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let crashes = Crashes::watch(&Paths::of(&environment), &words);
    let arguments = match usage::parse(&words, &environment) {
        Ok(arguments) => arguments,
        Err(answer) => return usage::answer(*answer, &words, environment).into(),
    };
    let context = Context::new(environment, arguments.global);
    let pager = Pager::begin(&context, &arguments.command);
    let done = crashes.caught(|| {
        crash::panic_if_asked(&context.environment);
        command::dispatch(&context, arguments.command)
    });
    if let Some(pager) = pager {
        pager.end();
    }
    match done {
        Ok(exit) => exit.into(),
        Err(problem) => {
            if !problem.is_reader_gone() {
                report(&context, &problem);
            }
            problem.exit.into()
        }
    }
}
