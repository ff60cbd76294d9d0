//! Asks the person in front before something is changed.

use std::io::{BufRead, IsTerminal};

use crate::context::Context;
use crate::exit::Exit;
use crate::output::say;
use crate::problem::Problem;

/// Shows what is about to be done, and waits for a yes; `yes` says it beforehand. Where nobody can be
/// asked the problem has this code, and says what would be changed: "what programs trust". Who wants
/// JSON gets it at the end.
pub(crate) fn confirmed(
    context: &Context,
    yes: bool,
    text: &str,
    (code, changes): (&'static str, &str),
) -> Result<bool, Problem> {
    if yes {
        if !context.json() {
            say(text);
        }
        return Ok(true);
    }
    is_confirmed(
        context,
        || say(&format!("{text}Continue? [y/N] ")),
        |what| {
            Problem::new(code, Exit::Usage, what)
                .why(format!("this changes {changes}; nothing was changed"))
                .fix("--yes        does it without asking")
        },
    )
}

/// Asks, and waits for a yes; a problem where nobody can be asked, or is to be (`--no-input`).
pub(crate) fn is_confirmed(
    context: &Context,
    ask: impl FnOnce(),
    nobody: impl FnOnce(&'static str) -> Problem,
) -> Result<bool, Problem> {
    if context.global.no_input {
        return Err(nobody("--no-input: nobody is asked"));
    }
    if !std::io::stdin().is_terminal() {
        return Err(nobody("nobody is there to be asked"));
    }
    ask();
    let mut answer = String::new();
    // Who cannot be read has not said yes.
    let _read = std::io::stdin().lock().read_line(&mut answer);
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
