//! What happens when the writer falls behind.

use std::time::Duration;

use oriel_store::{FlowState, Losses, Message, Redaction, StoreError, StoreOptions};
use rusqlite::Connection;
use traffic::{CertificateRefused, Event, FlowId, Host, Outcome, Timestamp};

use crate::script::{Place, START, Script};

/// A store that has nothing but its queue.
fn small(bytes: usize, events: usize) -> Place {
    let mut options = StoreOptions::new(Redaction::Basic);
    options.spool_bytes_max = 0;
    options.queue_bytes_max = bytes;
    options.queue_events_max = events;
    Place::with(options)
}

/// Keeps the writer from writing, as another process could.
fn lock(place: &Place) -> Connection {
    let connection = Connection::open(place.path()).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

/// Records flows until the writer has taken one batch, which it cannot write.
fn block_writer(place: &Place) -> Connection {
    let lock = lock(place);
    place.record(Script::new(1_000_000).events());
    // It takes the batch at once because someone waits for it.
    let waited = place.recorder.flush(Duration::from_millis(200));
    assert!(matches!(
        waited,
        Err(StoreError::Deadline | StoreError::Locked)
    ));
    lock
}

#[test]
fn what_is_of_no_flow_is_no_loss() {
    let place = small(100_000, 100_000);
    place.record(vec![Event::CertificateRefused(Box::new(
        CertificateRefused {
            at: Timestamp(1),
            host: Host::parse("a.test").unwrap(),
            program: None,
            times: 3,
            bypassed_until: None,
        },
    ))]);
    place.record(Script::new(1).events());
    place.flush();
    assert_eq!(place.recorder.losses(), Losses::default());
    let gaps: i64 = Connection::open(place.path())
        .unwrap()
        .query_row("SELECT count(*) FROM gaps", (), |row| row.get(0))
        .unwrap();
    assert_eq!(gaps, 0);
}

#[test]
fn bodies_are_dropped_first_and_the_gap_is_recorded() {
    let place = small(100_000, 100_000);
    let lock = block_writer(&place);
    for flow in 1..=10 {
        let mut script = Script::new(flow);
        script.response_body = vec![vec![b'x'; 20_000].into(); 2];
        place.record(script.events());
    }
    let losses = place.recorder.losses();
    assert!(
        losses.events > 0 && losses.body_bytes >= 200_000,
        "{losses:?}"
    );
    lock.execute_batch("ROLLBACK").unwrap();
    let reader = place.reader();
    // All flows are there, with their heads; some without their bodies, and these say so.
    let mut cut = 0;
    for seq in 2..=11 {
        let row = reader.flow(place.flow(seq)).unwrap().row;
        assert_eq!(row.status, Some(200));
        let body = reader
            .body(place.flow(seq), Message::Response)
            .unwrap()
            .unwrap();
        assert_eq!(body.truncated, body.bytes.len() < 40_000);
        assert_eq!(row.truncated, body.truncated);
        cut += u64::from(body.truncated);
    }
    assert!((1..10).contains(&cut), "{cut}");
    assert_eq!(
        reader.summary(place.run).unwrap().lost_events,
        losses.events
    );
}

#[test]
fn whole_batches_are_dropped_last_and_the_queue_stays_bounded() {
    let place = small(1_000_000, 100);
    let lock = block_writer(&place);
    for flow in 1..=1000 {
        place.record(Script::new(flow).events());
    }
    let losses = place.recorder.losses();
    assert!(losses.events > 8000, "{losses:?}");
    lock.execute_batch("ROLLBACK").unwrap();
    let reader = place.reader();
    let summary = reader.summary(place.run).unwrap();
    assert_eq!(summary.lost_events, losses.events);
    assert!(summary.ok >= 10, "{}", summary.ok);
    // It goes on as if nothing had been.
    place.record(Script::new(2000).events());
    place.flush();
    assert_eq!(reader.summary(place.run).unwrap().ok, summary.ok + 1);
}

#[test]
fn flows_whose_end_does_not_fit_end_all_the_same() {
    let place = small(1_000_000, 100);
    let ends: Vec<Vec<Event>> = (1..=5)
        .map(|flow| {
            let mut events = Script::new(flow).events();
            let ending = events.split_off(4);
            place.record(events);
            ending
        })
        .collect();
    place.flush();
    let lock = block_writer(&place);
    let mut flow = 100;
    while place.recorder.losses().events == 0 {
        flow += 1;
        place.record(Script::new(flow).events());
    }
    for ending in ends {
        place.record(ending);
    }
    // Nobody has heard that this one began.
    let mut unheard = Script::new(1000).events();
    let ending = unheard.split_off(4);
    place.record(unheard);
    place.record(ending);
    let losses = place.recorder.losses();
    lock.execute_batch("ROLLBACK").unwrap();
    place.flush();
    let reader = place.reader();
    let states = (1..=5).map(|seq| reader.flow(place.flow(seq)).unwrap().row.state);
    let states: Vec<FlowState> = states.collect();
    assert_eq!(states, [FlowState::Completed; 5]);
    let summary = reader.summary(place.run).unwrap();
    assert_eq!((summary.open, summary.lost_events), (0, losses.events));
}

#[test]
fn whoever_waits_for_room_gets_it_or_goes_on_when_the_time_is_over() {
    let place = small(1_000_000, 100);
    let lock = block_writer(&place);
    let mut flow = 0;
    let mut full = loop {
        flow += 1;
        let mut events = Script::new(flow).events();
        if !place.recorder.offer_events(&mut events) {
            break events;
        }
        assert!(events.is_empty());
    };
    let short = Duration::from_millis(50);
    place.recorder.handle_events_within(&mut full, short);
    let losses = place.recorder.losses();
    assert_eq!(losses.events, Script::new(flow).events().len() as u64);

    let recorder = place.recorder.clone();
    let waiting = std::thread::spawn(move || {
        let long = Duration::from_secs(60);
        recorder.handle_events_within(&mut Script::new(1000).events(), long);
    });
    lock.execute_batch("ROLLBACK").unwrap();
    waiting.join().unwrap();
    let reader = place.reader();
    assert_eq!(place.recorder.losses(), losses, "nothing more is lost");
    let summary = reader.summary(place.run).unwrap();
    // That of the blocked writer, those that fitted, and the one that waited.
    assert_eq!((summary.ok, summary.lost_events), (flow + 1, losses.events));
}

#[test]
fn a_body_with_a_hole_ends_before_it() {
    let place = Place::new();
    let mut events = Script::new(1).events();
    let late = events.split_off(6);
    place.record(events);
    place.record(vec![Event::Lost {
        at: Timestamp(START),
        events: 7,
    }]);
    place.record(late);
    let reader = place.reader();
    let body = reader
        .body(place.flow(1), Message::Response)
        .unwrap()
        .unwrap();
    assert_eq!((&*body.bytes, body.truncated), (&b"hello "[..], true));
    assert!(reader.flow(place.flow(1)).unwrap().row.truncated);
    assert_eq!(reader.summary(place.run).unwrap().lost_events, 7);
}

#[test]
fn events_of_an_unknown_flow_are_counted() {
    let place = Place::new();
    place.record(vec![Event::FlowEnded {
        flow: FlowId(5),
        at: Timestamp(START),
        outcome: Outcome::Completed,
        tunnelled: None,
    }]);
    let summary = place.reader().summary(place.run).unwrap();
    assert_eq!((summary.requests, summary.lost_events), (0, 1));
}

#[test]
fn flushing_waits_no_longer_than_asked() {
    let place = small(1_000_000, 1000);
    let lock = block_writer(&place);
    let flushed = place.recorder.flush(Duration::from_millis(10));
    assert!(flushed.is_err());
    lock.execute_batch("ROLLBACK").unwrap();
    place.flush();
}

#[test]
fn what_the_database_refuses_for_good_is_given_up_and_recorded() {
    let place = Place::new();
    Connection::open(place.path())
        .unwrap()
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON flows WHEN NEW.path = '/bad'
             BEGIN SELECT raise(ABORT, 'refused'); END",
        )
        .unwrap();
    let mut bad = Script::new(1);
    bad.request = b"GET /bad HTTP/1.1\r\n\r\n".to_vec();
    place.record(bad.events());
    place.flush();
    assert_eq!(place.recorder.losses().events, 1);
    place.record(Script::new(2).events());
    let reader = place.reader();
    let summary = reader.summary(place.run).unwrap();
    assert_eq!((summary.ok, summary.lost_events), (1, 1));
}
