//! What traffic means where models are asked: which kind of traffic a request is, and which
//! session of which agent it belongs to.
//!
//! Everything here is pure: no socket, file, clock, thread or environment. What is read was sent by
//! others, so nothing is relied on: odd bytes give less knowledge, never an error, and each look at
//! a body takes time in proportion to what it may look at (`limits`).
//!
//! ```
//! use bytes::Bytes;
//! use oriel_llm::{Body, Glance, Interpreter, Request, TrafficType};
//! use traffic::{FlowKind, Head, Target, Version};
//!
//! let head = Head {
//!     version: Version::Http11,
//!     text: Bytes::from_static(
//!         b"POST /v1/messages HTTP/1.1\r\nX-Claude-Code-Session-Id: 5cbd\r\n\r\n",
//!     ),
//! };
//! let interpreter = Interpreter::default();
//! let meaning = interpreter.interpret(
//!     interpreter.host_class(&Target::parse("localhost", 4000)?),
//!     &Request {
//!         kind: FlowKind::Http,
//!         method: "POST",
//!         path: "/v1/messages",
//!         content_type: None,
//!         head: &head,
//!         glance: Glance::of(&head),
//!         body: Body::UNKNOWN,
//!     },
//! );
//! assert_eq!(meaning.traffic_type, TrafficType::Llm);
//! assert_eq!(meaning.identity.map(|identity| identity.session), Some("5cbd".to_owned()));
//! # Ok::<(), traffic::TargetError>(())
//! ```
#![warn(missing_docs)]
#![warn(clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::indexing_slicing, reason = "a test may fail by panicking")
)]

mod agent;
mod body;
mod conversation;
mod fields;
mod glance;
mod host;
mod identity;
mod interpret;
mod json;
mod mcp;
mod path;
mod trace;
mod traffic_type;

pub mod limits;

pub use body::Body;
pub use conversation::Conversation;
pub use glance::Glance;
pub use host::HostClass;
pub use identity::{Confidence, Identity, Link, Method};
pub use interpret::{Interpreter, Meaning, Request};
pub use traffic_type::TrafficType;
