//! The whole configuration of an embedded proxy, as plain values that a file can hold.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use traffic::rules::pattern::HostPattern;

use super::error::{InvalidConfig, InvalidField};
use crate::config::MinTlsVersion;
use crate::handler::OnError;
use crate::limits::{CONNECTIONS_PER_CLIENT_MAX, FLOWS_MAX, HELD_BYTES_MAX, SETTING_MS_MAX};

/// Everything that an embedded proxy is told. A file may leave out what is to keep its default;
/// a key that is not known is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MitmConfig {
    /// Where to listen. Port 0 lets the system choose.
    pub bind: SocketAddr,
    /// A Unix-domain socket to listen on as well. Its file belongs to the proxy: mode 0600, and gone
    /// at the end.
    pub unix_socket_path: Option<PathBuf>,
    /// Whose traffic is opened.
    pub interception: InterceptionConfig,
    /// Finding the process behind a connection.
    pub process_attribution: ProcessAttributionConfig,
    /// The authority, and TLS on both sides.
    pub tls: TlsConfig,
    /// Connecting to upstreams.
    pub upstream: UpstreamConfig,
    /// Connections to upstreams that are kept.
    pub connection_pool: ConnectionPoolConfig,
    /// Bodies that are held or shown.
    pub body: BodyConfig,
    /// How long the handler may take, and what happens when it fails.
    pub handler: HandlerConfig,
    /// How much may go on at once.
    pub limits: LimitsConfig,
}

/// Whose traffic is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InterceptionConfig {
    /// Patterns of hosts, with a port or without: `api.example.com:443`, `*.example.com`,
    /// `[::1]:8443`, `*`. At least one.
    pub destinations: Vec<String>,
    /// Whether other hosts pass unopened; if not, they are answered with 403.
    pub passthrough_unlisted: bool,
}

/// Finding the process behind a connection. It is found on Linux.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessAttributionConfig {
    /// Whether it is looked for; if not, nothing of the system is read.
    pub enabled: bool,
    /// How long the first question to the handler on a connection waits for it, in milliseconds.
    /// A lookup takes a few.
    pub lookup_timeout_ms: u64,
}

/// The authority, and TLS on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate of the authority, in PEM. If neither it nor the key is there, both are made.
    pub ca_cert_path: PathBuf,
    /// Its key. One that others can read is refused; one made here has mode 0600.
    pub ca_key_path: PathBuf,
    /// The oldest version of TLS that is spoken, with clients and with upstreams.
    pub min_version: MinTlsVersion,
    /// Whether the handler is given the JA3 and JA4 fingerprints of clients.
    pub capture_fingerprint: bool,
}

/// Connecting to upstreams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// How long a response, a body or a tunnel may stand still, in milliseconds. The default
    /// leaves a model ten minutes to think.
    pub timeout_ms: u64,
    /// For resolving and connecting, all addresses together, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Whether a connection that was refused is tried once more. No request is sent twice by it, and
    /// without it none is sent less often: one that goes out on a kept connection which the upstream
    /// closes meanwhile is sent once more if its method is safe and nothing of an answer came.
    pub retry_on_failure: bool,
    /// The pause before that, in milliseconds.
    pub retry_delay_ms: u64,
    /// Whether certificates of upstreams are verified. Without, anybody on the way can read and
    /// change everything.
    pub verify_upstream_tls: bool,
}

/// Connections to upstreams that are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionPoolConfig {
    /// Connections to one upstream at once, tunnels not counted. Requests beyond wait for one, at
    /// most for `upstream.connect_timeout_ms`.
    pub max_connections_per_host: usize,
    /// How long an idle connection is kept, in milliseconds.
    pub idle_timeout_ms: u64,
    /// Idle HTTP/1.1 connections to one upstream; 0 keeps none.
    pub max_idle_per_host: usize,
}

/// Bodies that are held or shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BodyConfig {
    /// Bytes of a body that is held or shown. A held request that is larger is answered with 413;
    /// what is shown of a response is cut, and says so. What is neither passes whole.
    pub max_size_bytes: usize,
    /// Whether request bodies are held until they are whole, for `on_request` to see.
    pub buffer_request_bodies: bool,
}

/// How long the handler may take, and what happens when it fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HandlerConfig {
    /// For `should_intercept_tls` and `on_request`, in milliseconds.
    pub request_timeout_ms: u64,
    /// For each callback that is told something, in milliseconds.
    pub response_timeout_ms: u64,
    /// Whether a panic stays in the callback; if not, it ends the connection, and no other.
    pub recover_from_panics: bool,
    /// What becomes of a request whose handler failed: `block` (503) or `allow`.
    pub on_error: OnError,
}

/// How much may go on at once. What is beyond is answered with 503 and `Retry-After`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Requests, WebSockets and tunnels under way.
    pub max_concurrent_flows: usize,
    /// Connections of one client address; over Unix-domain sockets, of one user.
    pub max_connections_per_client: usize,
    /// Bytes held for the handler: bodies that wait to be whole, and what waits to be told. Beyond
    /// it, what is shown of a response is cut, and says so.
    pub max_held_bytes: usize,
}

impl Default for MitmConfig {
    fn default() -> Self {
        Self {
            bind: (Ipv4Addr::LOCALHOST, 8080).into(),
            unix_socket_path: None,
            interception: InterceptionConfig::default(),
            process_attribution: ProcessAttributionConfig::default(),
            tls: TlsConfig::default(),
            upstream: UpstreamConfig::default(),
            connection_pool: ConnectionPoolConfig::default(),
            body: BodyConfig::default(),
            handler: HandlerConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

impl Default for InterceptionConfig {
    fn default() -> Self {
        Self {
            destinations: Vec::new(),
            passthrough_unlisted: true,
        }
    }
}

impl Default for ProcessAttributionConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            lookup_timeout_ms: 1_000,
        }
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            ca_cert_path: PathBuf::from("certs/oriel-ca.pem"),
            ca_key_path: PathBuf::from("certs/oriel-ca-key.pem"),
            min_version: MinTlsVersion::Tls12,
            capture_fingerprint: true,
        }
    }
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            timeout_ms: 600_000,
            connect_timeout_ms: 10_000,
            retry_on_failure: false,
            retry_delay_ms: 200,
            verify_upstream_tls: true,
        }
    }
}

impl Default for ConnectionPoolConfig {
    fn default() -> Self {
        Self {
            max_connections_per_host: 256,
            // Below the 60 s after which common upstreams close.
            idle_timeout_ms: 45_000,
            max_idle_per_host: 8,
        }
    }
}

impl Default for BodyConfig {
    fn default() -> Self {
        Self {
            max_size_bytes: 10 * 1024 * 1024,
            buffer_request_bodies: false,
        }
    }
}

impl Default for HandlerConfig {
    fn default() -> Self {
        Self {
            request_timeout_ms: 5_000,
            response_timeout_ms: 5_000,
            recover_from_panics: true,
            on_error: OnError::Block,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_concurrent_flows: FLOWS_MAX,
            max_connections_per_client: CONNECTIONS_PER_CLIENT_MAX,
            max_held_bytes: HELD_BYTES_MAX,
        }
    }
}

impl MitmConfig {
    /// Finds what cannot be.
    ///
    /// # Errors
    /// Names every field that is wrong, what is wrong with it, and how to mend it.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let mut fields = Vec::new();
        self.check_destinations(&mut fields);
        for (field, path) in [
            ("tls.ca_cert_path", &self.tls.ca_cert_path),
            ("tls.ca_key_path", &self.tls.ca_key_path),
        ] {
            if path.file_name().is_none() {
                let problem = format!("{path:?} names no file");
                fields.push(InvalidField::new(field, problem, "name a file in PEM"));
            }
        }
        if self.tls.ca_cert_path == self.tls.ca_key_path {
            let problem = "is the file of the certificate too";
            let fix = "name another file: a key does not lie beside what everybody may read";
            fields.push(InvalidField::new("tls.ca_key_path", problem, fix));
        }
        for (field, ms, least) in self.waits() {
            if ms < least || ms > SETTING_MS_MAX {
                let problem = format!("{ms} ms is no time to wait");
                let fix = format!("set {least} to {SETTING_MS_MAX} ms");
                fields.push(InvalidField::new(field, problem, fix));
            }
        }
        for (field, count, what) in [
            (
                "connection_pool.max_connections_per_host",
                self.connection_pool.max_connections_per_host,
                "nothing could be sent on",
            ),
            (
                "body.max_size_bytes",
                self.body.max_size_bytes,
                "no body could be held or shown",
            ),
            (
                "limits.max_concurrent_flows",
                self.limits.max_concurrent_flows,
                "every request would be refused",
            ),
            (
                "limits.max_connections_per_client",
                self.limits.max_connections_per_client,
                "every client would be refused",
            ),
            (
                "limits.max_held_bytes",
                self.limits.max_held_bytes,
                "no body could be held or shown",
            ),
        ] {
            if count == 0 {
                let problem = format!("with 0 {what}");
                fields.push(InvalidField::new(field, problem, "set 1 or more"));
            }
        }
        match fields.is_empty() {
            true => Ok(()),
            false => Err(InvalidConfig { fields }),
        }
    }

    fn check_destinations(&self, fields: &mut Vec<InvalidField>) {
        let destinations = &self.interception.destinations;
        if destinations.is_empty() {
            let (problem, fix) = ("nothing would be opened", "name a host, or \"*\" for all");
            fields.push(InvalidField::new("interception.destinations", problem, fix));
        }
        for (index, destination) in destinations.iter().enumerate() {
            if let Err(error) = HostPattern::parse(destination) {
                let field = format!("interception.destinations[{index}]");
                let fix = "write a host with a port or without, for example api.example.com:443";
                fields.push(InvalidField::new(field, error.to_string(), fix));
            }
        }
    }

    /// The waits, each with the least that it can be, in milliseconds.
    fn waits(&self) -> [(&'static str, u64, u64); 7] {
        let (upstream, handler) = (&self.upstream, &self.handler);
        let idle = self.connection_pool.idle_timeout_ms;
        let lookup = self.process_attribution.lookup_timeout_ms;
        [
            ("process_attribution.lookup_timeout_ms", lookup, 1),
            ("upstream.timeout_ms", upstream.timeout_ms, 1),
            (
                "upstream.connect_timeout_ms",
                upstream.connect_timeout_ms,
                1,
            ),
            ("upstream.retry_delay_ms", upstream.retry_delay_ms, 0),
            ("connection_pool.idle_timeout_ms", idle, 1),
            ("handler.request_timeout_ms", handler.request_timeout_ms, 1),
            (
                "handler.response_timeout_ms",
                handler.response_timeout_ms,
                1,
            ),
        ]
    }

    /// How long the process of a connection is looked for, if it is.
    pub(super) fn attribution(&self) -> Option<Duration> {
        let ProcessAttributionConfig {
            enabled,
            lookup_timeout_ms,
        } = self.process_attribution;
        enabled.then_some(Duration::from_millis(lookup_timeout_ms))
    }

    /// The pause before a refused connection is tried again, if it is.
    pub(super) fn retry(&self) -> Option<Duration> {
        let pause = Duration::from_millis(self.upstream.retry_delay_ms);
        self.upstream.retry_on_failure.then_some(pause)
    }
}

#[cfg(test)]
mod tests;
