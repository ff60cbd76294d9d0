//! A proxy as another program embeds it: `MitmConfig` in, `MitmProxyHandle` out.

use std::net::Ipv4Addr;
use std::sync::Arc;

use oriel_proxy::{InterceptHandler, MitmConfig, MitmProxyBuilder, MitmProxyHandle};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use testbed::authority::{certificates_from_pem, client_config};
use testbed::client::Client;
use testbed::upstream::Upstream;

use crate::running::{NAME, authority_of};
use crate::soon;

/// Lets everything pass.
#[derive(Debug)]
pub(crate) struct LetsPass;

impl InterceptHandler for LetsPass {}

/// An embedded proxy that runs.
#[derive(Debug)]
pub(crate) struct Embedded {
    pub(crate) handle: MitmProxyHandle,
    pub(crate) authority: CertificateDer<'static>,
    /// Where the authority is.
    folder: TempDir,
}

/// Opens everything, on any port, and believes upstreams whatever certificate they show.
pub(crate) fn config(folder: &TempDir) -> MitmConfig {
    let mut config = MitmConfig {
        bind: (Ipv4Addr::LOCALHOST, 0).into(),
        ..MitmConfig::default()
    };
    config.interception.destinations = vec!["*".to_owned()];
    config.tls.ca_cert_path = folder.path().join("ca.pem");
    config.tls.ca_key_path = folder.path().join("ca-key.pem");
    config.upstream.verify_upstream_tls = false;
    config
}

impl Embedded {
    /// Starts one after this change to its configuration.
    pub(crate) async fn start(
        handler: impl InterceptHandler,
        change: impl FnOnce(&mut MitmConfig),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&folder);
        change(&mut config);
        let proxy = MitmProxyBuilder::new(config, handler).build().unwrap();
        let pem = std::fs::read(folder.path().join("ca.pem")).unwrap();
        Self {
            handle: proxy.start().await.unwrap(),
            authority: certificates_from_pem(&pem).unwrap().remove(0),
            folder,
        }
    }

    /// A client's TLS that trusts the proxy.
    pub(crate) fn client_config(&self, alpn: &[&str]) -> Arc<rustls::ClientConfig> {
        client_config(std::slice::from_ref(&self.authority), alpn)
    }

    /// A connection to the proxy itself.
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.handle.local_address()).await.unwrap()
    }

    /// A connection through the proxy to this upstream, nothing spoken yet.
    pub(crate) async fn through(&self, upstream: &Upstream) -> Client {
        let authority = authority_of(upstream);
        let through = Client::connect_through(self.handle.local_address(), &authority);
        soon(through).await.unwrap()
    }

    /// The same with TLS that the proxy ends.
    pub(crate) async fn through_tls(&self, upstream: &Upstream, alpn: &[&str]) -> Client {
        let mut client = self.through(upstream).await;
        let config = self.client_config(alpn);
        soon(client.start_tls(NAME, config)).await.unwrap();
        client
    }

    /// Where the authority is kept.
    pub(crate) fn folder(&self) -> &TempDir {
        &self.folder
    }
}
