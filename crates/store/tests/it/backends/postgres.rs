//! PostgreSQL answers as SQLite does.

use oriel_store::{
    Archive, Location, Migrated, PostgresArchive, READONLY_ROLE, Reader, StoreError,
    postgres_schema,
};
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

#[test]
fn the_printed_schema_is_taken_and_leaves_nothing_to_do() {
    let cluster = PostgresCluster::start().unwrap();
    cluster.psql("postgres", &postgres_schema()).unwrap();
    cluster.psql("postgres", READONLY_ROLE).unwrap();
    let mut archive = PostgresArchive::connect(&cluster.url("postgres")).unwrap();
    assert_eq!(archive.migrate().unwrap(), Migrated { from: 2, to: 2 });
    // A second time it changes nothing, and says so.
    assert!(cluster.psql("postgres", &postgres_schema()).is_err());
    assert_eq!(archive.status().unwrap().schema, 2);
}
