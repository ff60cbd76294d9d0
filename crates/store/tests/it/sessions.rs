//! Flows know what they are for, and whose: at once, later, and after they were stored.

use bytes::Bytes;
use oriel_store::{
    Annotate, Annotator, Choice, Chosen, FlowRow, Query, Reader, Redaction, Remover, SessionEditor,
    SessionMark, SessionMethod, StatsKey, StoreOptions, TrafficType,
};
use traffic::rules::filter::Filter;
use traffic::rules::pattern::HostPatterns;
use traffic::{FlowKind, Target, Timestamp};

use crate::script::{Place, START, Script};

const SESSION: &str = "5cbd2f4a-7f0e-4f4c-8f35-4f1c2d1c9a10";
const TRACE: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";

/// A call of a model with these fields and this body.
fn call(flow: u64, url: (&str, &str), fields: &str, body: &'static str) -> Script {
    let (host, path) = url;
    Script {
        target: Target::parse(host, 443).unwrap(),
        request: format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{fields}\r\n"
        )
        .into_bytes(),
        request_body: vec![Bytes::from_static(body.as_bytes())],
        ..Script::new(flow)
    }
}

const GATEWAY: (&str, &str) = ("localhost:4000", "/v1/messages");
const PROVIDER: (&str, &str) = ("api.anthropic.com", "/v1/messages");
const ASKED: &str = r#"{"model":"m","messages":[]}"#;
const ASKED_BY_CLAUDE: &str = r#"{"model":"m","messages":[],"metadata":{"user_id":"user_0a_account_1b_session_5cbd2f4a-7f0e-4f4c-8f35-4f1c2d1c9a10"}}"#;

fn rows(reader: &Reader, filter: &str) -> Vec<FlowRow> {
    let mut rows = reader
        .flows(&Query {
            filter: Some(Filter::parse(filter, Timestamp(START)).unwrap()),
            ..Query::default()
        })
        .unwrap()
        .rows;
    rows.reverse();
    rows
}

fn sessions(place: &Place) -> Vec<Option<(String, SessionMethod)>> {
    rows(&place.reader(), "")
        .into_iter()
        .map(|row| row.session.map(|mark| (mark.id, mark.method)))
        .collect()
}

fn known(id: &str, method: SessionMethod) -> Option<(String, SessionMethod)> {
    Some((id.to_owned(), method))
}

#[test]
fn kinds_of_traffic_are_kept_and_found() {
    let place = Place::new();
    for script in [
        call(1, PROVIDER, "", ASKED),
        call(
            2,
            ("example.com", "/rpc"),
            "",
            r#"{"jsonrpc":"2.0","method":"tools/list","id":1}"#,
        ),
        call(3, ("example.com", "/rpc"), "", ASKED),
        call(4, ("localhost:1", "/rpc"), "", ASKED),
        Script {
            kind: FlowKind::Tunnel,
            request: b"CONNECT example.com:443 HTTP/1.1\r\n\r\n".to_vec(),
            request_body: Vec::new(),
            response: None,
            tunnelled: Some((1, 2)),
            ..Script::new(5)
        },
    ] {
        place.record(script.events());
    }
    let reader = place.reader();
    let types: Vec<_> = rows(&reader, "")
        .iter()
        .map(|row| row.traffic_type)
        .collect();
    assert_eq!(
        types,
        [
            TrafficType::Llm,
            TrafficType::Mcp,
            TrafficType::Web,
            TrafficType::Other,
            TrafficType::Unknown,
        ]
    );
    for (filter, expected) in [
        ("type:llm", vec![1]),
        ("type:mcp,web", vec![2, 3]),
        ("-type:llm", vec![2, 3, 4, 5]),
        ("type:un*", vec![5]),
    ] {
        let found: Vec<_> = rows(&reader, filter).iter().map(|row| row.id.seq).collect();
        assert_eq!(found, expected, "{filter}");
    }
}

#[test]
fn configured_hosts_are_models() {
    let options = StoreOptions {
        llm_hosts: HostPatterns::parse(&["*.corp.example"]).unwrap(),
        ..StoreOptions::new(Redaction::Basic)
    };
    let place = Place::with(options);
    place.record(call(1, ("llm.corp.example", "/ask"), "", "{}").events());
    assert_eq!(rows(&place.reader(), "")[0].traffic_type, TrafficType::Llm);
}

#[test]
fn an_agent_and_its_children_are_one_session() {
    let place = Place::new();
    let claude = format!(
        "User-Agent: claude-cli/2.1.329 (external, cli)\r\nX-Claude-Code-Session-Id: {SESSION}\r\n"
    );
    let child =
        format!("{claude}x-claude-code-agent-id: a2\r\nx-claude-code-parent-agent-id: a1\r\n");
    place.record(call(1, PROVIDER, &claude, ASKED).events());
    place.record(call(2, PROVIDER, &child, ASKED).events());
    place.record(call(3, PROVIDER, "", ASKED_BY_CLAUDE).events());
    place.record(call(4, PROVIDER, "", ASKED).events());
    let reader = place.reader();
    let marks: Vec<_> = rows(&reader, "")
        .into_iter()
        .map(|row| row.session)
        .collect();
    let mark = |method, agent_id: Option<&str>, parent: Option<&str>| {
        Some(SessionMark {
            id: SESSION.to_owned(),
            method,
            agent: Some("claude-code".to_owned()),
            agent_id: agent_id.map(str::to_owned),
            parent_agent_id: parent.map(str::to_owned),
        })
    };
    assert_eq!(
        marks,
        [
            mark(SessionMethod::Header, None, None),
            mark(SessionMethod::Header, Some("a2"), Some("a1")),
            mark(SessionMethod::Body, None, None),
            None,
        ]
    );
    for (filter, expected) in [
        (format!("session:{SESSION}"), vec![1, 2, 3]),
        (format!("-session:{SESSION}"), vec![4]),
        ("session:5cbd*".to_owned(), vec![1, 2, 3]),
        (format!("session:{}", place.run), vec![1, 2, 3, 4]),
        (format!("run:{SESSION}"), vec![]),
        ("agent:claude-code".to_owned(), vec![1, 2, 3]),
        ("agent:a2".to_owned(), vec![2]),
        ("-agent:claude-code".to_owned(), vec![4]),
    ] {
        let found: Vec<_> = rows(&reader, &filter)
            .iter()
            .map(|row| row.id.seq)
            .collect();
        assert_eq!(found, expected, "{filter}");
    }
}

/// A request that says all of this, in the words of OpenAI's chat completions.
fn said(flow: u64, messages: &[&str]) -> Script {
    let messages: Vec<String> = messages
        .iter()
        .enumerate()
        .map(|(number, text)| {
            let role = if number % 2 == 0 { "user" } else { "assistant" };
            format!(r#"{{"role": "{role}", "content": "{text}"}}"#)
        })
        .collect();
    let body = format!(r#"{{"messages":[{}],"model":"m"}}"#, messages.join(", "));
    Script {
        request_body: vec![Bytes::from(body)],
        ..call(
            flow,
            ("models.example", "/v1/chat/completions"),
            "User-Agent: Zed/1.2\r\n",
            "",
        )
    }
}

#[test]
fn requests_that_go_on_with_what_was_said_are_one_session() {
    let place = Place::new();
    let long = "why does the test hang? ".repeat(20);
    let other = "what does the test do? ".repeat(20);
    for script in [
        said(1, &[&long]),
        said(2, &[&other]),
        said(3, &[&long, "a deadlock", "where?"]),
        // The same again, as after a failure.
        said(4, &[&long, "a deadlock", "where?"]),
        said(5, &[&long, "a deadlock", "where?", "there", "fix it"]),
        // Another way to go on.
        said(6, &[&long, "a deadlock", "why?"]),
        said(7, &["hi"]),
        said(8, &["hi", "hello", "how are you?"]),
    ] {
        place.record(script.events());
        place.flush();
    }
    let reader = place.reader();
    let marks: Vec<_> = rows(&reader, "")
        .into_iter()
        .map(|row| row.session)
        .collect();
    let first = marks[0].clone().unwrap();
    assert!(first.id.starts_with("conversation-"), "{}", first.id);
    assert_eq!(first.method, SessionMethod::Prefix);
    assert_eq!(first.method.confidence().as_str(), "possible");
    assert_eq!(first.agent.as_deref(), Some("zed"));
    let of_it: Vec<_> = marks
        .iter()
        .map(|mark| *mark == Some(first.clone()))
        .collect();
    assert_eq!(
        of_it,
        [true, false, true, true, true, true, false, false],
        "{marks:?}"
    );
    assert!(marks[1].is_none() && marks[6].is_none() && marks[7].is_none());
    let sessions = reader.sessions(10).unwrap();
    assert_eq!((sessions.len(), sessions[0].flows), (1, 5));
    assert_eq!(sessions[0].agent.as_deref(), Some("zed"));
}

#[test]
fn requests_that_go_on_from_an_answer_are_one_session() {
    let place = Place::new();
    let asked = |flow, previous: Option<&str>, answer: &'static str| {
        let previous = previous.map_or(String::new(), |id| {
            format!(r#","previous_response_id":"{id}""#)
        });
        Script {
            request_body: vec![Bytes::from(format!(
                r#"{{"model":"m","input":"and?"{previous}}}"#
            ))],
            response_body: vec![Bytes::from_static(answer.as_bytes())],
            ..call(flow, ("models.example", "/v1/responses"), "", "")
        }
    };
    const EVENTS: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_2\"}}\n\n";
    for script in [
        asked(1, None, r#"{"id": "resp_1","object":"response"}"#),
        asked(2, Some("resp_1"), EVENTS),
        asked(3, None, r#"{"id":"resp_9"}"#),
        asked(4, Some("resp_2"), r#"{"error":"no \"resp_2\""}"#),
    ] {
        place.record(script.events());
        place.flush();
    }
    let by_answer = known("resp_1", SessionMethod::PreviousResponse);
    assert_eq!(
        sessions(&place),
        [by_answer.clone(), by_answer.clone(), None, by_answer]
    );
}

#[test]
fn both_sides_of_a_gateway_are_one_session() {
    use SessionMethod::{Body, Header, RequestId, Traceparent};
    let header = format!("X-Claude-Code-Session-Id: {SESSION}\r\n");
    let id = "X-Request-Id: 7c9e6679-7425-40de-944b\r\n";
    let claude = known(SESSION, Header);
    for (client, provider, expected) in [
        // The gateway passes the body on.
        (
            (header.clone(), ASKED_BY_CLAUDE),
            (String::new(), ASKED_BY_CLAUDE),
            [claude.clone(), known(SESSION, Body)],
        ),
        // It passes the trace on, or an id of the request, and one side says the session.
        (
            (format!("{header}{TRACE}"), ASKED),
            (TRACE.to_owned(), ASKED),
            [claude.clone(), known(SESSION, Traceparent)],
        ),
        (
            (TRACE.to_owned(), ASKED),
            (format!("{header}{TRACE}"), ASKED),
            [known(SESSION, Traceparent), claude.clone()],
        ),
        (
            (format!("{header}{id}"), ASKED),
            (id.to_owned(), ASKED),
            [claude.clone(), known(SESSION, RequestId)],
        ),
        // Neither says it: the two are a session of their own.
        (
            (TRACE.to_owned(), ASKED),
            (TRACE.to_owned(), ASKED),
            [
                known("4bf92f3577b34da6a3ce929d0e0e4736", Traceparent),
                known("4bf92f3577b34da6a3ce929d0e0e4736", Traceparent),
            ],
        ),
        (
            (id.to_owned(), ASKED),
            (id.to_owned(), ASKED),
            [
                known("7c9e6679-7425-40de-944b", RequestId),
                known("7c9e6679-7425-40de-944b", RequestId),
            ],
        ),
        // Nothing is common.
        (
            (TRACE.to_owned(), ASKED),
            (id.to_owned(), ASKED),
            [None, None],
        ),
    ] {
        let place = Place::new();
        let outer = call(1, GATEWAY, &client.0, client.1).events();
        let inner = call(2, PROVIDER, &provider.0, provider.1).events();
        // The request goes on before it is answered; each step is stored by itself.
        let (asked, answered) = outer.split_at(4);
        place.record(asked.to_vec());
        place.flush();
        place.record(inner);
        place.flush();
        place.record(answered.to_vec());
        assert_eq!(sessions(&place), expected, "{client:?} {provider:?}");

        let place = Place::new();
        place.record(
            [
                call(1, GATEWAY, &client.0, client.1).events(),
                call(2, PROVIDER, &provider.0, provider.1).events(),
            ]
            .concat(),
        );
        assert_eq!(
            sessions(&place),
            expected,
            "at once: {client:?} {provider:?}"
        );
    }
}

#[test]
fn what_the_body_tells_is_known_when_it_has_come() {
    let place = Place::new();
    let url = ("corp.example", "/v1/messages");
    let events = call(1, url, "", ASKED_BY_CLAUDE).events();
    let other = call(2, url, "", r#"{"to":"+1","text":"hi"}"#).events();
    let (begun, rest) = events.split_at(2);
    let (other_begun, other_rest) = other.split_at(2);
    place.record([begun, other_begun].concat());
    assert_eq!(sessions(&place), [None, None]);
    place.record([rest, other_rest].concat());
    assert_eq!(
        sessions(&place),
        [known(SESSION, SessionMethod::Body), None]
    );
    let types: Vec<_> = rows(&place.reader(), "")
        .iter()
        .map(|row| row.traffic_type)
        .collect();
    assert_eq!(types, [TrafficType::Llm, TrafficType::Web]);
}

#[test]
fn a_tool_server_begins_a_session_with_its_answer() {
    let place = Place::new();
    let url = ("tools.example", "/rpc");
    let begin = Script {
        response: Some(b"HTTP/1.1 200 OK\r\nMcp-Session-Id: m-1\r\n\r\n".to_vec()),
        ..call(
            1,
            url,
            "",
            r#"{"jsonrpc":"2.0","method":"initialize","id":0}"#,
        )
    };
    place.record(begin.events());
    place.record(call(2, url, "Mcp-Session-Id: m-1\r\n", "{}").events());
    let expected = known("m-1", SessionMethod::McpSession);
    assert_eq!(sessions(&place), [expected.clone(), expected]);
}

#[test]
fn odd_bodies_lose_nothing() {
    let place = Place::new();
    let bodies: [&'static [u8]; 6] = [
        b"[1,2,{\"metadata\":{\"user_id\":\"user_a_session_b\"}}]",
        b"\xff\xfe\x00{\"metadata\"",
        b"{\"metadata\":{\"user_id\":\"a_session_b_session_c\"}}",
        b"{{{{{{[[[[[[",
        b"{\"metadata\":{\"user_id\":\"user_0_account_1_session_2\"",
        b"",
    ];
    for (flow, body) in (1..).zip(bodies) {
        let script = Script {
            request_body: vec![Bytes::from_static(body)],
            ..call(flow, PROVIDER, "Content-Encoding: gzip\r\n", "")
        };
        place.record(script.events());
        let plain = Script {
            request_body: vec![Bytes::from_static(body)],
            ..call(flow + 100, PROVIDER, "", "")
        };
        place.record(plain.events());
    }
    let found = sessions(&place);
    assert_eq!(found.len(), 12);
    let known: Vec<_> = found.into_iter().flatten().collect();
    assert_eq!(
        known,
        [("2".to_owned(), SessionMethod::Body)],
        "it was cut behind the id"
    );
    for row in rows(&place.reader(), "") {
        assert_eq!(row.traffic_type, TrafficType::Llm);
        assert_eq!(row.state.as_str(), "completed");
    }
}

#[test]
fn a_session_is_the_same_in_another_file() {
    let place = Place::new();
    let header = format!("X-Claude-Code-Session-Id: {SESSION}\r\n{TRACE}");
    place.record(call(1, GATEWAY, &header, ASKED).events());
    place.record(call(2, PROVIDER, TRACE, ASKED).events());
    let reader = place.reader();
    let records = reader
        .records(oriel_store::Marker::default(), 100)
        .unwrap()
        .flows;
    let other = place.folder.path().join("other.db");
    let mut importer = oriel_store::Importer::open(&other).unwrap();
    assert_eq!(importer.insert(&records).unwrap().added, 2);
    assert_eq!(importer.insert(&records).unwrap().unchanged, 2);
    let copied = Reader::open(&other).unwrap();
    let of = |reader: &Reader| -> Vec<_> {
        let rows = rows(reader, "type:llm").into_iter();
        rows.map(|row| (row.uuid, row.traffic_type, row.session))
            .collect()
    };
    assert_eq!(of(&copied), of(&reader));
    assert_eq!(of(&copied).len(), 2);
}

fn two_sessions() -> Place {
    let place = Place::new();
    record_two_sessions(&place);
    place
}

/// Two sessions with two flows each, and a flow of none.
pub(crate) fn record_two_sessions(place: &Place) {
    for (flow, session) in [(1, "one"), (2, "two"), (3, "one"), (4, "two")] {
        let fields = format!(
            "User-Agent: claude-cli/2.1\r\nX-Claude-Code-Session-Id: {session}\r\nx-claude-code-agent-id: a{flow}\r\n"
        );
        place.record(call(flow, PROVIDER, &fields, ASKED).events());
    }
    place.record(call(5, ("example.com", "/"), "", ASKED).events());
    place.flush();
}

#[test]
fn sessions_sum_up_their_flows() {
    let place = two_sessions();
    let sessions = place.reader().sessions(10).unwrap();
    let ids: Vec<_> = sessions.iter().map(|session| &*session.id).collect();
    assert_eq!(ids, ["two", "one"]);
    let two = &sessions[0];
    assert_eq!(
        (two.flows, two.llm_flows, two.failed, two.runs, two.agents),
        (2, 2, 0, 1, 2)
    );
    assert_eq!(
        (two.started_at.0, two.last_at.0),
        (START + 2000, START + 4000)
    );
    assert_eq!(two.request_bytes, 2 * ASKED.len() as u64);
    assert_eq!(two.agent.as_deref(), Some("claude-code"));
    assert_eq!(place.reader().sessions(1).unwrap().len(), 1);
}

#[test]
fn a_merged_session_takes_what_still_comes() {
    let place = two_sessions();
    let mut editor = SessionEditor::open(&place.path()).unwrap();
    assert!(editor.merge("one", "two").unwrap());
    assert!(!editor.merge("one", "three").unwrap());
    let marker = place.reader().marker().unwrap();
    let fields = "X-Claude-Code-Session-Id: two\r\n";
    place.record(call(6, PROVIDER, fields, ASKED).events());
    let reader = place.reader();
    let found = rows(&reader, "session:one");
    assert_eq!(found.len(), 5);
    assert!(rows(&reader, "session:two").is_empty());
    assert_eq!(reader.sessions(10).unwrap().len(), 1);
    let changed = reader.changes_since(marker, None).unwrap();
    assert_eq!(changed.rows.len(), 1);
}

/// Answers how many flows went.
fn remove(place: &Place, session: &str) -> u64 {
    let choice = Choice {
        chosen: Chosen::Sessions(vec![session.to_owned()]),
        forced: false,
    };
    let mut remover = Remover::open(&place.path()).unwrap();
    remover.remove(&choice, |_| true).unwrap().flows
}

#[test]
fn a_removed_session_takes_its_bodies_with_it() {
    let place = two_sessions();
    assert_eq!(remove(&place, "one"), 2);
    assert_eq!(remove(&place, "one"), 0);
    let reader = place.reader();
    let left: Vec<_> = rows(&reader, "").iter().map(|row| row.id.seq).collect();
    assert_eq!(left, [2, 4, 5]);
    // What they had in common with others is still there.
    for seq in left {
        let body = reader
            .body(place.flow(seq), oriel_store::Message::Request)
            .unwrap();
        assert_eq!(body.unwrap().bytes, ASKED.as_bytes());
    }
    // Bodies that are made of those of a removed session stay whole.
    let conversation = |flow: u64, session: &str, more: &str| {
        let shared: String = (0..4000)
            .map(|number| format!("line {number} of what was said; "))
            .collect();
        let body = format!(r#"{{"model":"m","messages":["{shared}{more}"]}}"#);
        let fields = format!("X-Claude-Code-Session-Id: {session}\r\n");
        Script {
            request_body: vec![Bytes::from(body)],
            ..call(flow, PROVIDER, &fields, "")
        }
    };
    let (first, second) = (conversation(7, "three", "a"), conversation(8, "four", "b"));
    place.record([first.events(), second.events()].concat());
    place.flush();
    assert_eq!(remove(&place, "three"), 1);
    let reader = place.reader();
    let row = rows(&reader, "session:four").remove(0);
    let body = reader.body(row.id, oriel_store::Message::Request).unwrap();
    assert_eq!(body.unwrap().bytes, second.request_body());
    assert_eq!(remove(&place, "two"), 2);
    // It may come again.
    place.record(call(6, PROVIDER, "X-Claude-Code-Session-Id: one\r\n", ASKED).events());
    assert_eq!(rows(&place.reader(), "session:one").len(), 1);
}

#[test]
fn a_flow_is_in_the_group_of_each_of_its_tags_and_counts_once() {
    let place = two_sessions();
    let mut annotator = Annotator::open(&place.path()).unwrap();
    for (seq, tags) in [(1, ["slow", "keep"]), (2, ["keep", "path"])] {
        let add = Annotate {
            add_tags: tags.map(str::to_owned).to_vec(),
            ..Annotate::default()
        };
        annotator.annotate(place.flow(seq), &add).unwrap();
    }
    let groups = |filter: &str| {
        let filter = Filter::parse(filter, Timestamp(START)).unwrap();
        let stats = place.reader().stats(StatsKey::Tag, Some(&filter)).unwrap();
        let groups = stats.groups.into_iter();
        let groups: Vec<_> = groups.map(|group| (group.key, group.flows)).collect();
        (groups, stats.total.flows)
    };
    let key = |text: &str| Some(text.to_owned());
    assert_eq!(
        groups(""),
        (
            vec![
                (None, 3),
                (key("keep"), 2),
                (key("path"), 1),
                (key("slow"), 1)
            ],
            5
        )
    );
    // Names of columns that the list of tags has too.
    assert_eq!(
        groups("tag:slow path:/v1 -id:x"),
        (vec![(key("keep"), 1), (key("slow"), 1)], 1)
    );
}

#[test]
fn flows_sum_up_in_groups() {
    let place = two_sessions();
    let reader = place.reader();
    let groups = |by, filter: &str| -> Vec<(Option<String>, u64)> {
        let filter = Filter::parse(filter, Timestamp(START)).unwrap();
        let stats = reader.stats(by, Some(&filter)).unwrap();
        let sum: u64 = stats.groups.iter().map(|group| group.flows).sum();
        assert_eq!(stats.total.flows, sum);
        stats
            .groups
            .into_iter()
            .map(|group| (group.key, group.flows))
            .collect()
    };
    let key = |text: &str| Some(text.to_owned());
    assert_eq!(
        groups(StatsKey::Host, ""),
        [(key("api.anthropic.com"), 4), (key("example.com"), 1)]
    );
    assert_eq!(
        groups(StatsKey::TrafficType, ""),
        [(key("llm"), 4), (key("web"), 1)]
    );
    assert_eq!(
        groups(StatsKey::Session, ""),
        [(key("one"), 2), (key("two"), 2), (None, 1)]
    );
    assert_eq!(
        groups(StatsKey::Agent, "type:llm"),
        [(key("claude-code"), 4)]
    );
    assert_eq!(groups(StatsKey::Day, ""), [(key("2026-03-02"), 5)]);
    assert_eq!(
        groups(StatsKey::Hour, "session:one"),
        [(key("2026-03-02T09:00Z"), 2)]
    );
    assert_eq!(groups(StatsKey::Status, ""), [(key("200"), 5)]);
    assert_eq!(groups(StatsKey::Host, "host:nowhere"), []);
    let total = reader.stats(StatsKey::Host, None).unwrap().total;
    let duration = total.duration_ms.unwrap();
    assert_eq!((duration.p50, duration.p95), (0.8, 0.8));
    assert_eq!(total.request_bytes, 5 * ASKED.len() as u64);
}
