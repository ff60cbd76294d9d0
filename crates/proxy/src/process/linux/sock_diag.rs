//! Asks the kernel for one socket by its addresses: `NETLINK_SOCK_DIAG` (sock_diag(7),
//! `linux/inet_diag.h`). One small request and one small answer, however many sockets there are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::ClientSocket;
use crate::limits::PROCESS_LOOKUPS_MAX;

/// The kernel answers before `sendto` returns; this is for a kernel that does not.
const ANSWER_MAX: Duration = Duration::from_millis(100);

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
/// Room for an answer: header, `struct inet_diag_msg` of 72 bytes, attributes that were not asked
/// for.
const ANSWER_BYTES: usize = 1024;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// The highest error number that Linux knows (`include/linux/err.h`).
const MAX_ERRNO: i32 = 4095;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const TCP_LISTEN: u8 = 10;

/// Asks by sockets that are kept, since making one costs more than asking.
#[derive(Debug, Default)]
pub(super) struct SockDiag {
    /// At most [`PROCESS_LOOKUPS_MAX`].
    idle: Mutex<Vec<OwnedFd>>,
    /// Whether the kernel has named a socket before. One without the module for it may look for that on its
    /// disk each time.
    answers: AtomicBool,
}

impl SockDiag {
    /// The socket with this address whose peer has that one; `None` if there is none. An error means
    /// that the kernel could not be asked.
    pub(super) fn find(
        &self,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<Option<ClientSocket>, Errno> {
        let idle = self.idle.lock().pop();
        let socket = idle.map_or_else(open, Ok)?;
        self.ask(socket, local, peer, RecvFlags::empty())
    }

    /// The same, if that takes no more than the question: by a socket that is there, of a kernel that
    /// answered before.
    pub(super) fn find_at_once(&self, local: SocketAddr, peer: SocketAddr) -> Option<ClientSocket> {
        if !self.answers.load(Ordering::Relaxed) {
            return None;
        }
        let socket = self.idle.lock().pop()?;
        let found = self.ask(socket, local, peer, RecvFlags::DONTWAIT);
        found.ok().flatten()
    }

    fn ask(
        &self,
        socket: OwnedFd,
        local: SocketAddr,
        peer: SocketAddr,
        wait: RecvFlags,
    ) -> Result<Option<ClientSocket>, Errno> {
        let Some(request) = request(local, peer) else {
            return Ok(None);
        };
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&socket, &request, SendFlags::empty(), &kernel)?;
        let mut answer = [0; ANSWER_BYTES];
        let (length, _) = rustix::net::recv(&socket, &mut answer, wait)?;
        let found = parse(answer.get(..length).unwrap_or(&answer), local, peer)?;
        // One whose answer did not come, or was none, is not kept: it may have it still before it.
        self.keep(socket);
        if found.is_some() {
            self.answers.store(true, Ordering::Relaxed);
        }
        Ok(found)
    }

    fn keep(&self, socket: OwnedFd) {
        let mut idle = self.idle.lock();
        if idle.len() < PROCESS_LOOKUPS_MAX {
            idle.push(socket);
        }
    }
}

fn open() -> Result<OwnedFd, Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_MAX))?;
    Ok(socket)
}

/// Numbers stand in the order of the machine, addresses and ports in that of the network. `None`
/// if the addresses are of two families.
fn request(local: SocketAddr, peer: SocketAddr) -> Option<[u8; REQUEST_BYTES]> {
    const ALL_STATES: u32 = u32::MAX;
    const NO_COOKIE: [u8; 8] = [0xff; 8];

    let (family, scope) = match (local, peer) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) => (AF_INET, 0),
        (SocketAddr::V6(local), SocketAddr::V6(_)) => (AF_INET6, local.scope_id()),
        _ => return None,
    };
    let mut bytes = Vec::with_capacity(REQUEST_BYTES);
    bytes.extend(u32::try_from(REQUEST_BYTES).ok()?.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and port of the asker: one request for one socket.
    bytes.extend([0; 8]);
    bytes.extend([family, IPPROTO_TCP, 0, 0]);
    bytes.extend(ALL_STATES.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(peer.port().to_be_bytes());
    bytes.extend(octets(local.ip()));
    bytes.extend(octets(peer.ip()));
    bytes.extend(scope.to_ne_bytes());
    bytes.extend(NO_COOKIE);
    bytes.try_into().ok()
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(four) => {
            let [a, b, c, d] = four.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(six) => six.octets(),
    }
}

fn parse(
    answer: &[u8],
    local: SocketAddr,
    peer: SocketAddr,
) -> Result<Option<ClientSocket>, Errno> {
    let kind = at(answer, 4).map(u16::from_ne_bytes);
    if kind == Some(NLMSG_ERROR) {
        return match at(answer, HEADER_BYTES).and_then(|code| error(i32::from_ne_bytes(code))) {
            Some(Errno::NOENT) => Ok(None),
            Some(other) => Err(other),
            None => Err(Errno::PROTO),
        };
    }
    if kind != Some(SOCK_DIAG_BY_FAMILY) {
        return Err(Errno::PROTO);
    }
    let message = answer.get(HEADER_BYTES..).unwrap_or_default();
    let message = read_message(message).ok_or(Errno::PROTO)?;
    // Where no connection fits, the kernel answers with a listener on that port, which is not what
    // was asked for.
    let plain = |address: SocketAddr| (address.ip(), address.port());
    let is_it =
        message.state != TCP_LISTEN && message.local == plain(local) && message.peer == plain(peer);
    Ok(is_it.then_some(message.found))
}

/// The error of an `NLMSG_ERROR`, which holds it negated; nothing for a number that is none.
fn error(negated: i32) -> Option<Errno> {
    let code = negated.checked_neg()?;
    (1..=MAX_ERRNO)
        .contains(&code)
        .then(|| Errno::from_raw_os_error(code))
}

/// What is needed of `struct inet_diag_msg`.
struct Message {
    state: u8,
    local: (IpAddr, u16),
    peer: (IpAddr, u16),
    found: ClientSocket,
}

fn read_message(message: &[u8]) -> Option<Message> {
    let [family, state] = at(message, 0)?;
    let ip = |offset: usize| {
        let ip = match family {
            AF_INET => IpAddr::from(Ipv4Addr::from(at::<4>(message, offset)?)),
            _ => Ipv6Addr::from(at::<16>(message, offset)?).to_canonical(),
        };
        Some(ip)
    };
    Some(Message {
        state,
        local: (ip(8)?, u16::from_be_bytes(at(message, 4)?)),
        peer: (ip(24)?, u16::from_be_bytes(at(message, 6)?)),
        found: ClientSocket {
            uid: u32::from_ne_bytes(at(message, 64)?),
            inode: u32::from_ne_bytes(at(message, 68)?).into(),
        },
    })
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_has_the_layout_of_the_kernel() {
        let local = "127.0.0.1:4660".parse().unwrap();
        let peer = "127.0.0.2:22136".parse().unwrap();
        let bytes = request(local, peer).unwrap();
        assert_eq!(bytes[..4], 72_u32.to_ne_bytes());
        assert_eq!(bytes[16..20], [2, 6, 0, 0]);
        assert_eq!(bytes[24..28], [0x12, 0x34, 0x56, 0x78]);
        assert_eq!(bytes[28..32], [127, 0, 0, 1]);
        assert_eq!(bytes[44..48], [127, 0, 0, 2]);
        assert_eq!(bytes[64..], [0xff; 8]);
        assert_eq!(request(local, "[::1]:1".parse().unwrap()), None);
    }

    #[test]
    fn answers_are_told_apart() {
        let local = "127.0.0.1:1".parse().unwrap();
        let peer = "127.0.0.1:2".parse().unwrap();
        let message = |state: u8, source: u16| {
            let mut bytes = [0_u8; 88];
            bytes[4..6].copy_from_slice(&20_u16.to_ne_bytes());
            bytes[16..18].copy_from_slice(&[2, state]);
            bytes[20..22].copy_from_slice(&source.to_be_bytes());
            bytes[22..24].copy_from_slice(&2_u16.to_be_bytes());
            for offset in [24, 40] {
                bytes[offset..offset + 4].copy_from_slice(&[127, 0, 0, 1]);
            }
            bytes[80..84].copy_from_slice(&1000_u32.to_ne_bytes());
            bytes[84..88].copy_from_slice(&4711_u32.to_ne_bytes());
            bytes
        };
        let found = ClientSocket {
            inode: 4711,
            uid: 1000,
        };
        assert_eq!(parse(&message(1, 1), local, peer), Ok(Some(found)));
        assert_eq!(parse(&message(TCP_LISTEN, 1), local, peer), Ok(None));
        assert_eq!(parse(&message(1, 9), local, peer), Ok(None));
        let error = |code: i32| {
            let mut bytes = [0_u8; 36];
            bytes[4..6].copy_from_slice(&2_u16.to_ne_bytes());
            bytes[16..20].copy_from_slice(&(-code).to_ne_bytes());
            bytes
        };
        assert_eq!(parse(&error(2), local, peer), Ok(None));
        assert_eq!(parse(&error(1), local, peer), Err(Errno::PERM));
        for none in [0, -1, 4096, i32::MAX, i32::MIN + 1] {
            assert_eq!(
                parse(&error(none), local, peer),
                Err(Errno::PROTO),
                "{none}"
            );
        }
        assert_eq!(parse(&[0; 7], local, peer), Err(Errno::PROTO));
    }

    proptest! {
        #[test]
        fn takes_any_answer(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let address = SocketAddr::from(([127, 0, 0, 1], 1));
            let _answer = parse(&bytes, address, address);
        }
    }
}
