//! An archive in PostgreSQL, and its reader. The tables are in `migrations/postgres/`; other programs may
//! read them too.
//!
//! The calls wait for the server on the thread they are made on, and must not be made within an async
//! task.

mod annotate;
mod chunks;
mod columns;
mod connect;
mod copy;
mod migrate;
mod pool;
mod reader;
pub(crate) mod regex;
mod removal;
mod row;
mod runs;
mod sessions;
mod summary;
mod sums;
mod time;
mod tls;
mod words;
mod write;

use std::fmt;
use std::sync::Arc;

use postgres::Client;

use self::connect::Purpose;
pub use self::migrate::postgres_schema;
use self::pool::{Connection, Pool, Pooled};
pub(crate) use self::reader::PostgresBackend;
use self::removal::Removing;
use self::words::WordIndexer;
use crate::archive::{self, Archive, ArchiveBatch, ArchiveStatus, Migrated};
use crate::{Annotate, AnnotateError, Annotation, Doomed, Progress, Removal, StoreError};

/// SQL that makes a role `oriel_reader`, which may read an archive and change nothing.
pub const READONLY_ROLE: &str = include_str!("../migrations/postgres/readonly_role.sql");

/// Above so many flows, as the server estimates them, that estimate is told: counting takes long.
const COUNTED_FLOWS_MAX: i64 = 100_000;

/// A PostgreSQL database that flows are written to. All of one URL share their connections, with those who read:
/// `connection_limit` in it says how many there may be (4 if it says nothing), `pool_timeout` how many seconds one
/// is waited for (10).
pub struct PostgresArchive {
    pool: Arc<Pool>,
    words: WordIndexer,
}

impl PostgresArchive {
    /// Connects to the database that a URL names. It is left as it is: see [`Archive::migrate`].
    pub fn connect(url: &str) -> Result<Self, StoreError> {
        let archive = Self {
            pool: Pool::of(url)?,
            words: WordIndexer::default(),
        };
        drop(archive.writer()?);
        Ok(archive)
    }

    fn writer(&self) -> Result<Pooled, StoreError> {
        self.pool.get(Purpose::Write)
    }
}

impl Archive for PostgresArchive {
    fn migrate(&mut self) -> Result<Migrated, StoreError> {
        let mut writer = self.writer()?;
        let (connection, server) = writer.parts();
        let migrated = migrate::migrate(&mut connection.client, server)?;
        if migrated.from != migrated.to {
            // The tables that rows are copied into may be of another form now.
            writer.close();
            self.pool.close_idle();
        }
        Ok(migrated)
    }

    fn write(&mut self, batch: &ArchiveBatch) -> Result<(), StoreError> {
        let mut writer = self.writer()?;
        let (connection, server) = writer.parts();
        if !connection.is_prepared {
            write::prepare(&mut connection.client).map_err(|error| server.failed(error))?;
            connection.is_prepared = true;
        }
        let listed = write::write(&mut connection.client, server, batch)?;
        drop(writer);
        self.words.add(&self.pool, listed);
        Ok(())
    }

    fn plan_removal(&mut self, doomed: &Doomed<'_>) -> Result<Removal, StoreError> {
        archive::removal::plan(&mut Removing::begin(&self.pool)?, doomed)
    }

    fn remove(
        &mut self,
        doomed: &Doomed<'_>,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Removal, StoreError> {
        archive::removal::remove(&mut Removing::begin(&self.pool)?, doomed, progress)
    }

    fn annotate(
        &mut self,
        uuid: &str,
        change: &Annotate,
    ) -> Result<Option<Annotation>, AnnotateError> {
        let mut writer = self.writer()?;
        let (connection, server) = writer.parts();
        annotate::annotate(&mut connection.client, server, uuid, change)
    }

    fn rename_session(&mut self, id: &str, name: &str) -> Result<bool, StoreError> {
        let mut writer = self.writer()?;
        let (connection, server) = writer.parts();
        sessions::rename(&mut connection.client, server, id, name)
    }

    fn merge_sessions(&mut self, into: &str, other: &str) -> Result<bool, StoreError> {
        let mut writer = self.writer()?;
        let (connection, server) = writer.parts();
        sessions::merge(&mut connection.client, server, into, other)
    }

    fn status(&mut self) -> Result<ArchiveStatus, StoreError> {
        let mut writer = self.writer()?;
        let (Connection { client, .. }, server) = writer.parts();
        let schema = migrate::applied(client, server)?;
        let failed = |error| server.failed(error);
        let version: String = client
            .query_one("SELECT current_setting('server_version')", &[])
            .map_err(failed)?
            .get(0);
        let number = version.split(' ').next().unwrap_or_default();
        let mut status = ArchiveStatus {
            server: format!("PostgreSQL {number}"),
            schema,
            known: migrate::known(),
            runs: 0,
            flows: 0,
            bytes: None,
        };
        if schema > 0 {
            let (runs, flows, bytes) = size(client).map_err(failed)?;
            status.runs = runs.unsigned_abs();
            status.flows = flows.unsigned_abs();
            status.bytes = Some(bytes.unsigned_abs());
        }
        Ok(status)
    }
}

/// Runs, flows, and bytes of all tables.
fn size(client: &mut Client) -> Result<(i64, i64, i64), postgres::Error> {
    let row = client.query_one(
        "SELECT (SELECT count(*) FROM runs),
           (SELECT reltuples::bigint FROM pg_class WHERE oid = 'flows'::regclass),
           (SELECT sum(pg_total_relation_size(name::regclass))::bigint
            FROM unnest(ARRAY['runs', 'flows', 'chunks', 'batches', 'messages', 'gaps']) AS name)",
        &[],
    )?;
    let estimate: i64 = row.get(1);
    let flows = match estimate > COUNTED_FLOWS_MAX {
        true => estimate,
        false => client.query_one("SELECT count(*) FROM flows", &[])?.get(0),
    };
    Ok((row.get(0), flows, row.get(2)))
}

/// Without the password.
impl fmt::Debug for PostgresArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresArchive")
            .field(&self.pool.server().place())
            .finish()
    }
}
