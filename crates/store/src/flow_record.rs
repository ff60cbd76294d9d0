//! A flow with everything that is known of it, out of its database: what moves between a file of this
//! machine, an archive, and files that are imported and exported.

use std::sync::Arc;

use traffic::Timestamp;
use uuid::{Builder, Uuid};

use crate::{FlowDetail, Marker, Run, RunId, RunKind, StreamMessage};

/// A flow with everything that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowRecord {
    /// The run it is of; `detail.row.id.run` is the id of that.
    pub run: Arc<RunRecord>,
    /// All but the bodies.
    pub detail: FlowDetail,
    /// What was kept of the request body, still content-encoded; `None` if nothing was.
    pub request_body: Option<Vec<u8>>,
    /// What was kept of the response body, still content-encoded; `None` if nothing was.
    pub response_body: Option<Vec<u8>>,
    /// What a WebSocket carried and was kept, in the order of its numbers.
    pub messages: Vec<StreamMessage>,
}

/// A run, out of its database.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunRecord {
    /// UUIDv7: names the run in all databases.
    pub uuid: String,
    /// The id people type. Another database may have given it to another run; there this run has one
    /// of its own.
    pub id: RunId,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// The command and its arguments, masked.
    pub argv: Vec<String>,
    /// Which command made it.
    pub kind: RunKind,
    /// The process that wrote it.
    pub pid: u32,
    /// When it began.
    #[serde(with = "crate::plain::time")]
    pub started_at: Timestamp,
    /// When it ended; `None` while it lasts, or if its process died.
    #[serde(with = "crate::plain::some_time")]
    pub ended_at: Option<Timestamp>,
    /// The exit code of its command.
    pub exit_code: Option<i32>,
    /// The signal that ended its command.
    pub signal: Option<i32>,
    /// Whose run it is, among those of a team.
    pub origin: Origin,
}

/// Whose flows they are, among those of a team. Empty in the file of one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The oriel that recorded them, for example a host name.
    pub instance: Option<String>,
    /// The person or account they are recorded for.
    pub user: Option<String>,
    /// Words to find them by.
    pub tags: Vec<String>,
}

/// Events that are missing from a run, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapRecord {
    /// Its number in the file it is from: larger than those of earlier ones.
    pub number: i64,
    /// The run.
    pub run: Arc<RunRecord>,
    /// When it was noted.
    pub at: Timestamp,
    /// `queue_full`, `engine`, `flow_unknown`, `not_storable` and the like.
    pub reason: String,
    /// Events lost.
    pub events: u64,
    /// Bytes of heads and bodies in them.
    pub body_bytes: u64,
}

/// Flows that are new or changed since a marker.
#[derive(Clone, Debug)]
pub struct Records {
    /// Each once, as it is now.
    pub flows: Vec<FlowRecord>,
    /// Where to go on. It is the marker that was given if there was nothing.
    pub marker: Marker,
}

impl FlowRecord {
    /// The id of the session that it is of, where that is known.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        let session = self.detail.row.session.as_ref();
        session.map(|mark| &*mark.id)
    }

    /// About how many bytes it takes in memory: bodies, messages and heads.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let body = |body: &Option<Vec<u8>>| body.as_ref().map_or(0, Vec::len);
        let heads =
            self.detail.request.bytes + self.detail.response.as_ref().map_or(0, |head| head.bytes);
        let messages = self
            .messages
            .iter()
            .map(|message| message.payload.len() + 128);
        2048 + usize::try_from(heads).unwrap_or(usize::MAX / 4)
            + body(&self.request_body)
            + body(&self.response_body)
            + messages.sum::<usize>()
    }
}

impl RunRecord {
    /// A run of this machine.
    pub(crate) fn of(run: Run) -> Self {
        Self {
            uuid: run.uuid,
            id: run.id,
            name: run.name,
            argv: run.argv,
            kind: run.kind,
            pid: run.pid,
            started_at: run.started_at,
            ended_at: run.ended_at,
            exit_code: run.exit_code,
            signal: run.signal,
            origin: Origin::default(),
        }
    }

    /// A run of flows that come from a file, which is its name.
    #[must_use]
    pub fn of_import(name: String, now: Timestamp) -> Self {
        let uuid = Uuid::now_v7();
        Self {
            id: RunId::from_random(uuid.as_u64_pair().1),
            uuid: uuid.to_string(),
            name: Some(name),
            argv: Vec::new(),
            kind: RunKind::Import,
            pid: std::process::id(),
            started_at: now,
            ended_at: Some(now),
            exit_code: None,
            signal: None,
            origin: Origin::default(),
        }
    }
}

/// The UUID of a flow: version 7 (RFC 9562 section 5.7) with the microseconds of its start as section
/// 6.2, method 3, has it, and the 62 lowest of `bits`, which should be random.
#[must_use]
pub fn flow_uuid(started_at: Timestamp, bits: u64) -> String {
    let micros = u64::try_from(started_at.0).unwrap_or(0);
    let (millis, rest) = (micros / 1000, micros % 1000);
    let high = millis << 16 | 0x7000 | (rest * 4096 / 1000);
    let low = 1 << 63 | (bits & (u64::MAX >> 2));
    let uuid = Builder::from_u128(u128::from(high) << 64 | u128::from(low)).into_uuid();
    uuid.hyphenated().to_string()
}

/// The random bits of the UUID of a flow, those that the start does not tell; those of any UUID.
pub(crate) fn trace_bits(uuid: &Uuid) -> i64 {
    let (_, low) = uuid.as_u64_pair();
    i64::try_from(low & (u64::MAX >> 2)).expect("62 bits fit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_holds_the_time_and_the_bits() {
        let at = Timestamp(1_772_442_000_123_456);
        let text = flow_uuid(at, u64::MAX);
        let uuid = Uuid::try_parse(&text).unwrap();
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(trace_bits(&uuid), i64::MAX >> 1);
        assert_eq!(uuid.as_u64_pair().0 >> 16, 1_772_442_000_123);
        assert_eq!(
            flow_uuid(Timestamp(-5), 0),
            "00000000-0000-7000-8000-000000000000"
        );
    }
}
