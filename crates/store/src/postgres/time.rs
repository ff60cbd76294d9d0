//! Times as a `timestamp` without a zone has them: microseconds since 2000-01-01, in UTC.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use traffic::Timestamp;

/// 2000-01-01 in microseconds since 1970.
const EPOCH: i64 = 946_684_800_000_000;
/// The first and the last time that the server can hold, as it counts; see its timestamp.h.
const MIN: i64 = -211_813_488_000_000_000;
const MAX: i64 = 9_223_371_331_199_999_999;

/// A time of ours in a column of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub(super) Timestamp);

/// As the server counts, or as near as it can hold it.
pub(super) fn server_micros(at: Timestamp) -> i64 {
    at.0.saturating_sub(EPOCH).clamp(MIN, MAX)
}

impl<'a> FromSql<'a> for Time {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(Timestamp(micros.saturating_add(EPOCH))))
    }

    accepts!(TIMESTAMP);
}

impl ToSql for Time {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(server_micros(self.0));
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMP);
    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_within_what_the_server_can_hold() {
        for (at, expected) in [
            (EPOCH + 7, 7),
            (i64::MIN, MIN),
            (i64::MAX, i64::MAX - EPOCH),
        ] {
            assert_eq!(server_micros(Timestamp(at)), expected);
            let read = Time::from_sql(&Type::TIMESTAMP, &expected.to_be_bytes()).unwrap();
            assert_eq!(server_micros(read.0), expected);
        }
    }
}
