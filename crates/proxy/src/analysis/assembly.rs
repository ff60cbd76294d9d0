//! Makes messages of events: collects bodies, reads the few fields that name a request.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Map, Value};
use traffic::wire::encoding::{self, Note};
use traffic::wire::stream::StreamItem;
use traffic::wire::websocket::{MessageKind, Observation};
use traffic::{BodySize, Event, FlowId, FlowStarted, Head, Outcome, Sender, Streamed, Timestamp};
use uuid::Uuid;

use super::{AnalysisMsg, Body, Request, RequestMeta, ResponseDone, StreamChunk};
use crate::limits::{ANALYSIS_BODY_BYTES_MAX, ANALYSIS_COLLECTED_BYTES_MAX};

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    flows: HashMap<FlowId, Flow>,
    /// Octets collected over all flows.
    collected: usize,
}

#[derive(Debug)]
struct Flow {
    id: Uuid,
    started: Box<FlowStarted>,
    request: Collected,
    request_told: bool,
    response_head: Option<Head>,
    response: Collected,
    /// Told in chunks, so that it is not collected besides: the request, the response.
    streams: [bool; 2],
    chunks: u64,
    usage: Map<String, Value>,
}

/// A body while it comes.
#[derive(Debug, Default)]
struct Collected {
    bytes: Vec<u8>,
    size: u64,
    truncated: bool,
    ended: bool,
}

impl Assembly {
    /// Takes an event; `lost` events of its flow were lost before it.
    pub(super) fn handle(&mut self, event: Event, lost: u64, out: &mut dyn FnMut(AnalysisMsg)) {
        if let Event::FlowStarted(started) = event {
            self.flows.insert(started.flow, Flow::new(started));
            return;
        }
        let Some(id) = event.flow() else { return };
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        match event {
            Event::RequestData { data, .. } => {
                let [streams, _] = flow.streams;
                flow.request.push(&data, streams, &mut self.collected);
            }
            Event::RequestEnded { size, .. } => {
                flow.request.end(size);
                flow.tell_request(&mut self.collected, out);
            }
            Event::ResponseStarted { head, .. } => flow.response_head = Some(head),
            Event::ResponseData { data, .. } => {
                let [_, streams] = flow.streams;
                flow.response.push(&data, streams, &mut self.collected);
            }
            Event::ResponseEnded { size, .. } => flow.response.end(size),
            Event::Streamed {
                at, sender, item, ..
            } => {
                if let Some(chunk) = flow.chunk(at, sender, *item) {
                    flow.begin_stream(sender, &mut self.collected);
                    flow.tell_request(&mut self.collected, out);
                    flow.learn_usage(&chunk);
                    flow.chunks += 1;
                    out(AnalysisMsg::StreamChunk(Box::new(chunk)));
                }
            }
            Event::FlowEnded { at, outcome, .. } => {
                if let Some(mut flow) = self.flows.remove(&id) {
                    flow.tell_request(&mut self.collected, out);
                    flow.tell_end(at, outcome, lost, &mut self.collected, out);
                }
            }
            Event::FlowStarted(_)
            | Event::UpstreamChosen { .. }
            | Event::Rerouted(_)
            | Event::Informational { .. }
            | Event::BodyCut { .. }
            | Event::CertificateRefused(_)
            | Event::Lost { .. } => {}
        }
    }
}

impl Flow {
    fn new(started: Box<FlowStarted>) -> Self {
        Self {
            id: Uuid::now_v7(),
            started,
            request: Collected::default(),
            request_told: false,
            response_head: None,
            response: Collected::default(),
            streams: [false; 2],
            chunks: 0,
            usage: Map::new(),
        }
    }

    /// A chunk of a body comes, so what was collected of it is not needed.
    fn begin_stream(&mut self, sender: Sender, collected: &mut usize) {
        let [request, response] = &mut self.streams;
        let (streams, body) = match sender {
            Sender::Client => (request, &mut self.request),
            Sender::Upstream => (response, &mut self.response),
        };
        *streams = true;
        *collected -= std::mem::take(&mut body.bytes).len();
    }

    /// Tells the request, once: when it is whole, or when something has to be told after it.
    fn tell_request(&mut self, collected: &mut usize, out: &mut dyn FnMut(AnalysisMsg)) {
        if std::mem::replace(&mut self.request_told, true) {
            return;
        }
        let head = self.started.head.clone();
        let body = self.request.take(Some(&head), collected);
        let json = json_object(&body.bytes).unwrap_or_default();
        let target = head.request_line().map_or("", |(_, target)| target);
        let meta = RequestMeta {
            id: self.id,
            tenant: format!("mitm-{}", self.started.target.host),
            endpoint: path_of(target).to_owned(),
            model: json.get("model").and_then(Value::as_str).map(str::to_owned),
            stream: json.get("stream").and_then(Value::as_bool) == Some(true),
        };
        out(AnalysisMsg::Request(Box::new(Request {
            meta,
            at: self.started.at,
            head,
            body,
        })));
    }

    fn tell_end(
        &mut self,
        at: Timestamp,
        outcome: Outcome,
        lost: u64,
        collected: &mut usize,
        out: &mut dyn FnMut(AnalysisMsg),
    ) {
        let head = self.response_head.take();
        let body = self.response.take(head.as_ref(), collected);
        if let Some(json) = json_object(&body.bytes) {
            merge_usage(&mut self.usage, &json);
        }
        let (replied, failure) = match outcome {
            Outcome::Completed => (None, None),
            Outcome::Failed { failure, replied } => (replied, Some(failure.text)),
        };
        let status = head.as_ref().and_then(Head::status);
        let missing = || (lost > 0).then(|| format!("{lost} events were lost"));
        let usage = std::mem::take(&mut self.usage);
        out(AnalysisMsg::ResponseDone(Box::new(ResponseDone {
            id: self.id,
            at,
            status: status.or(replied),
            usage: (!usage.is_empty()).then(|| usage.into()),
            head,
            body,
            chunks: self.chunks,
            incomplete: failure.or_else(missing),
        })));
    }

    fn chunk(&self, at: Timestamp, sender: Sender, item: Streamed) -> Option<StreamChunk> {
        let (kind, event, payload, truncated) = match item {
            Streamed::Body(StreamItem::Message(message)) => (
                message.kind.code(),
                message.name,
                message.payload,
                message.truncated || !message.complete,
            ),
            Streamed::WebSocket(Observation::Message(message)) => {
                let kind = match message.kind {
                    MessageKind::Text => "websocket_text",
                    MessageKind::Binary => "websocket_binary",
                };
                let cut = (message.payload.len() as u64) < message.payload_bytes;
                (kind, None, message.payload, cut || !message.complete)
            }
            _ => return None,
        };
        Some(StreamChunk {
            id: self.id,
            at,
            sender,
            kind,
            event: event.map(|name| name.to_string()),
            payload,
            truncated,
        })
    }

    /// Most chunks say nothing of it, and are not parsed for it.
    fn learn_usage(&mut self, chunk: &StreamChunk) {
        if chunk.sender == Sender::Upstream
            && memchr::memmem::find(&chunk.payload, b"\"usage").is_some()
            && let Some(json) = json_object(&chunk.payload)
        {
            merge_usage(&mut self.usage, &json);
        }
    }
}

impl Collected {
    /// Counts data, and collects it unless it is told in chunks.
    fn push(&mut self, data: &[u8], streams: bool, collected: &mut usize) {
        self.size += data.len() as u64;
        if streams {
            return;
        }
        let own = ANALYSIS_BODY_BYTES_MAX.saturating_sub(self.bytes.len());
        let all = ANALYSIS_COLLECTED_BYTES_MAX.saturating_sub(*collected);
        let kept = data.get(..own.min(all)).unwrap_or(data);
        self.bytes.extend_from_slice(kept);
        self.truncated |= kept.len() < data.len();
        *collected += kept.len();
    }

    /// The body has ended with this size.
    fn end(&mut self, size: BodySize) {
        self.truncated |= size.kept < size.seen;
        self.size = size.seen;
        self.ended = true;
    }

    fn take(&mut self, head: Option<&Head>, collected: &mut usize) -> Body {
        let bytes = std::mem::take(&mut self.bytes);
        *collected -= bytes.len();
        self.truncated |= !self.ended && self.size > 0;
        let codings = head.map(codings_of).unwrap_or_default();
        if codings.is_empty() || bytes.is_empty() {
            return Body {
                bytes: bytes.into(),
                size: self.size,
                truncated: self.truncated,
                encoding_error: None,
            };
        }
        let decoded = encoding::decode(&codings, &bytes, ANALYSIS_BODY_BYTES_MAX);
        let cut = matches!(decoded.note, Some(Note::TooLarge { .. }));
        // Of a body that was cut the end of its coding is missing, which is no error of it.
        let error = decoded.note.filter(|_| !cut && !self.truncated);
        Body {
            bytes: Bytes::from(decoded.bytes.into_owned()),
            size: self.size,
            truncated: self.truncated || cut,
            encoding_error: error.map(|note| note.to_string()),
        }
    }
}

/// All values of Content-Encoding, in order.
fn codings_of(head: &Head) -> String {
    let fields = head.fields();
    let values: Vec<&str> = fields
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"content-encoding"))
        .filter_map(|(_, value)| std::str::from_utf8(value).ok())
        .collect();
    values.join(",")
}

/// The path of a request target in any of its forms (RFC 9112 section 3.2).
fn path_of(target: &str) -> &str {
    let path = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => {
            rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => target,
    };
    path.split('?').next().unwrap_or_default()
}

/// The object that these bytes are, if they are one.
fn json_object(bytes: &[u8]) -> Option<Map<String, Value>> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(bytes).ok()
}

/// Adds the usage that a response or an event of one tells: `usage` or `usageMetadata`, in the
/// object itself or in its `response` or `message`.
fn merge_usage(usage: &mut Map<String, Value>, json: &Map<String, Value>) {
    let inner = ["response", "message"].map(|name| json.get(name).and_then(Value::as_object));
    for object in inner.into_iter().flatten().chain([json]) {
        for name in ["usage", "usageMetadata"] {
            if let Some(Value::Object(found)) = object.get(name) {
                let told = found.iter().filter(|(_, value)| !value.is_null());
                usage.extend(told.map(|(name, value)| (name.clone(), value.clone())));
            }
        }
    }
}

#[cfg(test)]
mod tests;
