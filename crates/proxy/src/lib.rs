//! An intercepting HTTP and TLS proxy engine.
//!
//! Where it stands: it accepts client connections, learns whom they want, opens TLS where the
//! rules allow it (or passes the bytes untouched), carries HTTP/1.1 and HTTP/2 to the upstream,
//! and reports what it saw as [`traffic::Event`]s to a [`Watcher`]. It never stores anything,
//! knows nothing of what a request means, and reads no file, variable or flag on its own.
//!
//! Four ways to embed it, from the lowest to the highest: a [`Watcher`] takes every event as it
//! is; a [`handler`] decides about requests and is told of the rest; [`mitm`] makes a whole proxy of
//! a handler and one configuration; [`analysis`] is a builder that brings a chain of analyzers and a
//! log.
//!
//! Read `connection.rs` first: it follows one connection from its first byte to its last.
#![warn(missing_docs)]

pub mod analysis;
pub mod config;
pub mod limits;

mod accept;
mod clock;
mod connection;
mod deadline;
mod destination;
mod error;
mod first_bytes;
mod governor;
pub mod handler;
pub mod http1;
mod http2;
mod listen;
mod max_forwards;
pub mod metrics;
pub mod mitm;
mod new_file;
pub mod process;
mod refuse;
mod shutdown;
mod stream;
mod tap;
pub mod tls;
mod translate;
mod tunnel;
mod upstream;
mod websocket;

pub use accept::{BindError, Control, Drained, Proxy, ReloadError};
pub use config::{
    AltSvc, ClientCertificate, ConnectPorts, Governor, Listener, MinTlsVersion, Pool, ProxyConfig,
    SniMismatch, Timeouts, UpstreamTrust,
};
pub use handler::{
    BodyView, ConnectionMeta, FrameKind, HandlerDecision, InterceptHandler, Interests,
    LocalResponse, OnError, ProcessInfo, RawRequest, RawResponse, RequestEdit, Sender,
    SocketFamily, StreamChunk, TlsInfo,
};
pub use metrics::Metrics;
pub use mitm::{
    InvalidConfig, InvalidField, MitmConfig, MitmError, MitmProxy, MitmProxyBuilder,
    MitmProxyHandle,
};
pub use tap::{ReadStreams, Watcher};
pub use tls::authority::Authority;
