//! Looks at the first bytes of a connection without consuming them and says how it begins.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use traffic::rules::route::Opening;
use traffic::wire::client_hello::{ClientHello, HelloReader, Parsed};
use traffic::wire::socks5;

use crate::limits::{FIRST_BYTES, FIRST_BYTES_MAX};
use crate::stream::Replay;

/// What an HTTP/2 client without TLS sends first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS record that holds a handshake message.
const TLS_HANDSHAKE: u8 = 0x16;

/// How a connection begins.
#[derive(Debug)]
pub(crate) enum Begins {
    Tls(Arc<ClientHello>),
    PlainHttp,
    PlainHttp2,
    /// The client waits for the upstream to speak first.
    Silent,
    Other,
    /// It was closed before anything came.
    Nothing,
    /// A ClientHello that did not come whole in time.
    Unfinished,
}

impl Begins {
    /// The same in the words of the rules.
    pub(crate) fn opening(&self) -> Opening<'_> {
        match self {
            Self::Tls(hello) => Opening::Tls(hello),
            Self::PlainHttp | Self::PlainHttp2 => Opening::PlainHttp,
            Self::Silent | Self::Nothing => Opening::Silent,
            Self::Other | Self::Unfinished => Opening::Other,
        }
    }
}

/// Reads until it is clear how the connection begins.
///
/// `whole` bounds the wait for the rest of a beginning; nothing at all is waited for only as long
/// as [`FIRST_BYTES`]. Dropping it loses nothing.
pub(crate) async fn read(wire: &mut Replay, whole: Duration) -> Begins {
    let begun = Instant::now();
    let mut hello = HelloReader::default();
    loop {
        if let Some(begins) = classify(wire.ahead(), &mut hello) {
            return begins;
        }
        let silent = wire.ahead().is_empty();
        let deadline = begun
            + if silent {
                FIRST_BYTES.min(whole)
            } else {
                whole
            };
        match tokio::time::timeout_at(deadline, wire.read_ahead()).await {
            Ok(Ok(length)) if length > 0 => {}
            Ok(_) if silent => return Begins::Nothing,
            Ok(_) => return Begins::Other,
            Err(_) if silent => return Begins::Silent,
            Err(_) if wire.ahead().first() == Some(&TLS_HANDSHAKE) => return Begins::Unfinished,
            Err(_) => return Begins::Other,
        }
    }
}

/// What a client speaks to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// Also what is not known, because too little came in time.
    Http1,
    Http2,
    /// Version 5, or 4, whose first bytes are no method of HTTP.
    Socks,
}

/// Reads until it is clear what a client of the proxy speaks. Dropping it loses nothing.
pub(crate) async fn spoken(wire: &mut Replay, limit: Duration) -> Spoken {
    let deadline = Instant::now() + limit;
    loop {
        let ahead = wire.ahead();
        if matches!(ahead.first(), Some(&(socks5::VERSION | socks5::VERSION_4))) {
            return Spoken::Socks;
        }
        let length = ahead.len().min(PREFACE.len());
        if ahead.get(..length) != PREFACE.get(..length) {
            return Spoken::Http1;
        }
        if length == PREFACE.len() {
            return Spoken::Http2;
        }
        match tokio::time::timeout_at(deadline, wire.read_ahead()).await {
            Ok(Ok(length)) if length > 0 => {}
            _ => return Spoken::Http1,
        }
    }
}

/// `None` if more bytes are needed; then `hello` has seen these.
fn classify(bytes: &[u8], hello: &mut HelloReader) -> Option<Begins> {
    let first = *bytes.first()?;
    if first == TLS_HANDSHAKE {
        return match hello.read(bytes) {
            Parsed::Hello(hello) => Some(Begins::Tls(Arc::new(hello))),
            Parsed::Incomplete if bytes.len() < FIRST_BYTES_MAX => None,
            Parsed::Incomplete | Parsed::NotTls | Parsed::Malformed(_) => Some(Begins::Other),
        };
    }
    let compared = bytes.len().min(PREFACE.len());
    if compared >= 4 && bytes.get(..compared) == PREFACE.get(..compared) {
        return (compared == PREFACE.len()).then_some(Begins::PlainHttp2);
    }
    classify_http(bytes)
}

/// A method in capital letters and a space.
fn classify_http(bytes: &[u8]) -> Option<Begins> {
    const METHOD_BYTES_MAX: usize = 24;
    let is_method = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
    let length = bytes.iter().take_while(|byte| is_method(byte)).count();
    match bytes.get(length) {
        Some(b' ') if length > 0 => Some(Begins::PlainHttp),
        None if length <= METHOD_BYTES_MAX => None,
        _ => Some(Begins::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        let got = format!("{:?}", classify(bytes, &mut HelloReader::default()));
        assert!(got.starts_with(expected), "{bytes:?}: {got}");
    }

    #[test]
    fn tells_beginnings_apart() {
        check(b"", "None");
        check(b"G", "None");
        check(b"GET / HTTP/1.1", "Some(PlainHttp)");
        check(b"PRI * HTTP/2.0\r\n", "None");
        check(PREFACE, "Some(PlainHttp2)");
        check(b"SSH-2.0-x", "Some(Other)");
        check(b"\x00\x01", "Some(Other)");
        check(b" GET", "Some(Other)");
        check(&[b'A'; 40], "Some(Other)");
    }
}
