//! A home that belongs to one test, and the program run in it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// An empty home.
pub(crate) struct World {
    folder: tempfile::TempDir,
}

/// What a command printed and how it ended.
pub(crate) struct Printed {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running `oriel serve`.
pub(crate) struct Service {
    pub(crate) child: Child,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    /// Nothing once it was closed.
    stderr: Option<BufReader<ChildStderr>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, with the folders above it.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The program with nothing of this process's environment but the search path.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oriel"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TZ", "UTC")
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn oriel(&self, arguments: &[&str]) -> Printed {
        Printed::of(self.command(arguments).output().unwrap())
    }

    /// One JSON document from stdout.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(arguments)).unwrap()
    }

    /// What is printed by a command that succeeds.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let printed = self.oriel(arguments);
        assert_eq!(printed.code, Some(0), "{arguments:?}: {}", printed.stderr);
        printed.stdout
    }

    /// Text with what differs from test to test replaced.
    pub(crate) fn masked(&self, text: &str) -> String {
        text.replace(&self.folder.path().display().to_string(), "[home]")
    }

    pub(crate) fn serve(&self, arguments: &[&str]) -> Service {
        Service::start(self.serve_command(arguments))
    }

    /// A service that lets its clients connect to this port too.
    pub(crate) fn serve_port(&self, port: u16, arguments: &[&str]) -> Service {
        let mut command = self.serve_command(arguments);
        command.env("ORIEL_CONNECT_PORTS", port.to_string());
        Service::start(command)
    }

    /// The same, not started yet.
    pub(crate) fn serve_command(&self, arguments: &[&str]) -> Command {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0", "--log-format", "json"];
        all.extend(arguments);
        self.command(&all)
    }
}

impl Printed {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// The error in its JSON form.
    pub(crate) fn error(&self) -> Value {
        serde_json::from_str(&self.stderr).unwrap()
    }
}

impl Service {
    /// Starts it and waits until it says where it is.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let said = loop {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended early");
            let said: Value = serde_json::from_str(&line).unwrap();
            if said["proxy"].is_string() {
                break said;
            }
        };
        let address = |value: &Value| {
            let (_scheme, address) = value.as_str()?.split_once("://")?;
            address.parse::<SocketAddr>().ok()
        };
        Self {
            child,
            proxy: address(&said["proxy"]).unwrap(),
            admin: address(&said["admin"]),
            stderr: Some(stderr),
        }
    }

    /// Waits for a log line whose message has this text in it.
    pub(crate) fn wait_for(&mut self, message: &str) -> Value {
        let mut line = String::new();
        loop {
            line.clear();
            let stderr = self.stderr.as_mut().unwrap();
            let read = stderr.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "it ended before it said {message:?}");
            let said: Value = serde_json::from_str(&line).unwrap();
            if said["message"].as_str().unwrap().contains(message) {
                return said;
            }
        }
    }

    /// Closes the reading end of its log.
    pub(crate) fn close_log(&mut self) {
        self.stderr = None;
    }

    /// Stops it as a service manager does, and gives its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        send(&self.child, Signal::TERM);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It has ended already in most tests.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

pub(crate) fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().unwrap().permissions().mode() & 0o777
}
