//! Finds processes on other systems than Linux: the table of sockets of macOS (`proc_pidfdinfo`) or
//! Windows (`GetExtendedTcpTable`), then what the system says of the process. Elsewhere nobody is found,
//! and that is said.
//!
//! Nothing is answered in place and nothing is remembered: reading the table takes milliseconds, on a
//! thread for blocking work.

mod bundle;
mod sockets;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, UpdateKind};
use tokio::time::Instant;
use traffic::process::Ancestor;
use traffic::secret::Secret;
use traffic::{AttributionError, ProcessAnswer, ProcessInfo, Timestamp};

use crate::limits::{PROCESS_ANCESTORS_MAX, PROCESS_ARGUMENTS_BYTES_MAX};

#[derive(Debug)]
pub(super) struct System;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen;

impl System {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn lookup_at_once(
        &self,
        _client: SocketAddr,
        _proxy: SocketAddr,
    ) -> Result<ProcessAnswer, Seen> {
        Err(Seen)
    }

    pub(super) fn lookup(
        &self,
        client: SocketAddr,
        proxy: SocketAddr,
        _seen: Seen,
        deadline: Instant,
    ) -> ProcessAnswer {
        let holders = sockets::holders(client, proxy, deadline)?;
        if holders.is_empty() {
            return Err(AttributionError::Gone);
        }
        // A server hands its sockets down: of several that hold one, the youngest uses it.
        let mut youngest: Option<ProcessInfo> = None;
        for pid in holders {
            let Some(info) = describe(pid, deadline)? else {
                continue;
            };
            if youngest
                .as_ref()
                .is_none_or(|known| known.started_at < info.started_at)
            {
                youngest = Some(info);
            }
        }
        youngest.map(Arc::new).ok_or(AttributionError::Denied)
    }

    /// By what the kernel kept of the peer of a Unix socket.
    pub(super) fn lookup_peer(&self, pid: u32, uid: u32, deadline: Instant) -> ProcessAnswer {
        match describe(pid, deadline)? {
            Some(info) if info.uid == Some(uid) => Ok(Arc::new(info)),
            _ => Err(AttributionError::Gone),
        }
    }

    pub(super) fn note_end(&self, _pid: u32, _client: SocketAddr) {}
}

/// What the system says of a process; `None` if it says nothing.
fn describe(pid: u32, deadline: Instant) -> Result<Option<ProcessInfo>, AttributionError> {
    let mut system = sysinfo::System::new().map_err(|error| {
        tracing::debug!(%error, "the system does not tell its processes");
        AttributionError::Unsupported
    })?;
    let Some(process) = read(&mut system, pid, deadline)? else {
        return Ok(None);
    };
    let exe_path = process.exe().filter(|path| !path.as_os_str().is_empty());
    let (command_line, command_line_cut) = kept_arguments(
        process
            .cmd()
            .iter()
            .map(|argument| argument.to_string_lossy().into_owned()),
    );
    let mut info = ProcessInfo {
        pid,
        parent_pid: process.parent().map(Pid::as_u32),
        exe_name: exe_name(process),
        exe_path: exe_path.map(|path| path.to_string_lossy().into_owned()),
        command_line: Secret::new(command_line),
        command_line_cut,
        ancestors: Vec::new(),
        container: None,
        uid: uid(process),
        started_at: started_at(process),
        bundle_id: exe_path.and_then(bundle::identifier),
    };
    info.ancestors = ancestors(&mut system, &info, deadline)?;
    Ok(Some(info))
}

fn ancestors(
    system: &mut sysinfo::System,
    of: &ProcessInfo,
    deadline: Instant,
) -> Result<Vec<Ancestor>, AttributionError> {
    let mut ancestors = Vec::new();
    let (mut next, mut child_start) = (of.parent_pid, of.started_at);
    while let Some(pid) = next
        && ancestors.len() < PROCESS_ANCESTORS_MAX
    {
        let Some(process) = read(system, pid, deadline)? else {
            break;
        };
        let start = started_at(process);
        // A parent that is younger than its child is another process with the number of one that
        // ended since. Windows has one that is its own parent.
        if start > child_start || pid == of.pid {
            break;
        }
        ancestors.push(Ancestor {
            pid,
            exe_name: exe_name(process),
        });
        let parent = process.parent().map(Pid::as_u32);
        next = parent.filter(|parent| *parent != pid);
        child_start = start;
    }
    Ok(ancestors)
}

/// Asks the system about one process.
fn read(
    system: &mut sysinfo::System,
    pid: u32,
    deadline: Instant,
) -> Result<Option<&sysinfo::Process>, AttributionError> {
    if Instant::now() > deadline {
        return Err(AttributionError::TimedOut);
    }
    let pid = Pid::from_u32(pid);
    let wanted = ProcessRefreshKind::nothing()
        .with_exe(UpdateKind::Always)
        .with_cmd(UpdateKind::Always)
        .with_user(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, wanted);
    Ok(system.process(pid))
}

/// The arguments that are kept, and whether there were more.
fn kept_arguments(arguments: impl Iterator<Item = String>) -> (Vec<String>, bool) {
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for argument in arguments {
        bytes += argument.len() + 1;
        if bytes > PROCESS_ARGUMENTS_BYTES_MAX {
            return (kept, true);
        }
        kept.push(argument);
    }
    (kept, false)
}

fn exe_name(process: &sysinfo::Process) -> String {
    let name = process.exe().and_then(Path::file_name);
    name.unwrap_or_else(|| process.name())
        .to_string_lossy()
        .into_owned()
}

/// To the second.
fn started_at(process: &sysinfo::Process) -> Option<Timestamp> {
    let seconds = i64::try_from(process.start_time()).ok()?;
    seconds.checked_mul(1_000_000).map(Timestamp)
}

#[cfg(unix)]
fn uid(process: &sysinfo::Process) -> Option<u32> {
    process.user_id().map(|uid| **uid)
}

/// Windows names users by other things than numbers.
#[cfg(not(unix))]
fn uid(_process: &sysinfo::Process) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[tokio::test]
    async fn a_process_is_described() {
        let own = std::process::id();
        let info = describe(own, soon()).unwrap().unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(info.exe_path.as_deref(), exe.to_str());
        assert_eq!(Some(&*info.exe_name), exe.file_name().unwrap().to_str());
        let arguments: Vec<String> = std::env::args().collect();
        assert_eq!(*info.command_line.reveal(), arguments);
        assert!(!info.command_line_cut);
        let parent = info.ancestors.first().map(|parent| parent.pid);
        assert_eq!((parent, parent.is_some()), (info.parent_pid, true));
        let age = crate::clock::now().0 - info.started_at.unwrap().0;
        assert!((0..3_600_000_000).contains(&age), "{age} µs");
        let uid = info.uid.unwrap();
        let of_peer = System::new().lookup_peer(own, uid, soon());
        assert_eq!(of_peer.unwrap().pid, own);
        let of_other = System::new().lookup_peer(own, uid + 1, soon());
        assert_eq!(of_other, Err(AttributionError::Gone));
    }

    #[tokio::test]
    async fn nobody_is_described_who_is_not_there_or_too_late() {
        assert_eq!(describe(u32::MAX >> 2, soon()), Ok(None));
        let past = Instant::now() - Duration::from_secs(1);
        let late = describe(std::process::id(), past);
        assert_eq!(late, Err(AttributionError::TimedOut));
    }

    #[test]
    fn arguments_are_kept_up_to_a_bound() {
        let half = "x".repeat(PROCESS_ARGUMENTS_BYTES_MAX / 2);
        let (kept, cut) = kept_arguments([half.clone(), half.clone()].into_iter());
        assert_eq!((kept.len(), cut), (1, true));
        let (kept, cut) = kept_arguments(std::iter::once(half));
        assert_eq!((kept.len(), cut), (1, false));
    }

    #[cfg(not(any(target_os = "macos", windows)))]
    #[tokio::test]
    async fn where_sockets_cannot_be_asked_for_that_is_said() {
        let client = "127.0.0.1:1".parse().unwrap();
        let system = System::new();
        let seen = system.lookup_at_once(client, client).unwrap_err();
        let answer = system.lookup(client, client, seen, soon());
        assert_eq!(answer, Err(AttributionError::Unsupported));
        system.note_end(1, client);
    }

    #[cfg(any(target_os = "macos", windows))]
    #[tokio::test]
    async fn the_client_of_a_connection_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = listener.local_addr().unwrap();
        let stream = std::net::TcpStream::connect(proxy).unwrap();
        let client = stream.local_addr().unwrap();
        let info = System::new().lookup(client, proxy, Seen, soon()).unwrap();
        assert_eq!(info.pid, std::process::id());
    }
}
