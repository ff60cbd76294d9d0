//! What analyzers get, and how it looks as JSON.

use bytes::Bytes;
use serde_json::{Value, json};
use traffic::{Head, Sender, Timestamp};
use uuid::Uuid;

use super::text::insert_text;

/// One thing that was seen of a flow.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AnalysisMsg {
    /// A request passed; once for each flow, before anything else of it.
    Request(Box<Request>),
    /// A message of a stream or a WebSocket passed.
    StreamChunk(Box<StreamChunk>),
    /// The flow is over; once, last.
    ResponseDone(Box<ResponseDone>),
    /// What an analyzer found out.
    Record(Box<Record>),
}

/// What names a request, and what its body says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestMeta {
    /// Names the flow in all its messages. Unique across restarts, and ordered by time (UUIDv7).
    pub id: Uuid,
    /// Whose traffic it is: `mitm-` and the host, for example `mitm-api.openai.com`.
    pub tenant: String,
    /// The path without its query, for example `/v1/responses`.
    pub endpoint: String,
    /// The text field `model` of a JSON body.
    pub model: Option<String>,
    /// Whether the field `stream` of a JSON body is true.
    pub stream: bool,
}

/// A request that passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What names it.
    pub meta: RequestMeta,
    /// When its first byte was seen.
    pub at: Timestamp,
    /// Its head, as it came.
    pub head: Head,
    /// Its body; empty if it is told as chunks.
    pub body: Body,
}

/// A message of a stream: a server-sent event, a line, a gRPC or WebSocket message.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamChunk {
    /// The flow.
    pub id: Uuid,
    /// When its last byte was seen.
    pub at: Timestamp,
    /// Who sent it.
    pub sender: Sender,
    /// A stable name of what it is: `sse_data`, `ndjson_line`, `grpc_message`, `grpc_trailers`,
    /// `eventstream_message`, `websocket_text` or `websocket_binary`.
    pub kind: &'static str,
    /// The name of a server-sent event or of an AWS event, where it has one.
    pub event: Option<String>,
    /// What it says, without framing, decompressed.
    pub payload: Bytes,
    /// Whether `payload` is not all of it.
    pub truncated: bool,
}

/// How a flow ended.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseDone {
    /// The flow.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// The status that the client got; `None` if it got none.
    pub status: Option<u16>,
    /// The object `usage` (or `usageMetadata`) of a JSON response as it stands there. Of a stream
    /// the fields of all its messages that have one, the later ones over the earlier.
    pub usage: Option<Value>,
    /// The head of the response, as it came; `None` if none came.
    pub head: Option<Head>,
    /// Its body; empty if it was told as chunks.
    pub body: Body,
    /// How many chunks were told, of both directions.
    pub chunks: u64,
    /// Why the flow is not whole: what broke it, or that a part of it was lost on the way to the
    /// analyzers.
    pub incomplete: Option<String>,
}

/// What is shown of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The bytes from the start on, content codings undone, at most
    /// [`ANALYSIS_BODY_BYTES_MAX`](crate::limits::ANALYSIS_BODY_BYTES_MAX).
    pub bytes: Bytes,
    /// Octets of payload that passed, in their content coding.
    pub size: u64,
    /// Whether `bytes` is not all of it.
    pub truncated: bool,
    /// Why its content codings could not be undone; `bytes` is then what could be read.
    pub encoding_error: Option<String>,
}

/// What an analyzer found out.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Which analyzer, for example `http_parser`.
    pub source: &'static str,
    /// The flow.
    pub id: Uuid,
    /// The moment it is about.
    pub at: Timestamp,
    /// What.
    pub data: Value,
}

impl AnalysisMsg {
    /// The flow it is about.
    #[must_use]
    pub fn id(&self) -> Uuid {
        match self {
            Self::Request(request) => request.meta.id,
            Self::StreamChunk(chunk) => chunk.id,
            Self::ResponseDone(done) => done.id,
            Self::Record(record) => record.id,
        }
    }

    /// As a JSON object: `timestamp` (milliseconds since the Unix epoch), `source` (`request`,
    /// `stream_chunk`, `response_done` or the name of an analyzer), `id` and `data`.
    ///
    /// Heads and bodies are left out; [`HttpParser`](super::HttpParser) makes records of them.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (source, at, data) = match self {
            Self::Request(request) => ("request", request.at, request.to_json()),
            Self::StreamChunk(chunk) => ("stream_chunk", chunk.at, chunk.to_json()),
            Self::ResponseDone(done) => ("response_done", done.at, done.to_json()),
            Self::Record(record) => (record.source, record.at, record.data.clone()),
        };
        json!({
            "timestamp": at.0.div_euclid(1000),
            "source": source,
            "id": self.id().to_string(),
            "data": data,
        })
    }
}

impl Request {
    fn to_json(&self) -> Value {
        let RequestMeta {
            id: _,
            tenant,
            endpoint,
            model,
            stream,
        } = &self.meta;
        json!({
            "tenant": tenant,
            "endpoint": endpoint,
            "model": model,
            "stream": stream,
            "body_size": self.body.size,
        })
    }
}

impl StreamChunk {
    fn to_json(&self) -> Value {
        let mut data = serde_json::Map::new();
        data.insert("sender".into(), sender_name(self.sender).into());
        data.insert("kind".into(), self.kind.into());
        data.insert("event".into(), self.event.as_deref().into());
        data.insert("truncated".into(), self.truncated.into());
        insert_text(&mut data, "payload", &self.payload);
        data.into()
    }
}

impl ResponseDone {
    fn to_json(&self) -> Value {
        json!({
            "status": self.status,
            "usage": self.usage,
            "chunks": self.chunks,
            "body_size": self.body.size,
            "incomplete": self.incomplete,
        })
    }
}

/// `client` or `upstream`.
pub(super) fn sender_name(sender: Sender) -> &'static str {
    match sender {
        Sender::Client => "client",
        Sender::Upstream => "upstream",
    }
}
