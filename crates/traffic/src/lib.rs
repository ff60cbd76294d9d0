//! What an intercepting proxy sees, as values: the words of the product, the wire codecs that
//! more than one crate needs, and the rules that decide about traffic.
//!
//! Everything here is pure. There is no socket, file, clock, thread or environment in this crate:
//! the same bytes give the same answer, in any chunking. The engine (`oriel-proxy`) reports
//! [`Event`]s in these words; the store turns them into records.
//!
//! ```
//! use oriel_traffic::Target;
//!
//! let target = Target::parse("API.OpenAI.com", 443)?;
//! assert_eq!(target.to_string(), "api.openai.com:443");
//! # Ok::<(), oriel_traffic::TargetError>(())
//! ```
#![warn(missing_docs)]
#![warn(clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::indexing_slicing, reason = "a test may fail by panicking")
)]

mod id;
mod target;
mod time;

pub mod connection;
pub mod event;
pub mod failure;
pub mod head;
pub mod process;
pub mod rules;
pub mod secret;
pub mod spelling;
pub mod wire;

pub use connection::{
    CertificateFacts, ClientAddress, ConnectionFacts, Front, ListenAddress, NoTls, PeerCredentials,
    ProxyDirection, TlsFacts, UpstreamFacts,
};
pub use event::{
    BodySize, CertificateRefused, Event, FlowKind, FlowStarted, Outcome, Rerouted, Streamed,
};
pub use failure::{Failure, FailureKind, Side, Stage};
pub use head::{Head, Version};
pub use id::{ConnectionId, FlowId};
pub use process::{AttributionError, ProcessAnswer, ProcessCell, ProcessInfo};
pub use rules::route::{Action, Route};
pub use target::{Host, Scheme, Target, TargetError};
pub use time::Timestamp;
pub use wire::websocket::Sender;
