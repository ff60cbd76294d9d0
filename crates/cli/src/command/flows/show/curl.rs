//! A flow as a curl command for a POSIX shell, which sends the bytes that were captured. What was
//! captured is hostile: it is never read as the name of a file, and what a terminal would obey is
//! spelled out for `printf`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use store::FlowKind;

use super::again::{Again, Payload, Piece, is_plain};

/// The command, in lines.
pub(crate) fn command(again: &Again<'_>) -> String {
    if let (FlowKind::Tunnel, Some(refusal)) = (again.kind, again.refusal()) {
        return format!("# {refusal}\n");
    }
    let mut text = before(again);
    text.push_str("curl ");
    push_url(&mut text, &again.url);
    let default_method = if again.payload.is_some() {
        "POST"
    } else {
        "GET"
    };
    match again.method {
        "HEAD" if again.payload.is_none() => push(&mut text, "--head"),
        method if method != default_method => push(&mut text, &format!("-X {}", quoted(method))),
        _ => {}
    }
    if again.takes_codings {
        push(&mut text, "--compressed");
    }
    for (name, value) in &again.fields {
        push(&mut text, &format!("-H {}", field(name, value)));
    }
    if let Some(payload) = &again.payload {
        // curl would say that a form comes.
        if !again.has_field("content-type") {
            push(&mut text, "-H 'content-type:'");
        }
        if !again.coding().is_empty() {
            let coding = format!("content-encoding: {}", again.coding());
            push(&mut text, &format!("-H {}", quoted(&coding)));
        }
        push(
            &mut text,
            &match payload {
                Payload::Text(inline) => format!("--data-raw {}", quoted(inline)),
                Payload::Bytes(_) => "--data-binary @-".to_owned(),
                Payload::File => format!("--data-binary @{}", again.file()),
            },
        );
    }
    text.push('\n');
    if again.is_cut {
        text.push_str("# not all of the body was kept\n");
    }
    text
}

/// What runs before curl.
fn before(again: &Again<'_>) -> String {
    match &again.payload {
        Some(Payload::Bytes(bytes)) => {
            format!("printf %s '{}' | base64 -d | ", BASE64.encode(bytes))
        }
        Some(Payload::File) => format!("{} &&\n", again.file_command()),
        Some(Payload::Text(_)) | None => String::new(),
    }
}

/// The URL, and what keeps curl from reading more into it than there is.
fn push_url(text: &mut String, url: &[Piece]) {
    let is_in = |part: &str| {
        let mut pieces = url.iter();
        pieces.any(|piece| matches!(piece, Piece::Text(text) if text.contains(part)))
    };
    if !matches!(url.first(), Some(Piece::Text(text)) if text.starts_with("http")) {
        text.push_str("--url ");
    }
    text.push_str(&words(url));
    if ["[", "]", "{", "}"].into_iter().any(is_in) {
        push(text, "--globoff");
    }
    if is_in("/.") {
        push(text, "--path-as-is");
    }
}

fn push(text: &mut String, word: &str) {
    let _infallible = write!(text, " \\\n  {word}");
}

/// A field in quotes.
fn field(name: &str, value: &[Piece]) -> String {
    match value {
        // curl leaves a field out that has a colon and nothing behind it.
        [Piece::Text(value)] if value.is_empty() => quoted(&format!("{name};")),
        [Piece::Text(first), rest @ ..] => {
            let first = Piece::Text(format!("{name}: {first}"));
            words(&[&[first], rest].concat())
        }
        _ => words(value),
    }
}

/// Texts in quotes and variables, as one word of the shell.
fn words(pieces: &[Piece]) -> String {
    let words = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => quoted(text),
        Piece::Variable(name) => format!("\"${name}\""),
    });
    words.collect()
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

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn variables_stand_between_quotes() {
        let key = Piece::Variable("ANTHROPIC_API_KEY".to_owned());
        let check = |name: &str, value: &[Piece], expected: &str| {
            assert_eq!(field(name, value), expected);
        };
        check(
            "x-api-key",
            &[text(""), key.clone()],
            "'x-api-key: '\"$ANTHROPIC_API_KEY\"",
        );
        check("x-empty", &[text("")], "'x-empty;'");
        check("X-It", &[text("it's $HOME")], r"'X-It: it'\''s $HOME'");
        assert_eq!(
            words(&[text("http://a/?k="), key, text("&x=[1]")]),
            "'http://a/?k='\"$ANTHROPIC_API_KEY\"'&x=[1]'"
        );
    }

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        assert_eq!(quoted("it's\n\tplain"), "'it'\\''s\n\tplain'");
        assert_eq!(
            quoted("50% \\ it's \u{9b}"),
            r#""$(printf '50%% \\ it'\''s \302\233')""#
        );
    }
}
