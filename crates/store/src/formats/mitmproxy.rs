//! The flow file of mitmproxy: one typed netstring per flow, a dictionary of the state of the flow
//! (`mitmproxy/io/io.py` and the `get_state` of its classes; format 21, of mitmproxy 11 and 12). Formats
//! from 7 on (2019) are read: what is needed here has changed little since.

use std::io::{self, Read, Write};

use traffic::Timestamp;

use super::draft::{Draft, DraftMessage, Url, at_seconds, length, message, seconds, version};
use super::source::Source;
use super::tnetstring::{Encoder, LENGTH_DIGITS_MAX, Value, length as length_of};
use super::{Found, Import, Place, ReadError};
use crate::limits::IMPORTED_FLOW_BYTES_MAX;
use crate::{ConnectionView, FlowKind, FlowRecord, HeadView, StreamMessage, TlsView, UpstreamView};

/// The format that is written.
const WRITTEN_VERSION: i64 = 21;
/// The oldest format that is read.
const OLDEST_VERSION: i64 = 7;

/// Writes a flow. A tunnel has no request in that format: it is written as one of mitmproxy's TCP flows,
/// without content.
pub(super) fn write(record: &FlowRecord, out: &mut impl Write) -> io::Result<()> {
    let mut encoder = Encoder::default();
    encoder.dict(|flow| write_flow(record, flow));
    out.write_all(&encoder.finish())
}

fn write_flow(record: &FlowRecord, flow: &mut Encoder) {
    let detail = &record.detail;
    let row = &detail.row;
    let is_tunnel = row.kind == FlowKind::Tunnel;
    flow.entry("version", |value| value.integer(WRITTEN_VERSION));
    flow.entry("type", |value| {
        value.text(if is_tunnel { "tcp" } else { "http" });
    });
    flow.entry("id", |value| value.text(&row.uuid));
    flow.entry("intercepted", |value| value.truth(false));
    flow.entry("is_replay", Encoder::null);
    flow.entry("marked", |value| {
        value.text(if row.tags.is_empty() { "" } else { ":default:" });
    });
    flow.entry("comment", |value| {
        value.text(row.note.as_deref().unwrap_or_default());
    });
    flow.entry("metadata", |value| {
        value.dict(|metadata| {
            metadata.entry("oriel_id", |value| value.text(&row.id.to_string()));
            metadata.entry("oriel_run", |value| value.text(&record.run.uuid));
            if !row.tags.is_empty() {
                metadata.entry("oriel_tags", |value| {
                    value.list(|list| row.tags.iter().for_each(|tag| list.text(tag)));
                });
            }
        });
    });
    flow.entry("backup", Encoder::null);
    flow.entry("timestamp_created", |value| {
        value.float(seconds(row.started_at));
    });
    flow.entry("error", |value| match &row.error {
        Some(error) => value.dict(|inner| {
            inner.entry("msg", |value| value.text(&error.text));
            let at = row.ended_at.unwrap_or(row.started_at);
            inner.entry("timestamp", |value| value.float(seconds(at)));
        }),
        None => value.null(),
    });
    flow.entry("client_conn", |value| write_client(record, value));
    flow.entry("server_conn", |value| write_server(record, value));
    if is_tunnel {
        flow.entry("messages", |value| value.list(|_| ()));
        return;
    }
    flow.entry("request", |value| write_request(record, value));
    flow.entry("response", |value| match &detail.response {
        Some(head) => write_response(record, head, value),
        None => value.null(),
    });
    flow.entry("websocket", |value| match row.kind {
        FlowKind::WebSocket if row.status.is_some() => write_websocket(record, value),
        _ => value.null(),
    });
}

fn write_request(record: &FlowRecord, value: &mut Encoder) {
    let detail = &record.detail;
    let row = &detail.row;
    let path = detail.request.start_line.split(' ').nth(1).unwrap_or("/");
    // As the engine saw it: in absolute form the path is what stands behind the host.
    let path = match Url::parse(path) {
        Some(url) => url.path,
        None => path.to_owned(),
    };
    let is_http2 = row.client_version.as_deref() == Some("HTTP/2");
    value.dict(|request| {
        request.entry("method", |value| value.bytes(row.method.as_bytes()));
        request.entry("scheme", |value| value.bytes(detail.scheme.as_bytes()));
        request.entry("host", |value| value.text(&row.host));
        request.entry("port", |value| value.integer(row.port));
        request.entry("path", |value| value.bytes(path.as_bytes()));
        let authority = match is_http2 {
            true => field(&detail.request, ":authority").unwrap_or_default(),
            false => "",
        };
        request.entry("authority", |value| value.bytes(authority.as_bytes()));
        let started_at = seconds(row.started_at);
        let message = Written {
            version: row.client_version.as_deref(),
            head: &detail.request,
            trailers: &detail.request_trailers,
            body: record.request_body.as_deref(),
            started_at,
            ended_at: detail.request_sent_at.map_or(started_at, seconds),
        };
        message.write(request);
    });
}

fn write_response(record: &FlowRecord, head: &HeadView, value: &mut Encoder) {
    let detail = &record.detail;
    let row = &detail.row;
    let reason = head.start_line.splitn(3, ' ').nth(2).unwrap_or_default();
    value.dict(|response| {
        response.entry("status_code", |value| {
            value.integer(row.status.unwrap_or(0));
        });
        response.entry("reason", |value| value.bytes(reason.as_bytes()));
        let started_at = seconds(detail.response_started_at.unwrap_or(row.started_at));
        let ended_at = detail.response_ended_at.or(row.ended_at);
        let message = Written {
            version: row.upstream_version.as_deref(),
            head,
            trailers: &detail.response_trailers,
            body: record.response_body.as_deref(),
            started_at,
            ended_at: ended_at.map_or(started_at, seconds),
        };
        message.write(response);
    });
}

/// What both messages have.
struct Written<'a> {
    version: Option<&'a str>,
    head: &'a HeadView,
    trailers: &'a [(String, String)],
    body: Option<&'a [u8]>,
    started_at: f64,
    ended_at: f64,
}

impl Written<'_> {
    fn write(&self, message: &mut Encoder) {
        let name = match self.version {
            Some("HTTP/2") => "HTTP/2.0",
            Some(other) => other,
            None => "HTTP/1.1",
        };
        message.entry("http_version", |value| value.bytes(name.as_bytes()));
        message.entry("headers", |value| write_fields(&self.head.fields, value));
        message.entry("content", |value| {
            value.bytes(self.body.unwrap_or_default());
        });
        message.entry("trailers", |value| match self.trailers {
            [] => value.null(),
            trailers => write_fields(trailers, value),
        });
        message.entry("timestamp_start", |value| value.float(self.started_at));
        message.entry("timestamp_end", |value| value.float(self.ended_at));
    }
}

/// Pseudo-header fields are not among the headers there.
fn write_fields(fields: &[(String, String)], value: &mut Encoder) {
    value.list(|list| {
        for (name, content) in fields.iter().filter(|(name, _)| !name.starts_with(':')) {
            list.list(|pair| {
                pair.bytes(name.as_bytes());
                pair.bytes(content.as_bytes());
            });
        }
    });
}

fn write_websocket(record: &FlowRecord, value: &mut Encoder) {
    let close = record
        .messages
        .iter()
        .find(|message| message.kind == "close");
    value.dict(|websocket| {
        websocket.entry("messages", |value| {
            value.list(|list| {
                for message in &record.messages {
                    let Some(opcode) = opcode(&message.kind).filter(|opcode| *opcode <= 2) else {
                        continue;
                    };
                    list.list(|item| {
                        item.integer(opcode);
                        item.truth(message.sender == "client");
                        item.bytes(&message.payload);
                        item.float(seconds(message.at));
                        item.truth(false);
                        item.truth(false);
                    });
                }
            });
        });
        websocket.entry("closed_by_client", |value| match close {
            Some(close) => value.truth(close.sender == "client"),
            None => value.null(),
        });
        websocket.entry("close_code", |value| {
            match close.and_then(|close| close.close_code) {
                Some(code) => value.integer(code),
                None => value.null(),
            }
        });
        let reason = close.map(|close| String::from_utf8_lossy(&close.payload).into_owned());
        websocket.entry("close_reason", |value| {
            value.text_or_null(reason.as_deref());
        });
        let ended_at = record.detail.row.ended_at.map(seconds);
        websocket.entry("timestamp_end", |value| value.float_or_null(ended_at));
    });
}

fn write_client(record: &FlowRecord, value: &mut Encoder) {
    let detail = &record.detail;
    let client = detail.client.as_ref();
    let address = client.map_or("", |client| &client.client_address);
    let own = client.map_or("", |client| &client.proxy_address);
    value.dict(|connection| {
        write_connection(
            connection,
            &format!("{}-client", detail.row.uuid),
            client.and_then(|client| client.tls.as_ref()),
        );
        connection.entry("peername", |value| write_address(address, value));
        connection.entry("sockname", |value| write_address(own, value));
        let accepted_at = client.map_or(detail.row.started_at, |client| client.accepted_at);
        connection.entry("timestamp_start", |value| value.float(seconds(accepted_at)));
        let tls_at = client.and_then(|client| client.tls_done_at).map(seconds);
        connection.entry("timestamp_tls_setup", |value| value.float_or_null(tls_at));
        connection.entry("mitmcert", Encoder::null);
        let mode = match client.map(|client| client.front.as_str()) {
            Some("reverse") => {
                let row = &detail.row;
                format!("reverse:{}://{}:{}", detail.scheme, row.host, row.port)
            }
            Some("socks5") => "socks5".to_owned(),
            _ => "regular".to_owned(),
        };
        connection.entry("proxy_mode", |value| value.text(&mode));
        let sni = client.and_then(|client| client.sni.as_deref());
        connection.entry("sni", |value| value.text_or_null(sni));
    });
}

fn write_server(record: &FlowRecord, value: &mut Encoder) {
    let detail = &record.detail;
    let upstream = detail.upstream.as_ref();
    value.dict(|connection| {
        let tls = upstream.and_then(|upstream| upstream.tls.as_ref());
        write_connection(connection, &format!("{}-server", detail.row.uuid), tls);
        connection.entry("address", |value| {
            value.list(|pair| {
                pair.text(&detail.row.host);
                pair.integer(detail.row.port);
            });
        });
        let peer = upstream.map_or("", |upstream| &upstream.address);
        let own = upstream.map_or("", |upstream| &upstream.local_address);
        connection.entry("peername", |value| write_address(peer, value));
        connection.entry("sockname", |value| write_address(own, value));
        let at = |at: Option<Timestamp>| at.map(seconds);
        let dialled = at(upstream.map(|upstream| upstream.dial_started_at));
        let connected = at(upstream.map(|upstream| upstream.connected_at));
        let tls_done = at(upstream.and_then(|upstream| upstream.tls_done_at));
        connection.entry("timestamp_start", |value| value.float_or_null(dialled));
        connection.entry("timestamp_tcp_setup", |value| {
            value.float_or_null(connected);
        });
        connection.entry("timestamp_tls_setup", |value| value.float_or_null(tls_done));
        connection.entry("via", Encoder::null);
        let sni = tls.and_then(|tls| tls.sni.as_deref());
        connection.entry("sni", |value| value.text_or_null(sni));
    });
}

/// What both connections have.
fn write_connection(connection: &mut Encoder, id: &str, tls: Option<&TlsView>) {
    connection.entry("id", |value| value.text(id));
    connection.entry("transport_protocol", |value| value.text("tcp"));
    connection.entry("tls", |value| value.truth(tls.is_some()));
    connection.entry("tls_version", |value| {
        value.text_or_null(tls.map(|tls| tls.version.as_str()));
    });
    connection.entry("cipher", |value| {
        value.text_or_null(tls.map(|tls| tls.cipher.as_str()));
    });
    connection.entry("alpn", |value| {
        match tls.and_then(|tls| tls.alpn.as_deref()) {
            Some(alpn) => value.bytes(alpn.as_bytes()),
            None => value.null(),
        }
    });
    for name in ["alpn_offers", "cipher_list", "certificate_list"] {
        connection.entry(name, |value| value.list(|_| ()));
    }
    connection.entry("error", Encoder::null);
    connection.entry("timestamp_end", Encoder::null);
}

/// An address and a port, where it is one of the network.
fn write_address(address: &str, value: &mut Encoder) {
    match address.parse::<std::net::SocketAddr>() {
        Ok(address) => value.list(|pair| {
            pair.text(&address.ip().to_string());
            pair.integer(address.port());
        }),
        Err(_) => value.list(|pair| {
            pair.text(address);
            pair.integer(0);
        }),
    }
}

/// The opcode of a kind of message (RFC 6455 section 11.8).
pub(super) fn opcode(kind: &str) -> Option<i64> {
    Some(match kind {
        "text" => 1,
        "binary" => 2,
        "close" => 8,
        "ping" => 9,
        "pong" => 10,
        _ => return None,
    })
}

/// The kind of message of an opcode.
pub(super) fn kind(opcode: i64) -> Option<&'static str> {
    Some(match opcode {
        1 => "text",
        2 => "binary",
        8 => "close",
        9 => "ping",
        10 => "pong",
        _ => return None,
    })
}

fn field<'a>(head: &'a HeadView, name: &str) -> Option<&'a str> {
    let mut fields = head.fields.iter();
    let found = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// Reads the flows of a file. Behind one that is damaged nothing can be found.
pub(super) fn read<R: Read>(
    source: &mut Source<R>,
    import: &mut Import,
    each: &mut super::Each<'_>,
) -> Result<(), ReadError> {
    let mut payload = Vec::new();
    let mut number = 0;
    loop {
        source.begin();
        let start = source.offset();
        let place = Place::Byte(start);
        let damaged = |what: &str| ReadError::Damaged {
            place,
            what: what.to_owned(),
        };
        let Some(kind) = read_netstring(source, &mut payload, place)? else {
            return Ok(());
        };
        number += 1;
        let state = Value::read(kind, &payload).map_err(damaged)?;
        let place = Place::Entry(number);
        match draft(&state) {
            Ok(draft) => each(Found::Flow(Box::new(draft.record(import))))?,
            Err(what) => each(Found::LeftOut { place, what })?,
        }
    }
}

/// Reads one netstring; answers its type, or none at the end of the file.
fn read_netstring<R: Read>(
    source: &mut Source<R>,
    payload: &mut Vec<u8>,
    place: Place,
) -> Result<Option<u8>, ReadError> {
    let damaged = |what: &str| ReadError::Damaged {
        place,
        what: what.to_owned(),
    };
    let cut = || damaged("the file ends within a flow");
    let mut digits = Vec::with_capacity(LENGTH_DIGITS_MAX);
    loop {
        match source.byte()? {
            None if digits.is_empty() => return Ok(None),
            None => return Err(cut()),
            Some(b':') => break,
            Some(byte) if digits.len() < LENGTH_DIGITS_MAX => digits.push(byte),
            Some(_) => return Err(damaged("a length has no colon")),
        }
    }
    let size = length_of(&digits).ok_or_else(|| damaged("a length is no number"))?;
    if length(size) > IMPORTED_FLOW_BYTES_MAX {
        return Err(ReadError::TooLarge { place });
    }
    payload.clear();
    // Not given room for at once: the length may be a lie.
    let read = source.by_ref().take(length(size)).read_to_end(payload)?;
    if read < size {
        return Err(cut());
    }
    source.byte()?.map(Some).ok_or_else(cut)
}

fn draft(state: &Value<'_>) -> Result<Draft, String> {
    let version = state.get("version").integer();
    match version {
        Some(version) if version >= OLDEST_VERSION => {}
        Some(version) => return Err(format!("its format {version} is older than is read here")),
        None => return Err("its format is older than is read here".to_owned()),
    }
    let kind = state.get("type").text().unwrap_or_default();
    if kind != "http" {
        return Err(format!("it is a flow of {kind:?}, not of HTTP"));
    }
    let request = state.get("request");
    let response = state.get("response");
    let started_at = time(request, "timestamp_start")
        .or_else(|| time(state, "timestamp_created"))
        .ok_or("it has no time")?;
    let websocket = state.get("websocket");
    let tags = state.get("metadata").get("oriel_tags");
    let mut tags: Vec<String> = texts(tags.items());
    if tags.is_empty()
        && state
            .get("marked")
            .text()
            .is_some_and(|mark| !mark.is_empty())
    {
        tags.push("marked".to_owned());
    }
    Ok(Draft {
        method: text(request, "method").ok_or("it has no method")?,
        url: url(request)?,
        request: read_message(request),
        response: match response.is_null() {
            true => None,
            false => {
                let status = response.get("status_code").integer();
                let status = status.and_then(|status| u16::try_from(status).ok());
                let status = status.ok_or("its response has no status")?;
                let reason = text(response, "reason").unwrap_or_default();
                Some((status, reason, read_message(response)))
            }
        },
        started_at,
        request_sent_at: time(request, "timestamp_end"),
        response_started_at: time(response, "timestamp_start"),
        ended_at: time(websocket, "timestamp_end")
            .or_else(|| time(response, "timestamp_end"))
            .or_else(|| time(state.get("error"), "timestamp")),
        error: text(state.get("error"), "msg"),
        client: client(state.get("client_conn"), request),
        upstream: upstream(state.get("server_conn")),
        is_websocket: !websocket.is_null(),
        messages: messages(websocket),
        note: text(state, "comment").filter(|note| !note.is_empty()),
        tags,
    })
}

fn url(request: &Value<'_>) -> Result<Url, String> {
    let port = request.get("port").integer();
    let scheme = match text(request, "scheme").as_deref() {
        Some("https") => "https",
        _ => "http",
    };
    let path = text(request, "path").unwrap_or_default();
    Ok(Url {
        scheme,
        host: text(request, "host")
            .filter(|host| !host.is_empty())
            .ok_or("it has no host")?,
        port: port
            .and_then(|port| u16::try_from(port).ok())
            .ok_or("it has no port")?,
        path,
    })
}

fn read_message(state: &Value<'_>) -> DraftMessage {
    let content = state.get("content");
    DraftMessage {
        version: version(&text(state, "http_version").unwrap_or_default()),
        fields: fields(state.get("headers")),
        trailers: fields(state.get("trailers")),
        body: content.bytes().map(<[u8]>::to_vec),
        body_bytes: None,
        // mitmproxy keeps no content of what it streamed.
        is_cut: content.is_null(),
    }
}

fn fields(list: &Value<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pair = |item: &Value<'_>| {
        let (name, value) = (item.item(0).bytes()?, item.item(1).bytes()?);
        Some((name.to_vec(), value.to_vec()))
    };
    list.items().iter().filter_map(pair).collect()
}

fn messages(websocket: &Value<'_>) -> Vec<StreamMessage> {
    let items = websocket.get("messages").items();
    let read = |(position, item): (usize, &Value<'_>)| {
        let kind = kind(item.item(0).integer()?)?;
        let at = at_seconds(item.item(3).number()?);
        let payload = item.item(2).bytes()?.to_vec();
        Some(message(position, item.item(1).is_true(), kind, at, payload))
    };
    items.iter().enumerate().filter_map(read).collect()
}

fn client(state: &Value<'_>, request: &Value<'_>) -> Option<ConnectionView> {
    let mode = text(state, "proxy_mode").unwrap_or_default();
    let is_https = text(request, "scheme").as_deref() == Some("https");
    let front = match mode.split(':').next() {
        Some("reverse") => "reverse",
        Some("socks5") => "socks5",
        _ if is_https => "connect",
        _ => "absolute_form",
    };
    let tls = tls(state);
    Some(ConnectionView {
        front: front.to_owned(),
        client_address: address(state.get("peername")).or_else(|| address(state.get("address")))?,
        proxy_address: address(state.get("sockname")).unwrap_or_default(),
        accepted_at: time(state, "timestamp_start")?,
        tls_done_at: tls
            .as_ref()
            .and_then(|_| time(state, "timestamp_tls_setup")),
        no_tls: tls.is_none().then(|| "plain_http".to_owned()),
        sni: text(state, "sni"),
        tls,
        sni_differs: false,
        ja3: None,
        ja4: None,
        user: None,
        process: None,
        no_process: None,
    })
}

fn upstream(state: &Value<'_>) -> Option<UpstreamView> {
    let peer = state.get("peername");
    let peer = if peer.is_null() {
        state.get("ip_address")
    } else {
        peer
    };
    let dialled = time(state, "timestamp_start")?;
    let tls = tls(state);
    Some(UpstreamView {
        address: address(peer)?,
        local_address: address(state.get("sockname")).unwrap_or_default(),
        proxy: None,
        dial_started_at: dialled,
        connected_at: time(state, "timestamp_tcp_setup").unwrap_or(dialled),
        tls_done_at: tls
            .as_ref()
            .and_then(|_| time(state, "timestamp_tls_setup")),
        tls,
    })
}

fn tls(state: &Value<'_>) -> Option<TlsView> {
    let is_used = state.get("tls").is_true() || state.get("tls_established").is_true();
    is_used.then(|| TlsView {
        version: text(state, "tls_version").unwrap_or_default(),
        cipher: text(state, "cipher").unwrap_or_default(),
        sni: text(state, "sni"),
        alpn: text(state, "alpn"),
        certificate: None,
        danger_unverified: false,
    })
}

/// `host:port` of an address in two parts.
fn address(pair: &Value<'_>) -> Option<String> {
    let (host, port) = (pair.item(0).text()?, pair.item(1).integer()?);
    Some(match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    })
}

fn text(state: &Value<'_>, name: &str) -> Option<String> {
    let bytes = state.get(name).bytes()?;
    Some(crate::head_text::text_of_line(bytes).into_owned())
}

fn texts(items: &[Value<'_>]) -> Vec<String> {
    let texts = items.iter().filter_map(Value::text);
    texts.map(str::to_owned).collect()
}

fn time(state: &Value<'_>, name: &str) -> Option<Timestamp> {
    state.get(name).number().map(at_seconds)
}
