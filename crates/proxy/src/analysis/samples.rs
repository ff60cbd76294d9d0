//! Events and messages as the tests of this module want them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use traffic::wire::stream::{MessageKind, StreamItem, StreamMessage};
use traffic::{
    Action, BodySize, ConnectionFacts, ConnectionId, Event, FlowId, FlowKind, FlowStarted, Front,
    Head, NoTls, Outcome, Route, Scheme, Sender, Streamed, Target, Timestamp, Version,
};
use uuid::Uuid;

use super::StreamChunk;

/// When all of it happens.
pub(super) const AT: Timestamp = Timestamp(1_767_225_600_000_000);

pub(super) fn head(text: &str) -> Head {
    Head {
        version: Version::Http11,
        text: Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// A request with this head comes for `api.test`.
pub(super) fn started(flow: u64, kind: FlowKind, text: &str) -> Event {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    Event::FlowStarted(Box::new(FlowStarted {
        flow: FlowId(flow),
        at: AT,
        kind,
        connection: Arc::new(ConnectionFacts {
            connection: ConnectionId(1),
            client_address: address.into(),
            proxy_address: address.into(),
            accepted_at: AT,
            front: Front::OriginForm,
            hello: None,
            tls: Err(NoTls::PlainHttp),
            tls_done_at: None,
            user: None,
            process: None,
        }),
        scheme: Scheme::Https,
        target: Arc::new(Target::parse("api.test", 443).unwrap()),
        route: Arc::new(Route {
            action: Action::Intercept,
            rule: "all".to_owned(),
        }),
        head: head(text),
    }))
}

pub(super) fn request_data(flow: u64, data: impl Into<Bytes>) -> Event {
    Event::RequestData {
        flow: FlowId(flow),
        at: AT,
        data: data.into(),
    }
}

pub(super) fn request_ended(flow: u64, seen: usize, kept: usize) -> Event {
    let (seen, kept) = (seen as u64, kept as u64);
    Event::RequestEnded {
        flow: FlowId(flow),
        at: AT,
        size: BodySize { seen, kept },
        trailers: None,
    }
}

pub(super) fn response(flow: u64, text: &str) -> Event {
    Event::ResponseStarted {
        flow: FlowId(flow),
        at: AT,
        head: head(text),
    }
}

pub(super) fn response_data(flow: u64, data: impl Into<Bytes>) -> Event {
    Event::ResponseData {
        flow: FlowId(flow),
        at: AT,
        data: data.into(),
    }
}

pub(super) fn response_ended(flow: u64, size: usize) -> Event {
    let size = size as u64;
    Event::ResponseEnded {
        flow: FlowId(flow),
        at: AT,
        size: BodySize {
            seen: size,
            kept: size,
        },
        trailers: None,
    }
}

/// The data of a server-sent event passes.
pub(super) fn streamed(flow: u64, data: &str) -> Event {
    let message = StreamMessage {
        sequence: 0,
        kind: MessageKind::SseData,
        payload: Bytes::copy_from_slice(data.as_bytes()),
        size: data.len() as u64,
        truncated: false,
        complete: true,
        name: None,
        id: None,
        headers: Vec::new(),
        note: None,
    };
    Event::Streamed {
        flow: FlowId(flow),
        at: AT,
        sender: Sender::Upstream,
        item: Box::new(Streamed::Body(StreamItem::Message(message))),
    }
}

pub(super) fn ended(flow: u64) -> Event {
    Event::FlowEnded {
        flow: FlowId(flow),
        at: AT,
        outcome: Outcome::Completed,
        tunnelled: None,
    }
}

/// A message of a stream as analyzers get it.
pub(super) fn chunk(id: Uuid, payload: impl Into<Bytes>) -> StreamChunk {
    StreamChunk {
        id,
        at: AT,
        sender: Sender::Upstream,
        kind: "sse_data",
        event: None,
        payload: payload.into(),
        truncated: false,
    }
}
