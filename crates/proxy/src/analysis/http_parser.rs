//! Records of heads and bodies.

use serde_json::{Map, Value, json};
use traffic::Head;

use super::text::{insert_text, text_or_base64};
use super::{AnalysisMsg, Analyzer, Body, Next, Record};

/// Makes a record (`http_parser`) of each request and of each response, and passes on what it got.
///
/// The data of a record:
///
/// | name | what |
/// |---|---|
/// | `message_type` | `request` or `response` |
/// | `first_line` | the request line or the status line |
/// | `method`, `path` | of a request |
/// | `status_code`, `status_text` | of a response |
/// | `protocol` | `HTTP/1.0`, `HTTP/1.1` or `HTTP/2` |
/// | `headers` | pairs of name and value in the order they came, so that repeated ones survive |
/// | `body` or `body_base64` | the body, content codings undone; absent if there is none |
/// | `body_truncated`, `encoding_error` | where there is more than is shown, or it cannot be read |
/// | `body_size` | octets of payload that passed, in their content coding |
/// | `total_size` | `body_size` and the octets of the head |
/// | `has_body`, `is_chunked`, `content_length` | |
///
/// Bytes that are not UTF-8 are shown in base64: a body as `body_base64`, a value as an object with
/// `base64` in it. The response of a stream has no body here: it is told in chunks.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpParser(());

impl HttpParser {
    /// There is nothing to set.
    #[must_use]
    pub fn new() -> Self {
        Self(())
    }
}

impl Analyzer for HttpParser {
    fn name(&self) -> &'static str {
        "http_parser"
    }

    fn analyze(&mut self, message: AnalysisMsg, next: &mut Next) {
        let parsed = match &message {
            AnalysisMsg::Request(request) => {
                let data = of_request(&request.head, &request.body);
                Some((request.at, data))
            }
            AnalysisMsg::ResponseDone(done) => {
                let head = done.head.as_ref();
                head.map(|head| (done.at, of_response(head, &done.body)))
            }
            AnalysisMsg::StreamChunk(_) | AnalysisMsg::Record(_) => None,
        };
        let record = parsed.map(|(at, data)| Record {
            source: "http_parser",
            id: message.id(),
            at,
            data: data.into(),
        });
        // The end of a flow stays the last that is told of it.
        let is_end = matches!(message, AnalysisMsg::ResponseDone(_));
        let record = record.map(|record| AnalysisMsg::Record(Box::new(record)));
        let (first, second) = match is_end {
            true => (record, Some(message)),
            false => (Some(message), record),
        };
        for message in [first, second].into_iter().flatten() {
            next.pass(message);
        }
    }
}

fn of_request(head: &Head, body: &Body) -> Map<String, Value> {
    let mut data = of_message("request", head, body);
    let (method, path) = head.request_line().unwrap_or_default();
    data.insert("method".into(), method.into());
    data.insert("path".into(), path.into());
    data
}

fn of_response(head: &Head, body: &Body) -> Map<String, Value> {
    let mut data = of_message("response", head, body);
    let line = head.start_line();
    let text = line.splitn(3, |byte| *byte == b' ').nth(2);
    let text = text.map(String::from_utf8_lossy);
    data.insert("status_code".into(), head.status().into());
    data.insert("status_text".into(), text.unwrap_or_default().into());
    data
}

fn of_message(message_type: &str, head: &Head, body: &Body) -> Map<String, Value> {
    let mut data = Map::new();
    let mut insert = |name: &str, value: Value| data.insert(name.to_owned(), value);
    let pairs = head.fields().map(|(name, value)| {
        let name = String::from_utf8_lossy(name);
        json!([name, text_or_base64(value)])
    });
    insert("message_type", message_type.into());
    insert("first_line", text_or_base64(head.start_line()));
    insert("protocol", head.version.as_str().into());
    insert("headers", pairs.collect());
    insert("is_chunked", is_chunked(head).into());
    insert("content_length", content_length(head).into());
    insert("has_body", (body.size > 0).into());
    insert("body_size", body.size.into());
    insert("total_size", (head.text.len() as u64 + body.size).into());
    if body.truncated {
        insert("body_truncated", true.into());
    }
    if let Some(error) = &body.encoding_error {
        insert("encoding_error", error.as_str().into());
    }
    if !body.bytes.is_empty() {
        insert_text(&mut data, "body", &body.bytes);
    }
    data
}

/// Whether the last transfer coding is chunked (RFC 9112 section 6.3).
fn is_chunked(head: &Head) -> bool {
    let fields = head.fields();
    let codings = fields.filter(|(name, _)| name.eq_ignore_ascii_case(b"transfer-encoding"));
    let last = codings.last().map(|(_, value)| value).unwrap_or_default();
    let last = last.rsplit(|byte| *byte == b',').next().unwrap_or_default();
    last.trim_ascii().eq_ignore_ascii_case(b"chunked")
}

fn content_length(head: &Head) -> Option<u64> {
    std::str::from_utf8(head.field("content-length")?)
        .ok()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use traffic::Version;

    #[test]
    fn keeps_what_repeats_and_what_is_no_text() {
        let text = b"HTTP/1.1 200 All fine\r\nSet-Cookie: a\r\nset-cookie: b\r\nX: \xff\r\n\
            Transfer-Encoding: gzip, Chunked\r\n\r\n";
        let head = Head {
            version: Version::Http11,
            text: Bytes::from_static(text),
        };
        let body = Body {
            bytes: Bytes::from_static(b"\xfb\xff"),
            size: 2,
            truncated: false,
            encoding_error: None,
        };
        let data = Value::from(of_response(&head, &body));
        let expected = json!({
            "message_type": "response",
            "first_line": "HTTP/1.1 200 All fine",
            "protocol": "HTTP/1.1",
            "status_code": 200,
            "status_text": "All fine",
            "headers": [
                ["Set-Cookie", "a"],
                ["set-cookie", "b"],
                ["X", { "base64": "/w==" }],
                ["Transfer-Encoding", "gzip, Chunked"],
            ],
            "is_chunked": true,
            "content_length": null,
            "has_body": true,
            "body_size": 2,
            "total_size": text.len() + 2,
            "body_base64": "+/8=",
        });
        assert_eq!(data, expected);
    }
}
