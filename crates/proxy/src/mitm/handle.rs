//! Steers an embedded proxy that runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::config::{MitmConfig, TlsConfig};
use super::error::MitmError;
use super::{authority, engine_config};
use crate::accept::{Control, Drained, Proxy};
use crate::limits::SETTING_MS_MAX;
use crate::metrics::Metrics;
use crate::tls::authority::Authority;

/// A proxy that runs. Dropping it cuts every connection at once; see
/// [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct MitmProxyHandle {
    local_address: SocketAddr,
    control: Control,
    current: Mutex<Current>,
    running: Mutex<Option<Running>>,
}

/// What it runs on.
#[derive(Debug)]
struct Current {
    config: MitmConfig,
    authority: Arc<Authority>,
}

#[derive(Debug)]
struct Running {
    /// Brings the drain deadline.
    stop: oneshot::Sender<Duration>,
    serving: JoinSet<Drained>,
}

impl MitmProxyHandle {
    pub(super) fn serve(proxy: Proxy, config: MitmConfig, authority: Arc<Authority>) -> Self {
        let (stop, asked) = oneshot::channel();
        // One listener is always on TCP.
        let local_address = proxy.local_address().unwrap_or(config.bind);
        let control = proxy.control();
        let mut serving = JoinSet::new();
        serving.spawn(proxy.serve_until(async { asked.await.ok() }));
        Self {
            local_address,
            control,
            current: Mutex::new(Current { config, authority }),
            running: Mutex::new(Some(Running { stop, serving })),
        }
    }

    /// The address it listens on, with the port that the system chose if it was asked for any.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// The configuration that connections begin with now.
    #[must_use]
    pub fn current_config(&self) -> MitmConfig {
        self.current.lock().config.clone()
    }

    /// What the proxy has done so far, and what it is doing. See [`Control::metrics`].
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.control.metrics()
    }

    /// Takes another configuration, whole or not at all. Connections that are open keep the one
    /// they began with and end in order: idle ones now, others after the flows they carry. What
    /// begins afterwards runs on the new one. It reads files where `tls.ca_cert_path` or
    /// `tls.ca_key_path` changed.
    ///
    /// # Errors
    /// If a field is wrong, cannot change while the proxy runs (`bind`, `unix_socket_path`), or
    /// the authority cannot be used. The configuration before then stays.
    pub fn reload(&self, config: MitmConfig) -> Result<(), MitmError> {
        config.validate()?;
        let mut current = self.current.lock();
        let mut fields = Vec::new();
        if config.bind != current.config.bind {
            fields.push("bind");
        }
        if config.unix_socket_path != current.config.unix_socket_path {
            fields.push("unix_socket_path");
        }
        if !fields.is_empty() {
            return Err(MitmError::Fixed { fields });
        }
        let authority = match is_same(&config.tls, &current.config.tls) {
            true => Arc::clone(&current.authority),
            false => Arc::new(authority::load_or_make(&config.tls)?),
        };
        let engine = engine_config(&config, Arc::clone(&authority))?;
        self.control.reload(engine).map_err(MitmError::Reload)?;
        *current = Current { config, authority };
        Ok(())
    }

    /// Stops accepting, lets flows end and the handler be told for at most `timeout`, and cuts
    /// what is left then; a connection that waits for its next request ends at once. Every
    /// [`on_connection_close`](crate::InterceptHandler::on_connection_close) was told when it
    /// returns. Called a second time, it does nothing.
    ///
    /// Dropping it cuts every connection at once.
    ///
    /// # Errors
    /// Says how much was cut, if anything was.
    pub async fn shutdown(&self, timeout: Duration) -> Result<(), MitmError> {
        let Some(Running { stop, mut serving }) = self.running.lock().take() else {
            return Ok(());
        };
        // Nobody listens if it has ended, which is what is wanted.
        let _ended = stop.send(timeout.min(Duration::from_millis(SETTING_MS_MAX)));
        match serving.join_next().await {
            Some(Ok(drained)) => cut(drained),
            // It panicked, which was reported, or the runtime ends: nothing is left to cut.
            Some(Err(_)) | None => Ok(()),
        }
    }
}

fn is_same(one: &TlsConfig, other: &TlsConfig) -> bool {
    (&one.ca_cert_path, &one.ca_key_path) == (&other.ca_cert_path, &other.ca_key_path)
}

fn cut(drained: Drained) -> Result<(), MitmError> {
    let Drained {
        connections_cut,
        callbacks_cut,
    } = drained;
    match (connections_cut, callbacks_cut) {
        (0, 0) => Ok(()),
        _ => Err(MitmError::TimedOut {
            connections_cut,
            callbacks_cut,
        }),
    }
}
