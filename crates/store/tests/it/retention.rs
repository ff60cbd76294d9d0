//! What is old goes, and what refers to it stays whole.

use std::time::Duration;

use oriel_store::{Annotate, Annotator, Keep, Message, Query, Remover, StoreError};
use rusqlite::Connection;
use traffic::Timestamp;

use crate::script::{Place, START, Script};

/// A request that repeats what the ones before said.
fn conversation(turn: u64) -> Vec<u8> {
    let mut text = Vec::new();
    for said in 0..=turn {
        let mut state = said + 1;
        for _ in 0..1500 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(said);
            text.extend_from_slice(format!("{:06x}", state >> 40).as_bytes());
        }
    }
    text
}

fn record(place: &Place, flow: u64) {
    let mut script = Script::new(flow);
    script.request_body = vec![conversation(flow).into()];
    script.response_body = vec![vec![flow.to_le_bytes()[0]; 5000].into()];
    place.record(script.events());
    // In batches of their own, as in life.
    place.flush();
}

/// The time just before a flow of [`Script`].
fn before(flow: i64) -> Timestamp {
    Timestamp(START + flow * 1000 - 1)
}

fn count(place: &Place, table: &str) -> i64 {
    let connection = Connection::open(place.path()).unwrap();
    let sql = format!("SELECT count(*) FROM {table}");
    connection.query_row(&sql, (), |row| row.get(0)).unwrap()
}

fn assert_whole(place: &Place, flows: impl Iterator<Item = u64>) {
    let reader = place.reader();
    for flow in flows {
        let detail = reader.flow(place.flow(flow)).unwrap();
        assert_eq!(detail.request.start_line, "POST /v1/messages?a=1 HTTP/1.1");
        assert!(
            detail.client.is_some() && detail.upstream.is_some(),
            "{flow}"
        );
        let body = reader.body(place.flow(flow), Message::Request).unwrap();
        assert!(body.unwrap().bytes == conversation(flow), "{flow}");
        let body = reader.body(place.flow(flow), Message::Response).unwrap();
        assert_eq!(body.unwrap().bytes, vec![flow.to_le_bytes()[0]; 5000]);
    }
    let check: String = Connection::open(place.path())
        .unwrap()
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn old_flows_go_and_bodies_that_are_made_of_theirs_stay() {
    let place = Place::new();
    (1..=20).for_each(|flow| record(&place, flow));
    let stored = count(&place, "bodies");
    let keep = Keep {
        flows_since: Some(before(11)),
        ..Keep::default()
    };
    let mut remover = Remover::open(&place.path()).unwrap();
    let planned = remover.plan(&keep).unwrap();
    assert_eq!((planned.flows, planned.bodiless), (10, 0));
    assert_eq!(count(&place, "flows"), 20, "nothing was removed yet");
    let mut told = Vec::new();
    let removed = remover
        .remove(&keep, |progress| {
            told.push((progress.done, progress.all));
            true
        })
        .unwrap();
    assert_eq!(removed, planned);
    assert_eq!(told.last(), Some(&(10, 10)));
    assert_eq!(count(&place, "flows"), 10);
    // The answers went; of the requests what later ones are made of stays.
    assert_eq!(count(&place, "bodies"), stored - 10);
    assert_whole(&place, 11..=20);
    let rows = place.reader().flows(&Query::default()).unwrap().rows;
    assert_eq!(rows.len(), 10);
    assert!(matches!(
        place.reader().flow(place.flow(1)),
        Err(StoreError::UnknownId(_))
    ));

    // The writer goes on as if nothing had been, and refers to nothing that is gone.
    (21..=25).for_each(|flow| record(&place, flow));
    assert_whole(&place, 11..=25);

    let all = Keep {
        flows_since: Some(before(1000)),
        ..Keep::default()
    };
    remover.remove(&all, |_| true).unwrap();
    for table in [
        "flows",
        "bodies",
        "client_connections",
        "upstream_connections",
    ] {
        assert_eq!(count(&place, table), 0, "{table}");
    }
    record(&place, 26);
    assert_whole(&place, 26..=26);
    let free = Connection::open(place.path()).unwrap();
    let free: i64 = free
        .pragma_query_value(None, "freelist_count", |row| row.get(0))
        .unwrap();
    assert_eq!(free, 0, "free pages are given back");
}

#[test]
fn bodies_go_before_their_flows_and_marked_ones_stay() {
    let place = Place::new();
    (1..=6).for_each(|flow| record(&place, flow));
    let mut open = Script::new(7).events();
    open.truncate(3);
    place.record(open);
    place.flush();
    let marked = Annotate {
        add_tags: vec!["gold".to_owned()],
        ..Annotate::default()
    };
    let mut annotator = Annotator::open(&place.path()).unwrap();
    annotator.annotate(place.flow(2), &marked).unwrap();
    let keep = Keep {
        flows_since: Some(before(4)),
        bodies_since: Some(before(6)),
        bytes_max: None,
    };
    let mut remover = Remover::open(&place.path()).unwrap();
    let removed = remover.remove(&keep, |_| true).unwrap();
    assert_eq!((removed.flows, removed.bodiless, removed.marked), (2, 2, 1));
    let reader = place.reader();
    let seqs: Vec<u64> = reader
        .flows(&Query::default())
        .unwrap()
        .rows
        .iter()
        .map(|row| row.id.seq)
        .collect();
    assert_eq!(seqs, [7, 6, 5, 4, 2]);
    for flow in [4, 5] {
        let detail = reader.flow(place.flow(flow)).unwrap();
        assert!(detail.row.truncated);
        let body = reader.body(place.flow(flow), Message::Request).unwrap();
        let body = body.unwrap();
        assert!(body.bytes.is_empty() && body.truncated);
        assert_eq!(body.seen, Some(conversation(flow).len() as u64));
    }
    assert_whole(&place, [2, 6].into_iter());
    // A second time there is nothing to do.
    let again = remover.remove(&keep, |_| true).unwrap();
    assert_eq!((again.flows, again.bodiless), (0, 0));
}

#[test]
fn what_is_too_much_goes_the_oldest_first() {
    let place = Place::new();
    for flow in 1..=200 {
        let mut script = Script::new(flow);
        script.response_body = vec![noise(flow).into()];
        place.record(script.events());
    }
    place.flush();
    let keep = Keep {
        bytes_max: Some(1_000_000),
        ..Keep::default()
    };
    let mut remover = Remover::open(&place.path()).unwrap();
    let removed = remover.remove(&keep, |_| true).unwrap();
    assert!(removed.bodiless > 50 && removed.flows == 0, "{removed:?}");
    let connection = Connection::open(place.path()).unwrap();
    let bytes: i64 = connection
        .query_row(
            "SELECT (page_count - freelist_count) * page_size
             FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
            (),
            |row| row.get(0),
        )
        .unwrap();
    assert!(bytes < 1_200_000, "{bytes}");
    let reader = place.reader();
    let body = |flow| {
        let body = reader.body(place.flow(flow), Message::Response).unwrap();
        body.unwrap().bytes.len()
    };
    assert_eq!((body(1), body(200)), (0, 20_000));
}

/// Bytes that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let bytes = (0..20_000).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    });
    bytes.collect()
}

#[test]
fn what_comes_meanwhile_is_kept_and_the_writer_is_not_kept_waiting() {
    let place = Place::new();
    (1..=60).for_each(|flow| record(&place, flow));
    let keep = Keep {
        flows_since: Some(before(51)),
        ..Keep::default()
    };
    let mut remover = Remover::open(&place.path()).unwrap();
    std::thread::scope(|scope| {
        let removing = scope.spawn(|| remover.remove(&keep, |_| true).unwrap());
        for flow in 61..=120 {
            record(&place, flow);
        }
        assert_eq!(removing.join().unwrap().flows, 50);
    });
    assert_eq!(place.recorder.losses().events, 0);
    assert_whole(&place, 51..=120);
    place.recorder.flush(Duration::from_secs(1)).unwrap();
}

#[test]
fn a_removal_that_is_ended_early_leaves_a_whole_record() {
    let place = Place::new();
    (1..=5).for_each(|flow| record(&place, flow));
    let keep = Keep {
        flows_since: Some(before(4)),
        ..Keep::default()
    };
    let mut remover = Remover::open(&place.path()).unwrap();
    remover.remove(&keep, |_| false).unwrap();
    assert_whole(&place, 4..=5);
}
