//! Writes flows, each as the state that mitmproxy would have of it.

use std::io::{self, Write};

use crate::formats::draft::{Url, seconds};
use crate::formats::opcode::opcode;
use crate::formats::tnetstring::Value;
use crate::{FlowKind, FlowRecord, HeadView, StreamMessage, TlsView};

/// The format that is written.
const VERSION: i64 = 21;

/// Writes a flow. A tunnel has no request in that format: it is written as one of mitmproxy's TCP flows,
/// without content.
pub(in crate::formats) fn write(record: &FlowRecord, out: &mut impl Write) -> io::Result<()> {
    let mut bytes = Vec::new();
    flow(record).write(&mut bytes);
    out.write_all(&bytes)
}

fn flow(record: &FlowRecord) -> Value<'_> {
    let detail = &record.detail;
    let row = &detail.row;
    let is_tunnel = row.kind == FlowKind::Tunnel;
    let is_marked = !row.tags.is_empty();
    let mut entries = vec![
        ("version", Value::Integer(VERSION)),
        ("type", if is_tunnel { "tcp" } else { "http" }.into()),
        ("id", row.uuid.as_str().into()),
        ("intercepted", false.into()),
        ("is_replay", Value::Null),
        ("marked", if is_marked { ":default:" } else { "" }.into()),
        ("comment", row.note.as_deref().unwrap_or_default().into()),
        ("metadata", metadata(record)),
        ("backup", Value::Null),
        ("timestamp_created", seconds(row.started_at).into()),
        ("error", error(record)),
        ("client_conn", client(record)),
        ("server_conn", server(record)),
    ];
    match is_tunnel {
        true => entries.push(("messages", Value::List(Vec::new()))),
        false => entries.extend([
            ("request", request(record)),
            ("response", response(record)),
            ("websocket", websocket(record)),
        ]),
    }
    Value::dict(entries)
}

fn metadata(record: &FlowRecord) -> Value<'_> {
    let row = &record.detail.row;
    let mut entries = vec![
        ("oriel_id", row.id.to_string().into()),
        ("oriel_run", record.run.uuid.as_str().into()),
    ];
    if !row.tags.is_empty() {
        let tags = row.tags.iter().map(|tag| tag.as_str().into());
        entries.push(("oriel_tags", Value::list(tags)));
    }
    Value::dict(entries)
}

fn error(record: &FlowRecord) -> Value<'_> {
    let row = &record.detail.row;
    let Some(error) = &row.error else {
        return Value::Null;
    };
    let at = row.ended_at.unwrap_or(row.started_at);
    Value::dict([
        ("msg", error.text.as_str().into()),
        ("timestamp", seconds(at).into()),
    ])
}

fn request(record: &FlowRecord) -> Value<'_> {
    let detail = &record.detail;
    let row = &detail.row;
    let target = detail.request.start_line.split(' ').nth(1).unwrap_or("/");
    // As the engine saw it: in absolute form the path is what stands behind the host.
    let path = Url::parse(target).map_or_else(|| target.to_owned(), |url| url.path);
    let authority = match row.client_version.as_deref() {
        Some("HTTP/2") => field(&detail.request, ":authority").unwrap_or_default(),
        _ => "",
    };
    let started_at = seconds(row.started_at);
    let message = Message {
        version: row.client_version.as_deref(),
        head: &detail.request,
        trailers: &detail.request_trailers,
        body: record.request_body.as_deref(),
        started_at,
        ended_at: detail.request_sent_at.map_or(started_at, seconds),
    };
    let entries = [
        ("method", bytes(&row.method)),
        ("scheme", bytes(&detail.scheme)),
        ("host", row.host.as_str().into()),
        ("port", row.port.into()),
        ("path", Value::Bytes(path.into_bytes().into())),
        ("authority", bytes(authority)),
    ];
    Value::dict(entries.into_iter().chain(message.entries()))
}

fn response(record: &FlowRecord) -> Value<'_> {
    let detail = &record.detail;
    let row = &detail.row;
    let Some(head) = &detail.response else {
        return Value::Null;
    };
    let reason = head.start_line.splitn(3, ' ').nth(2).unwrap_or_default();
    let started_at = seconds(detail.response_started_at.unwrap_or(row.started_at));
    let ended_at = detail.response_ended_at.or(row.ended_at);
    let message = Message {
        version: row.upstream_version.as_deref(),
        head,
        trailers: &detail.response_trailers,
        body: record.response_body.as_deref(),
        started_at,
        ended_at: ended_at.map_or(started_at, seconds),
    };
    let entries = [
        ("status_code", row.status.unwrap_or(0).into()),
        ("reason", bytes(reason)),
    ];
    Value::dict(entries.into_iter().chain(message.entries()))
}

/// What both messages have.
struct Message<'a> {
    version: Option<&'a str>,
    head: &'a HeadView,
    trailers: &'a [(String, String)],
    body: Option<&'a [u8]>,
    started_at: f64,
    ended_at: f64,
}

impl<'a> Message<'a> {
    fn entries(self) -> [(&'static str, Value<'a>); 6] {
        let version = match self.version {
            Some("HTTP/2") => "HTTP/2.0",
            Some(other) => other,
            None => "HTTP/1.1",
        };
        let trailers = match self.trailers {
            [] => Value::Null,
            trailers => fields(trailers),
        };
        [
            ("http_version", bytes(version)),
            ("headers", fields(&self.head.fields)),
            ("content", bytes(self.body.unwrap_or_default())),
            ("trailers", trailers),
            ("timestamp_start", self.started_at.into()),
            ("timestamp_end", self.ended_at.into()),
        ]
    }
}

/// Pseudo-header fields are not among the headers there.
fn fields(fields: &[(String, String)]) -> Value<'_> {
    let fields = fields.iter().filter(|(name, _)| !name.starts_with(':'));
    Value::list(fields.map(|(name, value)| Value::list([bytes(name), bytes(value)])))
}

fn field<'a>(head: &'a HeadView, name: &str) -> Option<&'a str> {
    let mut fields = head.fields.iter();
    let found = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

fn websocket(record: &FlowRecord) -> Value<'_> {
    let row = &record.detail.row;
    if row.kind != FlowKind::WebSocket || row.status.is_none() {
        return Value::Null;
    }
    let messages = record.messages.iter();
    let close = messages.clone().find(|message| message.kind == "close");
    let closed_by_client = close.map(|close| close.sender == "client");
    let code = close.and_then(|close| close.close_code);
    let reason = close.map(|close| String::from_utf8_lossy(&close.payload).into_owned());
    let carried = messages.filter_map(websocket_message);
    Value::dict([
        ("messages", Value::list(carried)),
        ("closed_by_client", closed_by_client.into()),
        ("close_code", code.into()),
        ("close_reason", reason.into()),
        ("timestamp_end", row.ended_at.map(seconds).into()),
    ])
}

/// Control frames are not among the messages there.
fn websocket_message(message: &StreamMessage) -> Option<Value<'_>> {
    let opcode = opcode(&message.kind).filter(|opcode| *opcode <= 2)?;
    let (is_dropped, is_injected) = (false, false);
    Some(Value::list([
        Value::Integer(opcode),
        (message.sender == "client").into(),
        bytes(&message.payload),
        seconds(message.at).into(),
        is_dropped.into(),
        is_injected.into(),
    ]))
}

fn client(record: &FlowRecord) -> Value<'_> {
    let row = &record.detail.row;
    let client = record.detail.client.as_ref();
    let peer = client.map_or("", |client| &client.client_address);
    let own = client.map_or("", |client| &client.proxy_address);
    let tls = client.and_then(|client| client.tls.as_ref());
    let accepted_at = client.map_or(row.started_at, |client| client.accepted_at);
    let tls_done_at = client.and_then(|client| client.tls_done_at);
    let sni = client.and_then(|client| client.sni.as_deref());
    let entries = [
        ("peername", address(peer)),
        ("sockname", address(own)),
        ("timestamp_start", seconds(accepted_at).into()),
        ("timestamp_tls_setup", tls_done_at.map(seconds).into()),
        ("mitmcert", Value::Null),
        ("proxy_mode", proxy_mode(record).into()),
        ("sni", sni.into()),
    ];
    let both = connection(format!("{}-client", row.uuid), tls);
    Value::dict(both.into_iter().chain(entries))
}

fn proxy_mode(record: &FlowRecord) -> String {
    let detail = &record.detail;
    let row = &detail.row;
    match detail.client.as_ref().map(|client| client.front.as_str()) {
        Some("reverse") => format!("reverse:{}://{}:{}", detail.scheme, row.host, row.port),
        Some("socks5") => "socks5".to_owned(),
        _ => "regular".to_owned(),
    }
}

fn server(record: &FlowRecord) -> Value<'_> {
    let row = &record.detail.row;
    let upstream = record.detail.upstream.as_ref();
    let peer = upstream.map_or("", |upstream| &upstream.address);
    let own = upstream.map_or("", |upstream| &upstream.local_address);
    let tls = upstream.and_then(|upstream| upstream.tls.as_ref());
    let dialled_at = upstream.map(|upstream| upstream.dial_started_at);
    let connected_at = upstream.map(|upstream| upstream.connected_at);
    let tls_done_at = upstream.and_then(|upstream| upstream.tls_done_at);
    let target = Value::list([row.host.as_str().into(), row.port.into()]);
    let sni = tls.and_then(|tls| tls.sni.as_deref());
    let entries = [
        ("address", target),
        ("peername", address(peer)),
        ("sockname", address(own)),
        ("timestamp_start", dialled_at.map(seconds).into()),
        ("timestamp_tcp_setup", connected_at.map(seconds).into()),
        ("timestamp_tls_setup", tls_done_at.map(seconds).into()),
        ("via", Value::Null),
        ("sni", sni.into()),
    ];
    let both = connection(format!("{}-server", row.uuid), tls);
    Value::dict(both.into_iter().chain(entries))
}

/// What both connections have.
fn connection(id: String, tls: Option<&TlsView>) -> [(&'static str, Value<'_>); 11] {
    let alpn = tls.and_then(|tls| tls.alpn.as_deref());
    [
        ("id", id.into()),
        ("transport_protocol", "tcp".into()),
        ("tls", tls.is_some().into()),
        ("tls_version", tls.map(|tls| tls.version.as_str()).into()),
        ("cipher", tls.map(|tls| tls.cipher.as_str()).into()),
        ("alpn", alpn.map(bytes).into()),
        ("alpn_offers", Value::List(Vec::new())),
        ("cipher_list", Value::List(Vec::new())),
        ("certificate_list", Value::List(Vec::new())),
        ("error", Value::Null),
        ("timestamp_end", Value::Null),
    ]
}

/// An address and a port, where it is one of the network.
fn address(address: &str) -> Value<'_> {
    match address.parse::<std::net::SocketAddr>() {
        Ok(address) => Value::list([address.ip().to_string().into(), address.port().into()]),
        Err(_) => Value::list([address.into(), Value::Integer(0)]),
    }
}

/// What mitmproxy has as bytes, though it may be a text here.
fn bytes<'a>(bytes: &'a (impl AsRef<[u8]> + ?Sized)) -> Value<'a> {
    Value::Bytes(bytes.as_ref().into())
}
