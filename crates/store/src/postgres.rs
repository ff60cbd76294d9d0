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

use postgres::Client;

use self::connect::{Purpose, Server};
pub use self::migrate::postgres_schema;
pub(crate) use self::reader::PostgresBackend;
use self::removal::Removing;
use self::words::WordIndexer;
use crate::archive::{self, Archive, ArchiveBatch, ArchiveStatus, Migrated};
use crate::{Annotate, AnnotateError, Annotation, Doomed, Progress, Removal, StoreError};

/// SQL that makes a role `oriel_reader`, which may read an archive and change nothing.
pub const READONLY_ROLE: &str = include_str!("../migrations/postgres/readonly_role.sql");

/// Above so many flows, as the server estimates them, that estimate is told: counting takes long.
const COUNTED_FLOWS_MAX: i64 = 100_000;

/// A PostgreSQL database that flows are written to.
pub struct PostgresArchive {
    server: Server,
    client: Client,
    /// Whether the connection has the tables that rows are copied into.
    is_prepared: bool,
    words: WordIndexer,
}

impl PostgresArchive {
    /// Connects to the database that a URL names. It is left as it is: see [`Archive::migrate`].
    pub fn connect(url: &str) -> Result<Self, StoreError> {
        let server = Server::parse(url)?;
        Ok(Self {
            client: server.connect(Purpose::Write)?,
            server,
            is_prepared: false,
            words: WordIndexer::default(),
        })
    }
}

impl Archive for PostgresArchive {
    fn migrate(&mut self) -> Result<Migrated, StoreError> {
        // A migration may change what these are made like.
        self.is_prepared = false;
        migrate::migrate(&mut self.client, &self.server)
    }

    fn write(&mut self, batch: &ArchiveBatch) -> Result<(), StoreError> {
        if !self.is_prepared {
            write::prepare(&mut self.client).map_err(|error| self.server.failed(error))?;
            self.is_prepared = true;
        }
        let listed = write::write(&mut self.client, &self.server, batch)?;
        self.words.add(&self.server, listed);
        Ok(())
    }

    fn plan_removal(&mut self, doomed: &Doomed<'_>) -> Result<Removal, StoreError> {
        archive::removal::plan(&mut Removing::connect(&self.server)?, doomed)
    }

    fn remove(
        &mut self,
        doomed: &Doomed<'_>,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Removal, StoreError> {
        archive::removal::remove(&mut Removing::connect(&self.server)?, doomed, progress)
    }

    fn annotate(
        &mut self,
        uuid: &str,
        change: &Annotate,
    ) -> Result<Option<Annotation>, AnnotateError> {
        annotate::annotate(&mut self.client, &self.server, uuid, change)
    }

    fn rename_session(&mut self, id: &str, name: &str) -> Result<bool, StoreError> {
        sessions::rename(&mut self.client, &self.server, id, name)
    }

    fn merge_sessions(&mut self, into: &str, other: &str) -> Result<bool, StoreError> {
        sessions::merge(&mut self.client, &self.server, into, other)
    }

    fn status(&mut self) -> Result<ArchiveStatus, StoreError> {
        let schema = migrate::applied(&mut self.client, &self.server)?;
        let failed = |error| self.server.failed(error);
        let version: String = self
            .client
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
            let (runs, flows, bytes) = size(&mut self.client).map_err(failed)?;
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
            .field(&self.server.place())
            .finish()
    }
}
