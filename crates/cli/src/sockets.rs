//! TCP sockets as the Linux kernel lists them, and which process holds which. Elsewhere nothing
//! is seen, which the callers say.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use traffic::process::socket_table;
pub(crate) use traffic::process::socket_table::{Socket, State};

use crate::limits::{DESCRIPTORS_MAX, PROCESSES_MAX, VARIABLES_BYTES_MAX};

/// The sockets of the network that a process is in.
pub(crate) fn of_network(pid: u32) -> Vec<Socket> {
    ["tcp", "tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok())
        .flat_map(|text| socket_table::parse(&text).collect::<Vec<_>>())
        .collect()
}

/// The inodes of the sockets that a process holds open.
pub(crate) fn inodes_of(pid: u32) -> HashSet<u64> {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return HashSet::new();
    };
    descriptors
        .take(DESCRIPTORS_MAX)
        .filter_map(|descriptor| std::fs::read_link(descriptor.ok()?.path()).ok())
        .filter_map(|link| {
            let name = link.to_str()?.strip_prefix("socket:[")?;
            name.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

/// A process and all that descend from it, as far as they did not part from it.
pub(crate) fn family_of(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(member) = family.get(next).copied() {
        next += 1;
        let threads = std::fs::read_dir(format!("/proc/{member}/task"));
        for thread in threads.into_iter().flatten().filter_map(Result::ok) {
            let children = std::fs::read_to_string(thread.path().join("children"));
            let children = children.unwrap_or_default();
            family.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        if family.len() >= PROCESSES_MAX {
            break;
        }
    }
    family.truncate(PROCESSES_MAX);
    family
}

/// The name of a process, as `ps` shows it.
pub(crate) fn name_of(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// The program file of a process.
pub(crate) fn program_of(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The variables that a process was started with, as `NAME=value` each; `None` if they cannot be read. What it
/// changed since is not among them.
pub(crate) fn variables_of(pid: u32) -> Option<Vec<String>> {
    let mut block = Vec::new();
    let file = File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(VARIABLES_BYTES_MAX)
        .read_to_end(&mut block)
        .ok()?;
    let variables = block.split(|byte| *byte == 0).filter(|one| !one.is_empty());
    let text = |one: &[u8]| String::from_utf8_lossy(one).into_owned();
    Some(variables.map(text).collect())
}

/// The process that listens on an address, if it is one that we may look into.
pub(crate) fn listener_on(address: SocketAddr) -> Option<u32> {
    let covers = |socket: &Socket| {
        socket.state == State::Listening
            && socket.local.port() == address.port()
            && (socket.local.ip() == address.ip()
                || socket.local.ip().is_unspecified()
                || address.ip().is_unspecified())
    };
    let inode = of_network(std::process::id())
        .into_iter()
        .find(covers)
        .map(|socket| socket.inode)?;
    let processes = std::fs::read_dir("/proc").ok()?;
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| inodes_of(*pid).contains(&inode))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn finds_the_process_that_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(listener_on(address), Some(std::process::id()));
        assert!(family_of(std::process::id()).contains(&std::process::id()));
    }
}
