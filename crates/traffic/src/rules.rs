//! Decisions about traffic: compiled once, immutable, swapped whole.

pub mod capture;
pub mod filter;
pub mod gateway;
pub mod known;
pub mod no_proxy;
pub mod pattern;
pub mod private;
pub mod redact;
pub mod route;
pub mod upstream_proxy;
