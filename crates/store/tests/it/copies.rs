//! Flows that are read with everything and written to another file are the same there.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use oriel_store::{
    FlowKind as Kind, FlowRecord, Imported, Importer, Marker, Message, Reader, Redaction,
    RunRecord, Store, StoreOptions,
};
use proptest::prelude::*;
use tempfile::TempDir;
use traffic::wire::websocket::{Coding, Message as Sent, MessageKind, Observation};
use traffic::{
    Action, ConnectionFacts, Event, Failure, FailureKind, FlowId, FlowKind, Head, ProcessCell,
    Rerouted, Sender, Side, Stage, Streamed, Timestamp, Version,
};

use crate::script::{Place, START, Script, client, head, new_run, node, on_connections, upstream};

/// All that there is, in looks of this many.
pub(crate) fn records(path: &Path, limit: usize) -> Vec<FlowRecord> {
    let reader = Reader::open(path).unwrap();
    let mut marker = Marker::default();
    let mut all: Vec<FlowRecord> = Vec::new();
    loop {
        let found = reader.records(marker, limit).unwrap();
        if found.marker == marker {
            assert!(found.flows.is_empty());
            return all;
        }
        assert!(found.flows.len() <= 2 * limit);
        // A flow that changed comes once more, as it is then.
        for flow in found.flows {
            all.retain(|known| known.detail.row.id != flow.detail.row.id);
            all.push(flow);
        }
        marker = found.marker;
    }
}

fn sorted(mut records: Vec<FlowRecord>) -> Vec<FlowRecord> {
    records.sort_by(|left, right| left.detail.row.uuid.cmp(&right.detail.row.uuid));
    records
}

/// The same but for the ids that people type.
fn without_ids(records: Vec<FlowRecord>) -> Vec<FlowRecord> {
    let strip = |mut record: FlowRecord| {
        let id = "aaaa".parse().unwrap();
        record.run = Arc::new(RunRecord {
            id,
            ..RunRecord::clone(&record.run)
        });
        record.detail.row.id.run = id;
        record
    };
    sorted(records.into_iter().map(strip).collect())
}

fn import(path: &Path, records: &[FlowRecord]) -> Imported {
    Importer::open(path).unwrap().insert(records).unwrap()
}

fn known_process() -> ProcessCell {
    let cell = ProcessCell::default();
    cell.set(Ok(node(&["node", "a b"])));
    cell
}

/// One flow of each sort.
pub(crate) fn record_all_sorts(place: &Place) {
    place.record(Script::new(1).events());

    let mut tunnel = Script::new(2);
    tunnel.kind = FlowKind::Tunnel;
    tunnel.action = Action::Tunnel;
    tunnel.request = b"CONNECT api.example.com:443 HTTP/1.1\r\n\r\n".to_vec();
    tunnel.request_body.clear();
    tunnel.response = None;
    tunnel.tunnelled = Some((1234, 0));
    place.record(tunnel.events());

    let mut failed = Script::new(3);
    failed.response = None;
    let failure = Failure {
        side: Side::Upstream,
        stage: Stage::Dial,
        kind: FailureKind::Refused,
        text: "it refused".to_owned(),
    };
    failed.failure = Some((failure, Some(502)));
    place.record(failed.events());

    // Interim heads, trailers, bytes that are no UTF-8, a large body, a process.
    let mut rich = Script::new(4);
    rich.request =
        b"GET http://api.example.com/a%20b?x=\xe9#f HTTP/1.1\r\nA: \xfc\r\nB:\r\na:  2 \r\n\r\n"
            .to_vec();
    rich.response_body = vec![Bytes::from("body ".repeat(10_000))];
    rich.response_cut = 7;
    let mut events = rich.events();
    events.insert(
        4,
        Event::Informational {
            flow: FlowId(4),
            at: Timestamp(START),
            head: head(b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"),
        },
    );
    for event in &mut events {
        if let Event::ResponseEnded { trailers, .. } = event {
            let sums = Head::trailers(Version::Http11, b"Sum: 1\r\nsum: 2\r\n\r\n");
            *trailers = Some(Box::new(sums));
        }
    }
    let facts = Arc::new(ConnectionFacts {
        process: Some(known_process()),
        user: Some("alice".into()),
        ..ConnectionFacts::clone(&client())
    });
    place.record(on_connections(events, &facts, &upstream()));

    let mut gateway = Script::new(5);
    gateway.request = b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    let mut events = gateway.events();
    events.insert(
        1,
        Event::Rerouted(Box::new(Rerouted {
            flow: FlowId(5),
            at: Timestamp(START),
            route: "local".into(),
            url: "http://127.0.0.1:4000/v1".to_owned(),
            request_id: Some("id-5".to_owned()),
        })),
    );
    place.record(events);

    let mut socket = Script::new(6);
    socket.kind = FlowKind::WebSocket;
    socket.request_body.clear();
    socket.response_body.clear();
    socket.response_cut = 100;
    let mut events = socket.events();
    for (place, payload) in ["ask", "answer ".repeat(1000).as_str()].iter().enumerate() {
        events.insert(
            3 + place,
            Event::Streamed {
                flow: FlowId(6),
                at: Timestamp(START + 9000),
                sender: Sender::Client,
                item: Box::new(Streamed::WebSocket(Observation::Message(Sent {
                    kind: MessageKind::Text,
                    payload: Bytes::copy_from_slice(payload.as_bytes()),
                    payload_bytes: payload.len() as u64,
                    wire_bytes: 10,
                    frames: 1,
                    coding: Coding::Plain,
                    complete: true,
                }))),
            },
        );
    }
    place.record(events);

    // One that does not end.
    let mut events = Script::new(7).events();
    events.pop();
    place.record(events);
    place.flush();
}

#[test]
fn all_sorts_of_flows_are_the_same_in_another_file() {
    let place = Place::new();
    record_all_sorts(&place);
    let original = sorted(records(&place.path(), 2));
    assert_eq!(original.len(), 7);
    assert_eq!(original[5].messages.len(), 2);
    assert_eq!(original[5].detail.row.kind, Kind::WebSocket);
    assert_eq!(original[3].detail.informational.len(), 1);
    assert_eq!(original[3].detail.response_trailers.len(), 2);
    assert!(
        original[3]
            .detail
            .client
            .as_ref()
            .unwrap()
            .process
            .is_some()
    );
    assert_eq!(original[4].detail.gateway.as_ref().unwrap().route, "local");

    let other = place.folder.path().join("other.db");
    let done = import(&other, &original);
    assert_eq!((done.added, done.changed), (7, 0));
    assert_eq!(sorted(records(&other, 3)), original);
    // Pages, ids and bodies are found there as well.
    let reader = Reader::open(&other).unwrap();
    let id = reader.resolve(&original[3].detail.row.uuid).unwrap();
    assert_eq!(id.seq, 4);
    let body = reader.body(id, Message::Response).unwrap().unwrap();
    assert_eq!((body.bytes.len(), body.truncated), (50_000, true));
    assert_eq!(reader.run(place.run).unwrap().flows, 7);

    // Twice is once; only what has not ended may have changed.
    let again = import(&other, &original);
    assert_eq!((again.added, again.changed, again.unchanged), (0, 1, 6));
    assert_eq!(sorted(records(&other, 100)), original);
}

#[test]
fn what_changed_comes_again_and_replaces_what_was_there() {
    let place = Place::new();
    let mut events = Script::new(1).events();
    let ending = events.split_off(4);
    place.record(events);
    let reader = place.reader();
    let first = reader.records(Marker::default(), 10).unwrap();
    assert_eq!(first.flows.len(), 1);
    let other = place.folder.path().join("other.db");
    import(&other, &first.flows);

    place.record(ending);
    place.flush();
    let second = reader.records(first.marker, 10).unwrap();
    assert_eq!(second.flows.len(), 1);
    assert!(reader.records(second.marker, 10).unwrap().flows.is_empty());
    let done = import(&other, &second.flows);
    assert_eq!((done.added, done.changed), (0, 1));
    assert_eq!(records(&other, 10), second.flows);
    // What comes late and knows less changes nothing.
    let done = import(&other, &first.flows);
    assert_eq!((done.changed, done.unchanged), (0, 1));
    assert_eq!(records(&other, 10), second.flows);
}

#[test]
fn a_look_ends_at_its_bound_and_goes_on_there() {
    let place = Place::new();
    let mut events = Vec::new();
    for flow in 1..=300 {
        let mut script = Script::new(flow);
        // Bodies of 100 KB: a hundred and some fill a look.
        script.response_body = vec![Bytes::from(vec![flow.to_le_bytes()[0]; 100_000])];
        events.extend(script.events());
    }
    place.record(events);
    place.flush();
    let reader = place.reader();
    let first = reader.records(Marker::default(), 1000).unwrap();
    let most = oriel_store::limits::RECORDS_BYTES_MAX / 100_000 + 1;
    assert!(
        (100..=most).contains(&first.flows.len()),
        "{}",
        first.flows.len()
    );
    assert_eq!(records(&place.path(), 1000).len(), 300);
    assert_eq!(records(&place.path(), 7).len(), 300);
}

#[test]
fn a_run_whose_id_is_taken_gets_another() {
    let place = Place::new();
    record_all_sorts(&place);
    let mut original = records(&place.path(), 100);
    let other = TempDir::new().unwrap();
    let path = other.path().join("oriel.db");
    let store = Store::open(&path, StoreOptions::new(Redaction::Basic)).unwrap();
    let taken = store.begin_run(new_run(None)).unwrap();
    store
        .recorder(taken)
        .handle_events(&mut Script::new(1).events());
    store.close().unwrap();
    // As if both had drawn the same four characters.
    for record in &mut original {
        record.detail.row.id.run = taken;
        record.run = Arc::new(RunRecord {
            id: taken,
            ..RunRecord::clone(&record.run)
        });
    }
    assert_eq!(import(&path, &original).added, 7);
    let all = records(&path, 100);
    assert_eq!(all.len(), 8);
    let (own, copied): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|record| record.run.id == taken);
    assert_eq!(own.len(), 1);
    assert_eq!(without_ids(copied), without_ids(original));
}

#[test]
fn the_end_of_a_run_is_taken_later() {
    let place = Place::new();
    record_all_sorts(&place);
    let other = place.folder.path().join("other.db");
    import(&other, &records(&place.path(), 100));
    assert_eq!(
        Reader::open(&other)
            .unwrap()
            .run(place.run)
            .unwrap()
            .ended_at,
        None
    );
    let end = oriel_store::EndRun {
        ended_at: Timestamp(START + 99),
        exit_code: Some(3),
        signal: None,
    };
    place.store.end_run(place.run, end).unwrap();
    let run = Arc::clone(&records(&place.path(), 100)[0].run);
    let mut importer = Importer::open(&other).unwrap();
    let batch = oriel_store::ArchiveBatch {
        runs: vec![run],
        ..oriel_store::ArchiveBatch::default()
    };
    importer.insert_batch(&batch).unwrap();
    let copied = Reader::open(&other).unwrap().run(place.run).unwrap();
    assert_eq!(
        (copied.ended_at, copied.exit_code),
        (Some(Timestamp(START + 99)), Some(3))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever a head holds: what is read of it once is read of its copy.
    #[test]
    fn any_head_is_the_same_in_another_file(
        line in "[ -~é\u{1}]{0,40}",
        fields in "([a-zA-Z:é \r\n\t\u{1}]){0,60}",
    ) {
        let place = Place::new();
        let mut script = Script::new(1);
        script.request = format!("{line}\r\n{fields}").into_bytes();
        script.response = Some(format!("HTTP/1.1 200 {line}\r\n{fields}").into_bytes());
        place.record(script.events());
        place.flush();
        let original = records(&place.path(), 10);
        let other = place.folder.path().join("other.db");
        import(&other, &original);
        prop_assert_eq!(records(&other, 10), original);
    }
}
