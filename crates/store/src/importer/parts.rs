//! Takes a flow apart into what its rows hold.

use traffic::Timestamp;

use crate::detail::{Field, put_bytes, put_number, put_time, put_varint};
use crate::{FlowDetail, FlowKind, HeadView};

/// What was asked for, as the columns have it.
pub(super) struct Asked<'d> {
    /// `scheme://host`, with the port where it is written; `host:port` for a tunnel.
    pub(super) url_start: &'d str,
    pub(super) path: &'d str,
    pub(super) query: &'d str,
}

impl<'d> Asked<'d> {
    pub(super) fn of(detail: &'d FlowDetail) -> Self {
        let row = &detail.row;
        let authority = row.url.find("://").map_or(0, |at| at + 3);
        let end = match row.kind {
            FlowKind::Tunnel => None,
            FlowKind::Http | FlowKind::WebSocket => {
                let rest = row.url.get(authority..).unwrap_or_default();
                rest.find(['/', '?', '#'])
            }
        };
        let end = end.map_or(row.url.len(), |end| authority + end);
        let (url_start, rest) = row.url.split_at(end);
        match rest.strip_prefix(row.path.as_str()) {
            Some(query) if row.path.starts_with('/') => Self {
                url_start,
                path: &row.path,
                query,
            },
            // A path like `*` is no part of the URL.
            _ if !rest.starts_with('/') => Self {
                url_start,
                path: &row.path,
                query: rest,
            },
            // Whoever made the flow had another notion of a path than we.
            _ => {
                let end = rest.find(['?', '#']).unwrap_or(rest.len());
                let (path, query) = rest.split_at(end);
                Self {
                    url_start,
                    path,
                    query,
                }
            }
        }
    }
}

/// From the start of a flow to its end.
pub(super) fn duration_us(detail: &FlowDetail) -> Option<i64> {
    let row = &detail.row;
    let until = row.ended_at.map(|at| since(row.started_at, at));
    until.or_else(|| row.duration_ms.and_then(micros))
}

/// From the start of a flow to the first byte of its response.
pub(super) fn first_byte_us(detail: &FlowDetail) -> Option<i64> {
    let row = &detail.row;
    let until = detail.response_started_at;
    until
        .map(|at| since(row.started_at, at))
        .or_else(|| row.first_byte_ms.and_then(micros))
}

/// The column `detail`.
pub(super) fn pack(detail: &FlowDetail) -> Vec<u8> {
    let mut out = Vec::new();
    pack_heads(&mut out, detail);
    pack_times(&mut out, detail);
    pack_numbers(&mut out, detail);
    pack_trailers(&mut out, detail);
    pack_gateway(&mut out, detail);
    pack_informational(&mut out, detail);
    out
}

fn pack_heads(out: &mut Vec<u8>, detail: &FlowDetail) {
    let request = Some(&detail.request);
    let response = detail.response.as_ref();
    put_head(out, Field::RequestHeadSize, Field::RequestHead, request);
    put_head(out, Field::ResponseHeadSize, Field::ResponseHead, response);
}

fn pack_times(out: &mut Vec<u8>, detail: &FlowDetail) {
    for (field, at) in [
        (Field::UpstreamReadyAt, detail.upstream_ready_at),
        (Field::RequestEndedAt, detail.request_sent_at),
        (Field::ResponseEndedAt, detail.response_ended_at),
    ] {
        if let Some(at) = at {
            put_time(out, field, since(detail.row.started_at, at));
        }
    }
}

fn pack_numbers(out: &mut Vec<u8>, detail: &FlowDetail) {
    let from_client = detail.messages.map(|counts| counts.from_client);
    let from_upstream = detail.messages.map(|counts| counts.from_upstream);
    for (field, number) in [
        (Field::UpstreamReused, detail.upstream_reused.map(u64::from)),
        (Field::RequestKept, detail.request_kept_bytes),
        (Field::ResponseKept, detail.response_kept_bytes),
        (Field::MessagesFromClient, from_client),
        (Field::MessagesFromUpstream, from_upstream),
    ] {
        if let Some(number) = number {
            put_number(out, field, number);
        }
    }
}

fn pack_trailers(out: &mut Vec<u8>, detail: &FlowDetail) {
    for (field, trailers) in [
        (Field::RequestTrailers, &detail.request_trailers),
        (Field::ResponseTrailers, &detail.response_trailers),
    ] {
        if !trailers.is_empty() {
            put_bytes(out, field, &head_text("", trailers));
        }
    }
}

fn pack_gateway(out: &mut Vec<u8>, detail: &FlowDetail) {
    let Some(gateway) = &detail.gateway else {
        return;
    };
    put_bytes(out, Field::GatewayRoute, gateway.route.as_bytes());
    put_bytes(out, Field::GatewayUrl, gateway.url.as_bytes());
    if let Some(id) = &gateway.request_id {
        put_bytes(out, Field::GatewayRequestId, id.as_bytes());
    }
}

fn pack_informational(out: &mut Vec<u8>, detail: &FlowDetail) {
    for head in &detail.informational {
        let text = head_text(&head.start_line, &head.fields);
        put_number(out, Field::InformationalSize, head.bytes);
        put_bytes(out, Field::Informational, &text);
    }
}

/// A number as SQLite has it.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A length as SQLite has it.
pub(super) fn integer_of(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A head is stored whole: it is compared with none.
fn put_head(out: &mut Vec<u8>, size: Field, steps: Field, head: Option<&HeadView>) {
    let Some(head) = head else {
        return;
    };
    put_number(out, size, head.bytes);
    if head.start_line.is_empty() && head.fields.is_empty() {
        put_bytes(out, steps, &[]);
        return;
    }
    let text = head_text(&head.start_line, &head.fields);
    let mut packed = Vec::with_capacity(text.len() + 5);
    put_varint(&mut packed, u64::try_from(text.len()).unwrap_or(0) << 1);
    packed.extend_from_slice(&text);
    put_bytes(out, steps, &packed);
}

/// A head as it stands in HTTP/1.1. Line feeds, which no head that was received has in a line, become
/// spaces.
fn head_text(start_line: &str, fields: &[(String, String)]) -> Vec<u8> {
    let one_line = |text: &str| text.replace('\n', " ");
    let mut text = one_line(start_line);
    text.push_str("\r\n");
    for (name, value) in fields {
        text.push_str(&one_line(name));
        text.push_str(": ");
        text.push_str(&one_line(value));
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn since(start: Timestamp, at: Timestamp) -> i64 {
    at.0.saturating_sub(start.0)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a float becomes the nearest integer there is"
)]
fn micros(milliseconds: f64) -> Option<i64> {
    milliseconds
        .is_finite()
        .then_some((milliseconds * 1000.0).round() as i64)
}
