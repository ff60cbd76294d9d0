//! Runs a program that nobody waits for at a terminal: with a deadline, with what it says bounded,
//! and in a process group of its own, so that what it started ends with it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::limits::PROBE_OUTPUT_BYTES_MAX;

/// What became of a program.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) ended: Ended,
    /// The beginnings of what it said. Hostile: escape it before it is printed.
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself.
    With(ExitStatus),
    /// It was killed when its time was over.
    TimedOut,
    /// It could not be started, or not waited for.
    Failed(std::io::Error),
}

/// Runs it to its end or its deadline. Dropping this kills the program, not what it started.
pub(super) async fn run(command: std::process::Command, deadline: Duration) -> Ran {
    let mut command = Command::from(command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ran::new(Ended::Failed(error), &stdout, &stderr),
    };
    let pid = child.id();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let whole = async {
        let ((), (), status) = tokio::join!(
            keep_beginning(out, &mut stdout),
            keep_beginning(err, &mut stderr),
            child.wait()
        );
        status
    };
    let ended = match tokio::time::timeout(deadline, whole).await {
        Ok(Ok(status)) => Ended::With(status),
        Ok(Err(error)) => Ended::Failed(error),
        Err(_elapsed) => Ended::TimedOut,
    };
    if matches!(ended, Ended::TimedOut) {
        let group = pid.and_then(|pid| i32::try_from(pid).ok());
        if let Some(group) = group.and_then(Pid::from_raw) {
            // It may have ended this moment.
            let _gone = kill_process_group(group, Signal::KILL);
        }
        // It was killed, so this does not last.
        let _status = child.wait().await;
    }
    Ran::new(ended, &stdout, &stderr)
}

/// Reads to the end, so that the program is not kept waiting, and keeps what comes first.
async fn keep_beginning(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut piece).await {
        let room = PROBE_OUTPUT_BYTES_MAX - kept.len();
        kept.extend(piece.iter().take(count.min(room)));
    }
}

impl Ran {
    fn new(ended: Ended, stdout: &[u8], stderr: &[u8]) -> Self {
        Self {
            ended,
            stdout: String::from_utf8_lossy(stdout).into_owned(),
            stderr: String::from_utf8_lossy(stderr).into_owned(),
        }
    }

    pub(super) fn succeeded(&self) -> bool {
        matches!(self.ended, Ended::With(status) if status.success())
    }

    /// The last thing it said that is not empty, which is where most programs say what went wrong.
    pub(super) fn last_words(&self) -> Option<&str> {
        last_line(&self.stderr).or_else(|| last_line(&self.stdout))
    }
}

fn last_line(text: &str) -> Option<&str> {
    let mut lines = text.lines().rev().map(str::trim);
    lines.find(|line| !line.is_empty())
}
