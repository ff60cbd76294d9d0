//! An intercepting HTTP and TLS proxy engine.
//!
//! Where it stands: it accepts client connections, learns whom they want, opens TLS where the
//! rules allow it (or passes the bytes untouched), carries HTTP/1.1 and HTTP/2 to the upstream,
//! and reports what it saw as [`traffic::Event`]s to a [`Watcher`]. It never stores anything,
//! knows nothing of what a request means, and reads no file, variable or flag on its own.
//!
//! # Four ways to embed it
//! From the lowest to the highest:
//! - [`Proxy`] with a [`Watcher`] takes every event as it is, and decides nothing.
//! - [`Proxy::bind_with_handler`] with an [`InterceptHandler`] decides about requests before
//!   anything is sent, and is told of the rest in order.
//! - [`MitmProxyBuilder`] makes a whole proxy of a handler and one [`MitmConfig`], its authority
//!   included. **Begin here.**
//! - [`analysis`] is a builder that brings a chain of analyzers and a log.
//!
//! ```
//! use std::time::Duration;
//!
//! use oriel_proxy::{HandlerDecision, InterceptHandler, MitmConfig, MitmProxyBuilder, RawRequest};
//!
//! struct Doorkeeper;
//!
//! impl InterceptHandler for Doorkeeper {
//!     async fn on_request(&self, request: &RawRequest) -> HandlerDecision {
//!         match request.path.starts_with("/internal") {
//!             true => HandlerDecision::Block { status: 403, body: "not from here".into() },
//!             false => HandlerDecision::Allow,
//!         }
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let mut config = MitmConfig::default();
//! config.interception.destinations.push("api.example.com:443".to_string());
//! # config.bind = "127.0.0.1:0".parse()?;
//! # config.tls.ca_cert_path = folder.path().join("ca.pem");
//! # config.tls.ca_key_path = folder.path().join("ca-key.pem");
//! let handle = MitmProxyBuilder::new(config, Doorkeeper).build()?.start().await?;
//! println!("{} connections", handle.metrics().active_connections);
//! handle.shutdown(Duration::from_secs(2)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What an embedder can rely on
//! - **Decided first.** No byte of a request goes to the upstream before `on_request` has said so.
//!   A connection may be opened before it, to learn which version of HTTP the upstream speaks.
//! - **Once and in order.** Each callback comes as often as [`handler`] says, for each connection
//!   id and each stream of HTTP/2, whatever happens to the connection; every open has its close.
//! - **Closed when in doubt.** A handler that panics or takes too long has its request blocked,
//!   unless `on_error` says otherwise.
//! - **The wire is not touched.** What is shown to a handler may be cut; what passes is whole.
//! - **Nothing is shared.** Two proxies in one process do not influence each other.
//! - **Changed whole or not at all.** [`MitmProxyHandle::reload`] takes a configuration or says
//!   what is wrong with it; what is under way keeps the one it began with.
//! - **Ended in order.** [`MitmProxyHandle::shutdown`] lets flows end for as long as it is given,
//!   cuts the rest, says how much that was, and tells every close before it returns.
//! - **Bounded.** Every queue, cache, buffer and wait has a bound: in the configuration, or in
//!   [`limits`] with its reason. What is refused or dropped for it is counted in [`metrics`].
//!
//! # Reading the code
//! Read `connection.rs` first: it follows one connection from its first byte to its last.
#![warn(missing_docs)]

pub mod analysis;
pub mod config;
pub mod limits;

mod accept;
mod admission;
mod clock;
mod connect;
mod connection;
mod deadline;
mod destination;
mod entrance;
mod error;
mod first_bytes;
mod gateway;
mod governor;
pub mod handler;
mod hops;
pub mod http1;
mod http2;
mod listen;
mod local_site;
mod max_forwards;
pub mod metrics;
pub mod mitm;
mod new_file;
pub mod process;
mod refuse;
mod rejections;
mod shutdown;
mod socks5;
mod stream;
mod tap;
pub mod tls;
mod translate;
mod tunnel;
mod upstream;
mod websocket;

pub use accept::{BindError, Control, Drained, Proxy, ReloadError};
pub use admission::{Admission, AnyPassword, Credentials, Login, Verifier, VerifierError};
pub use config::{
    AltSvc, AutoBypass, ClientCertificate, ConnectPorts, Governor, Listener, ListenerMode,
    ListenerTls, MinTlsVersion, Pool, ProxyConfig, ProxyCredentials, ProxyScheme, ProxyUrl,
    ProxyUrlError, Rejections, ReverseTo, ReverseToError, SniMismatch, Timeouts, UpstreamProxy,
    UpstreamTrust,
};
pub use handler::{
    Ancestor, BodyView, ConnectionMeta, Container, ContainerRuntime, FrameKind, HandlerDecision,
    InterceptHandler, Interests, LocalResponse, OnError, ProcessInfo, RawRequest, RawResponse,
    RequestEdit, RequestLine, Sender, SocketFamily, StreamChunk, TlsInfo,
};
pub use http1::head::frames_or_routes;
pub use listen::{ListeningSocket, SocketFile};
pub use local_site::LocalSite;
pub use metrics::Metrics;
pub use mitm::{
    InvalidConfig, InvalidField, MitmConfig, MitmError, MitmProxy, MitmProxyBuilder,
    MitmProxyHandle,
};
pub use tap::{ReadStreams, Watcher};
pub use tls::authority::Authority;
