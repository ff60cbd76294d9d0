//! The one door to stdout and stderr. Data goes to stdout, talk to stderr; a reader that went away
//! ends the command silently.

use std::borrow::Cow;
use std::io::Write;

use crate::context::Context;
use crate::escape::escape_json;
use crate::exit::Exit;
use crate::problem::Problem;

/// Writes data to stdout.
pub(crate) fn print(text: &str) -> Result<(), Problem> {
    print_bytes(text.as_bytes())
}

/// Writes data to stdout, followed by a line end.
pub(crate) fn print_line(text: &str) -> Result<(), Problem> {
    let mut line = String::with_capacity(text.len() + 1);
    line.push_str(text);
    line.push('\n');
    print(&line)
}

/// Writes a JSON document to stdout.
pub(crate) fn print_json(document: &impl serde::Serialize) -> Result<(), Problem> {
    print_line(&to_json(document)?)
}

/// One line of JSON, in which a terminal finds nothing to obey.
pub(crate) fn to_json(document: &impl serde::Serialize) -> Result<String, Problem> {
    let text = serde_json::to_string(document)
        .map_err(|error| Problem::bug(format!("cannot write JSON: {error}")))?;
    Ok(match escape_json(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(escaped) => escaped,
    })
}

/// A JSON value.
pub(crate) fn to_value(document: &impl serde::Serialize) -> Result<serde_json::Value, Problem> {
    serde_json::to_value(document)
        .map_err(|error| Problem::bug(format!("cannot write JSON: {error}")))
}

/// Tells a problem on stderr, in the form that was asked for.
pub(crate) fn report(context: &Context, problem: &Problem) {
    match context.json() {
        true => say(&format!("{}\n", problem.to_json())),
        false => say(&problem.render(context.terminal.stderr.pen)),
    }
}

/// Writes bytes to stdout as they are.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Problem> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| Problem::from_stdout(&error))
}

/// Says something to the person in front. There is nobody to tell if stderr is gone.
pub(crate) fn say(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _nobody_listens = stderr.write_all(text.as_bytes());
    let _nobody_listens = stderr.flush();
}

/// Says a line to the person in front.
pub(crate) fn say_line(text: &str) {
    say(&format!("{text}\n"));
}

impl Problem {
    /// A reader that went away has what it wanted (`oriel flows | head`).
    const READER_GONE: &'static str = "";

    pub(crate) fn from_stdout(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(Self::READER_GONE, Exit::Success, "");
        }
        Self::new("ORL0008", Exit::Storage, "cannot write the output").why(error.to_string())
    }

    /// Whether it is no problem but the end of the reader.
    pub(crate) fn is_reader_gone(&self) -> bool {
        self.code == Self::READER_GONE
    }
}
