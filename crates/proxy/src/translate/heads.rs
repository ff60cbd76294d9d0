//! Heads from one version to the other, and HTTP/2 heads as text.

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{
    ALT_SVC, CONTENT_LENGTH, COOKIE, HOST, MAX_FORWARDS, PROXY_AUTHORIZATION, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use traffic::wire::alt_svc::without_http3;
use traffic::wire::websocket::handshake;
use traffic::{Failure, FailureKind, Head, Scheme, Side, Stage, Target, Version};

use super::Http1Request;
use super::body::Coding;
use crate::error;
use crate::hops::Hops;
use crate::http1::head::{BodyLength, Line, RequestHead, ResponseHead, frames_or_routes};
use crate::max_forwards::{self, MaxForwards};
use crate::upstream::Forwarded;

/// An HTTP/2 request head as text.
pub(crate) fn request_text(parts: &http::request::Parts) -> Head {
    text(|text| write_request_text(parts, text))
}

/// An HTTP/2 response head as text.
pub(crate) fn response_text(status: StatusCode, fields: &HeaderMap) -> Head {
    text(|text| write_response_text(status, fields, text))
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> Head {
    let mut text = Vec::new();
    write(&mut text);
    Head {
        version: Version::Http2,
        text: text.into(),
    }
}

/// Writes an HTTP/2 request head as text, pseudo-header fields included (RFC 9113 section 8.3.1, RFC 8441
/// section 4).
pub(crate) fn write_request_text(parts: &http::request::Parts, text: &mut Vec<u8>) {
    let (method, uri, fields) = (&parts.method, &parts.uri, &parts.headers);
    let path = uri.path_and_query().map_or("*", PathAndQuery::as_str);
    text.reserve(256 + fields.len() * 32);
    for part in [method.as_str(), " ", path, " HTTP/2\r\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    if let Some(authority) = uri.authority() {
        text.extend_from_slice(b":authority: ");
        text.extend_from_slice(authority.as_str().as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    if let Some(protocol) = parts.extensions.get::<Protocol>() {
        write_field(":protocol", protocol.as_str().as_bytes(), text);
    }
    write_fields(fields, text);
    text.extend_from_slice(b"\r\n");
}

/// Writes an HTTP/2 response head as text.
pub(super) fn write_response_text(status: StatusCode, fields: &HeaderMap, text: &mut Vec<u8>) {
    text.reserve(128 + fields.len() * 32);
    text.extend_from_slice(b"HTTP/2 ");
    text.extend_from_slice(status.as_str().as_bytes());
    text.extend_from_slice(b"\r\n");
    write_fields(fields, text);
    text.extend_from_slice(b"\r\n");
}

/// Trailers as an event carries them.
pub(super) fn trailers_text(trailers: &HeaderMap) -> Head {
    let mut text = Vec::new();
    write_fields(trailers, &mut text);
    text.extend_from_slice(b"\r\n");
    trailers_head(&text)
}

/// Trailers are a head without a start line.
fn trailers_head(text: &[u8]) -> Head {
    Head::trailers(Version::Http2, text)
}

/// The trailers of a chunked body; `None` if there are none.
pub(super) fn trailers_map(text: &[u8]) -> Option<HeaderMap> {
    if text.is_empty() {
        return None;
    }
    let head = trailers_head(text);
    let fields = head.fields().filter_map(|(name, value)| {
        Some((
            HeaderName::from_bytes(name).ok()?,
            HeaderValue::from_bytes(value).ok()?,
        ))
    });
    Some(fields.collect())
}

/// The trailers that may be turned over into another version.
pub(super) fn trailers_to_send(mut trailers: HeaderMap) -> HeaderMap {
    let misleading: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| frames_or_routes(name))
        .cloned()
        .collect();
    for name in misleading {
        trailers.remove(name);
    }
    trailers
}

/// Appends field lines.
pub(super) fn write_fields(fields: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in fields {
        write_field(name.as_str(), value.as_bytes(), out);
    }
}

fn write_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The octets that a body was promised to have.
pub(super) fn content_length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Leaves one Content-Length of several, which HTTP/2 takes if they are equal: in HTTP/1.1 two lines
/// are for some readers none, or malformed (RFC 9112 section 6.3).
pub(super) fn say_length_once(fields: &mut HeaderMap) {
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    if let (Some(first), Some(_)) = (lengths.next(), lengths.next()) {
        let first = first.clone();
        // In the place of all.
        fields.insert(CONTENT_LENGTH, first);
    }
}

/// How long the body of an HTTP/2 request is.
pub(super) fn body_length(fields: &HeaderMap, ended: bool) -> Result<BodyLength, Failure> {
    let length = fields
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    match length.map(str::parse) {
        Some(Ok(length)) => Ok(BodyLength::Exactly(length)),
        Some(Err(_)) => Err(malformed("content-length is not a number")),
        None if ended => Ok(BodyLength::None),
        None => Ok(BodyLength::Chunked),
    }
}

/// What Max-Forwards asks of us in an HTTP/2 request.
pub(crate) fn max_forwards(parts: &http::request::Parts) -> Option<MaxForwards> {
    if !matches!(parts.method, Method::OPTIONS | Method::TRACE) {
        return None;
    }
    let value = parts.headers.get(MAX_FORWARDS)?;
    max_forwards::read(parts.method.as_str().as_bytes(), value.as_bytes())
}

/// A request of an HTTP/2 client as it is sent on.
pub(crate) fn for_upstream(
    mut parts: http::request::Parts,
    target: &Target,
    scheme: Scheme,
) -> Result<Request<()>, Failure> {
    parts.headers.remove(PROXY_AUTHORIZATION);
    say_length_once(&mut parts.headers);
    if let Some(MaxForwards::Forward(left)) = max_forwards(&parts) {
        parts.headers.insert(MAX_FORWARDS, left.into());
    }
    let named = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = match (parts.uri.authority(), named) {
        (Some(authority), _) => authority.as_str().to_owned(),
        (None, Some(host)) => host.to_owned(),
        (None, None) => target.authority(scheme),
    };
    if authority.contains('@') {
        return Err(malformed(
            "the authority has user information before the host",
        ));
    }
    // One of the two would be ignored by somebody (RFC 9113 section 8.3.1).
    let agrees = |host: &HeaderValue| host.as_bytes() == authority.as_bytes();
    if !parts.headers.get_all(HOST).iter().all(agrees) {
        return Err(malformed("the Host field differs from :authority"));
    }
    let path = parts.uri.path_and_query().map_or("*", PathAndQuery::as_str);
    if !path.starts_with('/') && path != "*" {
        return Err(malformed("the path does not begin with a slash"));
    }
    if parts.uri.scheme_str() != Some(scheme.as_str()) || parts.uri.authority().is_none() {
        parts.uri = uri(scheme, &authority, path)?;
    }
    Ok(Request::from_parts(parts, ()))
}

/// Leaves out whom a request names, so that it is sent on for its target.
pub(crate) fn forget_authority(parts: &mut http::request::Parts) {
    parts.headers.remove(HOST);
    if let Some(path) = parts.uri.path_and_query() {
        parts.uri = Uri::from(path.clone());
    }
}

/// A request of an HTTP/1 client in the terms of HTTP/2 (RFC 9113 section 8.3.1).
pub(crate) fn from_http1_request(message: &Http1Request<'_>) -> Result<Request<()>, Failure> {
    let head = message.head;
    let method = message.bytes.get(head.method.clone()).unwrap_or_default();
    let method =
        Method::from_bytes(method).map_err(|_error| malformed("the method is no token"))?;
    let named = head
        .host
        .and_then(|at| head.lines.get(at))
        .and_then(|line| std::str::from_utf8(message.bytes.get(line.value.clone())?).ok());
    let host = message.host.or(named);
    let authority = match host {
        Some(host) if !host.is_empty() => host.to_owned(),
        _ => message.target.authority(message.scheme),
    };
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = uri(message.scheme, &authority, &message.path)?;
    *request.headers_mut() = fields_from_http1(head, message.bytes)?;
    if let Some(MaxForwards::Forward(left)) = message.forwards {
        request.headers_mut().insert(MAX_FORWARDS, left.into());
    }
    Ok(request)
}

/// The fields of a request of an HTTP/1 client in the terms of HTTP/2: without the host, which
/// belongs to the target there.
pub(crate) fn fields_from_http1(head: &RequestHead, bytes: &[u8]) -> Result<HeaderMap, Failure> {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut fields = HeaderMap::with_capacity(head.lines.len());
    take_fields(lines_but_host(head), &bytes, &mut fields)?;
    Ok(fields)
}

/// The same in place of the fields of another request. Clients mostly send the same names in the same
/// order again, and then only the values that differ are written.
pub(crate) fn renew_fields_from_http1(
    fields: &mut HeaderMap,
    head: &RequestHead,
    bytes: &[u8],
) -> Result<(), Failure> {
    if !write_over(fields, lines_but_host(head), bytes)? {
        *fields = fields_from_http1(head, bytes)?;
    }
    Ok(())
}

/// The lines of a request but for that of the host. It is left out, not removed afterwards: removing
/// a field puts the last one into its place.
fn lines_but_host(head: &RequestHead) -> impl Iterator<Item = &Line> {
    let lines = head.lines.iter().enumerate();
    let lines = lines.filter(|(at, _)| head.host != Some(*at));
    lines.map(|(_, line)| line)
}

/// True for a request of HTTP/2 that asks for a WebSocket (RFC 8441 section 5).
pub(crate) fn asks_for_websocket(parts: &http::request::Parts) -> bool {
    let protocol = parts.extensions.get::<Protocol>();
    protocol.is_some_and(|protocol| {
        handshake::is_extended_connect(
            parts.method.as_str().as_bytes(),
            protocol.as_str().as_bytes(),
        )
    })
}

/// Turns an upgrade into an extended CONNECT, which has no key (RFC 8441 section 5).
pub(super) fn ask_for_websocket(request: &mut Request<()>) {
    *request.method_mut() = Method::CONNECT;
    let protocol = Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    request.headers_mut().remove(SEC_WEBSOCKET_KEY);
}

/// Takes out of the head that opens a WebSocket what only one side is concerned with.
pub(super) fn clear_handshake(fields: &mut HeaderMap) {
    fields.remove(SEC_WEBSOCKET_ACCEPT);
    // Neither a switch nor the answer to a CONNECT has a body (RFC 9110 section 8.6).
    fields.remove(CONTENT_LENGTH);
}

/// A response of an HTTP/1 upstream in the terms of HTTP/2.
pub(super) fn from_http1_response(
    head: &ResponseHead,
    bytes: &Bytes,
) -> Result<Response<()>, Failure> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).map_err(|_error| {
        let text = format!("the status {} does not exist", head.status);
        error::failure(
            Side::Upstream,
            Stage::Response,
            FailureKind::Malformed,
            text,
        )
    })?;
    take_fields(head.lines.iter(), bytes, response.headers_mut())?;
    Ok(response)
}

/// Takes the offers of HTTP/3 out of the Alt-Svc field.
pub(super) fn hide_http3(fields: &mut HeaderMap) {
    if !fields.contains_key(ALT_SVC) {
        return;
    }
    let offers = without_http3(fields.get_all(ALT_SVC).iter().map(HeaderValue::as_bytes));
    if let Some(offers) = offers.and_then(|offers| HeaderValue::from_bytes(&offers).ok()) {
        // In the place of the first line; those after it go.
        fields.insert(ALT_SVC, offers);
    }
}

/// Adds the fields of a head that go on. Their values are slices of it.
fn take_fields<'a>(
    lines: impl Iterator<Item = &'a Line>,
    bytes: &Bytes,
    fields: &mut HeaderMap,
) -> Result<(), Failure> {
    for (name, value) in passing(lines, bytes) {
        let name =
            HeaderName::from_bytes(name).map_err(|_error| malformed("a field name is no token"))?;
        let value =
            HeaderValue::from_maybe_shared(bytes.slice_ref(value)).map_err(no_field_value)?;
        fields.append(name, value);
    }
    Ok(())
}

/// Writes the values of a head over those of another whose fields that go on have the same names in
/// the same order. False if it is not so; then some of the values may be those of the other head.
fn write_over<'a>(
    fields: &mut HeaderMap,
    lines: impl Iterator<Item = &'a Line>,
    bytes: &[u8],
) -> Result<bool, Failure> {
    // Fields of one name are told together, so that a head in which they are scattered is another.
    let mut known = fields.iter_mut();
    for (name, value) in passing(lines, bytes) {
        let Some((known_name, known_value)) = known.next() else {
            return Ok(false);
        };
        if !known_name.as_str().as_bytes().eq_ignore_ascii_case(name) {
            return Ok(false);
        }
        if known_value.as_bytes() != value {
            *known_value = HeaderValue::from_bytes(value).map_err(no_field_value)?;
        }
    }
    Ok(known.next().is_none())
}

/// Names and values of the fields that go on in the terms of HTTP/2.
fn passing<'a, 'b>(
    lines: impl Iterator<Item = &'a Line>,
    bytes: &'b [u8],
) -> impl Iterator<Item = (&'b [u8], &'b [u8])> {
    let fields = lines.filter(|line| !line.hop).map(|line| {
        let name = bytes.get(line.start..line.name_end).unwrap_or_default();
        (name, bytes.get(line.value.clone()).unwrap_or_default())
    });
    fields.filter(|(name, _)| match name.len() {
        7 => !name.eq_ignore_ascii_case(b"upgrade"),
        10 => !name.eq_ignore_ascii_case(b"connection"),
        17 => !name.eq_ignore_ascii_case(b"transfer-encoding"),
        _ => true,
    })
}

fn no_field_value(_: impl std::error::Error) -> Failure {
    malformed("a field value has a control character")
}

/// Writes a request in HTTP/1.1; with a key, an extended CONNECT as the upgrade that asks for the
/// same. Where a proxy is told of it, in its form.
pub(super) fn write_request(
    request: &Request<()>,
    coding: Coding,
    key: Option<&str>,
    forwarded: Option<&Forwarded>,
    out: &mut Vec<u8>,
) {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", PathAndQuery::as_str);
    let (origin, path) = match forwarded {
        // About the server as a whole (RFC 9112 section 3.2.4).
        Some(forwarded) if path == "*" => (&*forwarded.origin, ""),
        Some(forwarded) => (&*forwarded.origin, path),
        None => ("", path),
    };
    let method = match key {
        Some(_) => &Method::GET,
        None => request.method(),
    };
    for part in [method.as_str(), " ", origin, path, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(authority) = request.uri().authority() {
        write_field("Host", authority.as_str().as_bytes(), out);
    }
    let mut cookies: Vec<u8> = Vec::new();
    for (name, value) in request.headers() {
        if name == COOKIE {
            // HTTP/2 may split what HTTP/1.1 must have in one line (RFC 9113 section 8.2.3).
            if !cookies.is_empty() {
                cookies.extend_from_slice(b"; ");
            }
            cookies.extend_from_slice(value.as_bytes());
        } else if name != HOST && (key.is_none() || name != SEC_WEBSOCKET_KEY) {
            write_field(name.as_str(), value.as_bytes(), out);
        }
    }
    if !cookies.is_empty() {
        write_field("cookie", &cookies, out);
    }
    if let Some(key) = key {
        write_upgrade(out);
        write_field("Sec-WebSocket-Key", key.as_bytes(), out);
    }
    if coding == Coding::Chunked {
        write_field("Transfer-Encoding", b"chunked", out);
    } else if takes_body(request.method()) && !request.headers().contains_key(CONTENT_LENGTH) {
        // HTTP/2 says it with the end of the stream (RFC 9110 section 8.6).
        write_field("Content-Length", b"0", out);
    }
    if let Some(forwarded) = forwarded {
        // A plain request that came through another oriel did so in HTTP/1.1.
        forwarded.write_own_lines(&Hops::default(), out);
    }
    out.extend_from_slice(b"\r\n");
}

fn takes_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Writes the head that opens a WebSocket in HTTP/1.1.
pub(super) fn write_switch(response: &Response<()>, accept: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    write_upgrade(out);
    write_field("Sec-WebSocket-Accept", accept.as_bytes(), out);
    write_fields(response.headers(), out);
    out.extend_from_slice(b"\r\n");
}

fn write_upgrade(out: &mut Vec<u8>) {
    write_field("Upgrade", b"websocket", out);
    write_field("Connection", b"Upgrade", out);
}

/// Writes a response in HTTP/1.1.
pub(super) fn write_response(
    response: &Response<()>,
    coding: Coding,
    close: bool,
    out: &mut Vec<u8>,
) {
    let status = response.status();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    write_fields(response.headers(), out);
    if coding == Coding::Chunked {
        write_field("Transfer-Encoding", b"chunked", out);
    }
    if close {
        write_field("Connection", b"close", out);
    }
    out.extend_from_slice(b"\r\n");
}

fn uri(scheme: Scheme, authority: &str, path: &str) -> Result<Uri, Failure> {
    Uri::builder()
        .scheme(scheme.as_str())
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|error| malformed(format!("the request target cannot be sent on: {error}")))
}

fn malformed(text: impl Into<String>) -> Failure {
    error::failure(Side::Client, Stage::Front, FailureKind::Malformed, text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http1::head;

    fn request(fields: &[(&str, &str)]) -> (Vec<u8>, RequestHead) {
        let mut text = String::from("GET / HTTP/1.1\r\nHost: a\r\n");
        for (name, value) in fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let head = head::parse_request(text.as_bytes(), Vec::new()).unwrap();
        (text.into_bytes(), head)
    }

    fn told(fields: &HeaderMap) -> Vec<(&HeaderName, &HeaderValue)> {
        fields.iter().collect()
    }

    fn any_fields() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
        let name = prop::sample::select(vec![
            "Accept",
            "accept",
            "X-One",
            "x-two",
            "Connection",
            "Keep-Alive",
            "Upgrade",
        ]);
        let value = prop::sample::select(vec!["", "1", "2", "x-two"]);
        prop::collection::vec((name, value), 0..6)
    }

    proptest! {
        /// Whatever was shown before, the fields are those of the request at hand, in their order.
        #[test]
        fn fields_are_renewed_to_those_of_the_request(
            before in any_fields(),
            now in any_fields(),
        ) {
            let (bytes, head) = request(&before);
            let mut fields = fields_from_http1(&head, &bytes).unwrap();
            let (bytes, head) = request(&now);
            renew_fields_from_http1(&mut fields, &head, &bytes).unwrap();
            let fresh = fields_from_http1(&head, &bytes).unwrap();
            prop_assert_eq!(told(&fields), told(&fresh));
        }
    }

    #[test]
    fn values_that_did_not_change_are_left_where_they_are() {
        let (bytes, head) = request(&[("Accept", "*/*"), ("X-Id", "1"), ("X-Many", "a")]);
        let mut fields = fields_from_http1(&head, &bytes).unwrap();
        let before: Vec<*const u8> = fields.values().map(|v| v.as_bytes().as_ptr()).collect();
        let (bytes, head) = request(&[("accept", "*/*"), ("X-Id", "2"), ("X-Many", "a")]);
        renew_fields_from_http1(&mut fields, &head, &bytes).unwrap();
        let now: Vec<*const u8> = fields.values().map(|v| v.as_bytes().as_ptr()).collect();
        let stays: Vec<bool> = before
            .iter()
            .zip(&now)
            .map(|(old, new)| old == new)
            .collect();
        assert_eq!(stays, [true, false, true]);
        assert_eq!(fields["x-id"], "2");
    }
}
