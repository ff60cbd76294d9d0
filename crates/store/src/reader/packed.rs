//! Unpacks the column `detail` of a flow.

use traffic::Timestamp;

use super::row::after;
use crate::detail::{Field, Value, fields, micros};

/// What it holds; see [`Field`]. A number that is missing is not known.
#[derive(Debug, Default)]
pub(super) struct Detail<'a> {
    pub(super) request_head: Option<&'a [u8]>,
    pub(super) response_head: Option<&'a [u8]>,
    pub(super) request_trailers: Option<&'a [u8]>,
    pub(super) response_trailers: Option<&'a [u8]>,
    pub(super) gateway_route: Option<&'a [u8]>,
    pub(super) gateway_url: Option<&'a [u8]>,
    pub(super) gateway_request_id: Option<&'a [u8]>,
    /// Size and text of each.
    pub(super) informational: Vec<(u64, &'a [u8])>,
    /// By the number of the field.
    numbers: [Option<u64>; FIELDS],
}

/// One more than the largest field number.
const FIELDS: usize = Field::MessagesFromUpstream as usize + 1;

impl<'a> Detail<'a> {
    /// Reads it; `None` if it is damaged. Unknown fields are passed over.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut detail = Self::default();
        for field in fields(bytes) {
            let (field, value) = field?;
            match value {
                Value::Bytes(bytes) => detail.take_bytes(field, bytes),
                Value::Number(number) => {
                    let place = usize::try_from(field).ok();
                    if let Some(place) = place.and_then(|place| detail.numbers.get_mut(place)) {
                        *place = Some(number);
                    }
                }
            }
        }
        Some(detail)
    }

    /// A number.
    pub(super) fn number(&self, field: Field) -> Option<u64> {
        self.numbers.get(field as usize).copied().flatten()
    }

    /// A time of a flow that started at `start`.
    pub(super) fn time(&self, field: Field, start: Timestamp) -> Option<Timestamp> {
        Some(after(start, micros(self.number(field)?)))
    }

    fn take_bytes(&mut self, field: u64, bytes: &'a [u8]) {
        let is = |known: Field| u64::from(known as u8) == field;
        if is(Field::RequestHead) {
            self.request_head = Some(bytes);
        } else if is(Field::ResponseHead) {
            self.response_head = Some(bytes);
        } else if is(Field::RequestTrailers) {
            self.request_trailers = Some(bytes);
        } else if is(Field::ResponseTrailers) {
            self.response_trailers = Some(bytes);
        } else if is(Field::GatewayRoute) {
            self.gateway_route = Some(bytes);
        } else if is(Field::GatewayUrl) {
            self.gateway_url = Some(bytes);
        } else if is(Field::GatewayRequestId) {
            self.gateway_request_id = Some(bytes);
        } else if is(Field::Informational) {
            let size = self.number(Field::InformationalSize).unwrap_or(0);
            self.informational.push((size, bytes));
        }
    }
}
