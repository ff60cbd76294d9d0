//! Whether oriel can listen where it is to, and reach the proxy it is to go through.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};

use super::{Area, Check, State};
use crate::config::values::{AdminListen, ProxyChoice};
use crate::limits::PROXY_REACH_TIMEOUT;
use crate::settings::Settings;
use crate::sockets;
use crate::wiring::listen_problem;

pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    let mut checks = vec![port("proxy", settings.listen.value.0, "--listen")];
    checks.push(match settings.admin.value {
        AdminListen::At(address) => port("admin", address, "--admin"),
        AdminListen::Off => Check::new(Area::Ports, State::Ok, "admin off"),
    });
    let reverse = settings.reverse.value.iter();
    checks.extend(reverse.map(|one| port("proxy.reverse", one.listen.0, "listen =")));
    checks
}

fn port(what: &str, address: SocketAddr, flag: &'static str) -> Check {
    let good = |text: String| Check::new(Area::Ports, State::Ok, text);
    if address.port() == 0 {
        return good(format!("{what} {address}: the system chooses the port"));
    }
    // It is given back at once; oriel listens there when it is started.
    match TcpListener::bind(address) {
        Ok(_free) => good(format!("{what} {address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match holder(address) {
            Some(pid) => good(format!("{what} {address} is held by oriel (pid {pid})")),
            None => Check::of_problem(Area::Ports, &listen_problem(&error, address, flag)),
        },
        Err(error) => Check::of_problem(Area::Ports, &listen_problem(&error, address, flag)),
    }
}

/// The process that listens there, if it is an oriel.
fn holder(address: SocketAddr) -> Option<u32> {
    let pid = sockets::listener_on(address)?;
    let name = sockets::name_of(pid)?;
    (name == "oriel").then_some(pid)
}

/// The upstream proxy of a run: reached if it is on this machine. Elsewhere it is left alone, since a check
/// sends nothing off this machine.
pub(super) fn upstream_proxy(settings: &Settings) -> Vec<Check> {
    let ProxyChoice::At(proxy) = &settings.upstream_proxy.value else {
        return vec![Check::new(
            Area::Network,
            State::Ok,
            "a run reaches upstreams directly",
        )];
    };
    let (url, origin) = (&proxy.url, &settings.upstream_proxy.origin);
    let address = &url.address;
    if !address.host.is_loopback() {
        let text =
            format!("upstream proxy {url} ({origin}): not checked, it is not on this machine");
        return vec![Check::new(Area::Network, State::Note, text)];
    }
    let host = address.host.to_string();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let connected = (host, address.port).to_socket_addrs().and_then(|all| {
        let mut last = Err(ErrorKind::NotFound.into());
        for one in all {
            last = TcpStream::connect_timeout(&one, PROXY_REACH_TIMEOUT);
            if last.is_ok() {
                break;
            }
        }
        last
    });
    vec![match connected {
        Ok(_stream) => Check::new(
            Area::Network,
            State::Ok,
            format!("upstream proxy {url} ({origin}) accepts connections"),
        ),
        Err(error) => Check::new(
            Area::Network,
            State::Failed,
            format!("upstream proxy {url} ({origin}) cannot be reached: {error}"),
        )
        .code("ORL0211")
        .fix("start it, or go past it: --upstream-proxy off"),
    }]
}
