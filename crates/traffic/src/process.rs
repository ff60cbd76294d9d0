//! Which local process opened a connection, as values. The engine finds it out
//! (`proxy::process`); here are the words for the answer, and the readers of the two texts of the
//! Linux kernel that need no kernel to be tested.

pub mod container;
pub mod socket_table;

pub use container::{Container, ContainerRuntime};

use std::sync::{Arc, OnceLock};

use crate::Timestamp;
use crate::rules::redact::Redaction;
use crate::secret::Secret;

/// The process behind a connection, or why it is not known.
pub type ProcessAnswer = Result<Arc<ProcessInfo>, AttributionError>;

/// Where the answer will be once it is known: a connection is reported before its process was
/// found, and nobody waits for it. Written once; clones share it.
#[derive(Clone, Debug, Default)]
pub struct ProcessCell(Arc<OnceLock<ProcessAnswer>>);

impl ProcessCell {
    /// The answer, if it is there.
    #[must_use]
    pub fn get(&self) -> Option<&ProcessAnswer> {
        self.0.get()
    }

    /// Writes the answer; the first one stays.
    pub fn set(&self, answer: ProcessAnswer) {
        // Whoever was first had the same connection before it.
        let _stays = self.0.set(answer);
    }
}

/// A process that holds the client's end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its number in the pid namespace of oriel.
    pub pid: u32,
    /// The number of its parent; `None` for the first process of the namespace.
    pub parent_pid: Option<u32>,
    /// The file name of its program, for example `python3.13`. Where the file may not be asked
    /// for, it is the name that the kernel keeps, which the process can change.
    pub exe_name: String,
    /// The path of its program in its own mount namespace; `None` if we may not see it. A program
    /// that was replaced since, as by an update, has the path it had.
    pub exe_path: Option<String>,
    /// Its arguments as they came, the name of the program the first of them. They may hold
    /// credentials: see [`ProcessInfo::masked_command_line`].
    pub command_line: Secret<Vec<String>>,
    /// True if it had more arguments than were read.
    pub command_line_cut: bool,
    /// Parent, grandparent and so on, the nearest first. It is shorter than the truth if the
    /// chain is deeper than the bound or an ancestor ended while it was read.
    pub ancestors: Vec<Ancestor>,
    /// The container it runs in, where its control group names one.
    pub container: Option<Container>,
    /// The user it acts as (its real user id); `None` if it cannot be told.
    pub uid: Option<u32>,
    /// When it began, within some tens of milliseconds.
    pub started_at: Option<Timestamp>,
    /// The bundle of an application of macOS; `None` on other systems.
    pub bundle_id: Option<String>,
}

/// A process from which another descends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// Its number.
    pub pid: u32,
    /// As [`ProcessInfo::exe_name`].
    pub exe_name: String,
}

impl ProcessInfo {
    /// The arguments with known credentials masked: what may be stored and shown.
    #[must_use]
    pub fn masked_command_line(&self, redaction: Redaction) -> Vec<String> {
        redaction.mask_arguments(self.command_line.reveal())
    }
}

/// Why the process behind a connection is not known. The list is closed and its names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AttributionError {
    /// The client is not on this machine, or in a network of its own as containers are.
    #[error("the client is not on this machine")]
    NotLocal,
    /// No process holds the client's end any more, or none did that can be seen from here.
    #[error("no process holds the client's end of the connection")]
    Gone,
    /// There may be such a process, but it is another user's and the system shows us no more.
    #[error("the system does not let us see which process it is")]
    Denied,
    /// This is not known on this system.
    #[error("processes cannot be looked up on this system")]
    Unsupported,
    /// The time for it was over.
    #[error("finding the process took too long")]
    TimedOut,
}

impl AttributionError {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotLocal => "not_local",
            Self::Gone => "gone",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::TimedOut => "timed_out",
        }
    }
}
