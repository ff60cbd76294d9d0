//! The only reader of the wall clock in this crate.

use traffic::Timestamp;

/// The moment, in microseconds since the Unix epoch.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place; paused time in tests concerns waits, not stamps"
)]
pub(crate) fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A clock before 1970 is not worth a failure path.
    Timestamp(since_epoch.map_or(0, |elapsed| {
        i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
    }))
}
