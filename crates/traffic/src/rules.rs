//! Decisions about traffic: compiled once, immutable, swapped whole.

pub mod pattern;
pub mod route;
