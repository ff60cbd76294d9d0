//! `oriel ca`: the certificate authority whose leaves clients see. Its key never leaves its file.

mod export;
mod import;
mod init;
mod install;
mod java;
mod rotate;
mod show;
mod sign;
mod stale;
mod verify;

use std::path::Path;

use traffic::Timestamp;

use crate::args::{AuthorityFlags, CaCommand};
use crate::authority::unwritable;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::print_bytes;
use crate::problem::Problem;
use crate::settings::{Purpose, Settings};

pub(crate) fn run(context: &Context, command: &CaCommand) -> Result<Exit, Problem> {
    match command {
        CaCommand::Init(arguments) => init::run(context, arguments)?,
        CaCommand::Show(arguments) => show::run(context, arguments)?,
        CaCommand::Export(arguments) => export::run(context, arguments)?,
        CaCommand::Verify(arguments) => return verify::run(context, arguments),
        CaCommand::Install(arguments) => return install::install(context, arguments),
        CaCommand::Uninstall(arguments) => return install::uninstall(context, arguments),
        CaCommand::Csr(arguments) => sign::csr(context, arguments)?,
        CaCommand::CrossSign(arguments) => sign::cross_sign(context, arguments)?,
        CaCommand::Import(arguments) => import::run(context, arguments)?,
        CaCommand::Rotate(arguments) => rotate::run(context, arguments)?,
    }
    Ok(Exit::Success)
}

fn settings(context: &Context, authority: &AuthorityFlags) -> Result<Settings, Problem> {
    context.settings(Purpose::Serve, authority.layer())
}

/// Writes what a command made into a file, or to stdout.
fn write(output: Option<&Path>, bytes: &[u8]) -> Result<(), Problem> {
    match output {
        Some(path) => std::fs::write(path, bytes).map_err(|error| unwritable(path, &error)),
        None => print_bytes(bytes),
    }
}

fn hex(bytes: &[u8], between: &str) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(between)
}

fn day(at: Timestamp) -> String {
    store::json::rfc3339(at).chars().take(10).collect()
}

fn days_left(not_after: Timestamp, now: Timestamp) -> i64 {
    not_after.micros_since(now) / 86_400_000_000
}
