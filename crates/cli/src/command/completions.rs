//! `oriel completions`: the completions of a shell.

use clap::CommandFactory;

use crate::args::Arguments;
use crate::exit::Exit;
use crate::output::print_bytes;
use crate::problem::Problem;

pub(crate) fn run(shell: clap_complete::Shell) -> Result<Exit, Problem> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "oriel", &mut script);
    print_bytes(&script)?;
    Ok(Exit::Success)
}
