//! Values of the filter language: numbers, sizes, durations, times, and ranges of them.
//! Every value is read with its precision: `2026-03-02` is the whole day.

use super::Bounds;
use crate::Timestamp;

/// What kind of number a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A status code; `4xx` is a hundred of them.
    Status,
    /// Bytes.
    Bytes,
    /// A whole number.
    Count,
    /// Microseconds; a plain number is milliseconds.
    Duration,
    /// A moment.
    Time,
}

/// A value with its precision: the first and the last number it may be.
type Span = (i64, i64);

impl Unit {
    /// What a value may look like, for error messages.
    pub(super) fn example(self) -> &'static str {
        match self {
            Self::Status => "404, 4xx, >=400 or 400..499",
            Self::Bytes => "0, >50k, <=2MiB or 1k..1M",
            Self::Count => "4711, >=1000 or 1000..2000",
            Self::Duration => ">1.5s, <200ms or 1s..1m",
            Self::Time => "1h, 7d, 2026-03-02 or 2026-03-02T09:30:00Z",
        }
    }

    /// Reads a value, a comparison or a range.
    pub(super) fn bounds(self, text: &str, now: Timestamp) -> Option<Bounds> {
        let value = |text: &str| self.value(text, now);
        if let Some(rest) = text.strip_prefix(">=") {
            return value(rest).map(|(first, _)| from(first));
        }
        if let Some(rest) = text.strip_prefix("<=") {
            return value(rest).map(|(_, last)| to(last));
        }
        if let Some(rest) = text.strip_prefix('>') {
            return value(rest).map(|(_, last)| from(last.saturating_add(1)));
        }
        if let Some(rest) = text.strip_prefix('<') {
            return value(rest).map(|(first, _)| to(first.saturating_sub(1)));
        }
        if let Some((low, high)) = text.split_once("..") {
            let low = (!low.is_empty()).then(|| value(low));
            let high = (!high.is_empty()).then(|| value(high));
            return match (low, high) {
                (None, None) | (Some(None), _) | (_, Some(None)) => None,
                (low, high) => Some(Bounds {
                    min: low.flatten().map(|(first, _)| first),
                    max: high.flatten().map(|(_, last)| last),
                }),
            };
        }
        value(text).map(|(first, last)| Bounds {
            min: Some(first),
            max: Some(last),
        })
    }

    /// Reads one value.
    pub(super) fn value(self, text: &str, now: Timestamp) -> Option<Span> {
        let exact = |number: i64| (number, number);
        match self {
            Self::Status => status(text),
            Self::Bytes => scaled(text, size_unit).map(exact),
            Self::Count => text.parse().ok().filter(|count| *count >= 0).map(exact),
            Self::Duration => scaled(text, duration_unit).map(exact),
            Self::Time => match scaled(text, age_unit) {
                Some(age) => Some(exact(now.0.saturating_sub(age))),
                None => moment(text),
            },
        }
    }
}

fn from(min: i64) -> Bounds {
    Bounds {
        min: Some(min),
        max: None,
    }
}

fn to(max: i64) -> Bounds {
    Bounds {
        min: None,
        max: Some(max),
    }
}

fn status(text: &str) -> Option<Span> {
    if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        let class: i64 = digits(class, 1)?;
        return Some((class * 100, class * 100 + 99));
    }
    let code = digits(text, text.len().min(3))?;
    Some((code, code))
}

/// A number with a unit, `1.5k`; exact, without a detour over floating point.
fn scaled(text: &str, unit: fn(&str) -> Option<i64>) -> Option<i64> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let (number, name) = text.split_at_checked(end)?;
    let unit = unit(name)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || fraction.len() > 9 {
        return None;
    }
    let places = u32::try_from(fraction.len()).ok()?;
    let scale = 10_i128.pow(places);
    let mut digits = i128::from(whole.parse::<i64>().ok()?) * scale;
    if !fraction.is_empty() {
        digits += i128::from(fraction.parse::<u32>().ok()?);
    }
    i64::try_from(digits * i128::from(unit) / scale).ok()
}

fn size_unit(name: &str) -> Option<i64> {
    Some(match name.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        _ => return None,
    })
}

fn duration_unit(name: &str) -> Option<i64> {
    Some(match name {
        "us" | "µs" => 1,
        "" | "ms" => 1000,
        name => return age_unit(name),
    })
}

/// Units in which one says how long ago something was.
fn age_unit(name: &str) -> Option<i64> {
    const SECOND: i64 = 1_000_000;
    Some(match name {
        "s" => SECOND,
        "m" | "min" => 60 * SECOND,
        "h" => 3600 * SECOND,
        "d" => 86_400 * SECOND,
        "w" => 7 * 86_400 * SECOND,
        _ => return None,
    })
}

/// A date, or a date and a time of day (RFC 3339); without an offset it is UTC.
fn moment(text: &str) -> Option<Span> {
    const DAY: i64 = 86_400_000_000;
    let (date, time) = match text.split_once(['T', 't']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let midnight = days(date)? * DAY;
    let Some(time) = time else {
        return Some((midnight, midnight + DAY - 1));
    };
    let (time, offset) = split_offset(time)?;
    let (start, length) = time_of_day(time)?;
    let first = midnight + start - offset;
    Some((first, first + length - 1))
}

/// Microseconds since midnight, and how many of them the text may mean.
fn time_of_day(text: &str) -> Option<(i64, i64)> {
    const SECOND: i64 = 1_000_000;
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let mut parts = clock.split(':');
    let hour = digits(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = digits(parts.next()?, 2).filter(|minute| *minute < 60)?;
    let second = match parts.next() {
        Some(second) => Some(digits(second, 2).filter(|second| *second <= 60)?),
        None => None,
    };
    if parts.next().is_some() {
        return None;
    }
    let start = (hour * 3600 + minute * 60 + second.unwrap_or(0)) * SECOND;
    match (second, fraction) {
        (None, None) => Some((start, 60 * SECOND)),
        (None, Some(_)) => None,
        (Some(_), None) => Some((start, SECOND)),
        (Some(_), Some(fraction)) => {
            let places = fraction.len().min(6);
            let length = 10_i64.pow(u32::try_from(6 - places).ok()?);
            if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let number: i64 = fraction.get(..places)?.parse().ok()?;
            Some((start + number * length, length))
        }
    }
}

/// The time of day and its offset from UTC in microseconds.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let Some(at) = text.find(['+', '-']) else {
        return Some((text, 0));
    };
    let (time, offset) = text.split_at_checked(at)?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let minutes = digits(hours, 2)? * 60 + digits(minutes, 2)?;
    Some((time, sign * minutes * 60_000_000))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let year = digits(parts.next()?, 4)?;
    let month = digits(parts.next()?, 2)?;
    let day = digits(parts.next()?, 2)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [
        31,
        28 + i64::from(leap),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let before = usize::try_from(month).ok()?.checked_sub(1)?;
    if parts.next().is_some() || day < 1 || day > *lengths.get(before)? {
        return None;
    }
    let years = year - 1;
    // 719162 days lie between 0001-01-01 and 1970-01-01.
    let whole_years = years * 365 + years / 4 - years / 100 + years / 400 - 719_162;
    let months: i64 = lengths.iter().take(before).sum();
    Some(whole_years + months + day - 1)
}

/// Exactly so many ASCII digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    let good =
        !text.is_empty() && text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten()
}
