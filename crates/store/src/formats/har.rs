//! HTTP Archive 1.2 (<http://www.softwareishard.com/blog/har-12-spec/>), with the messages of WebSockets
//! as Chrome writes them (`_webSocketMessages`) and names of our own behind an underscore.
//!
//! A HAR holds contents without their content codings. What is written is decoded; what is read loses
//! the field that names a coding, since the body is not in it any more.

mod read;

use std::borrow::Cow;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use traffic::Timestamp;
use traffic::wire::encoding::decode;

pub(super) use self::read::read;
use super::draft::seconds;
use super::opcode::opcode;
use crate::json::rfc3339;
use crate::limits::EXPORTED_BODY_BYTES_MAX;
use crate::{FlowDetail, FlowKind, FlowRecord, HeadView};

/// The beginning of a file.
pub(super) fn begin(out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "{{\"log\":{{\"version\":\"1.2\",\"creator\":{{\"name\":\"oriel\",\"version\":\"{}\"}},\"entries\":[",
        env!("CARGO_PKG_VERSION")
    )
}

/// The end of a file.
pub(super) fn finish(out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"\n]}}\n")
}

/// Writes an entry; false for a tunnel, which the format has no place for.
pub(super) fn write(record: &FlowRecord, is_first: bool, out: &mut impl Write) -> io::Result<bool> {
    if record.detail.row.kind == FlowKind::Tunnel {
        return Ok(false);
    }
    out.write_all(if is_first { b"\n" } else { b",\n" })?;
    serde_json::to_writer(out, &Entry::new(record))?;
    Ok(true)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    started_date_time: String,
    /// The sum of the timings.
    time: f64,
    request: Request<'a>,
    response: Response<'a>,
    cache: Empty,
    timings: Timings,
    #[serde(rename = "serverIPAddress", skip_serializing_if = "Option::is_none")]
    server_ip_address: Option<String>,
    #[serde(rename = "_resourceType", skip_serializing_if = "Option::is_none")]
    resource_type: Option<&'static str>,
    #[serde(rename = "_webSocketMessages", skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<SocketMessage<'a>>>,
    #[serde(rename = "_oriel")]
    oriel: Own<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
}

#[derive(Serialize)]
struct Empty {}

/// What the format has no place for.
#[derive(Serialize)]
struct Own<'a> {
    id: String,
    uuid: &'a str,
    run: &'a str,
    state: &'static str,
    /// The URL as it was asked for, where that is none as readers of this format know them.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<OwnError<'a>>,
    truncated: bool,
}

#[derive(Serialize)]
struct OwnError<'a> {
    side: &'a str,
    stage: &'a str,
    kind: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    method: &'a str,
    url: Cow<'a, str>,
    http_version: &'a str,
    cookies: Vec<Cookie<'a>>,
    headers: Vec<Pair<'a>>,
    query_string: Vec<Pair<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_data: Option<PostData<'a>>,
    headers_size: u64,
    body_size: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    /// 0 where there was none.
    status: u16,
    status_text: &'a str,
    http_version: &'a str,
    cookies: Vec<Cookie<'a>>,
    headers: Vec<Pair<'a>>,
    content: Content<'a>,
    #[serde(rename = "redirectURL")]
    redirect_url: &'a str,
    headers_size: i64,
    body_size: i64,
    #[serde(rename = "_error", skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Pair<'a> {
    name: Cow<'a, str>,
    value: Cow<'a, str>,
}

#[derive(Serialize)]
struct Cookie<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostData<'a> {
    mime_type: &'a str,
    params: [Empty; 0],
    text: String,
    /// The format knows no coding of this text. `base64` where it is no UTF-8.
    #[serde(rename = "_encoding", skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Content<'a> {
    size: u64,
    /// Bytes that the content coding saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    compression: Option<i64>,
    mime_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

/// Milliseconds; -1 for what does not apply. They add up, `ssl` aside, which is in `connect`.
#[derive(Serialize)]
struct Timings {
    blocked: f64,
    dns: f64,
    connect: f64,
    ssl: f64,
    send: f64,
    wait: f64,
    receive: f64,
}

#[derive(Serialize)]
struct SocketMessage<'a> {
    #[serde(rename = "type")]
    direction: &'static str,
    time: f64,
    opcode: i64,
    /// Base64 unless it is a text.
    data: Cow<'a, str>,
}

impl<'a> Entry<'a> {
    fn new(record: &'a FlowRecord) -> Self {
        let detail = &record.detail;
        let row = &detail.row;
        let timings = Timings::new(detail);
        let is_websocket = row.kind == FlowKind::WebSocket;
        let upstream = detail.upstream.as_ref();
        let address = upstream
            .filter(|upstream| upstream.proxy.is_none())
            .and_then(|upstream| upstream.address.parse().ok())
            .map(|address: std::net::SocketAddr| address.ip().to_string());
        Self {
            started_date_time: rfc3339(row.started_at),
            time: timings.sum(),
            request: Request::new(record),
            response: Response::new(record),
            cache: Empty {},
            timings,
            server_ip_address: address,
            resource_type: is_websocket.then_some("websocket"),
            messages: is_websocket.then(|| messages(record)),
            oriel: Own {
                id: row.id.to_string(),
                uuid: &row.uuid,
                run: &record.run.uuid,
                state: row.state.as_str(),
                url: Some(&*row.url).filter(|url| standard_url(url) != *url),
                tags: &row.tags,
                error: row.error.as_ref().map(|error| OwnError {
                    side: &error.side,
                    stage: &error.stage,
                    kind: &error.kind,
                    message: &error.text,
                }),
                truncated: row.truncated,
            },
            comment: row.note.as_deref(),
        }
    }
}

impl<'a> Request<'a> {
    fn new(record: &'a FlowRecord) -> Self {
        let detail = &record.detail;
        let row = &detail.row;
        let content_type = detail.request_content_type.as_deref().unwrap_or_default();
        let body = record
            .request_body
            .as_deref()
            .filter(|body| !body.is_empty());
        let post_data = body.map(|body| {
            let text = Text::of(body, &detail.request);
            PostData {
                mime_type: content_type,
                params: [],
                comment: text.comment(row.request_bytes, body.len()),
                text: text.text,
                encoding: text.encoding,
            }
        });
        Self {
            method: &row.method,
            url: standard_url(&row.url),
            http_version: row.client_version.as_deref().unwrap_or_default(),
            cookies: cookies(&detail.request, "cookie"),
            headers: headers(&detail.request),
            query_string: query(&row.url),
            post_data,
            headers_size: detail.request.bytes,
            body_size: size(row.request_bytes),
        }
    }
}

impl<'a> Response<'a> {
    fn new(record: &'a FlowRecord) -> Self {
        let detail = &record.detail;
        let row = &detail.row;
        let error = row.error.as_ref().map(|error| &*error.text);
        let content_type = row.response_content_type.as_deref();
        let mut content = Content {
            size: 0,
            compression: None,
            mime_type: content_type.unwrap_or("x-unknown"),
            text: None,
            encoding: None,
            comment: None,
        };
        let Some(head) = &detail.response else {
            return Self {
                status: 0,
                status_text: "",
                http_version: "",
                cookies: Vec::new(),
                headers: Vec::new(),
                content,
                redirect_url: "",
                headers_size: -1,
                body_size: -1,
                error,
            };
        };
        if let Some(body) = record.response_body.as_deref() {
            let text = Text::of(body, head);
            content.size = text.size;
            content.comment = text.comment(row.response_bytes, body.len());
            content.compression = text.is_decoded.then(|| {
                let size = i64::try_from(text.size).unwrap_or(i64::MAX);
                size.saturating_sub(i64::try_from(body.len()).unwrap_or(i64::MAX))
            });
            content.encoding = text.encoding;
            content.text = Some(text.text);
        }
        Self {
            status: row.status.unwrap_or(0),
            status_text: head.start_line.splitn(3, ' ').nth(2).unwrap_or_default(),
            http_version: row.upstream_version.as_deref().unwrap_or_default(),
            cookies: cookies(head, "set-cookie"),
            headers: headers(head),
            content,
            redirect_url: field(head, "location").unwrap_or_default(),
            headers_size: i64::try_from(head.bytes).unwrap_or(-1),
            body_size: size(row.response_bytes),
            error,
        }
    }
}

/// A body as JSON can hold it.
struct Text {
    text: String,
    encoding: Option<&'static str>,
    /// Bytes of the content, its coding undone.
    size: u64,
    /// A content coding was undone.
    is_decoded: bool,
    note: Option<String>,
}

impl Text {
    fn of(body: &[u8], head: &HeadView) -> Self {
        let coding = field(head, "content-encoding").unwrap_or_default();
        let decoded = decode(coding, body, EXPORTED_BODY_BYTES_MAX);
        let (text, encoding) = match std::str::from_utf8(&decoded.bytes) {
            Ok(text) => (text.to_owned(), None),
            Err(_) => (BASE64.encode(&decoded.bytes), Some("base64")),
        };
        Self {
            text,
            encoding,
            size: super::draft::length(decoded.bytes.len()),
            is_decoded: matches!(decoded.bytes, Cow::Owned(_)),
            note: decoded.note.map(|note| note.to_string()),
        }
    }

    /// What is missing of it.
    fn comment(&self, seen: Option<u64>, kept: usize) -> Option<String> {
        match seen {
            Some(seen) if seen > super::draft::length(kept) => {
                Some(format!("{kept} of {seen} bytes were kept"))
            }
            _ => self.note.clone(),
        }
    }
}

impl Timings {
    fn new(detail: &FlowDetail) -> Self {
        let row = &detail.row;
        let start = row.started_at;
        let last = detail.response_ended_at.or(row.ended_at);
        let end = [
            row.ended_at,
            last,
            detail.response_started_at,
            detail.request_sent_at,
        ];
        let end = end.into_iter().flatten().max().unwrap_or(start).max(start);
        // Each moment lies between the one before and the end, so that the parts add up whatever the
        // order was: a response may begin before the request was sent.
        let mut before = start;
        let mut until = |at: Option<Timestamp>| {
            let at = at.unwrap_or(before).clamp(before, end);
            let part = milliseconds(at.micros_since(before));
            before = at;
            part
        };
        let own = detail.upstream.as_ref().filter(|upstream| {
            detail.upstream_reused != Some(true) && upstream.connected_at > start
        });
        let (blocked, connect) = match own {
            Some(upstream) => {
                let blocked = until(Some(upstream.dial_started_at));
                let done = upstream.tls_done_at.unwrap_or(upstream.connected_at);
                (blocked, until(Some(done)))
            }
            None => (until(detail.upstream_ready_at), -1.0),
        };
        let tls = own.and_then(|upstream| {
            let from = upstream.connected_at;
            let part = milliseconds(upstream.tls_done_at?.micros_since(from));
            (part >= 0.0).then(|| part.min(connect))
        });
        Self {
            blocked,
            dns: -1.0,
            connect,
            ssl: tls.unwrap_or(-1.0),
            send: until(detail.request_sent_at),
            wait: until(detail.response_started_at),
            receive: until(Some(end)),
        }
    }

    fn sum(&self) -> f64 {
        let parts = [
            self.blocked,
            self.connect,
            self.send,
            self.wait,
            self.receive,
        ];
        let sum: f64 = parts.into_iter().filter(|part| *part > 0.0).sum();
        (sum * 1000.0).round() / 1000.0
    }
}

fn messages(record: &FlowRecord) -> Vec<SocketMessage<'_>> {
    let item = |message: &'_ crate::StreamMessage| {
        let text = (message.kind == "text")
            .then(|| String::from_utf8_lossy(&message.payload).into_owned());
        Some(SocketMessage {
            direction: match message.sender.as_str() {
                "client" => "send",
                _ => "receive",
            },
            time: seconds(message.at),
            opcode: opcode(&message.kind)?,
            data: text
                .unwrap_or_else(|| BASE64.encode(&message.payload))
                .into(),
        })
    };
    record.messages.iter().filter_map(item).collect()
}

fn headers(head: &HeadView) -> Vec<Pair<'_>> {
    let pair = |(name, value): &'_ (String, String)| Pair {
        name: Cow::Owned(name.clone()),
        value: Cow::Owned(value.clone()),
    };
    head.fields.iter().map(pair).collect()
}

/// The URL without its fragment, and with what no URL may have (RFC 3986 section 2) percent-encoded: clients send
/// such, and readers refuse the whole file for it.
fn standard_url(url: &str) -> Cow<'_, str> {
    let (url, _) = url.split_once('#').unwrap_or((url, ""));
    if url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(url);
    }
    let mut standard = String::with_capacity(url.len() + 16);
    for byte in url.bytes() {
        match byte.is_ascii_graphic() {
            true => standard.push(char::from(byte)),
            false => standard.push_str(&format!("%{byte:02X}")),
        }
    }
    Cow::Owned(standard)
}

/// The parameters of a URL, as a form has them.
fn query(url: &str) -> Vec<Pair<'_>> {
    let (_, query) = url.split_once('?').unwrap_or_default();
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pair = |part: &'_ str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Pair {
            name: Cow::Owned(plain(name)),
            value: Cow::Owned(plain(value)),
        }
    };
    parts.map(pair).collect()
}

/// A part of a query without its percent-encoding.
fn plain(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            (b'+', _) => {
                out.push(b' ');
                rest = behind;
            }
            (first, _) => {
                out.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The cookies of a head; none of those that are masked.
fn cookies<'a>(head: &'a HeadView, field: &str) -> Vec<Cookie<'a>> {
    let fields = head.fields.iter();
    let values = fields.filter(|(name, _)| name.eq_ignore_ascii_case(field));
    let mut cookies = Vec::new();
    for (_, value) in values {
        // Behind the first of a Set-Cookie field stand its attributes.
        let count = if field == "cookie" { usize::MAX } else { 1 };
        let parts = value.split(';').take(count);
        cookies.extend(parts.filter_map(|part| {
            let (name, value) = part.trim().split_once('=')?;
            Some(Cookie { name, value })
        }));
    }
    cookies
}

fn field<'a>(head: &'a HeadView, name: &str) -> Option<&'a str> {
    let mut fields = head.fields.iter();
    let found = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// A number of bytes; -1 where it is not known.
fn size(bytes: Option<u64>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 microseconds are 285 years"
)]
fn milliseconds(micros: i64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_forms() {
        let found: Vec<(String, String)> = query("https://a/b?c=d+e&f&g=%C3%BC%zz&&=x")
            .into_iter()
            .map(|pair| (pair.name.into_owned(), pair.value.into_owned()))
            .collect();
        let expected = [("c", "d e"), ("f", ""), ("g", "ü%zz"), ("", "x")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, expected);
    }
}
