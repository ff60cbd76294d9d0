//! Whose sockets are where.

use std::net::SocketAddr;

use tokio::time::Instant;
use traffic::AttributionError;

/// The processes that hold the client's end of a connection, as far as the system shows them.
#[cfg(any(target_os = "macos", windows))]
pub(super) fn holders(
    client: SocketAddr,
    proxy: SocketAddr,
    deadline: Instant,
) -> Result<Vec<u32>, AttributionError> {
    use netstat2::{AddressFamilyFlags, ProtocolFlags, ProtocolSocketInfo, iterate_sockets_info};

    let families = AddressFamilyFlags::IPV4 | AddressFamilyFlags::IPV6;
    let sockets = iterate_sockets_info(families, ProtocolFlags::TCP).map_err(|error| {
        tracing::debug!(%error, "the system does not tell its sockets");
        AttributionError::Denied
    })?;
    let wanted = (plain(client), plain(proxy));
    let mut pids = Vec::new();
    for socket in sockets {
        if Instant::now() > deadline {
            return Err(AttributionError::TimedOut);
        }
        // One that went while the table was read is no matter.
        let Ok(socket) = socket else { continue };
        let ProtocolSocketInfo::Tcp(tcp) = socket.protocol_socket_info else {
            continue;
        };
        let local = (tcp.local_addr.to_canonical(), tcp.local_port);
        let remote = (tcp.remote_addr.to_canonical(), tcp.remote_port);
        if (local, remote) == wanted {
            pids.extend(socket.associated_pids);
        }
    }
    // Who holds it twice is one, and 0 is a socket whose process has ended.
    pids.sort_unstable();
    pids.dedup();
    pids.retain(|pid| *pid != 0);
    Ok(pids)
}

/// Without the scope of an IPv6 address, which tables do not have.
#[cfg(any(target_os = "macos", windows))]
fn plain(address: SocketAddr) -> (std::net::IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

/// Systems that are not asked.
#[cfg(not(any(target_os = "macos", windows)))]
pub(super) fn holders(
    _client: SocketAddr,
    _proxy: SocketAddr,
    _deadline: Instant,
) -> Result<Vec<u32>, AttributionError> {
    Err(AttributionError::Unsupported)
}
