//! Anthropic Messages: `POST /v1/messages`, the token count, and the list of models.

use serde_json::{Value, json};

use super::{Ask, Say, document, stream};
use crate::upstream::reply::Reply;

pub(super) fn answer(ask: &Ask<'_>) -> Reply {
    let say = ask.say(tool_name, has_tool_result(&ask.body));
    let reply = if ask.stream {
        stream(events(ask, &say))
    } else {
        document(&message(ask, &say))
    };
    with_headers(reply, ask)
}

pub(super) fn count_tokens(ask: &Ask<'_>) -> Reply {
    with_headers(
        document(&json!({ "input_tokens": ask.input_tokens() })),
        ask,
    )
}

pub(super) fn models() -> Reply {
    let model = |id: &str, name: &str| {
        json!({
            "type": "model",
            "id": id,
            "display_name": name,
            "created_at": "2025-11-21T00:00:00Z",
        })
    };
    document(&json!({
        "data": [model("claude-sonnet-4-5", "Claude Sonnet 4.5")],
        "first_id": "claude-sonnet-4-5",
        "last_id": "claude-sonnet-4-5",
        "has_more": false,
    }))
}

fn with_headers(reply: Reply, ask: &Ask<'_>) -> Reply {
    let reset = "2025-11-21T00:01:00Z";
    reply
        .with("request-id", ask.id("req_"))
        .with(
            "anthropic-organization-id",
            "00000000-0000-4000-8000-000000000001",
        )
        .with("anthropic-ratelimit-requests-limit", "4000")
        .with("anthropic-ratelimit-requests-remaining", "3999")
        .with("anthropic-ratelimit-requests-reset", reset)
        .with("anthropic-ratelimit-input-tokens-limit", "2000000")
        .with("anthropic-ratelimit-input-tokens-remaining", "1999000")
        .with("anthropic-ratelimit-input-tokens-reset", reset)
        .with("anthropic-ratelimit-output-tokens-limit", "400000")
        .with("anthropic-ratelimit-output-tokens-remaining", "399000")
        .with("anthropic-ratelimit-output-tokens-reset", reset)
}

fn tool_name(tool: &Value) -> Option<&str> {
    tool.get("name")?.as_str()
}

fn has_tool_result(body: &Value) -> bool {
    let messages = body
        .get("messages")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let mut blocks = messages
        .filter_map(|message| message.get("content")?.as_array())
        .flatten();
    blocks.any(|block| block["type"] == "tool_result")
}

fn stop_reason(say: &Say) -> &'static str {
    match say {
        Say::Text(_) => "end_turn",
        Say::CallTool { .. } => "tool_use",
    }
}

fn message(ask: &Ask<'_>, say: &Say) -> Value {
    let block = match say {
        Say::Text(text) => json!({ "type": "text", "text": text }),
        Say::CallTool { name, arguments } => json!({
            "type": "tool_use",
            "id": ask.id("toolu_"),
            "name": name,
            "input": serde_json::from_str::<Value>(arguments).unwrap_or_default(),
        }),
    };
    json!({
        "id": ask.id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": [block],
        "stop_reason": stop_reason(say),
        "stop_sequence": null,
        "usage": usage(ask, say.output_tokens()),
    })
}

fn events(ask: &Ask<'_>, say: &Say) -> Vec<String> {
    let mut start = message(ask, say);
    start["content"] = json!([]);
    start["stop_reason"] = Value::Null;
    start["usage"] = usage(ask, 1);
    let mut events = vec![
        event("message_start", json!({ "message": start })),
        event(
            "content_block_start",
            json!({ "index": 0, "content_block": empty_block(ask, say) }),
        ),
        event("ping", json!({})),
    ];
    for piece in say.pieces() {
        let delta = match say {
            Say::Text(_) => json!({ "type": "text_delta", "text": piece }),
            Say::CallTool { .. } => json!({ "type": "input_json_delta", "partial_json": piece }),
        };
        events.push(event(
            "content_block_delta",
            json!({ "index": 0, "delta": delta }),
        ));
    }
    events.push(event("content_block_stop", json!({ "index": 0 })));
    events.push(event(
        "message_delta",
        json!({
            "delta": { "stop_reason": stop_reason(say), "stop_sequence": null },
            "usage": { "output_tokens": say.output_tokens() },
        }),
    ));
    events.push(event("message_stop", json!({})));
    events
}

fn empty_block(ask: &Ask<'_>, say: &Say) -> Value {
    match say {
        Say::Text(_) => json!({ "type": "text", "text": "" }),
        Say::CallTool { name, .. } => {
            json!({ "type": "tool_use", "id": ask.id("toolu_"), "name": name, "input": {} })
        }
    }
}

fn event(name: &str, mut fields: Value) -> String {
    fields["type"] = name.into();
    format!("event: {name}\ndata: {fields}\n\n")
}

fn usage(ask: &Ask<'_>, output_tokens: u64) -> Value {
    json!({
        "input_tokens": ask.input_tokens(),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": { "ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0 },
        "output_tokens": output_tokens,
        "service_tier": "standard",
    })
}
