//! A running engine with everything around it, and the ways for a client into it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use oriel_proxy::handler::InterceptHandler;
use oriel_proxy::{
    AltSvc, Authority, ConnectPorts, Control, Drained, Governor, Listener, MinTlsVersion, Pool,
    Proxy, ProxyConfig, Rejections, SniMismatch, Timeouts, UpstreamTrust,
};
use testbed::authority::{Authority as TestAuthority, Identity, client_config};
use testbed::client::{Client, Request, Response};
use testbed::gate::Gate;
use testbed::script::Step;
use testbed::upstream::{Protocols, Upstream, UpstreamOptions};
use tokio::task::JoinSet;
use traffic::Timestamp;
use traffic::rules::gateway::GatewayRoutes;
use traffic::rules::private::DialGuard;
use traffic::rules::route::{RouteConfig, Rules, Unlisted};
use traffic::rules::upstream_proxy::ProxyRules;

use crate::recorder::Recorder;
use crate::soon;

/// The name that upstreams of these tests have.
pub(crate) const NAME: &str = "localhost";

/// 2026-01-01, for the authority's validity.
const NOW: Timestamp = Timestamp(1_767_225_600_000_000);

/// An engine that serves until it is dropped or stopped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) recorder: Arc<Recorder>,
    /// The authority that clients are to trust.
    pub(crate) authority: Arc<Authority>,
    /// What it was started with.
    pub(crate) config: ProxyConfig,
    pub(crate) control: Control,
    stop: Gate,
    serving: JoinSet<Drained>,
}

/// The authority whose certificates the engine accepts from upstreams. Made once: keys take time.
pub(crate) fn upstream_authority() -> &'static TestAuthority {
    static AUTHORITY: std::sync::LazyLock<TestAuthority> =
        std::sync::LazyLock::new(|| TestAuthority::new("upstreams of the test"));
    &AUTHORITY
}

/// What these tests run with: everything is opened.
pub(crate) fn config() -> ProxyConfig {
    ProxyConfig {
        listeners: vec![any_port()],
        rules: rules(&["*"], &[], Unlisted::Tunnel),
        authority: Arc::new(Authority::generate("oriel test", NOW).unwrap()),
        upstream_trust: UpstreamTrust {
            system_roots: false,
            extra_roots: vec![upstream_authority().certificate()],
            danger_accept_invalid: Vec::new(),
        },
        upstream_proxies: ProxyRules::default(),
        gateways: GatewayRoutes::default(),
        dial_guard: DialGuard::default(),
        local_site: None,
        min_tls_version: MinTlsVersion::Tls12,
        connect_ports: ConnectPorts::Any,
        own_addresses: Vec::new(),
        body_bytes_kept: 1024 * 1024,
        timeouts: Timeouts {
            drain: Duration::from_secs(5),
            ..Timeouts::default()
        },
        dial_again: None,
        pool: Pool::default(),
        client_certificates: Vec::new(),
        sni_mismatch: SniMismatch::Allow,
        rejections: Rejections::default(),
        alt_svc: AltSvc::default(),
        attribution: None,
        governor: Governor::default(),
        handler: oriel_proxy::handler::HandlerLimits::default(),
    }
}

/// A proxy on a port that the system chooses.
pub(crate) fn any_port() -> Listener {
    Listener::forward(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

pub(crate) fn rules(intercept: &[&str], bypass: &[&str], unlisted: Unlisted) -> Arc<Rules> {
    let own = |patterns: &[&str]| patterns.iter().map(|text| (*text).to_owned()).collect();
    let config = RouteConfig {
        intercept: own(intercept),
        bypass: own(bypass),
        unlisted,
        ip_targets: true,
    };
    Arc::new(Rules::compile(&config).unwrap())
}

impl Running {
    /// Starts an engine that opens everything.
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// Starts an engine after this change to its configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut ProxyConfig)) -> Self {
        let mut config = config();
        change(&mut config);
        let recorder = Arc::new(Recorder::new());
        let watcher: Arc<dyn oriel_proxy::Watcher> = Arc::clone(&recorder) as _;
        let proxy = Proxy::bind(config.clone(), Some(watcher)).await.unwrap();
        Self::serve(proxy, config, recorder)
    }

    /// The same with a handler.
    pub(crate) async fn with_handler(
        handler: impl InterceptHandler,
        change: impl FnOnce(&mut ProxyConfig),
    ) -> Self {
        let mut config = config();
        change(&mut config);
        let recorder = Arc::new(Recorder::new());
        let watcher: Arc<dyn oriel_proxy::Watcher> = Arc::clone(&recorder) as _;
        let proxy = Proxy::bind_with_handler(config.clone(), handler, Some(watcher));
        Self::serve(proxy.await.unwrap(), config, recorder)
    }

    /// Runs what was bound with this configuration.
    pub(crate) fn serve(proxy: Proxy, config: ProxyConfig, recorder: Arc<Recorder>) -> Self {
        let address = proxy.local_address().unwrap();
        let (control, stop) = (proxy.control(), Gate::new());
        let mut serving = JoinSet::new();
        let asked = stop.clone();
        serving.spawn(async move { proxy.serve(async move { asked.wait().await }).await });
        Self {
            address,
            recorder,
            authority: Arc::clone(&config.authority),
            config,
            control,
            stop,
            serving,
        }
    }

    /// Asks it to stop.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.open();
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> (Drained, Arc<Recorder>) {
        self.stop.open();
        let drained = soon(self.serving.join_next()).await.unwrap().unwrap();
        (drained, self.recorder)
    }

    /// A connection to the proxy itself.
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await.unwrap()
    }

    /// A connection through the proxy to this port of the machine, nothing spoken yet.
    pub(crate) async fn through(&self, upstream: &Upstream) -> Client {
        let authority = authority_of(upstream);
        soon(Client::connect_through(self.address, &authority))
            .await
            .unwrap()
    }

    /// The same with TLS that the proxy ends.
    pub(crate) async fn through_tls(&self, upstream: &Upstream, alpn: &[&str]) -> Client {
        let mut client = self.through(upstream).await;
        let config = self.client_config(alpn);
        soon(client.start_tls(NAME, config)).await.unwrap();
        client
    }

    /// A client's TLS that trusts the proxy.
    pub(crate) fn client_config(&self, alpn: &[&str]) -> Arc<rustls::ClientConfig> {
        client_config(&[self.authority.certificate_der().clone()], alpn)
    }
}

/// Where an upstream is, by name.
pub(crate) fn authority_of(upstream: &Upstream) -> String {
    format!("{NAME}:{}", upstream.address().port())
}

/// An upstream that plays these scripts, in clear or with a good certificate.
pub(crate) async fn scripted(tls: bool, scripts: Vec<Vec<Step>>) -> Upstream {
    let identity = tls.then(|| upstream_authority().issue(&[NAME]));
    Upstream::start(UpstreamOptions::scripts(identity, scripts))
        .await
        .unwrap()
}

/// The general HTTP server, in clear.
pub(crate) async fn http() -> Upstream {
    Upstream::start(UpstreamOptions::http()).await.unwrap()
}

/// The general HTTP server behind TLS.
pub(crate) async fn https(protocols: Protocols) -> Upstream {
    let identity = upstream_authority().issue(&[NAME, "127.0.0.1"]);
    Upstream::start(UpstreamOptions::https(identity, protocols))
        .await
        .unwrap()
}

/// Asks an upstream that shows this certificate, by HTTP/1.1 and by HTTP/2.
pub(crate) async fn ask_by_both(
    identity: impl Fn() -> Identity,
    change: impl Fn(&mut ProxyConfig),
) -> Vec<(Running, Response)> {
    let mut answers = Vec::new();
    for (alpn, protocols) in [("http/1.1", Protocols::Http1), ("h2", Protocols::Both)] {
        let options = UpstreamOptions::https(identity(), protocols);
        let upstream = Upstream::start(options).await.unwrap();
        let running = Running::with(&change).await;
        let mut client = running.through_tls(&upstream, &[alpn]).await;
        let response = if alpn == "h2" {
            let client = client.start_http2().await.unwrap();
            let request = http::Request::get(format!("https://{NAME}/bytes/4"));
            let request = request.body(bytes::Bytes::new()).unwrap();
            soon(client.request(request)).await.unwrap()
        } else {
            let request = Request::get("/bytes/4").host(NAME);
            soon(client.request(&request)).await.unwrap()
        };
        answers.push((running, response));
    }
    answers
}

/// Answers with a first half, and with the rest when that gate opens.
pub(crate) fn in_halves(half: &Gate, rest: &Gate) -> Vec<Step> {
    vec![
        Step::ReadHead,
        Step::send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha"),
        Step::Open(half.clone()),
        Step::Wait(rest.clone()),
        Step::send("lf"),
        Step::ReadToEnd,
    ]
}
