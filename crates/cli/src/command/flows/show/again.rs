//! A request as it is to be sent again, by whatever [`ShowAs`](crate::args::ShowAs) names: without the
//! fields that each client makes itself, and with variables in the place of the credentials that were
//! masked.

use store::{Body, FlowDetail, FlowKind};
use traffic::wire::encoding::decode;

use crate::escape::escape_text;
use crate::limits::DECODED_BYTES_MAX;

/// A body up to this size stands in the text itself.
const INLINE_BYTES_MAX: usize = 4096;

/// How the mask of a credential begins; its name and its length follow, and a bracket.
const MASK: &str = "[redacted:";

/// Fields that clients make themselves, or that belong to one hop only.
const LEFT_OUT: [&str; 11] = [
    "host",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "accept-encoding",
    "expect",
];

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// The name of a variable that holds a credential.
    Variable(String),
}

/// A request that is to be sent again.
pub(crate) struct Again<'a> {
    pub(super) id: String,
    pub(super) kind: FlowKind,
    pub(super) method: &'a str,
    pub(super) url: Vec<Piece>,
    /// Only tokens are names here: anything else could not have been sent.
    pub(super) fields: Vec<(&'a str, Vec<Piece>)>,
    /// The client took answers in content codings.
    pub(super) takes_codings: bool,
    pub(super) payload: Option<Payload>,
    /// The content coding that the body is kept in; empty if it is in none.
    pub(super) stored_coding: &'a str,
    /// Not all of the body was kept.
    pub(super) is_cut: bool,
}

/// How a body gets into the text.
pub(super) enum Payload {
    /// Text that stands in it as it is.
    Text(String),
    /// A few bytes that are no text, as they are kept.
    Bytes(Vec<u8>),
    /// A large one, from a file that the record is asked for first.
    File,
}

impl<'a> Again<'a> {
    pub(crate) fn of(detail: &'a FlowDetail, body: Option<&'a Body>) -> Self {
        let row = &detail.row;
        let fields = &detail.request.fields;
        let is_sent = |name: &str| {
            let lower = name.to_ascii_lowercase();
            is_token(name) && !LEFT_OUT.contains(&lower.as_str())
        };
        let sent = fields.iter().filter(|(name, _)| is_sent(name));
        let mut codings = fields.iter();
        Self {
            id: row.id.to_string(),
            kind: row.kind,
            method: &row.method,
            url: pieces(&row.url, &row.host),
            fields: sent
                .map(|(name, value)| (name.as_str(), value_pieces(name, value, &row.host)))
                .collect(),
            takes_codings: codings.any(|(name, _)| name.eq_ignore_ascii_case("accept-encoding")),
            payload: body.map(Payload::of),
            stored_coding: body
                .and_then(|body| body.content_encoding.as_deref())
                .unwrap_or_default(),
            is_cut: match body {
                Some(body) => body.truncated,
                None => row.request_bytes.is_some_and(|seen| seen > 0),
            },
        }
    }

    pub(super) fn has_field(&self, name: &str) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// The content coding that the body is sent in; empty if it is in none.
    pub(super) fn coding(&self) -> &str {
        match &self.payload {
            Some(Payload::Bytes(_) | Payload::File) => self.stored_coding,
            Some(Payload::Text(_)) | None => "",
        }
    }

    /// The fields for clients that take each name once, and that of the coding.
    pub(super) fn fields_once(&self) -> Vec<(&str, Vec<Piece>)> {
        let mut once: Vec<(&str, Vec<Piece>)> = Vec::new();
        for (name, value) in &self.fields {
            let mut known = once.iter_mut();
            match known.find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                Some((_, values)) => {
                    // RFC 9110, 5.3, and for cookies RFC 6265bis, 5.8.3.
                    let is_cookie = name.eq_ignore_ascii_case("cookie");
                    let between = if is_cookie { "; " } else { ", " };
                    values.push(Piece::Text(between.to_owned()));
                    values.extend_from_slice(value);
                }
                None => once.push((name, value.clone())),
            }
        }
        if !self.coding().is_empty() {
            let coding = Piece::Text(self.coding().to_owned());
            once.push(("content-encoding", vec![coding]));
        }
        once
    }

    pub(super) fn has_variables(&self) -> bool {
        let values = self.fields.iter().map(|(_, value)| value);
        let mut pieces = values.chain([&self.url]).flatten();
        pieces.any(Piece::is_variable)
    }

    /// Whether its path has segments that clients resolve (RFC 3986, 5.2.4).
    pub(super) fn has_dots(&self) -> bool {
        let Some(Piece::Text(url)) = self.url.first() else {
            return false;
        };
        let path = url.split(['?', '#']).next().unwrap_or_default();
        path.split('/').any(|segment| matches!(segment, "." | ".."))
    }

    /// Why it cannot be sent again, of what is no request with an answer.
    pub(super) fn refusal(&self) -> Option<String> {
        let id = &self.id;
        match self.kind {
            FlowKind::Http if is_token(self.method) => None,
            FlowKind::Http => Some(format!("{id} has a method that cannot be sent")),
            FlowKind::WebSocket => Some(format!(
                "{id} opened a WebSocket: one request does not say what passed through it"
            )),
            FlowKind::Tunnel => Some(format!(
                "{id} is a tunnel: what passed through it is not known"
            )),
        }
    }

    /// The file that a large body is expected in.
    pub(super) fn file(&self) -> String {
        format!("{}.body", self.id)
    }

    /// The command that writes that file.
    pub(super) fn file_command(&self) -> String {
        let id = &self.id;
        format!("oriel flows show {id} --part request --raw > {id}.body")
    }
}

impl Piece {
    pub(super) fn is_variable(&self) -> bool {
        matches!(self, Self::Variable(_))
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }
}

/// Whether all of a text is ASCII, as far as it is known.
pub(super) fn is_ascii(pieces: &[Piece]) -> bool {
    let mut pieces = pieces.iter();
    pieces.all(|piece| match piece {
        Piece::Text(text) => text.is_ascii(),
        Piece::Variable(_) => true,
    })
}

impl Payload {
    fn of(body: &Body) -> Self {
        let coding = body.content_encoding.as_deref().unwrap_or_default();
        let decoded = decode(coding, &body.bytes, DECODED_BYTES_MAX);
        let is_whole = !body.truncated && decoded.complete;
        let is_small = |bytes: &[u8]| bytes.len() <= INLINE_BYTES_MAX;
        match std::str::from_utf8(&decoded.bytes) {
            Ok(inline) if is_whole && is_small(inline.as_bytes()) && is_plain(inline) => {
                Self::Text(inline.to_owned())
            }
            _ if is_small(&body.bytes) => Self::Bytes(body.bytes.clone()),
            _ => Self::File,
        }
    }
}

/// Whether a text has nothing that a terminal would obey.
pub(super) fn is_plain(text: &str) -> bool {
    escape_text(text) == text
}

/// What the name of a field or a method is (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// A text with a variable in the place of each mask.
fn pieces(text: &str, host: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, mask)) = rest.split_once(MASK) {
        let Some((mask, after)) = mask.split_once(']') else {
            break;
        };
        let name = mask.split(':').next().unwrap_or_default();
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(Piece::Variable(variable(name, host)));
        rest = after;
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    pieces
}

/// The value of a field; what is masked becomes a variable.
fn value_pieces(name: &str, value: &str, host: &str) -> Vec<Piece> {
    let Some(start) = value.find(MASK) else {
        return vec![Piece::Text(value.to_owned())];
    };
    let before = value.get(..start).unwrap_or_default();
    let scheme = match (before, name.to_ascii_lowercase().as_str()) {
        ("", "authorization") => "Bearer ",
        (before, _) => before,
    };
    vec![
        Piece::Text(scheme.to_owned()),
        Piece::Variable(variable(name, host)),
    ]
}

/// The variable that tools keep the credential of a host in.
fn variable(name: &str, host: &str) -> String {
    let vendors = [
        ("anthropic.com", "ANTHROPIC_API_KEY"),
        ("openai.com", "OPENAI_API_KEY"),
        ("googleapis.com", "GEMINI_API_KEY"),
        ("openrouter.ai", "OPENROUTER_API_KEY"),
        ("mistral.ai", "MISTRAL_API_KEY"),
        ("groq.com", "GROQ_API_KEY"),
    ];
    let vendor = vendors.iter().find(|(domain, _)| host.ends_with(domain));
    if let Some((_, variable)) = vendor.filter(|_| !name.to_ascii_lowercase().contains("cookie")) {
        return (*variable).to_owned();
    }
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    name.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn variable(name: &str) -> Piece {
        Piece::Variable(name.to_owned())
    }

    #[test]
    fn masked_credentials_become_variables() {
        let check = |name: &str, value: &str, host: &str, expected: &[Piece]| {
            assert_eq!(value_pieces(name, value, host), expected);
        };
        check(
            "x-api-key",
            "[redacted:x-api-key:51]",
            "api.anthropic.com",
            &[text(""), variable("ANTHROPIC_API_KEY")],
        );
        check(
            "Authorization",
            "[redacted:authorization:51]",
            "api.openai.com",
            &[text("Bearer "), variable("OPENAI_API_KEY")],
        );
        check(
            "Cookie",
            "[redacted:cookie:9]",
            "api.openai.com",
            &[text(""), variable("COOKIE")],
        );
        check("X-It", "it's $HOME", "a.test", &[text("it's $HOME")]);
    }

    #[test]
    fn masks_in_a_url_become_variables() {
        let check = |url: &str, host: &str, expected: &[Piece]| {
            assert_eq!(pieces(url, host), expected);
        };
        check("http://a.test/", "a.test", &[text("http://a.test/")]);
        check("", "a.test", &[text("")]);
        check(
            "https://a.test/?token=[redacted:token:9]&x=[1]&access_token=[redacted:access_token:2]",
            "a.test",
            &[
                text("https://a.test/?token="),
                variable("TOKEN"),
                text("&x=[1]&access_token="),
                variable("ACCESS_TOKEN"),
            ],
        );
        check(
            "https://g.googleapis.com/v1?key=[redacted:key:39]",
            "g.googleapis.com",
            &[
                text("https://g.googleapis.com/v1?key="),
                variable("GEMINI_API_KEY"),
            ],
        );
        check("http://a/[redacted:", "a", &[text("http://a/[redacted:")]);
    }
}
