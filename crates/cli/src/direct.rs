//! What a child does past the proxy: its processes are looked at from time to time, so that a
//! summary can say what was seen, and not what is usually the case.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::bundle::TrustFiles;
use crate::config::proxy_variables::{HTTP_PROXY, NO_PROXY, PROXY};
use crate::limits::DIRECT_MAX;
use crate::overridden::Overridden;
use crate::sockets::{self, Socket, State};

/// All that was seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sightings {
    /// How often the processes were looked at.
    pub(crate) looks: u64,
    /// Connections past the proxy, by process.
    pub(crate) by_process: BTreeMap<u32, Process>,
    /// Processes that trust something else than they were told to.
    pub(crate) overridden: Overridden,
}

/// A process with connections past the proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) program: Option<PathBuf>,
    /// `None` if its environment cannot be read.
    pub(crate) variables: Option<ProxyVariables>,
    /// By socket, which tells two connections to one address apart.
    pub(crate) connections: BTreeMap<u64, SocketAddr>,
}

/// What a process was told of a proxy when it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProxyVariables {
    /// Whether any variable names one.
    pub(crate) proxy: bool,
    /// The list of what goes past it.
    pub(crate) no_proxy: Option<String>,
}

impl ProxyVariables {
    fn of(variables: &[String]) -> Self {
        let value = |names: &[&str]| {
            let mut set = variables.iter().filter_map(|one| one.split_once('='));
            let found = set.find(|(name, value)| names.contains(name) && !value.is_empty());
            found.map(|(_, value)| value.to_owned())
        };
        Self {
            proxy: value(&PROXY).or_else(|| value(&HTTP_PROXY)).is_some(),
            no_proxy: value(&NO_PROXY),
        }
    }
}

impl Process {
    /// Whom they went to.
    pub(crate) fn remotes(&self) -> BTreeSet<SocketAddr> {
        self.connections.values().copied().collect()
    }

    /// How many left this machine.
    fn outward(&self) -> usize {
        let leaves = |remote: &&SocketAddr| !remote.ip().is_loopback();
        self.connections.values().filter(leaves).count()
    }
}

impl Sightings {
    /// How many connections left this machine past the proxy; those to its own servers are no
    /// gap in what a run is about.
    pub(crate) fn outward(&self) -> usize {
        self.by_process.values().map(Process::outward).sum()
    }

    /// Looks at a child and what descends from it. `trust` is what they were told to trust.
    pub(crate) fn look(&mut self, child: u32, proxy: SocketAddr, trust: Option<&TrustFiles>) {
        self.looks += 1;
        if let Some(files) = trust {
            self.overridden.look(&sockets::family_of(child), files);
        }
        if self.by_process.len() >= DIRECT_MAX {
            return;
        }
        let sockets = outgoing(&sockets::of_network(child), proxy);
        if sockets.is_empty() {
            return;
        }
        for pid in sockets::family_of(child) {
            let held = sockets::inodes_of(pid);
            for socket in sockets.iter().filter(|socket| held.contains(&socket.inode)) {
                let process = self.by_process.entry(pid).or_insert_with(|| Process {
                    name: sockets::name_of(pid).unwrap_or_default(),
                    program: sockets::program_of(pid),
                    variables: sockets::variables_of(pid)
                        .as_deref()
                        .map(ProxyVariables::of),
                    ..Process::default()
                });
                if process.connections.len() < DIRECT_MAX {
                    process.connections.insert(socket.inode, socket.remote);
                }
            }
        }
    }
}

/// Connections that somebody on this machine opened, and not to the proxy.
fn outgoing(sockets: &[Socket], proxy: SocketAddr) -> Vec<Socket> {
    let listening: BTreeSet<u16> = sockets
        .iter()
        .filter(|socket| socket.state == State::Listening)
        .map(|socket| socket.local.port())
        .collect();
    sockets
        .iter()
        .filter(|socket| matches!(socket.state, State::Established | State::Connecting))
        .filter(|socket| socket.remote != proxy && socket.remote.port() != 0)
        .filter(|socket| !listening.contains(&socket.local.port()))
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(local: &str, remote: &str, state: State) -> Socket {
        Socket {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            state,
            uid: 1000,
            inode: 1,
        }
    }

    #[test]
    fn tells_what_goes_past_the_proxy() {
        let proxy = "127.0.0.1:6743".parse().unwrap();
        let sockets = [
            socket("127.0.0.1:40000", "127.0.0.1:6743", State::Established),
            socket("10.0.0.1:40001", "192.0.2.7:443", State::Established),
            socket("10.0.0.1:40002", "192.0.2.8:443", State::Connecting),
            socket("0.0.0.0:8080", "0.0.0.0:0", State::Listening),
            // Somebody who came to the child's own server.
            socket("127.0.0.1:8080", "127.0.0.1:40003", State::Established),
            socket("10.0.0.1:40004", "192.0.2.9:443", State::Other),
        ];
        let remotes: Vec<String> = outgoing(&sockets, proxy)
            .iter()
            .map(|socket| socket.remote.to_string())
            .collect();
        assert_eq!(remotes, ["192.0.2.7:443", "192.0.2.8:443"]);
    }

    #[test]
    fn knows_what_a_process_was_told_of_a_proxy() {
        let told = |variables: &[&str]| {
            let variables: Vec<String> = variables.iter().map(|one| (*one).to_owned()).collect();
            let told = ProxyVariables::of(&variables);
            (told.proxy, told.no_proxy)
        };
        assert_eq!(told(&["PATH=/bin", "X"]), (false, None));
        assert_eq!(told(&["HTTPS_PROXY=", "no_proxy="]), (false, None));
        let lists = ["http_proxy=http://a", "NO_PROXY=.b"];
        assert_eq!(told(&lists), (true, Some(".b".to_owned())));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn sees_a_connection_of_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _open = std::net::TcpStream::connect(address).unwrap();
        let mut sightings = Sightings::default();
        sightings.look(std::process::id(), "127.0.0.1:1".parse().unwrap(), None);
        let process = &sightings.by_process[&std::process::id()];
        assert!(process.remotes().contains(&address), "{process:?}");
        assert_eq!(sightings.outward(), 0);
    }
}
