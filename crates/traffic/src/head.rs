//! The head of a message as one text: a start line and field lines, in the order received.
//!
//! An HTTP/1.1 head is the bytes as they came. An HTTP/2 head is written in the same form, with
//! `HTTP/2` as its version, so that everything behind the engine reads one shape.

use bytes::Bytes;

/// The HTTP version a message was received in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945).
    Http10,
    /// HTTP/1.1 (RFC 9112).
    Http11,
    /// HTTP/2 (RFC 9113).
    Http2,
}

impl Version {
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// The head of a request or of a response, or a block of trailers (then without a start line).
///
/// `text` ends with the empty line. Nothing in it is trusted: field values may hold any byte but
/// CR, LF and NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The version it came in.
    pub version: Version,
    /// Start line, field lines and the empty line.
    pub text: Bytes,
}

impl Head {
    /// The first line without its line end; empty for trailers.
    #[must_use]
    pub fn start_line(&self) -> &[u8] {
        self.lines().next().unwrap_or_default()
    }

    /// Method and target of a request; `None` if the start line is not one.
    #[must_use]
    pub fn request_line(&self) -> Option<(&str, &str)> {
        let line = std::str::from_utf8(self.start_line()).ok()?;
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?))
    }

    /// The status code of a response; `None` if the start line is not a status line.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let line = self.start_line();
        let rest = line.strip_prefix(b"HTTP/")?;
        let digits = rest.split(|byte| *byte == b' ').nth(1)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The field lines as name and value, in order, without the white space around the value.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines().skip(1).map_while(|line| {
            // The name of a pseudo-header field begins with a colon (RFC 9113 section 8.3).
            let pseudo = usize::from(line.first() == Some(&b':'));
            let colon = pseudo + memchr::memchr(b':', line.get(pseudo..)?)?;
            let (name, value) = line.split_at_checked(colon)?;
            Some((name, value.get(1..)?.trim_ascii()))
        })
    }

    /// The first value of a field, the name compared without regard to case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields()
            .find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// A block of trailer fields: an empty start line and then `text`.
    #[must_use]
    pub fn trailers(version: Version, text: &[u8]) -> Self {
        let mut whole = Vec::with_capacity(text.len() + 2);
        whole.extend_from_slice(b"\r\n");
        whole.extend_from_slice(text);
        Self {
            version,
            text: whole.into(),
        }
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let text: &[u8] = &self.text;
        text.split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &'static str) -> Head {
        Head {
            version: Version::Http11,
            text: Bytes::from_static(text.as_bytes()),
        }
    }

    #[test]
    fn reads_a_request() {
        let head = head("GET /a?b HTTP/1.1\r\nHost: x\r\nX-Two:  1 \r\nx-two:2\r\n\r\n");
        assert_eq!(head.request_line(), Some(("GET", "/a?b")));
        let fields: Vec<_> = head.fields().collect();
        assert_eq!(fields[1], (&b"X-Two"[..], &b"1"[..]));
        assert_eq!(fields.len(), 3);
        assert_eq!(head.field("HOST"), Some(&b"x"[..]));
    }

    #[test]
    fn reads_a_response_and_trailers() {
        assert_eq!(head("HTTP/1.1 200 OK\r\n\r\n").status(), Some(200));
        assert_eq!(head("HTTP/2 103\r\n\r\n").status(), Some(103));
        assert_eq!(head("GET / HTTP/1.1\r\n\r\n").status(), None);
        let pseudo = head("GET / HTTP/2\r\n:authority: x:1\r\na: b\r\n\r\n");
        assert_eq!(pseudo.field(":authority"), Some(&b"x:1"[..]));
        assert_eq!(pseudo.fields().count(), 2);
        let trailers = Head::trailers(Version::Http2, b"grpc-status: 0\r\n\r\n");
        assert_eq!(trailers.field("grpc-status"), Some(&b"0"[..]));
    }
}
