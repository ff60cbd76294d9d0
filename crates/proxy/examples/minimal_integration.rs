//! The smallest program that embeds the proxy: a handler that keeps one path from being asked for
//! and leaves one program's connections closed.
//!
//! ```text
//! cargo run -p oriel-proxy --example minimal_integration
//! ```
//!
//! It listens on 127.0.0.1:8080 and makes its authority in `certs/`, both of which `MitmConfig` can
//! change, and stops again at once.

use std::time::Duration;

use bytes::Bytes;
use oriel_proxy::{
    HandlerDecision, InterceptHandler, MitmConfig, MitmProxyBuilder, ProcessInfo, RawRequest,
};

struct Doorkeeper;

impl InterceptHandler for Doorkeeper {
    fn should_intercept_tls(&self, _host: &str, process_info: Option<&ProcessInfo>) -> bool {
        let program = process_info.and_then(|process| process.exe_name.as_deref());
        program != Some("backup-agent")
    }

    async fn on_request(&self, request: &RawRequest) -> HandlerDecision {
        if !request.path.contains("/internal") {
            return HandlerDecision::Allow;
        }
        HandlerDecision::Block {
            status: 403,
            body: Bytes::from_static(b"internal paths stay inside"),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = MitmConfig::default();
    let opened = "api.example.com:443".to_owned();
    config.interception.destinations.push(opened);

    let proxy = MitmProxyBuilder::new(config, Doorkeeper).build()?;
    let handle = proxy.start().await?;

    let _metrics = handle.metrics();
    handle.shutdown(Duration::from_secs(2)).await?;
    Ok(())
}
