//! The whole engine on loopback, between the fake clients and upstreams of `testbed`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alt_svc;
mod analysis;
mod contract;
mod decisions;
mod dial_guard;
mod embedded;
mod entrances;
mod events;
mod faults;
mod fidelity;
mod front;
mod gateways;
mod governors;
mod handler;
mod http2;
mod http2_frames;
mod http2_peer;
mod interception;
mod interests;
mod knobs;
mod listeners;
mod local_site;
mod max_forwards;
mod memory;
mod panics;
mod pool;
mod process;
mod recorder;
mod rejections;
mod reload;
mod running;
mod shutdown;
mod smuggling;
mod streaming;
mod tls_failures;
mod told;
mod translation;
mod tunnel;
mod upstream_proxy;
mod websocket;

use std::time::Duration;

/// Waits for something that happens at once unless it is broken, or the machine very busy.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, what)
        .await
        .expect("it happens within half a minute")
}
