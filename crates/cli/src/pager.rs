//! What a person reads and may be longer than the screen goes through a pager, as with git: only where stdout
//! is a terminal, and never what is for programs.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{Command, ConfigCommand, FlowsCommand, ListForm, SessionsCommand};
use crate::context::Context;
use crate::environment::Environment;
use crate::output::say_line;

/// What `less` does where nobody told it (`LESS`): it ends at once if all fits on the screen (F), ignores case
/// (I), shows colours (R), and leaves on the screen what it showed (X).
const LESS: &str = "FIRX";

/// A pager that gets what is printed to stdout, until [`end`](Self::end).
#[derive(Debug)]
pub(crate) struct Pager {
    child: Arc<Mutex<Child>>,
    terminal: OwnedFd,
}

impl Pager {
    /// Begins one, if what the command prints is for a person to read.
    pub(crate) fn begin(context: &Context, command: &Command) -> Option<Self> {
        let is_wanted = context.terminal.stdout.is_terminal
            && !context.json()
            && !context.global.no_pager
            && !context.global.no_input
            && is_read(command);
        let words = is_wanted.then(|| program(&context.environment)).flatten()?;
        let begun = start(&context.environment, &words);
        if let Err(error) = &begun {
            let words = words.to_string_lossy();
            say_line(&format!("oriel: cannot page with `{words}`: {error}"));
        }
        begun.ok()
    }

    /// Hands over the rest, and waits until the reader has read.
    pub(crate) fn end(self) {
        let _nobody_listens = std::io::stdout().flush();
        // The pager reads to the end of what was in the place of the terminal.
        if rustix::stdio::dup2_stdout(&self.terminal).is_ok() {
            // Nothing is left to interrupt, so who waits for the lock waits on: the command's own code counts.
            let child = MutexGuard::leak(self.child.lock());
            let _ended: std::io::Result<ExitStatus> = child.wait();
        }
    }
}

fn start(environment: &Environment, words: &OsStr) -> std::io::Result<Pager> {
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(words).stdin(Stdio::piped());
    for (name, value) in [("LESS", LESS), ("LV", "-c")] {
        if !environment.is_set(name) {
            command.env(name, value);
        }
    }
    // Without a locale `less` takes what is no ASCII for binary.
    let locale = ["LESSCHARSET", "LC_ALL", "LC_CTYPE", "LANG"];
    if !locale.iter().any(|name| environment.is_set(name)) {
        command.env("LESSCHARSET", "utf-8");
    }
    let terminal = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let interrupts = {
        let _entered = runtime.enter();
        signal(SignalKind::interrupt())?
    };
    let mut child = command.spawn()?;
    let input = child.stdin.take();
    let child = Arc::new(Mutex::new(child));
    let interrupted = Arc::clone(&child);
    std::thread::Builder::new()
        .name("oriel-pager".to_owned())
        .spawn(move || end_when_interrupted(&runtime, interrupts, &interrupted))?;
    if let Some(input) = input {
        rustix::stdio::dup2_stdout(OwnedFd::from(input))?;
    }
    Ok(Pager { child, terminal })
}

/// An interrupt from the terminal is the pager's, which may go on: a program that ended before it would leave two
/// that read the keyboard. What was printed until then can be read, and then all ends.
#[expect(
    clippy::exit,
    reason = "the command knows nothing of the interrupt, and may take long"
)]
fn end_when_interrupted(runtime: &Runtime, mut interrupts: Signal, child: &Mutex<Child>) {
    if runtime.block_on(interrupts.recv()).is_none() {
        return;
    }
    if let Ok(nothing) = File::options().write(true).open("/dev/null") {
        let _still_open = rustix::stdio::dup2_stdout(&nothing);
    }
    let _ended: std::io::Result<ExitStatus> = child.lock().wait();
    std::process::exit(INTERRUPTED);
}

/// What a shell says of who ended by SIGINT.
const INTERRUPTED: i32 = 128 + 2;

/// The pager as a shell runs it; `None` if there is to be none.
fn program(environment: &Environment) -> Option<OsString> {
    let terminal = environment.text("TERM")?;
    if terminal == "dumb" || environment.text("CI") == Some("true") {
        return None;
    }
    let named = ["ORIEL_PAGER", "PAGER"]
        .into_iter()
        .find_map(|name| environment.given(name).map(|words| (name, words)));
    let Some((variable, words)) = named else {
        return environment.find_program("less").map(|_| "less".into());
    };
    let text = words.to_str()?;
    let first = text
        .split_whitespace()
        .next()
        .filter(|word| *word != "cat")?;
    // What is more than the name of a program is for the shell to find.
    let is_name =
        !first.contains(|letter: char| !letter.is_alphanumeric() && !"-_./+".contains(letter));
    if is_name && environment.find_program(first).is_none() {
        say_line(&format!(
            "oriel: {variable} names `{first}`, which is not there"
        ));
        return None;
    }
    Some(words.to_owned())
}

/// Whether a command prints something for people to read that ends by itself.
fn is_read(command: &Command) -> bool {
    match command {
        Command::Flows(flows) => match &flows.command {
            None => is_for_people(&flows.list.form),
            Some(FlowsCommand::List(list)) => is_for_people(&list.form),
            Some(FlowsCommand::Show(show)) => !show.raw,
            Some(FlowsCommand::Search(search)) => is_for_people(&search.form),
            Some(_) => false,
        },
        Command::Sessions(sessions) => match &sessions.command {
            None => is_for_people(&sessions.list.form),
            Some(SessionsCommand::List(list)) => is_for_people(&list.form),
            Some(SessionsCommand::Show(_) | SessionsCommand::Diff(_)) => true,
            Some(_) => false,
        },
        Command::Stats(_) | Command::Explain { .. } => true,
        Command::Logs(logs) => !logs.follow,
        Command::Config(config) => {
            matches!(
                config.command,
                ConfigCommand::Show { .. } | ConfigCommand::Schema
            )
        }
        _ => false,
    }
}

fn is_for_people(form: &ListForm) -> bool {
    !form.jsonl && form.fields.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pager_is_the_one_that_is_named_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["less", "most"] {
            let path = folder.path().join(name);
            std::fs::write(&path, "").unwrap();
            let runs = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, runs).unwrap();
        }
        let path = folder.path().to_str().unwrap();
        let of = |variables: &[(&str, &str)]| {
            let mut all = vec![("PATH", path), ("TERM", "xterm")];
            all.extend_from_slice(variables);
            let words = program(&Environment::of(&all))?;
            Some(words.into_string().unwrap())
        };
        assert_eq!(of(&[]).unwrap(), "less");
        assert_eq!(of(&[("PAGER", "most -s")]).unwrap(), "most -s");
        let both = [("PAGER", "most"), ("ORIEL_PAGER", "less -S")];
        assert_eq!(of(&both).unwrap(), "less -S");
        assert_eq!(of(&[("PAGER", "A=1 most")]).unwrap(), "A=1 most");
        for none in [
            [("PAGER", "most"), ("ORIEL_PAGER", "")],
            [("PAGER", "cat"), ("A", "")],
            [("PAGER", "gone --now"), ("A", "")],
            [("TERM", "dumb"), ("A", "")],
            [("TERM", ""), ("A", "")],
            [("CI", "true"), ("A", "")],
            [("PATH", "/nowhere"), ("A", "")],
        ] {
            assert_eq!(of(&none), None, "{none:?}");
        }
    }
}
