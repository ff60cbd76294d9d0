//! All ways to upstreams, each with the roots that are believed on it.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use traffic::Target;
use traffic::rules::upstream_proxy::{ProxyRules, Via};

use super::leg::{Hop, Leg, LegId};
use crate::config::{ClientCertificate, MinTlsVersion, ProxyScheme, UpstreamProxy, UpstreamTrust};
use crate::hops::Pseudonym;
use crate::tls::upstream_side::{SystemRoots, TrustError, UpstreamAlpn, UpstreamTls};

/// The ways to upstreams.
#[derive(Debug)]
pub(crate) struct Legs {
    pub(super) direct: Arc<Leg>,
    proxied: ProxyRules<Arc<Leg>>,
    /// By which what comes back is known.
    pub(super) pseudonym: Pseudonym,
}

impl Legs {
    /// Loads the roots of each leg. It reads files where the system's are asked for, and is to be
    /// called once for a configuration.
    pub(crate) fn new(
        proxies: ProxyRules<Arc<UpstreamProxy>>,
        trust: &UpstreamTrust,
        min: MinTlsVersion,
        certificates: &[ClientCertificate],
        pseudonym: Pseudonym,
    ) -> Result<Self, TrustError> {
        let system = SystemRoots::load(trust);
        let towards_upstreams = |extra_roots: &[CertificateDer<'static>]| {
            let mut trust = trust.clone();
            trust.extra_roots.extend_from_slice(extra_roots);
            let tls = UpstreamTls::with_system(&system, &trust)?;
            Ok(tls.at_least(min).showing(certificates.to_vec()))
        };
        let direct = Leg {
            id: LegId(0),
            tls: towards_upstreams(&[])?,
            proxy: None,
        };
        let mut made = 0;
        let proxied = proxies.try_map(|proxy| {
            made += 1;
            let own = match proxy.url.scheme {
                ProxyScheme::Https => {
                    let trust = UpstreamTrust {
                        system_roots: trust.system_roots,
                        extra_roots: proxy.roots.clone(),
                        danger_accept_invalid: Vec::new(),
                    };
                    let tls = UpstreamTls::with_system(&system, &trust)?.at_least(min);
                    Some(
                        tls.client_config(&proxy.url.address, UpstreamAlpn::Http11)
                            .0,
                    )
                }
                ProxyScheme::Http | ProxyScheme::Socks5 => None,
            };
            Ok(Arc::new(Leg {
                id: LegId(made),
                tls: towards_upstreams(&proxy.roots)?,
                proxy: Some(Hop::new(&proxy, own)),
            }))
        })?;
        let direct = Arc::new(direct);
        Ok(Self {
            direct,
            proxied,
            pseudonym,
        })
    }

    /// The way to a target.
    pub(super) fn to(&self, target: &Target) -> &Arc<Leg> {
        match self.proxied.via(target) {
            Via::Direct => &self.direct,
            Via::Proxy(leg) => leg,
        }
    }
}
