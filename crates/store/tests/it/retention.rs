//! What is old goes, and what refers to it stays whole.

use std::time::Duration;

use oriel_store::limits::REMOVAL_ROWS_MAX;
use oriel_store::{
    Annotate, Annotator, Choice, Chosen, EndRun, Keep, Message, NewRun, Query, Redaction, Remover,
    RunKind, Store, StoreError, StoreOptions, check_file,
};
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

/// A record of six flows, and of one more that has not ended.
fn six_and_an_open_one() -> Place {
    let place = Place::new();
    (1..=6).for_each(|flow| record(&place, flow));
    let mut open = Script::new(7).events();
    open.truncate(3);
    place.record(open);
    place.flush();
    place
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
        "endings",
        "bodies",
        "client_connections",
        "upstream_connections",
        "places",
        "response_kinds",
        "session_marks",
        "sessions",
    ] {
        assert_eq!(count(&place, table), 0, "{table}");
    }
    // By its number a follower knows how far the record is.
    assert_eq!(count(&place, "arrivals"), 1);
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
    let place = six_and_an_open_one();
    let marked = Annotate {
        add_tags: vec!["gold".to_owned()],
        ..Annotate::default()
    };
    let mut annotator = Annotator::open(&place.path()).unwrap();
    annotator.annotate(place.flow(2), &marked).unwrap();
    let keep = Keep {
        flows_since: Some(before(4)),
        bodies_since: Some(before(6)),
        ..Keep::default()
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

fn tag(place: &Place, flow: u64, tags: &[&str]) {
    let change = Annotate {
        add_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..Annotate::default()
    };
    let mut annotator = Annotator::open(&place.path()).unwrap();
    annotator.annotate(place.flow(flow), &change).unwrap();
}

fn seqs(place: &Place) -> Vec<u64> {
    let rows = place.reader().flows(&Query::default()).unwrap().rows;
    let mut seqs: Vec<u64> = rows.iter().map(|row| row.id.seq).collect();
    seqs.sort_unstable();
    seqs
}

#[test]
fn tags_say_how_long_their_flows_stay() {
    let place = Place::new();
    (1..=8).for_each(|flow| record(&place, flow));
    tag(&place, 1, &["scratch"]);
    tag(&place, 2, &["scratch", "gold"]);
    tag(&place, 3, &["scratch", "slow"]);
    tag(&place, 4, &["slow"]);
    tag(&place, 5, &["slow"]);
    tag(&place, 7, &["scratch"]);
    let note = Annotate {
        note: Some("look".to_owned()),
        ..Annotate::default()
    };
    let mut annotator = Annotator::open(&place.path()).unwrap();
    annotator.annotate(place.flow(6), &note).unwrap();
    let mut keep = Keep {
        tags: vec![
            ("scratch".to_owned(), before(7)),
            ("slow".to_owned(), before(5)),
        ],
        ..Keep::default()
    };
    let mut remover = Remover::open(&place.path()).unwrap();
    let planned = remover.plan(&keep).unwrap();
    assert_eq!(planned.flows, 3, "1, 3 and 4");
    assert_eq!(remover.remove(&keep, |_| true).unwrap(), planned);
    assert_eq!(seqs(&place), [2, 5, 6, 7, 8]);
    assert_whole(&place, [2, 5, 6, 7, 8].into_iter());

    // Age and tags together.
    keep.tags = vec![("slow".to_owned(), before(9))];
    keep.flows_since = Some(before(9));
    let removed = remover.remove(&keep, |_| true).unwrap();
    assert_eq!((removed.flows, removed.marked), (2, 3));
    assert_eq!(seqs(&place), [2, 6, 7]);
    assert_eq!(count(&place, "annotations"), 3);
}

#[test]
fn chosen_flows_go_and_marked_ones_only_by_name() {
    let place = six_and_an_open_one();
    tag(&place, 2, &["gold"]);
    let mut remover = Remover::open(&place.path()).unwrap();
    let named = |flows: &[u64]| Choice {
        chosen: Chosen::Flows(flows.iter().map(|flow| place.flow(*flow)).collect()),
        forced: false,
    };
    let found = |text: &str, forced| Choice {
        chosen: Chosen::Found {
            run: None,
            filter: Some(traffic::rules::filter::Filter::parse(text, Timestamp(START)).unwrap()),
        },
        forced,
    };
    let removed = remover.remove(&named(&[4, 4, 7]), |_| true).unwrap();
    assert_eq!((removed.flows, removed.open), (1, 1));
    assert_eq!(seqs(&place), [1, 2, 3, 5, 6, 7]);
    assert!(removed.body_bytes > 0);
    assert!(matches!(
        remover.plan(&named(&[4])),
        Err(StoreError::UnknownId(_))
    ));
    assert!(matches!(
        remover.plan(&found("text:word", false)),
        Err(StoreError::NoTexts)
    ));

    let until_3 = format!(
        "until:{}",
        oriel_store::json::rfc3339(Timestamp(START + 3 * 1000))
    );
    let planned = remover.plan(&found(&until_3, false)).unwrap();
    assert_eq!((planned.flows, planned.marked), (2, 1));
    assert_eq!(seqs(&place).len(), 6, "nothing was removed yet");
    let removed = remover.remove(&found(&until_3, false), |_| true).unwrap();
    assert_eq!(removed, planned);
    assert_eq!(seqs(&place), [2, 5, 6, 7]);
    assert_whole(&place, [2, 5, 6].into_iter());
    let removed = remover.remove(&found(&until_3, true), |_| true).unwrap();
    assert_eq!(removed.flows, 1);
    assert_eq!(count(&place, "annotations"), 0);
    record(&place, 8);
    tag(&place, 8, &["gold"]);
    assert_eq!(remover.remove(&named(&[8]), |_| true).unwrap().flows, 1);
    assert_eq!(seqs(&place), [5, 6, 7]);
    assert_eq!(check_file(&place.path()).unwrap(), Vec::<String>::new());
}

#[test]
fn what_an_archive_does_not_have_stays_unless_forced() {
    let place = Place::new();
    (1..=4).for_each(|flow| record(&place, flow));
    let connection = Connection::open(place.path()).unwrap();
    connection
        .execute_batch(
            "INSERT INTO archives (name, arrival, begun, begun_row, change, gap)
             SELECT 'postgres://h', number, 0, 0, 0, 0 FROM arrivals WHERE last_seq = 2",
        )
        .unwrap();
    // It has this flow, but not as it is now.
    tag(&place, 1, &["scratch"]);
    let mut remover = Remover::open(&place.path()).unwrap();
    let choice = |forced| Choice {
        chosen: Chosen::Flows((1..=4).map(|flow| place.flow(flow)).collect()),
        forced,
    };
    let removed = remover.remove(&choice(false), |_| true).unwrap();
    assert_eq!((removed.flows, removed.awaited), (1, 3));
    assert_eq!(seqs(&place), [1, 3, 4]);
    let old = Keep {
        flows_since: Some(before(100)),
        tags: vec![("scratch".to_owned(), before(100))],
        ..Keep::default()
    };
    assert_eq!(remover.remove(&old, |_| true).unwrap().flows, 0);
    let left = Choice {
        chosen: Chosen::Found {
            run: Some(place.run),
            filter: None,
        },
        forced: true,
    };
    assert_eq!(remover.remove(&left, |_| true).unwrap().flows, 3);
    assert_eq!(seqs(&place), [0_u64; 0]);
}

#[test]
fn runs_and_losses_go_with_their_flows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oriel.db");
    let store = Store::open(&path, StoreOptions::new(Redaction::Basic)).unwrap();
    let begin = |at: i64| {
        let run = NewRun {
            name: None,
            argv: Vec::new(),
            started_at: Timestamp(at),
            kind: RunKind::Run,
        };
        store.begin_run(run).unwrap()
    };
    let over = begin(START);
    let goes_on = begin(START);
    let recent = begin(START + 9_000_000);
    for run in [over, recent] {
        let end = EndRun {
            ended_at: Timestamp(START + 9_500_000),
            exit_code: Some(0),
            signal: None,
        };
        store.end_run(run, end).unwrap();
    }
    store
        .recorder(goes_on)
        .handle_events(&mut Script::new(1).events());
    store.close().unwrap();
    let connection = Connection::open(&path).unwrap();
    for at in [1, 2, 3] {
        connection
            .execute(
                "INSERT INTO gaps (run_id, at, reason, events, body_bytes) VALUES (?1, ?2, 'engine', 1, 0)",
                (goes_on.as_str(), START + at),
            )
            .unwrap();
    }
    let keep = Keep {
        flows_since: Some(Timestamp(START + 9_200_000)),
        ..Keep::default()
    };
    let mut remover = Remover::open(&path).unwrap();
    assert_eq!(remover.remove(&keep, |_| true).unwrap().flows, 1);
    let left: Vec<String> = connection
        .prepare("SELECT id FROM runs ORDER BY number")
        .unwrap()
        .query_map((), |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    // One ended after that time; the process of another lives.
    assert_eq!(left, [over, goes_on, recent].map(|run| run.to_string()));
    let gaps: i64 = connection
        .query_row("SELECT count(*) FROM gaps", (), |row| row.get(0))
        .unwrap();
    assert_eq!(gaps, 1, "the last one stays for its number");

    record_one_more(&path, START + 10_000_000);
    let keep = Keep {
        flows_since: Some(Timestamp(START + 20_000_000)),
        ..Keep::default()
    };
    remover.remove(&keep, |_| true).unwrap();
    let left: Vec<String> = connection
        .prepare("SELECT id FROM runs ORDER BY number")
        .unwrap()
        .query_map((), |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(!left.contains(&over.to_string()) && !left.contains(&recent.to_string()));
    assert!(
        left.contains(&goes_on.to_string()),
        "a loss of it is on record"
    );
    assert_eq!(check_file(&path).unwrap(), Vec::<String>::new());
}

#[test]
fn what_belonged_to_removed_flows_goes_in_small_steps() {
    let place = Place::new();
    record(&place, 1);
    let tables = [
        "client_connections",
        "upstream_connections",
        "places",
        "response_kinds",
        "session_marks",
        "sessions",
        "gaps",
        "runs",
    ];
    let connection = Connection::open(place.path()).unwrap();
    let fill = |table: &str, changed: &[(&str, &str)]| {
        let columns: Vec<String> = connection
            .prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))
            .unwrap()
            .query_map((), |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let values = columns.iter().map(|column| {
            let value = changed.iter().find(|(name, _)| name == column);
            value.map_or(column.as_str(), |(_, value)| value)
        });
        let values = values.collect::<Vec<_>>().join(", ");
        let sql = format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
             INSERT INTO {table} SELECT {values} FROM n, (SELECT * FROM {table} LIMIT 1)"
        );
        connection.execute(&sql, ()).unwrap();
    };
    let long_ago = "1000 + i";
    connection
        .execute_batch(
            "INSERT INTO gaps (run_id, at, reason, events, body_bytes) SELECT id, 1, 'engine', 1, 0 FROM runs;
             INSERT INTO sessions (id, agent) SELECT 'none', 'a' WHERE NOT EXISTS (SELECT 1 FROM sessions);
             INSERT INTO session_marks (session, method, confidence) SELECT number, 'header', 'certain' FROM sessions
               WHERE NOT EXISTS (SELECT 1 FROM session_marks);",
        )
        .unwrap();
    fill("client_connections", &[("id", "i + 1000")]);
    fill("upstream_connections", &[("id", "i + 1000")]);
    fill("places", &[("id", "i + 1000"), ("host", "i")]);
    fill(
        "response_kinds",
        &[("id", "i + 1000"), ("content_type", "i")],
    );
    fill("sessions", &[("number", "i + 1000"), ("id", "i")]);
    fill(
        "session_marks",
        &[("id", "i + 1000"), ("session", "i + 1000")],
    );
    fill("gaps", &[("id", "i + 1000"), ("at", long_ago)]);
    fill(
        "runs",
        &[
            ("number", "i + 1000"),
            ("id", "printf('x%d', i)"),
            ("uuid", "i"),
            ("started_at", long_ago),
            ("ended_at", long_ago),
        ],
    );
    let rows = || tables.map(|table| count(&place, table));
    let before_it = rows();
    assert!(before_it.iter().all(|rows| *rows > 1000), "{before_it:?}");
    let (mut last, mut largest) = (before_it, 0);
    let keep = Keep {
        flows_since: Some(before(2)),
        ..Keep::default()
    };
    let mut remover = Remover::open(&place.path()).unwrap();
    let removed = remover.remove(&keep, |_| {
        let now = rows();
        let step: i64 = last.iter().zip(now).map(|(last, now)| last - now).sum();
        largest = largest.max(step);
        last = now;
        true
    });
    assert_eq!(removed.unwrap().flows, 1);
    // The last step was told too.
    assert_eq!(last, rows());
    assert_eq!(largest, i64::try_from(REMOVAL_ROWS_MAX).unwrap());
    assert_eq!(
        last,
        [0, 0, 0, 0, 0, 0, 1, 1],
        "of the last loss, and the run that goes on"
    );
    assert_eq!(check_file(&place.path()).unwrap(), Vec::<String>::new());
}

/// A flow of a run of its own.
fn record_one_more(path: &std::path::Path, at: i64) {
    let store = Store::open(path, StoreOptions::new(Redaction::Basic)).unwrap();
    let run = NewRun {
        name: None,
        argv: Vec::new(),
        started_at: Timestamp(at),
        kind: RunKind::Run,
    };
    let run = store.begin_run(run).unwrap();
    store
        .recorder(run)
        .handle_events(&mut Script::new(2).events());
    store.close().unwrap();
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

#[test]
fn what_an_archive_has_goes_earlier_than_the_rest() {
    let place = Place::new();
    (1..=4).for_each(|flow| record(&place, flow));
    let keep = Keep {
        archived_since: Some(before(4)),
        ..Keep::default()
    };
    let left = || {
        let page = place.reader().flows(&Query::default()).unwrap();
        let mut seqs: Vec<u64> = page.rows.iter().map(|row| row.id.seq).collect();
        seqs.reverse();
        seqs
    };
    let mut remover = Remover::open(&place.path()).unwrap();
    remover.remove(&keep, |_| true).unwrap();
    assert_eq!(left(), [1, 2, 3, 4], "there is no archive");

    // One that has the first three, and not what has changed of the second.
    let connection = Connection::open(place.path()).unwrap();
    connection
        .execute_batch(
            "INSERT INTO archives (name, arrival, begun, begun_row, change, gap)
             VALUES ('archive', (SELECT number FROM arrivals ORDER BY number LIMIT 1 OFFSET 2), 0, 0, 0, 0);
             INSERT INTO flow_changes (flow) SELECT id FROM flows WHERE seq = 2",
        )
        .unwrap();
    let removed = remover.remove(&keep, |_| true).unwrap();
    assert_eq!((removed.flows, removed.awaited), (1, 2));
    assert_eq!(left(), [2, 3, 4]);
    // What is too large stays as well.
    let small = Keep {
        body_bytes_max: Some(10),
        ..Keep::default()
    };
    let removed = remover.remove(&small, |_| true).unwrap();
    assert_eq!((removed.bodiless, removed.awaited), (0, 3));
    assert_whole(&place, 2..=4);
    connection
        .execute_batch("UPDATE archives SET change = (SELECT max(change) FROM flow_changes)")
        .unwrap();
    remover.remove(&keep, |_| true).unwrap();
    assert_eq!(left(), [4]);
    assert_whole(&place, [4].into_iter());
}

#[test]
fn large_bodies_go_whatever_their_age_and_small_ones_stay() {
    let place = six_and_an_open_one();
    tag(&place, 4, &["gold"]);
    let mut remover = Remover::open(&place.path()).unwrap();
    let keep = Keep {
        // As long as the request of the second flow; the ones behind it are made of it.
        body_bytes_max: Some(conversation(2).len() as u64),
        ..Keep::default()
    };
    let planned = remover.plan(&keep).unwrap();
    assert_eq!((planned.flows, planned.bodiless), (0, 3));
    assert!(planned.body_bytes > 0, "{planned:?}");
    assert_eq!(remover.remove(&keep, |_| true).unwrap(), planned);
    let reader = place.reader();
    for flow in [3, 5, 6] {
        let body = |message| reader.body(place.flow(flow), message).unwrap().unwrap();
        let (request, response) = (body(Message::Request), body(Message::Response));
        assert_eq!((request.bytes.len(), request.truncated), (0, true));
        assert_eq!(request.seen, Some(conversation(flow).len() as u64));
        assert_eq!((response.bytes.len(), response.truncated), (5000, false));
        assert!(reader.flow(place.flow(flow)).unwrap().row.truncated);
    }
    assert_whole(&place, [1, 2, 4].into_iter());
    assert_eq!(seqs(&place), [1, 2, 3, 4, 5, 6, 7]);
    let again = remover.remove(&keep, |_| true).unwrap();
    assert_eq!((again.bodiless, again.body_bytes), (0, 0));
    // The writer goes on, with what is left.
    (8..=9).for_each(|flow| record(&place, flow));
    assert_whole(&place, [1, 2, 4, 8, 9].into_iter());

    // Together with age.
    let both = Keep {
        flows_since: Some(before(3)),
        ..keep
    };
    let removed = remover.remove(&both, |_| true).unwrap();
    assert_eq!((removed.flows, removed.bodiless), (2, 2));
    assert_eq!(seqs(&place), [3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(check_file(&place.path()).unwrap(), Vec::<String>::new());
}

#[test]
fn large_messages_and_parts_go_alone() {
    let place = six_and_an_open_one();
    let connection = Connection::open(place.path()).unwrap();
    let first: i64 = connection
        .query_row("SELECT id FROM flows WHERE seq = 1", (), |row| row.get(0))
        .unwrap();
    connection
        .execute_batch(&format!(
            "INSERT INTO messages
               (flow, sequence, sender, at_us, kind, size, wire_size, frames, coding, complete, kept, data)
             VALUES ({first}, 1, 'client', 0, 'text', 4, 4, 1, 'plain', 1, 4, 'text'),
                    ({first}, 2, 'client', 0, 'text', 90, 90, 1, 'plain', 1, 90, zeroblob(90));
             INSERT INTO body_parts (flow, message, codec, size, data)
             VALUES ({first}, 'request', 'raw', 30, zeroblob(30)), ({first}, 'request', 'raw', 30, zeroblob(30)),
                    ({first}, 'response', 'raw', 50, zeroblob(50))"
        ).replace("'text')", "CAST('text' AS BLOB))"))
        .unwrap();
    let keep = Keep {
        body_bytes_max: Some(50),
        ..Keep::default()
    };
    let mut remover = Remover::open(&place.path()).unwrap();
    assert_eq!(remover.remove(&keep, |_| true).unwrap().bodiless, 6);
    let sizes = |sql: &str| -> Vec<i64> {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map((), |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    assert_eq!(sizes("SELECT kept FROM messages ORDER BY sequence"), [4, 0]);
    assert_eq!(sizes("SELECT size FROM body_parts"), [50]);
}

#[test]
fn what_matches_stays_as_it_is() {
    let place = Place::new();
    for flow in 1..=6 {
        let mut script = Script::new(flow);
        if flow % 2 == 0 {
            script.request = b"GET /gold HTTP/1.1\r\n\r\n".to_vec();
        }
        script.response_body = vec![noise(flow).into()];
        place.record(script.events());
    }
    place.flush();
    tag(&place, 1, &["scratch"]);
    tag(&place, 2, &["scratch"]);
    let filter =
        |text| Some(traffic::rules::filter::Filter::parse(text, Timestamp(START)).unwrap());
    let keep = Keep {
        flows_since: Some(before(4)),
        bodies_since: Some(before(6)),
        body_bytes_max: Some(1000),
        tags: vec![("scratch".to_owned(), before(9))],
        matching: filter("path:/gold"),
        ..Keep::default()
    };
    let mut remover = Remover::open(&place.path()).unwrap();
    let planned = remover.plan(&keep).unwrap();
    // 1 by its tag and 3 by its age, the body of 5; of 2, 4 and 6 each would lose something.
    assert_eq!(
        (planned.flows, planned.bodiless, planned.matching),
        (2, 1, 3)
    );
    assert_eq!(remover.remove(&keep, |_| true).unwrap(), planned);
    assert_eq!(seqs(&place), [2, 4, 5, 6]);
    for flow in [2, 4, 6] {
        let body = place.reader().body(place.flow(flow), Message::Response);
        assert_eq!(body.unwrap().unwrap().bytes, noise(flow));
    }
    // Words are looked up where they are indexed.
    let words = Keep {
        matching: filter("text:gold"),
        ..keep
    };
    assert!(matches!(remover.plan(&words), Err(StoreError::NoTexts)));
}
