//! Files that flows are written to and read from.

use std::sync::Arc;

use oriel_store::{
    FlowKind, FlowRecord, FlowState, FlowWriter, Format, Found, Import, Importer, Place as At,
    ReadError, Reader, Redaction, RunKind, RunRecord,
};
use serde_json::{Value, json};
use traffic::Timestamp;

use crate::copies::{record_all_sorts, records};
use crate::script::{Place, START};

pub(crate) fn all_sorts() -> Vec<FlowRecord> {
    let place = Place::new();
    record_all_sorts(&place);
    place.flush();
    records(&place.path(), 100)
}

pub(crate) fn written(format: Format, records: &[FlowRecord]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = FlowWriter::begin(format, &mut out).unwrap();
    let count = records
        .iter()
        .filter(|record| writer.write(record).unwrap())
        .count();
    assert_eq!(writer.finish().unwrap(), count as u64);
    out
}

fn importing(redaction: Redaction) -> Import {
    let run = RunRecord::of_import("a.har".to_owned(), Timestamp(START));
    Import::new(Arc::new(run), redaction)
}

/// What is found, and how reading ended.
fn read(bytes: &[u8]) -> (Vec<Found>, Result<Format, ReadError>) {
    let mut found = Vec::new();
    let outcome = importing(Redaction::Basic).read(bytes, |item| {
        found.push(item);
        Ok(())
    });
    (found, outcome)
}

pub(crate) fn flows(bytes: &[u8]) -> Vec<FlowRecord> {
    let (found, outcome) = read(bytes);
    outcome.unwrap();
    let flow = |item| match item {
        Found::Flow(record) => Some(*record),
        Found::LeftOut { .. } => None,
    };
    let flows: Option<Vec<FlowRecord>> = found.into_iter().map(flow).collect();
    flows.expect("nothing is left out")
}

fn left_out(bytes: &[u8]) -> Vec<String> {
    let (found, outcome) = read(bytes);
    outcome.unwrap();
    let told = found.into_iter().filter_map(|item| match item {
        Found::LeftOut { place, what } => Some(format!("{place}: {what}")),
        Found::Flow(_) => None,
    });
    told.collect()
}

#[test]
fn json_lines_lose_nothing() {
    let records = all_sorts();
    assert!(records.len() > 5);
    let bytes = written(Format::Jsonl, &records);
    assert_eq!(
        bytes.iter().filter(|byte| **byte == b'\n').count(),
        records.len()
    );
    assert_eq!(flows(&bytes), records);
}

#[test]
fn a_har_is_what_its_definition_says() {
    let records = all_sorts();
    let bytes = written(Format::Har, &records);
    let har: Value = serde_json::from_slice(&bytes).unwrap();
    let log = &har["log"];
    assert_eq!(log["version"], "1.2");
    assert_eq!(log["creator"]["name"], "oriel");
    let entries = log["entries"].as_array().unwrap();
    let tunnels = records
        .iter()
        .filter(|record| record.detail.row.kind == FlowKind::Tunnel);
    assert_eq!(entries.len(), records.len() - tunnels.count());
    for entry in entries {
        check_entry(entry);
    }
    let first = &entries[0];
    assert_eq!(
        first["request"]["url"],
        "https://api.example.com/v1/messages?a=1"
    );
    assert_eq!(
        first["request"]["queryString"],
        json!([{"name": "a", "value": "1"}])
    );
    assert_eq!(first["request"]["postData"]["text"], "{\"ask\":1}");
    assert_eq!(first["response"]["content"]["text"], "hello world");
    assert_eq!(first["response"]["content"]["size"], 11);
    assert_eq!(first["response"]["statusText"], "OK");
    let sockets: Vec<&Value> = entries
        .iter()
        .filter(|entry| entry["_webSocketMessages"].is_array())
        .collect();
    assert!(!sockets.is_empty());
    for message in sockets
        .iter()
        .flat_map(|entry| entry["_webSocketMessages"].as_array().unwrap())
    {
        assert!(message["type"] == "send" || message["type"] == "receive");
        assert!(message["time"].as_f64().unwrap() > 1.0e9);
        assert!(message["opcode"].is_u64() && message["data"].is_string());
    }
}

/// The fields that HAR 1.2 demands, with their types, and what it says of numbers.
fn check_entry(entry: &Value) {
    let text = |value: &Value| assert!(value.is_string(), "{value} in {entry}");
    let list = |value: &Value, names: &[&str]| {
        for item in value.as_array().unwrap() {
            names.iter().for_each(|name| text(&item[name]));
        }
    };
    let started = entry["startedDateTime"].as_str().unwrap();
    assert!(started.ends_with('Z') && started.len() == 24, "{started}");
    let (request, response) = (&entry["request"], &entry["response"]);
    for name in ["method", "url", "httpVersion"] {
        text(&request[name]);
    }
    for name in ["statusText", "httpVersion", "redirectURL"] {
        text(&response[name]);
    }
    for message in [request, response] {
        list(&message["headers"], &["name", "value"]);
        list(&message["cookies"], &["name", "value"]);
        assert!(message["headersSize"].as_i64().unwrap() >= -1);
        assert!(message["bodySize"].as_i64().unwrap() >= -1);
    }
    list(&request["queryString"], &["name", "value"]);
    if let Some(data) = request.get("postData") {
        text(&data["mimeType"]);
        text(&data["text"]);
        assert!(data["params"].is_array());
    }
    assert!(response["status"].is_u64());
    let content = &response["content"];
    assert!(content["size"].is_u64());
    text(&content["mimeType"]);
    assert!(entry["cache"].is_object());
    let timings = &entry["timings"];
    let part = |name: &str| timings[name].as_f64().unwrap();
    for name in ["send", "wait", "receive"] {
        assert!(part(name) >= 0.0, "{entry}");
    }
    for name in ["blocked", "dns", "connect", "ssl"] {
        assert!(part(name) >= 0.0 || part(name) == -1.0, "{entry}");
    }
    // "time: the sum of all timings, without the -1 values"; ssl is in connect.
    let parts = ["blocked", "dns", "connect", "send", "wait", "receive"];
    let sum: f64 = parts.into_iter().map(part).filter(|part| *part > 0.0).sum();
    assert!(
        (entry["time"].as_f64().unwrap() - sum).abs() < 0.01,
        "{entry}"
    );
    assert!(part("ssl") <= part("connect").max(-1.0), "{entry}");
}

/// What formats of others keep of a flow.
fn essence(record: &FlowRecord) -> Value {
    let detail = &record.detail;
    let row = &detail.row;
    let head = |fields: &[(String, String)]| -> Vec<(String, String)> {
        let kept = fields.iter().filter(|(name, _)| !name.starts_with(':'));
        kept.cloned().collect()
    };
    json!({
        "kind": row.kind.as_str(),
        "state": row.state.as_str(),
        "method": row.method,
        "url": row.url.split('#').next(),
        "host": row.host,
        "port": row.port,
        "status": row.status,
        "started_at": row.started_at.0,
        "request": head(&detail.request.fields),
        "response": detail.response.as_ref().map(|response| head(&response.fields)),
        "request_body": record.request_body,
        "response_body": record.response_body,
        "messages": record.messages.iter().filter(|message| message.kind == "text" || message.kind == "binary")
            .map(|message| json!([message.sender, message.kind, message.payload]))
            .collect::<Vec<_>>(),
        "error": row.error.as_ref().map(|error| &error.text),
    })
}

#[test]
fn flow_files_of_mitmproxy_come_back() {
    let records = all_sorts();
    let bytes = written(Format::Mitmproxy, &records);
    let (found, outcome) = read(&bytes);
    assert_eq!(outcome.unwrap(), Format::Mitmproxy);
    assert_eq!(found.len(), records.len());
    for (found, record) in found.iter().zip(&records) {
        match found {
            Found::LeftOut { what, .. } => {
                assert_eq!(record.detail.row.kind, FlowKind::Tunnel);
                assert_eq!(what, "it is a flow of \"tcp\", not of HTTP");
            }
            Found::Flow(read) => {
                assert_eq!(read.run.kind, RunKind::Import);
                let (mut expected, found) = (essence(record), essence(read));
                // A flow that never ended is one whose recording ended, elsewhere.
                if matches!(record.detail.row.state, FlowState::Open) {
                    expected["state"] = found["state"].clone();
                }
                assert_eq!(found, expected);
            }
        }
    }
}

#[test]
fn a_har_comes_back() {
    let records = all_sorts();
    let har = written(Format::Har, &records);
    let back = flows(&har);
    let kept = records
        .iter()
        .filter(|record| record.detail.row.kind != FlowKind::Tunnel);
    for (read, record) in back.iter().zip(kept) {
        let (mut expected, mut found) = (essence(record), essence(read));
        // Milliseconds are what it holds, and of a body that was cut what is there.
        expected["started_at"] = json!(record.detail.row.started_at.0 / 1000 * 1000);
        if record.detail.row.path == "*" {
            expected["url"] = json!(format!("{}/", record.detail.row.url));
        }
        if matches!(record.detail.row.state, FlowState::Open) {
            expected["state"] = found["state"].clone();
        }
        for field in ["request", "response"] {
            let fields = |value: &mut Value| {
                let Some(list) = value[field].as_array_mut() else {
                    return;
                };
                list.retain(|pair| {
                    !pair[0]
                        .as_str()
                        .unwrap()
                        .eq_ignore_ascii_case("content-encoding")
                });
            };
            fields(&mut expected);
            fields(&mut found);
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn imported_flows_are_stored_like_others() {
    let har = written(Format::Har, &all_sorts());
    let place = Place::new();
    let back = flows(&har);
    let mut importer = Importer::open(&place.path()).unwrap();
    let imported = importer.insert(&back).unwrap();
    assert_eq!(imported.added, back.len() as u64);
    let reader = Reader::open(&place.path()).unwrap();
    let run = reader.resolve_run("a.har").unwrap();
    for record in &back {
        let mut id = record.detail.row.id;
        id.run = run;
        let stored = reader.record(id).unwrap();
        assert_eq!(essence(&stored), essence(record));
    }
}

#[test]
fn credentials_of_files_are_masked() {
    let har = json!({"log": {"entries": [{
        "startedDateTime": "2026-03-02T09:00:00.000+01:00",
        "time": 12.5,
        "request": {
            "method": "POST",
            "url": "https://user:pw@a.test/b?key=s3cret&c=d",
            "httpVersion": "h2",
            "headers": [{"name": "Authorization", "value": "Bearer s3cret"}, {"name": "A", "value": "b\r\nX-Other: c"}],
            "postData": {"mimeType": "text/plain", "text": "x"},
        },
        "response": {
            "status": 200,
            "statusText": "OK",
            "httpVersion": "h2",
            "headers": [{"name": "Set-Cookie", "value": "s3cret=1"}, {"name": "content-encoding", "value": "br"}],
            "content": {"size": 2, "mimeType": "image/png", "text": "/w8=", "encoding": "base64"},
        },
        "timings": {"send": 1, "wait": 10, "receive": 1.5, "dns": -1},
    }]}});
    let back = flows(har.to_string().as_bytes());
    let text = format!("{back:?}");
    assert!(!text.contains("s3cret"), "{text}");
    let record = &back[0];
    let row = &record.detail.row;
    assert_eq!(row.url, "https://a.test/b?key=[redacted:key:6]&c=d");
    assert_eq!(row.client_version.as_deref(), Some("HTTP/2"));
    assert_eq!(row.started_at, Timestamp(START - 3_600_000_000));
    assert_eq!(
        (row.duration_ms, row.first_byte_ms),
        (Some(12.5), Some(11.0))
    );
    assert_eq!(record.response_body.as_deref(), Some(&b"\xff\x0f"[..]));
    let response = record.detail.response.as_ref().unwrap();
    assert_eq!(response.fields.len(), 1, "{response:?}");
    assert_eq!(record.detail.request.fields.len(), 2);

    let mut importing = importing(Redaction::None);
    let mut kept = String::new();
    let each = |item| {
        kept.push_str(&format!("{item:?}"));
        Ok(())
    };
    importing.read(har.to_string().as_bytes(), each).unwrap();
    assert!(kept.contains("Bearer s3cret"));
}

#[test]
fn what_imported_flows_are_for_is_told() {
    let har = json!({"log": {"entries": [{
        "startedDateTime": "2026-03-02T09:00:00Z",
        "request": {
            "method": "POST",
            "url": "https://api.anthropic.com/v1/messages",
            "headers": [{"name": "X-Claude-Code-Session-Id", "value": "11111111-2222-4333-8444-555555555555"}],
            "postData": {"mimeType": "application/json", "text": "{\"model\":\"m\",\"messages\":[]}"},
        },
        "response": {"status": 200},
    }]}});
    let back = flows(har.to_string().as_bytes());
    let row = &back[0].detail.row;
    assert_eq!(row.traffic_type.as_str(), "llm");
    let session = row.session.as_ref().unwrap();
    assert_eq!(session.id, "11111111-2222-4333-8444-555555555555");
}

#[test]
fn what_is_wrong_is_said_and_loses_nothing_before_it() {
    let records = &all_sorts()[..2];
    let jsonl = String::from_utf8(written(Format::Jsonl, records)).unwrap();
    let line = jsonl.lines().next().unwrap();
    let text = format!(
        "{line}\n{{\"schema\":\"oriel.record/1\"}}\n\n{}\n{}",
        line.replace("record/1", "record/9"),
        line.get(..100).unwrap()
    );
    let told = left_out(text.as_bytes());
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("line 2: missing field"), "{told:?}");
    assert_eq!(
        told[1],
        "line 4: its schema \"oriel.record/9\" is not known"
    );
    assert!(told[2].starts_with("line 5: EOF"), "{told:?}");

    let entry = json!({"startedDateTime": "2026-03-02T09:00:00Z", "request": {"method": "GET", "url": "https://a.test"}, "response": {}});
    let mut odd = entry.clone();
    odd["request"]["url"] = json!("about:blank");
    let har = json!({"log": {"entries": [odd, entry, 7]}}).to_string();
    let told = left_out(har.as_bytes());
    assert_eq!(
        told,
        [
            "flow 1: its URL is none of HTTP: about:blank",
            "flow 3: it has no URL"
        ]
    );
    let (found, outcome) = read(&har.as_bytes()[..har.len() - 5]);
    assert_eq!(found.len(), 2);
    assert!(
        matches!(
            outcome,
            Err(ReadError::Damaged {
                place: At::Line(1),
                ..
            })
        ),
        "{outcome:?}"
    );
    let deep = format!("{{\"log\":{{\"entries\":[{}", "[".repeat(10_000));
    let (_, outcome) = read(deep.as_bytes());
    assert!(outcome.unwrap_err().to_string().contains("recursion limit"));
    for (text, what) in [
        ("{\"a\":1}", "damaged at line 1: it has no log"),
        ("", "neither a HAR"),
        ("<xml>", "neither a HAR"),
        ("\u{feff}{}", "damaged at line 1: it has no log"),
        ("9:hello", "damaged at byte 0: the file ends within a flow"),
        ("9999999999999:", "damaged at byte 0: a length has no colon"),
        ("5:hello,", "flow 1"),
        (
            "999999999999:x",
            "at byte 0 is a flow with more than 256 MiB",
        ),
    ] {
        let (found, outcome) = read(text.as_bytes());
        let said = match outcome {
            Err(error) => error.to_string(),
            Ok(_) => format!("{found:?}").replace("Entry(1)", "flow 1"),
        };
        assert!(said.contains(what), "{text:?}: {said}");
    }

    let mitm = written(Format::Mitmproxy, &records[..1]);
    let twice = [&*mitm, &mitm[..mitm.len() / 2]].concat();
    let (found, outcome) = read(&twice);
    assert_eq!(found.len(), 1);
    let expected = format!(
        "it is damaged at byte {}: the file ends within a flow",
        mitm.len()
    );
    assert_eq!(outcome.unwrap_err().to_string(), expected);
}
