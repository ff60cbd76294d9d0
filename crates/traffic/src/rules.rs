//! Decisions about traffic: compiled once, immutable, swapped whole.

pub mod filter;
pub mod known;
pub mod pattern;
pub mod redact;
pub mod route;
