//! TLS on both sides: our authority and its leaves towards clients, verification towards
//! upstreams.

pub mod authority;
pub(crate) mod certificate;
pub mod client_side;
pub(crate) mod der;
pub mod leaf;
#[cfg(test)]
pub(crate) mod tests;
pub mod upstream_side;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// The one cryptography provider. It is passed explicitly and never installed for the process: an
/// embedder may have its own.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}
