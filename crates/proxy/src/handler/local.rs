//! Answers that are made here.

use std::fmt::Write;

use http::header::{CONTENT_LENGTH, HeaderName};
use http::{HeaderMap, Response, StatusCode};

use super::LocalResponse;
use crate::http1::head::frames_or_routes;

impl LocalResponse {
    /// The head in HTTP/1.1.
    pub(crate) fn http1_head(&self, keep_alive: bool) -> Vec<u8> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::FORBIDDEN);
        let reason = status.canonical_reason().unwrap_or_default();
        let mut start = String::new();
        // Writing to a string does not fail.
        let _written = write!(start, "HTTP/1.1 {} {reason}\r\n", status.as_str());
        let mut out = start.into_bytes();
        for (name, value) in self.fields() {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        if self.has_length() {
            out.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        if !keep_alive {
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    /// The head in HTTP/2.
    pub(crate) fn http2_head(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::FORBIDDEN);
        let mut headers: HeaderMap = self
            .fields()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if self.has_length() {
            headers.insert(CONTENT_LENGTH, self.body.len().into());
        }
        *response.headers_mut() = headers;
        response
    }

    /// The fields without those that frame the message.
    fn fields(&self) -> impl Iterator<Item = (&HeaderName, &http::HeaderValue)> {
        self.headers
            .iter()
            .filter(|(name, _)| !frames_or_routes(name))
    }

    /// False for the statuses that have no body (RFC 9110 section 6.4.1).
    fn has_length(&self) -> bool {
        !matches!(self.status, 204 | 304)
    }

    /// What goes after the head; nothing where there can be no body.
    pub(crate) fn payload(&self, is_head: bool) -> bytes::Bytes {
        match is_head || !self.has_length() {
            true => bytes::Bytes::new(),
            false => self.body.clone(),
        }
    }
}
