//! A flow as a request in a `.http` file, which the HTTP clients of VS Code and of JetBrains read. What
//! stands there cannot be escaped: a body that they would read something into comes from a file, and so
//! does one that they would send otherwise.

use std::fmt::Write as _;

use super::again::{Again, Payload, Piece, is_plain};
use crate::escape::escape_line;

/// What begins the name of a variable.
const VARIABLE: &str = "{{";

/// What begins a line that is no line of a body: a comment, a file, a script, the next request.
const MEANINGFUL: [char; 5] = ['#', '<', '>', '/', '@'];

/// The request.
pub(super) fn request(again: &Again<'_>) -> String {
    if let Some(refusal) = again.refusal() {
        return format!("# {refusal}\n");
    }
    let inline = match &again.payload {
        Some(Payload::Text(inline)) if is_sent_as_it_is(inline) => Some(inline),
        _ => None,
    };
    let mut text = format!("### {}\n", again.id);
    if again.payload.is_some() && inline.is_none() {
        let _infallible = writeln!(text, "# before: {}", again.file_command());
    }
    let mut lines = String::new();
    for (name, value) in &again.fields {
        match value_text(value) {
            Some(value) => {
                let _infallible = writeln!(lines, "{name}: {value}");
            }
            None => {
                let _infallible = writeln!(
                    text,
                    "# left out, for its value cannot be written here: {name}"
                );
            }
        }
    }
    if again.is_cut {
        text.push_str("# not all of the body was kept\n");
    }
    let _infallible = writeln!(text, "{} {} HTTP/1.1", again.method, url_text(&again.url));
    text.push_str(&lines);
    match (inline, &again.payload) {
        (Some(inline), _) => {
            let _infallible = writeln!(text, "\n{inline}");
        }
        (None, Some(_)) => {
            if !again.stored_coding.is_empty() {
                let _infallible = writeln!(text, "content-encoding: {}", again.stored_coding);
            }
            let _infallible = writeln!(text, "\n< ./{}", again.file());
        }
        (None, None) => {}
    }
    text
}

fn is_sent_as_it_is(body: &str) -> bool {
    !body.is_empty()
        && body.trim() == body
        && !body.contains('\r')
        && !body.contains(VARIABLE)
        && !body.lines().any(|line| line.starts_with(MEANINGFUL))
}

/// The value of a field; `None` if it would be read as something else, or a terminal would obey it.
fn value_text(value: &[Piece]) -> Option<String> {
    let texts = value.iter().map(|piece| match piece {
        Piece::Text(text) if text.contains(VARIABLE) || escape_line(text) != *text => None,
        Piece::Text(text) => Some(text.clone()),
        Piece::Variable(name) => Some(format!("{{{{{name}}}}}")),
    });
    texts.collect()
}

/// The URL, with percent-encoding in the place of what cannot be written.
fn url_text(url: &[Piece]) -> String {
    let mut written = String::new();
    for piece in url {
        match piece {
            Piece::Variable(name) => {
                let _infallible = write!(written, "{{{{{name}}}}}");
            }
            Piece::Text(text) => {
                for letter in text.chars() {
                    let mut bytes = [0; 4];
                    let letter = &*letter.encode_utf8(&mut bytes);
                    if is_plain(letter) && !matches!(letter, "{" | "}" | " " | "\t" | "\n") {
                        written.push_str(letter);
                        continue;
                    }
                    for byte in letter.bytes() {
                        let _infallible = write!(written, "%{byte:02X}");
                    }
                }
            }
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_read_as_something_else_is_not_written() {
        for body in [
            "",
            " a",
            "a\n",
            "a\r\nb",
            "{{$processEnv HOME}}",
            "a\n### b",
            "< ./secret",
            "a\n> {% client.exit() %}",
            "@a = b",
        ] {
            assert!(!is_sent_as_it_is(body), "{body:?}");
        }
        assert!(is_sent_as_it_is("{\"a\": {\"b\": [1]}}"));
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(value_text(&[text("a {{b}}")]), None);
        assert_eq!(value_text(&[text("a\u{9b}")]), None);
        assert_eq!(value_text(&[text("a\nb: c")]), None);
        let key = Piece::Variable("KEY".to_owned());
        let value = value_text(&[text("Bearer "), key.clone()]);
        assert_eq!(value.as_deref(), Some("Bearer {{KEY}}"));
        let url = url_text(&[text("https://a/{{b}} \u{9b}?k="), key]);
        assert_eq!(url, "https://a/%7B%7Bb%7D%7D%20%C2%9B?k={{KEY}}");
    }
}
