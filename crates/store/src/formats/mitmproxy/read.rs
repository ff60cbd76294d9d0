//! Reads flows of a file, of each what a record has a place for.

use std::io::Read;

use traffic::Timestamp;

use crate::formats::draft::{Draft, DraftMessage, Url, at_seconds, length, message, version};
use crate::formats::opcode::kind;
use crate::formats::source::Source;
use crate::formats::tnetstring::{LENGTH_DIGITS_MAX, Value, length as length_of};
use crate::formats::{Each, Found, Import, Place, ReadError};
use crate::limits::IMPORTED_FLOW_BYTES_MAX;
use crate::{ConnectionView, StreamMessage, TlsView, UpstreamView, head_text};

/// The oldest format that is read.
const OLDEST_VERSION: i64 = 7;

/// Reads the flows of a file. Behind one that is damaged nothing can be found.
pub(in crate::formats) fn read<R: Read>(
    source: &mut Source<R>,
    import: &mut Import,
    each: &mut Each<'_>,
) -> Result<(), ReadError> {
    let mut payload = Vec::new();
    let mut number = 0;
    loop {
        source.begin();
        let place = Place::Byte(source.offset());
        let Some(kind) = read_netstring(source, &mut payload, place)? else {
            return Ok(());
        };
        number += 1;
        let state = Value::read(kind, &payload).map_err(|what| damaged(place, what))?;
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
    let cut = || damaged(place, "the file ends within a flow");
    let mut digits = Vec::with_capacity(LENGTH_DIGITS_MAX);
    loop {
        match source.byte()? {
            None if digits.is_empty() => return Ok(None),
            None => return Err(cut()),
            Some(b':') => break,
            Some(byte) if digits.len() < LENGTH_DIGITS_MAX => digits.push(byte),
            Some(_) => return Err(damaged(place, "a length has no colon")),
        }
    }
    let size = length_of(&digits).ok_or_else(|| damaged(place, "a length is no number"))?;
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

fn damaged(place: Place, what: &str) -> ReadError {
    ReadError::Damaged {
        place,
        what: what.to_owned(),
    }
}

fn draft(state: &Value<'_>) -> Result<Draft, String> {
    refuse_others(state)?;
    let request = state.get("request");
    let response = state.get("response");
    let websocket = state.get("websocket");
    let error = state.get("error");
    Ok(Draft {
        method: text(request, "method").ok_or("it has no method")?,
        url: url(request)?,
        request: read_message(request),
        response: read_response(response)?,
        started_at: time(request, "timestamp_start")
            .or_else(|| time(state, "timestamp_created"))
            .ok_or("it has no time")?,
        request_sent_at: time(request, "timestamp_end"),
        response_started_at: time(response, "timestamp_start"),
        ended_at: time(websocket, "timestamp_end")
            .or_else(|| time(response, "timestamp_end"))
            .or_else(|| time(error, "timestamp")),
        error: text(error, "msg"),
        client: client(state.get("client_conn"), request),
        upstream: upstream(state.get("server_conn")),
        is_websocket: !websocket.is_null(),
        messages: messages(websocket),
        note: text(state, "comment").filter(|note| !note.is_empty()),
        tags: tags(state),
    })
}

/// Refuses what is older than is known here, and what is no flow of HTTP.
fn refuse_others(state: &Value<'_>) -> Result<(), String> {
    match state.get("version").integer() {
        Some(version) if version >= OLDEST_VERSION => {}
        Some(version) => return Err(format!("its format {version} is older than is read here")),
        None => return Err("its format is older than is read here".to_owned()),
    }
    match state.get("type").text().unwrap_or_default() {
        "http" => Ok(()),
        other => Err(format!("it is a flow of {other:?}, not of HTTP")),
    }
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

fn read_response(state: &Value<'_>) -> Result<Option<(u16, String, DraftMessage)>, String> {
    if state.is_null() {
        return Ok(None);
    }
    let status = state.get("status_code").integer();
    let status = status.and_then(|status| u16::try_from(status).ok());
    let status = status.ok_or("its response has no status")?;
    let reason = text(state, "reason").unwrap_or_default();
    Ok(Some((status, reason, read_message(state))))
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

/// Our own tags; a flow that was marked in mitmproxy gets one.
fn tags(state: &Value<'_>) -> Vec<String> {
    let tags = state.get("metadata").get("oriel_tags").items().iter();
    let tags: Vec<String> = tags.filter_map(Value::text).map(str::to_owned).collect();
    let mark = state.get("marked").text().unwrap_or_default();
    match tags.is_empty() && !mark.is_empty() {
        true => vec!["marked".to_owned()],
        false => tags,
    }
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
    Some(head_text::text_of_line(bytes).into_owned())
}

fn time(state: &Value<'_>, name: &str) -> Option<Timestamp> {
    state.get(name).number().map(at_seconds)
}
