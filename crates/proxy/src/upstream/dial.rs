//! The only place that connects: resolves a name, tries its addresses, refuses our own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use traffic::rules::private::{DialGuard, Reach};
use traffic::{ClientAddress, Failure, FailureKind, Host, Side, Stage, Target};

use super::resolve::Resolver;
use crate::limits::{DIAL_ADDRESSES_MAX, DIAL_STAGGER, UPSTREAM_KEEPALIVE};

/// Connects to upstreams.
#[derive(Debug)]
pub(crate) struct Dialer {
    own: Vec<SocketAddr>,
    guard: DialGuard,
    limit: Duration,
    again: Option<Duration>,
    resolver: Resolver,
}

impl Dialer {
    /// `own` are the addresses that are never dialled; `limit` bounds resolution and all attempts
    /// together. After the pause `again`, a target that refused is tried once more.
    pub(crate) fn new(
        own: Vec<SocketAddr>,
        guard: DialGuard,
        limit: Duration,
        again: Option<Duration>,
    ) -> Self {
        Self {
            own,
            guard,
            limit,
            again,
            resolver: Resolver::default(),
        }
    }

    /// What a client may have dialled.
    pub(crate) fn reach_of(&self, client: ClientAddress) -> Reach {
        self.guard.reach(client)
    }

    /// Why a target that is an address is not asked for through a proxy. What address a name has
    /// there, nobody here knows.
    pub(crate) fn refuse_address(&self, target: &Target, reach: Reach) -> Result<(), Failure> {
        match target.host {
            Host::Ip(ip) => self.refuse_private(target, ip, reach),
            Host::Name(_) => Ok(()),
        }
    }

    /// Connects to the first address of the target that answers (RFC 8305).
    ///
    /// Dropping it abandons all attempts.
    pub(crate) async fn dial(&self, target: &Target, reach: Reach) -> Result<TcpStream, Failure> {
        match tokio::time::timeout(self.limit, self.attempts(target, reach)).await {
            Ok(result) => result,
            Err(_) => Err(failure(
                Stage::Dial,
                FailureKind::TimedOut,
                format!(
                    "no connection to {target} within {} s",
                    self.limit.as_secs_f32()
                ),
            )),
        }
    }

    async fn attempts(&self, target: &Target, reach: Reach) -> Result<TcpStream, Failure> {
        match (self.attempt(target, reach).await, self.again) {
            (Err(failure), Some(pause)) if failure.kind == FailureKind::Refused => {
                tokio::time::sleep(pause).await;
                self.attempt(target, reach).await
            }
            (result, _) => result,
        }
    }

    async fn attempt(&self, target: &Target, reach: Reach) -> Result<TcpStream, Failure> {
        let addresses = self.resolve(target).await?;
        for address in &addresses {
            self.refuse_own(target, *address)?;
            // One private address among public ones is no mistake but an attempt.
            self.refuse_private(target, address.ip(), reach)?;
        }
        connect_first(target, &addresses).await
    }

    async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, Failure> {
        let name = match &target.host {
            Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, target.port)]),
            Host::Name(name) => name,
        };
        let addresses = self.resolver.addresses(name).await.map_err(|error| {
            failure(
                Stage::Resolve,
                FailureKind::NameNotResolved,
                format!("{name} cannot be resolved: {error}"),
            )
        })?;
        let mut addresses = addresses.to_vec();
        for address in &mut addresses {
            address.set_port(target.port);
        }
        Ok(addresses)
    }

    fn refuse_private(&self, target: &Target, ip: IpAddr, reach: Reach) -> Result<(), Failure> {
        let Some(kind) = self.guard.denies(reach, target, ip) else {
            return Ok(());
        };
        Err(Failure {
            side: Side::Oriel,
            stage: Stage::Dial,
            kind: FailureKind::AddressDenied,
            text: match target.host {
                Host::Ip(_) => {
                    format!("{target} is {kind}, and clients may not reach such addresses")
                }
                Host::Name(_) => {
                    format!(
                        "{target} has an address that is {kind}, and clients may not reach such"
                    )
                }
            },
        })
    }

    /// Says whether the target names oriel itself without asking the resolver, so that a client
    /// can be told before anything else happens.
    pub(crate) fn is_own(&self, target: &Target) -> bool {
        match &target.host {
            Host::Ip(ip) => self.owns(SocketAddr::new(*ip, target.port)),
            Host::Name(_) if target.host.is_loopback() => [
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ]
            .into_iter()
            .any(|ip| self.owns(SocketAddr::new(ip, target.port))),
            Host::Name(_) => false,
        }
    }

    fn refuse_own(&self, target: &Target, address: SocketAddr) -> Result<(), Failure> {
        if !self.owns(address) {
            return Ok(());
        }
        Err(Failure {
            side: Side::Oriel,
            stage: Stage::Dial,
            kind: FailureKind::Loop,
            text: format!("{target} is oriel itself ({address})"),
        })
    }

    fn owns(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.own
            .iter()
            .filter(|own| own.port() == address.port())
            .any(|own| {
                let own = own.ip().to_canonical();
                // A connection to the unspecified address reaches the loopback one.
                own == ip
                    || (ip.is_unspecified() && own.is_loopback())
                    || (own.is_unspecified() && is_local(ip))
            })
    }
}

/// Connects to whichever address answers first, trying one after the other (RFC 8305 section 5).
async fn connect_first(target: &Target, addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    let mut waiting = interleave(addresses).into_iter();
    let attempt = |address| async move { connect(address).await.map_err(|error| (address, error)) };
    let mut attempts: FuturesUnordered<_> = waiting.next().map(attempt).into_iter().collect();
    let mut last = None;
    while !attempts.is_empty() {
        tokio::select! {
            Some(result) = attempts.next() => match result {
                Ok(stream) => return Ok(stream),
                // The next one is tried at once (RFC 8305 section 5).
                Err(error) => last = Some(error),
            },
            () = tokio::time::sleep(DIAL_STAGGER), if waiting.len() > 0 => {}
        }
        attempts.extend(waiting.next().map(attempt));
    }
    Err(match last {
        Some((address, error)) => from_connect(target, address, &error),
        None => failure(
            Stage::Resolve,
            FailureKind::NameNotResolved,
            format!("{} has no address", target.host),
        ),
    })
}

/// True if the address is one of this machine's: only those can be bound.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

/// The families in turn, beginning with the one that the resolver prefers (RFC 8305 section 4).
fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let prefers_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .iter()
        .partition(|address| address.is_ipv6() == prefers_v6);
    let mut mixed = Vec::with_capacity(addresses.len());
    let mut second = second.into_iter();
    for address in first {
        mixed.push(address);
        mixed.extend(second.next());
    }
    mixed.extend(second);
    mixed.truncate(DIAL_ADDRESSES_MAX);
    mixed
}

#[expect(clippy::disallowed_methods, reason = "the one place that connects")]
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Waiting for more to send costs 40 ms where the peer delays its acknowledgement.
    stream.set_nodelay(true)?;
    // A connection whose path has died is noticed while nothing is sent, and while nothing that
    // was sent is acknowledged.
    let socket = socket2::SockRef::from(&stream);
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(UPSTREAM_KEEPALIVE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(crate::limits::UPSTREAM_UNACKNOWLEDGED))?;
    Ok(stream)
}

fn from_connect(target: &Target, address: SocketAddr, error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused => FailureKind::Refused,
        io::ErrorKind::ConnectionReset => FailureKind::Reset,
        io::ErrorKind::TimedOut => FailureKind::TimedOut,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => FailureKind::Unreachable,
        _ => FailureKind::Io,
    };
    failure(
        Stage::Dial,
        kind,
        format!("cannot connect to {target} at {address}: {error}"),
    )
}

fn failure(stage: Stage, kind: FailureKind, text: String) -> Failure {
    Failure {
        side: Side::Upstream,
        stage,
        kind,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialer(own: &str) -> Dialer {
        let own = vec![own.parse().unwrap()];
        Dialer::new(own, DialGuard::default(), Duration::from_secs(1), None)
    }

    #[test]
    fn knows_its_own_addresses() {
        let is_own =
            |own: &str, target: &str| dialer(own).is_own(&Target::parse_with_port(target).unwrap());
        for target in [
            "127.0.0.1:6743",
            "localhost:6743",
            "0.0.0.0:6743",
            "[::ffff:127.0.0.1]:6743",
        ] {
            assert!(is_own("127.0.0.1:6743", target), "{target}");
        }
        for target in ["127.0.0.1:6742", "127.0.0.2:6743", "example.com:6743"] {
            assert!(!is_own("127.0.0.1:6743", target), "{target}");
        }
        assert!(is_own("0.0.0.0:6743", "127.0.0.2:6743"));
    }

    #[test]
    fn mixes_address_families() {
        let addresses: Vec<SocketAddr> = ["[::1]:1", "[::2]:1", "1.1.1.1:1", "1.1.1.2:1"]
            .map(|text| text.parse().unwrap())
            .into();
        let mixed: Vec<String> = interleave(&addresses)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(mixed, ["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1"]);
    }

    #[tokio::test]
    async fn refuses_itself_after_resolving() {
        let error = dialer("127.0.0.1:9")
            .dial(&Target::parse("localhost:9", 0).unwrap(), Reach::Everywhere)
            .await;
        assert_eq!(error.unwrap_err().kind, FailureKind::Loop);
    }

    #[tokio::test]
    async fn a_name_is_judged_by_its_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialer = dialer("192.0.2.1:9");
        for host in ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]"] {
            let target = Target::parse(&format!("{host}:{port}"), 0).unwrap();
            let error = dialer.dial(&target, Reach::Public).await.unwrap_err();
            assert_eq!(error.kind, FailureKind::AddressDenied, "{host}");
            assert!(
                dialer.dial(&target, Reach::Everywhere).await.is_ok(),
                "{host}"
            );
        }
    }

    #[tokio::test]
    async fn a_refused_address_costs_no_time() {
        let refusing = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut addresses: Vec<SocketAddr> = (1..DIAL_ADDRESSES_MAX).map(|_| refusing()).collect();
        addresses.push(listener.local_addr().unwrap());
        let begun = tokio::time::Instant::now();
        let target = Target::parse("a.example", 443).unwrap();
        let stream = connect_first(&target, &addresses).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        // Waiting for each would take longer than a second and a half.
        assert!(begun.elapsed() < 3 * DIAL_STAGGER, "{:?}", begun.elapsed());
    }
}
