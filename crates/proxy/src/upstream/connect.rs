//! New connections to upstreams: the way there, the handshake, and what is known of it then.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio_rustls::client::TlsStream as ClientTls;
use tokio_rustls::{Connect, TlsConnector, TlsStream};
use traffic::{
    Failure, FailureKind, Host, Side, Stage, Target, Timestamp, TlsFacts, UpstreamFacts, Version,
};

use super::leg::{Journey, Leg, Purpose};
use super::{Asker, Http1Upstream, Lease, Room, Speaks, Upstream, Upstreams};
use crate::clock;
use crate::http2::client::Http2Upstream;
use crate::stream::{Replay, Transport};
use crate::tls::settled;
use crate::tls::upstream_side::{self, UpstreamAlpn};

/// When and where a connection was made.
#[derive(Clone, Debug)]
pub(crate) struct Dialled {
    /// The proxy it goes through.
    proxy: Option<Arc<str>>,
    address: SocketAddr,
    local_address: SocketAddr,
    dial_started_at: Timestamp,
    connected_at: Timestamp,
}

impl Upstreams {
    /// Connects to a host without TLS.
    pub(super) async fn connect_plain(&self, upstream: &Upstream) -> Result<Lease, Failure> {
        let permit = match self.room(upstream).await? {
            Room::Free(permit) => permit,
            Room::Taken(lease) => return Ok(lease),
        };
        let purpose = match upstream.forwarded {
            Some(_) => Purpose::Forward,
            None => Purpose::Tunnel,
        };
        let target = &upstream.key.target;
        let journey = Journey {
            target,
            asker: &upstream.key.asker,
            pseudonym: &self.legs.pseudonym,
            purpose,
        };
        let (wire, dialled) = self.reach(&upstream.leg, journey).await?;
        let facts = dialled.facts(None, Some(Version::Http11));
        let transport = Transport::Plain(wire);
        upstream.learn(Speaks::Http1);
        Ok(Lease::Http1(Box::new(Http1Upstream::new(
            transport, facts, permit,
        ))))
    }

    /// Connects to a target as it is, for a tunnel.
    pub(crate) async fn tunnel_to(
        &self,
        target: &Target,
        asker: &Asker,
    ) -> Result<(Replay, Dialled), Failure> {
        let leg = self.legs.to(target);
        let journey = Journey {
            target,
            asker,
            pseudonym: &self.legs.pseudonym,
            purpose: Purpose::Tunnel,
        };
        // In a box, as in `connect`.
        Box::pin(self.reach(leg, journey)).await
    }

    async fn reach(&self, leg: &Leg, journey: Journey<'_>) -> Result<(Replay, Dialled), Failure> {
        let dial_started_at = clock::now();
        let reached = leg.reach(journey, &self.dialer, &self.timeouts).await;
        self.counters.dials.count(reached.is_ok());
        let reached = reached?;
        let dialled = Dialled {
            proxy: leg.proxy.as_ref().map(|hop| Arc::clone(&hop.name)),
            address: reached.address,
            local_address: reached.local_address,
            dial_started_at,
            connected_at: clock::now(),
        };
        Ok((reached.wire, dialled))
    }

    /// Connects with TLS, offering these protocols; what the host turns out to speak is remembered. The
    /// end of the handshake leaves with the first request; who has none to send, flushes.
    pub(super) async fn connect_tls(
        &self,
        upstream: &Upstream,
        alpn: UpstreamAlpn,
    ) -> Result<Lease, Refused> {
        let permit = match self.room(upstream).await? {
            Room::Free(permit) => permit,
            Room::Taken(lease) => return Ok(lease),
        };
        let (leg, target) = (&upstream.leg, &upstream.key.target);
        let journey = Journey {
            target,
            asker: &upstream.key.asker,
            pseudonym: &self.legs.pseudonym,
            purpose: Purpose::Tunnel,
        };
        let (mut wire, dialled) = self.reach(leg, journey).await?;
        wire.withhold_last_flight();
        let (config, danger) = leg.tls.client_config(target, alpn);
        let name = server_name(&upstream.key.server_name)?;
        let connecting = TlsConnector::from(config).connect(name, wire);
        let mut tls = self.handshake(connecting, &dialled, target).await?;
        tls.get_mut().0.send_last_flight_with_next();
        let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let sni = upstream.key.server_name.name();
        let session = tls.get_ref().1;
        let chain = session.peer_certificates();
        let tls_facts = TlsFacts {
            certificate: chain.and_then(|chain| self.certificates.facts(chain)),
            danger_unverified: danger,
            ..settled::facts(session, sni)
        };
        let version = if is_http2 {
            Version::Http2
        } else {
            Version::Http11
        };
        let facts = dialled.facts(Some(tls_facts), Some(version));
        let transport = Transport::Tls(Box::new(TlsStream::Client(tls)));
        if !is_http2 {
            // A host that was asked for HTTP/1.1 alone has not said what else it speaks.
            if alpn == UpstreamAlpn::Both {
                upstream.learn(Speaks::Http1);
            }
            return Ok(Lease::Http1(Box::new(Http1Upstream::new(
                transport, facts, permit,
            ))));
        }
        let shared = Http2Upstream::connect(transport, facts, permit, &self.timeouts, &self.tasks);
        let shared = Arc::new(shared.await?);
        upstream.share(&shared);
        Ok(Lease::Http2(shared))
    }

    /// Waits for a handshake, as long as one may take.
    async fn handshake(
        &self,
        connecting: Connect<Replay>,
        dialled: &Dialled,
        target: &Target,
    ) -> Result<ClientTls<Replay>, Refused> {
        let handshake = tokio::time::timeout(self.timeouts.tls, connecting).await;
        let is_tls = matches!(handshake, Ok(Ok(_)));
        self.counters.upstream_handshakes.count(is_tls);
        match handshake {
            Ok(Ok(tls)) => Ok(tls),
            Ok(Err(error)) => {
                let (kind, text) = upstream_side::describe(&error);
                let text = format!("{}: {text}", dialled.describe(target));
                Err(Refused {
                    failure: failure(kind, text),
                    alpn: is_about_alpn(&error),
                })
            }
            Err(_) => {
                let text = format!(
                    "{} did not finish the TLS handshake within {} s",
                    dialled.describe(target),
                    self.timeouts.tls.as_secs_f32()
                );
                Err(failure(FailureKind::TimedOut, text).into())
            }
        }
    }
}

impl Dialled {
    /// The target with the way to it, in words.
    fn describe(&self, target: &Target) -> String {
        match &self.proxy {
            Some(proxy) => format!("{target} through {proxy}"),
            None => target.to_string(),
        }
    }

    /// What is known of the connection.
    pub(crate) fn facts(
        self,
        tls: Option<TlsFacts>,
        version: Option<Version>,
    ) -> Arc<UpstreamFacts> {
        Arc::new(UpstreamFacts {
            proxy: self.proxy,
            address: self.address,
            local_address: self.local_address,
            dial_started_at: self.dial_started_at,
            connected_at: self.connected_at,
            tls_done_at: tls.is_some().then(clock::now),
            tls,
            version,
        })
    }
}

/// Why no TLS connection came about.
pub(super) struct Refused {
    pub(super) failure: Failure,
    /// True if the upstream speaks none of the protocols offered (RFC 7301 section 3.2).
    pub(super) alpn: bool,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            alpn: false,
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        refused.failure
    }
}

fn is_about_alpn(error: &std::io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let alert = rustls::AlertDescription::NoApplicationProtocol;
    matches!(inner, Some(rustls::Error::AlertReceived(known)) if *known == alert)
}

pub(super) fn server_name(host: &Host) -> Result<ServerName<'static>, Failure> {
    match host {
        Host::Ip(ip) => Ok(ServerName::IpAddress((*ip).into())),
        Host::Name(name) => ServerName::try_from(name.to_string()).map_err(|error| {
            failure(
                FailureKind::CertificateInvalid,
                format!("{name} is no name for TLS: {error}"),
            )
        }),
    }
}

fn failure(kind: FailureKind, text: String) -> Failure {
    Failure {
        side: Side::Upstream,
        stage: Stage::Tls,
        kind,
        text,
    }
}
