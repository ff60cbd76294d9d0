//! Sockets that a service manager opened for us (sd_listen_fds(3)): it keeps them open while we are
//! not there, so that clients wait and none is refused.

use std::net::SocketAddr;

use listenfd::ListenFd;
use proxy::{ListeningSocket, SocketFile};
use traffic::ListenAddress;

use super::handover::Sockets;
use crate::config::values::AdminListen;
use crate::settings::Settings;

/// Takes them, and the variables that tell of them. Each must be for an address that the settings
/// name; others are closed with a warning. Only while no other thread runs.
pub(crate) fn sockets(settings: &Settings) -> Sockets {
    let mut given = ListenFd::from_env();
    let mut sockets = Sockets::default();
    let admin = match settings.admin.value {
        AdminListen::At(address) => Some(address),
        AdminListen::Off => None,
    };
    for number in 0..given.len() {
        if let Ok(Some(socket)) = given.take_tcp_listener(number) {
            match socket.local_addr() {
                Ok(address) if admin == Some(address) => sockets.admin.push((address, socket)),
                Ok(address) if is_ours(settings, address) => {
                    sockets.engine.push(ListeningSocket::tcp(address, socket));
                }
                Ok(address) => warn(&address),
                Err(error) => tracing::warn!(%error, number, "a socket that was given is none"),
            }
        } else if let Ok(Some(socket)) = given.take_unix_listener(number) {
            let named = socket.local_addr().ok();
            let path = named.as_ref().and_then(|named| named.as_pathname());
            match path {
                Some(path) if settings.unix.value.as_deref() == Some(path) => {
                    let path = path.to_owned();
                    let socket = ListeningSocket::unix(path, socket, SocketFile::Foreign);
                    sockets.engine.push(socket);
                }
                Some(path) => warn(&ListenAddress::Unix(path.to_owned())),
                None => tracing::warn!(number, "a socket that was given has no path"),
            }
        } else {
            tracing::warn!(number, "what was given is no socket that listens");
        }
    }
    sockets
}

fn is_ours(settings: &Settings, address: SocketAddr) -> bool {
    let mut reverse = settings.reverse.value.iter();
    settings.listen.value.0 == address || reverse.any(|reverse| reverse.listen.0 == address)
}

fn warn(address: &impl std::fmt::Display) {
    tracing::warn!(
        %address,
        "a socket that was given is for no listener: proxy.listen, proxy.unix, proxy.reverse and \
         admin.listen name them"
    );
}
