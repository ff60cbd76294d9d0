//! TCP sockets as the Linux kernel lists them, and which process holds which. Elsewhere nothing
//! is seen, which the callers say.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::limits::{DESCRIPTORS_MAX, PROCESSES_MAX};

/// One line of `/proc/PID/net/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) state: State,
    pub(crate) inode: u64,
}

/// The states that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Established,
    Connecting,
    Listening,
    Other,
}

/// The sockets of the network that a process is in.
pub(crate) fn of_network(pid: u32) -> Vec<Socket> {
    ["tcp", "tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok())
        .flat_map(|text| parse(&text))
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

/// Reads the lines of `/proc/PID/net/tcp` or `tcp6`; those that are not understood are left out.
fn parse(text: &str) -> Vec<Socket> {
    text.lines().skip(1).filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace().skip(1);
    let local = parse_address(words.next()?)?;
    let remote = parse_address(words.next()?)?;
    let state = match words.next()? {
        "01" => State::Established,
        "02" => State::Connecting,
        "0A" => State::Listening,
        _ => State::Other,
    };
    Some(Socket {
        local,
        remote,
        state,
        inode: words.nth(5)?.parse().ok()?,
    })
}

/// Addresses stand there as words of four bytes in the order of the machine.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = host.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match host.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn reads_the_lines_of_the_kernel() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1A57 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 18183 1 0000000000000000 100 0 0 10 0\n   1: 0F02000A:A5D4 0A0C0C0A:01BB 01 00000000:00000000 02:00000A6B 00000000  1000        0 29381 2 0000000000000000 20 4 30 10 -1\n   2: 0000000000000000FFFF00000100007F:A5D4 0000000000000000FFFF00000100007F:1F90 02 00000000:00000000 02:00000A6B 00000000  1000        0 29382 2\n   3: rubbish\n";
        let sockets = parse(text);
        let shown: Vec<String> = sockets
            .iter()
            .map(|socket| {
                format!(
                    "{} {} {:?} {}",
                    socket.local, socket.remote, socket.state, socket.inode
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "127.0.0.1:6743 0.0.0.0:0 Listening 18183",
                "10.0.2.15:42452 10.12.12.10:443 Established 29381",
                "127.0.0.1:42452 127.0.0.1:8080 Connecting 29382",
            ]
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn finds_the_process_that_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(listener_on(address), Some(std::process::id()));
        assert!(family_of(std::process::id()).contains(&std::process::id()));
    }
}
