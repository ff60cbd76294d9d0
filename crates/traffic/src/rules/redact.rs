//! Masks known credentials in heads and URLs, before anything is stored.
//!
//! Where it stands: between the engine's events and whatever keeps them. What is sent on is never
//! touched. A masked value has one exact form, `[redacted:NAME:LENGTH]`: the name of the field or
//! parameter in lower case, and how many bytes stood there. It holds no space, so that a masked
//! request line still has three words. Everything else stays byte for byte.
//!
//! What it does not find: credentials in bodies, in parts of a path, or under names of one's own.

mod arguments;

use std::borrow::Cow;

use memchr::memchr;

/// Fields whose value is a credential, in lower case: those of HTTP, of model APIs, and of the
/// gateways and clouds that stand before them.
const SECRET_FIELDS: [&str; 16] = [
    "api-key",
    "authorization",
    "cf-aig-authorization",
    "cookie",
    "helicone-auth",
    "ocp-apim-subscription-key",
    "proxy-authorization",
    "set-cookie",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-goog-api-key",
    "x-litellm-api-key",
    "x-portkey-api-key",
    "x-subscription-token",
];

/// Query parameters whose value is a credential, in lower case.
const SECRET_PARAMETERS: [&str; 12] = [
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "auth_token",
    "client_secret",
    "key",
    "token",
    "x-amz-security-token",
    "x-amz-signature",
    "x-api-key",
    "x-goog-api-key",
];

/// Fields whose value is a URL, which may have secret parameters.
const URL_FIELDS: [&str; 5] = [
    ":authority",
    ":path",
    "content-location",
    "location",
    "referer",
];

/// The field with the subprotocols of a WebSocket (RFC 6455 section 11.3.4). A browser can set no other
/// field of it, so some services take a credential as one of them.
const PROTOCOL_FIELD: &str = "sec-websocket-protocol";

/// What stands before a credential in a subprotocol: OpenAI Realtime's, and that of the Kubernetes API.
const SECRET_PROTOCOLS: [&str; 2] = [
    "openai-insecure-api-key.",
    "base64url.bearer.authorization.k8s.io.",
];

/// Subprotocols after which a credential is the next one, as Deepgram takes it.
const PROTOCOLS_BEFORE_SECRETS: [&str; 2] = ["bearer", "token"];

/// Longest parameter name that is looked at, in its percent-encoded form.
const PARAMETER_NAME_BYTES_MAX: usize = 3 * 20;

/// How much is masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Redaction {
    /// Known credentials in field values, query parameters and user information.
    Basic,
    /// Nothing: credentials are stored as they came. Must be asked for.
    None,
}

impl Redaction {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::None => "none",
        }
    }

    /// Masks the text of a [`crate::Head`]: its start line and its fields.
    #[must_use]
    pub fn mask_head(self, text: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Basic => mask_head(text),
            Self::None => Cow::Borrowed(text),
        }
    }

    /// Masks a URL or a request target.
    #[must_use]
    pub fn mask_url(self, url: &[u8]) -> Cow<'_, [u8]> {
        let mut masked = Masked::new(url);
        if self == Self::Basic {
            mask_url(url, 0, &mut masked);
        }
        masked.finish()
    }
}

/// A text with some ranges replaced; borrowed as long as there are none.
struct Masked<'a> {
    text: &'a [u8],
    done: usize,
    out: Vec<u8>,
}

impl<'a> Masked<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            done: 0,
            out: Vec::new(),
        }
    }

    /// Replaces a range that is behind all that were replaced before.
    fn replace(&mut self, start: usize, end: usize, name: &str) {
        let kept = self.text.get(self.done..start).unwrap_or_default();
        if self.out.is_empty() {
            self.out.reserve(self.text.len() + 32);
        }
        self.out.extend_from_slice(kept);
        let length = end - start;
        self.out
            .extend_from_slice(format!("[redacted:{name}:{length}]").as_bytes());
        self.done = end;
    }

    fn finish(mut self) -> Cow<'a, [u8]> {
        if self.done == 0 {
            return Cow::Borrowed(self.text);
        }
        let rest = self.text.get(self.done..).unwrap_or_default();
        self.out.extend_from_slice(rest);
        Cow::Owned(self.out)
    }
}

fn mask_head(text: &[u8]) -> Cow<'_, [u8]> {
    let mut masked = Masked::new(text);
    let mut secret = None;
    let mut start = 0;
    while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
        let next = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, _) = rest.split_at(next);
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if start == 0 {
            mask_start_line(line, &mut masked);
        } else {
            secret = mask_field(line, start, secret, &mut masked);
        }
        start += next;
    }
    masked.finish()
}

/// Masks one field line; answers its name if it was secret. `before` is that answer for the line
/// before: a folded line (RFC 9112 section 5.2) goes on with its value.
fn mask_field(
    line: &[u8],
    start: usize,
    before: Option<&'static str>,
    masked: &mut Masked<'_>,
) -> Option<&'static str> {
    if let (Some(b' ' | b'\t'), Some(name)) = (line.first(), before) {
        mask_trimmed(line, start, name, masked);
        return before;
    }
    // The name of a pseudo-header field begins with a colon (RFC 9113 section 8.3).
    let pseudo = usize::from(line.starts_with(b":"));
    let colon = pseudo + memchr(b':', line.get(pseudo..)?)?;
    let (name, value) = line.split_at_checked(colon + 1)?;
    let name = name.strip_suffix(b":").unwrap_or(name).trim_ascii();
    if let Some(secret) = known(&SECRET_FIELDS, name) {
        mask_trimmed(value, start + colon + 1, secret, masked);
        return Some(secret);
    }
    if known(&URL_FIELDS, name).is_some() {
        mask_url(value, start + colon + 1, masked);
    } else if name.eq_ignore_ascii_case(PROTOCOL_FIELD.as_bytes()) {
        mask_protocols(value, start + colon + 1, masked);
    }
    None
}

/// Masks the credentials among the subprotocols of a list.
fn mask_protocols(list: &[u8], start: usize, masked: &mut Masked<'_>) {
    let mut at = start;
    let mut is_next = false;
    for piece in list.split_inclusive(|byte| *byte == b',') {
        let protocol = piece.strip_suffix(b",").unwrap_or(piece);
        let blank = protocol.len() - protocol.trim_ascii_start().len();
        let protocol = protocol.trim_ascii();
        let has = |prefix: &&&str| {
            let beginning = protocol.get(..prefix.len());
            beginning.is_some_and(|found| found.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        let prefix = SECRET_PROTOCOLS.iter().find(has);
        let open = match (is_next, prefix) {
            (true, _) => 0,
            (false, Some(prefix)) => prefix.len(),
            (false, None) => protocol.len(),
        };
        if open < protocol.len() {
            let secret = at + blank;
            masked.replace(secret + open, secret + protocol.len(), PROTOCOL_FIELD);
        }
        is_next = known(&PROTOCOLS_BEFORE_SECRETS, protocol).is_some();
        at += piece.len();
    }
}

/// Masks a value without the white space around it.
fn mask_trimmed(value: &[u8], start: usize, name: &str, masked: &mut Masked<'_>) {
    let trimmed = value.trim_ascii();
    if trimmed.is_empty() {
        return;
    }
    let start = start + (value.len() - value.trim_ascii_start().len());
    masked.replace(start, start + trimmed.len(), name);
}

/// Masks the target of a request line; a status line has none.
fn mask_start_line(line: &[u8], masked: &mut Masked<'_>) {
    if line.starts_with(b"HTTP/") {
        return;
    }
    let Some(first) = memchr(b' ', line) else {
        return;
    };
    let last = memchr::memrchr(b' ', line).filter(|last| *last > first);
    let last = last.unwrap_or(line.len());
    if let Some(target) = line.get(first + 1..last) {
        mask_url(target, first + 1, masked);
    }
}

/// Masks a URL that stands at `start` of the text.
fn mask_url(url: &[u8], start: usize, masked: &mut Masked<'_>) {
    let parameters = url
        .iter()
        .position(|byte| matches!(byte, b'?' | b'#'))
        .unwrap_or(url.len());
    let (place, query) = url.split_at(parameters);
    mask_user(place, start, masked);
    let mut at = start + parameters;
    for piece in query.split_inclusive(|byte| *byte == b'&') {
        let value = piece.strip_suffix(b"&").unwrap_or(piece);
        mask_parameter(value, at, masked);
        at += piece.len();
    }
}

/// Masks the user information of an authority: of `scheme://user:password@host`, and of
/// `user:password@host:port` as in a CONNECT request.
fn mask_user(place: &[u8], start: usize, masked: &mut Masked<'_>) {
    if memchr(b'@', place).is_none() {
        return;
    }
    let authority = match memchr::memmem::find(place, b"//") {
        Some(at) => at + 2,
        None if place.trim_ascii_start().starts_with(b"/") => return,
        None => place.len() - place.trim_ascii_start().len(),
    };
    let rest = place.get(authority..).unwrap_or_default();
    let end = memchr(b'/', rest).unwrap_or(rest.len());
    let host = rest.get(..end).unwrap_or_default();
    if let Some(at) = memchr::memrchr(b'@', host).filter(|at| *at > 0) {
        masked.replace(start + authority, start + authority + at, "userinfo");
    }
}

/// A request target without the query parameters that [`Redaction::Basic`] masks.
#[must_use]
pub fn without_secret_parameters(target: &str) -> Cow<'_, str> {
    let Some((path, query)) = target.split_once('?') else {
        return Cow::Borrowed(target);
    };
    let kept = |piece| {
        let kept = match secret_part(str::as_bytes(piece)) {
            Some(part) => piece.get(..part.start)?.trim_end_matches([';', '?', '#']),
            None => piece,
        };
        (!kept.is_empty() || piece.is_empty()).then_some(kept)
    };
    let pieces: Vec<&str> = query.split('&').filter_map(kept).collect();
    let left = pieces.join("&");
    if left == query {
        return Cow::Borrowed(target);
    }
    Cow::Owned(match pieces.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{left}"),
    })
}

/// A parameter whose value is a credential.
struct SecretPart {
    name: &'static str,
    /// Where its name begins.
    start: usize,
    /// Where its value begins.
    value: usize,
}

/// The first parameter in what stands between two `&` whose value is a credential; the value reaches
/// to the end of it. A `;`, `?` or `#` may separate parameters too, or be a part of a value.
fn secret_part(piece: &[u8]) -> Option<SecretPart> {
    let mut start = 0;
    for part in piece.split_inclusive(|byte| matches!(byte, b';' | b'?' | b'#')) {
        let equals = memchr(b'=', part);
        let name = equals.and_then(|equals| part.get(..equals));
        if let (Some(name), Some(equals)) = (name.and_then(secret_parameter), equals) {
            let value = start + equals + 1;
            return Some(SecretPart { name, start, value });
        }
        start += part.len();
    }
    None
}

/// Masks what stands between two `&` from the first secret name on: where it is unclear what is part
/// of a value, more is masked rather than less.
fn mask_parameter(piece: &[u8], start: usize, masked: &mut Masked<'_>) {
    if let Some(part) = secret_part(piece)
        && part.value < piece.len()
    {
        masked.replace(start + part.value, start + piece.len(), part.name);
    }
}

/// The known name that a percent-encoded parameter name means.
fn secret_parameter(name: &[u8]) -> Option<&'static str> {
    if memchr(b'%', name).is_none() {
        return known(&SECRET_PARAMETERS, name);
    }
    if name.len() > PARAMETER_NAME_BYTES_MAX {
        return None;
    }
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(byte.unwrap_or(*first));
        let used = if byte.is_some() { 2 } else { 0 };
        rest = after.get(used..).unwrap_or_default();
    }
    known(&SECRET_PARAMETERS, &decoded)
}

fn known<const N: usize>(names: &'static [&'static str; N], name: &[u8]) -> Option<&'static str> {
    names
        .iter()
        .find(|known| known.as_bytes().eq_ignore_ascii_case(name))
        .copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_head(text: &str, expected: &str) {
        let masked = Redaction::Basic.mask_head(text.as_bytes());
        assert_eq!(String::from_utf8_lossy(&masked), expected);
        assert_eq!(Redaction::None.mask_head(text.as_bytes()), text.as_bytes());
    }

    fn check_url(text: &str, expected: &str) {
        let masked = Redaction::Basic.mask_url(text.as_bytes());
        assert_eq!(String::from_utf8_lossy(&masked), expected, "for {text}");
    }

    #[test]
    fn masks_fields_and_keeps_the_rest() {
        check_head(
            "POST /v1?key=abc&a=1 HTTP/1.1\r\nHost: x\r\nAUTHORIZATION:  Bearer sk-1 \r\nX-Odd : v\r\ncookie:a=b\r\n\r\n",
            "POST /v1?key=[redacted:key:3]&a=1 HTTP/1.1\r\nHost: x\r\nAUTHORIZATION:  [redacted:authorization:11] \r\nX-Odd : v\r\ncookie:[redacted:cookie:3]\r\n\r\n",
        );
        check_head(
            "HTTP/2 302 \r\nset-cookie: a=b\r\nlocation: https://u:p@h/#access_token=x\r\n\r\n",
            "HTTP/2 302 \r\nset-cookie: [redacted:set-cookie:3]\r\nlocation: https://[redacted:userinfo:3]@h/#access_token=[redacted:access_token:1]\r\n\r\n",
        );
    }

    #[test]
    fn masks_folded_lines_and_bare_line_feeds() {
        check_head(
            "GET / HTTP/1.1\nApi-Key: one\n two\nHost: x\n\n",
            "GET / HTTP/1.1\nApi-Key: [redacted:api-key:3]\n [redacted:api-key:3]\nHost: x\n\n",
        );
    }

    #[test]
    fn masks_pseudo_header_fields() {
        check_head(
            "GET / HTTP/2\r\n:authority: u:p@h\r\n:path: /?key=1\r\n\r\n",
            "GET / HTTP/2\r\n:authority: [redacted:userinfo:3]@h\r\n:path: /?key=[redacted:key:1]\r\n\r\n",
        );
    }

    #[test]
    fn masks_credentials_among_subprotocols() {
        check_head(
            "GET / HTTP/1.1\r\nSec-WebSocket-Protocol: realtime, OpenAI-insecure-api-key.sk-1 ,openai-beta.realtime-v1\r\n\r\n",
            "GET / HTTP/1.1\r\nSec-WebSocket-Protocol: realtime, OpenAI-insecure-api-key.[redacted:sec-websocket-protocol:4] ,openai-beta.realtime-v1\r\n\r\n",
        );
        check_head(
            "GET / HTTP/1.1\r\nsec-websocket-protocol:token, abc\r\nsec-websocket-protocol: chat, token\r\n\r\n",
            "GET / HTTP/1.1\r\nsec-websocket-protocol:token, [redacted:sec-websocket-protocol:3]\r\nsec-websocket-protocol: chat, token\r\n\r\n",
        );
    }

    #[test]
    fn an_empty_value_is_left() {
        check_head(
            "GET /?key= HTTP/1.1\r\nCookie: \r\n\r\n",
            "GET /?key= HTTP/1.1\r\nCookie: \r\n\r\n",
        );
    }

    #[test]
    fn masks_urls() {
        check_url("/a?b=1", "/a?b=1");
        check_url("/a?b=1&TOKEN=x;y&c", "/a?b=1&TOKEN=[redacted:token:3]&c");
        check_url("/a?b;key=x#y", "/a?b;key=[redacted:key:3]");
        check_url("/a?%6bEy=x", "/a?%6bEy=[redacted:key:1]");
        check_url("/a?monkey=x&tokens=3", "/a?monkey=x&tokens=3");
        check_url("/path@at?x", "/path@at?x");
        check_url(
            "http://me:pw@host:1/p@q",
            "http://[redacted:userinfo:5]@host:1/p@q",
        );
        check_url("me:p@w@host:443", "[redacted:userinfo:6]@host:443");
    }

    #[test]
    fn secret_parameters_are_left_out() {
        for (target, left) in [
            ("/a", "/a"),
            ("/a?", "/a?"),
            ("/a?b=1&&c", "/a?b=1&&c"),
            ("/a?key=x", "/a"),
            ("/a?key=", "/a"),
            ("/a?key", "/a?key"),
            ("/a?alt=sse&key=x&b=%20", "/a?alt=sse&b=%20"),
            ("/a?%6bEy=x&b=1&API_KEY=y&token=z&access_token=w", "/a?b=1"),
            ("/a?b;key=x;c&d", "/a?b&d"),
            ("/a?b=1?key=x", "/a?b=1"),
            ("/a?monkey=x&pageToken=1", "/a?monkey=x&pageToken=1"),
        ] {
            assert_eq!(without_secret_parameters(target), left, "{target}");
        }
    }

    proptest! {
        /// What is left out is all that would be masked.
        #[test]
        fn nothing_is_left_to_be_masked(query in "[a-z=&?;#%]{0,12}", key in "(key|token|api_key|%6bey)", after in "[a-z=&?;#]{0,12}") {
            let target = format!("/a?{query}&{key}={after}");
            let left = without_secret_parameters(&target);
            let masked = Redaction::Basic.mask_url(left.as_bytes());
            prop_assert_eq!(String::from_utf8_lossy(&masked), &*left);
        }

        /// A secret in any of the places that are named never comes out.
        #[test]
        fn secrets_never_come_out(
            secret in "SECRET[A-Za-z0-9+/=._~;?-]{1,40}",
            field in prop::sample::select(SECRET_FIELDS.to_vec()),
            parameter in prop::sample::select(SECRET_PARAMETERS.to_vec()),
            upper in any::<bool>(),
            space in "[ \t]{0,3}",
            noise in "[a-z=&?]{0,12}",
        ) {
            let field = if upper { field.to_ascii_uppercase() } else { field.to_owned() };
            let user = secret.replace(['/', '?'], "");
            let head = format!(
                "GET http://u:{user}@h/p?{noise}&{parameter}={secret}&z HTTP/1.1\r\nA: b\r\n{field}:{space}{secret}{space}\r\nReferer: https://h/?{parameter}={secret}\r\nZ: y\r\n\r\n"
            );
            let masked = Redaction::Basic.mask_head(head.as_bytes());
            let masked = String::from_utf8_lossy(&masked);
            prop_assert!(!masked.contains("SECRET"), "{}", masked);
            prop_assert!(masked.ends_with("\r\nZ: y\r\n\r\n"));
            prop_assert!(masked.contains("&z HTTP/1.1\r\nA: b\r\n"));
        }

        /// Any bytes at all: no panic, and what has no secret is not touched.
        #[test]
        fn takes_any_bytes(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _masked = Redaction::Basic.mask_head(&text);
            let _masked = Redaction::Basic.mask_url(&text);
        }

        #[test]
        fn plain_heads_stay(lines in prop::collection::vec("[b-z]{1,8}: [a-z ]{0,20}", 0..8)) {
            let head = format!("GET /plain HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
            prop_assume!(!head.contains("key") && !head.contains("cookie"));
            let masked = Redaction::Basic.mask_head(head.as_bytes());
            prop_assert!(matches!(masked, Cow::Borrowed(_)));
        }
    }
}
