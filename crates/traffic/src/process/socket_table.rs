//! Reads `/proc/PID/net/tcp` and `tcp6`, the tables in which Linux lists TCP sockets
//! (proc_pid_net(5), `Documentation/networking/proc_net_tcp.rst` of the kernel).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One line of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The address of the socket; an IPv4 address in IPv6 form is given as IPv4.
    pub local: SocketAddr,
    /// The address of its peer, in the same form.
    pub remote: SocketAddr,
    /// What it is doing.
    pub state: State,
    /// The user that made it.
    pub uid: u32,
    /// The number that its descriptors carry; 0 if nobody holds it any more.
    pub inode: u64,
}

/// The states that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Open in both directions.
    Established,
    /// The first packet is sent and not answered.
    Connecting,
    /// Waiting for connections.
    Listening,
    /// Any other, most of them closing.
    Other,
}

/// Reads a table; lines that are not understood, the heading one of them, are left out.
pub fn parse(text: &str) -> impl Iterator<Item = Socket> {
    text.lines().filter_map(parse_line)
}

/// Reads one line; `None` if it is not understood.
#[must_use]
pub fn parse_line(line: &str) -> Option<Socket> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let local = parse_address(words.next()?)?;
    let remote = parse_address(words.next()?)?;
    let state = match words.next()? {
        "01" => State::Established,
        "02" => State::Connecting,
        "0A" => State::Listening,
        _ => State::Other,
    };
    // Queues, timer and retransmissions stand between, the timeout after it.
    let uid = words.nth(3)?.parse().ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    Some(Socket {
        local,
        remote,
        state,
        uid,
        inode,
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
    use proptest::prelude::*;

    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn reads_the_lines_of_the_kernel() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1A57 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 18183 1 0000000000000000 100 0 0 10 0\n   1: 0F02000A:A5D4 0A0C0C0A:01BB 01 00000000:00000000 02:00000A6B 00000000  1001        0 29381 2 0000000000000000 20 4 30 10 -1\n   2: 0000000000000000FFFF00000100007F:A5D4 0000000000000000FFFF00000100007F:1F90 02 00000000:00000000 02:00000A6B 00000000     0        0 29382 2\n   3: rubbish\n   4: 00000000000000000000000001000000:A5D4 00000000000000000000000001000000:1F90 06 00000000:00000000 02:00000A6B 00000000     0        0 0 2\n";
        let shown: Vec<String> = parse(text)
            .map(|socket| {
                format!(
                    "{} {} {:?} {} {}",
                    socket.local, socket.remote, socket.state, socket.uid, socket.inode
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "127.0.0.1:6743 0.0.0.0:0 Listening 1000 18183",
                "10.0.2.15:42452 10.12.12.10:443 Established 1001 29381",
                "127.0.0.1:42452 127.0.0.1:8080 Connecting 0 29382",
                "[::1]:42452 [::1]:8080 Other 0 0",
            ]
        );
    }

    proptest! {
        #[test]
        fn takes_any_line(line in "\\PC{0,200}") {
            let _socket = parse_line(&line);
        }
    }
}
