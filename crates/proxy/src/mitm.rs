//! The proxy as a part of another program: one configuration, one handler, one handle.
//!
//! Where it stands: over the engine, which it configures and runs. Whoever needs more than this
//! uses [`Proxy`] itself.
//!
//! ```
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use oriel_proxy::{HandlerDecision, InterceptHandler, MitmConfig, MitmProxyBuilder, RawRequest};
//!
//! struct NoAdmin;
//!
//! impl InterceptHandler for NoAdmin {
//!     async fn on_request(&self, request: &RawRequest) -> HandlerDecision {
//!         match request.path.starts_with("/admin") {
//!             true => HandlerDecision::Block {
//!                 status: 403,
//!                 body: Bytes::from_static(b"not from here"),
//!             },
//!             false => HandlerDecision::Allow,
//!         }
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let mut config = MitmConfig::default();
//! config.bind = "127.0.0.1:0".parse()?;
//! config.interception.destinations.push("api.example.com:443".to_string());
//! # config.tls.ca_cert_path = folder.path().join("ca.pem");
//! # config.tls.ca_key_path = folder.path().join("ca-key.pem");
//!
//! let proxy = MitmProxyBuilder::new(config, NoAdmin).build()?;
//! let handle = proxy.start().await?;
//! println!("listening on {}", handle.local_address());
//! handle.shutdown(Duration::from_secs(2)).await?;
//! # Ok(())
//! # }
//! ```

mod authority;
pub mod config;
mod error;
mod handle;

use std::sync::Arc;
use std::time::Duration;

use traffic::ListenAddress;
use traffic::rules::gateway::GatewayRoutes;
use traffic::rules::private::DialGuard;
use traffic::rules::route::{RouteConfig, Rules, Unlisted};
use traffic::rules::upstream_proxy::ProxyRules;

pub use config::MitmConfig;
pub use error::{InvalidConfig, InvalidField, MitmError};
pub use handle::MitmProxyHandle;

use crate::accept::Proxy;
use crate::config::{
    AltSvc, ConnectPorts, Governor, Listener, Pool, ProxyConfig, Rejections, SniMismatch, Timeouts,
    UpstreamTrust,
};
use crate::handler::{HandlerLimits, InterceptHandler};
use crate::shutdown::asked_to_end;
use crate::tls::authority::Authority;

/// Makes a proxy of a configuration and a handler.
#[derive(Debug)]
pub struct MitmProxyBuilder<H> {
    config: MitmConfig,
    handler: H,
}

/// A proxy that is ready to start.
#[derive(Debug)]
pub struct MitmProxy<H> {
    config: MitmConfig,
    engine: ProxyConfig,
    handler: H,
}

impl<H: InterceptHandler> MitmProxyBuilder<H> {
    /// Nothing is checked, read or opened yet.
    pub fn new(config: MitmConfig, handler: H) -> Self {
        Self { config, handler }
    }

    /// Checks the configuration and reads the authority, or makes it where there is none.
    ///
    /// # Errors
    /// Names every field that is wrong; or says why there is no authority.
    pub fn build(self) -> Result<MitmProxy<H>, MitmError> {
        let Self { config, handler } = self;
        config.validate()?;
        let authority = authority::load_or_make(&config.tls)?;
        let engine = engine_config(&config, Arc::new(authority))?;
        Ok(MitmProxy {
            config,
            engine,
            handler,
        })
    }
}

impl<H: InterceptHandler> MitmProxy<H> {
    /// Serves until the process is asked to end (SIGINT or SIGTERM), then lets flows end for at
    /// most ten seconds. What is left then is cut, which is no error here.
    ///
    /// Dropping it cuts every connection at once.
    ///
    /// # Errors
    /// If it cannot listen, or signals cannot be waited for.
    pub async fn run(self) -> Result<(), MitmError> {
        let stop = asked_to_end().map_err(MitmError::Signals)?;
        let proxy = Proxy::bind_with_handler(self.engine, self.handler, None).await?;
        let drained = proxy.serve(stop).await;
        tracing::info!(?drained, "stopped");
        Ok(())
    }

    /// Begins to serve, in tasks of its own on the current runtime, and hands out what it is
    /// steered by.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(self) -> Result<MitmProxyHandle, MitmError> {
        let authority = Arc::clone(&self.engine.authority);
        let proxy = Proxy::bind_with_handler(self.engine, self.handler, None).await?;
        Ok(MitmProxyHandle::serve(proxy, self.config, authority))
    }
}

fn listeners(config: &MitmConfig) -> Vec<Listener> {
    let tcp = Listener::forward(config.bind);
    let unix = config.unix_socket_path.clone().map(ListenAddress::Unix);
    let unix = unix.map(Listener::forward);
    std::iter::once(tcp).chain(unix).collect()
}

/// What the engine is to be told.
fn engine_config(config: &MitmConfig, authority: Arc<Authority>) -> Result<ProxyConfig, MitmError> {
    let rules = Rules::compile(&RouteConfig {
        intercept: config.interception.destinations.clone(),
        bypass: Vec::new(),
        unlisted: match config.interception.passthrough_unlisted {
            true => Unlisted::Tunnel,
            false => Unlisted::Block,
        },
        ip_targets: true,
    });
    let rules = rules.map_err(|error| {
        let field = format!("interception.destinations[{}]", error.index);
        let wrong = InvalidField::new(field, error.error.to_string(), "write another pattern");
        InvalidConfig {
            fields: vec![wrong],
        }
    })?;
    Ok(ProxyConfig {
        listeners: listeners(config),
        rules: Arc::new(rules),
        authority,
        gateways: GatewayRoutes::default(),
        dial_guard: DialGuard::default(),
        local_site: None,
        upstream_trust: UpstreamTrust {
            system_roots: true,
            extra_roots: Vec::new(),
            danger_accept_invalid: match config.upstream.verify_upstream_tls {
                true => Vec::new(),
                false => vec!["*".to_owned()],
            },
        },
        upstream_proxies: ProxyRules::default(),
        min_tls_version: config.tls.min_version,
        connect_ports: ConnectPorts::Any,
        own_addresses: Vec::new(),
        body_bytes_kept: 0,
        timeouts: Timeouts {
            connect: Duration::from_millis(config.upstream.connect_timeout_ms),
            idle_body: Duration::from_millis(config.upstream.timeout_ms),
            ..Timeouts::default()
        },
        client_certificates: Vec::new(),
        sni_mismatch: SniMismatch::Allow,
        rejections: Rejections::default(),
        alt_svc: AltSvc::default(),
        attribution: config.attribution(),
        dial_again: config.retry(),
        pool: Pool {
            connections_per_target_max: config.connection_pool.max_connections_per_host,
            idle: Duration::from_millis(config.connection_pool.idle_timeout_ms),
            idle_per_target_max: config.connection_pool.max_idle_per_host,
        },
        governor: Governor {
            flows_max: config.limits.max_concurrent_flows,
            connections_per_client_max: config.limits.max_connections_per_client,
        },
        handler: HandlerLimits {
            request_timeout: Duration::from_millis(config.handler.request_timeout_ms),
            response_timeout: Duration::from_millis(config.handler.response_timeout_ms),
            on_error: config.handler.on_error,
            recover_from_panics: config.handler.recover_from_panics,
            buffer_request_bodies: config.body.buffer_request_bodies,
            body_bytes_max: config.body.max_size_bytes,
            held_bytes_max: config.limits.max_held_bytes,
            fingerprints: config.tls.capture_fingerprint,
        },
    })
}
