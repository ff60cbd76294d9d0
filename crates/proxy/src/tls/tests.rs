//! What the tests of both sides share: the time, an authority, and a handshake in memory.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use traffic::{Host, Timestamp};

use super::authority::Authority;
use super::client_side::{ClientAlpn, ClientSide};
use super::leaf::LeafCache;

pub(crate) const DAY: i64 = 86_400 * 1_000_000;

/// Other programs and rustls ask the real clock, so these tests do too.
pub(crate) fn now() -> Timestamp {
    let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap();
    Timestamp(since_epoch.as_micros().try_into().unwrap())
}

pub(crate) fn days_from_now(days: i64) -> Timestamp {
    Timestamp(now().0 + days * DAY)
}

pub(crate) fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

pub(crate) fn authority() -> Arc<Authority> {
    Arc::new(Authority::generate("oriel test authority", now()).unwrap())
}

/// An authority that nobody trusts.
pub(crate) fn stranger() -> Arc<Authority> {
    Arc::new(Authority::generate("another authority", now()).unwrap())
}

pub(crate) fn client_side(authority: &Arc<Authority>) -> ClientSide {
    let leaves = LeafCache::new(Arc::clone(authority), 64).unwrap();
    ClientSide::new(Arc::new(leaves), now, crate::MinTlsVersion::Tls12)
}

/// A server that shows the leaf for the name it is asked for.
pub(crate) fn server(authority: &Arc<Authority>, alpn: ClientAlpn) -> Arc<ServerConfig> {
    client_side(authority).server_config(&host("any.test"), alpn)
}

/// A client that trusts the authority and nothing else.
pub(crate) fn client(authority: &Authority, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate_der().clone()).unwrap();
    // As others have it, not as we set it up.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// Both ends of a handshake, and what each says of it.
pub(crate) struct Handshake {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
    pub(crate) client_result: io::Result<()>,
    pub(crate) server_result: io::Result<()>,
}

/// Shakes hands in memory until both are done or one has failed and told the other.
pub(crate) fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Handshake {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut shake = Handshake {
        client: ClientConnection::new(client, name).unwrap(),
        server: ServerConnection::new(server).unwrap(),
        client_result: Ok(()),
        server_result: Ok(()),
    };
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while shake.client.wants_write() {
            shake.client.write_tls(&mut bytes).unwrap();
        }
        if shake.server_result.is_ok() {
            shake.server_result = receive(&mut bytes.as_slice(), |bytes| {
                shake.server.read_tls(bytes)?;
                shake
                    .server
                    .process_new_packets()
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            });
        }
        let mut bytes = Vec::new();
        while shake.server.wants_write() {
            shake.server.write_tls(&mut bytes).unwrap();
        }
        if shake.client_result.is_ok() {
            shake.client_result = receive(&mut bytes.as_slice(), |bytes| {
                shake.client.read_tls(bytes)?;
                shake
                    .client
                    .process_new_packets()
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            });
        }
    }
    shake
}

fn receive(
    bytes: &mut &[u8],
    mut read: impl FnMut(&mut &[u8]) -> io::Result<rustls::IoState>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        read(bytes)?;
    }
    Ok(())
}

impl Handshake {
    pub(crate) fn succeeded(self) -> Self {
        self.client_result.as_ref().unwrap();
        self.server_result.as_ref().unwrap();
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        self
    }
}
