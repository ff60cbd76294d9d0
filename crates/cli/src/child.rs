//! The command that `oriel run` starts: it keeps our streams, our terminal and our process group,
//! and ends with its own code.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use crate::child_env::Changes;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::shell_word::shell_word;

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) command: Vec<OsString>,
    pub(crate) folder: Option<PathBuf>,
}

/// A child that runs, or has ended and was not asked about yet.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    ended: oneshot::Receiver<std::io::Result<ExitStatus>>,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Code(i32),
    Signal(i32),
}

impl Program {
    /// Starts it.
    pub(crate) fn start(&self, changes: &Changes) -> Result<Child, Problem> {
        let Some((name, arguments)) = self.command.split_first() else {
            return Err(Problem::new("ORL0001", Exit::Usage, "no command is given")
                .fix("oriel run -- COMMAND"));
        };
        let mut command = std::process::Command::new(name);
        command.args(arguments);
        for (name, value) in &changes.set {
            command.env(name, value);
        }
        for name in &changes.unset {
            command.env_remove(name);
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let process = command.spawn().map_err(|error| self.problem(&error))?;
        Child::wait_for(process)
    }

    /// The name of the program, for people.
    pub(crate) fn name(&self) -> String {
        let name = self.command.first().cloned().unwrap_or_default();
        let name = PathBuf::from(name);
        name.file_name()
            .unwrap_or(name.as_os_str())
            .to_string_lossy()
            .into_owned()
    }

    /// The command as texts; the store masks the credentials in it.
    pub(crate) fn words(&self) -> Vec<String> {
        let words = self.command.iter();
        words
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    /// The problem of a program that is nowhere.
    pub(crate) fn not_found(&self) -> Problem {
        let shown = self.command.first().cloned().unwrap_or_default();
        let shown = shown.to_string_lossy();
        let what = format!("{shown} was not found");
        let problem = Problem::new("ORL0201", Exit::NotFound, what);
        let word = shell_word(&shown);
        if !shown.contains('/') {
            return problem
                .why("it is on no folder of PATH; a shell's aliases and functions are not programs")
                .fix(format!(
                    "command -v {word}      tells what your shell knows by this name"
                ))
                .fix(format!(
                    "oriel run -- bash -ic {word}      if it is an alias or a function"
                ));
        }
        let path = self.place(&shown);
        match path.exists() {
            // The system says the same of a file whose interpreter is missing.
            true => problem
                .why("the file is there, but not the interpreter or the loader that it names")
                .fix(format!("file {word}      tells what it names")),
            false => problem
                .why(format!("there is no file {}", path.display()))
                .fix("name a program that is there, or one on PATH by its name alone"),
        }
    }

    /// Where a path leads, in the folder that the command runs in.
    fn place(&self, path: &str) -> PathBuf {
        match &self.folder {
            Some(folder) => folder.join(path),
            None => PathBuf::from(path),
        }
    }

    fn problem(&self, error: &std::io::Error) -> Problem {
        let shown = self.command.first().cloned().unwrap_or_default();
        let shown = shown.to_string_lossy();
        if let Some(folder) = self.folder.as_ref().filter(|folder| !folder.is_dir()) {
            let what = format!("{} is not a folder", folder.display());
            let problem = Problem::new("ORL0203", Exit::BeforeChild, what)
                .why("--cwd names the folder that the command runs in");
            return match folder.exists() {
                true => problem.fix("name a folder:  --cwd DIR"),
                false => problem.fix(format!(
                    "mkdir -p {}",
                    shell_word(&folder.to_string_lossy())
                )),
            };
        }
        match error.kind() {
            ErrorKind::NotFound => self.not_found(),
            ErrorKind::PermissionDenied | ErrorKind::ExecutableFileBusy => Problem::new(
                "ORL0202",
                Exit::NotExecutable,
                format!("{shown} cannot be executed"),
            )
            .why(error.to_string())
            .fix(to_execute(&self.place(&shown), error.kind())),
            // ENOEXEC has no kind of its own.
            _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
                Problem::new(
                    "ORL0202",
                    Exit::NotExecutable,
                    format!("{shown} is no program for this machine, nor a script that names one"),
                )
                .why(error.to_string())
                .fix(format!(
                    "oriel run -- sh {word}      if it is a script of sh",
                    word = shell_word(&shown)
                ))
            }
            _ => Problem::new(
                "ORL0203",
                Exit::BeforeChild,
                format!("{shown} could not be started"),
            )
            .why(error.to_string())
            .fix("start it without oriel: it should fail in the same way"),
        }
    }
}

/// What lets a file be executed that the system refused to execute.
fn to_execute(path: &Path, refused: ErrorKind) -> String {
    let word = shell_word(&path.to_string_lossy());
    if refused == ErrorKind::ExecutableFileBusy {
        return format!("wait until nobody writes to it:  fuser -v {word}");
    }
    match std::fs::metadata(path) {
        Ok(file) if file.is_dir() => "it is a folder: name a program in it".to_owned(),
        Ok(file) if file.permissions().mode() & 0o111 == 0 => format!("chmod +x {word}"),
        // Its folders may be closed to us, or its disk may hold no programs.
        _ => format!("namei -l {word}      tells who may go there"),
    }
}

impl Child {
    /// A thread of its own waits, so that nobody else's children are touched.
    fn wait_for(mut process: std::process::Child) -> Result<Self, Problem> {
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Problem::bug("a child without a process id"))?;
        let (sender, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("oriel child".to_owned())
            .spawn(move || {
                // Nobody waits for it once the program is ending anyway.
                let _nobody = sender.send(process.wait());
            })
            .map_err(|error| Problem::bug(format!("cannot start a thread: {error}")))?;
        Ok(Self { pid, ended })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> Ended {
        match (&mut self.ended).await {
            Ok(Ok(status)) => Ended::of(status),
            // It cannot be waited for, so how it ended is not known.
            Ok(Err(_)) | Err(_) => Ended::Code(i32::from(Exit::Internal.code())),
        }
    }

    /// Sends it a signal. It may have ended in between.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process(self.pid, signal) {
            tracing::debug!(%error, ?signal, "a signal was not delivered");
        }
    }
}

impl Ended {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Code(i32::from(Exit::Internal.code())),
        }
    }

    /// The code that a shell would show for it.
    pub(crate) fn exit(self) -> Exit {
        let code = match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        };
        Exit::Child(u8::try_from(code & 0xff).unwrap_or_else(|_| Exit::Internal.code()))
    }

    pub(crate) fn code(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(_) => None,
        }
    }

    pub(crate) fn signal(self) -> Option<i32> {
        match self {
            Self::Code(_) => None,
            Self::Signal(signal) => Some(signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_a_shell() {
        for code in 0..=255 {
            let exit = Ended::of(ExitStatus::from_raw(code << 8)).exit();
            assert_eq!(i32::from(exit.code()), code);
        }
        assert_eq!(Ended::of(ExitStatus::from_raw(15)), Ended::Signal(15));
        assert_eq!(Ended::Signal(9).exit().code(), 137);
    }
}
