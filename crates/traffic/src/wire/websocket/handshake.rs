//! What the heads say that open a WebSocket: over HTTP/1.1 an upgrade (RFC 6455 section 4), over
//! HTTP/2 an extended CONNECT (RFC 8441). The heads pass as they came; this only reads them.
//!
//! Fields are given as name and value, in order, as [`Head::fields`](crate::Head::fields) does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::extensions::Extensions;

/// Octets of `Sec-WebSocket-Key`: 16 in base64.
const KEY_BYTES: usize = 24;
/// Appended to the key by the upstream (RFC 6455 section 1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a request of HTTP/1.1 asks for a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// It does not.
    No,
    /// It names `websocket`, but is not what RFC 6455 section 4.1 demands.
    Flawed(UpgradeFlaw),
    /// It does.
    WebSocket(Asked),
}

/// What an upgrade request lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpgradeFlaw {
    /// Its method is not GET.
    Method,
    /// Its Connection field does not list `upgrade`.
    Connection,
    /// Its `Sec-WebSocket-Version` is not 13, or not there once.
    Version,
    /// Its `Sec-WebSocket-Key` is not 16 octets in base64, or not there once.
    Key,
}

/// A request for a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    accept: String,
}

/// What the response says that opened a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Whether the upstream has shown that it understood the key.
    pub proof: Proof,
    /// The subprotocol it chose, if any.
    pub subprotocol: Option<Bytes>,
    /// The extensions it accepted.
    pub extensions: Extensions,
}

/// What `Sec-WebSocket-Accept` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// What the key asks for.
    Right,
    /// Something else. Clients give up on it.
    Wrong,
    /// It is not there.
    Missing,
    /// HTTP/2 has none.
    NotAsked,
}

/// Reads the head of an HTTP/1.1 request.
#[must_use]
pub fn read_upgrade<'a>(
    method: &[u8],
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Upgrade {
    let (mut upgrades, mut connection) = (false, false);
    let (mut version, mut key) = (Once::Missing, Once::Missing);
    for (name, value) in fields {
        if name.eq_ignore_ascii_case(b"upgrade") {
            upgrades |= lists(value, b"websocket");
        } else if name.eq_ignore_ascii_case(b"connection") {
            connection |= lists(value, b"upgrade");
        } else if name.eq_ignore_ascii_case(b"sec-websocket-version") {
            version.add(value);
        } else if name.eq_ignore_ascii_case(b"sec-websocket-key") {
            key.add(value);
        }
    }
    if !upgrades {
        return Upgrade::No;
    }
    if method != b"GET" {
        return Upgrade::Flawed(UpgradeFlaw::Method);
    }
    if !connection {
        return Upgrade::Flawed(UpgradeFlaw::Connection);
    }
    if version != Once::Value(b"13") {
        return Upgrade::Flawed(UpgradeFlaw::Version);
    }
    match key {
        Once::Value(key) if is_key(key) => Upgrade::WebSocket(Asked {
            accept: accept(key),
        }),
        _ => Upgrade::Flawed(UpgradeFlaw::Key),
    }
}

/// True for an extended CONNECT that asks for a WebSocket (RFC 8441 section 5): its method and
/// `:protocol`.
#[must_use]
pub fn is_extended_connect(method: &[u8], protocol: &[u8]) -> bool {
    method == b"CONNECT" && protocol.eq_ignore_ascii_case(b"websocket")
}

/// Makes the `Sec-WebSocket-Key` of an upgrade out of octets that nobody can guess, with what
/// answers it.
#[must_use]
pub fn make_key(nonce: [u8; 16]) -> (String, Asked) {
    let key = STANDARD.encode(nonce);
    let accept = accept(key.as_bytes());
    (key, Asked { accept })
}

/// True if the fields of a 101 response say that a WebSocket is what follows (RFC 6455 section
/// 4.1, items 2 and 3 of the checks).
#[must_use]
pub fn switches<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> bool {
    let (mut upgrades, mut connection) = (false, false);
    for (name, value) in fields {
        if name.eq_ignore_ascii_case(b"upgrade") {
            upgrades = value.trim_ascii().eq_ignore_ascii_case(b"websocket");
        } else if name.eq_ignore_ascii_case(b"connection") {
            connection |= lists(value, b"upgrade");
        }
    }
    upgrades && connection
}

impl Asked {
    /// The `Sec-WebSocket-Accept` that answers the key.
    #[must_use]
    pub fn accept(&self) -> &str {
        &self.accept
    }

    /// Reads the fields of the 101 response.
    #[must_use]
    pub fn read_response<'a>(
        &self,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Accepted {
        let (mut accepted, accept) = read_accepted(fields);
        accepted.proof = match accept {
            Once::Value(accept) if accept == self.accept.as_bytes() => Proof::Right,
            Once::Value(_) | Once::Repeated => Proof::Wrong,
            Once::Missing => Proof::Missing,
        };
        accepted
    }
}

impl Accepted {
    /// Reads the fields of the successful response to an extended CONNECT.
    #[must_use]
    pub fn read_extended_connect<'a>(
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Self {
        read_accepted(fields).0
    }
}

fn read_accepted<'a>(
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> (Accepted, Once<'a>) {
    let mut accept = Once::Missing;
    let (mut subprotocol, mut extensions) = (None, Vec::new());
    for (name, value) in fields {
        if name.eq_ignore_ascii_case(b"sec-websocket-accept") {
            accept.add(value);
        } else if name.eq_ignore_ascii_case(b"sec-websocket-protocol") {
            subprotocol.get_or_insert_with(|| Bytes::copy_from_slice(value.trim_ascii()));
        } else if name.eq_ignore_ascii_case(b"sec-websocket-extensions") {
            extensions.push(value);
        }
    }
    let accepted = Accepted {
        proof: Proof::NotAsked,
        subprotocol,
        extensions: Extensions::parse(extensions),
    };
    (accepted, accept)
}

/// A field that may be there once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Once<'a> {
    Missing,
    Value(&'a [u8]),
    Repeated,
}

impl<'a> Once<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Missing => Self::Value(value.trim_ascii()),
            Self::Value(_) | Self::Repeated => Self::Repeated,
        };
    }
}

/// True if a list of tokens has this one, without regard to case.
fn lists(value: &[u8], token: &[u8]) -> bool {
    value
        .split(|octet| *octet == b',')
        .any(|listed| listed.trim_ascii().eq_ignore_ascii_case(token))
}

fn is_key(key: &[u8]) -> bool {
    let in_alphabet = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/');
    key.len() == KEY_BYTES
        && key
            .strip_suffix(b"==")
            .is_some_and(|key| key.iter().all(in_alphabet))
}

/// RFC 6455 section 4.2.2, step 5.4. SHA-1 shows that the upstream has understood the request; no
/// security rests on it.
fn accept(key: &[u8]) -> String {
    STANDARD.encode(Sha1::digest([key, KEY_SUFFIX].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn fields(text: &str) -> Vec<(&[u8], &[u8])> {
        text.lines()
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.as_bytes(), value.as_bytes())
            })
            .collect()
    }

    fn upgrade(method: &str, text: &str) -> Upgrade {
        read_upgrade(method.as_bytes(), fields(text))
    }

    /// The request and the answer of RFC 6455 section 1.3.
    #[test]
    fn knows_an_upgrade_and_its_answer() {
        let Upgrade::WebSocket(asked) = upgrade(
            "GET",
            "Host: x\nUPGRADE: h2c , WebSocket\nConnection: keep-alive\nconnection: a,Upgrade\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13",
        ) else {
            panic!("it is an upgrade");
        };
        assert_eq!(asked.accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

        let accepted = asked.read_response(fields(
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\nsec-websocket-protocol: chat\n\
             Sec-WebSocket-Extensions: permessage-deflate\nSec-WebSocket-Extensions: other",
        ));
        assert_eq!(accepted.proof, Proof::Right);
        assert_eq!(accepted.subprotocol.as_deref(), Some(&b"chat"[..]));
        assert!(accepted.extensions.deflate.is_some() && accepted.extensions.unknown);

        let proof = |text| asked.read_response(fields(text)).proof;
        assert_eq!(proof("Sec-WebSocket-Accept: s3pP"), Proof::Wrong);
        assert_eq!(
            proof("Sec-WebSocket-Accept: a\nSec-WebSocket-Accept: a"),
            Proof::Wrong
        );
        assert_eq!(proof("Upgrade: websocket"), Proof::Missing);
    }

    #[test]
    fn tells_what_an_upgrade_lacks() {
        let good = format!(
            "Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\n\
             Sec-WebSocket-Key: {KEY}"
        );
        let check = |method, from: &str, to: &str, expected| {
            assert!(good.contains(from));
            let found = upgrade(method, &good.replace(from, to));
            assert_eq!(found, Upgrade::Flawed(expected), "{from} -> {to}");
        };
        check("POST", "", "", UpgradeFlaw::Method);
        check("get", "", "", UpgradeFlaw::Method);
        check(
            "GET",
            "Connection: Upgrade",
            "Connection: close",
            UpgradeFlaw::Connection,
        );
        check("GET", "13", "8", UpgradeFlaw::Version);
        check(
            "GET",
            "13",
            "13\nSec-WebSocket-Version: 13",
            UpgradeFlaw::Version,
        );
        check("GET", "Sec-WebSocket-Key", "Other", UpgradeFlaw::Key);
        check("GET", KEY, "dGhlIHNhbXBsZSBub25jZQ=", UpgradeFlaw::Key);
        check("GET", KEY, "dGhlIHNhbXBsZSBub25jZQAA", UpgradeFlaw::Key);
        check("GET", KEY, "dGhlIHNhbXBsZSBub25j*Q==", UpgradeFlaw::Key);

        assert_eq!(upgrade("GET", ""), Upgrade::No);
        let other = good.replace("websocket\n", "websockets, h2c\n");
        assert_eq!(upgrade("GET", &other), Upgrade::No);
    }

    #[test]
    fn makes_a_key_and_knows_its_answer() {
        let (key, asked) = make_key(*b"the sample nonce");
        assert_eq!(key, KEY);
        assert_eq!(asked.accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn knows_a_switch() {
        let switches = |text| switches(fields(text));
        assert!(switches(
            "upgrade: WebSocket\nCONNECTION: keep-alive, Upgrade"
        ));
        assert!(!switches("Upgrade: h2c\nConnection: Upgrade"));
        assert!(!switches("Upgrade: websocket"));
        assert!(!switches("Connection: Upgrade"));
    }

    #[test]
    fn knows_an_extended_connect() {
        assert!(is_extended_connect(b"CONNECT", b"websocket"));
        assert!(!is_extended_connect(b"GET", b"websocket"));
        assert!(!is_extended_connect(b"CONNECT", b"connect-udp"));
        let accepted = Accepted::read_extended_connect(fields("sec-websocket-protocol: realtime"));
        assert_eq!(accepted.proof, Proof::NotAsked);
        assert_eq!(accepted.subprotocol.as_deref(), Some(&b"realtime"[..]));
    }
}
