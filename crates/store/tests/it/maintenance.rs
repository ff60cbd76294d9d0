//! What people do with a file besides recording into it.

use oriel_store::{Location, back_up, check_file, check_file_in_phases, copy, file_status};
use rusqlite::Connection;

use crate::script::{Place, Script};

fn recorded(flows: u64) -> Place {
    let place = Place::new();
    for flow in 1..=flows {
        place.record(Script::new(flow).events());
    }
    place.flush();
    place
}

#[test]
fn what_is_missing_is_named() {
    let place = recorded(3);
    let mut phases = Vec::new();
    let findings = check_file_in_phases(&place.path(), |phase| phases.push(phase)).unwrap();
    assert_eq!(findings, Vec::<String>::new());
    assert_eq!(phases.len(), 8);
    assert_eq!(
        phases[..2],
        ["damaged pages", "flows of runs that are missing"]
    );
    let file = Connection::open(place.path()).unwrap();
    file.execute_batch(
        "PRAGMA foreign_keys = OFF; DELETE FROM places; DELETE FROM bodies;
        DELETE FROM response_kinds",
    )
    .unwrap();
    let findings = check_file(&place.path()).unwrap();
    assert_eq!(
        findings,
        [
            "3 flows to places that are missing",
            "3 flows with kinds of responses that are missing",
            "3 request bodies that are missing",
            "3 response bodies that are missing",
        ]
    );
}

#[test]
fn a_backup_is_one_state_of_the_file_while_others_write() {
    let place = recorded(100);
    let to = place.folder.path().join("backup.db");
    let mut told = Vec::new();
    back_up(&place.path(), &to, |done, all| {
        // More comes meanwhile.
        place.record(Script::new(1000 + done).events());
        place.flush();
        told.push((done, all));
    })
    .unwrap();
    let (done, all) = *told.last().unwrap();
    assert_eq!(done, all);
    assert_eq!(file_status(&to).unwrap().flows, 100);
    assert_eq!(check_file(&to).unwrap(), Vec::<String>::new());
    assert!(file_status(&place.path()).unwrap().flows > 100);
    // It is not made over another file.
    assert!(back_up(&place.path(), &to, |_, _| {}).is_err());
    assert_eq!(file_status(&to).unwrap().flows, 100);
}

#[test]
fn a_copy_takes_losses_and_runs_without_flows_along() {
    let place = recorded(5);
    let empty = place
        .store
        .begin_run(crate::script::new_run(Some("empty")))
        .unwrap();
    let file = Connection::open(place.path()).unwrap();
    file.execute(
        "INSERT INTO gaps (run_id, at, reason, events, body_bytes) VALUES (?1, 5, 'queue_full', 7, 70)",
        [place.run.as_str()],
    )
    .unwrap();
    let to = Location::File(place.folder.path().join("copy.db"));
    let from = Location::File(place.path());
    for _ in 0..2 {
        let mut archive = to.open_archive().unwrap();
        let mut told = 0;
        let copied = copy(&from, archive.as_mut(), |flows| told = flows).unwrap();
        assert_eq!((copied.flows, copied.runs, copied.gaps, told), (5, 2, 1, 5));
    }
    let reader = oriel_store::Reader::open_at(&to).unwrap();
    assert_eq!(reader.summary(place.run).unwrap().lost_events, 7);
    assert_eq!(reader.run(empty).unwrap().name.as_deref(), Some("empty"));
}
