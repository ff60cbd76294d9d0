//! Google's Gemini: `POST /v1beta/models/MODEL:generateContent`, `:streamGenerateContent` and
//! `:countTokens`. The model stands in the path, and a stream is JSON in an array unless the
//! query has `alt=sse`.

use serde_json::{Value, json};

use super::{Ask, Company, EVENT_PAUSE, Say, document, refuse, stream};
use crate::upstream::Received;
use crate::upstream::reply::{Part, Reply, ReplyFraming};

pub(super) fn answer(request: &Received) -> Reply {
    let place = request.path().strip_prefix("/v1beta/models/");
    let Some((model, action)) = place.and_then(|place| place.split_once(':')) else {
        return refuse(Company::Google, 404, "not_found", "no such path");
    };
    let Ok(body) = serde_json::from_slice::<Value>(&request.body.kept) else {
        return refuse(
            Company::Google,
            400,
            "invalid_argument",
            "the body is no JSON",
        );
    };
    let ask = Ask {
        request,
        body,
        model: model.to_owned(),
        stream: action == "streamGenerateContent",
    };
    let say = ask.say(tool_name, has_tool_result(&ask.body));
    match action {
        "generateContent" => document(&chunk(&ask, whole(&say), Some(&say))),
        "streamGenerateContent" if request.query("alt") == Some("sse") => {
            let event = |chunk: Value| format!("data: {chunk}\r\n\r\n");
            stream(chunks(&ask, &say).into_iter().map(event).collect())
        }
        "streamGenerateContent" => array(chunks(&ask, &say)),
        "countTokens" => document(&json!({ "totalTokens": ask.input_tokens() })),
        _ => refuse(Company::Google, 404, "not_found", "no such action"),
    }
}

fn tool_name(tool: &Value) -> Option<&str> {
    tool.get("functionDeclarations")?
        .get(0)?
        .get("name")?
        .as_str()
}

fn has_tool_result(body: &Value) -> bool {
    let contents = body["contents"].as_array().into_iter().flatten();
    let mut parts = contents
        .filter_map(|content| content["parts"].as_array())
        .flatten();
    parts.any(|part| part.get("functionResponse").is_some())
}

fn whole(say: &Say) -> Value {
    match say {
        Say::Text(text) => json!({ "text": text }),
        Say::CallTool { name, arguments } => {
            let arguments = serde_json::from_str::<Value>(arguments).unwrap_or_default();
            json!({ "functionCall": { "name": name, "args": arguments } })
        }
    }
}

/// A call arrives whole, a text in pieces. The last one says how it ended.
fn chunks(ask: &Ask<'_>, say: &Say) -> Vec<Value> {
    let parts: Vec<Value> = match say {
        Say::Text(_) => {
            let pieces = say.pieces().into_iter();
            pieces.map(|text| json!({ "text": text })).collect()
        }
        Say::CallTool { .. } => vec![whole(say)],
    };
    let last = parts.len().saturating_sub(1);
    let numbered = parts.into_iter().enumerate();
    numbered
        .map(|(index, part)| chunk(ask, part, (index == last).then_some(say)))
        .collect()
}

fn chunk(ask: &Ask<'_>, part: Value, end: Option<&Say>) -> Value {
    let mut candidate = json!({
        "content": { "role": "model", "parts": [part] },
        "index": 0,
    });
    let prompt = ask.input_tokens();
    let mut usage = json!({ "promptTokenCount": prompt, "totalTokenCount": prompt });
    if let Some(say) = end {
        candidate["finishReason"] = "STOP".into();
        usage["candidatesTokenCount"] = say.output_tokens().into();
        usage["totalTokenCount"] = (prompt + say.output_tokens()).into();
    }
    json!({
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": ask.model,
        "responseId": ask.id(""),
    })
}

/// One array, an element at a time.
fn array(chunks: Vec<Value>) -> Reply {
    let elements = chunks.into_iter().enumerate().map(|(index, chunk)| {
        let before = if index == 0 { "[" } else { ",\r\n" };
        format!("{before}{chunk}")
    });
    let parts = elements.chain(["]".to_owned()]);
    Reply::new(200, ReplyFraming::Chunked)
        .with("content-type", "application/json; charset=UTF-8")
        .parts(parts.flat_map(|text| [Part::Data(text.into()), Part::Pause(EVENT_PAUSE)]))
}
