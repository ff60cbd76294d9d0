//! Filters answer as a plain reading of them does.

use oriel_store::{Annotate, Annotator, FlowDetail, Query, Reader};
use proptest::prelude::*;
use traffic::rules::filter::{Expression, Filter, NumberKey, Pattern, Test, TextKey};
use traffic::{Action, Failure, FailureKind, FlowKind, Side, Stage, Target, Timestamp};

use crate::script::{Place, START, Script};

fn place() -> Place {
    let place = Place::new();
    record_sixty(&place);
    place
}

/// Sixty flows of every kind.
pub(crate) fn record_sixty(place: &Place) {
    for flow in 0..60_u64 {
        let mut script = Script::new(flow);
        script.micros = i64::try_from(flow % 7).unwrap() * 100_000;
        let hosts = [
            "api.example.com",
            "example.com",
            "notexample.com",
            "127.0.0.1",
        ];
        let host = hosts[usize::try_from(flow % 4).unwrap()];
        script.target = Target::parse(host, 443).unwrap();
        let method = ["GET", "POST", "delete"][usize::try_from(flow % 3).unwrap()];
        let path =
            ["/v1/messages", "/V1/a%20b_c?x=1", "/", "*"][usize::try_from(flow / 4 % 4).unwrap()];
        script.request =
            format!("{method} {path} HTTP/1.1\r\nX-Odd: {flow}\r\nAccept: text/*\r\n\r\n").into();
        let status = [200, 204, 404, 503][usize::try_from(flow % 4).unwrap()];
        script.response =
            Some(format!("HTTP/1.1 {status} X\r\nX-Odd: Answer {flow}\r\n\r\n").into());
        script.response_cut = flow * 1000;
        if flow % 6 == 5 {
            script.response = None;
            script.failure = Some((
                Failure {
                    side: Side::Upstream,
                    stage: Stage::Dial,
                    kind: FailureKind::TimedOut,
                    text: format!("no answer within {flow} s"),
                },
                None,
            ));
        }
        if flow % 10 == 9 {
            script.kind = FlowKind::Tunnel;
            script.action = Action::Tunnel;
            script.tunnelled = Some((flow, flow * 10));
            script.response_body.clear();
            script.response_cut = 0;
        }
        let mut events = script.events();
        if flow % 15 == 14 {
            events.truncate(3);
        }
        place.record(events);
    }
    place.flush();
    let mut annotator = Annotator::open(&place.path()).unwrap();
    for (seq, tags, note) in [
        (3, &["gold", "team.a"][..], None),
        (4, &["gold"], Some("Slow: 50% of it")),
        (5, &[], Some("look here")),
    ] {
        let change = Annotate {
            add_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            note: note.map(str::to_owned),
            ..Annotate::default()
        };
        annotator.annotate(place.flow(seq), &change).unwrap();
    }
}

fn matches(expression: &Expression, flow: &FlowDetail) -> bool {
    match expression {
        Expression::All(parts) => parts.iter().all(|part| matches(part, flow)),
        Expression::Any(parts) => parts.iter().any(|part| matches(part, flow)),
        Expression::Not(inner) => !matches(inner, flow),
        Expression::Test(test) => passes(test, flow),
    }
}

fn passes(test: &Test, flow: &FlowDetail) -> bool {
    let row = &flow.row;
    let error = row.error.as_ref();
    let error_text = error.map(|error| &*error.text);
    match test {
        Test::Anywhere(pattern) => {
            let texts = [Some(&*row.url), Some(&*row.method), error_text];
            texts.into_iter().flatten().any(|text| has(pattern, text))
        }
        Test::Header(name, pattern) => {
            let response = flow.response.iter().flat_map(|head| &head.fields);
            let mut fields = flow.request.fields.iter().chain(response);
            fields.any(|(known, value)| known.eq_ignore_ascii_case(name) && has(pattern, value))
        }
        Test::Text(key, pattern) => match key {
            TextKey::Url => has(pattern, &row.url),
            TextKey::Path => has(pattern, &row.path),
            TextKey::Host => is(pattern, &row.host) || is_below(pattern, &row.host),
            TextKey::Method => is(pattern, &row.method),
            TextKey::Kind => is(pattern, row.kind.as_str()),
            TextKey::State => is(pattern, row.state.as_str()),
            TextKey::Proto => is(pattern, row.client_version.as_deref().unwrap()),
            TextKey::Route => is(pattern, &row.route_action) || has(pattern, &row.route_rule),
            TextKey::Error => error.is_some_and(|error| {
                [&error.side, &error.stage, &error.kind]
                    .iter()
                    .any(|text| is(pattern, text))
                    || has(pattern, &error.text)
            }),
            TextKey::Run => is(pattern, row.id.run.as_str()),
            TextKey::Session => {
                let session = row.session.as_ref();
                is(pattern, row.id.run.as_str())
                    || session.is_some_and(|mark| is(pattern, &mark.id))
            }
            TextKey::TrafficType => is(pattern, row.traffic_type.as_str()),
            TextKey::Agent => row.session.as_ref().is_some_and(|mark| {
                let names = [&mark.agent, &mark.agent_id];
                names.into_iter().flatten().any(|name| is(pattern, name))
            }),
            TextKey::Process => {
                let process = flow.client.as_ref().unwrap().process.as_ref();
                process.is_some_and(|process| {
                    let path = process.path.as_deref();
                    is(pattern, &process.name) || path.is_some_and(|path| is(pattern, path))
                })
            }
            TextKey::Front => is(pattern, &flow.client.as_ref().unwrap().front),
            TextKey::User => {
                let user = flow.client.as_ref().unwrap().user.as_deref();
                user.is_some_and(|user| is(pattern, user))
            }
            TextKey::Sni => {
                let sni = flow.client.as_ref().unwrap().sni.as_deref();
                sni.is_some_and(|sni| is(pattern, sni) || is_below(pattern, sni))
            }
            TextKey::Fingerprint => {
                let client = flow.client.as_ref().unwrap();
                let names = [&client.ja3, &client.ja4];
                names.into_iter().flatten().any(|name| is(pattern, name))
            }
            // The runs of a machine itself do not say whose they are.
            TextKey::Instance | TextKey::Owner => false,
            TextKey::Tag => row.tags.iter().any(|tag| is(pattern, tag)),
            TextKey::Note => row.note.as_ref().is_some_and(|note| has(pattern, note)),
            TextKey::Marked => is(pattern, if row.tags.is_empty() { "no" } else { "yes" }),
            TextKey::Id => is(pattern, &row.id.to_string()) || is(pattern, &row.uuid),
        },
        // They are looked for in an index: see the tests of searching.
        Test::Words(_) => false,
        Test::Number(key, bounds) => {
            let integer = |number: u64| i64::try_from(number).unwrap();
            let number = match key {
                NumberKey::Status => row.status.map(i64::from),
                NumberKey::RequestSize => row.request_bytes.map(integer),
                NumberKey::ResponseSize => row.response_bytes.map(integer),
                NumberKey::Size => Some(integer(
                    row.request_bytes.unwrap_or(0) + row.response_bytes.unwrap_or(0),
                )),
                NumberKey::Duration => row.ended_at.map(|at| at.micros_since(row.started_at)),
                NumberKey::Pid => {
                    let process = flow.client.as_ref().unwrap().process.as_ref();
                    process.map(|process| process.pid.into())
                }
                NumberKey::Time => Some(row.started_at.0),
            };
            number.is_some_and(|number| bounds.contain(number))
        }
    }
}

/// The whole text, or for a plain pattern a part of it.
fn has(pattern: &Pattern, text: &str) -> bool {
    match pattern {
        Pattern::Plain(part) => text
            .to_ascii_lowercase()
            .contains(&part.to_ascii_lowercase()),
        _ => is(pattern, text),
    }
}

fn is(pattern: &Pattern, text: &str) -> bool {
    match pattern {
        Pattern::Plain(whole) => text.eq_ignore_ascii_case(whole),
        Pattern::Regex(regex) => Pattern::compile(regex).unwrap().is_match(text),
        Pattern::Glob(parts) => {
            let parts: Vec<String> = parts.iter().map(|part| regex::escape(part)).collect();
            let regex = format!("(?is-u)^{}$", parts.join(".*"));
            regex::bytes::Regex::new(&regex)
                .unwrap()
                .is_match(text.as_bytes())
        }
    }
}

fn is_below(pattern: &Pattern, host: &str) -> bool {
    match pattern {
        Pattern::Plain(name) => host
            .to_ascii_lowercase()
            .ends_with(&format!(".{}", name.to_ascii_lowercase())),
        _ => false,
    }
}

/// Compares the answers; says how many flows matched.
fn check(reader: &Reader, flows: &[FlowDetail], text: &str) -> usize {
    let filter = Filter::parse(text, Timestamp(START + 3_600_000_000)).unwrap();
    let query = Query {
        filter: Some(filter.clone()),
        limit: 1000,
        ..Query::default()
    };
    let mut found: Vec<u64> = reader
        .flows(&query)
        .unwrap()
        .rows
        .iter()
        .map(|row| row.id.seq)
        .collect();
    found.sort_unstable();
    let mut expected: Vec<u64> = flows
        .iter()
        .filter(|flow| matches(filter.expression(), flow))
        .map(|flow| flow.row.id.seq)
        .collect();
    expected.sort_unstable();
    assert_eq!(found, expected, "for {text}");
    found.len()
}

fn all(reader: &Reader, place: &Place) -> Vec<FlowDetail> {
    (1..=60)
        .map(|seq| reader.flow(place.flow(seq)).unwrap())
        .collect()
}

#[test]
fn every_key_answers() {
    let place = place();
    let reader = place.reader();
    let flows = all(&reader, &place);
    let run = place.run;
    // Each has to match some and not all, or it would show nothing.
    for text in [
        "host:example.com",
        "host:*.example.com",
        "host:EXAMPLE.com",
        "-host:127.0.0.1",
        "path:/v1/",
        "path:/v1/*",
        "path:\"a%20b_c\"",
        "path:/",
        "path:/a.20B/",
        "url:*x=1",
        "method:GET,DELETE",
        "type:llm",
        "-type:llm,unknown",
        "-method:g*",
        "status:404",
        "-status:404",
        "status:>=400 -status:503",
        "kind:tunnel",
        "state:open",
        "size:>20k",
        "req.size:<=9",
        "resp.size:1k..10KiB",
        "dur:>=300ms",
        "-dur:>=300ms",
        "time:>2026-03-02T09:00:00.03Z",
        "until:2026-03-02T09:00:00.03Z",
        "error:*",
        "-error:*",
        "error:timed_out within",
        "error:upstream messages",
        "route:tunnel",
        "tag:GOLD",
        "tag:team*",
        "tag:gold,none",
        "-tag:gold",
        "note:\"50% of\"",
        "note:*here",
        "marked:yes",
        "marked:no",
        "header.x-odd:7",
        "header.X-Odd:answer*",
        "header.x-odd:/^1\\d$/",
        "delete",
        "\"no answer\"",
        "(status:200 OR status:404) host:notexample.com",
        "a b OR messages",
    ] {
        let found = check(&reader, &flows, text);
        assert!((1..60).contains(&found), "{text} matches {found}");
    }
    for (text, expected) in [
        ("", 60),
        ("since:2h", 60),
        ("since:1m", 0),
        ("proto:h1", 60),
        ("proto:h2", 0),
        (&format!("session:{run}"), 60),
        (&format!("run:{run}"), 60),
        (&format!("id:{run}.7"), 1),
        (&format!("id:{}", flows[3].row.uuid), 1),
    ] {
        assert_eq!(check(&reader, &flows, text), expected, "{text}");
    }
    let find = |text: &str| {
        let filter = Filter::parse(text, Timestamp(START)).unwrap();
        let query = Query {
            filter: Some(filter),
            with_total: true,
            ..Query::default()
        };
        reader.flows(&query).unwrap().total
    };
    assert_eq!(find("session:@last"), Some(60));
    assert_eq!(find("session:@-2"), Some(0));
    assert_eq!(find("-session:@-2"), Some(60));
}

#[test]
fn text_of_the_user_stays_a_value() {
    let place = place();
    let reader = place.reader();
    let flows = all(&reader, &place);
    for text in [
        "\"' OR 1=1 --\"",
        "path:\"'; DROP TABLE flows; --\"",
        "header.x'y:z",
        "\"?1\"",
        "host:%",
        "path:_",
        "\"\\\\\"",
    ] {
        match Filter::parse(text, Timestamp(START)) {
            Ok(_) => drop(check(&reader, &flows, text)),
            Err(error) => assert!(text.starts_with("header"), "{error}"),
        }
    }
}

fn atom() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "host:",
        "path:",
        "url:",
        "method:",
        "route:",
        "error:",
        "header.x-odd:",
        "id:",
        "",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "example",
            "api.example.com",
            "GET",
            "timed_out",
            "1",
            "/v1",
            "x=1",
            "%",
            "_",
            "answer",
        ])
        .prop_map(str::to_owned),
        "[a-z/.%_*]{1,4}",
    ];
    let text = (key, value).prop_map(|(key, value)| format!("{key}\"\"{value}"));
    let number = prop::sample::select(vec![
        "status:>=",
        "size:>",
        "size:<",
        "req.size:",
        "resp.size:>=",
        "dur:<",
        "dur:>=",
        "status:<",
    ]);
    let number = (number, 0_u32..700).prop_map(|(key, number)| format!("{key}{number}"));
    prop_oneof![
        text,
        number,
        Just("kind:tunnel".to_owned()),
        Just("state:open".to_owned())
    ]
}

/// A filter of one regular expression, put together from parts that mean different things elsewhere.
pub(crate) fn regex() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "a",
        "m",
        "s*",
        "e.",
        "1",
        "\\d",
        "\\W",
        "\\b",
        "\\B",
        "^",
        "$",
        "[^a-f]",
        "[e-s]{2,3}",
        "(?:ss|x)+?",
        "(?i:EX)",
        "(?-i:V)",
        "\\.",
        "\\p{L}",
        "[[:^alpha:]]",
        "(a|p)?",
        "\\x2e",
    ]);
    let key = prop::sample::select(vec!["url", "path", "host", "header.x-odd", "error"]);
    (key, prop::collection::vec(parts, 1..5))
        .prop_map(|(key, parts)| format!("{key}:/{}/", parts.concat()))
}

pub(crate) fn filter() -> impl Strategy<Value = String> {
    atom().prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(|parts| parts.join(" ")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} OR {right})")),
            inner.prop_map(|inner| format!("-({inner})")),
        ]
    })
}

#[test]
fn random_filters_answer_as_a_plain_reading_does() {
    let place = place();
    let reader = place.reader();
    let flows = all(&reader, &place);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    runner
        .run(&filter(), |text| {
            check(&reader, &flows, &text);
            Ok(())
        })
        .unwrap();
}
