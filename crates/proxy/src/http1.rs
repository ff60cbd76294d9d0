//! HTTP/1.1: our own codec. Heads keep their bytes, bodies keep their framing.
//!
//! `head` and `body` are pure: bytes in, a verdict out, the same in any chunking. `connection`
//! reads and writes; `serve` tells the story of a client connection, `asked` what one request wants and
//! `answer` what it is told by us; `relay` carries one flow
//! between two HTTP/1.1 connections without changing the framing.

mod answer;
mod asked;
pub mod body;
pub(crate) mod connection;
pub mod head;
mod hold;
pub(crate) mod relay;
pub(crate) mod serve;
mod shown;
mod verdict;
