//! Reads the deltas of the three formats whose streams are joined part by part.
//!
//! It knows the names of a few fields and nothing else of what they mean. The formats are described
//! in the reference of OpenAI's API ("Chat Completions" and "Responses", streaming events) and of
//! Anthropic's ("Messages", streaming).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::limits::{MERGED_BYTES_MAX, MERGED_PARTS_MAX};

/// The parts of a stream in one of the formats.
#[derive(Debug)]
pub(super) struct Parts {
    format: Format,
    texts: BTreeMap<Key, String>,
    thinking: BTreeMap<Key, String>,
    calls: BTreeMap<Key, Call>,
    truncated: bool,
}

/// Whether a stream goes on after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    GoesOn,
    Ends,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    OpenAiChat,
    OpenAiResponses,
    AnthropicMessages,
}

/// Where a part stands: a choice and a call in it; an item and a part of it; a block.
type Key = (u64, u64);

/// A call of a tool.
#[derive(Debug, Default)]
struct Call {
    id: String,
    name: String,
    arguments: String,
}

impl Parts {
    /// By the first event of a stream; `None` if it is not in one of the formats.
    pub(super) fn of(first: &[u8]) -> Option<Self> {
        let event: Value = serde_json::from_slice(first).ok()?;
        let format = match event.get("type").and_then(Value::as_str) {
            Some(name) if name.starts_with("response.") => Format::OpenAiResponses,
            Some("message_start" | "ping") => Format::AnthropicMessages,
            _ if event.get("choices").is_some_and(Value::is_array) => Format::OpenAiChat,
            _ => return None,
        };
        Some(Self {
            format,
            texts: BTreeMap::new(),
            thinking: BTreeMap::new(),
            calls: BTreeMap::new(),
            truncated: false,
        })
    }

    pub(super) fn truncated(&self) -> bool {
        self.truncated
    }

    /// Takes an event. One that cannot be read says nothing.
    pub(super) fn push(&mut self, event: &[u8]) -> Step {
        if event.trim_ascii() == b"[DONE]" {
            return Step::Ends;
        }
        let Ok(event) = serde_json::from_slice::<Value>(event) else {
            return Step::GoesOn;
        };
        match self.format {
            Format::OpenAiChat => self.push_chat(&event),
            Format::OpenAiResponses => self.push_response(&event),
            Format::AnthropicMessages => self.push_message(&event),
        }
    }

    pub(super) fn write(self, data: &mut Map<String, Value>) {
        let format = match self.format {
            Format::OpenAiChat => "openai_chat",
            Format::OpenAiResponses => "openai_responses",
            Format::AnthropicMessages => "anthropic_messages",
        };
        let joined = |texts: BTreeMap<Key, String>| texts.into_values().collect::<String>();
        data.insert("format".into(), format.into());
        data.insert("merged_content".into(), joined(self.texts).into());
        if !self.thinking.is_empty() {
            data.insert("thinking".into(), joined(self.thinking).into());
        }
        if !self.calls.is_empty() {
            let calls = self.calls.into_values().map(|call| {
                let Call {
                    id,
                    name,
                    arguments,
                } = call;
                json!({ "id": id, "name": name, "arguments": arguments })
            });
            data.insert("tool_calls".into(), calls.collect());
        }
    }

    fn push_chat(&mut self, event: &Value) -> Step {
        let choices = event.get("choices").and_then(Value::as_array);
        for choice in choices.into_iter().flatten() {
            let index = number(choice, "index");
            let Some(delta) = choice.get("delta") else {
                continue;
            };
            self.text((index, 0), text(delta, "content"));
            // Two names are in use among those who speak this format.
            let thinking = text(delta, "reasoning_content").or_else(|| text(delta, "reasoning"));
            self.thought((index, 0), thinking);
            let calls = delta.get("tool_calls").and_then(Value::as_array);
            for call in calls.into_iter().flatten() {
                let key = (index, number(call, "index"));
                let function = call.get("function").unwrap_or(&Value::Null);
                self.call(key, text(call, "id"), text(function, "name"));
                self.arguments(key, text(function, "arguments"));
            }
        }
        Step::GoesOn
    }

    fn push_response(&mut self, event: &Value) -> Step {
        let item = number(event, "output_index");
        let part = number(event, "content_index");
        let delta = text(event, "delta");
        match text(event, "type").unwrap_or_default() {
            "response.output_text.delta" | "response.refusal.delta" => {
                self.text((item, part), delta);
            }
            "response.reasoning_text.delta" => self.thought((item, part), delta),
            "response.reasoning_summary_text.delta" => {
                self.thought((item, number(event, "summary_index")), delta);
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                self.arguments((item, 0), delta);
            }
            "response.output_item.added" => {
                let item_added = event.get("item").unwrap_or(&Value::Null);
                if let Some(id) = text(item_added, "call_id") {
                    self.call((item, 0), Some(id), text(item_added, "name"));
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" | "error" => {
                return Step::Ends;
            }
            _ => {}
        }
        Step::GoesOn
    }

    fn push_message(&mut self, event: &Value) -> Step {
        let key = (number(event, "index"), 0);
        match text(event, "type").unwrap_or_default() {
            "content_block_start" => {
                let block = event.get("content_block").unwrap_or(&Value::Null);
                match text(block, "type").unwrap_or_default() {
                    "text" => self.text(key, text(block, "text")),
                    "thinking" => self.thought(key, text(block, "thinking")),
                    // tool_use, server_tool_use, mcp_tool_use
                    name if name.ends_with("tool_use") => {
                        self.call(key, text(block, "id"), text(block, "name"));
                    }
                    _ => {}
                }
            }
            "content_block_delta" => {
                let delta = event.get("delta").unwrap_or(&Value::Null);
                self.text(key, text(delta, "text"));
                self.thought(key, text(delta, "thinking"));
                self.arguments(key, text(delta, "partial_json"));
            }
            "message_stop" | "error" => return Step::Ends,
            _ => {}
        }
        Step::GoesOn
    }

    fn text(&mut self, key: Key, delta: Option<&str>) {
        if let Some(delta) = delta {
            let has_room = self.has_room();
            let text = part(&mut self.texts, key, has_room);
            append(text, delta, &mut self.truncated);
        }
    }

    fn thought(&mut self, key: Key, delta: Option<&str>) {
        if let Some(delta) = delta {
            let has_room = self.has_room();
            let text = part(&mut self.thinking, key, has_room);
            append(text, delta, &mut self.truncated);
        }
    }

    /// What names a call comes with its first event, in full.
    fn call(&mut self, key: Key, id: Option<&str>, name: Option<&str>) {
        let has_room = self.has_room();
        let Some(call) = part(&mut self.calls, key, has_room) else {
            self.truncated = true;
            return;
        };
        for (known, told) in [(&mut call.id, id), (&mut call.name, name)] {
            if let Some(told) = told.filter(|_| known.is_empty()) {
                append(Some(known), told, &mut self.truncated);
            }
        }
    }

    fn arguments(&mut self, key: Key, delta: Option<&str>) {
        if let Some(delta) = delta {
            let has_room = self.has_room();
            let call = part(&mut self.calls, key, has_room);
            let arguments = call.map(|call| &mut call.arguments);
            append(arguments, delta, &mut self.truncated);
        }
    }

    fn has_room(&self) -> bool {
        self.texts.len() + self.thinking.len() + self.calls.len() < MERGED_PARTS_MAX
    }
}

/// The part at a key; a new one only if there is room.
fn part<T: Default>(parts: &mut BTreeMap<Key, T>, key: Key, has_room: bool) -> Option<&mut T> {
    match has_room {
        true => Some(parts.entry(key).or_default()),
        false => parts.get_mut(&key),
    }
}

/// Adds to a text as far as there is room, in whole characters.
fn append(text: Option<&mut String>, delta: &str, truncated: &mut bool) {
    let Some(text) = text else {
        *truncated = true;
        return;
    };
    let room = MERGED_BYTES_MAX.saturating_sub(text.len());
    let kept = delta.get(..delta.floor_char_boundary(room));
    let kept = kept.unwrap_or(delta);
    *truncated |= kept.len() < delta.len();
    text.push_str(kept);
}

fn text<'v>(object: &'v Value, name: &str) -> Option<&'v str> {
    object.get(name)?.as_str()
}

fn number(object: &Value, name: &str) -> u64 {
    object.get(name).and_then(Value::as_u64).unwrap_or(0)
}
