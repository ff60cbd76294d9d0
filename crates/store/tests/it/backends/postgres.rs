//! PostgreSQL answers as SQLite does.

use oriel_store::{
    Archive, ArchiveBatch, Location, Migrated, PostgresArchive, Query, READONLY_ROLE, Reader,
    StoreError, postgres_schema,
};
use testbed::postgres::PostgresCluster;

use super::words::Spoken;
use super::{Original, removal, said, sums};
use crate::copies::{record_all_sorts, records};
use crate::script::Place;
use crate::search::{filter, search};

fn copied(original: &Original, cluster: &PostgresCluster) -> Reader {
    let url = cluster.url("postgres");
    let location = Location::Postgres(url.clone());
    // There is nothing before the schema is made.
    let missing = Reader::open_at(&location);
    assert!(
        matches!(missing, Err(StoreError::NotFound { .. })),
        "{missing:?}"
    );
    let mut archive = PostgresArchive::connect(&url).unwrap();
    archive.migrate().unwrap();
    original.copy_to(&mut archive);
    Reader::open_at(&location).unwrap()
}

#[test]
fn postgresql_sums_up_the_same() {
    let cluster = PostgresCluster::start().unwrap();
    let url = cluster.url("postgres");
    let mut archive = PostgresArchive::connect(&url).unwrap();
    archive.migrate().unwrap();
    let reader = Reader::open_at(&Location::Postgres(url)).unwrap();
    sums::compare(&mut archive, &reader);
}

#[test]
fn what_people_say_is_the_same_in_postgresql() {
    let cluster = PostgresCluster::start().unwrap();
    let url = cluster.url("postgres");
    let mut archive = PostgresArchive::connect(&url).unwrap();
    archive.migrate().unwrap();
    let reader = Reader::open_at(&Location::Postgres(url)).unwrap();
    said::compare(&mut archive, &reader);
}

#[test]
fn an_archive_of_an_older_oriel_is_read_without_names() {
    let cluster = PostgresCluster::start().unwrap();
    let url = cluster.url("postgres");
    let mut archive = PostgresArchive::connect(&url).unwrap();
    archive.migrate().unwrap();
    let original = Original::new();
    original.copy_to(&mut archive);
    let older =
        "DROP TABLE session_names, session_merges; DELETE FROM oriel_migrations WHERE number > 2";
    cluster.psql("postgres", older).unwrap();
    let reader = Reader::open_at(&Location::Postgres(url)).unwrap();
    reader.sessions(10).unwrap();
    let query = Query {
        filter: Some(filter("session:named")),
        ..Query::default()
    };
    assert!(!reader.flows(&query).unwrap().rows.is_empty());
}

#[test]
fn the_same_flows_go_from_postgresql() {
    let cluster = PostgresCluster::start().unwrap();
    let url = cluster.url("postgres");
    let mut archive = PostgresArchive::connect(&url).unwrap();
    archive.migrate().unwrap();
    let reader = Reader::open_at(&Location::Postgres(url)).unwrap();
    removal::compare(&mut archive, &reader);
}

#[test]
fn words_are_found_in_postgresql() {
    let cluster = PostgresCluster::start().unwrap();
    let url = cluster.url("postgres");
    let mut archive = PostgresArchive::connect(&url).unwrap();
    archive.migrate().unwrap();
    let reader = Reader::open_at(&Location::Postgres(url)).unwrap();
    Spoken::new().compare(&mut archive, &reader);
    // The index is of use, where a table is large enough for one.
    let plan = cluster
        .psql(
            "postgres",
            "SET enable_seqscan = off; EXPLAIN SELECT seq FROM flows WHERE words @@ '''red'' & ''gr'':*'",
        )
        .unwrap();
    assert!(plan.contains("flows_by_words"), "{plan}");
}

#[test]
fn words_of_many_flows_and_of_one_are_found() {
    let cluster = PostgresCluster::start().unwrap();
    let url = cluster.url("postgres");
    let mut archive = PostgresArchive::connect(&url).unwrap();
    archive.migrate().unwrap();
    let place = Place::new();
    record_all_sorts(&place);
    let template = records(&place.path(), 100).swap_remove(0);
    let flows = (1..=2100_u64).map(|seq| {
        let mut flow = template.clone();
        flow.detail.row.id.seq = seq;
        flow.detail.row.uuid = format!("01900000-0000-7000-8000-{seq:012}");
        if seq == 7 {
            flow.detail.row.url.push_str("/needle");
        }
        flow
    });
    let batch = ArchiveBatch {
        flows: flows.collect(),
        ..ArchiveBatch::default()
    };
    archive.write(&batch).unwrap();
    let reader = Reader::open_at(&Location::Postgres(url)).unwrap();
    let found = |text: &str| {
        let mut asked = search(text);
        asked.limit = 3;
        let hits = reader.search(&asked).unwrap().hits;
        hits.iter().map(|hit| hit.row.id.seq).collect::<Vec<_>>()
    };
    assert_eq!(found("example"), [2100, 2099, 2098]);
    assert_eq!(found("needle"), [7]);
    let listed = |text: &str| {
        let query = Query {
            filter: Some(filter(text)),
            with_total: true,
            ..Query::default()
        };
        reader.flows(&query).unwrap().total
    };
    assert_eq!(listed("text:example host:api.example.com"), Some(2100));
    assert_eq!(listed("text:needl*"), Some(1));
}

#[test]
fn postgresql_gives_the_same_answers() {
    let cluster = PostgresCluster::start().unwrap();
    let original = Original::new();
    let reader = copied(&original, &cluster);
    original.compare(&reader, 1);
    original.compare_filters(&reader, 128);
}

#[test]
fn the_printed_schema_is_taken_and_leaves_nothing_to_do() {
    let cluster = PostgresCluster::start().unwrap();
    cluster.psql("postgres", &postgres_schema()).unwrap();
    cluster.psql("postgres", READONLY_ROLE).unwrap();
    let mut archive = PostgresArchive::connect(&cluster.url("postgres")).unwrap();
    assert_eq!(archive.migrate().unwrap(), Migrated { from: 4, to: 4 });
    // A second time it changes nothing, and says so.
    assert!(cluster.psql("postgres", &postgres_schema()).is_err());
    assert_eq!(archive.status().unwrap().schema, 4);
}
