//! Brings the schema of an archive to what this program knows.

use serde::Deserialize;

use super::schema::{STEPS, statements};
use super::server::{Server, Value};
use crate::StoreError;
use crate::archive::Migrated;
use crate::migration::{Migration, migrations};

/// All steps of the schema.
pub(super) const MIGRATIONS: &[Migration] = migrations!["clickhouse/":
    "0001_flows",
    "0002_words",
    "0003_repetition",
    "0004_sessions",
];

/// The step from which on flows have their words.
pub(super) const WITH_WORDS: u32 = 2;

/// The step from which on sessions have names.
pub(super) const WITH_SESSIONS: u32 = 4;

/// A step that was applied.
#[derive(Deserialize)]
struct Applied {
    number: u32,
    name: String,
    checksum: String,
}

/// Applies the steps that are missing. There is no lock to take: each statement does nothing where it
/// was done already, so that two who do it at once come to the same.
pub(super) fn migrate(server: &Server) -> Result<Migrated, StoreError> {
    let from = applied(server)?;
    if from == known() {
        return Ok(Migrated { from, to: from });
    }
    refuse_cluster(server)?;
    let steps = format!(
        "CREATE TABLE IF NOT EXISTS oriel_migrations {STEPS} ENGINE = ReplacingMergeTree ORDER BY number"
    );
    server.execute(&steps, &[])?;
    for (number, migration) in (1_u32..).zip(MIGRATIONS) {
        if number <= from {
            continue;
        }
        for statement in statements(migration.sql) {
            server.execute(statement, &[])?;
        }
        server.execute(
            "INSERT INTO oriel_migrations (number, name, checksum)
             SELECT {p1:Int64}, {p2:String}, {p3:String}",
            &[
                Value::Number(number.into()),
                Value::Text(migration.name),
                Value::Text(&migration.checksum()),
            ],
        )?;
    }
    Ok(Migrated { from, to: known() })
}

/// The tables of a cluster have a schema of their own, which who looks after it applies.
fn refuse_cluster(server: &Server) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Count {
        count: u64,
    }
    let Count { count } = server.one(
        "SELECT count() AS count FROM system.tables
         WHERE database = currentDatabase() AND name = 'flows' AND engine = 'Distributed'",
        &[],
    )?;
    match count {
        0 => Ok(()),
        _ => Err(StoreError::Unavailable {
            place: server.place().to_owned(),
            source: "its tables are those of a cluster and of an older oriel; run what \
                     `oriel db schema clickhouse --cluster NAME` prints"
                .into(),
        }),
    }
}

/// How many steps this program knows.
pub(super) fn known() -> u32 {
    u32::try_from(MIGRATIONS.len()).expect("a handful of migrations")
}

/// How many steps are applied, 0 where there is nothing of ours; an error if they are not those that
/// this program knows.
pub(super) fn applied(server: &Server) -> Result<u32, StoreError> {
    #[derive(Deserialize)]
    struct Exists {
        result: u8,
    }
    let exists: Exists = server.one("EXISTS TABLE oriel_migrations", &[])?;
    if exists.result == 0 {
        return Ok(0);
    }
    // Two who applied a step at once have both noted it.
    let sql = "SELECT DISTINCT number, name, checksum FROM oriel_migrations ORDER BY number";
    let applied: Vec<Applied> = server.rows(sql, &[])?;
    for (position, step) in applied.iter().enumerate() {
        let Some(migration) = MIGRATIONS.get(position) else {
            let found = applied.last().map_or(step.number, |last| last.number);
            return Err(StoreError::NewerSchema {
                found,
                known: known(),
            });
        };
        if step.checksum != migration.checksum() {
            return Err(StoreError::Damaged {
                detail: format!(
                    "its schema step {} is not the one this program knows",
                    step.name
                ),
            });
        }
    }
    Ok(u32::try_from(applied.len()).unwrap_or(u32::MAX))
}
