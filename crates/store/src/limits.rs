//! Every bound of this crate, with its reason.

/// Bytes the queue between the engine and the writer may hold: about a second of a fast upstream.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Events the same queue may hold: small events cost more than the bytes they carry.
pub const QUEUE_EVENTS_MAX: usize = 1_000_000;
