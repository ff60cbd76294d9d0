//! Reads the messages of a WebSocket from the bytes that pass (RFC 6455), compressed ones too
//! (RFC 7692).
//!
//! One [`Observer`] sees the bytes of one direction, in any chunking, and tells what was in them.
//! The bytes themselves pass untouched, whatever is found: what breaks the rules is a [`Problem`]
//! to note, for the two ends to act on. The memory it takes is bounded by the bytes it is asked to
//! keep of a message, and 50 kB for a direction that is compressed.
//!
//! ```
//! use oriel_traffic::wire::websocket::{Extensions, Observation, Observer, Sender};
//!
//! let mut observer = Observer::new(Sender::Upstream, &Extensions::default(), 1024);
//! let mut texts = Vec::new();
//! observer.handle_bytes(b"\x01\x03Hel\x80\x02lo", &mut |observation| {
//!     if let Observation::Message(message) = observation {
//!         texts.push(message.payload);
//!     }
//! });
//! assert_eq!(texts, ["Hello"]);
//! ```

pub mod extensions;
pub mod frame;
pub mod handshake;
mod inflate;
pub mod limits;
mod problem;

use bytes::Bytes;

pub use extensions::{Deflate, Extensions};
pub use problem::Problem;

use frame::{Header, LengthError, Opcode, ParsedHeader, RSV1, extend_unmasked};
use inflate::Inflater;
use limits::{CONTROL_BYTES_MAX, DEFLATED_CHUNK_BYTES, HEADER_BYTES_MAX};

/// Who sends the bytes of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The client, which masks what it sends.
    Client,
    /// The upstream, which does not.
    Upstream,
}

impl Sender {
    /// Its stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }
}

/// What was seen in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A message: whole, or what there is of one that is never finished.
    Message(Message),
    /// A ping, with its payload.
    Ping(Bytes),
    /// A pong, with its payload.
    Pong(Bytes),
    /// The direction is closed.
    Close(Close),
    /// Something broke the rules or could not be read. Each problem is told once in a direction.
    Note(Problem),
}

/// A message of text or bytes, its fragments joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Text or bytes.
    pub kind: MessageKind,
    /// What was kept of it, from its start on.
    pub payload: Bytes,
    /// Octets of `payload` if all were kept. Of a compressed message the inflated ones; with
    /// [`Coding::InflatedInPart`] those that were inflated before it ended.
    pub payload_bytes: u64,
    /// Octets of the payloads of its frames as they passed.
    pub wire_bytes: u64,
    /// How many frames it came in.
    pub frames: u64,
    /// What was done to read it.
    pub coding: Coding,
    /// False if the direction ended, or another message began, before its last frame.
    pub complete: bool,
}

/// What a message is, as its first frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8 text. What is not is noted, and kept as it came.
    Text,
    /// Bytes.
    Binary,
}

/// What [`Message::payload`] is of the message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// The message, which was not compressed.
    Plain,
    /// The message, which was compressed.
    Inflated,
    /// The start of the message: after it the compressed data is damaged, or inflates to more
    /// than is bearable.
    InflatedInPart,
    /// The compressed data. Nothing is kept of messages here, or what was sent before and is
    /// needed to inflate it was lost.
    Deflated,
    /// Bytes in a form that an extension gave them which is not known here.
    Unknown,
}

/// A close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Why, as a number (RFC 6455 section 7.4); an empty frame has none.
    pub code: Option<u16>,
    /// Why, in words: UTF-8 if the rules are kept.
    pub reason: Bytes,
}

/// Sees the bytes of one direction.
#[derive(Debug)]
pub struct Observer {
    sender: Sender,
    payload_bytes_kept: usize,
    inflater: Option<Inflater>,
    unknown_extension: bool,
    /// The octets of a header that are there so far.
    header: Vec<u8>,
    frame: Option<Frame>,
    message: Option<Unfinished>,
    control: Vec<u8>,
    noted: u32,
    closed: bool,
    lost: bool,
}

/// A frame whose payload is passing.
#[derive(Clone, Copy, Debug)]
struct Frame {
    header: Header,
    role: Role,
    passed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Message,
    Control,
    /// Nothing is known about it but its end.
    Skipped,
}

#[derive(Debug)]
struct Unfinished {
    kind: MessageKind,
    payload: Vec<u8>,
    payload_bytes: u64,
    wire_bytes: u64,
    frames: u64,
    coding: Coding,
}

impl Observer {
    /// Begins to observe a direction with its first byte after the handshake. At most
    /// `payload_bytes_kept` octets of each message are kept; with none, compressed messages are
    /// not inflated.
    #[must_use]
    pub fn new(sender: Sender, extensions: &Extensions, payload_bytes_kept: usize) -> Self {
        let inflater = extensions.deflate.map(|deflate| match sender {
            Sender::Client => Inflater::new(deflate.client),
            Sender::Upstream => Inflater::new(deflate.upstream),
        });
        Self {
            sender,
            payload_bytes_kept,
            inflater,
            unknown_extension: extensions.unknown,
            header: Vec::with_capacity(HEADER_BYTES_MAX),
            frame: None,
            message: None,
            control: Vec::new(),
            noted: 0,
            closed: false,
            lost: false,
        }
    }

    /// Sees the next bytes and tells what is complete with them. How the bytes are cut changes
    /// nothing in what is told.
    pub fn handle_bytes(&mut self, bytes: &[u8], tell: &mut dyn FnMut(Observation)) {
        let mut rest = bytes;
        while !self.lost {
            if self.frame.is_none() {
                match self.take_header(&mut rest) {
                    Ok(Some(parsed)) => self.begin_frame(parsed, tell),
                    Ok(None) => return,
                    Err(LengthError) => self.lose(tell),
                }
            } else if !self.take_payload(&mut rest, tell) {
                return;
            }
        }
    }

    /// Tells what is left when no more bytes come: a message that was not finished.
    pub fn handle_end(mut self, tell: &mut dyn FnMut(Observation)) {
        if self.lost {
            return;
        }
        if self.frame.is_some() || self.message.is_some() || !self.header.is_empty() {
            self.note(Problem::EndedEarly, tell);
        }
        self.end_message(Completeness::Cut, tell);
    }

    /// True once nobody can tell where frames begin ([`Problem::FramingLost`]): there is nothing
    /// more to observe.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// True once a close frame has passed: the direction is over, whatever still comes.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Gathers a header across chunks.
    fn take_header(&mut self, rest: &mut &[u8]) -> Result<Option<ParsedHeader>, LengthError> {
        loop {
            let missing = Header::bytes_wanted(&self.header) - self.header.len();
            let (octets, after) = rest.split_at_checked(missing).unwrap_or((*rest, &[]));
            self.header.extend_from_slice(octets);
            *rest = after;
            if let Some(parsed) = Header::parse(&self.header)? {
                self.header.clear();
                return Ok(Some(parsed));
            }
            if after.is_empty() {
                return Ok(None);
            }
        }
    }

    fn begin_frame(&mut self, parsed: ParsedHeader, tell: &mut dyn FnMut(Observation)) {
        let header = parsed.header;
        if !parsed.minimal {
            self.note(Problem::LengthNotMinimal, tell);
        }
        match (self.sender, header.mask) {
            (Sender::Client, None) => self.note(Problem::NotMasked, tell),
            (Sender::Upstream, Some(_)) => self.note(Problem::Masked, tell),
            (Sender::Client, Some(_)) | (Sender::Upstream, None) => {}
        }
        if self.closed {
            self.note(Problem::FrameAfterClose, tell);
        }
        let role = match header.opcode {
            Opcode::Text => self.begin_message(MessageKind::Text, header, tell),
            Opcode::Binary => self.begin_message(MessageKind::Binary, header, tell),
            Opcode::Continuation => self.continue_message(header, tell),
            Opcode::Close | Opcode::Ping | Opcode::Pong => self.begin_control(header, tell),
            Opcode::Reserved(_) => {
                self.note_reserved(Problem::ReservedOpcode, tell);
                Role::Skipped
            }
        };
        self.frame = Some(Frame {
            header,
            role,
            passed: 0,
        });
    }

    fn begin_message(
        &mut self,
        kind: MessageKind,
        header: Header,
        tell: &mut dyn FnMut(Observation),
    ) -> Role {
        if self.message.is_some() {
            self.note(Problem::MessageInMessage, tell);
            self.end_message(Completeness::Cut, tell);
        }
        let coding = self.choose_coding(header, tell);
        self.message = Some(Unfinished {
            kind,
            payload: Vec::new(),
            payload_bytes: 0,
            wire_bytes: 0,
            frames: 1,
            coding,
        });
        Role::Message
    }

    /// What the reserved bits of a message's first frame say (RFC 7692 section 6).
    fn choose_coding(&mut self, header: Header, tell: &mut dyn FnMut(Observation)) -> Coding {
        match &mut self.inflater {
            _ if header.reserved == 0 => Coding::Plain,
            Some(inflater) if header.reserved == RSV1 => {
                if self.payload_bytes_kept == 0 {
                    return Coding::Deflated;
                }
                if inflater.begin_message() {
                    return Coding::Inflated;
                }
                self.note(Problem::ContextLost, tell);
                Coding::Deflated
            }
            inflater => {
                // If it is compressed too, another extension had its turn with the bytes.
                if let Some(inflater) = inflater
                    && header.reserved & RSV1 != 0
                {
                    inflater.lose_context();
                }
                self.note_reserved(Problem::ReservedBits, tell);
                Coding::Unknown
            }
        }
    }

    fn continue_message(&mut self, header: Header, tell: &mut dyn FnMut(Observation)) -> Role {
        if header.reserved != 0 {
            self.note_reserved(Problem::ReservedBits, tell);
        }
        let Some(message) = &mut self.message else {
            self.note(Problem::ContinuationWithoutStart, tell);
            return Role::Skipped;
        };
        message.frames = message.frames.saturating_add(1);
        Role::Message
    }

    fn begin_control(&mut self, header: Header, tell: &mut dyn FnMut(Observation)) -> Role {
        if header.reserved != 0 {
            self.note_reserved(Problem::ReservedBits, tell);
        }
        self.note_if(!header.fin, Problem::ControlFragmented, tell);
        let too_long = header.length > CONTROL_BYTES_MAX as u64;
        self.note_if(too_long, Problem::ControlTooLong, tell);
        Role::Control
    }

    /// Lets the payload pass that is there; false if more of it has to come.
    fn take_payload(&mut self, rest: &mut &[u8], tell: &mut dyn FnMut(Observation)) -> bool {
        let Some(frame) = &mut self.frame else {
            return true;
        };
        let left = frame.header.length - frame.passed;
        let length = usize::try_from(left).unwrap_or(usize::MAX);
        let (payload, after) = rest.split_at_checked(length).unwrap_or((*rest, &[]));
        *rest = after;
        let piece = Piece {
            octets: payload,
            mask: frame.header.mask,
            offset: frame.passed,
        };
        frame.passed += payload.len() as u64;
        let ended = frame.passed == frame.header.length;
        let (role, header) = (frame.role, frame.header);
        match role {
            Role::Message => self.take_message_piece(piece, tell),
            Role::Control => piece.keep(&mut self.control, CONTROL_BYTES_MAX),
            Role::Skipped => {}
        }
        if !ended {
            return false;
        }
        self.frame = None;
        match role {
            Role::Message if header.fin => self.end_message(Completeness::Whole, tell),
            Role::Control => self.end_control(header.opcode, tell),
            Role::Message | Role::Skipped => {}
        }
        true
    }

    fn take_message_piece(&mut self, piece: Piece<'_>, tell: &mut dyn FnMut(Observation)) {
        let Some(message) = &mut self.message else {
            return;
        };
        message.wire_bytes = message.wire_bytes.saturating_add(piece.octets.len() as u64);
        match (message.coding, &mut self.inflater) {
            (Coding::Inflated, Some(inflater)) => {
                let (payload, bytes_max) = (&mut message.payload, self.payload_bytes_kept);
                let result = piece
                    .for_each_unmasked(&mut |octets| inflater.inflate(octets, payload, bytes_max));
                if let Err(problem) = result {
                    self.stop_inflating(problem, tell);
                }
            }
            (Coding::InflatedInPart, _) => {}
            (Coding::Inflated | Coding::Plain | Coding::Deflated | Coding::Unknown, _) => {
                piece.keep(&mut message.payload, self.payload_bytes_kept);
            }
        }
    }

    fn stop_inflating(&mut self, problem: Problem, tell: &mut dyn FnMut(Observation)) {
        let (Some(message), Some(inflater)) = (&mut self.message, &mut self.inflater) else {
            return;
        };
        message.coding = Coding::InflatedInPart;
        inflater.lose_context();
        self.note(problem, tell);
    }

    fn end_message(&mut self, completeness: Completeness, tell: &mut dyn FnMut(Observation)) {
        if self
            .message
            .as_ref()
            .is_some_and(|message| message.coding == Coding::Inflated)
        {
            self.end_inflating(completeness, tell);
        }
        let Some(mut message) = self.message.take() else {
            return;
        };
        message.payload_bytes = match (message.coding, &self.inflater) {
            (Coding::Inflated | Coding::InflatedInPart, Some(inflater)) => inflater.message_bytes(),
            _ => message.wire_bytes,
        };
        let whole = completeness == Completeness::Whole
            && message.payload.len() as u64 == message.payload_bytes;
        let invalid = message.kind == MessageKind::Text
            && matches!(message.coding, Coding::Plain | Coding::Inflated)
            && !is_text(&message.payload, whole);
        self.note_if(invalid, Problem::TextNotUtf8, tell);
        tell(Observation::Message(Message {
            kind: message.kind,
            payload: message.payload.into(),
            payload_bytes: message.payload_bytes,
            wire_bytes: message.wire_bytes,
            frames: message.frames,
            coding: message.coding,
            complete: completeness == Completeness::Whole,
        }));
    }

    fn end_inflating(&mut self, completeness: Completeness, tell: &mut dyn FnMut(Observation)) {
        let (Some(message), Some(inflater)) = (&mut self.message, &mut self.inflater) else {
            return;
        };
        match completeness {
            Completeness::Whole => {
                let payload = &mut message.payload;
                if let Err(problem) = inflater.end_message(payload, self.payload_bytes_kept) {
                    self.stop_inflating(problem, tell);
                }
            }
            // What comes next may refer to what is missing.
            Completeness::Cut => inflater.lose_context(),
        }
    }

    fn end_control(&mut self, opcode: Opcode, tell: &mut dyn FnMut(Observation)) {
        let payload = Bytes::from(std::mem::take(&mut self.control));
        let observation = match opcode {
            Opcode::Ping => Observation::Ping(payload),
            Opcode::Pong => Observation::Pong(payload),
            _ => Observation::Close(self.end_close(payload, tell)),
        };
        tell(observation);
    }

    fn end_close(&mut self, payload: Bytes, tell: &mut dyn FnMut(Observation)) -> Close {
        self.closed = true;
        let Some((code, reason)) = payload.split_first_chunk() else {
            self.note_if(!payload.is_empty(), Problem::CloseTooShort, tell);
            let (code, reason) = (None, Bytes::new());
            return Close { code, reason };
        };
        let code = u16::from_be_bytes(*code);
        self.note_if(!is_close_code(code), Problem::CloseCode, tell);
        self.note_if(!is_text(reason, true), Problem::TextNotUtf8, tell);
        Close {
            code: Some(code),
            reason: payload.slice_ref(reason),
        }
    }

    fn lose(&mut self, tell: &mut dyn FnMut(Observation)) {
        self.note(Problem::FramingLost, tell);
        self.end_message(Completeness::Cut, tell);
        self.lost = true;
        self.header = Vec::new();
        self.inflater = None;
    }

    /// Notes reserved bits or opcodes, which are an extension's if one was agreed that is not
    /// known here.
    fn note_reserved(&mut self, problem: Problem, tell: &mut dyn FnMut(Observation)) {
        if self.unknown_extension {
            self.note(Problem::ExtensionUnknown, tell);
        } else {
            self.note(problem, tell);
        }
    }

    fn note_if(&mut self, found: bool, problem: Problem, tell: &mut dyn FnMut(Observation)) {
        if found {
            self.note(problem, tell);
        }
    }

    fn note(&mut self, problem: Problem, tell: &mut dyn FnMut(Observation)) {
        if self.noted & problem.bit() == 0 {
            self.noted |= problem.bit();
            tell(Observation::Note(problem));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Completeness {
    Whole,
    Cut,
}

/// Some octets of a frame's payload.
struct Piece<'a> {
    octets: &'a [u8],
    mask: Option<[u8; 4]>,
    /// Octets of the payload before them.
    offset: u64,
}

impl Piece<'_> {
    /// Appends as much to `kept` as it may take, unmasked. The rest is not looked at.
    fn keep(&self, kept: &mut Vec<u8>, bytes_max: usize) {
        let room = bytes_max.saturating_sub(kept.len());
        let octets = self.octets.get(..room).unwrap_or(self.octets);
        match self.mask {
            Some(key) => extend_unmasked(kept, octets, key, self.offset),
            None => kept.extend_from_slice(octets),
        }
    }

    /// Gives all of it, unmasked, part by part until one fails.
    fn for_each_unmasked(
        &self,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let Some(key) = self.mask else {
            return take(self.octets);
        };
        let mut unmasked = Vec::with_capacity(self.octets.len().min(DEFLATED_CHUNK_BYTES));
        let mut offset = self.offset;
        for octets in self.octets.chunks(DEFLATED_CHUNK_BYTES) {
            unmasked.clear();
            extend_unmasked(&mut unmasked, octets, key, offset);
            offset += octets.len() as u64;
            take(&unmasked)?;
        }
        Ok(())
    }
}

/// True for UTF-8 and, if it is not whole, for its start.
fn is_text(bytes: &[u8], whole: bool) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => !whole && error.error_len().is_none(),
    }
}

/// The codes that a frame may carry: those of the registry of RFC 6455 section 11.7 that are not
/// for use within a program alone (1005, 1006, 1015), and the ranges for libraries and
/// applications.
fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests;
