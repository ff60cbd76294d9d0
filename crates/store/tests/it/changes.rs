//! Following what is recorded.

use oriel_store::{FlowState, Marker};
use traffic::Timestamp;
use traffic::rules::filter::Filter;

use crate::script::{Place, START, Script};

#[test]
fn a_follower_sees_each_change_once() {
    let place = Place::new();
    place.record(Script::new(1).events());
    let reader = place.reader();
    let all = reader.changes_since(Marker::default(), None).unwrap();
    assert_eq!(all.rows.len(), 1);
    let marker = reader.marker().unwrap();
    assert_eq!(all.marker, marker);
    assert!(reader.changes_since(marker, None).unwrap().rows.is_empty());

    let mut events = Script::new(2).events();
    let end = events.split_off(events.len() - 1);
    place.record(events);
    place.record(Script::new(3).events());
    place.flush();
    let changes = reader.changes_since(marker, None).unwrap();
    let states: Vec<_> = changes.rows.iter().map(|row| row.state).collect();
    assert_eq!(states, [FlowState::Open, FlowState::Completed]);
    let marker = changes.marker;

    place.record(end);
    place.flush();
    let changes = reader.changes_since(marker, None).unwrap();
    assert_eq!(changes.rows.len(), 1);
    assert_eq!(changes.rows[0].id.seq, 2);
    assert_eq!(changes.rows[0].state, FlowState::Completed);
    assert!(
        reader
            .changes_since(changes.marker, None)
            .unwrap()
            .rows
            .is_empty()
    );
}

#[test]
fn a_follower_that_is_far_behind_gets_everything_in_pieces() {
    let place = Place::new();
    for flow in 0..2500 {
        place.record(Script::new(flow).events());
    }
    let reader = place.reader();
    let filter = Filter::parse("status:200", Timestamp(START)).unwrap();
    let mut marker = Marker::default();
    let mut seqs = Vec::new();
    loop {
        let changes = reader.changes_since(marker, Some(&filter)).unwrap();
        if changes.marker == marker {
            break;
        }
        assert!(changes.rows.len() <= oriel_store::limits::CHANGES_ROWS_MAX);
        seqs.extend(changes.rows.iter().map(|row| row.id.seq));
        marker = changes.marker;
    }
    assert_eq!(seqs, (1..=2500).collect::<Vec<_>>());
}

#[test]
fn what_does_not_match_is_passed_over() {
    let place = Place::new();
    place.record(Script::new(1).events());
    let reader = place.reader();
    let filter = Filter::parse("status:500", Timestamp(START)).unwrap();
    let changes = reader
        .changes_since(Marker::default(), Some(&filter))
        .unwrap();
    assert!(changes.rows.is_empty());
    assert_eq!(changes.marker, reader.marker().unwrap());
}
