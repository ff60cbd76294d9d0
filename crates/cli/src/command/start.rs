//! `oriel start`: the service in the background. This process starts itself once more, waits until
//! that one serves or has said why not, and goes.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::args::Start;
use crate::command::serve;
use crate::command::status::{failing, pid_of, places};
use crate::command::version::VERSION;
use crate::context::Context;
use crate::exit::Exit;
use crate::limits::{START_TIMEOUT, STATUS_TIMEOUT};
use crate::output::{print, print_json, say_line};
use crate::problem::Problem;
use crate::service::unit::Unit;
use crate::service::{Place, ask};
use crate::terminal::Glyph;

/// The flag that tells the service apart from who starts it.
const DETACHED: &str = "--detached";

pub(crate) fn run(context: &Context, arguments: &Start) -> Result<Exit, Problem> {
    if arguments.detached {
        return serve::run_detached(context, &arguments.serve);
    }
    if arguments.enable {
        enable(context)?;
    }
    let place = Place::of(&context.paths);
    if let Some(status) = ask::status(&place, START_TIMEOUT)? {
        return tell(context, &status, Begun::Before);
    }
    let mut child = spawn()?;
    match wait_until_ready(&mut child) {
        Waited::Serves(status) => tell(context, &status, Begun::Now),
        // Another `oriel start` was faster.
        Waited::OtherServes => match ask::status(&place, STATUS_TIMEOUT)? {
            Some(status) => tell(context, &status, Begun::Before),
            None => Err(
                Problem::new("ORL0903", Exit::Busy, "the service ended at once")
                    .why("another one was started at the same moment and ended again")
                    .fix("oriel start"),
            ),
        },
        Waited::Ended => ended(child, &place),
        Waited::TooLong => Err(gave_up(&child)),
    }
}

/// Writes what a service manager needs, and says what is left to do.
fn enable(context: &Context) -> Result<(), Problem> {
    let program = std::env::current_exe()
        .map_err(|error| Problem::bug(format!("cannot tell which program this is: {error}")))?;
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let unit = Unit::new(&context.paths, &program, &words);
    unit.write()?;
    if !context.global.quiet {
        say_line(&format!("oriel: wrote {}", unit.path.display()));
        say_line(&format!(
            "oriel: have it started at login:  {}",
            unit.enable
        ));
    }
    Ok(())
}

/// Starts this program once more, with the same words. Its errors come out where ours would.
fn spawn() -> Result<Child, Problem> {
    let cannot = |error: std::io::Error| {
        let problem = Problem::new("ORL0903", Exit::Internal, "the service cannot be started");
        problem.why(error.to_string())
    };
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    Command::new(std::env::current_exe().map_err(cannot)?)
        .args(words)
        .arg(DETACHED)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(cannot)
}

/// What became of a service that was started.
enum Waited {
    Serves(Value),
    OtherServes,
    Ended,
    TooLong,
}

fn wait_until_ready(child: &mut Child) -> Waited {
    let Some(stdout) = child.stdout.take() else {
        return Waited::Ended;
    };
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody waits any more once the time is over.
        let _nobody = sender.send(first_document(stdout));
    });
    match receiver.recv_timeout(START_TIMEOUT) {
        Ok(Some(Value::Null)) => Waited::OtherServes,
        Ok(Some(status)) => Waited::Serves(status),
        Ok(None) | Err(mpsc::RecvTimeoutError::Disconnected) => Waited::Ended,
        Err(mpsc::RecvTimeoutError::Timeout) => Waited::TooLong,
    }
}

fn first_document(stdout: ChildStdout) -> Option<Value> {
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

/// It ended before it served, and has said why, unless it was killed.
fn ended(mut child: Child, place: &Place) -> Result<Exit, Problem> {
    let status = child.wait();
    let code = status
        .as_ref()
        .ok()
        .and_then(std::process::ExitStatus::code);
    match code.and_then(|code| u8::try_from(code).ok()) {
        Some(code) if code != 0 => Ok(Exit::Child(code)),
        _ => {
            let what = "the service ended before it served";
            let problem = Problem::new("ORL0903", Exit::Internal, what);
            Err(match status {
                Ok(status) => problem.why(status.to_string()),
                Err(error) => problem.why(error.to_string()),
            }
            .fix(format!("oriel logs      shows {}", place.log.display())))
        }
    }
}

fn gave_up(child: &Child) -> Problem {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // It is our child and was not waited for, so the number is still its own.
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
        tracing::debug!(%error, "the service that was given up has ended");
    }
    let seconds = START_TIMEOUT.as_secs();
    let what = format!("the service did not serve within {seconds} s, and was ended");
    Problem::new("ORL0903", Exit::Busy, what)
        .why("opening the database or reading the configuration takes too long")
        .fix("see what it does:   oriel serve -v")
}

/// When the service began that is there now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    Now,
    Before,
}

fn tell(context: &Context, status: &Value, begun: Begun) -> Result<Exit, Problem> {
    if context.json() {
        print_json(status)?;
        return Ok(Exit::Success);
    }
    if context.global.quiet {
        return Ok(Exit::Success);
    }
    let pen = context.terminal.stdout.pen;
    let pid = pid_of(status);
    let mut text = match begun {
        Begun::Now => format!(
            "{} oriel {VERSION} started (pid {pid})\n",
            pen.glyph(Glyph::Ok)
        ),
        Begun::Before => {
            let mark = pen.glyph(Glyph::Live);
            format!("{mark} oriel runs already (pid {pid}), as it was started\n")
        }
    };
    text.push_str(&places(status));
    text.push_str(&failing(status, pen));
    text.push_str("  use it    eval \"$(oriel env)\"      in this shell\n");
    let listeners = status["listeners"].as_array();
    if listeners.is_some_and(|all| all.iter().any(|one| one["kind"] == "reverse")) {
        text.push_str(
            "  or so     oriel run --env-mode base-url -- COMMAND      by the gateway's URL\n",
        );
        text.push_str(
            "  gateway   start it where the first was done: what it sends out is seen too\n",
        );
    }
    text.push_str("  stop it   oriel stop\n");
    print(&text)?;
    Ok(Exit::Success)
}
