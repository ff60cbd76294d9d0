//! Brings the schema of an archive to what this program knows.

use postgres::{Client, GenericClient};

use super::connect::Server;
use crate::StoreError;
use crate::archive::Migrated;
use crate::migration::{Migration, migrations};

/// Advisory locks that oriels hold against each other: this number, `oril` in ASCII, and one of
/// [`Lock`]. Those of other programs in the same database have other numbers.
pub(super) const LOCKS: i32 = 0x6f72_696c;

/// What an advisory lock is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lock {
    /// Changing the schema.
    Schema = 1,
    /// Held shared while chunks that are there already are relied on; alone to remove some.
    Chunks = 2,
    /// Numbering a batch, until it is visible.
    Batches = 3,
    /// Held shared by who writes flows; alone to join two sessions, so that none is missed.
    Sessions = 4,
}

/// All steps of the schema.
const MIGRATIONS: &[Migration] = migrations!["postgres/":
    "0001_flows",
    "0002_words",
    "0003_search_path",
    "0004_sessions",
];

/// The step from which on flows have their words.
pub(super) const WITH_WORDS: u32 = 2;

/// The step from which on sessions have names.
pub(super) const WITH_SESSIONS: u32 = 4;

/// Makes the table that says which steps are applied.
const STEPS: &str = "CREATE TABLE IF NOT EXISTS oriel_migrations (
  number int PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
)";

/// Applies the steps that are missing, all of them or none. Others wait meanwhile.
pub(super) fn migrate(client: &mut Client, server: &Server) -> Result<Migrated, StoreError> {
    let failed = |error| server.failed(error);
    let from = applied(client, server)?;
    if from == known() {
        return Ok(Migrated { from, to: from });
    }
    let mut transaction = client.transaction().map_err(failed)?;
    transaction
        .execute(
            "SELECT pg_advisory_xact_lock($1, $2)",
            &[&LOCKS, &(Lock::Schema as i32)],
        )
        .map_err(failed)?;
    // Whoever had the lock before may have done it all.
    let from = applied(&mut transaction, server)?;
    transaction.batch_execute(STEPS).map_err(failed)?;
    for (number, migration) in (1..).zip(MIGRATIONS) {
        if number <= from {
            continue;
        }
        transaction.batch_execute(migration.sql).map_err(failed)?;
        transaction
            .execute(
                "INSERT INTO oriel_migrations (number, name, checksum) VALUES ($1, $2, $3)",
                &[
                    &number.cast_signed(),
                    &migration.name,
                    &migration.checksum(),
                ],
            )
            .map_err(failed)?;
    }
    transaction.commit().map_err(failed)?;
    Ok(Migrated { from, to: known() })
}

/// SQL that makes the tables as oriel does when it first writes to a database: for who gives its user no
/// right to. To be run once, in the schema of the database that they are to be in.
#[must_use]
pub fn postgres_schema() -> String {
    let mut sql = format!("-- Tables of oriel for PostgreSQL.\nBEGIN;\n\n{STEPS};\n");
    for (number, migration) in (1..).zip(MIGRATIONS) {
        let (name, checksum) = (migration.name, migration.checksum());
        sql.push_str(&format!(
            "\n{}\nINSERT INTO oriel_migrations (number, name, checksum) VALUES ({number}, '{name}', '{checksum}');\n",
            migration.sql.trim_end()
        ));
    }
    sql.push_str("\nCOMMIT;\n");
    sql
}

/// How many steps this program knows.
pub(super) fn known() -> u32 {
    u32::try_from(MIGRATIONS.len()).expect("a handful of migrations")
}

/// How many steps are applied, 0 where there is nothing of ours; an error if they are not those that
/// this program knows.
pub(super) fn applied(client: &mut impl GenericClient, server: &Server) -> Result<u32, StoreError> {
    let failed = |error| server.failed(error);
    // Not `to_regclass`: within a transaction it may answer from what was true before.
    let exists: bool = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'oriel_migrations'
               AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()))",
            &[],
        )
        .map_err(failed)?
        .get(0);
    if !exists {
        return Ok(0);
    }
    let rows = client
        .query(
            "SELECT number, name, checksum FROM oriel_migrations ORDER BY number",
            &[],
        )
        .map_err(failed)?;
    let found = rows
        .last()
        .map_or(0, |row| row.get::<_, i32>(0))
        .cast_unsigned();
    for (row, migration) in rows.iter().zip(MIGRATIONS) {
        if row.get::<_, &str>(2) != migration.checksum() {
            return Err(StoreError::Damaged {
                detail: format!(
                    "its schema step {} is not the one this program knows",
                    row.get::<_, &str>(1)
                ),
            });
        }
    }
    match found <= known() {
        true => Ok(found),
        false => Err(StoreError::NewerSchema {
            found,
            known: known(),
        }),
    }
}
