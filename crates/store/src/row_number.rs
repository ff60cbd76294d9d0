//! The number of a row of `flows`: it holds the time when the flow started, so that rows lie in the
//! order of time and a list needs no index.

use traffic::Timestamp;

/// Bits below the time, for flows that start in the same microsecond. Times up to the year 2255 fit.
const TIE_BITS: u32 = 10;

/// The first number of a flow that started at this time.
pub(crate) fn first_row_at(at: Timestamp) -> i64 {
    at.0.clamp(i64::MIN >> TIE_BITS, i64::MAX >> TIE_BITS) << TIE_BITS
}

/// The last number of a flow that started at this time.
pub(crate) fn last_row_at(at: Timestamp) -> i64 {
    first_row_at(at) | ((1 << TIE_BITS) - 1)
}

/// When a flow with this number started.
pub(crate) fn started_at(row: i64) -> Timestamp {
    Timestamp(row >> TIE_BITS)
}

/// The column `start_time` of a flow with this number: 0 if the number says it. It does not where more flows
/// started at one time than there are numbers for it.
pub(crate) fn stored_start(row: i64, at: Timestamp) -> i64 {
    match started_at(row) == at {
        true => 0,
        false => at.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_the_order_of_time() {
        let times = [i64::MIN, -1, 0, 1, 1_772_442_000_000_000];
        for pair in times.windows(2) {
            let [before, after] = pair else {
                unreachable!("windows of two");
            };
            assert!(last_row_at(Timestamp(*before)) < first_row_at(Timestamp(*after)));
        }
        assert_eq!(started_at(last_row_at(Timestamp(5))), Timestamp(5));
        assert_eq!(last_row_at(Timestamp(i64::MAX)), i64::MAX);
        assert_eq!(stored_start(last_row_at(Timestamp(5)), Timestamp(5)), 0);
        assert_eq!(stored_start(last_row_at(Timestamp(5)) + 1, Timestamp(5)), 5);
    }
}
