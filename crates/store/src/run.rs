//! A run: one `oriel run`, `oriel serve` or `oriel demo`, and what its flows sum up to.

use traffic::Timestamp;

use crate::{FlowRef, RunId};

/// Which command made a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// `oriel run -- command`.
    Run,
    /// `oriel serve`.
    Serve,
    /// `oriel demo`.
    Demo,
    /// `oriel import`: its flows come from a file.
    Import,
}

/// A run that begins.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// A name for people, where one was given.
    pub name: Option<String>,
    /// The command and its arguments; empty where there is none.
    pub argv: Vec<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// Which command made it.
    pub kind: RunKind,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndRun {
    /// When.
    pub ended_at: Timestamp,
    /// The exit code of its command, where it had one and returned.
    pub exit_code: Option<i32>,
    /// The signal that ended its command.
    pub signal: Option<i32>,
}

/// A stored run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The id people type.
    pub id: RunId,
    /// UUIDv7.
    pub uuid: String,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// Which command made it.
    pub kind: RunKind,
    /// The process that wrote it.
    pub pid: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; `None` while it lasts, or if its process died.
    pub ended_at: Option<Timestamp>,
    /// The exit code of its command.
    pub exit_code: Option<i32>,
    /// The signal that ended its command.
    pub signal: Option<i32>,
    /// How many flows it has.
    pub flows: u64,
}

/// What a run sums up to.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// The run.
    pub run: Run,
    /// HTTP requests, those that opened a WebSocket among them.
    pub requests: u64,
    /// Of these: answered in full with a status below 400.
    pub ok: u64,
    /// Of these: answered in full with a status from 400 on.
    pub error_status: u64,
    /// HTTP requests and tunnels that did not complete, those that were blocked not among them.
    pub failed: u64,
    /// HTTP requests and tunnels that a rule refused.
    pub blocked: u64,
    /// Flows that have not ended yet.
    pub open: u64,
    /// Flows whose recording ended with its process.
    pub interrupted: u64,
    /// Tunnels.
    pub tunnels: u64,
    /// Bytes that went through tunnels, both ways.
    pub tunnel_bytes: u64,
    /// Body bytes of requests.
    pub request_bytes: u64,
    /// Body bytes of responses.
    pub response_bytes: u64,
    /// From the first byte of the request to the last of the response, in milliseconds.
    pub duration_ms: Option<Percentiles>,
    /// From the first byte of the request to the first of the response, in milliseconds.
    pub first_byte_ms: Option<Percentiles>,
    /// Hosts by number of flows, the most first, at most 100.
    pub hosts: Vec<HostCount>,
    /// How many hosts there are.
    pub hosts_total: u64,
    /// The slowest HTTP requests, the slowest first, at most five.
    pub slowest: Vec<(FlowRef, f64)>,
    /// Events that were dropped because the store fell behind or could not write.
    pub lost_events: u64,
    /// Flows of which a body was not kept whole.
    pub truncated_flows: u64,
    /// Flows that went to an upstream whose certificate was not verified.
    pub danger_unverified: u64,
    /// Why flows failed, the most frequent first, at most 50.
    pub failures: Vec<FailureGroup>,
}

/// Two points of a distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentiles {
    /// Half are not above this.
    pub p50: f64,
    /// 95 of 100 are not above this.
    pub p95: f64,
}

/// A host and what went to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCount {
    /// The host.
    pub host: String,
    /// Flows.
    pub flows: u64,
    /// Flows that did not complete.
    pub failed: u64,
}

/// Flows of one host that failed for one reason; where the reason lies with the client, those of one
/// program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureGroup {
    /// The host.
    pub host: String,
    /// On whose side, for example `client`.
    pub side: String,
    /// At which step, for example `tls`.
    pub stage: String,
    /// What kind, for example `client_distrusts`.
    pub kind: String,
    /// The name of the program at the client's end, where the failure is on the client's side and
    /// the program is known.
    pub program: Option<String>,
    /// The sentence of the first of them.
    pub text: String,
    /// How many.
    pub flows: u64,
    /// The first of them.
    pub example: FlowRef,
}

impl RunKind {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Serve => "serve",
            Self::Demo => "demo",
            Self::Import => "import",
        }
    }
    /// Reads the stable name; the schema guards against others.
    pub(crate) fn from_name(name: &str) -> Self {
        match name {
            "serve" => Self::Serve,
            "demo" => Self::Demo,
            "import" => Self::Import,
            _ => Self::Run,
        }
    }
}
