//! `oriel auth`: what the file of users is made of.

use std::io::{BufRead, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::admission::hash;
use crate::args::AuthCommand;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::print;
use crate::problem::Problem;

pub(crate) fn run(context: &Context, command: &AuthCommand) -> Result<Exit, Problem> {
    let AuthCommand::Hash { name } = command;
    if context.global.no_input && std::io::stdin().is_terminal() {
        return Err(
            Problem::new("ORL0107", Exit::Usage, "--no-input: nobody is asked")
                .why("the password is read from standard input, which is a terminal")
                .fix(format!("oriel auth hash {name} < FILE")),
        );
    }
    let password = read_password(name).map_err(|error| {
        Problem::new("ORL0107", Exit::Usage, "the password cannot be read").why(error.to_string())
    })?;
    let line = hash(name, &password).map_err(|error| {
        let what = format!("{name:?} cannot be a user of the proxy");
        Problem::new("ORL0107", Exit::Usage, what).why(error.to_string())
    })?;
    print(&format!("{line}\n"))?;
    Ok(Exit::Success)
}

/// One line of standard input; at a terminal it is asked for twice and not shown.
fn read_password(name: &str) -> std::io::Result<String> {
    let input = std::io::stdin();
    let password = match input.is_terminal() {
        true => {
            let first = ask_unseen(&format!("Password of {name}: "))?;
            if ask_unseen("Once more: ")? != first {
                return Err(std::io::Error::other("the two are not the same"));
            }
            first
        }
        false => read_line()?,
    };
    match password.is_empty() {
        true => Err(std::io::Error::other("it is empty")),
        false => Ok(password),
    }
}

fn ask_unseen(question: &str) -> std::io::Result<String> {
    let input = std::io::stdin();
    let mut error = std::io::stderr();
    write!(error, "{question}")?;
    error.flush()?;
    let before = tcgetattr(&input)?;
    let mut unseen = before.clone();
    unseen.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&input, OptionalActions::Flush, &unseen)?;
    let line = read_line();
    tcsetattr(&input, OptionalActions::Flush, &before)?;
    writeln!(error)?;
    line
}

fn read_line() -> std::io::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}
