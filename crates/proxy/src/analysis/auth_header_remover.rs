//! Takes credentials out of what analyzers see.

use bytes::Bytes;
use serde_json::{Map, Value};
use traffic::Head;
use traffic::rules::redact::Redaction;

use super::{AnalysisMsg, Analyzer, Next};

/// Fields that carry credentials, in lower case.
const FIELDS: [&str; 12] = [
    "api-key",
    "authorization",
    "bearer",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "token",
    "x-access-token",
    "x-api-key",
    "x-auth-token",
    "x-goog-api-key",
    "x-session-token",
];

/// Takes fields with credentials out of heads, all lines of them, and masks credentials in the
/// query parameters of URLs (`key`, `api_key`, `access_token`, `token` and their like; see
/// [`Redaction`]) and in the user information before their host.
///
/// It does so in messages and in the records of [`HttpParser`](super::HttpParser), so it may stand
/// anywhere in the chain, but what stands before it sees the credentials. A runner has one before
/// all analyzers. Bodies and chunks pass as they are.
#[derive(Clone, Debug)]
pub struct AuthHeaderRemover {
    fields: Vec<String>,
}

impl AuthHeaderRemover {
    /// With the usual fields: `Authorization`, `Proxy-Authorization`, `Cookie`, `Set-Cookie`,
    /// `API-Key`, `X-API-Key`, `X-Goog-API-Key`, `X-Auth-Token`, `X-Access-Token`,
    /// `X-Session-Token`, `Bearer` and `Token`.
    #[must_use]
    pub fn new() -> Self {
        Self {
            fields: FIELDS.map(str::to_owned).to_vec(),
        }
    }

    /// Takes this field out as well.
    #[must_use]
    pub fn field(mut self, name: &str) -> Self {
        self.fields.push(name.to_ascii_lowercase());
        self
    }

    fn is_secret(&self, name: &[u8]) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|field| name.eq_ignore_ascii_case(field.as_bytes()))
    }

    fn clean_head(&self, head: &mut Head) {
        let masked = Redaction::Basic.mask_head(&head.text);
        let mut text = Vec::with_capacity(masked.len());
        let mut removing = false;
        for (index, line) in masked.split_inclusive(|byte| *byte == b'\n').enumerate() {
            // A folded line (RFC 9112 section 5.2) goes on with the field before.
            let folded = line.starts_with(b" ") || line.starts_with(b"\t");
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            removing = index > 0 && (self.is_secret(name.trim_ascii()) || (folded && removing));
            if !removing {
                text.extend_from_slice(line);
            }
        }
        head.text = Bytes::from(text);
    }

    /// Cleans what `HttpParser` made of a head.
    fn clean_record(&self, data: &mut Value) {
        let Some(data) = data.as_object_mut() else {
            return;
        };
        if let Some(Value::Array(headers)) = data.get_mut("headers") {
            headers.retain(|pair| {
                let name = pair.get(0).and_then(Value::as_str).unwrap_or_default();
                !self.is_secret(name.as_bytes())
            });
        }
        for name in ["path", "first_line"] {
            mask_text(data, name);
        }
    }
}

/// Masks a text that is, or holds, a request target.
fn mask_text(data: &mut Map<String, Value>, name: &str) {
    let Some(Value::String(text)) = data.get_mut(name) else {
        return;
    };
    let words = text.split(' ');
    let masked: Vec<String> = words
        .map(|word| {
            let masked = Redaction::Basic.mask_url(word.as_bytes());
            String::from_utf8_lossy(&masked).into_owned()
        })
        .collect();
    *text = masked.join(" ");
}

impl Default for AuthHeaderRemover {
    fn default() -> Self {
        Self::new()
    }
}

impl Analyzer for AuthHeaderRemover {
    fn name(&self) -> &'static str {
        "auth_header_remover"
    }

    fn analyze(&mut self, mut message: AnalysisMsg, next: &mut Next) {
        match &mut message {
            AnalysisMsg::Request(request) => self.clean_head(&mut request.head),
            AnalysisMsg::ResponseDone(done) => {
                if let Some(head) = &mut done.head {
                    self.clean_head(head);
                }
            }
            AnalysisMsg::Record(record) => self.clean_record(&mut record.data),
            AnalysisMsg::StreamChunk(_) => {}
        }
        next.pass(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use traffic::Version;

    #[test]
    fn nothing_of_a_credential_is_left_in_a_head() {
        let mut text =
            "GET https://me:CANARY@h/a?x=1&key=CANARY HTTP/1.1\r\nX-Kept: a\r\n".to_owned();
        for name in FIELDS {
            text.push_str(&format!("{}: CANARY\r\n", name.to_ascii_uppercase()));
            text.push_str(&format!("{name}: b\r\n CANARY\r\n"));
        }
        text.push_str("X-Mine: CANARY\r\nReferer: https://h/?token=CANARY\r\nX-Last: z\r\n\r\n");
        let mut head = Head {
            version: Version::Http11,
            text: text.into(),
        };
        AuthHeaderRemover::new()
            .field("X-Mine")
            .clean_head(&mut head);
        let left = String::from_utf8_lossy(&head.text).into_owned();
        assert!(!left.contains("CANARY"), "{left}");
        assert!(left.contains("X-Kept: a\r\n"), "{left}");
        assert!(left.ends_with("X-Last: z\r\n\r\n"), "{left}");
        assert!(left.contains("/a?x=1&key="), "{left}");
    }

    #[test]
    fn records_of_a_parser_before_it_are_cleaned_too() {
        let mut data = serde_json::json!({
            "first_line": "GET /a?key=CANARY HTTP/1.1",
            "path": "/a?key=CANARY",
            "headers": [["Cookie", "CANARY"], ["A", "b"], ["cookie", {"base64": "CANARY"}]],
        });
        AuthHeaderRemover::new().clean_record(&mut data);
        assert!(!data.to_string().contains("CANARY"), "{data}");
        assert_eq!(data["headers"], serde_json::json!([["A", "b"]]));
    }
}
