//! HTTP/1.1 messages as the fake upstream and the fake client read them: the head with its raw
//! bytes kept, the body with its framing.
//!
//! This reader serves tests on loopback. It is strict about framing, so that a proxy's mistake is
//! seen, but it has none of the bounds that reading from the internet needs.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How many bytes of a body, and of its framing, are kept. The rest is counted.
pub const BODY_BYTES_KEPT: usize = 16 * 1024 * 1024;
const HEAD_BYTES_MAX: usize = 1024 * 1024;
const HEADERS_MAX: usize = 512;
const READ_BYTES: usize = 64 * 1024;

/// Fields in the order and spelling they had on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The bytes as received, with the empty line.
    pub raw: Bytes,
    /// The method, in its own case.
    pub method: String,
    /// What stands in the request line: a path, an absolute form or an authority.
    pub target: String,
    /// Whether the sender speaks HTTP/1.0.
    pub http10: bool,
    /// The fields.
    pub headers: Headers,
}

/// The head of a response, final or interim.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The bytes as received, with the empty line. Empty if it came by HTTP/2.
    pub raw: Bytes,
    /// The status code.
    pub status: u16,
    /// The reason phrase. Empty if it came by HTTP/2.
    pub reason: String,
    /// Whether the sender speaks HTTP/1.0.
    pub http10: bool,
    /// The fields.
    pub headers: Headers,
}

/// A body that was read to its end, or until it broke.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// The first [`BODY_BYTES_KEPT`] bytes of the payload.
    pub kept: Bytes,
    /// How many bytes the payload had.
    pub seen: u64,
    /// The first [`BODY_BYTES_KEPT`] bytes with their framing, as they were on the wire.
    pub raw: Bytes,
    /// Fields after a chunked body.
    pub trailers: Headers,
    /// What ended the body before its framing did, if anything.
    pub broken: Option<io::ErrorKind>,
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Length(u64),
    /// After the last chunk and its trailers.
    Chunked,
    /// When the sender closes.
    Close,
}

/// A stream with the bytes that were read from it but not yet used.
#[derive(Debug)]
pub struct Buffered<S> {
    stream: S,
    buffer: BytesMut,
}

/// Reads one body piece by piece.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    trailers: Headers,
    raw: BytesMut,
}

#[derive(Debug)]
enum State {
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Done,
}

impl Headers {
    /// The value of the first field of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let is_named = |(own, _): &&(String, String)| own.eq_ignore_ascii_case(name);
        self.0
            .iter()
            .find(is_named)
            .map(|(_, value)| value.as_str())
    }

    /// The values of all fields of this name, in any case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn from_parsed(headers: &[httparse::Header<'_>]) -> Self {
        let pair = |header: &httparse::Header<'_>| {
            let value = String::from_utf8_lossy(header.value).into_owned();
            (header.name.to_owned(), value)
        };
        Self(headers.iter().map(pair).collect())
    }

    fn is_chunked(&self) -> bool {
        self.get("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    fn length(&self) -> io::Result<Option<u64>> {
        let Some(text) = self.get("content-length") else {
            return Ok(None);
        };
        match text.parse() {
            Ok(length) => Ok(Some(length)),
            Err(_) => Err(malformed("content-length is no number")),
        }
    }
}

impl RequestHead {
    /// Parses one whole head. `None` asks for more bytes.
    pub fn parse(bytes: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        let length = match request.parse(bytes).map_err(io::Error::other)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        let head = Self {
            raw: Bytes::copy_from_slice(bytes.get(..length).unwrap_or_default()),
            method: request.method.unwrap_or_default().to_owned(),
            target: request.path.unwrap_or_default().to_owned(),
            http10: request.version == Some(0),
            headers: Headers::from_parsed(request.headers),
        };
        Ok(Some((head, length)))
    }

    /// Where the body of this request ends.
    pub fn framing(&self) -> io::Result<Framing> {
        if self.headers.is_chunked() {
            return Ok(Framing::Chunked);
        }
        Ok(Framing::Length(self.headers.length()?.unwrap_or(0)))
    }

    /// Whether the client keeps its body back until it is told to go on.
    pub fn expects_continue(&self) -> bool {
        self.headers
            .get("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }

    /// Whether the connection ends after the response.
    pub fn closes(&self) -> bool {
        match self.headers.get("connection") {
            Some(value) if value.eq_ignore_ascii_case("close") => true,
            Some(value) if value.eq_ignore_ascii_case("keep-alive") => false,
            Some(_) | None => self.http10,
        }
    }
}

impl ResponseHead {
    /// Parses one whole head. `None` asks for more bytes.
    pub fn parse(bytes: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let length = match response.parse(bytes).map_err(io::Error::other)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        let head = Self {
            raw: Bytes::copy_from_slice(bytes.get(..length).unwrap_or_default()),
            status: response.code.unwrap_or_default(),
            reason: response.reason.unwrap_or_default().to_owned(),
            http10: response.version == Some(0),
            headers: Headers::from_parsed(response.headers),
        };
        Ok(Some((head, length)))
    }

    /// Whether another head follows this one.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Where the body of the answer to a request with this method ends (RFC 9112, section 6.3).
    pub fn framing(&self, method: &str) -> io::Result<Framing> {
        let opens_tunnel = method == "CONNECT" && (200..300).contains(&self.status);
        let bodiless = method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304);
        if bodiless || opens_tunnel {
            return Ok(Framing::Length(0));
        }
        if self.headers.is_chunked() {
            return Ok(Framing::Chunked);
        }
        Ok(self
            .headers
            .length()?
            .map_or(Framing::Close, Framing::Length))
    }
}

impl Body {
    /// Turns a body that broke off into an error.
    pub fn whole(self) -> io::Result<Self> {
        match self.broken {
            None => Ok(self),
            Some(kind) => Err(io::Error::new(
                kind,
                "the body ended before its framing did",
            )),
        }
    }
}

impl<S: AsyncRead + Unpin> Buffered<S> {
    /// Starts with nothing read.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The stream below, for writing.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The stream below, for asking about it.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Gives the stream back, with what was read too far.
    pub fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.buffer.freeze())
    }

    /// Reads the next bytes that arrive. Empty means the peer has closed its side.
    ///
    /// Dropping the future loses nothing: bytes go to the buffer first.
    pub async fn read_some(&mut self) -> io::Result<Bytes> {
        if self.buffer.is_empty() && self.fill().await? == 0 {
            return Ok(Bytes::new());
        }
        Ok(self.buffer.split().freeze())
    }

    /// Reads exactly this many bytes. Dropping the future loses nothing.
    pub async fn read_exact(&mut self, count: usize) -> io::Result<Bytes> {
        while self.buffer.len() < count {
            self.fill_more().await?;
        }
        Ok(self.buffer.split_to(count).freeze())
    }

    /// Reads up to and with this pattern. Dropping the future loses nothing.
    pub async fn read_until(&mut self, pattern: &[u8]) -> io::Result<Bytes> {
        loop {
            let found = self
                .buffer
                .windows(pattern.len())
                .position(|window| window == pattern);
            if let Some(start) = found {
                return Ok(self.buffer.split_to(start + pattern.len()).freeze());
            }
            self.fill_more().await?;
        }
    }

    /// Reads until the peer closes its side.
    pub async fn read_to_end(&mut self) -> io::Result<Bytes> {
        while self.fill().await? > 0 {}
        Ok(self.buffer.split().freeze())
    }

    /// Reads one request head. `None` means the peer closed between requests.
    pub async fn read_request_head(&mut self) -> io::Result<Option<RequestHead>> {
        loop {
            if let Some((head, length)) = RequestHead::parse(&self.buffer)? {
                self.buffer.advance(length);
                return Ok(Some(head));
            }
            self.check_head_length()?;
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// Reads one response head, which may be an interim one.
    pub async fn read_response_head(&mut self) -> io::Result<ResponseHead> {
        loop {
            if let Some((head, length)) = ResponseHead::parse(&self.buffer)? {
                self.buffer.advance(length);
                return Ok(head);
            }
            self.check_head_length()?;
            self.fill_more().await?;
        }
    }

    /// Reads a body to its end, keeping its first bytes. A body that breaks off is returned with
    /// [`Body::broken`] set.
    pub async fn read_body(&mut self, framing: Framing) -> Body {
        let mut reader = BodyReader::new(framing);
        let mut kept = BytesMut::new();
        let mut seen = 0;
        let broken = loop {
            match reader.next_piece(self).await {
                Ok(Some(piece)) => {
                    seen += piece.len() as u64;
                    keep(&mut kept, &piece);
                }
                Ok(None) => break None,
                Err(error) => break Some(error.kind()),
            }
        };
        Body {
            kept: kept.freeze(),
            seen,
            raw: reader.raw.freeze(),
            trailers: reader.trailers,
            broken,
        }
    }

    fn check_head_length(&self) -> io::Result<()> {
        if self.buffer.len() > HEAD_BYTES_MAX {
            return Err(malformed("the head does not end"));
        }
        Ok(())
    }

    async fn fill_more(&mut self) -> io::Result<()> {
        match self.fill().await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ_BYTES);
        self.stream.read_buf(&mut self.buffer).await
    }
}

impl BodyReader {
    /// Starts at the first byte after the head.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
            Framing::Close => State::UntilClose,
        };
        Self {
            state,
            trailers: Headers::default(),
            raw: BytesMut::new(),
        }
    }

    /// The fields after the last chunk, once [`BodyReader::next_piece`] has given `None`.
    pub fn trailers(&self) -> &Headers {
        &self.trailers
    }

    /// Gives payload as it arrives, `None` at the end.
    pub async fn next_piece<S: AsyncRead + Unpin>(
        &mut self,
        from: &mut Buffered<S>,
    ) -> io::Result<Option<Bytes>> {
        loop {
            match self.state {
                State::Done => return Ok(None),
                State::Length(left) => {
                    let piece = self.take_payload(from, left).await?;
                    let left = left - piece.len() as u64;
                    self.state = if left == 0 {
                        State::Done
                    } else {
                        State::Length(left)
                    };
                    return Ok(Some(piece));
                }
                State::UntilClose => {
                    let piece = from.read_some().await?;
                    if piece.is_empty() {
                        self.state = State::Done;
                        return Ok(None);
                    }
                    keep(&mut self.raw, &piece);
                    return Ok(Some(piece));
                }
                State::ChunkData(left) => {
                    let piece = self.take_payload(from, left).await?;
                    let left = left - piece.len() as u64;
                    self.state = if left == 0 {
                        State::ChunkEnd
                    } else {
                        State::ChunkData(left)
                    };
                    return Ok(Some(piece));
                }
                State::ChunkSize => self.read_chunk_size(from).await?,
                State::ChunkEnd => self.read_chunk_end(from).await?,
                State::Trailers => self.read_trailer(from).await?,
            }
        }
    }

    async fn take_payload<S: AsyncRead + Unpin>(
        &mut self,
        from: &mut Buffered<S>,
        most: u64,
    ) -> io::Result<Bytes> {
        if from.buffer.is_empty() {
            from.fill_more().await?;
        }
        let count = usize::try_from(most)
            .unwrap_or(usize::MAX)
            .min(from.buffer.len());
        let piece = from.buffer.split_to(count).freeze();
        keep(&mut self.raw, &piece);
        Ok(piece)
    }

    async fn read_chunk_size<S: AsyncRead + Unpin>(
        &mut self,
        from: &mut Buffered<S>,
    ) -> io::Result<()> {
        let line = self.read_line(from).await?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let Ok(size) = u64::from_str_radix(digits, 16) else {
            return Err(malformed("chunk size is no hexadecimal number"));
        };
        self.state = if size == 0 {
            State::Trailers
        } else {
            State::ChunkData(size)
        };
        Ok(())
    }

    async fn read_chunk_end<S: AsyncRead + Unpin>(
        &mut self,
        from: &mut Buffered<S>,
    ) -> io::Result<()> {
        let line = self.read_line(from).await?;
        if !line.is_empty() {
            return Err(malformed("chunk is longer than its size says"));
        }
        self.state = State::ChunkSize;
        Ok(())
    }

    async fn read_trailer<S: AsyncRead + Unpin>(
        &mut self,
        from: &mut Buffered<S>,
    ) -> io::Result<()> {
        let line = self.read_line(from).await?;
        if line.is_empty() {
            self.state = State::Done;
            return Ok(());
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(malformed("trailer line has no colon"));
        };
        self.trailers
            .0
            .push((name.to_owned(), value.trim().to_owned()));
        Ok(())
    }

    async fn read_line<S: AsyncRead + Unpin>(
        &mut self,
        from: &mut Buffered<S>,
    ) -> io::Result<String> {
        let line = from.read_until(b"\r\n").await?;
        keep(&mut self.raw, &line);
        let text = line.strip_suffix(b"\r\n").unwrap_or(&line);
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}

fn keep(kept: &mut BytesMut, piece: &[u8]) {
    let room = BODY_BYTES_KEPT.saturating_sub(kept.len());
    kept.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_chunked(wire: &[u8]) -> Body {
        Buffered::new(wire).read_body(Framing::Chunked).await
    }

    #[tokio::test]
    async fn a_chunked_body_gives_payload_raw_bytes_and_trailers() {
        let wire = b"3;name=value\r\nabc\r\n2\r\nde\r\n0\r\nDigest: x\r\n\r\nnext";
        let body = read_chunked(wire).await;
        assert_eq!(body.kept, "abcde");
        assert_eq!(body.raw, wire[..wire.len() - 4]);
        assert_eq!(body.trailers.get("digest"), Some("x"));
        assert_eq!(body.broken, None);
    }

    #[tokio::test]
    async fn a_body_that_stops_short_is_broken_not_complete() {
        let body = read_chunked(b"5\r\nabc").await;
        assert_eq!(body.kept, "abc");
        assert_eq!(body.broken, Some(io::ErrorKind::UnexpectedEof));
        assert!(body.whole().is_err());
    }

    #[tokio::test]
    async fn heads_keep_order_case_and_duplicates() {
        let wire = b"GET /a HTTP/1.1\r\nHost: x\r\nX-B: 1\r\nx-a: 2\r\nX-B: 3\r\n\r\n";
        let head = Buffered::new(&wire[..])
            .read_request_head()
            .await
            .unwrap()
            .unwrap();
        assert_eq!(head.raw, wire[..]);
        assert_eq!(head.headers.all("x-b").collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(head.headers.0[2].0, "x-a");
    }
}
