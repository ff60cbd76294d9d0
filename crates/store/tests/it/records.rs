//! What is recorded comes back.

use std::sync::Arc;

use bytes::Bytes;
use llm::TrafficType;
use oriel_store::{FlowState, Message, Order, Query, SortKey, StatsKey};
use proptest::prelude::*;
use traffic::rules::filter::Filter;
use traffic::wire::client_hello::ClientHello;
use traffic::wire::fingerprint;
use traffic::{
    Action, AttributionError, ConnectionFacts, Event, Failure, FailureKind, FlowKind, ProcessCell,
    Route, Scheme, Side, Stage, Target, Timestamp,
};

use crate::script::{Place, START, Script, client, node, on_connections, upstream};

#[test]
fn a_flow_comes_back_whole() {
    let place = Place::new();
    let script = Script::new(1);
    place.record(script.events());
    let reader = place.reader();
    let page = reader.flows(&Query::default()).unwrap();
    assert_eq!(page.rows.len(), 1);
    let detail = reader.flow(place.flow(1)).unwrap();
    assert_eq!(detail.row, page.rows[0]);
    let row = &detail.row;
    assert_eq!(row.state, FlowState::Completed);
    assert_eq!(row.method, "POST");
    assert_eq!(row.url, "https://api.example.com/v1/messages?a=1");
    assert_eq!(row.path, "/v1/messages");
    assert_eq!((row.status, row.port), (Some(200), 443));
    assert_eq!((row.request_bytes, row.response_bytes), (Some(9), Some(11)));
    assert_eq!(row.duration_ms, Some(0.8));
    assert_eq!(row.first_byte_ms, Some(0.4));
    assert_eq!(row.started_at.0, START + 1000);
    assert!(!row.truncated && row.error.is_none());
    let response = detail.response.unwrap();
    assert_eq!(response.start_line, "HTTP/1.1 200 OK");
    assert_eq!(response.fields[1], ("X-Two".to_owned(), "1".to_owned()));
    assert_eq!(response.fields[2], ("x-two".to_owned(), "2".to_owned()));
    let upstream = detail.upstream.unwrap();
    assert_eq!(upstream.address, "192.0.2.7:443");
    let certificate = upstream.tls.unwrap().certificate.unwrap();
    assert_eq!(certificate.sha256, "ab".repeat(32));
    assert_eq!(detail.client.unwrap().front, "connect");
    for (message, expected) in [
        (Message::Request, script.request_body()),
        (Message::Response, script.response_body()),
    ] {
        let body = reader.body(place.flow(1), message).unwrap().unwrap();
        assert_eq!(body.bytes, expected);
        assert!(!body.truncated);
    }
    place.store.close().unwrap();
}

#[test]
fn what_is_asked_again_is_stored_for_what_it_is_each_time() {
    let bare = |flow| {
        let mut script = Script::new(flow);
        script.request =
            b"POST /again?a=1 HTTP/1.1\r\nContent-Type: application/json\r\n\r\n".to_vec();
        script.request_body.clear();
        script
    };
    let call = Bytes::from_static(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}");
    let mut scripts: Vec<Script> = (1..=12).map(bare).collect();
    scripts[4].target = Target::parse("other.example.com", 443).unwrap();
    scripts[5].request_body = vec![call];
    scripts[7].scheme = Scheme::Http;
    scripts[8].action = Action::Block;
    scripts[10].request = b"GET /other HTTP/1.1\r\n\r\n".to_vec();

    let routes = [Action::Intercept, Action::Block].map(|action| {
        let rule = "rule".to_owned();
        Arc::new(Route { action, rule })
    });
    let record = |place: &Place, client: &mut dyn FnMut() -> Arc<ConnectionFacts>| {
        for script in &scripts {
            let mut events = on_connections(script.events(), &client(), &upstream());
            if let Some(Event::FlowStarted(started)) = events.first_mut() {
                let known = routes.iter().find(|route| route.action == script.action);
                started.route = Arc::clone(known.unwrap());
            }
            place.record(events);
        }
        let reader = place.reader();
        let rows: Vec<_> = (1..=12)
            .map(|seq| reader.flow(place.flow(seq)).unwrap().row)
            .map(|row| (row.method, row.url, row.traffic_type, row.route_action))
            .collect();
        rows
    };
    let (one, many) = (Place::new(), Place::new());
    let facts = client();
    let again = record(&one, &mut || Arc::clone(&facts));
    assert_eq!(again, record(&many, &mut client));
    let of_type = |wanted| again.iter().filter(|row| row.2 == wanted).count();
    assert_eq!(
        (of_type(TrafficType::Mcp), of_type(TrafficType::Web)),
        (1, 11)
    );
    let places: i64 = rusqlite::Connection::open(one.path())
        .unwrap()
        .query_row("SELECT count(DISTINCT place) FROM flows", (), |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(places, 6);
    for place in [one, many] {
        place.store.close().unwrap();
    }
}

#[test]
fn what_was_not_kept_is_said() {
    let place = Place::new();
    let mut script = Script::new(1);
    script.response_cut = 100;
    place.record(script.events());
    let reader = place.reader();
    let row = reader.flow(place.flow(1)).unwrap().row;
    assert!(row.truncated);
    assert_eq!(row.response_bytes, Some(111));
    let body = reader
        .body(place.flow(1), Message::Response)
        .unwrap()
        .unwrap();
    assert_eq!(
        (body.bytes.len(), body.seen, body.truncated),
        (11, Some(111), true)
    );
    let request = reader
        .body(place.flow(1), Message::Request)
        .unwrap()
        .unwrap();
    assert!(!request.truncated);
}

#[test]
fn a_flow_without_bodies_has_none() {
    let place = Place::new();
    let mut script = Script::new(1);
    script.request_body.clear();
    script.response_body.clear();
    place.record(script.events());
    let reader = place.reader();
    assert_eq!(reader.body(place.flow(1), Message::Request).unwrap(), None);
    assert_eq!(reader.body(place.flow(1), Message::Response).unwrap(), None);
}

#[test]
fn a_tunnel_is_kept_with_its_bytes() {
    let place = Place::new();
    let mut script = Script::new(1);
    script.kind = FlowKind::Tunnel;
    script.action = Action::Tunnel;
    script.request = b"CONNECT api.example.com:443 HTTP/1.1\r\n\r\n".to_vec();
    script.request_body.clear();
    script.response = None;
    script.tunnelled = Some((10, 2000));
    place.record(script.events());
    let row = place.reader().flow(place.flow(1)).unwrap().row;
    assert_eq!(row.kind, oriel_store::FlowKind::Tunnel);
    assert_eq!(
        (&*row.method, &*row.url, &*row.path),
        ("CONNECT", "api.example.com:443", "")
    );
    assert_eq!(
        (row.request_bytes, row.response_bytes),
        (Some(10), Some(2000))
    );
    assert_eq!(row.route_action, "tunnel");
}

#[test]
fn heads_that_share_a_connection_come_back_one_by_one() {
    let place = Place::new();
    let (client, upstream) = (client(), upstream());
    let head = |flow: u64, lines: &str| {
        format!("POST /{flow} HTTP/1.1\r\nHost: x\r\nAuthorization: SECRET{flow}\r\n{lines}Content-Length: {flow}\r\nAccept: */*\r\n\r\n").into_bytes()
    };
    let long = format!("X-Long: {}\r\n", "v".repeat(10_000));
    let lines = [
        "",
        "",
        "X-New: 1\r\n",
        "",
        &long,
        "Host: y\r\nHost: x\r\n",
        "",
    ];
    let mut expected = Vec::new();
    for (flow, lines) in (1..).zip(lines) {
        let mut script = Script::new(flow);
        script.request = head(flow, lines);
        script.response = Some(
            format!(
                "HTTP/1.1 20{} X\r\n{lines}Set-Cookie: SECRET\r\n\r\n",
                flow % 3
            )
            .into(),
        );
        let mut events = on_connections(script.events(), &client, &upstream);
        // Some are stored before they end, and again afterwards.
        let end = events.split_off(if flow % 2 == 0 { 2 } else { 7 });
        place.record(events);
        if flow > 2 {
            place.flush();
        }
        place.record(end);
        expected.push(script);
    }
    let reader = place.reader();
    for (flow, script) in (1..).zip(&expected) {
        let detail = reader.flow(place.flow(flow)).unwrap();
        assert_eq!(
            detail.request.fields,
            masked_fields(&script.request),
            "request {flow}"
        );
        assert_eq!(detail.row.path, format!("/{flow}"));
        let response = detail.response.unwrap();
        let sent = script.response.as_ref().unwrap();
        assert_eq!(response.fields, masked_fields(sent), "response {flow}");
        assert_eq!(response.bytes, sent.len() as u64);
        assert_eq!(
            detail.row.status,
            Some(200 + u16::try_from(flow % 3).unwrap())
        );
    }
    for file in std::fs::read_dir(place.folder.path().join("data")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"SECRET"));
    }
    let found = |text: &str| {
        let filter = Filter::parse(text, Timestamp(START)).unwrap();
        let query = Query {
            filter: Some(filter),
            ..Query::default()
        };
        let rows = reader.flows(&query).unwrap().rows;
        rows.iter().map(|row| row.id.seq).collect::<Vec<_>>()
    };
    assert_eq!(found("header.x-new:1"), [3]);
    assert_eq!(found("header.content-length:/^[27]$/"), [7, 2]);
    assert_eq!(found("header.host:Y"), [6]);
}

/// The fields of a head in which every value that begins with SECRET is a credential.
fn masked_fields(head: &[u8]) -> Vec<(String, String)> {
    let lines = std::str::from_utf8(head).unwrap().lines().skip(1);
    let fields = lines.filter_map(|line| line.split_once(": "));
    fields
        .map(|(name, value)| {
            let value = match value.starts_with("SECRET") {
                true => format!("[redacted:{}:{}]", name.to_lowercase(), value.len()),
                false => value.to_owned(),
            };
            (name.to_owned(), value)
        })
        .collect()
}

#[test]
fn flows_of_one_microsecond_have_numbers_of_their_own() {
    let place = Place::new();
    // More than the numbers below one microsecond, in two batches.
    for flow in 0..2100 {
        let mut script = Script::new(flow);
        script.at = START;
        place.record(script.events());
        if flow == 1000 {
            place.flush();
        }
    }
    let query = Query {
        limit: 10_000,
        order: Order {
            by: SortKey::Time,
            ascending: true,
        },
        ..Query::default()
    };
    let rows = place.reader().flows(&query).unwrap().rows;
    let seqs: Vec<u64> = rows.iter().map(|row| row.id.seq).collect();
    assert_eq!(seqs, (1..=2100).collect::<Vec<_>>());
    assert!(rows.iter().all(|row| row.started_at.0 == START));
}

#[test]
fn a_failure_is_kept_with_its_reason() {
    let place = Place::new();
    let mut script = Script::new(1);
    script.response = None;
    let failure = failure("the connection was refused");
    script.failure = Some((failure, Some(502)));
    place.record(script.events());
    let row = place.reader().flow(place.flow(1)).unwrap().row;
    assert_eq!((row.state, row.status), (FlowState::Failed, None));
    let error = row.error.unwrap();
    assert_eq!(
        (&*error.side, &*error.stage, &*error.kind, &*error.text),
        ("upstream", "dial", "refused", "the connection was refused")
    );
    assert_eq!(error.replied_status, Some(502));
}

#[test]
fn of_a_body_that_was_cut_it_is_known_what_passed() {
    for (beyond, truncated) in [(0, false), (7, true)] {
        let place = Place::new();
        let mut script = Script::new(1);
        script.failure = Some((failure("it was reset"), None));
        script.response_cut = beyond;
        place.record(script.events());
        let reader = place.reader();
        let detail = reader.flow(place.flow(1)).unwrap();
        let row = &detail.row;
        assert_eq!(row.response_bytes, Some(11 + beyond));
        assert_eq!((row.truncated, row.status), (truncated, Some(200)));
        assert_eq!(detail.response_ended_at, None);
        let body = reader.body(row.id, Message::Response).unwrap().unwrap();
        assert_eq!(body.bytes, b"hello world");
        let summary = reader.summary(place.run).unwrap();
        assert_eq!(summary.response_bytes, 11 + beyond);
    }
}

#[test]
fn an_open_flow_is_seen_and_completed_later() {
    let place = Place::new();
    let mut events = Script::new(1).events();
    let late = events.split_off(5);
    place.record(events);
    let reader = place.reader();
    let row = reader.flow(place.flow(1)).unwrap().row;
    assert_eq!(
        (row.state, row.status, row.duration_ms),
        (FlowState::Open, Some(200), None)
    );
    place.record(late);
    place.flush();
    let row = reader.flow(place.flow(1)).unwrap().row;
    assert_eq!(
        (row.state, row.duration_ms),
        (FlowState::Completed, Some(0.8))
    );
    let body = reader
        .body(place.flow(1), Message::Response)
        .unwrap()
        .unwrap();
    assert_eq!(body.bytes, b"hello world");
}

#[test]
fn equal_bodies_are_stored_once() {
    let place = Place::new();
    for flow in 0..20 {
        let mut script = Script::new(flow);
        let large = vec![b'x'; 300_000];
        // Cut in other places, it is the same content.
        let cut = usize::try_from(flow).unwrap() * 10 + 1;
        script.request_body = vec![large[..cut].to_vec().into(), large[cut..].to_vec().into()];
        place.record(script.events());
        place.flush();
    }
    let connection = rusqlite::Connection::open(place.path()).unwrap();
    let bodies: (i64, i64, i64) = connection
        .query_row(
            "SELECT count(*), max(size), max(length(data)) FROM bodies",
            (),
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert_eq!((bodies.0, bodies.1), (2, 300_000));
    assert!(bodies.2 < 1000, "compressed: {}", bodies.2);
    let body = place
        .reader()
        .body(place.flow(20), Message::Request)
        .unwrap()
        .unwrap();
    assert_eq!(body.bytes, vec![b'x'; 300_000]);
}

#[test]
fn content_that_does_not_compress_is_kept_as_it_is() {
    let place = Place::new();
    let mut script = Script::new(1);
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(5000)
    .collect();
    script.response_body = vec![noise.clone().into()];
    place.record(script.events());
    let body = place
        .reader()
        .body(place.flow(1), Message::Response)
        .unwrap()
        .unwrap();
    assert_eq!(body.bytes, noise);
}

#[test]
fn hostile_bytes_are_kept_readable() {
    let place = Place::new();
    let heads: [&[u8]; 7] = [
        b"",
        b"\r\n\r\n",
        b"\xff\xfe\xfd",
        b"GET\r\n: \r\n\r\n",
        b"GET /\xff?\xc3\x28 HTTP/1.1\r\nA\xff: \xff\"\\\r\nno colon\r\nB: 1\r\n\r\n",
        b"GET http:// HTTP/9.9\r\n\r\n",
        b"\x1b[31mGET /\x00 HTTP/1.1\r\nA: \x1b]0;x\x07\r\n\r\n",
    ];
    for (flow, head) in heads.iter().enumerate() {
        let mut script = Script::new(flow as u64);
        script.request = head.to_vec();
        script.response = Some(head.to_vec());
        place.record(script.events());
    }
    let mut huge = Script::new(100);
    huge.request = format!(
        "GET /{} HTTP/1.1\r\nA: {}\r\n\r\n",
        "p".repeat(70_000),
        "v".repeat(3_000_000)
    )
    .into();
    place.record(huge.events());
    let reader = place.reader();
    let page = reader.flows(&Query::default()).unwrap();
    assert_eq!(page.rows.len(), heads.len() + 1);
    for row in &page.rows {
        let detail = reader.flow(row.id).unwrap();
        let document = oriel_store::json::FlowDocument::new(&detail, None);
        assert!(
            serde_json::to_string(&document)
                .unwrap()
                .contains("oriel.flow/1")
        );
    }
    let detail = reader.flow(place.flow(5)).unwrap();
    assert_eq!(detail.row.path, "/\u{ff}");
    assert_eq!(
        detail.request.fields,
        [("A\u{ff}".to_owned(), "\u{ff}\"\\".to_owned())]
    );
    assert_eq!(place.recorder.losses(), oriel_store::Losses::default());
}

#[test]
fn bodies_of_many_open_streams_leave_memory_and_come_back() {
    let place = Place::new();
    let scripts: Vec<Script> = (0..40)
        .map(|flow| {
            let mut script = Script::new(flow);
            let byte = u8::try_from(flow).unwrap();
            script.response_body = vec![vec![byte; 300_000].into(), vec![byte; 300_000].into()];
            script
        })
        .collect();
    // Twelve megabytes twice: what is open then is moved after the second half.
    for from in [0, 6, 7] {
        for script in &scripts {
            let events = script.events();
            let to = if from == 0 { 6 } else { from + 1 };
            let part = if from == 7 {
                &events[7..]
            } else {
                &events[from..to]
            };
            place.record(part.to_vec());
        }
        place.flush();
        let connection = rusqlite::Connection::open(place.path()).unwrap();
        let parts: i64 = connection
            .query_row("SELECT count(*) FROM body_parts", (), |row| row.get(0))
            .unwrap();
        match from {
            6 => assert!(parts >= 40, "moved: {parts}"),
            _ => assert_eq!(parts, 0),
        }
    }
    let reader = place.reader();
    for (position, script) in scripts.iter().enumerate() {
        let flow = place.flow(position as u64 + 1);
        let body = reader.body(flow, Message::Response).unwrap().unwrap();
        assert!(body.bytes == script.response_body() && !body.truncated);
        assert!(!reader.flow(flow).unwrap().row.truncated);
    }
}

/// Events of many flows, woven together.
fn woven(scripts: &[Script], picks: &[usize]) -> Vec<Event> {
    let mut left: Vec<_> = scripts
        .iter()
        .map(|script| script.events().into_iter())
        .collect();
    let mut events = Vec::new();
    for pick in picks.iter().cycle() {
        if left.is_empty() {
            return events;
        }
        let place = pick % left.len();
        match left[place].next() {
            Some(event) => events.push(event),
            None => drop(left.remove(place)),
        }
    }
    events
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However the events of flows interleave, and wherever batches and flushes fall, each flow
    /// comes back as if it had been alone.
    #[test]
    fn any_interleaving_gives_the_same_flows(
        picks in prop::collection::vec(0_usize..12, 1..40),
        cuts in prop::collection::vec(1_usize..30, 1..10),
        flushes in any::<u8>(),
    ) {
        let place = Place::new();
        let scripts: Vec<Script> = (0..12).map(|flow| {
            let mut script = Script::new(flow);
            script.response_body = vec![format!("body of {flow}").into(), "x".repeat(900).into()];
            if flow % 5 == 4 {
                script.failure = Some((failure("x"), None));
            }
            script
        }).collect();
        let mut events = woven(&scripts, &picks);
        for (position, cut) in (0_u32..).zip(cuts.iter().cycle()) {
            if events.is_empty() {
                break;
            }
            let rest = events.split_off((*cut).min(events.len()));
            place.record(std::mem::replace(&mut events, rest));
            if flushes.rotate_left(position) & 1 == 1 {
                place.flush();
            }
        }
        let reader = place.reader();
        let page = reader.flows(&Query::default()).unwrap();
        prop_assert_eq!(page.rows.len(), scripts.len());
        for row in &page.rows {
            let index = (row.started_at.0 - START) / 1000;
            let script = &scripts[usize::try_from(index).unwrap()];
            let failed = script.failure.is_some();
            prop_assert_eq!(row.state == FlowState::Failed, failed);
            prop_assert_eq!(row.state == FlowState::Completed, !failed);
            let body = reader.body(row.id, Message::Response).unwrap().unwrap();
            prop_assert_eq!(body.bytes, script.response_body());
        }
        let seqs: std::collections::BTreeSet<u64> = page.rows.iter().map(|row| row.id.seq).collect();
        prop_assert_eq!(seqs, (1..=12).collect());
    }
}

fn failure(text: &str) -> Failure {
    Failure {
        side: Side::Upstream,
        stage: Stage::Dial,
        kind: FailureKind::Refused,
        text: text.to_owned(),
    }
}

#[test]
fn the_client_s_process_and_hello_come_back() {
    let place = Place::new();
    let hello = ClientHello {
        sni: Some("cdn.example.com".to_owned()),
        legacy_version: 0x0303,
        ciphers: vec![0x1301],
        ..ClientHello::default()
    };
    let (ja3, ja4) = (fingerprint::ja3(&hello).hash, fingerprint::ja4(&hello));
    let known = ProcessCell::default();
    let facts = ConnectionFacts {
        user: Some("dana".into()),
        process: Some(known.clone()),
        hello: Some(Arc::new(hello)),
        tls: Err(traffic::NoTls::HandshakeFailed),
        ..ConnectionFacts::clone(&client())
    };
    let facts = Arc::new(facts);
    place.record(on_connections(Script::new(1).events(), &facts, &upstream()));
    let before = place.reader().flow(place.flow(1)).unwrap().client.unwrap();
    assert_eq!((before.process, before.no_process), (None, None));
    assert_eq!(before.user.as_deref(), Some("dana"));
    assert_eq!(before.sni.as_deref(), Some("cdn.example.com"));
    assert!(before.sni_differs);
    assert_eq!((before.ja3, before.ja4), (Some(ja3), Some(ja4.clone())));

    let secret = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789";
    known.set(Ok(node(&["node", "--api-key", secret])));
    // Found after its flow was stored: it is written with what comes next.
    place.record(Script::new(2).events());
    let reader = place.reader();
    let after = reader.flow(place.flow(1)).unwrap().client.unwrap();
    let process = after.process.unwrap();
    assert_eq!((process.pid, process.name.as_str()), (4711, "node"));
    assert_eq!(process.path.as_deref(), Some("/usr/bin/node"));
    assert!(!process.command_line.concat().contains(secret));
    assert_eq!(
        process.command_line.first().map(String::as_str),
        Some("node")
    );
    assert_eq!(process.ancestors.first().map(|known| known.pid), Some(1));
    for filter in [
        "process:node",
        "process:/usr/bin/*",
        "pid:4711",
        "sni:example.com -sni:x",
        "user:DANA -user:dan",
        &format!("tls:{ja4}"),
    ] {
        let filter = Filter::parse(filter, Timestamp(START)).unwrap();
        let query = Query {
            filter: Some(filter.clone()),
            ..Query::default()
        };
        let rows = reader.flows(&query).unwrap().rows;
        assert!(rows.iter().any(|row| row.id.seq == 1), "{filter:?}");
    }
    for (by, name) in [(StatsKey::User, "dana"), (StatsKey::Process, "node")] {
        let groups = reader.stats(by, None).unwrap().groups;
        assert!(
            groups
                .iter()
                .any(|group| group.key.as_deref() == Some(name)),
            "{groups:?}"
        );
    }
}

#[test]
fn why_a_process_is_not_known_is_kept() {
    let place = Place::new();
    let known = ProcessCell::default();
    known.set(Err(AttributionError::NotLocal));
    let facts = Arc::new(ConnectionFacts {
        process: Some(known),
        ..ConnectionFacts::clone(&client())
    });
    place.record(on_connections(Script::new(1).events(), &facts, &upstream()));
    let client = place.reader().flow(place.flow(1)).unwrap().client.unwrap();
    assert_eq!(client.no_process.as_deref(), Some("not_local"));
    assert!(client.process.is_none() && !client.sni_differs);
}
