//! Turns what the engine reports into what a handler is told.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use traffic::wire::stream::{self, MessageKind as StreamMessageKind, StreamItem};
use traffic::wire::websocket::{Close, MessageKind, Observation};
use traffic::{Event, FlowId, FlowKind, Head, Sender, Streamed, Version};

use super::{BodyView, FrameKind, Gate, Hold, LaneKey, RawResponse, StreamChunk, Work};
use crate::tap::{ReadStreams, Watcher};

/// Watches for a handler, and for another watcher behind it.
pub(crate) struct Observer {
    gate: Arc<Gate>,
    behind: Option<Arc<dyn Watcher>>,
    flows: Mutex<HashMap<FlowId, Observed>>,
}

/// What is known of one flow that is under way.
struct Observed {
    key: LaneKey,
    websocket: bool,
    response: Option<Response>,
    /// Messages told of each direction.
    sequence: [u64; 2],
    /// Something of a stream was told, so its end will be.
    streams: bool,
}

struct Response {
    head: Head,
    /// `None` for a stream, whose messages are told one by one.
    body: Option<BytesMut>,
    truncated: bool,
    hold: Hold,
}

impl Observer {
    /// Watches for the handler of the gate; `behind` is handed every event as well.
    pub(crate) fn new(gate: Arc<Gate>, behind: Option<Arc<dyn Watcher>>) -> Self {
        Self {
            gate,
            behind,
            flows: Mutex::default(),
        }
    }

    fn observe(&self, event: &Event) {
        let mut flows = self.flows.lock();
        match event {
            Event::FlowStarted(started) => {
                let own = LaneKey::Flow(started.flow);
                let connection = LaneKey::Connection(started.connection.connection);
                let observed = Observed {
                    key: if self.gate.knows(own) {
                        own
                    } else {
                        connection
                    },
                    websocket: started.kind == FlowKind::WebSocket,
                    response: None,
                    sequence: [0; 2],
                    streams: false,
                };
                flows.insert(started.flow, observed);
            }
            Event::ResponseStarted { flow, head, .. } => {
                if let Some(observed) = flows.get_mut(flow) {
                    self.response_started(observed, head);
                }
            }
            Event::ResponseData { flow, data, .. } => {
                if let Some(observed) = flows.get_mut(flow) {
                    self.response_data(observed, data);
                }
            }
            Event::ResponseEnded { flow, size, .. } => {
                if let Some(observed) = flows.get_mut(flow)
                    && let Some(response) = &mut observed.response
                {
                    response.truncated |= size.kept < size.seen;
                    self.response_ended(observed);
                }
            }
            Event::Streamed {
                flow, sender, item, ..
            } => {
                if let Some(observed) = flows.get_mut(flow) {
                    self.streamed(observed, *sender, item);
                }
            }
            Event::FlowEnded { flow, .. } => {
                let observed = flows.remove(flow);
                let streams = |observed: &Observed| observed.streams;
                if let Some(observed) = observed.filter(streams)
                    && self.gate.interests.stream_chunks
                {
                    self.gate.tell(observed.key, Work::StreamEnd);
                }
            }
            Event::UpstreamChosen { .. }
            | Event::Rerouted(_)
            | Event::RequestData { .. }
            | Event::RequestEnded { .. }
            | Event::Informational { .. }
            | Event::CertificateRefused(_)
            | Event::Lost { .. } => {}
        }
    }

    fn response_started(&self, observed: &mut Observed, head: &Head) {
        let content_type = head.field("content-type");
        let content_type = content_type.and_then(|value| std::str::from_utf8(value).ok());
        let opened = observed.websocket && opens(head);
        let streams = opened || content_type.and_then(stream::kind_of).is_some();
        if !streams {
            observed.response = Some(Response {
                head: head.clone(),
                body: Some(BytesMut::new()),
                truncated: false,
                hold: self.gate.hold(),
            });
            return;
        }
        let told = self
            .raw_response(observed.key, head, &[], false)
            .map(Box::new);
        if self.gate.interests.responses
            && let Some(response) = told
        {
            let work = match opened {
                true => Work::WebSocketStart(response),
                false => Work::Response(response),
            };
            observed.streams |= self.gate.tell(observed.key, work);
        }
    }

    fn response_data(&self, observed: &mut Observed, data: &Bytes) {
        if !self.gate.interests.response_bodies {
            return;
        }
        let Some(Response {
            body: Some(body),
            truncated,
            hold,
            ..
        }) = &mut observed.response
        else {
            return;
        };
        let room = self.gate.limits.body_bytes_max.saturating_sub(body.len());
        let shown = data.get(..room).unwrap_or(data);
        // Once something is missing nothing more is added: there would be a hole.
        if *truncated || !hold.grow(shown.len()) {
            *truncated = true;
            return;
        }
        *truncated = shown.len() < data.len();
        body.extend_from_slice(shown);
    }

    fn response_ended(&self, observed: &mut Observed) {
        let Some(response) = observed.response.take() else {
            return;
        };
        if !self.gate.interests.responses {
            return;
        }
        let body = response.body.unwrap_or_default();
        let told = self.raw_response(observed.key, &response.head, &body, response.truncated);
        // What it held, the queue holds from now on.
        drop((body, response.hold));
        if let Some(told) = told {
            self.gate.tell(observed.key, Work::Response(Box::new(told)));
        }
    }

    fn streamed(&self, observed: &mut Observed, sender: Sender, item: &Streamed) {
        if !self.gate.interests.stream_chunks {
            return;
        }
        let Some((frame_kind, payload, truncated)) = piece(item) else {
            return;
        };
        let Some(meta) = self.gate.meta(observed.key) else {
            return;
        };
        let [request, response] = &mut observed.sequence;
        let next = match sender {
            Sender::Client => request,
            Sender::Upstream => response,
        };
        let sequence = *next;
        *next += 1;
        let chunk = StreamChunk {
            connection_id: meta.connection_id,
            payload,
            sequence,
            frame_kind,
            sender,
            truncated,
        };
        observed.streams |= self.gate.tell(observed.key, Work::Chunk(Box::new(chunk)));
    }

    fn raw_response(
        &self,
        key: LaneKey,
        head: &Head,
        body: &[u8],
        truncated: bool,
    ) -> Option<RawResponse> {
        let headers: HeaderMap = head
            .fields()
            .filter_map(|(name, value)| {
                let name = HeaderName::from_bytes(name).ok()?;
                Some((name, HeaderValue::from_bytes(value).ok()?))
            })
            .collect();
        let bytes_max = self.gate.limits.body_bytes_max;
        let (body, body_view) = BodyView::decoded(&headers, body, truncated, bytes_max);
        Some(RawResponse {
            status: head.status()?,
            headers,
            body,
            body_view,
            connection_meta: self.gate.meta(key)?,
        })
    }
}

impl Watcher for Observer {
    fn handle_events(&self, events: &mut Vec<Event>) {
        if self.gate.interests.in_flows() {
            for event in &*events {
                self.observe(event);
            }
        }
        let Some(behind) = &self.behind else {
            return;
        };
        if !behind.watches_flows() {
            events.retain(|event| event.flow().is_none());
        }
        if !events.is_empty() {
            behind.handle_events(events);
        }
    }

    fn watches_flows(&self) -> bool {
        let behind = self.behind.as_ref();
        self.gate.interests.in_flows() || behind.is_some_and(|behind| behind.watches_flows())
    }

    fn streams(&self) -> ReadStreams {
        if self.gate.interests.stream_chunks {
            return ReadStreams::All;
        }
        let behind = self.behind.as_ref();
        let of_flows = behind.filter(|behind| behind.watches_flows());
        of_flows.map_or(ReadStreams::None, |behind| behind.streams())
    }
}

/// True for the answer that opens a WebSocket: 101 in HTTP/1.1, success in HTTP/2 (RFC 8441 section
/// 5). Success in HTTP/1.1 says that the upgrade was not heeded.
fn opens(head: &Head) -> bool {
    match (head.status(), head.version) {
        (Some(200..300), Version::Http2) => true,
        (status, _) => status == Some(101),
    }
}

/// What a handler is told of an item; `None` if nothing.
fn piece(item: &Streamed) -> Option<(FrameKind, Bytes, bool)> {
    match item {
        Streamed::Body(StreamItem::Message(message)) => {
            let kind = match message.kind {
                StreamMessageKind::SseData => FrameKind::SseData,
                StreamMessageKind::NdjsonLine => FrameKind::NdjsonLine,
                StreamMessageKind::GrpcMessage => FrameKind::GrpcMessage,
                StreamMessageKind::EventStreamMessage => FrameKind::EventStreamMessage,
                _ => return None,
            };
            let truncated = message.truncated || !message.complete;
            Some((kind, message.payload.clone(), truncated))
        }
        Streamed::WebSocket(Observation::Message(message)) => {
            let kind = match message.kind {
                MessageKind::Text => FrameKind::WebSocketText,
                MessageKind::Binary => FrameKind::WebSocketBinary,
            };
            let kept = message.payload.len() as u64;
            let truncated = kept < message.payload_bytes || !message.complete;
            Some((kind, message.payload.clone(), truncated))
        }
        Streamed::WebSocket(Observation::Close(close)) => {
            Some((FrameKind::WebSocketClose, close_payload(close), false))
        }
        _ => None,
    }
}

fn close_payload(close: &Close) -> Bytes {
    let mut payload = BytesMut::with_capacity(2 + close.reason.len());
    if let Some(code) = close.code {
        payload.put_u16(code);
    }
    payload.extend_from_slice(&close.reason);
    payload.freeze()
}

impl fmt::Debug for Observer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Observer")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}
