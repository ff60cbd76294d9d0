//! The engine as a library, to measure what a handler costs: with none, with one that does nothing
//! but is asked and told everything, and with one that reads the heads of requests.

use std::net::SocketAddr;
use std::sync::Arc;

use proxy::config::{
    AltSvc, ConnectPorts, Governor, Listener, MinTlsVersion, Pool, ProxyConfig, SniMismatch,
    Timeouts, UpstreamTrust,
};
use proxy::handler::{HandlerDecision, HandlerLimits, InterceptHandler, Interests, RawRequest};
use proxy::{Authority, Proxy};
use testbed::authority::certificates_from_pem;
use traffic::rules::gateway::GatewayRoutes;
use traffic::rules::private::DialGuard;
use traffic::rules::route::{RouteConfig, Rules, Unlisted};
use traffic::rules::upstream_proxy::ProxyRules;

use super::material::Material;
use crate::failure::Failure;

/// Which handler the engine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handling {
    None,
    Noop,
    Heads,
}

impl Handling {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "engine",
            Self::Noop => "handler-noop",
            Self::Heads => "handler-heads",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        let all = [Self::None, Self::Noop, Self::Heads];
        all.into_iter().find(|handling| handling.name() == name)
    }
}

/// Has nothing but the defaults.
struct Noop;

impl InterceptHandler for Noop {}

/// Refuses requests without credentials, as a policy would.
struct Heads;

impl InterceptHandler for Heads {
    fn interests(&self) -> Interests {
        Interests::REQUEST_HEADS
    }

    async fn on_request(&self, request: &RawRequest) -> HandlerDecision {
        let is_known = request.method == "GET"
            && request.path.starts_with('/')
            && request.headers.contains_key("authorization");
        if is_known {
            return HandlerDecision::Allow;
        }
        HandlerDecision::Block {
            status: 403,
            body: "not known".into(),
        }
    }
}

/// Serves until the process is ended.
pub(super) async fn serve(
    listen: SocketAddr,
    material: &Material,
    handling: Handling,
) -> Result<(), Failure> {
    let config = config(listen, material)?;
    let proxy = match handling {
        Handling::None => Proxy::bind(config, None).await?,
        Handling::Noop => Proxy::bind_with_handler(config, Noop, None).await?,
        Handling::Heads => Proxy::bind_with_handler(config, Heads, None).await?,
    };
    proxy.serve(std::future::pending()).await;
    Ok(())
}

fn config(listen: SocketAddr, material: &Material) -> Result<ProxyConfig, Failure> {
    let rules = Rules::compile(&RouteConfig {
        intercept: vec!["*.bench.test".to_owned()],
        bypass: Vec::new(),
        unlisted: Unlisted::Tunnel,
        ip_targets: true,
    })?;
    let authority = Authority::load(&material.path("ca.pem"), &material.path("ca.key"))?;
    Ok(ProxyConfig {
        listeners: vec![Listener::forward(listen)],
        rules: Arc::new(rules),
        authority: Arc::new(authority),
        upstream_trust: UpstreamTrust {
            system_roots: false,
            extra_roots: certificates_from_pem(material.read("upstream-ca.pem")?.as_bytes())?,
            danger_accept_invalid: Vec::new(),
        },
        upstream_proxies: ProxyRules::default(),
        gateways: GatewayRoutes::default(),
        dial_guard: DialGuard::default(),
        local_site: None,
        min_tls_version: MinTlsVersion::default(),
        connect_ports: ConnectPorts::Any,
        own_addresses: Vec::new(),
        body_bytes_kept: 0,
        timeouts: Timeouts::default(),
        dial_again: None,
        pool: Pool::default(),
        client_certificates: Vec::new(),
        sni_mismatch: SniMismatch::Allow,
        rejections: proxy::Rejections::default(),
        alt_svc: AltSvc::default(),
        attribution: None,
        governor: Governor::default(),
        handler: HandlerLimits::default(),
    })
}
