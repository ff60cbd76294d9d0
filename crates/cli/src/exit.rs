//! The exit codes of the program (a fixed list, part of what scripts rely on).

use std::process::ExitCode;

/// How a command ends, other than with the code of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It worked; a list may be empty.
    Success,
    /// It worked, and the answer is no.
    Negative,
    /// It was called wrongly, or a setting is wrong.
    Usage,
    /// The service does not run.
    NotRunning,
    /// It needs a permission or credentials.
    Permission,
    /// There is no such flow or run, or more than one.
    Unknown,
    /// Something else has it: a port in use, a locked database.
    Busy,
    /// The store failed.
    Storage,
    /// A peer or the network failed.
    Network,
    /// A bug.
    Internal,
    /// The child of `run` succeeded, and a condition of `--fail-on` held.
    FailedOn,
    /// `run` failed before its child was started, or a strict one could not record it.
    BeforeChild,
    /// `run` found the child's program but could not execute it.
    NotExecutable,
    /// `run` did not find the child's program.
    NotFound,
    /// The child's own code, or 128 and the number of the signal that ended it.
    Child(u8),
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Negative => 1,
            Self::Usage => 2,
            Self::NotRunning => 3,
            Self::Permission => 4,
            Self::Unknown => 5,
            Self::Busy => 6,
            Self::Storage => 7,
            Self::Network => 8,
            Self::Internal => 70,
            Self::FailedOn => 99,
            Self::BeforeChild => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Child(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
