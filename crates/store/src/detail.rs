//! The column `detail` of `flows`: what is asked for rarely, packed.
//!
//! The bytes are Protocol Buffers wire format (varints and length-delimited fields), of a message
//! whose fields are those of [`Field`]; a reader passes over fields that it does not know. Times are
//! zigzag varints of microseconds since the flow started. Nothing that is stored is trusted: what is
//! no such message is an error, not a panic.

use std::iter;

/// The fields. Their numbers are stored: one that was used is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Field {
    /// Bytes of the request's head as received.
    RequestHeadSize = 1,
    /// The request's head; see [`crate::head_delta`].
    RequestHead = 2,
    /// Bytes of the response's head as received.
    ResponseHeadSize = 3,
    /// The response's head; see [`crate::head_delta`].
    ResponseHead = 4,
    /// When the upstream connection was ready for this flow.
    UpstreamReadyAt = 5,
    /// 1 if that connection had served before, else 0.
    UpstreamReused = 6,
    /// When the last byte of the request was sent on.
    RequestEndedAt = 7,
    /// When the last byte of the response was sent on.
    ResponseEndedAt = 8,
    /// Bytes of the request body that are stored.
    RequestKept = 9,
    /// Bytes of the response body that are stored.
    ResponseKept = 10,
    /// Trailer fields of the request, masked, behind an empty start line.
    RequestTrailers = 11,
    /// Trailer fields of the response.
    ResponseTrailers = 12,
    /// Bytes of an interim head as received; stands before that head.
    InformationalSize = 13,
    /// An interim head, masked.
    Informational = 14,
    /// Messages that the client of a WebSocket sent, those included that were not kept.
    MessagesFromClient = 15,
    /// The same of the upstream.
    MessagesFromUpstream = 16,
    /// The name of the route by which the request went to a gateway.
    GatewayRoute = 17,
    /// The URL that was asked for there, masked.
    GatewayUrl = 18,
    /// The id of the request that the gateway was told.
    GatewayRequestId = 19,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A varint.
    Number(u64),
    /// A length-delimited field.
    Bytes(&'a [u8]),
}

/// The wire types that are used.
const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;

/// Appends a number.
pub(crate) fn put_number(out: &mut Vec<u8>, field: Field, number: u64) {
    put_varint(out, tag(field, VARINT));
    put_varint(out, number);
}

/// Appends a time as its distance from when the flow started.
pub(crate) fn put_time(out: &mut Vec<u8>, field: Field, micros: i64) {
    let zigzag = (micros << 1) ^ (micros >> 63);
    put_number(out, field, u64::from_ne_bytes(zigzag.to_ne_bytes()));
}

/// Appends bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: Field, bytes: &[u8]) {
    put_varint(out, tag(field, LENGTH_DELIMITED));
    put_varint(out, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(bytes);
}

/// Appends a varint: seven bits a byte, the lowest first, all but the last with the high bit set.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

/// Takes a varint off the front.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f).checked_shl(shift)?;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Takes as many bytes off the front as a varint there says.
pub(crate) fn take_bytes<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}

/// The time that [`put_time`] wrote, in microseconds since the flow started.
pub(crate) fn micros(zigzag: u64) -> i64 {
    let half = i64::from_ne_bytes((zigzag >> 1).to_ne_bytes());
    half ^ -i64::from(zigzag & 1 == 1)
}

/// The fields in the order in which they stand; `None` at the end for bytes that are no message.
pub(crate) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u64, Value<'_>)>> {
    iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = take_field(&mut bytes);
        if field.is_none() {
            bytes = &[];
        }
        Some(field)
    })
}

fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = take_varint(bytes)?;
    let number = take_varint(bytes)?;
    let value = match tag & 7 {
        VARINT => Value::Number(number),
        LENGTH_DELIMITED => Value::Bytes(take_bytes(bytes, number)?),
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn tag(field: Field, wire_type: u64) -> u64 {
    u64::from(field as u8) << 3 | wire_type
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_what_it_writes(number in any::<u64>(), time in any::<i64>(), text in any::<Vec<u8>>()) {
            let time = time >> 1;
            let mut out = Vec::new();
            put_number(&mut out, Field::RequestKept, number);
            put_time(&mut out, Field::UpstreamReadyAt, time);
            put_bytes(&mut out, Field::Informational, &text);
            let found: Vec<_> = fields(&out).collect();
            prop_assert_eq!(found[0], Some((9, Value::Number(number))));
            let Some((5, Value::Number(zigzag))) = found[1] else {
                return Err(TestCaseError::fail("no time"));
            };
            prop_assert_eq!(micros(zigzag), time);
            prop_assert_eq!(found[2], Some((14, Value::Bytes(&text))));
            prop_assert_eq!(found.len(), 3);
        }

        #[test]
        fn takes_any_bytes(bytes in any::<Vec<u8>>()) {
            prop_assert!(fields(&bytes).count() <= bytes.len());
        }
    }
}
