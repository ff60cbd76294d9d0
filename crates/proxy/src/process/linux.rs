//! Finds processes on Linux: addresses → socket → descriptor → process.

mod owners;
mod places;
mod proc;
mod sock_diag;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tokio::time::Instant;
use traffic::process::socket_table::{self, Socket};
use traffic::process::{Ancestor, container};
use traffic::secret::Secret;
use traffic::{AttributionError, ProcessAnswer, ProcessInfo, Timestamp};

use crate::limits::{PROCESS_ANCESTORS_MAX, SOCKET_TABLE_BYTES_MAX};
use owners::Owners;
use proc::Stat;
use sock_diag::SockDiag;

#[derive(Debug)]
pub(super) struct System {
    sock_diag: SockDiag,
    owners: Owners,
    /// When the system started; asked once, so that a process always has the same start.
    booted_at: OnceLock<Option<Timestamp>>,
}

/// The client's socket, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClientSocket {
    /// 0 if nobody holds it any more.
    inode: u64,
    uid: u32,
}

/// What a look in place saw, for the search that follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen(Option<ClientSocket>);

impl System {
    pub(super) fn new() -> Self {
        Self {
            sock_diag: SockDiag::default(),
            owners: Owners::default(),
            booted_at: OnceLock::new(),
        }
    }

    /// What [`lookup`](Self::lookup) says, if that takes a few calls of the system that do not wait.
    pub(super) fn lookup_at_once(
        &self,
        client: SocketAddr,
        proxy: SocketAddr,
    ) -> Result<ProcessAnswer, Seen> {
        let seen = self.sock_diag.find_at_once(client, proxy);
        let socket = seen.ok_or(Seen(None))?;
        if socket.inode == 0 {
            return Ok(Err(AttributionError::Gone));
        }
        match self.owners.find_at_once(socket, client.port()) {
            Some(info) => Ok(Ok(info)),
            None => Err(Seen(seen)),
        }
    }

    pub(super) fn lookup(
        &self,
        client: SocketAddr,
        proxy: SocketAddr,
        Seen(seen): Seen,
        deadline: Instant,
    ) -> ProcessAnswer {
        let socket = match seen {
            Some(socket) => socket,
            None => self.find_socket(client, proxy)?,
        };
        if socket.inode == 0 {
            return Err(AttributionError::Gone);
        }
        let is_held = || match self.sock_diag.find(client, proxy) {
            Ok(Some(now)) => now == socket,
            Ok(None) => find_in_tables(client, proxy) == Ok(socket),
            Err(_) => true,
        };
        let port = client.port();
        let (process, stat) = self.owners.find(socket, port, is_held, deadline)?;
        if let Some(described) = self.owners.described(&process, &stat) {
            return Ok(described);
        }
        let info = Arc::new(self.describe(process.pid, &stat)?);
        self.owners.note(&process, stat, &info);
        Ok(info)
    }

    /// A connection of this process has ended, whose end had this address.
    pub(super) fn note_end(&self, pid: u32, client: SocketAddr) {
        self.owners.note_end(pid, client.port());
    }

    pub(super) fn lookup_peer(&self, pid: u32, uid: u32, _deadline: Instant) -> ProcessAnswer {
        // The credentials of a peer in another pid namespace have the number 0.
        if pid == 0 {
            return Err(AttributionError::NotLocal);
        }
        let stat = proc::stat(pid).ok_or(AttributionError::Gone)?;
        // The effective user of that moment is kept, which may be any of the four of now.
        if !proc::uids(pid).is_some_and(|uids| uids.contains(&uid)) {
            return Err(AttributionError::Gone);
        }
        self.describe(pid, &stat).map(Arc::new)
    }

    /// The socket whose own address is the client's and whose peer is the proxy.
    fn find_socket(
        &self,
        client: SocketAddr,
        proxy: SocketAddr,
    ) -> Result<ClientSocket, AttributionError> {
        match self.sock_diag.find(client, proxy) {
            Ok(Some(found)) => Ok(found),
            // A kernel without the module that answers says the same as one that has no such socket.
            Ok(None) => find_in_tables(client, proxy),
            Err(error) => {
                tracing::debug!(%error, "the kernel was not asked for a socket; reading its table");
                find_in_tables(client, proxy)
            }
        }
    }

    fn describe(&self, pid: u32, stat: &Stat) -> Result<ProcessInfo, AttributionError> {
        let exe_path = proc::exe_path(pid);
        let (command_line, command_line_cut) = proc::command_line(pid);
        let info = ProcessInfo {
            pid,
            parent_pid: (stat.parent != 0).then_some(stat.parent),
            exe_name: proc::exe_name(exe_path.as_deref(), stat),
            exe_path,
            command_line: Secret::new(command_line),
            command_line_cut,
            ancestors: ancestors(stat),
            container: proc::cgroup(pid).and_then(|text| container::parse(&text)),
            uid: proc::uids(pid).map(|[real, ..]| real),
            started_at: self.moment(stat.start),
            bundle_id: None,
        };
        // What was read is of one process if the number still is that one's.
        match proc::stat(pid) {
            Some(now) if now.start == stat.start => Ok(info),
            _ => Err(AttributionError::Gone),
        }
    }

    /// The moment of a number of ticks since the system started.
    fn moment(&self, ticks: u64) -> Option<Timestamp> {
        let booted_at = *self.booted_at.get_or_init(|| {
            let uptime = proc::uptime_micros()?;
            Some(Timestamp(crate::clock::now().0.saturating_sub(uptime)))
        });
        let since = i64::try_from(ticks).ok()?.checked_mul(proc::TICK_MICROS)?;
        booted_at.map(|booted_at| Timestamp(booted_at.0.saturating_add(since)))
    }
}

fn find_in_tables(client: SocketAddr, proxy: SocketAddr) -> Result<ClientSocket, AttributionError> {
    let plain = |address: SocketAddr| (address.ip(), address.port());
    let is_wanted = |socket: &Socket| {
        (plain(socket.local), plain(socket.remote)) == (plain(client), plain(proxy))
    };
    // A client may use an IPv6 socket for IPv4, so that either table may have it.
    let found = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .iter()
        .flat_map(|path| proc::lines(path, SOCKET_TABLE_BYTES_MAX))
        .filter_map(|line| socket_table::parse_line(&line))
        .find(is_wanted);
    let found = found.map(|Socket { inode, uid, .. }| ClientSocket { inode, uid });
    found.ok_or(AttributionError::Gone)
}

fn ancestors(stat: &Stat) -> Vec<Ancestor> {
    let mut ancestors = Vec::new();
    let mut pid = stat.parent;
    let mut child_start = stat.start;
    while pid != 0 && ancestors.len() < PROCESS_ANCESTORS_MAX {
        let Some(stat) = proc::stat(pid) else { break };
        // A parent that is younger than its child is another process with the number of one that
        // ended since.
        if stat.start > child_start {
            break;
        }
        ancestors.push(Ancestor {
            pid,
            exe_name: proc::exe_name(proc::exe_path(pid).as_deref(), &stat),
        });
        child_start = stat.start;
        pid = stat.parent;
    }
    ancestors
}

#[cfg(test)]
mod tests;
