//! Wire codecs that more than one crate needs: bytes in, values out, in any chunking.

pub mod alt_svc;
pub mod client_hello;
pub mod encoding;
pub mod fingerprint;
pub mod limits;
pub mod proxy_protocol;
pub mod socks5;
pub mod stream;
pub mod websocket;
