//! TLS on a listener itself: the certificate is for oriel, whatever name the client asks for.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use traffic::Host;

use super::client_side::{ClientAlpn, Clock, base_config};
use super::identity::Identity;
use super::leaf::{Leaf, LeafCache, LeafError};
use crate::config::MinTlsVersion;

/// What a listener shows its clients.
#[derive(Clone, Debug)]
pub enum ListenerTls {
    /// A certificate for these names, at least one, signed by oriel's authority and renewed in time.
    Minted(Vec<Host>),
    /// A certificate from elsewhere.
    Given(Identity),
}

/// The configurations for the clients of one listener: one for each ALPN choice.
#[derive(Debug)]
pub(crate) struct ListenerSide {
    http11: Arc<ServerConfig>,
    both: Arc<ServerConfig>,
    none: Arc<ServerConfig>,
}

impl ListenerSide {
    /// A minted certificate is made at once, so that what cannot be made is known at start.
    pub(crate) fn new(
        tls: &ListenerTls,
        leaves: &Arc<LeafCache>,
        clock: Clock,
        min: MinTlsVersion,
    ) -> Result<Self, LeafError> {
        let base = match tls {
            ListenerTls::Minted(names) => {
                let minted = Minted {
                    leaves: Arc::clone(leaves),
                    clock,
                    names: names.clone(),
                    leaf: Mutex::default(),
                };
                minted.current()?;
                base_config(Arc::new(minted), min)
            }
            ListenerTls::Given(identity) => base_config(identity.resolver(), min),
        };
        let with_alpn = |alpn: ClientAlpn| {
            let mut config = base.clone();
            config.alpn_protocols = alpn.protocols();
            Arc::new(config)
        };
        Ok(Self {
            http11: with_alpn(ClientAlpn::Http11),
            both: with_alpn(ClientAlpn::Both),
            none: with_alpn(ClientAlpn::None),
        })
    }

    pub(crate) fn server_config(&self, alpn: ClientAlpn) -> Arc<ServerConfig> {
        Arc::clone(match alpn {
            ClientAlpn::Http11 => &self.http11,
            ClientAlpn::Http2 | ClientAlpn::Both => &self.both,
            ClientAlpn::None => &self.none,
        })
    }
}

/// Shows one leaf for all names, and mints it anew before it ends.
#[derive(Debug)]
struct Minted {
    leaves: Arc<LeafCache>,
    clock: Clock,
    names: Vec<Host>,
    leaf: Mutex<Option<Leaf>>,
}

impl Minted {
    fn current(&self) -> Result<Arc<CertifiedKey>, LeafError> {
        let mut leaf = self.leaf.lock();
        self.leaves.renew(&mut leaf, &self.names, (self.clock)())
    }
}

impl ResolvesServerCert for Minted {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current();
        current
            .inspect_err(|error| tracing::error!(%error, "no certificate for a listener"))
            .ok()
    }
}

#[cfg(test)]
mod tests;
