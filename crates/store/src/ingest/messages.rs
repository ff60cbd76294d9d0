//! What a WebSocket carried, message by message, until it is stored.

use bytes::Bytes;
use rusqlite::{Connection, Statement};
use traffic::wire::websocket::{Coding, MessageKind, Observation};
use traffic::{Sender, Timestamp};

use super::bodies::Bodies;
use crate::Message;
use crate::limits::{
    INLINE_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX, MESSAGES_BYTES_MAX, MESSAGES_KEPT_MAX,
};

/// The messages of one flow. What waits to be stored goes with the next batch.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    pub(crate) pending: Vec<Told>,
    /// Told so far, by who sent them: client, upstream.
    told: [u64; 2],
    /// Octets of payload kept so far.
    kept_bytes: u64,
    /// Something was told that was not kept whole.
    cut: bool,
    /// No more is kept.
    stopped: bool,
}

/// One message, or what else was seen: a control frame, a broken rule.
#[derive(Debug)]
pub(crate) struct Told {
    /// From 1 on within the flow, in the order of telling.
    sequence: u64,
    at: Timestamp,
    sender: Sender,
    item: Observation,
    /// What is stored of its payload.
    payload: Bytes,
}

impl Messages {
    /// Takes what was told, of its payload at most so many bytes; true if it is the first that waits.
    pub(crate) fn keep(
        &mut self,
        at: Timestamp,
        sender: Sender,
        mut item: Observation,
        keep_max: u64,
    ) -> bool {
        let [client, upstream] = &mut self.told;
        match sender {
            Sender::Client => *client += 1,
            Sender::Upstream => *upstream += 1,
        }
        let sequence = self.count();
        if sequence > MESSAGES_KEPT_MAX || self.stopped {
            self.cut = true;
            return false;
        }
        let mut payload = take_payload(&mut item);
        let left = MESSAGES_BYTES_MAX.saturating_sub(self.kept_bytes);
        let room = usize::try_from(left.min(keep_max)).unwrap_or(usize::MAX);
        payload.truncate(room.min(MESSAGE_BYTES_MAX));
        let kept = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        self.kept_bytes += kept;
        if let Observation::Message(message) = &item {
            self.cut |= kept < message.payload_bytes || !message.complete;
        }
        self.pending.push(Told {
            sequence,
            at,
            sender,
            item,
            payload,
        });
        self.pending.len() == 1
    }

    /// Something is missing that nobody knows of.
    pub(crate) fn note_gap(&mut self) {
        self.cut = true;
    }

    /// Keeps no more.
    pub(crate) fn stop_keeping(&mut self) {
        self.stopped = true;
    }

    /// Bytes in memory of those that wait.
    pub(crate) fn pending_bytes(&self) -> usize {
        let bytes = |told: &Told| size_of::<Told>() + told.payload.len();
        self.pending.iter().map(bytes).sum()
    }

    /// How many were told.
    pub(crate) fn count(&self) -> u64 {
        self.told.iter().sum()
    }

    /// How many the client and the upstream sent.
    pub(crate) fn by_sender(&self) -> [u64; 2] {
        self.told
    }

    /// Whether something was not kept whole.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }
}

impl Told {
    /// The side of the exchange that it belongs to.
    fn message(&self) -> Message {
        match self.sender {
            Sender::Client => Message::Request,
            Sender::Upstream => Message::Response,
        }
    }
}

/// The payload of what has one; the name of what does not.
fn take_payload(item: &mut Observation) -> Bytes {
    match item {
        Observation::Message(message) => std::mem::take(&mut message.payload),
        Observation::Ping(payload) | Observation::Pong(payload) => std::mem::take(payload),
        Observation::Close(close) => std::mem::take(&mut close.reason),
        Observation::Note(problem) => Bytes::from_static(problem.code().as_bytes()),
    }
}

/// The statement that writes messages.
pub(crate) struct MessageRows<'c> {
    insert: Statement<'c>,
}

impl<'c> MessageRows<'c> {
    pub(crate) fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        let insert = connection.prepare(
            "INSERT INTO messages (flow, sequence, sender, at_us, kind, close_code, size, wire_size,
               frames, coding, complete, kept, data, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?;
        Ok(Self { insert })
    }

    /// Writes one of a flow; `at_us` counts from when the flow started.
    pub(crate) fn insert(
        &mut self,
        flow: i64,
        at_us: impl Fn(Timestamp) -> i64,
        told: &Told,
        bodies: &mut Bodies<'_>,
    ) -> rusqlite::Result<()> {
        let payload = &told.payload;
        let (data, body) = match payload.len() {
            0 => (None, None),
            1..=INLINE_MESSAGE_BYTES_MAX => (Some(&**payload), None),
            _ => (None, Some(bodies.store_bytes(told.message(), payload)?)),
        };
        let kept = integer(payload.len() as u64);
        let whole = Shape::of(&told.item, kept);
        self.insert.execute((
            flow,
            integer(told.sequence),
            told.sender.as_str(),
            at_us(told.at),
            whole.kind,
            whole.close_code,
            whole.size,
            whole.wire_size,
            whole.frames,
            whole.coding,
            whole.complete,
            kept,
            data,
            body,
        ))?;
        Ok(())
    }
}

/// What the columns say of a message besides its payload.
struct Shape {
    kind: &'static str,
    close_code: Option<u16>,
    size: i64,
    wire_size: i64,
    frames: i64,
    coding: &'static str,
    complete: bool,
}

impl Shape {
    fn of(item: &Observation, kept: i64) -> Self {
        let control = |kind| Self {
            kind,
            close_code: None,
            size: kept,
            wire_size: kept,
            frames: 1,
            coding: "plain",
            complete: true,
        };
        match item {
            Observation::Message(message) => Self {
                kind: match message.kind {
                    MessageKind::Text => "text",
                    MessageKind::Binary => "binary",
                },
                close_code: None,
                size: integer(message.payload_bytes),
                wire_size: integer(message.wire_bytes),
                frames: integer(message.frames),
                coding: match message.coding {
                    Coding::Plain => "plain",
                    Coding::Inflated => "inflated",
                    Coding::InflatedInPart => "inflated_in_part",
                    Coding::Deflated => "deflated",
                    Coding::Unknown => "unknown",
                },
                complete: message.complete,
            },
            Observation::Ping(_) => control("ping"),
            Observation::Pong(_) => control("pong"),
            Observation::Close(close) => Self {
                close_code: close.code,
                wire_size: kept + i64::from(close.code.is_some()) * 2,
                ..control("close")
            },
            Observation::Note(_) => Self {
                size: 0,
                wire_size: 0,
                frames: 0,
                ..control("problem")
            },
        }
    }
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
