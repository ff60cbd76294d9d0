//! TLS on both sides: our authority and its leaves towards clients, verification towards
//! upstreams.

pub mod authority;
