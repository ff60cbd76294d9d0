//! OpenAI Chat Completions: `POST /v1/chat/completions`, and the list of models.

use serde_json::{Value, json};

use super::{Ask, CREATED, Say, document, stream};
use crate::upstream::reply::Reply;

pub(super) fn answer(ask: &Ask<'_>) -> Reply {
    let say = ask.say(tool_name, has_tool_result(&ask.body));
    let reply = if ask.stream {
        stream(chunks(ask, &say))
    } else {
        document(&completion(ask, &say))
    };
    with_headers(reply, ask)
}

pub(super) fn models() -> Reply {
    let model =
        |id: &str| json!({ "id": id, "object": "model", "created": CREATED, "owned_by": "openai" });
    document(&json!({ "object": "list", "data": [model("gpt-5.1"), model("gpt-5.1-mini")] }))
}

/// The headers that OpenAI puts on every answer.
pub(super) fn with_headers(reply: Reply, ask: &Ask<'_>) -> Reply {
    reply
        .with("x-request-id", ask.id("req_"))
        .with("openai-organization", "testbed")
        .with("openai-processing-ms", "137")
        .with("openai-version", "2020-10-01")
        .with("x-ratelimit-limit-requests", "10000")
        .with("x-ratelimit-remaining-requests", "9999")
        .with("x-ratelimit-reset-requests", "6ms")
        .with("x-ratelimit-limit-tokens", "2000000")
        .with("x-ratelimit-remaining-tokens", "1998411")
        .with("x-ratelimit-reset-tokens", "47ms")
}

fn tool_name(tool: &Value) -> Option<&str> {
    tool.get("function")?.get("name")?.as_str()
}

fn has_tool_result(body: &Value) -> bool {
    let messages = body.get("messages").and_then(Value::as_array);
    messages.is_some_and(|messages| messages.iter().any(|message| message["role"] == "tool"))
}

fn completion(ask: &Ask<'_>, say: &Say) -> Value {
    let (message, finish_reason) = match say {
        Say::Text(text) => (
            json!({ "role": "assistant", "content": text, "refusal": null, "annotations": [] }),
            "stop",
        ),
        Say::CallTool { name, arguments } => (
            json!({ "role": "assistant", "content": null, "refusal": null, "tool_calls": [{
                "id": ask.id("call_"),
                "type": "function",
                "function": { "name": name, "arguments": arguments },
            }] }),
            "tool_calls",
        ),
    };
    json!({
        "id": ask.id("chatcmpl-"),
        "object": "chat.completion",
        "created": CREATED,
        "model": ask.model,
        "choices": [{
            "index": 0,
            "message": message,
            "logprobs": null,
            "finish_reason": finish_reason,
        }],
        "usage": usage(ask, say),
        "service_tier": "default",
        "system_fingerprint": "fp_testbed",
    })
}

fn chunks(ask: &Ask<'_>, say: &Say) -> Vec<String> {
    let mut events = vec![chunk(
        ask,
        json!([choice(first_delta(ask, say), None)]),
        None,
    )];
    for piece in say.pieces() {
        let delta = match say {
            Say::Text(_) => json!({ "content": piece }),
            Say::CallTool { .. } => {
                json!({ "tool_calls": [{ "index": 0, "function": { "arguments": piece } }] })
            }
        };
        events.push(chunk(ask, json!([choice(delta, None)]), None));
    }
    let finish_reason = match say {
        Say::Text(_) => "stop",
        Say::CallTool { .. } => "tool_calls",
    };
    events.push(chunk(
        ask,
        json!([choice(json!({}), Some(finish_reason))]),
        None,
    ));
    if ask.body["stream_options"]["include_usage"] == true {
        events.push(chunk(ask, json!([]), Some(usage(ask, say))));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn first_delta(ask: &Ask<'_>, say: &Say) -> Value {
    match say {
        Say::Text(_) => json!({ "role": "assistant", "content": "", "refusal": null }),
        Say::CallTool { name, .. } => {
            json!({ "role": "assistant", "content": null, "tool_calls": [{
            "index": 0,
            "id": ask.id("call_"),
            "type": "function",
            "function": { "name": name, "arguments": "" },
        }] })
        }
    }
}

fn choice(delta: Value, finish_reason: Option<&str>) -> Value {
    json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason })
}

fn chunk(ask: &Ask<'_>, choices: Value, usage: Option<Value>) -> String {
    let mut chunk = json!({
        "id": ask.id("chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": ask.model,
        "service_tier": "default",
        "system_fingerprint": "fp_testbed",
        "choices": choices,
    });
    if let Some(usage) = usage {
        chunk["usage"] = usage;
    }
    format!("data: {chunk}\n\n")
}

fn usage(ask: &Ask<'_>, say: &Say) -> Value {
    let (input, output) = (ask.input_tokens(), say.output_tokens());
    json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input + output,
        "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
