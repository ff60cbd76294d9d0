//! What a WebSocket carried comes back, within bounds.

use std::time::Duration;

use bytes::Bytes;
use oriel_store::limits::{MESSAGE_BYTES_MAX, MESSAGES_KEPT_MAX, PAGE_MESSAGES_MAX};
use oriel_store::{
    FlowState, Message as Body, MessageCounts, Redaction, StoreOptions, StreamMessage,
};
use rusqlite::Connection;
use traffic::wire::websocket::{Close, Coding, Message, MessageKind, Observation, Problem};
use traffic::{BodySize, Event, FlowId, FlowKind, Sender, Streamed, Timestamp};

use crate::script::{Place, START, Script};

fn text(payload: &str) -> Message {
    Message {
        kind: MessageKind::Text,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        payload_bytes: payload.len() as u64,
        wire_bytes: payload.len() as u64,
        frames: 1,
        coding: Coding::Plain,
        complete: true,
    }
}

fn streamed(micros: i64, sender: Sender, observation: Observation) -> Event {
    Event::Streamed {
        flow: FlowId(1),
        at: Timestamp(START + 1000 + micros),
        sender,
        item: Box::new(Streamed::WebSocket(observation)),
    }
}

/// A WebSocket whose messages these are; the first events open it, the last ones end it.
fn websocket(told: Vec<Event>) -> [Vec<Event>; 3] {
    let mut script = Script::new(1);
    script.kind = FlowKind::WebSocket;
    script.request = b"GET /chat HTTP/1.1\r\nHost: api.example.com\r\n\r\n".to_vec();
    script.request_body.clear();
    script.response = Some(b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec());
    script.response_body.clear();
    // Bytes are counted and not told: the messages are.
    script.response_cut = 1000;
    let mut opening = script.events();
    let ending = opening.split_off(3);
    let size = BodySize {
        seen: 1000,
        kept: 0,
    };
    let ended = Event::RequestEnded {
        flow: FlowId(1),
        at: Timestamp(START + 1500),
        size,
        trailers: None,
    };
    [opening, told, [vec![ended], ending].concat()]
}

fn short(message: &StreamMessage) -> String {
    format!(
        "{} {} {} {} {} {}",
        message.sequence,
        message.sender,
        message.kind,
        message.bytes,
        String::from_utf8_lossy(&message.payload),
        if message.is_truncated() { "cut" } else { "" },
    )
}

#[test]
fn messages_come_back_in_order() {
    let long = "long ".repeat(2000);
    let told = || {
        vec![
            streamed(10, Sender::Client, Observation::Message(text("ask"))),
            streamed(
                20,
                Sender::Upstream,
                Observation::Ping(Bytes::from_static(b"?")),
            ),
            streamed(30, Sender::Upstream, Observation::Message(text(&long))),
            streamed(40, Sender::Client, Observation::Note(Problem::NotMasked)),
            streamed(
                50,
                Sender::Client,
                Observation::Close(Close {
                    code: Some(1000),
                    reason: Bytes::from_static(b"bye"),
                }),
            ),
        ]
    };
    let expected = [
        "1 client text 3 ask ".to_owned(),
        "2 upstream ping 1 ? ".to_owned(),
        format!("3 upstream text 10000 {long} "),
        "4 client problem 0 not_masked ".to_owned(),
        "5 client close 3 bye ".to_owned(),
    ];
    // At once, and each step in a batch of its own.
    for in_steps in [false, true] {
        let place = Place::new();
        for part in websocket(told()) {
            place.record(part);
            if in_steps {
                place.flush();
            }
        }
        let reader = place.reader();
        let detail = reader.flow(place.flow(1)).unwrap();
        assert_eq!(detail.row.kind, oriel_store::FlowKind::WebSocket);
        assert_eq!(detail.row.state, FlowState::Completed);
        assert!(!detail.row.truncated);
        assert_eq!(
            detail.messages,
            Some(MessageCounts {
                from_client: 3,
                from_upstream: 2
            })
        );
        let messages = reader.messages(place.flow(1), 0, 100).unwrap();
        assert_eq!(messages.iter().map(short).collect::<Vec<_>>(), expected);
        assert_eq!(messages[4].close_code, Some(1000));
        assert_eq!(messages[0].at.0, START + 1010);
        let page = reader.messages(place.flow(1), 2, 2).unwrap();
        assert_eq!(page, messages[2..4]);
        assert_eq!(reader.body(place.flow(1), Body::Response).unwrap(), None);
    }
}

#[test]
fn an_open_websocket_shows_what_passed_so_far() {
    let place = Place::new();
    let told = vec![streamed(
        10,
        Sender::Client,
        Observation::Message(text("ask")),
    )];
    let [opening, told, _] = websocket(told);
    place.record(opening);
    place.flush();
    place.record(told);
    let reader = place.reader();
    let detail = reader.flow(place.flow(1)).unwrap();
    assert_eq!(detail.row.state, FlowState::Open);
    assert_eq!(detail.messages.unwrap().from_client, 1);
    let messages = reader.messages(place.flow(1), 0, 100).unwrap();
    assert_eq!(
        messages.iter().map(short).collect::<Vec<_>>(),
        ["1 client text 3 ask "]
    );
}

#[test]
fn what_is_too_much_is_counted_and_said() {
    let large = "x".repeat(MESSAGE_BYTES_MAX + 1);
    let place = Place::new();
    let first = streamed(0, Sender::Client, Observation::Message(text(&large)));
    let more = (1..MESSAGES_KEPT_MAX + 10).map(|_| {
        let told = Observation::Message(text("more"));
        streamed(1, Sender::Upstream, told)
    });
    let told = [first].into_iter().chain(more).collect();
    for part in websocket(told) {
        place.record(part);
        place.flush();
    }
    let reader = place.reader();
    let detail = reader.flow(place.flow(1)).unwrap();
    assert!(detail.row.truncated);
    let told = detail.messages.unwrap();
    assert_eq!(
        told.from_client + told.from_upstream,
        MESSAGES_KEPT_MAX + 10
    );
    let first = reader.messages(place.flow(1), 0, usize::MAX).unwrap();
    assert_eq!(first.len(), PAGE_MESSAGES_MAX);
    assert_eq!(first[0].payload.len(), MESSAGE_BYTES_MAX);
    assert!(first[0].is_truncated() && !first[1].is_truncated());
    let last = reader
        .messages(place.flow(1), MESSAGES_KEPT_MAX - 1, 100)
        .unwrap();
    assert_eq!(last.len(), 1);
}

#[test]
fn payloads_go_first_when_the_writer_falls_behind() {
    let mut options = StoreOptions::new(Redaction::Basic);
    options.queue_bytes_max = 200_000;
    let place = Place::with(options);
    let lock = Connection::open(place.path()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let large = "x".repeat(50_000);
    let told = |at| streamed(at, Sender::Upstream, Observation::Message(text(&large)));
    let [opening, told, ending] = websocket((0..10).map(told).collect());
    place.record(opening);
    // The writer takes this batch and cannot write it.
    assert!(place.recorder.flush(Duration::from_millis(200)).is_err());
    for event in told {
        place.record(vec![event]);
    }
    place.record(ending);
    let losses = place.recorder.losses();
    assert!(losses.body_bytes >= 300_000, "{losses:?}");
    lock.execute_batch("ROLLBACK").unwrap();
    let reader = place.reader();
    assert!(reader.flow(place.flow(1)).unwrap().row.truncated);
    let messages = reader.messages(place.flow(1), 0, 100).unwrap();
    assert_eq!(messages.len(), 10);
    assert!(!messages[0].is_truncated() && messages[9].is_truncated());
    assert_eq!(messages[9].bytes, 50_000);
}
