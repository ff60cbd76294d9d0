//! The model APIs: errors, streams that agree with the whole answers, and the turn of a tool.

use oriel_testbed::client::{Client, Request, Response};
use oriel_testbed::websocket::{Frame, TEXT};
use serde_json::{Value, json};

use crate::{NAME, start_http};

async fn ask(client: &mut Client, path: &str, body: &Value) -> Response {
    let request = Request::post(path, body.to_string())
        .host(NAME)
        .header("Authorization", "Bearer test")
        .header("Content-Type", "application/json");
    client.request(&request).await.unwrap()
}

async fn ask_json(client: &mut Client, path: &str, body: &Value) -> Value {
    let response = ask(client, path, body).await;
    assert_eq!(response.head.status, 200, "{}", response.text());
    serde_json::from_slice(&response.body.kept).unwrap()
}

/// The JSON of each `data:` line, without the end mark of chat completions.
async fn ask_stream(client: &mut Client, path: &str, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = true.into();
    let response = ask(client, path, &body).await;
    let text = response.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

fn joined(events: &[Value], pointer: &str) -> String {
    events
        .iter()
        .filter_map(|event| event.pointer(pointer)?.as_str())
        .collect()
}

#[tokio::test]
async fn chat_completions_stream_what_they_answer() {
    let (_upstream, mut client) = start_http().await;
    let path = "/v1/chat/completions";
    let messages = json!([{ "role": "user", "content": "are the tests green?" }]);
    let body = json!({ "model": "gpt-5.1", "messages": messages });
    let whole = ask_json(&mut client, path, &body).await;
    let with_usage = json!({
        "model": "gpt-5.1",
        "messages": messages,
        "stream_options": { "include_usage": true },
    });
    let chunks = ask_stream(&mut client, path, &with_usage).await;
    let text = joined(&chunks, "/choices/0/delta/content");
    assert_eq!(whole["choices"][0]["message"]["content"], text.as_str());
    assert!(chunks.last().unwrap()["usage"]["completion_tokens"].as_u64() > Some(5));
}

#[tokio::test]
async fn chat_completions_call_an_offered_tool_once() {
    let (_upstream, mut client) = start_http().await;
    let path = "/v1/chat/completions";
    let tools = json!([{ "type": "function", "function": { "name": "shell" } }]);
    let mut body = json!({ "model": "gpt-5.1", "messages": [], "tools": tools });
    let chunks = ask_stream(&mut client, path, &body).await;
    let arguments = joined(&chunks, "/choices/0/delta/tool_calls/0/function/arguments");
    assert_eq!(arguments, r#"{"command":"cargo test"}"#);
    body["messages"] = json!([{ "role": "tool", "tool_call_id": "x", "content": "ok" }]);
    let whole = ask_json(&mut client, path, &body).await;
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn responses_number_their_events_and_end_with_the_whole() {
    let (_upstream, mut client) = start_http().await;
    let body = json!({ "model": "gpt-5.1", "input": "are the tests green?" });
    let whole = ask_json(&mut client, "/v1/responses", &body).await;
    let events = ask_stream(&mut client, "/v1/responses", &body).await;
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], index);
    }
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(
        last["response"]["output"][0]["content"],
        whole["output"][0]["content"]
    );
    let text = joined(&events, "/delta");
    assert_eq!(whole["output"][0]["content"][0]["text"], text.as_str());
}

#[tokio::test]
async fn messages_name_their_events_and_stream_the_tool_input() {
    let (_upstream, mut client) = start_http().await;
    let body = json!({
        "model": "claude-sonnet-4-5",
        "max_tokens": 100,
        "messages": [{ "role": "user", "content": "run the tests" }],
        "tools": [{ "name": "bash", "input_schema": { "type": "object" } }],
    });
    let whole = ask_json(&mut client, "/v1/messages", &body).await;
    assert_eq!(whole["stop_reason"], "tool_use");
    let events = ask_stream(&mut client, "/v1/messages", &body).await;
    assert_eq!(events[0]["type"], "message_start");
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    let input: Value = serde_json::from_str(&joined(&events, "/delta/partial_json")).unwrap();
    assert_eq!(input, whole["content"][0]["input"]);
}

#[tokio::test]
async fn refusals_look_like_the_companies_own() {
    let (_upstream, mut client) = start_http().await;
    let without_key = Request::post("/v1/messages", "{}").host(NAME);
    let response = client.request(&without_key).await.unwrap();
    assert_eq!(response.head.status, 401);
    let error: Value = serde_json::from_str(&response.text()).unwrap();
    assert_eq!(error["error"]["type"], "authentication_error");
    let response = ask(&mut client, "/v1/responses", &json!({})).await;
    assert_eq!(response.head.status, 400);
}

#[tokio::test]
async fn contents_stream_what_they_answer() {
    let (_upstream, mut client) = start_http().await;
    let path = |action: &str| format!("/v1beta/models/gemini-3-pro:{action}");
    let body =
        json!({ "contents": [{ "role": "user", "parts": [{ "text": "are they green?" }] }] });
    let whole = ask_json(&mut client, &path("generateContent"), &body).await;
    let text = &whole["candidates"][0]["content"]["parts"][0]["text"];
    let action = path("streamGenerateContent?alt=sse");
    let events = ask_stream(&mut client, &action, &body).await;
    let pointer = "/candidates/0/content/parts/0/text";
    assert_eq!(*text, joined(&events, pointer).as_str());
    let array = ask_json(&mut client, &path("streamGenerateContent"), &body).await;
    assert_eq!(*text, joined(array.as_array().unwrap(), pointer).as_str());
    let last = events.last().unwrap();
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    assert_eq!(last["modelVersion"], "gemini-3-pro");
}

#[tokio::test]
async fn contents_call_an_offered_tool_once() {
    let (_upstream, mut client) = start_http().await;
    let path = "/v1beta/models/gemini-3-pro:generateContent";
    let tools = json!([{ "functionDeclarations": [{ "name": "shell" }] }]);
    let mut body = json!({ "contents": [], "tools": tools });
    let call = ask_json(&mut client, path, &body).await;
    let call = &call["candidates"][0]["content"]["parts"][0]["functionCall"];
    assert_eq!(call["name"], "shell");
    assert_eq!(call["args"]["command"], "cargo test");
    let result = json!({ "functionResponse": { "name": "shell", "response": {} } });
    body["contents"] = json!([{ "role": "user", "parts": [result] }]);
    let whole = ask_json(&mut client, path, &body).await;
    assert!(whole["candidates"][0]["content"]["parts"][0]["text"].is_string());
}

#[tokio::test]
async fn responses_by_websocket_are_the_events_of_the_stream() {
    let body = json!({ "model": "gpt-5.1", "input": "are the tests green?" });
    let (_upstream, mut client) = start_http().await;
    let streamed = ask_stream(&mut client, "/v1/responses", &body).await;
    let (_upstream, client) = start_http().await;
    let fields = [("Host", NAME), ("Authorization", "Bearer test")];
    let socket = client.start_websocket("/v1/responses", &fields).await;
    let mut socket = socket.unwrap();
    for (generate, expected) in [(false, 2), (true, streamed.len())] {
        let mut message = body.clone();
        message["type"] = "response.create".into();
        message["generate"] = generate.into();
        let request = Frame::new(TEXT, message.to_string());
        socket.send(&request).await.unwrap();
        let mut types = Vec::new();
        while types.last() != Some(&json!("response.completed")) {
            let frame = socket.read().await.unwrap().unwrap();
            let event: Value = serde_json::from_slice(&frame.payload).unwrap();
            types.push(event["type"].clone());
        }
        assert_eq!(types.len(), expected);
    }
}
