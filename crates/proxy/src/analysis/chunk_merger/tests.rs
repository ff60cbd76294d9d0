//! What is made of the streams of each format, and that streams do not mix.

use serde_json::json;

use super::*;
use crate::analysis::ResponseDone;
use crate::analysis::samples::{AT, chunk};

fn done(id: Uuid) -> AnalysisMsg {
    AnalysisMsg::ResponseDone(Box::new(ResponseDone {
        id,
        at: AT,
        status: Some(200),
        usage: None,
        head: None,
        body: super::super::Body::default(),
        chunks: 0,
        incomplete: None,
    }))
}

/// The records made of these messages; the ends of flows are left out.
fn records(merger: &mut ChunkMerger, messages: Vec<AnalysisMsg>) -> Vec<Record> {
    let mut next = Next::new();
    for message in messages {
        merger.analyze(message, &mut next);
    }
    of_records(&next)
}

fn of_records(next: &Next) -> Vec<Record> {
    let record = |message: &AnalysisMsg| match message {
        AnalysisMsg::Record(record) => Some(Record::clone(record)),
        _ => None,
    };
    next.messages().iter().filter_map(record).collect()
}

/// The record of one stream of these events.
fn merged(events: &[&str]) -> Value {
    let id = Uuid::from_u128(1);
    let chunks = events
        .iter()
        .map(|event| AnalysisMsg::StreamChunk(Box::new(chunk(id, event.as_bytes().to_vec()))));
    let mut records = records(&mut ChunkMerger::new(), chunks.chain([done(id)]).collect());
    assert_eq!(records.len(), 1, "{records:?}");
    records.remove(0).data
}

#[test]
fn each_format_is_joined_part_by_part() {
    let chat = merged(&[
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}},{"index":1,"delta":{"content":"B"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"Hel"}},{"index":1,"delta":{"content":"b"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"lo "}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"c1","function":{"name":"two","arguments":""}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c0","function":{"name":"one","arguments":"{\"a\""}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}},{"index":1,"function":{"arguments":"{}"}}]}}]}"#,
        r#"{"choices":[],"usage":{"total_tokens":9}}"#,
        "[DONE]",
    ]);
    assert_eq!(chat["format"], "openai_chat");
    assert_eq!(chat["merged_content"], "Hello Bb");
    assert_eq!(chat["thinking"], "hm");
    assert_eq!(
        chat["tool_calls"],
        json!([
            { "id": "c0", "name": "one", "arguments": "{\"a\":1}" },
            { "id": "c1", "name": "two", "arguments": "{}" },
        ])
    );
    assert_eq!(
        (&chat["event_count"], &chat["incomplete"]),
        (&json!(9), &json!(false))
    );

    let responses = merged(&[
        r#"{"type":"response.created","response":{}}"#,
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","id":"r"}}"#,
        r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"because"}"#,
        r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","call_id":"c","name":"run"}}"#,
        r#"{"type":"response.function_call_arguments.delta","output_index":1,"delta":"{"}"#,
        r#"{"type":"response.function_call_arguments.delta","output_index":1,"delta":"}"}"#,
        r#"{"type":"response.output_text.delta","output_index":2,"content_index":0,"delta":"good"}"#,
        r#"{"type":"response.completed","response":{}}"#,
    ]);
    assert_eq!(responses["format"], "openai_responses");
    assert_eq!(responses["merged_content"], "good");
    assert_eq!(responses["thinking"], "because");
    assert_eq!(
        responses["tool_calls"],
        json!([{ "id": "c", "name": "run", "arguments": "{}" }])
    );

    let anthropic = merged(&[
        r#"{"type":"message_start","message":{}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"x"}}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hi"}}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t","name":"run","input":{}}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"x\":2}"}}"#,
        r#"{"type":"message_stop"}"#,
    ]);
    assert_eq!(anthropic["format"], "anthropic_messages");
    assert_eq!(
        (&anthropic["merged_content"], &anthropic["thinking"]),
        (&json!("Hi"), &json!("hm"))
    );
    assert_eq!(
        anthropic["tool_calls"],
        json!([{ "id": "t", "name": "run", "arguments": "{\"x\":2}" }])
    );

    let raw = merged(&["{\"index\":0}", "no json", ""]);
    assert_eq!(raw["format"], "raw");
    assert_eq!(raw["merged_content"], "{\"index\":0}no json");
    assert_eq!(
        (&raw["event_count"], &raw["total_size"]),
        (&json!(3), &json!(18))
    );
    assert_eq!(raw["incomplete"], false);
}

#[test]
fn a_stream_without_its_last_event_is_incomplete() {
    let chat = merged(&[r#"{"choices":[{"delta":{"content":"He"}}]}"#, "cut {"]);
    assert_eq!(
        (&chat["merged_content"], &chat["incomplete"]),
        (&json!("He"), &json!(true))
    );
}

#[test]
fn streams_never_mix() {
    let ids = [Uuid::from_u128(1), Uuid::from_u128(2)];
    let mut messages = Vec::new();
    for round in 0..100 {
        for (name, id) in ["a", "b"].into_iter().zip(ids) {
            for sender in [Sender::Client, Sender::Upstream] {
                let mut chunk = chunk(id, format!("{name}-{}-{round} ", sender_name(sender)));
                chunk.sender = sender;
                messages.push(AnalysisMsg::StreamChunk(Box::new(chunk)));
            }
        }
    }
    messages.extend(ids.map(done));
    let records = records(&mut ChunkMerger::new(), messages);
    assert_eq!(records.len(), 4);
    for record in records {
        let name = if record.id == ids[0] { "a" } else { "b" };
        let sender = record.data["sender"].as_str().unwrap();
        let expected: String = (0..100)
            .map(|round| format!("{name}-{sender}-{round} "))
            .collect();
        assert_eq!(record.data["merged_content"], expected);
    }
}

#[test]
fn each_response_in_one_stream_is_told_when_it_ends() {
    let id = Uuid::from_u128(1);
    let mut messages = Vec::new();
    for text in ["one", "two"] {
        let mut create = chunk(id, r#"{"type":"response.create"}"#);
        create.sender = Sender::Client;
        messages.push(create);
        for event in [
            r#"{"type":"response.created"}"#.to_owned(),
            format!(r#"{{"type":"response.output_text.delta","delta":"{text}"}}"#),
            r#"{"type":"response.completed"}"#.to_owned(),
        ] {
            messages.push(chunk(id, event));
        }
    }
    let messages = messages
        .into_iter()
        .map(|chunk| AnalysisMsg::StreamChunk(Box::new(chunk)));
    let mut merger = ChunkMerger::new();
    let told = records(&mut merger, messages.collect());
    let texts: Vec<&Value> = told
        .iter()
        .map(|record| &record.data["merged_content"])
        .collect();
    assert_eq!(texts, ["one", "two"]);
    let rest = records(&mut merger, vec![done(id)]);
    assert_eq!(rest.len(), 1, "what the client sent is left: {rest:?}");
    assert_eq!(rest[0].data["format"], "raw");
}

#[test]
fn texts_and_streams_have_bounds() {
    let id = |number: usize| Uuid::from_u128(number as u128);
    let long = vec![b'x'; MERGED_BYTES_MAX];
    let mut merger = ChunkMerger::new();
    let chunks = [long.clone(), long].map(|text| chunk(id(0), text));
    let messages = chunks.map(|chunk| AnalysisMsg::StreamChunk(Box::new(chunk)));
    let record = &records(
        &mut merger,
        messages.into_iter().chain([done(id(0))]).collect(),
    )[0];
    let kept = record.data["merged_content"].as_str().unwrap();
    assert_eq!(
        (kept.len(), &record.data["truncated"]),
        (MERGED_BYTES_MAX, &json!(true))
    );

    let chunks = (0..=MERGED_STREAMS_MAX).map(|number| chunk(id(number), number.to_string()));
    let messages = chunks.map(|chunk| AnalysisMsg::StreamChunk(Box::new(chunk)));
    let evicted = records(&mut merger, messages.collect());
    assert_eq!(evicted.len(), 1);
    assert_eq!(
        (evicted[0].id, &evicted[0].data["incomplete"]),
        (id(0), &json!(true))
    );
    let mut next = Next::new();
    merger.finish(&mut next);
    assert_eq!(of_records(&next).len(), MERGED_STREAMS_MAX);
}
