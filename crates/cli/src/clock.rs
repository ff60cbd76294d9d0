//! The present moment, read in one place.

use traffic::Timestamp;

/// The present moment by the clock of the system.
pub(crate) fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_microsecond())
}
