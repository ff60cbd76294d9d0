//! `oriel doctor`: what of this machine stands between an agent and its record. The answer is the
//! exit code too: 1 if something failed, 0 with warnings.

use std::sync::Arc;

use crate::args::Doctor;
use crate::clock::now;
use crate::context::Context;
use crate::doctor::{Diagnosis, Repair, checks, examine, for_probes, stream_checks};
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::output::{print, print_json, say_line};
use crate::problem::Problem;
use crate::question::confirmed;
use crate::settings::Purpose;

pub(crate) fn run(context: &Context, arguments: &Doctor) -> Result<Exit, Problem> {
    let mut diagnosis = diagnose(context, arguments)?;
    let repairs = diagnosis.repairs();
    if arguments.fix && !repairs.is_empty() {
        if !context.json() {
            show(context, &diagnosis)?;
        }
        if repair(context, arguments.yes, &repairs)? {
            // All of it anew: with a key that others could read no tool was tried.
            diagnosis = diagnose(context, arguments)?;
        } else if !context.json() {
            return Ok(exit(&diagnosis));
        }
    }
    show(context, &diagnosis)?;
    Ok(exit(&diagnosis))
}

fn exit(diagnosis: &Diagnosis) -> Exit {
    match diagnosis.failed() {
        true => Exit::Negative,
        false => Exit::Success,
    }
}

fn diagnose(context: &Context, arguments: &Doctor) -> Result<Diagnosis, Problem> {
    let settings = context.settings(Purpose::Serve, arguments.layer())?;
    let of_run = context.settings(Purpose::Run, arguments.layer())?;
    let mut checks = checks(context, &settings, &of_run);
    let tools = match for_probes(&settings, now()) {
        Ok(authority) => {
            let authority = Arc::new(authority);
            checks.extend(stream_checks(context, &authority)?);
            examine(context, &settings, authority, &arguments.tools.choice())?
        }
        Err(check) => {
            checks.push(*check);
            Vec::new()
        }
    };
    Ok(Diagnosis { checks, tools })
}

fn show(context: &Context, diagnosis: &Diagnosis) -> Result<(), Problem> {
    match context.json() {
        true => print_json(&diagnosis.document()),
        false => {
            let stdout = context.terminal.stdout;
            print(&diagnosis.text(stdout.pen, stdout.width))
        }
    }
}

/// Whether it was done.
fn repair(context: &Context, yes: bool, repairs: &[Repair]) -> Result<bool, Problem> {
    let commands = repairs
        .iter()
        .map(|repair| format!("  {}\n", escape_line(&repair.command())));
    let text = format!("This is to be done:\n{}", commands.collect::<String>());
    let changes = ("ORL0229", "the modes of files");
    if !confirmed(context, yes, &text, changes)? {
        say_line("nothing was changed");
        return Ok(false);
    }
    repairs.iter().try_for_each(Repair::apply)?;
    Ok(true)
}
