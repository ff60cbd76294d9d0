//! A flow as a foreign file tells it, on its way to become a record: masked like live traffic, with the
//! same words for the same things.

use bytes::Bytes;
use llm::Interpreter;
use traffic::rules::redact::Redaction;
use traffic::{Head, Host, Target, Timestamp, Version};

use super::Import;
use crate::{
    ConnectionView, ErrorView, FlowDetail, FlowKind, FlowRecord, FlowRef, FlowRow, FlowState,
    HeadView, MessageCounts, SessionMark, StreamMessage, TrafficType, UpstreamView, flow_uuid,
    head_text,
};

/// What a foreign file tells of a flow.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) method: String,
    pub(super) url: Url,
    pub(super) request: DraftMessage,
    /// Status and reason of the response, and the rest of it.
    pub(super) response: Option<(u16, String, DraftMessage)>,
    pub(super) started_at: Timestamp,
    pub(super) request_sent_at: Option<Timestamp>,
    pub(super) response_started_at: Option<Timestamp>,
    pub(super) ended_at: Option<Timestamp>,
    /// Why it failed.
    pub(super) error: Option<String>,
    pub(super) client: Option<ConnectionView>,
    pub(super) upstream: Option<UpstreamView>,
    pub(super) is_websocket: bool,
    pub(super) messages: Vec<StreamMessage>,
    pub(super) note: Option<String>,
    pub(super) tags: Vec<String>,
}

/// One of the two messages.
#[derive(Debug, Default)]
pub(super) struct DraftMessage {
    /// For example `HTTP/1.1`.
    pub(super) version: String,
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// As it passed: content-encoded as the fields say.
    pub(super) body: Option<Vec<u8>>,
    /// Bytes that passed, if the file says so.
    pub(super) body_bytes: Option<u64>,
    /// Less is there than passed.
    pub(super) is_cut: bool,
}

/// A URL in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) scheme: &'static str,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// From the slash on; with the query, without the fragment.
    pub(super) path: String,
}

impl Url {
    /// Reads a URL of HTTP or of a WebSocket.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => ("http", 80),
            "https" | "wss" => ("https", 443),
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        let authority = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let path = path.split_once('#').map_or(path, |(path, _)| path);
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        (!host.is_empty()).then(|| Self {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
            path,
        })
    }

    fn origin(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.scheme, self.port) {
            ("http", 80) | ("https", 443) => format!("{}://{host}", self.scheme),
            (scheme, port) => format!("{scheme}://{host}:{port}"),
        }
    }
}

impl Draft {
    /// The record of it: the next flow of the run that is imported into.
    pub(super) fn record(self, import: &mut Import) -> FlowRecord {
        let redaction = import.redaction;
        let seq = import.next_seq();
        let target = redaction.mask_url(self.url.path.as_bytes());
        let target = head_text::text_of_line(&target).into_owned();
        let request_line = format!("{} {target} {}", self.method, self.request.version);
        let request = self.request.head(&request_line, redaction);
        let response = self.response.as_ref().map(|(status, reason, message)| {
            let line = format!("{} {status} {reason}", message.version);
            message.head(&line, redaction)
        });
        let row = self.row(import, seq, &target);
        let (from_client, from_upstream) = self.sent();
        let is_websocket = row.kind == FlowKind::WebSocket;
        let (status_message, request_body) = (self.response, self.request.body);
        let content_type = |head: &HeadView| field(head, "content-type");
        let kept = |body: &Option<Vec<u8>>| body.as_ref().map(|body| length(body.len()));
        let request_trailers = self.request.trailers;
        let (response_trailers, response_body) = match status_message {
            Some((_, _, message)) => (message.trailers, message.body),
            None => (Vec::new(), None),
        };
        let detail = FlowDetail {
            scheme: self.url.scheme.to_owned(),
            request_content_type: content_type(&request),
            request_kept_bytes: kept(&request_body).or(Some(0)),
            response_kept_bytes: kept(&response_body).or(Some(0)),
            request,
            response,
            informational: Vec::new(),
            request_trailers: masked_fields(&request_trailers, redaction),
            response_trailers: masked_fields(&response_trailers, redaction),
            upstream_ready_at: None,
            upstream_reused: None,
            request_sent_at: self.request_sent_at,
            response_started_at: self.response_started_at,
            response_ended_at: self.ended_at,
            client: self.client,
            upstream: self.upstream,
            gateway: None,
            messages: is_websocket
                .then_some(MessageCounts {
                    from_client,
                    from_upstream,
                })
                .filter(|_| from_client + from_upstream > 0),
            row,
        };
        FlowRecord {
            run: import.run.clone(),
            detail,
            request_body: request_body.filter(|body| !body.is_empty()),
            response_body: response_body.filter(|body| !body.is_empty()),
            messages: self.messages,
        }
    }

    fn row(&self, import: &Import, seq: u64, target: &str) -> FlowRow {
        let path_end = target.find('?').unwrap_or(target.len());
        let millis =
            |at: Option<Timestamp>| at.map(|at| milliseconds(at.micros_since(self.started_at)));
        let response = self.response.as_ref().map(|(_, _, message)| message);
        let error = self.error.as_ref().map(|text| ErrorView {
            side: "upstream".to_owned(),
            stage: "response".to_owned(),
            kind: "io".to_owned(),
            text: text.clone(),
            replied_status: None,
        });
        let content_type = response.and_then(|message| message.field("content-type"));
        let (traffic_type, session) = self.meaning();
        FlowRow {
            id: FlowRef {
                run: import.run.id,
                seq,
            },
            uuid: flow_uuid(self.started_at, import.random_bits(seq)),
            kind: match self.is_websocket {
                true => FlowKind::WebSocket,
                false => FlowKind::Http,
            },
            state: match (&error, response) {
                (Some(_), _) => FlowState::Failed,
                (None, Some(_)) => FlowState::Completed,
                (None, None) => FlowState::Interrupted,
            },
            started_at: self.started_at,
            ended_at: self.ended_at,
            duration_ms: millis(self.ended_at),
            first_byte_ms: millis(self.response_started_at),
            method: self.method.clone(),
            // Of `*` nothing stands in the URL.
            url: self.url.origin() + if target.starts_with('/') { target } else { "" },
            host: self.url.host.clone(),
            port: self.url.port,
            path: target.get(..path_end).unwrap_or(target).to_owned(),
            status: self.response.as_ref().map(|(status, _, _)| *status),
            client_version: Some(self.request.version.clone()),
            upstream_version: response.map(|message| message.version.clone()),
            traffic_type,
            session,
            route_action: "intercept".to_owned(),
            route_rule: "imported".to_owned(),
            request_bytes: Some(self.request.bytes_passed()),
            response_bytes: response.map(DraftMessage::bytes_passed),
            response_content_type: content_type,
            truncated: self.request.is_cut || response.is_some_and(|message| message.is_cut),
            error,
            danger_unverified: false,
            redaction: import.redaction,
            tags: self.tags.clone(),
            note: self.note.clone(),
        }
    }

    /// What it is for, and which session of an agent it belongs to.
    fn meaning(&self) -> (TrafficType, Option<SessionMark>) {
        let Ok(host) = Host::parse(&self.url.host) else {
            return (TrafficType::Unknown, None);
        };
        let target = Target {
            host,
            port: self.url.port,
        };
        let (path, _query) = self
            .url
            .path
            .split_once('?')
            .unwrap_or((&self.url.path, ""));
        let mut text = format!("{} {path} HTTP/1.1\r\n", self.method).into_bytes();
        put_fields(&mut text, &self.request.fields);
        text.extend_from_slice(b"\r\n");
        let head = Head {
            version: Version::Http11,
            text: text.into(),
        };
        let body = self.request.body.as_deref().map(Bytes::copy_from_slice);
        let content_type = self.request.field("content-type");
        let interpreter = Interpreter::default();
        let request = llm::Request {
            kind: match self.is_websocket {
                true => traffic::FlowKind::WebSocket,
                false => traffic::FlowKind::Http,
            },
            method: &self.method,
            path,
            content_type: content_type.as_deref(),
            head: &head,
            glance: llm::Glance::of(&head),
            body: llm::Body {
                pieces: body.as_slice(),
                cut: self.request.is_cut,
            },
        };
        let meaning = interpreter.interpret(interpreter.host_class(&target), &request);
        (meaning.traffic_type, meaning.identity.map(SessionMark::of))
    }

    /// Messages of a WebSocket that the client and the upstream sent.
    fn sent(&self) -> (u64, u64) {
        let from = |sender: &str| {
            let messages = self.messages.iter();
            length(messages.filter(|message| message.sender == sender).count())
        };
        (from("client"), from("upstream"))
    }
}

impl DraftMessage {
    /// Its head, masked, with the start line, which is masked already.
    fn head(&self, line: &str, redaction: Redaction) -> HeadView {
        let mut text = format!("{line}\r\n").into_bytes();
        put_fields(&mut text, &self.fields);
        text.extend_from_slice(b"\r\n");
        HeadView::new(&redaction.mask_head(&text), length(text.len()))
    }

    fn field(&self, name: &str) -> Option<String> {
        let found = self.fields.iter();
        let mut found = found.filter(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        let (_, value) = found.next()?;
        Some(head_text::text_of_line(value.trim_ascii()).into_owned())
    }

    fn bytes_passed(&self) -> u64 {
        let kept = self.body.as_ref().map_or(0, |body| length(body.len()));
        self.body_bytes.unwrap_or(kept)
    }
}

/// Writes field lines. A line end within a field would make two of it.
fn put_fields(text: &mut Vec<u8>, fields: &[(Vec<u8>, Vec<u8>)]) {
    for (name, value) in fields {
        let plain = |bytes: &[u8]| -> Vec<u8> {
            let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
            bytes
                .iter()
                .map(|byte| if is_line_end(byte) { b' ' } else { *byte })
                .collect()
        };
        text.extend_from_slice(&plain(name));
        text.extend_from_slice(b": ");
        text.extend_from_slice(&plain(value));
        text.extend_from_slice(b"\r\n");
    }
}

fn masked_fields(fields: &[(Vec<u8>, Vec<u8>)], redaction: Redaction) -> Vec<(String, String)> {
    let mut text = b"\r\n".to_vec();
    put_fields(&mut text, fields);
    HeadView::new(&redaction.mask_head(&text), 0).fields
}

fn field(head: &HeadView, name: &str) -> Option<String> {
    let mut fields = head.fields.iter();
    let found = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.clone())
}

/// A version of HTTP as the record names it; other names stay.
pub(super) fn version(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "h2" | "h2c" | "http/2" | "http/2.0" => "HTTP/2".to_owned(),
        "h3" | "http/3" | "http/3.0" => "HTTP/3".to_owned(),
        "http/1.0" => "HTTP/1.0".to_owned(),
        // What is not known is as most are.
        "" | "unknown" | "http/1.1" => "HTTP/1.1".to_owned(),
        _ => name.to_owned(),
    }
}

/// A message of a WebSocket that came whole.
pub(super) fn message(
    sequence: usize,
    is_from_client: bool,
    kind: &str,
    at: Timestamp,
    payload: Vec<u8>,
) -> StreamMessage {
    StreamMessage {
        sequence: length(sequence).saturating_add(1),
        sender: if is_from_client { "client" } else { "upstream" }.to_owned(),
        at,
        kind: kind.to_owned(),
        close_code: None,
        bytes: length(payload.len()),
        wire_bytes: length(payload.len()),
        frames: 1,
        coding: "plain".to_owned(),
        complete: true,
        payload,
    }
}

/// A moment given in seconds since the Unix epoch.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a conversion saturates, and times are exact to a microsecond for 285 years"
)]
pub(super) fn at_seconds(seconds: f64) -> Timestamp {
    Timestamp((seconds * 1e6).round() as i64)
}

/// Seconds since the Unix epoch.
#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 microseconds are 285 years"
)]
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1e6
}

#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 microseconds are 285 years"
)]
fn milliseconds(micros: i64) -> f64 {
    micros as f64 / 1000.0
}

pub(super) fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_apart() {
        for (text, expected) in [
            (
                "https://a.test/b?c=d#e",
                Some(("https", "a.test", 443, "/b?c=d")),
            ),
            ("http://A.test:81", Some(("http", "a.test", 81, "/"))),
            ("wss://u:p@a.test?x", Some(("https", "a.test", 443, "/?x"))),
            ("http://[::1]/", Some(("http", "::1", 80, "/"))),
            ("http://[::1]:8/", Some(("http", "::1", 8, "/"))),
            ("ftp://a/", None),
            ("https:///x", None),
            ("a.test", None),
            ("http://a:99999/", None),
        ] {
            let url = Url::parse(text);
            let found = url
                .as_ref()
                .map(|url| (url.scheme, &*url.host, url.port, &*url.path));
            assert_eq!(found, expected, "{text}");
        }
    }
}
