//! One request, then its chunks, then its end, whatever the order of the events allows.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use traffic::FlowKind;

use super::*;
use crate::analysis::samples::{
    ended, request_data, request_ended, response, response_data, response_ended, started, streamed,
};

const POST: &str = "POST /v1/chat/completions?beta=1 HTTP/1.1\r\nHost: api.test\r\n\r\n";

fn messages(events: impl IntoIterator<Item = Event>) -> Vec<AnalysisMsg> {
    let (mut assembly, mut messages) = (Assembly::default(), Vec::new());
    for event in events {
        assembly.handle(event, 0, &mut |message| messages.push(message));
    }
    assert_eq!((assembly.collected, assembly.flows.len()), (0, 0));
    messages
}

fn request_of(messages: &[AnalysisMsg]) -> &Request {
    match &messages[0] {
        AnalysisMsg::Request(request) => request,
        other => panic!("no request comes first: {other:?}"),
    }
}

fn done_of(messages: &[AnalysisMsg]) -> &ResponseDone {
    match messages.last() {
        Some(AnalysisMsg::ResponseDone(done)) => done,
        other => panic!("no end comes last: {other:?}"),
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_request_and_its_response_are_two_messages() {
    let asked = r#"{"model":"m-1","stream":true,"messages":[{"content":"hi"}]}"#;
    let answered = r#"{"choices":[],"usage":{"total_tokens":7}}"#;
    let zipped = gzip(answered.as_bytes());
    let messages = messages([
        started(1, FlowKind::Http, POST),
        request_data(1, &asked.as_bytes()[..10]),
        request_data(1, &asked.as_bytes()[10..]),
        request_ended(1, asked.len(), asked.len()),
        response(1, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"),
        response_data(1, zipped.clone()),
        response_ended(1, zipped.len()),
        ended(1),
    ]);
    assert_eq!(messages.len(), 2);
    let request = request_of(&messages);
    assert_eq!(request.body.bytes, asked);
    assert_eq!(request.meta.tenant, "mitm-api.test");
    assert_eq!(request.meta.endpoint, "/v1/chat/completions");
    assert_eq!(request.meta.model.as_deref(), Some("m-1"));
    assert!(request.meta.stream);
    let done = done_of(&messages);
    assert_eq!(done.id, request.meta.id);
    assert_eq!(done.status, Some(200));
    assert_eq!(done.usage, Some(json!({ "total_tokens": 7 })));
    assert_eq!(done.body.bytes, answered);
    assert_eq!(done.body.size, zipped.len() as u64);
    assert_eq!((done.chunks, &done.incomplete), (0, &None));
}

#[test]
fn chunks_stand_between_the_request_and_its_end() {
    // The answer begins before the request has ended.
    let told = messages([
        started(1, FlowKind::Http, POST),
        request_data(1, "half"),
        response(1, "HTTP/1.1 200 OK\r\n\r\n"),
        streamed(
            1,
            r#"{"message":{"usage":{"input_tokens":3,"output_tokens":1}}}"#,
        ),
        response_data(1, "data: the same again\n\n"),
        streamed(1, r#"{"usage":{"output_tokens":9,"input_tokens":null}}"#),
        request_ended(1, 4, 4),
        response_ended(1, 99),
        ended(1),
    ]);
    let kinds: Vec<_> = told
        .iter()
        .map(|message| message.to_json()["source"].clone())
        .collect();
    assert_eq!(
        kinds,
        ["request", "stream_chunk", "stream_chunk", "response_done"]
    );
    assert!(told.iter().all(|message| message.id() == told[0].id()));
    assert!(
        request_of(&told).body.truncated,
        "it was told before its end"
    );
    let done = done_of(&told);
    assert_eq!(done.chunks, 2);
    assert!(done.body.bytes.is_empty(), "it was told in chunks");
    assert_eq!(
        done.usage,
        Some(json!({ "input_tokens": 3, "output_tokens": 9 }))
    );
}

#[test]
fn a_body_is_shown_to_its_bound() {
    let piece = vec![b'x'; ANALYSIS_BODY_BYTES_MAX / 2 + 1];
    let size = piece.len() * 2;
    let told = messages([
        started(1, FlowKind::Http, POST),
        request_data(1, piece.clone()),
        request_data(1, piece),
        request_ended(1, size, size),
        ended(1),
    ]);
    let body = &request_of(&told).body;
    assert_eq!(body.bytes.len(), ANALYSIS_BODY_BYTES_MAX);
    assert_eq!((body.size, body.truncated), (size as u64, true));

    // What a coding inflates to has the same bound, and is no error.
    let zipped = gzip(&vec![0; ANALYSIS_BODY_BYTES_MAX + 1]);
    let told = messages([
        started(1, FlowKind::Http, POST),
        response(1, "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n"),
        response_data(1, zipped.clone()),
        response_ended(1, zipped.len()),
        ended(1),
    ]);
    let body = &done_of(&told).body;
    assert_eq!(body.bytes.len(), ANALYSIS_BODY_BYTES_MAX);
    assert_eq!((body.truncated, &body.encoding_error), (true, &None));
}

#[test]
fn what_cannot_be_decoded_is_shown_with_the_reason() {
    let told = messages([
        started(1, FlowKind::Http, POST),
        response(1, "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n"),
        response_data(1, "no gzip"),
        response_ended(1, 7),
        ended(1),
    ]);
    let body = &done_of(&told).body;
    assert!(body.encoding_error.is_some(), "{body:?}");
}

#[test]
fn an_end_says_what_is_missing() {
    let (mut assembly, mut told) = (Assembly::default(), Vec::new());
    for (event, lost) in [(started(1, FlowKind::Http, POST), 0), (ended(1), 3)] {
        assembly.handle(event, lost, &mut |message| told.push(message));
    }
    assert_eq!(
        told.len(),
        2,
        "the request is told at the latest at the end"
    );
    let done = done_of(&told);
    assert_eq!(done.incomplete.as_deref(), Some("3 events were lost"));
    assert_eq!(done.status, None);
}

#[test]
fn what_belongs_to_no_flow_is_left_out() {
    assert!(messages([response_data(7, "?"), ended(7)]).is_empty());
}

#[test]
fn flows_do_not_mix() {
    let told = messages([
        started(1, FlowKind::Http, "GET /one HTTP/1.1\r\n\r\n"),
        started(2, FlowKind::Http, "GET /two HTTP/1.1\r\n\r\n"),
        response(2, "HTTP/1.1 202 Accepted\r\n\r\n"),
        response(1, "HTTP/1.1 201 Created\r\n\r\n"),
        response_data(1, "one"),
        response_data(2, "two"),
        response_ended(2, 3),
        response_ended(1, 3),
        ended(2),
        ended(1),
    ]);
    let mut seen = HashMap::new();
    for message in &told {
        match message {
            AnalysisMsg::Request(request) => {
                seen.insert(request.meta.id, request.meta.endpoint.clone());
            }
            AnalysisMsg::ResponseDone(done) => {
                let body = std::str::from_utf8(&done.body.bytes).unwrap();
                assert_eq!(seen[&done.id], format!("/{body}"));
            }
            AnalysisMsg::StreamChunk(_) | AnalysisMsg::Record(_) => {}
        }
    }
    assert_eq!((seen.len(), told.len()), (2, 4));
}

#[test]
fn the_path_of_every_form_of_target() {
    for (target, path) in [
        ("/a?b=/c://d", "/a"),
        ("http://h.test/a/b?c", "/a/b"),
        ("http://h.test", "/"),
        ("*", "*"),
        ("h.test:443", "h.test:443"),
        ("", ""),
    ] {
        assert_eq!(path_of(target), path, "{target}");
    }
}
