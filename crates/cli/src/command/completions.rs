//! `oriel completions`: the completions of a shell.

use clap::CommandFactory;
use clap_complete::{Generator, Shell, generate};
use clap_complete_nushell::Nushell;

use crate::args::{Arguments, CompletionShell};
use crate::exit::Exit;
use crate::output::print_bytes;
use crate::problem::Problem;

pub(crate) fn run(shell: CompletionShell) -> Result<Exit, Problem> {
    let script = match shell {
        CompletionShell::Bash => script(Shell::Bash),
        CompletionShell::Elvish => script(Shell::Elvish),
        CompletionShell::Fish => script(Shell::Fish),
        CompletionShell::Nushell => script(Nushell),
        CompletionShell::Powershell => script(Shell::PowerShell),
        CompletionShell::Zsh => script(Shell::Zsh),
    };
    print_bytes(&script)?;
    Ok(Exit::Success)
}

fn script(generator: impl Generator) -> Vec<u8> {
    let mut script = Vec::new();
    generate(generator, &mut Arguments::command(), "oriel", &mut script);
    script
}
