//! WebSocket (RFC 6455) frame by frame, over HTTP/1.1 and HTTP/2: what a test sends is what goes on
//! the wire, broken or not.
//!
//! [`Client::start_websocket`](crate::client::Client::start_websocket) and
//! [`Http2Client::start_websocket`](crate::client::Http2Client::start_websocket) open one.

use std::future::poll_fn;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use tokio::io::AsyncWriteExt;

use crate::message::{Buffered, ResponseHead};
use crate::stream::send_data;
use crate::wire::Wire;

/// Another part of a message.
pub const CONTINUATION: u8 = 0;
/// A message of text.
pub const TEXT: u8 = 1;
/// A message of bytes.
pub const BINARY: u8 = 2;
/// The end of a direction.
pub const CLOSE: u8 = 8;
/// Asks for a pong.
pub const PING: u8 = 9;
/// Answers a ping.
pub const PONG: u8 = 10;

/// The bit of a compressed message, among [`Frame::reserved`].
pub const RSV1: u8 = 0x40;

/// The key and the proof of the example in RFC 6455 section 1.3. A fixed key hides nothing, which
/// suits a test.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What an upstream answers to [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The payload of a frame that is read; a longer one is an error.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// True for the last of a message.
    pub fin: bool,
    /// RSV1 to RSV3 where they stand: 0x40, 0x20, 0x10.
    pub reserved: u8,
    /// The four bits that say what it is.
    pub opcode: u8,
    /// The payload, not masked.
    pub payload: Bytes,
}

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    pipe: Pipe,
    buffer: BytesMut,
    role: Role,
    /// Frames sent, for a mask that changes.
    sent: u32,
    /// The head that opened it; none on the side of the upstream.
    pub response: Option<ResponseHead>,
}

/// What the bytes pass through.
#[derive(Debug)]
pub(crate) enum Pipe {
    Http1(Buffered<Wire>),
    Http2 {
        send: SendStream<Bytes>,
        receive: RecvStream,
    },
}

/// Who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Masks.
    Client,
    /// Does not.
    Upstream,
}

impl Frame {
    /// A whole message or a control frame.
    pub fn new(opcode: u8, payload: impl Into<Bytes>) -> Self {
        Self {
            fin: true,
            reserved: 0,
            opcode,
            payload: payload.into(),
        }
    }

    /// The same, but not the last of its message.
    #[must_use]
    pub fn unfinished(mut self) -> Self {
        self.fin = false;
        self
    }

    /// The same, marked as compressed.
    #[must_use]
    pub fn compressed(mut self) -> Self {
        self.reserved |= RSV1;
        self
    }

    /// A close frame.
    pub fn close(code: u16, reason: &str) -> Self {
        let mut payload = BytesMut::new();
        payload.put_u16(code);
        payload.put_slice(reason.as_bytes());
        Self::new(CLOSE, payload)
    }

    /// Its bytes on the wire.
    pub fn to_bytes(&self, mask: Option<[u8; 4]>) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.payload.len() + 14);
        bytes.put_u8(u8::from(self.fin) << 7 | self.reserved | self.opcode);
        let masked = u8::from(mask.is_some()) << 7;
        let length = self.payload.len();
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ ..126), _) => bytes.put_u8(masked | short),
            (_, Ok(length)) => {
                bytes.put_u8(masked | 126);
                bytes.put_u16(length);
            }
            _ => {
                bytes.put_u8(masked | 127);
                bytes.put_u64(length as u64);
            }
        }
        let Some(mask) = mask else {
            bytes.put_slice(&self.payload);
            return bytes.freeze();
        };
        bytes.put_slice(&mask);
        let key = mask.iter().cycle();
        bytes.extend(self.payload.iter().zip(key).map(|(octet, key)| octet ^ key));
        bytes.freeze()
    }

    /// Takes a frame from the start of what was read, if it is whole: with the mask it had.
    fn take(buffer: &mut BytesMut) -> io::Result<Option<(Self, Option<[u8; 4]>)>> {
        let mut rest: &[u8] = buffer;
        let before = rest.len();
        let Ok([first, second]) = take_array(&mut rest) else {
            return Ok(None);
        };
        let length = match second & 0x7f {
            126 => take_array(&mut rest).map(|length| u64::from(u16::from_be_bytes(length))),
            127 => take_array(&mut rest).map(u64::from_be_bytes),
            short => Ok(u64::from(short)),
        };
        let Ok(length) = length else { return Ok(None) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > PAYLOAD_BYTES_MAX {
            return Err(broken("a frame is too long"));
        }
        let mask = match second & 0x80 {
            0 => None,
            _ => match take_array(&mut rest) {
                Ok(mask) => Some(mask),
                Err(Missing) => return Ok(None),
            },
        };
        if rest.len() < length {
            return Ok(None);
        }
        let header_bytes = before - rest.len();
        buffer.advance(header_bytes);
        let mut payload = buffer.split_to(length);
        for (octet, key) in payload.iter_mut().zip(mask.iter().flatten().cycle()) {
            *octet ^= key;
        }
        let frame = Self {
            fin: first & 0x80 != 0,
            reserved: first & 0x70,
            opcode: first & 0x0f,
            payload: payload.freeze(),
        };
        Ok(Some((frame, mask)))
    }
}

struct Missing;

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Missing> {
    let (array, after) = rest.split_first_chunk().ok_or(Missing)?;
    *rest = after;
    Ok(*array)
}

impl WebSocket {
    pub(crate) fn new(pipe: Pipe, role: Role, response: Option<ResponseHead>) -> Self {
        Self {
            pipe,
            buffer: BytesMut::new(),
            role,
            sent: 0,
            response,
        }
    }

    /// Sends a frame, masked if we are the client.
    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.sent = self.sent.wrapping_add(1);
        let mask = match self.role {
            Role::Client => Some(self.sent.wrapping_mul(0x9e37_79b9).to_be_bytes()),
            Role::Upstream => None,
        };
        self.send_bytes(frame.to_bytes(mask)).await
    }

    /// Sends exactly these bytes.
    pub async fn send_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        match &mut self.pipe {
            Pipe::Http1(peer) => {
                let wire = peer.stream_mut();
                wire.write_all(&bytes).await?;
                wire.flush().await
            }
            Pipe::Http2 { send, .. } => send_data(send, bytes).await.map_err(io::Error::other),
        }
    }

    /// Reads the next frame; `None` if the peer has ended between frames. A frame masked against
    /// the rules is an error. Dropping the future loses nothing.
    pub async fn read(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some((frame, mask)) = Frame::take(&mut self.buffer)? {
                if mask.is_some() == (self.role == Role::Client) {
                    return Err(broken("a frame is masked against the rules"));
                }
                return Ok(Some(frame));
            }
            let bytes = self.read_some().await?;
            if bytes.is_empty() {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            self.buffer.extend_from_slice(&bytes);
        }
    }

    /// Ends our direction: TCP sends FIN, HTTP/2 ends the stream. Reading goes on.
    pub async fn close_write(&mut self) -> io::Result<()> {
        match &mut self.pipe {
            Pipe::Http1(peer) => peer.stream_mut().shutdown().await,
            Pipe::Http2 { send, .. } => {
                send.send_data(Bytes::new(), true).map_err(io::Error::other)
            }
        }
    }

    async fn read_some(&mut self) -> io::Result<Bytes> {
        match &mut self.pipe {
            Pipe::Http1(peer) => peer.read_some().await,
            Pipe::Http2 { receive, .. } => loop {
                let Some(piece) = poll_fn(|context| receive.poll_data(context)).await else {
                    return Ok(Bytes::new());
                };
                let piece = piece.map_err(io::Error::other)?;
                let flow = receive.flow_control();
                flow.release_capacity(piece.len())
                    .map_err(io::Error::other)?;
                if !piece.is_empty() {
                    return Ok(piece);
                }
            },
        }
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
