//! The store from the outside: events in, answers out.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod records;
mod script;
