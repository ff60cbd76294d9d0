//! The arguments of a command as they are stored: people give credentials to curl there.

use std::ffi::OsString;

use traffic::rules::redact::Redaction;

/// The arguments as texts, with credentials masked that stand in them as a header field or a URL.
pub(crate) fn stored(arguments: &[OsString], redaction: Redaction) -> Vec<String> {
    arguments
        .iter()
        .map(|argument| mask(&argument.to_string_lossy(), redaction))
        .collect()
}

fn mask(argument: &str, redaction: Redaction) -> String {
    if argument.contains("://") {
        return text(&redaction.mask_url(argument.as_bytes()));
    }
    if argument.contains(':') && !argument.contains(['\r', '\n']) {
        let head = format!("\r\n{argument}\r\n\r\n");
        let masked = text(&redaction.mask_head(head.as_bytes()));
        return masked.trim_matches(['\r', '\n']).to_owned();
    }
    argument.to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_arguments_are_masked() {
        let arguments: Vec<OsString> = [
            "curl",
            "-H",
            "Authorization: Bearer sk-secret",
            "https://api.test/v1?key=secret&q=1",
            "X-Plain: yes",
        ]
        .iter()
        .map(Into::into)
        .collect();
        let stored = stored(&arguments, Redaction::Basic).join(" ");
        assert!(!stored.contains("secret"), "{stored}");
        assert!(stored.contains("X-Plain: yes"), "{stored}");
        let whole = super::stored(&arguments, Redaction::None);
        assert!(whole[2].contains("sk-secret"));
    }
}
