//! ClickHouse answers as SQLite does.

use std::time::Duration;

use oriel_store::{
    Archive, ArchiveBatch, ClickHouseArchive, FlowRef, Location, Marker, Message, Migrated, Reader,
    StoreError, clickhouse_reader_role, clickhouse_schema,
};
use regex::Regex;
use testbed::clickhouse::ClickHouse;

use super::words::Spoken;
use super::{Original, clients, removal, said, sums};
use crate::copies::{record_all_sorts, records};
use crate::postgres::{PRINTED, conversation, record_for_printed};
use crate::script::Place;

fn server() -> ClickHouse {
    ClickHouse::start(clients()).unwrap()
}

/// Waits until rows are old enough to be told to those who follow: for half a minute at most.
fn settle(reader: &Reader, flows: usize) {
    let told = || {
        reader
            .changes_since(Marker::default(), None)
            .unwrap()
            .rows
            .len()
    };
    for _attempt in 0..300 {
        if told() >= flows {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(told() >= flows, "the flows do not settle");
}

#[test]
fn clickhouse_answers_the_printed_queries() {
    let server = server();
    let place = Place::new();
    record_for_printed(&place);
    let mut archive = ClickHouseArchive::connect(&server.url("default")).unwrap();
    archive.migrate().unwrap();
    let flows = records(&place.path(), 100);
    archive
        .write(&ArchiveBatch {
            flows: flows.clone(),
            ..ArchiveBatch::default()
        })
        .unwrap();
    let lines = |query: &str| -> Vec<String> {
        let answer = server
            .query(query.trim_end().trim_end_matches(';'))
            .unwrap();
        answer.lines().map(str::to_owned).collect()
    };
    let printed = |query: usize| lines(PRINTED[query]);
    assert_eq!(printed(0).len(), 6);
    assert!(printed(0)[0].starts_with(&flows[5].detail.row.uuid));
    assert_eq!(printed(2).len(), 6);
    let second = "\t1\t\\N\tPOST\thttps://api.example.com/v1/messages?a=1\t2026-03-02 ";
    assert!(printed(2)[1].contains(second), "{}", printed(2)[1]);
    assert_eq!(printed(3), [""; 0]);
    assert_eq!(
        printed(4)[0],
        "https://api.example.com/v1/messages?a=1\t6\t200\t0"
    );
    assert_eq!(printed(5), ["api.example.com\t1\t6\t16.67"]);
    // It has no numeric without digits.
    let types = lines(&PRINTED[6].replace("::numeric", ""));
    assert!(types[0].starts_with("reverse (client→LiteLLM)\t") && types[0].ends_with("\t3\t4"));
    assert!(types[1].starts_with("forward (LiteLLM→provider)\t") && types[1].ends_with("\t3\t3"));
    assert_eq!(printed(7).len(), printed(1).len());
    // Bodies are as the columns of ours have them, and a flow that failed has no status.
    let columns = "SELECT count(), countIf(status_code = 500), any(request_headers) != ''
        FROM CCProxy_HttpTraces WHERE is_https AND client_ip = '127.0.0.1'";
    assert_eq!(lines(columns), ["6\t1\t1"]);
}

#[test]
fn clickhouse_gives_the_same_answers() {
    let server = server();
    let original = Original::new();
    let location = Location::ClickHouse(server.url("default"));
    // There is nothing before the schema is made.
    let missing = Reader::open_at(&location);
    assert!(
        matches!(missing, Err(StoreError::NotFound { .. })),
        "{missing:?}"
    );
    let mut archive = ClickHouseArchive::connect(&server.url("default")).unwrap();
    archive.migrate().unwrap();
    original.copy_to(&mut archive);
    // Sent a second time, as after a failure, nothing is there twice.
    original.copy_to(&mut archive);
    let reader = Reader::open_at(&location).unwrap();
    settle(&reader, 67);
    original.compare(&reader, 13);
    // Each question takes the engine some milliseconds.
    original.compare_filters(&reader, 20);
}

#[test]
fn clickhouse_sums_up_the_same() {
    let server = server();
    let url = server.url("default");
    let mut archive = ClickHouseArchive::connect(&url).unwrap();
    archive.migrate().unwrap();
    let reader = Reader::open_at(&Location::ClickHouse(url)).unwrap();
    sums::compare(&mut archive, &reader);
}

#[test]
fn what_people_say_is_the_same_in_clickhouse() {
    let server = server();
    let url = server.url("default");
    let mut archive = ClickHouseArchive::connect(&url).unwrap();
    archive.migrate().unwrap();
    let reader = Reader::open_at(&Location::ClickHouse(url)).unwrap();
    said::compare(&mut archive, &reader);
}

#[test]
fn what_people_say_is_the_same_in_a_cluster() {
    let server = server();
    make_cluster(&server);
    let url = server.url("default");
    let mut archive = ClickHouseArchive::connect(&url).unwrap();
    let reader = Reader::open_at(&Location::ClickHouse(url)).unwrap();
    said::compare(&mut archive, &reader);
}

#[test]
fn the_same_flows_go_from_clickhouse() {
    let server = server();
    let url = server.url("default");
    let mut archive = ClickHouseArchive::connect(&url).unwrap();
    archive.migrate().unwrap();
    let reader = Reader::open_at(&Location::ClickHouse(url)).unwrap();
    removal::compare(&mut archive, &reader);
}

#[test]
fn words_are_found_in_clickhouse() {
    let server = server();
    let url = server.url("default");
    let mut archive = ClickHouseArchive::connect(&url).unwrap();
    archive.migrate().unwrap();
    let reader = Reader::open_at(&Location::ClickHouse(url)).unwrap();
    Spoken::new().compare(&mut archive, &reader);
}

#[test]
fn a_schema_is_made_once_and_a_newer_one_refused() {
    let server = server();
    let url = server.url("default");
    let mut archive = ClickHouseArchive::connect(&url).unwrap();
    assert_eq!(archive.status().unwrap().schema, 0);
    assert_eq!(archive.migrate().unwrap(), Migrated { from: 0, to: 4 });
    assert_eq!(archive.migrate().unwrap(), Migrated { from: 4, to: 4 });
    let place = Place::new();
    record_all_sorts(&place);
    let flows = records(&place.path(), 100);
    let count = flows.len() as u64;
    let batch = ArchiveBatch {
        flows,
        ..ArchiveBatch::default()
    };
    archive.write(&batch).unwrap();
    let status = archive.status().unwrap();
    assert!(status.server.starts_with("ClickHouse 2"), "{status:?}");
    assert_eq!((status.runs, status.flows), (1, count));
    assert!(status.bytes.unwrap() > 0);
    // Two that made it at once noted each step twice.
    server
        .query("INSERT INTO oriel_migrations SELECT * FROM oriel_migrations")
        .unwrap();
    assert_eq!(archive.migrate().unwrap(), Migrated { from: 4, to: 4 });

    server
        .query("INSERT INTO oriel_migrations (number, name, checksum) VALUES (99, 'later', 'x')")
        .unwrap();
    let location = Location::ClickHouse(url.clone());
    for refused in [
        archive.migrate().map(drop),
        archive.status().map(drop),
        Reader::open_at(&location).map(drop),
    ] {
        assert!(
            matches!(
                refused,
                Err(StoreError::NewerSchema {
                    found: 99,
                    known: 4
                })
            ),
            "{refused:?}"
        );
    }
    for change in [
        "ALTER TABLE oriel_migrations DELETE WHERE number = 99",
        "ALTER TABLE oriel_migrations UPDATE checksum = 'x' WHERE number = 2",
    ] {
        let change = format!("{change} SETTINGS mutations_sync = 1");
        server.query(&change).unwrap();
    }
    let refused = archive.migrate().unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused:?}");
}

#[test]
fn who_may_not_is_told_so_and_who_may_is_let_in() {
    let server = ClickHouse::start_for(clients(), "alice", "s3cret").unwrap();
    let url = server.url("default");
    ClickHouseArchive::connect(&url).unwrap();
    let refused = ClickHouseArchive::connect(&url.replace("s3cret", "guess")).unwrap_err();
    let StoreError::Unavailable { place, source } = refused else {
        panic!("{refused:?}");
    };
    assert!(source.to_string().contains("AUTHENTICATION_FAILED"));
    assert!(!place.contains("guess"));
}

#[test]
fn the_printed_schema_is_taken_and_leaves_nothing_to_do() {
    let server = server();
    let printed = clickhouse_schema(None);
    for statement in printed.split_inclusive(";\n") {
        if !statement.trim().is_empty() {
            server.query(statement).unwrap();
        }
    }
    let mut archive = ClickHouseArchive::connect(&server.url("default")).unwrap();
    assert_eq!(archive.migrate().unwrap(), Migrated { from: 4, to: 4 });
    // There are neither a cluster nor roles here: what is for these is read by the server's parser.
    for script in [
        clickhouse_schema(Some("fleet")),
        clickhouse_reader_role(None),
        clickhouse_reader_role(Some("fleet")),
    ] {
        for statement in script.split_inclusive(";\n") {
            if statement.trim().is_empty() {
                continue;
            }
            let statement = statement.replace('\\', "\\\\").replace('\'', "\\'");
            server
                .query(&format!("SELECT formatQuery('{statement}')"))
                .unwrap();
        }
    }
    assert!(
        server
            .query("SELECT formatQuery('GRANT SELECTED ON x')")
            .is_err()
    );
}

/// Makes the tables of a cluster. There is nobody to replicate to: those of a shard are plain ones.
fn make_cluster(server: &ClickHouse) {
    let printed = clickhouse_schema(Some("fleet")).replace(" ON CLUSTER 'fleet'", "");
    let replicated = Regex::new(r"ReplicatedReplacingMergeTree\('[^']*', '[^']*'(, )?").unwrap();
    let plain = replicated.replace_all(&printed, "ReplacingMergeTree(");
    for statement in plain.split_inclusive(";\n") {
        if !statement.trim().is_empty() {
            server.query(statement).unwrap();
        }
    }
}

#[test]
fn a_cluster_gives_the_same_answers() {
    let server = server();
    make_cluster(&server);
    let url = server.url("default");
    let mut archive = ClickHouseArchive::connect(&url).unwrap();
    assert_eq!(archive.migrate().unwrap(), Migrated { from: 4, to: 4 });
    let original = Original::new();
    original.copy_to(&mut archive);
    original.copy_to(&mut archive);
    let reader = Reader::open_at(&Location::ClickHouse(url)).unwrap();
    settle(&reader, 67);
    original.compare_runs(&reader);
    original.compare_pages(&reader, 60);
    original.compare_ids(&reader);
    original.compare_records(&reader, 30);
    original.compare_filters(&reader, 1);
    let status = archive.status().unwrap();
    assert_eq!(status.runs, 2);
    assert!(status.bytes.unwrap() > 0);
    let engine = "SELECT engine FROM system.tables WHERE name = 'flows'";
    assert_eq!(server.query(engine).unwrap(), "Distributed\n");
    // Who finds a step missing leaves it to whoever made the tables.
    server
        .query("ALTER TABLE oriel_migrations DELETE WHERE number = 4 SETTINGS mutations_sync = 1")
        .unwrap();
    let refused = archive.migrate().unwrap_err();
    let StoreError::Unavailable { source, .. } = refused else {
        panic!("{refused:?}");
    };
    assert!(
        source
            .to_string()
            .contains("db schema clickhouse --cluster")
    );
}

#[test]
fn words_are_found_in_a_cluster() {
    let server = server();
    make_cluster(&server);
    let url = server.url("default");
    let mut archive = ClickHouseArchive::connect(&url).unwrap();
    let reader = Reader::open_at(&Location::ClickHouse(url)).unwrap();
    Spoken::new().compare(&mut archive, &reader);
}

#[test]
fn a_cluster_sums_up_the_same() {
    let server = server();
    make_cluster(&server);
    let url = server.url("default");
    let mut archive = ClickHouseArchive::connect(&url).unwrap();
    let reader = Reader::open_at(&Location::ClickHouse(url)).unwrap();
    sums::compare(&mut archive, &reader);
}

#[test]
fn a_conversation_costs_what_is_new_in_it() {
    let server = server();
    let url = server.url("default");
    let mut archive = ClickHouseArchive::connect(&url).unwrap();
    archive.migrate().unwrap();
    let flows = conversation();
    let raw: usize = flows
        .iter()
        .map(|flow| flow.request_body.as_ref().unwrap().len())
        .sum();
    for part in flows.chunks(20) {
        let batch = ArchiveBatch {
            flows: part.to_vec(),
            ..ArchiveBatch::default()
        };
        archive.write(&batch).unwrap();
    }
    // As the server does by and by.
    server.query("OPTIMIZE TABLE flows FINAL").unwrap();
    let stored = server
        .query(
            "SELECT sum(column_data_compressed_bytes) FROM system.parts_columns
             WHERE active AND table = 'flows' AND column = 'request_body'",
        )
        .unwrap();
    let stored: usize = stored.trim().parse().unwrap();
    assert!(stored * 20 < raw, "{stored} bytes for {raw}");
    let reader = Reader::open_at(&Location::ClickHouse(url)).unwrap();
    let last = flows.last().unwrap();
    let run = reader.runs(1).unwrap().remove(0).id;
    let flow = FlowRef {
        run,
        seq: last.detail.row.id.seq,
    };
    let body = reader.body(flow, Message::Request).unwrap().unwrap();
    assert_eq!(Some(body.bytes), last.request_body);
}
