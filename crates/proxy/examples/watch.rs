//! The smallest program around the engine: intercepts every host and prints what it sees.
//!
//! ```text
//! cargo run -p oriel-proxy --example watch -- 127.0.0.1:6743 ca.pem [upstream-ca.pem]
//! curl --proxy http://127.0.0.1:6743 --cacert ca.pem https://example.com/
//! ```

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use oriel_proxy::{
    AltSvc, Authority, ConnectPorts, Governor, Listener, MinTlsVersion, Pool, Proxy, ProxyConfig,
    Rejections, SniMismatch, Timeouts, UpstreamTrust,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use traffic::rules::gateway::GatewayRoutes;
use traffic::rules::private::DialGuard;
use traffic::rules::route::{RouteConfig, Rules, Unlisted};
use traffic::rules::upstream_proxy::ProxyRules;
use traffic::{Event, Timestamp};

#[derive(Debug)]
struct Print;

impl oriel_proxy::Watcher for Print {
    fn handle_events(&self, events: &mut Vec<Event>) {
        for event in events {
            #[expect(clippy::print_stdout, reason = "the example's whole purpose")]
            {
                println!("{event:?}");
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen: SocketAddr = arguments.next().ok_or("which address?")?.parse()?;
    let certificate = arguments
        .next()
        .ok_or("where to write the CA's certificate?")?;
    let extra_roots = match arguments.next() {
        Some(path) => CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    let now = std::time::UNIX_EPOCH.elapsed()?.as_micros();
    let authority = Authority::generate("oriel example", Timestamp(i64::try_from(now)?))?;
    std::fs::write(&certificate, authority.certificate_pem())?;
    let rules = Rules::compile(&RouteConfig {
        intercept: vec!["*".to_owned()],
        bypass: Vec::new(),
        unlisted: Unlisted::Tunnel,
        ip_targets: true,
    })?;
    let config = ProxyConfig {
        listeners: vec![Listener::forward(listen)],
        rules: Arc::new(rules),
        authority: Arc::new(authority),
        upstream_trust: UpstreamTrust {
            system_roots: true,
            extra_roots,
            danger_accept_invalid: Vec::new(),
        },
        upstream_proxies: ProxyRules::default(),
        gateways: GatewayRoutes::default(),
        dial_guard: DialGuard::default(),
        local_site: None,
        min_tls_version: MinTlsVersion::Tls12,
        connect_ports: ConnectPorts::Any,
        own_addresses: Vec::new(),
        body_bytes_kept: 64 * 1024,
        timeouts: Timeouts::default(),
        dial_again: None,
        pool: Pool::default(),
        client_certificates: Vec::new(),
        sni_mismatch: SniMismatch::Allow,
        rejections: Rejections::default(),
        alt_svc: AltSvc::default(),
        attribution: None,
        governor: Governor::default(),
        handler: oriel_proxy::handler::HandlerLimits::default(),
    };
    let proxy = Proxy::bind(config, Some(Arc::new(Print))).await?;
    let stop = async {
        // Without a handler for the signal the program serves until it is killed.
        let _asked = tokio::signal::ctrl_c().await;
    };
    proxy.serve(stop).await;
    Ok(())
}
