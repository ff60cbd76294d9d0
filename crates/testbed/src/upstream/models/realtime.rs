//! OpenAI Realtime: a WebSocket on `/v1/realtime?model=…` whose messages are events of both sides.
//!
//! A client adds items, or appends audio and commits it, and asks for a response, which comes in
//! pieces of text. Audio is counted, not heard.

use serde_json::{Value, json};

use super::{TEXT, merged};
use crate::upstream::Received;

/// One conversation.
#[derive(Debug)]
pub(in crate::upstream) struct Session {
    model: String,
    /// Events sent so far, for ids.
    sent: u64,
    items: u64,
    responses: u64,
    /// Octets of audio that were appended, in base64, and not committed.
    audio_bytes: usize,
}

impl Session {
    pub(in crate::upstream) fn new(request: &Received) -> Self {
        Self {
            model: request.query("model").unwrap_or("gpt-realtime").to_owned(),
            sent: 0,
            items: 0,
            responses: 0,
            audio_bytes: 0,
        }
    }

    /// What is said before the client says anything.
    pub(in crate::upstream) fn opening(&mut self) -> Vec<String> {
        let session = self.session(&json!({}));
        vec![self.event("session.created", json!({ "session": session }))]
    }

    /// The events for an event of the client.
    pub(in crate::upstream) fn answer(&mut self, message: &[u8]) -> Vec<String> {
        let asked: Value = serde_json::from_slice(message).unwrap_or_default();
        match asked["type"].as_str().unwrap_or_default() {
            "session.update" => {
                let session = self.session(&asked["session"]);
                vec![self.event("session.updated", json!({ "session": session }))]
            }
            "conversation.item.create" => self.add(&asked["item"]),
            "input_audio_buffer.append" => {
                self.audio_bytes += asked["audio"].as_str().map_or(0, str::len);
                Vec::new()
            }
            "input_audio_buffer.commit" => self.commit(),
            "response.create" => self.respond(),
            other => vec![self.error(&format!("no event is called {other:?}"))],
        }
    }

    fn session(&self, with: &Value) -> Value {
        let session = json!({
            "type": "realtime",
            "object": "realtime.session",
            "id": "sess_testbed",
            "model": self.model,
            "output_modalities": ["text"],
        });
        merged(&session, with)
    }

    fn add(&mut self, item: &Value) -> Vec<String> {
        self.items += 1;
        let named = json!({ "id": format!("item_{}", self.items), "status": "completed" });
        let item = merged(&named, item);
        ["conversation.item.added", "conversation.item.done"]
            .map(|name| self.event(name, json!({ "item": item })))
            .into()
    }

    fn commit(&mut self) -> Vec<String> {
        if std::mem::take(&mut self.audio_bytes) == 0 {
            return vec![self.error("no audio was appended")];
        }
        let item_id = format!("item_{}", self.items + 1);
        let mut events = vec![self.event(
            "input_audio_buffer.committed",
            json!({ "item_id": item_id }),
        )];
        let content = json!([{ "type": "input_audio", "transcript": null }]);
        let item = json!({ "type": "message", "role": "user", "content": content });
        events.extend(self.add(&item));
        events
    }

    fn respond(&mut self) -> Vec<String> {
        self.responses += 1;
        self.items += 1;
        let response_id = format!("resp_{}", self.responses);
        let item_id = format!("item_{}", self.items);
        let place = json!({
            "response_id": response_id,
            "item_id": item_id,
            "output_index": 0,
            "content_index": 0,
        });
        let item = |status: &str, content: Value| {
            json!({
                "id": item_id,
                "type": "message",
                "role": "assistant",
                "status": status,
                "content": content,
            })
        };
        let response = |status: &str, output: Value, usage: Value| {
            json!({
                "object": "realtime.response",
                "id": response_id,
                "status": status,
                "output": output,
                "usage": usage,
            })
        };
        let begun = response("in_progress", json!([]), Value::Null);
        let whole = item(
            "completed",
            json!([{ "type": "output_text", "text": TEXT }]),
        );
        let usage = json!({ "total_tokens": 40, "input_tokens": 12, "output_tokens": 28 });
        let ended = response("completed", json!([whole]), usage);
        let added = json!({
            "response_id": response_id,
            "output_index": 0,
            "item": item("in_progress", json!([])),
        });
        let done = merged(&added, &json!({ "item": whole }));
        let mut events = vec![
            self.event("response.created", json!({ "response": begun })),
            self.event("response.output_item.added", added),
        ];
        for piece in TEXT.split_inclusive(' ') {
            let delta = merged(&place, &json!({ "delta": piece }));
            events.push(self.event("response.output_text.delta", delta));
        }
        let text = merged(&place, &json!({ "text": TEXT }));
        events.push(self.event("response.output_text.done", text));
        events.push(self.event("response.output_item.done", done));
        events.push(self.event("response.done", json!({ "response": ended })));
        events
    }

    fn error(&mut self, message: &str) -> String {
        let error = json!({ "type": "invalid_request_error", "code": null, "message": message });
        self.event("error", json!({ "error": error }))
    }

    fn event(&mut self, name: &str, fields: Value) -> String {
        self.sent += 1;
        let event = json!({ "type": name, "event_id": format!("event_{}", self.sent) });
        merged(&event, &fields).to_string()
    }
}
