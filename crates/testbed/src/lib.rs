//! Everything around oriel that a demo, a test or a benchmark needs: certificate authorities,
//! upstreams, clients and a network that misbehaves on request.
//!
//! All of it lives on loopback, on ports the kernel picks. Whatever is started here owns its
//! tasks: dropping it ends them. Nothing in this crate knows the proxy, so that a test compares
//! two independent readings of the protocol.
//!
//! ```
//! use oriel_testbed::authority::Authority;
//! use oriel_testbed::client::{Client, Request};
//! use oriel_testbed::upstream::{Protocols, Upstream, UpstreamOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let authority = Authority::new("test authority");
//! let upstream = Upstream::start(UpstreamOptions::https(
//!     authority.issue(&["upstream.test"]),
//!     Protocols::Http1,
//! ))
//! .await?;
//!
//! let mut client = Client::connect(upstream.address()).await?;
//! client.start_tls("upstream.test", authority.client_config(&["http/1.1"])).await?;
//! let response = client.request(&Request::get("/bytes/10").host("upstream.test")).await?;
//! assert_eq!((response.head.status, response.body.seen), (200, 10));
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod authority;
pub mod clickhouse;
pub mod client;
pub mod faults;
pub mod forward_proxy;
pub mod gate;
pub mod message;
#[cfg(unix)]
pub mod postgres;
pub mod script;
mod stream;
pub mod upstream;
pub mod websocket;
pub mod wire;
