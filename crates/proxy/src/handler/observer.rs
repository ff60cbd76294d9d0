//! Turns what the engine reports of a connection into what a handler is told. Here it is only sorted
//! and queued: what costs time, the undoing of content codings above all, is left to the task that
//! tells it.

use bytes::{BufMut, Bytes, BytesMut};
use traffic::wire::stream::{self, MessageKind as StreamMessageKind, StreamItem};
use traffic::wire::websocket::{Close, MessageKind, Observation};
use traffic::{Event, FlowKind, Head, Sender, Streamed, Version};

use super::lane::{Passed, Work};
use super::{FrameKind, Hold, Interests, Lane, StreamChunk};

/// What is known of the flow that is under way on a connection, or on a stream of one.
#[derive(Debug)]
pub(super) struct Observed {
    wanted: Interests,
    websocket: bool,
    /// `None` for a stream, whose messages are told one by one.
    response: Option<Response>,
    /// Messages told of each direction.
    sequence: [u64; 2],
    /// Something of a stream was told, so its end will be.
    streams: bool,
}

/// A response on its way.
#[derive(Debug)]
struct Response {
    head: Head,
    body: BytesMut,
    truncated: bool,
    hold: Hold,
}

impl Lane {
    /// Queues what is to be told of these events, which are of this connection id.
    pub(crate) fn observe(&mut self, events: &[Event]) {
        if self.gate.interests.in_flows() {
            for event in events {
                self.observe_one(event);
            }
        }
    }

    fn observe_one(&mut self, event: &Event) {
        if let Event::FlowStarted(started) = event {
            if !self.wanted.in_flows() {
                self.observed = None;
                return;
            }
            self.observed = Some(Box::new(Observed {
                wanted: self.wanted,
                websocket: started.kind == FlowKind::WebSocket,
                response: None,
                sequence: [0; 2],
                streams: false,
            }));
            return;
        }
        // Taken out for as long as it is looked at.
        let Some(mut observed) = self.observed.take() else {
            return;
        };
        match event {
            Event::ResponseStarted { head, .. } => self.response_started(&mut observed, head),
            Event::ResponseData { data, .. } => self.response_data(&mut observed, data),
            Event::ResponseEnded { size, .. } => {
                let cut = size.kept < size.seen;
                self.response_ended(&mut observed, cut);
            }
            Event::Streamed { sender, item, .. } => self.streamed(&mut observed, *sender, item),
            Event::FlowEnded { .. } => {
                if observed.streams && observed.wanted.stream_chunks {
                    self.tell(Work::StreamEnd);
                }
                return;
            }
            Event::FlowStarted(_)
            | Event::UpstreamChosen { .. }
            | Event::Rerouted(_)
            | Event::RequestData { .. }
            | Event::RequestEnded { .. }
            | Event::Informational { .. }
            | Event::BodyCut { .. }
            | Event::CertificateRefused(_)
            | Event::Lost { .. } => {}
        }
        self.observed = Some(observed);
    }

    fn response_started(&self, observed: &mut Observed, head: &Head) {
        let content_type = head.field("content-type");
        let content_type = content_type.and_then(|value| std::str::from_utf8(value).ok());
        let opened = observed.websocket && opens(head);
        let streams = opened || content_type.and_then(stream::kind_of).is_some();
        if !streams {
            observed.response = Some(Response {
                head: head.clone(),
                body: BytesMut::new(),
                truncated: false,
                hold: self.gate.hold(),
            });
            return;
        }
        if observed.wanted.responses {
            let passed = self.passed(head.clone(), Bytes::new(), false);
            let work = match opened {
                true => Work::WebSocketStart(passed),
                false => Work::Response(passed),
            };
            observed.streams |= self.tell(work);
        }
    }

    fn response_data(&self, observed: &mut Observed, data: &Bytes) {
        if !observed.wanted.response_bodies {
            return;
        }
        let Some(response) = &mut observed.response else {
            return;
        };
        let bytes_max = self.gate.limits.body_bytes_max;
        let room = bytes_max.saturating_sub(response.body.len());
        let shown = data.get(..room).unwrap_or(data);
        // Once something is missing nothing more is added: there would be a hole.
        if response.truncated || !response.hold.grow(shown.len()) {
            response.truncated = true;
            return;
        }
        response.truncated = shown.len() < data.len();
        response.body.extend_from_slice(shown);
    }

    fn response_ended(&self, observed: &mut Observed, cut: bool) {
        let Some(response) = observed.response.take() else {
            return;
        };
        if !observed.wanted.responses {
            return;
        }
        // What it held, the queue holds from now on.
        drop(response.hold);
        let truncated = response.truncated || cut;
        let passed = self.passed(response.head, response.body.freeze(), truncated);
        self.tell(Work::Response(passed));
    }

    fn streamed(&self, observed: &mut Observed, sender: Sender, item: &Streamed) {
        if !observed.wanted.stream_chunks {
            return;
        }
        let Some((frame_kind, payload, truncated)) = piece(item) else {
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
            connection_id: self.inner.id,
            payload,
            sequence,
            frame_kind,
            sender,
            truncated,
        };
        observed.streams |= self.tell(Work::Chunk(Box::new(chunk)));
    }

    fn passed(&self, head: Head, body: Bytes, truncated: bool) -> Box<Passed> {
        Box::new(Passed {
            head,
            body,
            truncated,
            meta: self.inner.meta(),
        })
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
