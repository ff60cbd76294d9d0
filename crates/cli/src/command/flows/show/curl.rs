//! A flow as a curl command. Credentials that were masked become variables of the shell.

use std::fmt::Write as _;

use store::{Body, FlowDetail, FlowKind};
use traffic::wire::encoding::decode;

use crate::escape::escape_line;
use crate::limits::DECODED_BYTES_MAX;

/// A body up to this size stands in the command itself.
const INLINE_BYTES_MAX: usize = 4096;

/// Fields that curl makes itself, or that belong to one hop only.
const LEFT_OUT: [&str; 10] = [
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
    let mut text = format!("curl {}", quoted(&row.url));
    let default_method = if body.is_some() { "POST" } else { "GET" };
    match row.method.as_str() {
        "HEAD" => push(&mut text, "--head"),
        method if method != default_method => push(&mut text, &format!("-X {}", quoted(method))),
        _ => {}
    }
    for (name, value) in &detail.request.fields {
        let lower = name.to_ascii_lowercase();
        if lower == "accept-encoding" {
            push(&mut text, "--compressed");
        }
        let is_pseudo = name.starts_with(':');
        if !is_pseudo && !LEFT_OUT.contains(&lower.as_str()) {
            push(&mut text, &format!("-H {}", field(name, value, &row.host)));
        }
    }
    if let Some(body) = body {
        push_body(&mut text, body, &row.id.to_string());
    }
    text.push('\n');
    text
}

fn push(text: &mut String, word: &str) {
    let _infallible = write!(text, " \\\n  {word}");
}

/// A field in quotes; a masked value becomes a variable.
fn field(name: &str, value: &str, host: &str) -> String {
    let Some(start) = value.find("[redacted:") else {
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

fn push_body(text: &mut String, body: &Body, id: &str) {
    let encoding = body.content_encoding.as_deref().unwrap_or_default();
    let decoded = decode(encoding, &body.bytes, DECODED_BYTES_MAX);
    let inline = std::str::from_utf8(&decoded.bytes)
        .ok()
        .filter(|inline| inline.len() <= INLINE_BYTES_MAX && !body.truncated && decoded.complete)
        .filter(|inline| is_plain(inline));
    match inline {
        Some(inline) => push(text, &format!("--data-binary {}", quoted(inline))),
        None => {
            push(text, "--data-binary @body.bin");
            if !encoding.is_empty() {
                push(
                    text,
                    &format!("-H {}", quoted(&format!("content-encoding: {encoding}"))),
                );
            }
            let cut = if body.truncated {
                " (not kept whole)"
            } else {
                ""
            };
            let _infallible = write!(
                text,
                "\n# the body{cut}:  oriel flows show {id} --part request --raw > body.bin"
            );
        }
    }
}

/// Whether a text may stand in a command as it is.
fn is_plain(text: &str) -> bool {
    crate::escape::escape_text(text) == text
}

/// In single quotes. What a terminal would obey is escaped: such a command is to be read, not run.
fn quoted(text: &str) -> String {
    format!("'{}'", escape_line(text).replace('\'', r"'\''"))
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
}
