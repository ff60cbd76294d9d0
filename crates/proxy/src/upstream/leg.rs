//! The leg between oriel and upstreams: dialled directly, or through a proxy that is asked for the
//! target. Each leg believes its own roots, and only its proxy hears its credentials.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};
use traffic::rules::private::Reach;
use traffic::secret::Secret;
use traffic::{Failure, FailureKind, Scheme, Side, Stage, Target};

use super::connect::server_name;
use super::dial::Dialer;
use super::nesting::Nesting;
use super::{Asker, http_connect, socks5};
use crate::config::{ProxyScheme, Timeouts, UpstreamProxy};
use crate::error;
use crate::hops::{Hops, Pseudonym};
use crate::stream::{Replay, Wire};
use crate::tls::upstream_side::{self, UpstreamTls};

/// Tells the legs of one engine apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LegId(pub(crate) usize);

/// A way to upstreams.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) id: LegId,
    /// What is believed of upstreams that are reached by it.
    pub(crate) tls: UpstreamTls,
    pub(crate) proxy: Option<Hop>,
}

/// A proxy on the way.
#[derive(Debug)]
pub(crate) struct Hop {
    address: Target,
    speaks: Speech,
    /// Its URL, as people and records see it.
    pub(crate) name: Arc<str>,
}

/// What is spoken with a proxy, and what it is told of us.
#[derive(Debug)]
enum Speech {
    Http {
        /// The configuration of TLS with the proxy itself.
        tls: Option<Arc<ClientConfig>>,
        /// The value of the `Proxy-Authorization` field.
        authorization: Option<Secret<String>>,
    },
    Socks5 {
        credentials: Option<Secret<Vec<u8>>>,
        nesting: Nesting,
    },
}

/// How requests in plain HTTP are sent through an HTTP proxy: for a whole URL (RFC 9112 section
/// 3.2.2), with the credentials in each.
#[derive(Debug)]
pub(crate) struct Forwarded {
    /// The start of each URL, without a path: `http://a.example:8080`.
    pub(crate) origin: String,
    /// A line of the head, with its end.
    authorization: Option<Secret<String>>,
    /// The proxy.
    name: Arc<str>,
    pseudonym: Pseudonym,
    /// What requests came through that do not say it themselves.
    hops: Hops,
}

/// A connection that leads to a target.
pub(crate) struct Reached {
    pub(crate) wire: Replay,
    /// The address dialled: the target's or the proxy's.
    pub(crate) address: SocketAddr,
    pub(crate) local_address: SocketAddr,
}

/// Where a connection is to lead, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Journey<'a> {
    pub(crate) target: &'a Target,
    pub(crate) asker: &'a Asker,
    /// Of this engine.
    pub(crate) pseudonym: &'a Pseudonym,
    pub(crate) purpose: Purpose,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Bytes of the target's own.
    Tunnel,
    /// Requests in plain HTTP that name their target each.
    Forward,
}

/// Why a proxy does not lead to the target: a kind, and what the proxy did.
#[derive(Debug)]
pub(crate) struct Unreached {
    kind: FailureKind,
    text: String,
}

impl Leg {
    /// Whether there is a proxy on the way that is told what a request came through.
    pub(super) fn tells_hops(&self) -> bool {
        let speaks = self.proxy.as_ref().map(|hop| &hop.speaks);
        matches!(speaks, Some(Speech::Http { .. }))
    }

    /// How requests in plain HTTP to this target are sent, unless as to the target itself.
    pub(super) fn forwarded(
        &self,
        target: &Target,
        hops: &Hops,
        pseudonym: &Pseudonym,
    ) -> Option<Forwarded> {
        let hop = self.proxy.as_ref()?;
        let Speech::Http { authorization, .. } = &hop.speaks else {
            return None;
        };
        let line = |value: &Secret<String>| {
            Secret::new(format!("Proxy-Authorization: {}\r\n", value.reveal()))
        };
        Some(Forwarded {
            origin: format!("http://{}", target.authority(Scheme::Http)),
            authorization: authorization.as_ref().map(line),
            name: Arc::clone(&hop.name),
            pseudonym: pseudonym.clone(),
            hops: hops.clone(),
        })
    }

    /// Makes a connection that leads to the target. The proxy, if there is one, has agreed to it
    /// by then; names are resolved by it and not here.
    ///
    /// Dropping it abandons the connection.
    pub(crate) async fn reach(
        &self,
        journey: Journey<'_>,
        dialer: &Dialer,
        timeouts: &Timeouts,
    ) -> Result<Reached, Failure> {
        let Journey { target, asker, .. } = journey;
        let Some(hop) = &self.proxy else {
            let stream = dialer.dial(target, asker.reach).await?;
            return Reached::new(stream, target);
        };
        dialer.refuse_address(target, asker.reach)?;
        let reaching = hop.reach(journey, dialer, timeouts);
        match &hop.speaks {
            Speech::Http { .. } => reaching.await,
            // In a box, so that it is not held twice.
            Speech::Socks5 { nesting, .. } => {
                nesting.watch(target, &hop.name, Box::pin(reaching)).await
            }
        }
    }
}

impl Hop {
    /// `tls` is what is believed of the proxy itself.
    pub(crate) fn new(proxy: &UpstreamProxy, tls: Option<Arc<ClientConfig>>) -> Self {
        let credentials = proxy.credentials.as_ref();
        let speaks = match proxy.url.scheme {
            ProxyScheme::Http | ProxyScheme::Https => Speech::Http {
                tls,
                authorization: credentials.map(|known| known.field_value()),
            },
            ProxyScheme::Socks5 => Speech::Socks5 {
                credentials: credentials.and_then(|known| known.socks5_message()),
                nesting: Nesting::default(),
            },
        };
        Self {
            address: proxy.url.address.clone(),
            speaks,
            name: proxy.url.to_string().into(),
        }
    }

    /// Connects to the proxy and has it agree to the target.
    async fn reach(
        &self,
        Journey {
            target,
            asker,
            pseudonym,
            purpose,
        }: Journey<'_>,
        dialer: &Dialer,
        timeouts: &Timeouts,
    ) -> Result<Reached, Failure> {
        let stream = dialer
            .dial(&self.address, Reach::Everywhere)
            .await
            .map_err(|mut failure| {
                // A loop is ours, and of another kind.
                if failure.side == Side::Upstream {
                    failure.stage = Stage::UpstreamProxy;
                }
                failure.text = format!("upstream proxy {}: {}", self.name, failure.text);
                failure
            })?;
        let mut reached = Reached::new(stream, &self.address)?;
        reached.wire = self.secure(reached.wire, timeouts.tls).await?;
        let limit = timeouts.connect;
        let via = pseudonym.connect_line(&asker.hops);
        self.ask(&mut reached.wire, target, purpose, &via, limit)
            .await?;
        Ok(reached)
    }

    /// Asks the proxy for the target, unless each request will.
    async fn ask(
        &self,
        wire: &mut Replay,
        target: &Target,
        purpose: Purpose,
        via: &str,
        limit: Duration,
    ) -> Result<(), Failure> {
        let asked = match (&self.speaks, purpose) {
            (Speech::Http { .. }, Purpose::Forward) => return Ok(()),
            (Speech::Http { authorization, .. }, Purpose::Tunnel) => {
                let ask = http_connect::ask(wire, target, authorization.as_ref(), via);
                tokio::time::timeout(limit, ask).await
            }
            (Speech::Socks5 { credentials, .. }, _) => {
                let ask = socks5::ask(wire, target, credentials.as_ref());
                tokio::time::timeout(limit, ask).await
            }
        };
        let unreached = match asked {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(unreached)) => unreached,
            Err(_elapsed) => {
                let seconds = limit.as_secs_f32();
                let text = format!("did not connect to {target} within {seconds} s");
                Unreached::new(FailureKind::TimedOut, text)
            }
        };
        Err(unreached.by(&self.name))
    }

    /// Speaks TLS with the proxy, if that is what it speaks.
    async fn secure(&self, wire: Replay, limit: Duration) -> Result<Replay, Failure> {
        let Speech::Http {
            tls: Some(config), ..
        } = &self.speaks
        else {
            return Ok(wire);
        };
        let name: ServerName<'static> = server_name(&self.address.host)?;
        let handshake = TlsConnector::from(Arc::clone(config)).connect(name, wire);
        let unreached = match tokio::time::timeout(limit, handshake).await {
            Ok(Ok(tls)) => {
                let tls = Box::new(TlsStream::Client(tls));
                return Ok(Replay::new(Wire::Tls(tls)));
            }
            Ok(Err(error)) => {
                let (kind, text) = upstream_side::describe(&error);
                Unreached::new(kind, format!("cannot be trusted with TLS: {text}"))
            }
            Err(_elapsed) => {
                let seconds = limit.as_secs_f32();
                let text = format!("did not finish the TLS handshake within {seconds} s");
                Unreached::new(FailureKind::TimedOut, text)
            }
        };
        Err(unreached.by(&self.name))
    }
}

impl Reached {
    fn new(stream: TcpStream, target: &Target) -> Result<Self, Failure> {
        let addresses = stream
            .peer_addr()
            .and_then(|peer| Ok((peer, stream.local_addr()?)));
        let (address, local_address) = addresses.map_err(|error| {
            let text = format!("{target} closed the connection at once: {error}");
            error::failure(Side::Upstream, Stage::Dial, FailureKind::Reset, text)
        })?;
        Ok(Self {
            wire: Replay::new(Wire::Tcp(stream)),
            address,
            local_address,
        })
    }
}

impl Forwarded {
    /// Writes the lines of a request that are for the proxy alone. `hops` is what the request itself
    /// says that it came through.
    pub(crate) fn write_own_lines(&self, hops: &Hops, out: &mut Vec<u8>) {
        if let Some(line) = &self.authorization {
            out.extend_from_slice(line.reveal().as_bytes());
        }
        let hops = match hops.is_empty() {
            true => &self.hops,
            false => hops,
        };
        out.extend_from_slice(self.pseudonym.plain_lines(hops).as_bytes());
    }

    /// The failure of a request that the proxy answered with 407: it is oriel that it asks, and not
    /// its client.
    pub(crate) fn unauthorized<'a>(
        &self,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Failure {
        let challenges = http_connect::challenges(fields);
        http_connect::unauthorized(self.authorization.is_some(), &challenges).by(&self.name)
    }
}

impl Unreached {
    pub(super) fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    /// The failure, with the proxy that it is about.
    fn by(self, proxy: &str) -> Failure {
        let Self { kind, text } = self;
        let text = format!("the upstream proxy {proxy} {text}");
        error::failure(Side::Upstream, Stage::UpstreamProxy, kind, text)
    }
}

impl From<io::Error> for Unreached {
    fn from(error: io::Error) -> Self {
        let kind = FailureKind::UpstreamProxyFailed;
        Self::new(kind, format!("broke the connection: {error}"))
    }
}

#[cfg(test)]
mod tests;
