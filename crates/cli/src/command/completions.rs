//! `oriel completions`: the completions of a shell.

use clap::CommandFactory;
use clap_complete::{Generator, Shell, generate};
use clap_complete_nushell::Nushell;

use crate::args::{Arguments, CompletionShell};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{print_bytes, print_json};
use crate::problem::Problem;

pub(crate) fn run(context: &Context, shell: CompletionShell) -> Result<Exit, Problem> {
    let script = match shell {
        CompletionShell::Bash => script(Shell::Bash),
        CompletionShell::Elvish => script(Shell::Elvish),
        CompletionShell::Fish => script(Shell::Fish),
        CompletionShell::Nushell => script(Nushell),
        CompletionShell::Powershell => script(Shell::PowerShell),
        CompletionShell::Zsh => script(Shell::Zsh),
    };
    match context.json() {
        true => print_json(&serde_json::json!({
            "schema": "oriel.completions/1",
            "text": String::from_utf8_lossy(&script),
        }))?,
        false => print_bytes(&script)?,
    }
    Ok(Exit::Success)
}

fn script(generator: impl Generator) -> Vec<u8> {
    let mut script = Vec::new();
    generate(generator, &mut Arguments::command(), "oriel", &mut script);
    script
}
