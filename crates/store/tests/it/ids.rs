//! Ids that people type.

use oriel_store::{Reader, StoreError, UnknownId};
use traffic::Timestamp;

use crate::script::{Place, START, Script, new_run};

fn message(reader: &Reader, id: &str) -> String {
    match reader.resolve(id) {
        Ok(flow) => flow.to_string(),
        Err(error) => error.to_string(),
    }
}

/// RFC 9562: version 7, with the time of the flow in milliseconds.
#[test]
fn flows_have_uuids_that_hold_their_time() {
    let place = Place::new();
    for flow in 0..2 {
        let mut script = Script::new(flow);
        script.at = START + 123_456;
        place.record(script.events());
    }
    let reader = place.reader();
    let uuid = |seq| {
        let row = reader.flow(place.flow(seq)).unwrap().row;
        uuid::Uuid::parse_str(&row.uuid).unwrap()
    };
    let (first, second) = (uuid(1), uuid(2));
    assert_ne!(first, second);
    for uuid in [first, second] {
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        let (seconds, nanos) = uuid.get_timestamp().unwrap().to_unix();
        assert_eq!(i64::try_from(seconds).unwrap(), START / 1_000_000);
        assert_eq!(nanos, 123_000_000);
    }
}

#[test]
fn flows_are_found_by_every_name() {
    let place = Place::new();
    for flow in 0..3 {
        place.record(Script::new(flow).events());
    }
    let first = place.run;
    let second = place.store.begin_run(new_run(Some("fix-ci"))).unwrap();
    place
        .store
        .recorder(second)
        .handle_events(&mut Script::new(9).events());
    let reader = place.reader();
    let uuid = reader.flow(place.flow(2)).unwrap().row.uuid;
    for (id, expected) in [
        (format!("{first}.3"), format!("{first}.3")),
        (
            first.to_string().to_uppercase() + ".3",
            format!("{first}.3"),
        ),
        ("@last.1".to_owned(), format!("{second}.1")),
        ("@-1.1".to_owned(), format!("{second}.1")),
        ("@-2.2".to_owned(), format!("{first}.2")),
        ("fix-ci.1".to_owned(), format!("{second}.1")),
        (uuid.clone(), format!("{first}.2")),
        (uuid.to_uppercase(), format!("{first}.2")),
        (format!("{first}.4"), format!("run {first} has flows 1-3")),
        (format!("{first}.0"), format!("run {first} has flows 1-3")),
        (
            format!("{second}.7"),
            format!("run {second} has one flow, {second}.1"),
        ),
        ("@-3.1".to_owned(), "there is no run @-3".to_owned()),
        ("@x.1".to_owned(), "\"@x\" is not an id".to_owned()),
        ("none.1".to_owned(), "there is no run none".to_owned()),
        (
            first.to_string(),
            format!("{first} is a run; its flows are {first}.1 to {first}.3"),
        ),
        (String::new(), "there is no run ".to_owned()),
        ("%.1".to_owned(), "there is no run %".to_owned()),
    ] {
        assert_eq!(message(&reader, &id), expected, "for {id:?}");
    }
    assert_eq!(reader.resolve_run("@last").unwrap(), second);
    let unknown = oriel_store::FlowRef {
        run: first,
        seq: 99,
    };
    let error = reader.flow(unknown).unwrap_err();
    assert!(matches!(
        error,
        StoreError::UnknownId(UnknownId::NoFlow { flows: 3, .. })
    ));
}

#[test]
fn what_may_mean_several_runs_names_them() {
    let place = Place::new();
    let twins = [
        place.store.begin_run(new_run(Some("twin"))).unwrap(),
        place.store.begin_run(new_run(Some("twin"))).unwrap(),
    ];
    let error = place.reader().resolve_run("twin").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("twin may be any of {}, {}", twins[1], twins[0])
    );
}

#[test]
fn runs_are_kept_with_their_command_and_end() {
    let place = Place::new();
    let end = oriel_store::EndRun {
        ended_at: Timestamp(7),
        exit_code: Some(3),
        signal: None,
    };
    place.record(Script::new(1).events());
    place.store.end_run(place.run, end).unwrap();
    let run = place.reader().run(place.run).unwrap();
    assert_eq!(run.argv, ["curl", "https://example.com"]);
    assert_eq!((run.exit_code, run.ended_at), (Some(3), Some(Timestamp(7))));
    assert_eq!((run.flows, run.pid), (1, std::process::id()));
    assert_eq!(place.reader().runs(10).unwrap(), [run]);
}

#[test]
fn many_runs_have_ids_of_their_own() {
    let place = Place::new();
    let mut ids: Vec<_> = (0..300)
        .map(|_| place.store.begin_run(new_run(None)).unwrap())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 300);
}
