//! A flow as a curl command for a POSIX shell, which sends the bytes that were captured. Credentials
//! that were masked become variables of the shell. What was captured is hostile: it is never read as
//! the name of a file, and what a terminal would obey is spelled out for `printf`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use store::{Body, FlowDetail, FlowKind};
use traffic::wire::encoding::decode;

use crate::escape::escape_text;
use crate::limits::DECODED_BYTES_MAX;

/// A body up to this size stands in the command itself.
const INLINE_BYTES_MAX: usize = 4096;

/// How the mask of a credential begins; its name and its length follow, and a bracket.
const MASK: &str = "[redacted:";

/// Fields that curl makes itself, or that belong to one hop only.
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

/// The command, in lines.
pub(crate) fn command(detail: &FlowDetail, body: Option<&Body>) -> String {
    let row = &detail.row;
    if row.kind == FlowKind::Tunnel {
        return format!(
            "# {} is a tunnel: what passed through it is not known\n",
            row.id
        );
    }
    let payload = body.map(|body| Payload::of(body, &row.id.to_string()));
    let mut text = payload.as_ref().map(Payload::before).unwrap_or_default();
    text.push_str("curl ");
    push_url(&mut text, &row.url, &row.host);
    let default_method = if body.is_some() { "POST" } else { "GET" };
    match row.method.as_str() {
        "HEAD" if body.is_none() => push(&mut text, "--head"),
        method if method != default_method => push(&mut text, &format!("-X {}", quoted(method))),
        _ => {}
    }
    push_fields(&mut text, &detail.request.fields, &row.host);
    if let Some(payload) = &payload {
        // curl would say that a form comes.
        if !has_field(&detail.request.fields, "content-type") {
            push(&mut text, "-H 'content-type:'");
        }
        payload.push(&mut text);
    }
    text.push('\n');
    let cut = match body {
        Some(body) => body.truncated,
        None => row.request_bytes.is_some_and(|seen| seen > 0),
    };
    if cut {
        text.push_str("# not all of the body was kept\n");
    }
    text
}

/// The URL, and what keeps curl from reading more into it than there is.
fn push_url(text: &mut String, url: &str, host: &str) {
    if !url.starts_with("http") {
        text.push_str("--url ");
    }
    text.push_str(&with_variables(url, host));
    if url.contains(['[', ']', '{', '}']) {
        push(text, "--globoff");
    }
    if url.contains("/.") {
        push(text, "--path-as-is");
    }
}

fn push_fields(text: &mut String, fields: &[(String, String)], host: &str) {
    for (name, value) in fields {
        let lower = name.to_ascii_lowercase();
        if lower == "accept-encoding" {
            push(text, "--compressed");
        }
        // What is no token could not have been sent, and `@` would name a file.
        let is_token = !name.is_empty() && name.bytes().all(is_token_byte);
        if is_token && !LEFT_OUT.contains(&lower.as_str()) {
            push(text, &format!("-H {}", field(name, value, host)));
        }
    }
}

/// A byte of a field's name (RFC 9110, 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn has_field(fields: &[(String, String)], name: &str) -> bool {
    fields
        .iter()
        .any(|(known, _)| known.eq_ignore_ascii_case(name))
}

fn push(text: &mut String, word: &str) {
    let _infallible = write!(text, " \\\n  {word}");
}

/// A field in quotes; a masked value becomes a variable.
fn field(name: &str, value: &str, host: &str) -> String {
    if value.is_empty() {
        // curl leaves a field out that has a colon and nothing behind it.
        return quoted(&format!("{name};"));
    }
    let Some(start) = value.find(MASK) else {
        return quoted(&format!("{name}: {value}"));
    };
    let before = value.get(..start).unwrap_or_default();
    let scheme = match (before, name.to_ascii_lowercase().as_str()) {
        ("", "authorization") => "Bearer ",
        (before, _) => before,
    };
    let text = format!("{name}: {scheme}");
    format!("{}\"${}\"", quoted(&text), variable(name, host))
}

/// A text in quotes with a variable in the place of each mask.
fn with_variables(text: &str, host: &str) -> String {
    let mut words = String::new();
    let mut rest = text;
    while let Some((before, mask)) = rest.split_once(MASK) {
        let Some((mask, after)) = mask.split_once(']') else {
            break;
        };
        let name = mask.split(':').next().unwrap_or_default();
        let _infallible = write!(words, "{}\"${}\"", quoted(before), variable(name, host));
        rest = after;
    }
    if !rest.is_empty() || words.is_empty() {
        words.push_str(&quoted(rest));
    }
    words
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

/// How a body gets into the command.
enum Payload {
    /// Text that stands in it as it is.
    Text(String),
    /// Bytes that a shell cannot hold, in base64, with the coding they are in.
    Bytes { base64: String, coding: String },
    /// A large one, from a file that the record is asked for first.
    File { id: String, coding: String },
}

impl Payload {
    fn of(body: &Body, id: &str) -> Self {
        let coding = body.content_encoding.clone().unwrap_or_default();
        let decoded = decode(&coding, &body.bytes, DECODED_BYTES_MAX);
        let is_whole = !body.truncated && decoded.complete;
        let is_small = |bytes: &[u8]| bytes.len() <= INLINE_BYTES_MAX;
        match std::str::from_utf8(&decoded.bytes) {
            Ok(inline) if is_whole && is_small(inline.as_bytes()) && is_plain(inline) => {
                Self::Text(inline.to_owned())
            }
            _ if is_small(&body.bytes) => Self::Bytes {
                base64: BASE64.encode(&body.bytes),
                coding,
            },
            _ => Self::File {
                id: id.to_owned(),
                coding,
            },
        }
    }

    /// What runs before curl.
    fn before(&self) -> String {
        match self {
            Self::Text(_) => String::new(),
            Self::Bytes { base64, .. } => format!("printf %s '{base64}' | base64 -d | "),
            Self::File { id, .. } => {
                format!("oriel flows show {id} --part request --raw > {id}.body &&\n")
            }
        }
    }

    fn push(&self, text: &mut String) {
        let (data, coding) = match self {
            Self::Text(inline) => (format!("--data-raw {}", quoted(inline)), ""),
            Self::Bytes { coding, .. } => ("--data-binary @-".to_owned(), coding.as_str()),
            Self::File { id, coding } => (format!("--data-binary @{id}.body"), coding.as_str()),
        };
        if !coding.is_empty() {
            let coding = format!("content-encoding: {coding}");
            push(text, &format!("-H {}", quoted(&coding)));
        }
        push(text, &data);
    }
}

/// Whether a text may stand in a command as it is.
fn is_plain(text: &str) -> bool {
    escape_text(text) == text
}

/// A text as a word of the shell. What a terminal would obey is made by `printf` when the command
/// runs.
fn quoted(text: &str) -> String {
    if is_plain(text) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut format = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b'\'' => format.push_str(r"'\''"),
            b'%' => format.push_str("%%"),
            b'\\' => format.push_str(r"\\"),
            b' '..=b'~' => format.push(char::from(byte)),
            _ => {
                let _infallible = write!(format, "\\{byte:03o}");
            }
        }
    }
    format!("\"$(printf '{format}')\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_credentials_become_variables() {
        let check = |name: &str, value: &str, host: &str, expected: &str| {
            assert_eq!(field(name, value, host), expected);
        };
        check(
            "x-api-key",
            "[redacted:x-api-key:51]",
            "api.anthropic.com",
            "'x-api-key: '\"$ANTHROPIC_API_KEY\"",
        );
        check(
            "Authorization",
            "[redacted:authorization:51]",
            "api.openai.com",
            "'Authorization: Bearer '\"$OPENAI_API_KEY\"",
        );
        check(
            "Cookie",
            "[redacted:cookie:9]",
            "api.openai.com",
            "'Cookie: '\"$COOKIE\"",
        );
        check("X-It", "it's $HOME", "a.test", r"'X-It: it'\''s $HOME'");
    }

    #[test]
    fn masks_in_a_url_become_variables() {
        let check = |url: &str, host: &str, expected: &str| {
            assert_eq!(with_variables(url, host), expected);
        };
        check("http://a.test/", "a.test", "'http://a.test/'");
        check(
            "https://a.test/?token=[redacted:token:9]&x=[1]&access_token=[redacted:access_token:2]",
            "a.test",
            "'https://a.test/?token='\"$TOKEN\"'&x=[1]&access_token='\"$ACCESS_TOKEN\"",
        );
        check(
            "https://g.googleapis.com/v1?key=[redacted:key:39]",
            "g.googleapis.com",
            "'https://g.googleapis.com/v1?key='\"$GEMINI_API_KEY\"",
        );
        check("http://a/[redacted:", "a", "'http://a/[redacted:'");
    }

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        assert_eq!(quoted("it's\n\tplain"), "'it'\\''s\n\tplain'");
        assert_eq!(
            quoted("50% \\ it's \u{9b}"),
            r#""$(printf '50%% \\ it'\''s \302\233')""#
        );
    }

    #[test]
    fn a_field_is_no_file_and_is_not_left_out() {
        let mut text = String::new();
        let fields = [
            ("@/etc/passwd".to_owned(), "x".to_owned()),
            ("x-empty".to_owned(), String::new()),
        ];
        push_fields(&mut text, &fields, "a.test");
        assert_eq!(text, " \\\n  -H 'x-empty;'");
    }
}
