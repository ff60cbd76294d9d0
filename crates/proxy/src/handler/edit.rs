//! What a handler may change of a request, and how the change is made.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, Method, Uri};
use traffic::{Failure, FailureKind, Side, Stage, Version};

use super::RequestEdit;
use crate::error;
use crate::http1::head::{RequestHead, frames_or_routes};

impl RequestEdit {
    /// Finds what cannot be done to a request with this method. `held` says whether the body is held,
    /// so that it can be replaced.
    pub(crate) fn check(&self, asked: &str, held: bool) -> Result<(), Failure> {
        let named = self
            .remove
            .iter()
            .chain(self.set.iter().map(|(name, _)| name));
        if let Some(name) = named.into_iter().find(|name| frames_or_routes(name)) {
            return Err(unusable(format!("sets or removes the field {name}")));
        }
        if let Some(path) = &self.path
            && !path.starts_with('/')
        {
            return Err(unusable(format!("has a path without a slash: {path:?}")));
        }
        if let Some(method) = self.method.as_deref().filter(|method| *method != asked) {
            check_method(asked, method)?;
        }
        if self.body.is_some() && !held {
            return Err(unusable(
                "replaces a body that is not held: set body.buffer_request_bodies, and want \
                 request_bodies of the request",
            ));
        }
        Ok(())
    }

    /// True if the head changes.
    pub(crate) fn changes_head(&self) -> bool {
        self.method.is_some()
            || self.path.is_some()
            || !self.remove.is_empty()
            || !self.set.is_empty()
            || self.body.is_some()
    }

    /// The changed head of an HTTP/1 request, to be parsed like one that came. Lines that do not
    /// change are copied as they are.
    pub(crate) fn http1_head(&self, head: &RequestHead, bytes: &[u8], path: &str) -> Vec<u8> {
        let part = |range: std::ops::Range<usize>| bytes.get(range).unwrap_or_default();
        let mut out = Vec::with_capacity(bytes.len() + 256);
        let method = self.method.as_deref().map(str::as_bytes);
        out.extend_from_slice(method.unwrap_or_else(|| part(head.method.clone())));
        out.push(b' ');
        out.extend_from_slice(self.path.as_deref().unwrap_or(path).as_bytes());
        out.push(b' ');
        let version = match head.version {
            Version::Http10 => Version::Http10,
            Version::Http11 | Version::Http2 => Version::Http11,
        };
        out.extend_from_slice(version.as_str().as_bytes());
        out.extend_from_slice(b"\r\n");
        let mut written = vec![false; self.set.len()];
        for line in &head.lines {
            let name = part(line.start..line.name_end);
            if self.is_removed(name) {
                continue;
            }
            let Some(at) = self.set.iter().position(|(known, _)| is(known, name)) else {
                out.extend_from_slice(part(line.start..line.end));
                continue;
            };
            // Other lines of the name go.
            if let (Some(written), Some((_, value))) = (written.get_mut(at), self.set.get(at))
                && !std::mem::replace(written, true)
            {
                write_line(name, value.as_bytes(), &mut out);
            }
        }
        for ((name, value), written) in self.set.iter().zip(written) {
            if !written {
                write_line(name.as_str().as_bytes(), value.as_bytes(), &mut out);
            }
        }
        if let Some(body) = &self.body {
            write_line(
                b"Content-Length",
                body.len().to_string().as_bytes(),
                &mut out,
            );
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    /// Changes the head of an HTTP/2 request.
    pub(crate) fn http2_head(&self, parts: &mut Parts) -> Result<(), Failure> {
        if let Some(method) = &self.method {
            parts.method = Method::from_bytes(method.as_bytes())
                .map_err(|error| unusable(format!("has a method that is none: {error}")))?;
        }
        if let Some(path) = &self.path {
            let path: PathAndQuery = path
                .parse()
                .map_err(|error| unusable(format!("has a path that is none: {error}")))?;
            let mut uri = std::mem::take(&mut parts.uri).into_parts();
            uri.path_and_query = Some(path);
            parts.uri = Uri::from_parts(uri)
                .map_err(|error| unusable(format!("has a path that does not fit: {error}")))?;
        }
        for name in &self.remove {
            parts.headers.remove(name);
        }
        for (name, value) in &self.set {
            parts.headers.insert(name, value.clone());
        }
        if let Some(body) = &self.body {
            if !self.set.iter().any(|(name, _)| *name == CONTENT_ENCODING) {
                parts.headers.remove(CONTENT_ENCODING);
            }
            parts.headers.insert(CONTENT_LENGTH, body.len().into());
        }
        Ok(())
    }

    fn is_removed(&self, name: &[u8]) -> bool {
        let replaced = self.body.is_some()
            && (["content-length", "transfer-encoding", "trailer"]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
                || name.eq_ignore_ascii_case(b"content-encoding")
                    && !self.set.iter().any(|(known, _)| is(known, name)));
        replaced || self.remove.iter().any(|known| is(known, name))
    }
}

/// Finds what would have the client take the response for another than it is: an answer to HEAD has
/// no body whatever its head says (RFC 9112 section 6.3), and one to CONNECT opens a tunnel.
fn check_method(asked: &str, method: &str) -> Result<(), Failure> {
    for special in ["CONNECT", "HEAD"] {
        if method.eq_ignore_ascii_case(special) {
            return Err(unusable(format!("makes a {special} of a {asked}")));
        }
        if asked == special {
            return Err(unusable(format!("makes a {method} of a {special}")));
        }
    }
    Ok(())
}

fn is(known: &HeaderName, name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(known.as_str().as_bytes())
}

fn write_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

fn unusable(what: impl std::fmt::Display) -> Failure {
    error::failure(
        Side::Oriel,
        Stage::Route,
        FailureKind::HandlerFailed,
        format!("the edit of the handler cannot be made: it {what}"),
    )
}
