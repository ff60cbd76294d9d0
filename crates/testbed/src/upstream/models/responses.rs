//! OpenAI Responses: `POST /v1/responses`, and its WebSocket, where each message from the client
//! is a request and each to it an event.

use serde_json::{Value, json};

use super::{Ask, CREATED, Say, chat, document, merged, stream};
use crate::message::Body;
use crate::upstream::Received;
use crate::upstream::reply::Reply;

pub(super) fn answer(ask: &Ask<'_>) -> Reply {
    let say = ask.say(tool_name, has_tool_result(&ask.body));
    let reply = if ask.stream {
        stream(events(ask, &say).iter().map(server_sent).collect())
    } else {
        document(&response(ask, &say, "completed"))
    };
    chat::with_headers(reply, ask)
}

/// The events for a message `{"type": "response.create", …}`, each a message. With
/// `"generate": false` a client only opens the conversation.
pub(super) fn answer_message(request: &Received, message: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(message).unwrap_or_default();
    let Some(model) = body["model"].as_str().map(str::to_owned) else {
        let error = json!({ "type": "error", "code": null, "message": "model: field required" });
        return vec![error.to_string()];
    };
    let mut request = request.clone();
    request.body = Body {
        seen: message.len() as u64,
        kept: message.to_vec().into(),
        ..Body::default()
    };
    let is_silent = body["generate"] == false;
    let ask = Ask {
        request: &request,
        body,
        model,
        stream: true,
    };
    let say = ask.say(tool_name, has_tool_result(&ask.body));
    let mut events = events(&ask, &say);
    if is_silent {
        events.retain(|event| event["type"] == "response.created");
        let mut response = response(&ask, &say, "completed");
        response["output"] = json!([]);
        let end = json!({ "type": "response.completed", "sequence_number": 1 });
        events.push(merged(&end, &json!({ "response": response })));
    }
    events.iter().map(Value::to_string).collect()
}

fn server_sent(event: &Value) -> String {
    let name = event["type"].as_str().unwrap_or_default();
    format!("event: {name}\ndata: {event}\n\n")
}

fn tool_name(tool: &Value) -> Option<&str> {
    tool.get("name")?.as_str()
}

fn has_tool_result(body: &Value) -> bool {
    let items = body.get("input").and_then(Value::as_array);
    items.is_some_and(|items| {
        items
            .iter()
            .any(|item| item["type"] == "function_call_output")
    })
}

fn response(ask: &Ask<'_>, say: &Say, status: &str) -> Value {
    let is_complete = status == "completed";
    json!({
        "id": ask.id("resp_"),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": ask.body.get("instructions"),
        "max_output_tokens": null,
        "metadata": {},
        "model": ask.model,
        "output": if is_complete { json!([item(ask, say, status)]) } else { json!([]) },
        "parallel_tool_calls": true,
        "previous_response_id": ask.body.get("previous_response_id"),
        "reasoning": { "effort": null, "summary": null },
        "service_tier": "default",
        "store": true,
        "temperature": 1.0,
        "text": { "format": { "type": "text" } },
        "tool_choice": "auto",
        "tools": ask.body.get("tools").cloned().unwrap_or_else(|| json!([])),
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": is_complete.then(|| usage(ask, say)),
    })
}

fn item(ask: &Ask<'_>, say: &Say, status: &str) -> Value {
    let is_complete = status == "completed";
    match say {
        Say::Text(text) => json!({
            "id": ask.id("msg_"),
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": if is_complete { json!([text_part(text)]) } else { json!([]) },
        }),
        Say::CallTool { name, arguments } => json!({
            "id": ask.id("fc_"),
            "type": "function_call",
            "status": status,
            "call_id": ask.id("call_"),
            "name": name,
            "arguments": if is_complete { arguments } else { "" },
        }),
    }
}

fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn events(ask: &Ask<'_>, say: &Say) -> Vec<Value> {
    let started = response(ask, say, "in_progress");
    let mut log = EventLog::default();
    log.push("response.created", json!({ "response": started }));
    log.push("response.in_progress", json!({ "response": started }));
    log.push(
        "response.output_item.added",
        json!({ "output_index": 0, "item": item(ask, say, "in_progress") }),
    );
    match say {
        Say::Text(text) => push_text(&mut log, ask, say, text),
        Say::CallTool { arguments, .. } => push_call(&mut log, ask, say, arguments),
    }
    log.push(
        "response.output_item.done",
        json!({ "output_index": 0, "item": item(ask, say, "completed") }),
    );
    log.push(
        "response.completed",
        json!({ "response": response(ask, say, "completed") }),
    );
    log.events
}

fn push_text(log: &mut EventLog, ask: &Ask<'_>, say: &Say, text: &str) {
    let place = json!({ "item_id": ask.id("msg_"), "output_index": 0, "content_index": 0 });
    log.push(
        "response.content_part.added",
        merged(&place, &json!({ "part": text_part("") })),
    );
    for piece in say.pieces() {
        let delta = json!({ "delta": piece, "logprobs": [] });
        log.push("response.output_text.delta", merged(&place, &delta));
    }
    let done = json!({ "text": text, "logprobs": [] });
    log.push("response.output_text.done", merged(&place, &done));
    log.push(
        "response.content_part.done",
        merged(&place, &json!({ "part": text_part(text) })),
    );
}

fn push_call(log: &mut EventLog, ask: &Ask<'_>, say: &Say, arguments: &str) {
    let place = json!({ "item_id": ask.id("fc_"), "output_index": 0 });
    for piece in say.pieces() {
        log.push(
            "response.function_call_arguments.delta",
            merged(&place, &json!({ "delta": piece })),
        );
    }
    log.push(
        "response.function_call_arguments.done",
        merged(&place, &json!({ "arguments": arguments })),
    );
}

/// Events with the running number that each of them carries.
#[derive(Default)]
struct EventLog {
    events: Vec<Value>,
}

impl EventLog {
    fn push(&mut self, name: &str, fields: Value) {
        let number = json!({ "type": name, "sequence_number": self.events.len() });
        self.events.push(merged(&number, &fields));
    }
}

fn usage(ask: &Ask<'_>, say: &Say) -> Value {
    let (input, output) = (ask.input_tokens(), say.output_tokens());
    json!({
        "input_tokens": input,
        "input_tokens_details": { "cached_tokens": 0 },
        "output_tokens": output,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": input + output,
    })
}
