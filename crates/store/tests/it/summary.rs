//! What a run sums up to.

use std::sync::Arc;

use traffic::secret::Secret;
use traffic::{
    Action, ConnectionFacts, Failure, FailureKind, FlowKind, ProcessCell, ProcessInfo, Side, Stage,
    Target,
};

use crate::script::{Place, Script, client, on_connections, upstream};

#[test]
fn a_run_is_summed_up() {
    let place = Place::new();
    for flow in 1..=100 {
        let mut script = Script::new(flow);
        script.micros = i64::try_from(flow).unwrap() * 8000;
        place.record(script.events());
    }
    let mut missing = Script::new(101);
    missing.response = Some(b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec());
    missing.response_cut = 5;
    place.record(missing.events());
    for (flow, action, kind) in [
        (102, Action::Intercept, FailureKind::TimedOut),
        (103, Action::Intercept, FailureKind::TimedOut),
        (104, Action::Block, FailureKind::Blocked),
    ] {
        let mut script = Script::new(flow);
        script.response = None;
        script.action = action;
        script.target = Target::parse("other.example", 443).unwrap();
        script.failure = Some((
            Failure {
                side: Side::Upstream,
                stage: Stage::Dial,
                kind,
                text: format!("failure of {flow}"),
            },
            None,
        ));
        place.record(script.events());
    }
    let mut tunnel = Script::new(105);
    tunnel.kind = FlowKind::Tunnel;
    tunnel.response = None;
    tunnel.tunnelled = Some((10, 20));
    place.record(tunnel.events());
    let mut open = Script::new(106).events();
    open.truncate(3);
    place.record(open);

    let summary = place.reader().summary(place.run).unwrap();
    assert_eq!(
        (summary.requests, summary.ok, summary.error_status),
        (105, 100, 1)
    );
    assert_eq!((summary.failed, summary.blocked, summary.open), (2, 1, 1));
    assert_eq!((summary.tunnels, summary.tunnel_bytes), (1, 30));
    assert_eq!((summary.truncated_flows, summary.lost_events), (1, 0));
    assert_eq!(summary.response_bytes, 101 * 11 + 5);
    // 101 requests were answered: the hundred take 8 to 800 ms, the one that was not found 0.8.
    let duration = summary.duration_ms.unwrap();
    assert_eq!((duration.p50, duration.p95), (400.0, 760.0));
    assert_eq!(summary.first_byte_ms.unwrap().p50, 200.0);
    assert_eq!(summary.slowest[0], (place.flow(100), 800.0));
    assert_eq!(summary.slowest.len(), 5);
    assert_eq!(summary.hosts_total, 2);
    assert_eq!((summary.hosts[0].flows, summary.hosts[1].failed), (103, 3));
    let group = &summary.failures[0];
    assert_eq!(
        (group.flows, &*group.kind, &*group.host),
        (2, "timed_out", "other.example")
    );
    assert_eq!(
        (&*group.text, group.example),
        ("failure of 102", place.flow(102))
    );
}

#[test]
fn failures_on_the_client_s_side_are_told_apart_by_program() {
    let place = Place::new();
    let cases = [
        (1, Some("curl"), Side::Client),
        (2, Some("python3.11"), Side::Client),
        (3, Some("curl"), Side::Client),
        (4, None, Side::Client),
        (5, Some("curl"), Side::Upstream),
        (6, Some("python3.11"), Side::Upstream),
    ];
    for (flow, program, side) in cases {
        let mut script = Script::new(flow);
        script.response = None;
        let failure = Failure {
            side,
            stage: Stage::Tls,
            kind: FailureKind::ClosedEarly,
            text: format!("failure of {flow}"),
        };
        script.failure = Some((failure, None));
        let facts = ConnectionFacts {
            process: program.map(process),
            ..ConnectionFacts::clone(&client())
        };
        let events = on_connections(script.events(), &Arc::new(facts), &upstream());
        place.record(events);
    }
    let failures = place.reader().summary(place.run).unwrap().failures;
    let told: Vec<_> = failures
        .iter()
        .map(|group| {
            (
                &*group.side,
                group.program.as_deref(),
                group.flows,
                group.example,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("client", Some("curl"), 2, place.flow(1)),
            ("upstream", None, 2, place.flow(5)),
            ("client", Some("python3.11"), 1, place.flow(2)),
            ("client", None, 1, place.flow(4)),
        ]
    );
}

fn process(name: &str) -> ProcessCell {
    let cell = ProcessCell::default();
    cell.set(Ok(Arc::new(ProcessInfo {
        pid: 4711,
        parent_pid: None,
        exe_name: name.to_owned(),
        exe_path: None,
        command_line: Secret::new(Vec::new()),
        command_line_cut: false,
        ancestors: Vec::new(),
        container: None,
        uid: None,
        started_at: None,
        bundle_id: None,
    })));
    cell
}

#[test]
fn a_run_without_flows_has_a_summary() {
    let place = Place::new();
    let summary = place.reader().summary(place.run).unwrap();
    assert_eq!((summary.requests, summary.duration_ms), (0, None));
    assert!(summary.hosts.is_empty() && summary.failures.is_empty());
}

#[test]
fn a_websocket_is_a_request_and_no_tunnel() {
    let place = Place::new();
    let mut socket = Script::new(1);
    socket.kind = FlowKind::WebSocket;
    place.record(socket.events());
    let summary = place.reader().summary(place.run).unwrap();
    assert_eq!((summary.requests, summary.ok, summary.tunnels), (1, 1, 0));
    assert_eq!(summary.duration_ms, None);
    assert!(summary.slowest.is_empty());
}
