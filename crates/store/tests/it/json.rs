//! The JSON that others read.

use oriel_store::{Message, Query, json};
use serde_json::{Value, json};
use traffic::{Failure, FailureKind, Side, Stage};

use crate::script::{Place, Script};

#[test]
fn a_list_has_its_shape() {
    let place = Place::new();
    place.record(Script::new(1).events());
    let mut open = Script::new(2).events();
    open.truncate(2);
    place.record(open);
    let query = Query {
        limit: 1,
        with_total: true,
        order: oriel_store::Order {
            by: oriel_store::SortKey::Time,
            ascending: true,
        },
        ..Query::default()
    };
    let reader = place.reader();
    let page = reader.flows(&query).unwrap();
    let list = serde_json::to_value(json::FlowList::new(&page)).unwrap();
    let run = place.run.to_string();
    assert_eq!(list["schema"], "oriel.flows.list/1");
    assert_eq!(list["total"], 2);
    let next = page.next.unwrap();
    assert_eq!(list["next"], next.to_string());
    assert_eq!(
        list["items"],
        json!([{
            "id": format!("{run}.1"),
            "uuid": page.rows[0].uuid,
            "time": "2026-03-02T09:00:00.001Z",
            "session": run,
            "traffic_type": "web",
            "agent_session": null,
            "kind": "http",
            "state": "completed",
            "method": "POST",
            "url": "https://api.example.com/v1/messages?a=1",
            "host": "api.example.com",
            "port": 443,
            "path": "/v1/messages",
            "status": 200,
            "proto": "HTTP/1.1",
            "upstream_proto": "HTTP/1.1",
            "route": {"action": "intercept", "rule": "intercept.hosts \"*\""},
            "duration_ms": 0.8,
            "ttfb_ms": 0.4,
            "sizes": {"request_bytes": 9, "response_bytes": 11},
            "error": null,
            "truncated": false,
            "danger_unverified": false,
            "redaction": "basic",
            "tags": [],
            "note": null,
        }])
    );
    let rest = reader
        .flows(&Query {
            after: Some(next),
            ..query
        })
        .unwrap();
    let list = serde_json::to_value(json::FlowList::new(&rest)).unwrap();
    let item = &list["items"][0];
    for unknown in [
        "status",
        "duration_ms",
        "ttfb_ms",
        "error",
        "upstream_proto",
    ] {
        assert_eq!(item[unknown], Value::Null, "{unknown}");
    }
    assert_eq!(item["sizes"]["response_bytes"], Value::Null);
    assert_eq!(list["next"], Value::Null);
}

#[test]
fn an_empty_list_is_a_list() {
    let place = Place::new();
    let page = place.reader().flows(&Query::default()).unwrap();
    let text = serde_json::to_string(&json::FlowList::new(&page)).unwrap();
    assert_eq!(
        text,
        r#"{"schema":"oriel.flows.list/1","items":[],"next":null,"total":null}"#
    );
}

#[test]
fn a_flow_has_its_bodies_only_when_asked() {
    let place = Place::new();
    let mut script = Script::new(1);
    script.request_body.clear();
    place.record(script.events());
    let reader = place.reader();
    let detail = reader.flow(place.flow(1)).unwrap();
    let plain = serde_json::to_value(json::FlowDocument::new(&detail, None)).unwrap();
    assert_eq!(plain["schema"], "oriel.flow/1");
    assert!(plain["response"].get("body").is_none());
    assert_eq!(
        plain["request"]["start_line"],
        "POST /v1/messages?a=1 HTTP/1.1"
    );
    assert_eq!(plain["response"]["headers"][1], json!(["X-Two", "1"]));
    assert_eq!(
        plain["timing"]["response_started_at"],
        "2026-03-02T09:00:00.001400Z"
    );
    assert_eq!(
        plain["timing"]["accepted_at"],
        "2026-03-02T08:59:59.995000Z"
    );
    assert_eq!(plain["upstream"]["proxy"], "http://proxy.example:3128");
    assert_eq!(
        plain["upstream"]["tls"]["certificate"]["subject"],
        "CN=api.example.com"
    );

    let response = reader.body(place.flow(1), Message::Response).unwrap();
    let bodies = Some((None, response.as_ref()));
    let whole = serde_json::to_value(json::FlowDocument::new(&detail, bodies)).unwrap();
    assert_eq!(whole["request"]["body"], Value::Null);
    assert!(whole["request"].get("body").is_some());
    assert_eq!(whole["response"]["body"]["data"], "hello world");
    assert_eq!(whole["response"]["body"]["bytes"], 11);
}

#[test]
fn every_field_of_a_list_is_named() {
    let place = Place::new();
    let mut script = Script::new(1);
    script.request =
        b"POST /v1/chat/completions HTTP/1.1\r\nX-Claude-Code-Session-Id: s\r\n\r\n".to_vec();
    script.failure = Some((
        Failure {
            side: Side::Upstream,
            stage: Stage::Dial,
            kind: FailureKind::TimedOut,
            text: "no answer".to_owned(),
        },
        Some(504),
    ));
    place.record(script.events());
    let row = place.reader().flow(place.flow(1)).unwrap().row;
    let item = serde_json::to_value(json::FlowItem::new(&row)).unwrap();
    let mut found = Vec::new();
    for (name, value) in item.as_object().unwrap() {
        match value.as_object() {
            Some(inner) => found.extend(inner.keys().map(|below| format!("{name}.{below}"))),
            None => found.push(name.clone()),
        }
    }
    found.sort_unstable();
    let mut known = json::FlowItem::FIELDS.map(|(name, _)| name);
    known.sort_unstable();
    assert_eq!(found, known);
}
