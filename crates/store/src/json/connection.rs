//! The two sides of a flow: the connection of its client, and the one to its upstream.

use serde::Serialize;
use traffic::Timestamp;

use super::rfc3339;
use crate::{AncestorView, CertificateView, ConnectionView, ProcessView, TlsView, UpstreamView};

#[derive(Debug, Serialize)]
pub(super) struct ClientItem {
    front: String,
    proxy_direction: &'static str,
    address: String,
    proxy_address: String,
    tls: Option<TlsItem>,
    no_tls: Option<String>,
    sni: Option<String>,
    sni_differs: bool,
    ja3: Option<String>,
    ja4: Option<String>,
    user: Option<String>,
    process: Option<ProcessItem>,
    no_process: Option<String>,
}

#[derive(Debug, Serialize)]
struct ProcessItem {
    pid: u32,
    name: String,
    path: Option<String>,
    command_line: Vec<String>,
    ancestors: Vec<AncestorView>,
    container: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct UpstreamItem {
    address: String,
    local_address: String,
    proxy: Option<String>,
    tls: Option<TlsItem>,
}

#[derive(Debug, Serialize)]
struct TlsItem {
    version: String,
    cipher: String,
    sni: Option<String>,
    alpn: Option<String>,
    certificate: Option<CertificateItem>,
    danger_unverified: bool,
}

#[derive(Debug, Serialize)]
struct CertificateItem {
    subject: String,
    issuer: String,
    not_before: String,
    not_after: String,
    names: Vec<String>,
    sha256: String,
    chain_length: usize,
}

impl ClientItem {
    pub(super) fn new(client: &ConnectionView) -> Self {
        Self {
            front: client.front.clone(),
            proxy_direction: client.proxy_direction(),
            address: client.client_address.clone(),
            proxy_address: client.proxy_address.clone(),
            tls: client.tls.as_ref().map(TlsItem::new),
            no_tls: client.no_tls.clone(),
            sni: client.sni.clone(),
            sni_differs: client.sni_differs,
            ja3: client.ja3.clone(),
            ja4: client.ja4.clone(),
            user: client.user.clone(),
            process: client.process.as_ref().map(ProcessItem::new),
            no_process: client.no_process.clone(),
        }
    }
}

impl ProcessItem {
    fn new(process: &ProcessView) -> Self {
        Self {
            pid: process.pid,
            name: process.name.clone(),
            path: process.path.clone(),
            command_line: process.command_line.clone(),
            ancestors: process.ancestors.clone(),
            container: process.container.clone(),
        }
    }
}

impl UpstreamItem {
    pub(super) fn new(upstream: &UpstreamView) -> Self {
        Self {
            address: upstream.address.clone(),
            local_address: upstream.local_address.clone(),
            proxy: upstream.proxy.clone(),
            tls: upstream.tls.as_ref().map(TlsItem::new),
        }
    }
}

impl TlsItem {
    fn new(tls: &TlsView) -> Self {
        Self {
            version: tls.version.clone(),
            cipher: tls.cipher.clone(),
            sni: tls.sni.clone(),
            alpn: tls.alpn.clone(),
            certificate: tls.certificate.as_ref().map(CertificateItem::new),
            danger_unverified: tls.danger_unverified,
        }
    }
}

impl CertificateItem {
    fn new(certificate: &CertificateView) -> Self {
        Self {
            subject: certificate.subject.clone(),
            issuer: certificate.issuer.clone(),
            not_before: rfc3339(Timestamp(certificate.not_before)),
            not_after: rfc3339(Timestamp(certificate.not_after)),
            names: certificate.names.clone(),
            sha256: certificate.sha256.clone(),
            chain_length: certificate.chain_length,
        }
    }
}
