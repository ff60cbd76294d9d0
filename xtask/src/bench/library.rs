//! The peer that is a library: hudsucker with handlers that do nothing, set up as its own example
//! does, but trusting the benchmark's upstream.

use std::net::SocketAddr;
use std::sync::Arc;

use hudsucker::certificate_authority::RcgenAuthority;
use hudsucker::hyper::Request;
use hudsucker::rcgen::{Issuer, KeyPair};
use hudsucker::rustls::crypto::aws_lc_rs;
use hudsucker::tokio_tungstenite::Connector;
use hudsucker::{Body, HttpContext, HttpHandler, Proxy};
use hyper_rustls::HttpsConnectorBuilder;

use super::material::{Material, is_intercepted};
use crate::failure::Failure;

const CERTIFICATES_CACHED: u64 = 1000;

/// Leaves names alone that the benchmark wants tunnelled.
#[derive(Clone)]
struct TunnelSome;

impl HttpHandler for TunnelSome {
    async fn should_intercept_connect(
        &mut self,
        _context: &HttpContext,
        request: &Request<Body>,
    ) -> bool {
        request.uri().host().is_some_and(is_intercepted)
    }
}

/// Serves until the process is ended.
pub(super) async fn serve(listen: SocketAddr, material: &Material) -> Result<(), Failure> {
    let key = KeyPair::from_pem(&material.read("ca.key")?)?;
    let issuer = Issuer::from_ca_cert_pem(&material.read("ca.pem")?, key)?;
    let authority = RcgenAuthority::new(issuer, CERTIFICATES_CACHED, aws_lc_rs::default_provider());
    let websockets = Connector::Rustls(material.upstream_client(&["http/1.1"])?);
    // hyper-rustls chooses the protocols itself and wants none set.
    let tls = Arc::unwrap_or_clone(material.upstream_client(&[])?);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .build();
    let proxy = Proxy::builder()
        .with_addr(listen)
        .with_ca(authority)
        .with_http_connector(connector)
        .with_http_handler(TunnelSome)
        .with_websocket_connector(websockets)
        .build()?;
    Ok(proxy.start().await?)
}
