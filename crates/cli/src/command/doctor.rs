//! `oriel doctor`: what of this machine stands between an agent and its record. The answer is the
//! exit code too: 1 if something failed, 0 with warnings.

use std::sync::Arc;

use crate::args::Doctor;
use crate::clock::now;
use crate::context::Context;
use crate::doctor::{Diagnosis, checks, examine, for_probes};
use crate::exit::Exit;
use crate::output::{print, print_json};
use crate::problem::Problem;
use crate::settings::Purpose;

pub(crate) fn run(context: &Context, arguments: &Doctor) -> Result<Exit, Problem> {
    let settings = context.settings(Purpose::Serve, arguments.layer())?;
    let of_run = context.settings(Purpose::Run, arguments.layer())?;
    let mut checks = checks(context, &settings, &of_run);
    let tools = match for_probes(&settings, now()) {
        Ok(authority) => {
            let choice = arguments.tools.choice();
            examine(context, &settings, Arc::new(authority), &choice)?
        }
        Err(check) => {
            checks.push(*check);
            Vec::new()
        }
    };
    let diagnosis = Diagnosis { checks, tools };
    match context.json() {
        true => print_json(&diagnosis.document())?,
        false => {
            let stdout = context.terminal.stdout;
            print(&diagnosis.text(stdout.pen, stdout.width))?;
        }
    }
    Ok(match diagnosis.failed() {
        true => Exit::Negative,
        false => Exit::Success,
    })
}
