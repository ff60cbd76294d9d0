//! HTTP/2 on both sides, with the `h2` crate driven directly: its streams run as futures inside
//! the task of their client connection, an upstream connection has one task that drives it.

pub(crate) mod client;
mod patience;
mod responder;
pub(crate) mod serve;
mod silence;
pub(crate) mod stream;
pub(crate) mod tunnel;
mod verdict;
