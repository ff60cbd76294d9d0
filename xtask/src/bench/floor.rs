//! The floor: the least that an intercepting proxy can do. It answers CONNECT, ends TLS with a
//! certificate it has, starts TLS to the upstream, and copies what it decrypts. It reads no HTTP
//! after the CONNECT line, verifies the upstream, and tunnels names it has no certificate for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use testbed::message::Buffered;
use testbed::wire::Wire;

use super::material::{Material, is_intercepted};
use crate::failure::Failure;

const COPY_BYTES: usize = 64 * 1024;

struct Floor {
    acceptor: TlsAcceptor,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// Serves until the process is ended.
pub(super) async fn serve(listen: SocketAddr, material: &Material) -> Result<(), Failure> {
    let floor = Arc::new(Floor {
        acceptor: TlsAcceptor::from(material.floor_server()?),
        http1: material.upstream_client(&["http/1.1"])?,
        http2: material.upstream_client(&["h2"])?,
    });
    let listener = TcpListener::bind(listen).await?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                connections.spawn(Arc::clone(&floor).relay(stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Floor {
    async fn relay(self: Arc<Self>, stream: TcpStream) {
        // The load sees what fails.
        let _ended = self.try_relay(stream).await;
    }

    async fn try_relay(&self, stream: TcpStream) -> Result<(), Failure> {
        let mut front = Buffered::new(Wire::accepted(stream)?);
        let Some(head) = front.read_request_head().await? else {
            return Ok(());
        };
        front
            .stream_mut()
            .write_all(b"HTTP/1.1 200 OK\r\n\r\n")
            .await?;
        let Wire::Plain(mut client) = front.into_parts().0 else {
            return Err(Failure::new("the front is in clear"));
        };
        let mut upstream = dial(&head.target).await?;
        let name = head.target.rsplit_once(':').map_or("", |(name, _)| name);
        if !is_intercepted(name) {
            copy(&mut client, &mut upstream).await?;
            return Ok(());
        }
        let mut client = self.acceptor.accept(client).await?;
        let is_http2 = client.get_ref().1.alpn_protocol() == Some(b"h2");
        let config = if is_http2 { &self.http2 } else { &self.http1 };
        let name = ServerName::try_from(name.to_owned())?;
        let connector = TlsConnector::from(Arc::clone(config));
        let mut upstream = connector.connect(name, upstream).await?;
        copy(&mut client, &mut upstream).await?;
        Ok(())
    }
}

async fn dial(authority: &str) -> Result<TcpStream, Failure> {
    let address = lookup_host(authority).await?.find(SocketAddr::is_ipv4);
    let Some(address) = address else {
        return Err(Failure::new("the name has no address"));
    };
    match Wire::dial(address).await? {
        Wire::Plain(stream) => Ok(stream),
        Wire::Unix(_) | Wire::Tls(_) => Err(Failure::new("a dialled connection is in clear")),
    }
}

async fn copy<A, B>(near: &mut A, far: &mut B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    copy_bidirectional_with_sizes(near, far, COPY_BYTES, COPY_BYTES).await
}
