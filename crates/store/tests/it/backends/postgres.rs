//! PostgreSQL answers as SQLite does.

use oriel_store::{Archive, Location, PostgresArchive, Reader, StoreError};
use testbed::postgres::PostgresCluster;

use super::words::Spoken;
use super::{Original, sums};

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
fn postgresql_gives_the_same_answers() {
    let cluster = PostgresCluster::start().unwrap();
    let original = Original::new();
    let reader = copied(&original, &cluster);
    original.compare(&reader, 1);
    original.compare_filters(&reader, 128);
}
