//! Asks a program for its version, with a deadline.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use crate::limits::VERSION_TIMEOUT;

/// What `PROGRAM --version` prints; `None` if it does not answer in time.
pub(crate) fn ask(program: &Path) -> Option<String> {
    let child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let (sender, answer) = mpsc::sync_channel(1);
    // A program that never answers leaves a thread that waits; we are about to end.
    std::thread::Builder::new()
        .name("oriel version".to_owned())
        .spawn(move || {
            let _too_late = sender.send(child.wait_with_output());
        })
        .ok()?;
    let output = answer.recv_timeout(VERSION_TIMEOUT).ok()?.ok()?;
    String::from_utf8(output.stdout).ok()
}
