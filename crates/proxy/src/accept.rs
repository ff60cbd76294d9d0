//! The listener: binds, accepts, and stops in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::clock;
use crate::config::ProxyConfig;
use crate::connection::{self, Engine};
use crate::limits::{ACCEPT_PAUSE, CONNECTIONS_MAX, LEAVES_MAX, POOL_SWEEP};
use crate::shutdown::{Stopper, Tasks};
use crate::tap::{Tap, Watcher};
use crate::tls::client_side::ClientSide;
use crate::tls::leaf::{LeafCache, LeafError};
use crate::tls::upstream_side::{TrustError, UpstreamTls};
use crate::upstream::Upstreams;
use crate::upstream::dial::Dialer;

/// A proxy that is bound to its address and ready to serve.
#[derive(Debug)]
pub struct Proxy {
    listener: TcpListener,
    local_address: SocketAddr,
    engine: Arc<Engine>,
    stopper: Stopper,
    clients: Tasks,
    upstream_tasks: Arc<Tasks>,
    drain: std::time::Duration,
}

/// Why a proxy could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The trust towards upstreams cannot be set up.
    #[error("cannot set up the trust towards upstreams")]
    Trust(#[from] TrustError),
    /// The key for leaf certificates cannot be made.
    #[error("cannot make the key for leaf certificates")]
    Leaves(#[from] LeafError),
}

/// How a proxy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Client connections that were cut because they did not end within the drain deadline.
    pub connections_cut: usize,
}

impl Proxy {
    /// Binds the listening address and makes everything ready. Events go to `watcher`, if there
    /// is one.
    ///
    /// # Errors
    /// If the address is taken or not ours, or the trust towards upstreams cannot be set up.
    pub async fn bind(
        config: ProxyConfig,
        watcher: Option<Arc<dyn Watcher>>,
    ) -> Result<Self, BindError> {
        let address = config.listen;
        let failed = |source| BindError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local_address = listener.local_addr().map_err(failed)?;
        let mut own = config.own_addresses;
        own.push(local_address);
        let leaves = Arc::new(LeafCache::new(config.authority, LEAVES_MAX)?);
        let upstream_tasks = Arc::new(Tasks::default());
        let (stopper, stop) = Stopper::new();
        let engine = Engine {
            rules: config.rules,
            connect_ports: config.connect_ports,
            client_side: ClientSide::new(leaves, clock::now),
            upstreams: Upstreams::new(
                Dialer::new(own, config.timeouts.connect),
                UpstreamTls::new(&config.upstream_trust)?,
                config.pool,
                config.timeouts.clone(),
                Arc::clone(&upstream_tasks),
            ),
            tap: Tap::new(watcher, config.body_bytes_kept),
            stop,
            connections: AtomicU64::new(1),
            timeouts: config.timeouts,
        };
        Ok(Self {
            listener,
            local_address,
            drain: engine.timeouts.drain,
            engine: Arc::new(engine),
            stopper,
            clients: Tasks::default(),
            upstream_tasks,
        })
    }

    /// The address it listens on, with the port that the system chose if it was asked for any.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Serves until `stop` is done, then stops accepting, lets flows end within the drain
    /// deadline, and cuts what is left.
    ///
    /// Dropping it cuts every connection at once.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send) -> Drained {
        let mut stop = std::pin::pin!(stop);
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut sweep = tokio::time::interval(POOL_SWEEP);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                _ = sweep.tick() => {
                    self.engine.upstreams.sweep();
                    continue;
                }
                accepted = accept(&self.listener, &permits) => accepted,
            };
            let (stream, address, permit) = accepted;
            let engine = Arc::clone(&self.engine);
            self.clients.spawn("client connection", async move {
                connection::run(stream, address, engine).await;
                drop(permit);
            });
        }
        drop(self.listener);
        self.stopper.stop();
        let connections_cut = self
            .clients
            .drain(self.drain, || self.engine.tap.stop())
            .await;
        self.upstream_tasks
            .drain(std::time::Duration::ZERO, || ())
            .await;
        Drained { connections_cut }
    }
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (
    TcpStream,
    SocketAddr,
    Option<tokio::sync::OwnedSemaphorePermit>,
) {
    // The semaphore is never closed.
    let permit = Arc::clone(permits).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Without it a small answer waits for the client's delayed acknowledgement.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a client was gone before it was served");
                    continue;
                }
                return (stream, address, permit);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                // Most likely out of descriptors: spinning would not free any.
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
