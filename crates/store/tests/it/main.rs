//! The store from the outside: events in, answers out.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod annotations;
mod backends;
mod changes;
mod copies;
mod crash;
mod files;
mod filters;
mod foreign;
mod formats;
mod http_traces;
mod ids;
mod json;
mod losses;
mod maintenance;
mod messages;
mod outages;
mod pages;
#[cfg(feature = "parquet")]
mod parquet;
mod postgres;
mod records;
mod redaction;
mod retention;
mod script;
mod search;
mod sessions;
mod shipping;
mod spool;
mod summary;
