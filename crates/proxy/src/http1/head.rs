//! Parses message heads (RFC 9112 sections 2 to 6), strictly, and writes them on.
//!
//! A parsed head is the bytes as they came and the places of its parts. Forwarding copies the raw
//! lines and leaves out the hop-by-hop ones, so that order, case and duplicates survive by
//! construction. Whatever two readers could understand in two ways is refused.

use std::mem::MaybeUninit;
use std::ops::Range;

use traffic::Version;
use traffic::wire::alt_svc::without_http3;

use crate::limits::{CONNECTION_OPTIONS_MAX, FIELDS_MAX, HEAD_BYTES_MAX, TARGET_BYTES_MAX};

/// Why a head is refused. The text names what was wrong, for the peer and for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not HTTP, or HTTP that breaks a rule.
    #[error("{0}")]
    Malformed(&'static str),
    /// More octets or more fields than we take.
    #[error("{0}")]
    TooLarge(&'static str),
    /// The request target alone is too long.
    #[error("the request target is longer than 32 KiB")]
    TargetTooLong,
    /// A version other than 1.0 and 1.1.
    #[error("the HTTP version is neither 1.0 nor 1.1")]
    Version,
    /// A transfer coding other than chunked.
    #[error("a transfer coding other than chunked is not understood")]
    TransferCoding,
}

impl HeadError {
    /// The status that answers a request with such a head.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed(_) | Self::TransferCoding => 400,
            Self::TooLarge(_) => 431,
            Self::TargetTooLong => 414,
            Self::Version => 505,
        }
    }
}

/// How long a body is, as its head says (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    None,
    /// So many octets.
    Exactly(u64),
    /// In chunks.
    Chunked,
    /// Until the connection is closed; responses only.
    UntilClose,
}

/// One field line within a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where the name begins; the line ends where the next one begins.
    pub start: usize,
    /// End of the name.
    pub name_end: usize,
    /// The value without the white space around it.
    pub value: Range<usize>,
    /// One past the line's end.
    pub end: usize,
    /// True if it concerns this connection only and is not sent on.
    pub hop: bool,
}

/// A request head.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Octets of the head, the empty line included.
    pub length: usize,
    /// Where the method stands.
    pub method: Range<usize>,
    /// Where the request target stands.
    pub target: Range<usize>,
    /// 1.0 or 1.1.
    pub version: Version,
    /// The field lines.
    pub lines: Vec<Line>,
    /// The length of the body.
    pub body: BodyLength,
    /// True if the client keeps the connection open afterwards (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// The line with the Host field.
    pub host: Option<usize>,
    /// True if the client waits for `100 Continue`.
    pub expects_continue: bool,
    /// The line with the Max-Forwards field.
    pub max_forwards: Option<usize>,
    /// Where the value of an Upgrade field stands that Connection names.
    pub upgrade: Option<Range<usize>>,
}

/// A response head.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Octets of the head, the empty line included.
    pub length: usize,
    /// The status code.
    pub status: u16,
    /// 1.0 or 1.1.
    pub version: Version,
    /// The field lines.
    pub lines: Vec<Line>,
    /// The length of the body.
    pub body: BodyLength,
    /// True if the upstream keeps the connection open afterwards.
    pub keep_alive: bool,
    /// True if there is an Alt-Svc field.
    pub alt_svc: bool,
}

/// What ends a line of a head (RFC 9112 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// CRLF and nothing else: of a request, which others behind us may read in another way.
    CrLf,
    /// CRLF or LF alone: of a response, as all clients take it. It is sent on with CRLF.
    CrLfOrLf,
}

/// Says whether a whole head stands at the start of `bytes`, looking only at what is new since
/// `scanned` octets were there. Returns the octets of the head.
///
/// # Errors
/// If no head of allowed size can come of it.
pub fn find_end(
    bytes: &[u8],
    scanned: usize,
    line_end: LineEnd,
) -> Result<Option<usize>, HeadError> {
    // The terminator may have begun in what was seen before.
    let from = scanned.saturating_sub(3);
    let fresh = bytes.get(from..).unwrap_or_default();
    for at in memchr::memchr_iter(b'\n', fresh) {
        let at = from + at;
        let end = at + 1;
        // At once: to a reader that takes LF for a line end the head may be whole here, and
        // waiting for the other end would only be ended by the deadline.
        let line = line_before(bytes, at, line_end)?;
        if line.ends_with(b"\n") {
            return within_limit(end).map(Some);
        }
    }
    within_limit(bytes.len())?;
    Ok(None)
}

/// Says at once that no response can come of what an upstream has begun to send: it is HTTP/0.9,
/// another protocol, or more of a body than was announced. It may have no end to wait for.
///
/// # Errors
/// If `bytes`, which may be empty, begin in another way than a status line.
pub fn check_response_start(bytes: &[u8]) -> Result<(), HeadError> {
    // What begins an empty line that is still on its way.
    let bytes = bytes.strip_prefix(b"\r").unwrap_or(bytes);
    let is_begun = bytes.iter().zip(STATUS_LINE_START).all(|(a, b)| a == b);
    match is_begun {
        true => Ok(()),
        false => Err(HeadError::Malformed(
            "the response does not begin with `HTTP/`",
        )),
    }
}

const STATUS_LINE_START: &[u8] = b"HTTP/";
const ALT_SVC: &[u8] = b"alt-svc";
const BARE_LF: HeadError = HeadError::Malformed("a line of the head ends in LF without CR");

fn within_limit(length: usize) -> Result<usize, HeadError> {
    if length > HEAD_BYTES_MAX {
        return Err(HeadError::TooLarge("the head is larger than 64 KiB"));
    }
    Ok(length)
}

/// What stands before the line end whose LF is at `at`. It ends in LF itself if the line is empty.
///
/// A bare LF is taken for a line end by some and for a part of the value by others (RFC 9112
/// section 2.2): in a request it is refused, and so is one before a status line. httparse would
/// take both.
fn line_before(bytes: &[u8], at: usize, line_end: LineEnd) -> Result<&[u8], HeadError> {
    let before = bytes.get(..at).unwrap_or_default();
    match before.strip_suffix(b"\r") {
        Some(line) => Ok(line),
        None if line_end == LineEnd::CrLfOrLf && !before.is_empty() => Ok(before),
        None => Err(BARE_LF),
    }
}

fn check_line_ends(bytes: &[u8], line_end: LineEnd) -> Result<(), HeadError> {
    for at in memchr::memchr_iter(b'\n', bytes) {
        line_before(bytes, at, line_end)?;
    }
    Ok(())
}

/// Parses a request head of which `bytes` holds exactly all octets; `lines` is reused room.
///
/// # Errors
/// See [`HeadError`]; nothing of such a request may be sent on.
pub fn parse_request(bytes: &[u8], lines: Vec<Line>) -> Result<RequestHead, HeadError> {
    check_line_ends(bytes, LineEnd::CrLf)?;
    let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(HeadError::Malformed("the head ends before its empty line")),
        Err(error) => return Err(from_httparse(error)),
    }
    let method = place(bytes, parsed.method.unwrap_or_default());
    let target = place(bytes, parsed.path.unwrap_or_default());
    if target.len() > TARGET_BYTES_MAX {
        return Err(HeadError::TargetTooLong);
    }
    let version = version(parsed.version)?;
    let mut lines = collect_lines(bytes, parsed.headers, lines);
    let known = Known::read(bytes, &mut lines)?;
    let connect = bytes.get(method.clone()) == Some(b"CONNECT");
    if version == Version::Http11 && known.host.is_none() && !connect {
        return Err(HeadError::Malformed(
            "an HTTP/1.1 request has no Host field",
        ));
    }
    if known.hosts > 1 {
        return Err(HeadError::Malformed(
            "the request has more than one Host field",
        ));
    }
    let body = request_body(&known, version)?;
    Ok(RequestHead {
        length: bytes.len(),
        method,
        target,
        version,
        body,
        keep_alive: known.keep_alive(version),
        host: known.host,
        expects_continue: known.expects_continue && version == Version::Http11,
        max_forwards: known.max_forwards,
        upgrade: known.upgrade.filter(|_| known.connection_upgrade),
        lines,
    })
}

/// Parses a response head of which `bytes` holds exactly all octets; `request_method` decides
/// with the status whether a body follows.
///
/// # Errors
/// See [`HeadError`].
pub fn parse_response(
    bytes: &[u8],
    request_method: &[u8],
    lines: Vec<Line>,
) -> Result<ResponseHead, HeadError> {
    check_line_ends(bytes, LineEnd::CrLfOrLf)?;
    let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(HeadError::Malformed("the head ends before its empty line")),
        Err(error) => return Err(from_httparse(error)),
    }
    let status = parsed.code.unwrap_or_default();
    if status < 100 {
        return Err(HeadError::Malformed("the status code is below 100"));
    }
    let version = version(parsed.version)?;
    let mut lines = collect_lines(bytes, parsed.headers, lines);
    let known = Known::read(bytes, &mut lines)?;
    let body = response_body(&known, version, status, request_method)?;
    let keep_alive = known.keep_alive(version) && body != BodyLength::UntilClose;
    Ok(ResponseHead {
        length: bytes.len(),
        status,
        version,
        lines,
        body,
        keep_alive,
        alt_svc: known.alt_svc,
    })
}

/// Lets the lines pass that ask for another protocol, or agree to it: they concern this connection
/// only, but both sides of it switch (RFC 9110 section 7.8).
pub fn pass_upgrade(lines: &mut [Line], bytes: &[u8]) {
    for line in lines {
        let name = name_of(bytes, line);
        let value = bytes.get(line.value.clone()).unwrap_or_default();
        let mut options = value.split(|byte| *byte == b',');
        if name.eq_ignore_ascii_case(b"upgrade")
            || name.eq_ignore_ascii_case(b"connection")
                && options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        {
            line.hop = false;
        }
    }
}

/// Leaves out the line that says that the body is chunked.
pub fn leave_out_chunking(lines: &mut [Line], bytes: &[u8]) {
    for line in lines {
        line.hop |= name_of(bytes, line).eq_ignore_ascii_case(b"transfer-encoding");
    }
}

/// True for fields that frame a message, route it or concern its connection. Whoever adds or changes
/// one has two readers understand two messages; in a trailer it comes too late (RFC 9110 section
/// 6.5.1).
#[must_use]
pub fn frames_or_routes(name: &http::HeaderName) -> bool {
    const NAMES: [&str; 9] = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.contains(&name.as_str())
}

/// Names and values of field lines, in order.
pub fn fields<'a>(
    lines: &'a [Line],
    bytes: &'a [u8],
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
    lines.iter().map(|line| {
        let value = bytes.get(line.value.clone()).unwrap_or_default();
        (name_of(bytes, line), value)
    })
}

/// Values that stand in the place of those that came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replaced<'a> {
    /// Of the Host field.
    pub host: Option<&'a [u8]>,
    /// Of the Max-Forwards field.
    pub max_forwards: Option<&'a [u8]>,
}

/// Writes a request head on: `start_line` (with its CRLF) and the lines of `head` that are not
/// hop by hop, with the values that are replaced.
pub fn write_request(
    head: &RequestHead,
    bytes: &[u8],
    start_line: &[&[u8]],
    replaced: Replaced<'_>,
    out: &mut Vec<u8>,
) {
    for part in start_line {
        out.extend_from_slice(part);
    }
    for (index, line) in head.lines.iter().enumerate() {
        if line.hop {
            continue;
        }
        let value = match Some(index) {
            at if at == head.host => replaced.host,
            at if at == head.max_forwards => replaced.max_forwards,
            _ => None,
        };
        match value {
            Some(value) => {
                out.extend_from_slice(bytes.get(line.start..line.name_end).unwrap_or_default());
                out.extend_from_slice(b": ");
                out.extend_from_slice(value);
                out.extend_from_slice(b"\r\n");
            }
            None => out.extend_from_slice(bytes.get(line.start..line.end).unwrap_or_default()),
        }
    }
}

/// Writes a response head on: its status line as it came and the lines that are not hop by hop,
/// each ended by CRLF. With `hides_http3` its offers of HTTP/3 stay behind.
pub fn write_response(head: &ResponseHead, bytes: &[u8], hides_http3: bool, out: &mut Vec<u8>) {
    let first = head
        .lines
        .first()
        .map_or_else(|| lines_end(bytes), |line| line.start);
    write_line(bytes.get(..first).unwrap_or_default(), out);
    let sent_on = || head.lines.iter().filter(|line| !line.hop);
    let is_alt_svc = |line: &Line| name_of(bytes, line).eq_ignore_ascii_case(ALT_SVC);
    let mut offers = None;
    if hides_http3 && head.alt_svc {
        let lines = sent_on().filter(|line| is_alt_svc(line));
        offers = without_http3(lines.filter_map(|line| bytes.get(line.value.clone())));
    }
    let replaces = offers.is_some();
    for line in sent_on() {
        if !replaces || !is_alt_svc(line) {
            write_line(bytes.get(line.start..line.end).unwrap_or_default(), out);
        } else if let Some(offers) = offers.take() {
            out.extend_from_slice(bytes.get(line.start..line.name_end).unwrap_or_default());
            out.extend_from_slice(b": ");
            out.extend_from_slice(&offers);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Writes a line with CRLF for its end.
fn write_line(line: &[u8], out: &mut Vec<u8>) {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    out.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
    out.extend_from_slice(b"\r\n");
}

/// Where the empty line of a head begins.
fn lines_end(head: &[u8]) -> usize {
    let line = head.strip_suffix(b"\n").unwrap_or(head);
    line.strip_suffix(b"\r").unwrap_or(line).len()
}

fn from_httparse(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::HeaderName => {
            HeadError::Malformed("a field name has a character that no field name has")
        }
        httparse::Error::HeaderValue => {
            HeadError::Malformed("a field value has a control character")
        }
        httparse::Error::NewLine => HeadError::Malformed("a line end is not CR LF"),
        httparse::Error::Status => HeadError::Malformed("the status line cannot be read"),
        httparse::Error::Token => HeadError::Malformed("the start line cannot be read"),
        httparse::Error::TooManyHeaders => HeadError::TooLarge("the head has more than 256 fields"),
        httparse::Error::Version => HeadError::Version,
    }
}

fn version(minor: Option<u8>) -> Result<Version, HeadError> {
    match minor {
        Some(0) => Ok(Version::Http10),
        Some(1) => Ok(Version::Http11),
        _ => Err(HeadError::Version),
    }
}

/// The place of `part` in `whole`, of which it is a slice.
fn place(whole: &[u8], part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}

fn collect_lines(bytes: &[u8], fields: &[httparse::Header<'_>], mut lines: Vec<Line>) -> Vec<Line> {
    lines.clear();
    let lines_end = lines_end(bytes);
    for field in fields {
        let name = place(bytes, field.name);
        let value = (field.value.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize);
        if let Some(last) = lines.last_mut() {
            last.end = name.start;
        }
        lines.push(Line {
            start: name.start,
            name_end: name.end,
            value: value..value + field.value.len(),
            end: lines_end,
            hop: false,
        });
    }
    lines
}

/// What the fields say that matter to a proxy.
#[derive(Default)]
struct Known {
    host: Option<usize>,
    hosts: usize,
    content_length: Option<u64>,
    content_lengths: usize,
    chunked: bool,
    transfer_encodings: usize,
    close: bool,
    stay: bool,
    connection_upgrade: bool,
    upgrade: Option<Range<usize>>,
    expects_continue: bool,
    max_forwards: Option<usize>,
    alt_svc: bool,
}

impl Known {
    /// Reads the fields and marks the hop-by-hop lines (RFC 9110 section 7.6.1).
    fn read(bytes: &[u8], lines: &mut [Line]) -> Result<Self, HeadError> {
        let mut known = Self::default();
        let mut names_options = false;
        for (index, line) in lines.iter_mut().enumerate() {
            let name = bytes.get(line.start..line.name_end).unwrap_or_default();
            let value = bytes.get(line.value.clone()).unwrap_or_default();
            match name.len() {
                2 if name.eq_ignore_ascii_case(b"te") => {
                    line.hop = !value.eq_ignore_ascii_case(b"trailers");
                }
                4 if name.eq_ignore_ascii_case(b"host") => {
                    known.host = Some(index);
                    known.hosts += 1;
                }
                6 if name.eq_ignore_ascii_case(b"expect") => {
                    known.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
                }
                7 if name.eq_ignore_ascii_case(b"upgrade") => {
                    line.hop = true;
                    known.upgrade = Some(line.value.clone());
                }
                7 if name.eq_ignore_ascii_case(ALT_SVC) => known.alt_svc = true,
                10 if name.eq_ignore_ascii_case(b"connection") => {
                    line.hop = true;
                    names_options |= known.read_connection(value);
                }
                10 if name.eq_ignore_ascii_case(b"keep-alive") => line.hop = true,
                12 if name.eq_ignore_ascii_case(b"max-forwards") => {
                    known.max_forwards = Some(index);
                }
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    known.read_content_length(value)?;
                    // Said twice alike, it is sent on once.
                    line.hop = known.content_lengths > 1;
                }
                16 if name.eq_ignore_ascii_case(b"proxy-connection") => line.hop = true,
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    known.transfer_encodings += 1;
                    known.chunked = value.eq_ignore_ascii_case(b"chunked");
                    if !known.chunked || known.transfer_encodings > 1 {
                        return Err(HeadError::TransferCoding);
                    }
                }
                19 if name.eq_ignore_ascii_case(b"proxy-authorization") => line.hop = true,
                _ => {}
            }
        }
        if names_options {
            mark_named_by_connection(bytes, lines)?;
        }
        Ok(known)
    }

    /// Reads the options of a Connection field; true if one names another field.
    fn read_connection(&mut self, value: &[u8]) -> bool {
        let mut names_field = false;
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.stay = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.connection_upgrade = true;
            } else if !option.is_empty() {
                names_field = true;
            }
        }
        names_field
    }

    fn read_content_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        let text = std::str::from_utf8(value).unwrap_or_default();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let length = match text.parse::<u64>() {
            Ok(length) if digits => length,
            _ => {
                return Err(HeadError::Malformed(
                    "Content-Length is not a decimal number",
                ));
            }
        };
        if self.content_length.is_some_and(|known| known != length) {
            return Err(HeadError::Malformed(
                "Content-Length is given twice and differs",
            ));
        }
        self.content_length = Some(length);
        self.content_lengths += 1;
        Ok(())
    }

    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.stay)
    }

    fn both_lengths(&self) -> bool {
        self.chunked && self.content_length.is_some()
    }
}

/// Fields that Connection names are hop by hop, save those that a proxy must not lose: a peer
/// could otherwise make us drop the framing or the Host field.
fn mark_named_by_connection(bytes: &[u8], lines: &mut [Line]) -> Result<(), HeadError> {
    const NEVER: [&[u8]; 6] = [
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"authorization",
        b"content-type",
        b"te",
    ];
    let named: Vec<Range<usize>> = lines
        .iter()
        .filter(|line| name_of(bytes, line).eq_ignore_ascii_case(b"connection"))
        .map(|line| line.value.clone())
        .collect();
    let options = named.iter().filter_map(|value| bytes.get(value.clone()));
    let options = options.flat_map(|value| value.split(|byte| *byte == b','));
    if options.count() > CONNECTION_OPTIONS_MAX {
        return Err(HeadError::TooLarge(
            "the Connection field has more than 64 options",
        ));
    }
    for line in lines {
        let name = name_of(bytes, line);
        let kept = NEVER.iter().any(|never| name.eq_ignore_ascii_case(never));
        let options = named.iter().filter_map(|value| bytes.get(value.clone()));
        let is_named = options
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(name));
        if is_named && !kept {
            line.hop = true;
        }
    }
    Ok(())
}

fn name_of<'a>(bytes: &'a [u8], line: &Line) -> &'a [u8] {
    bytes.get(line.start..line.name_end).unwrap_or_default()
}

fn request_body(known: &Known, version: Version) -> Result<BodyLength, HeadError> {
    if known.content_lengths > 1 {
        return Err(HeadError::Malformed(
            "the request has more than one Content-Length field",
        ));
    }
    if known.both_lengths() {
        return Err(HeadError::Malformed(
            "the request has Transfer-Encoding and Content-Length",
        ));
    }
    if known.chunked && version == Version::Http10 {
        return Err(HeadError::Malformed(
            "Transfer-Encoding does not exist in HTTP/1.0",
        ));
    }
    Ok(match known.content_length {
        _ if known.chunked => BodyLength::Chunked,
        Some(length) => BodyLength::Exactly(length),
        None => BodyLength::None,
    })
}

fn response_body(
    known: &Known,
    version: Version,
    status: u16,
    request_method: &[u8],
) -> Result<BodyLength, HeadError> {
    if request_method == b"HEAD" || status < 200 || matches!(status, 204 | 304) {
        return Ok(BodyLength::None);
    }
    if known.both_lengths() {
        return Err(HeadError::Malformed(
            "the response has Transfer-Encoding and Content-Length",
        ));
    }
    if known.chunked && version == Version::Http10 {
        return Err(HeadError::Malformed(
            "Transfer-Encoding does not exist in HTTP/1.0",
        ));
    }
    Ok(match known.content_length {
        _ if known.chunked => BodyLength::Chunked,
        Some(length) => BodyLength::Exactly(length),
        None => BodyLength::UntilClose,
    })
}

#[cfg(test)]
mod tests;
