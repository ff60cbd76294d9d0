//! An archive in ClickHouse, and its reader, by the HTTP interface. The tables are in
//! `migrations/clickhouse/`; other programs may read them too.
//!
//! ClickHouse has no transactions and no unique keys. A batch is a few inserts, its flows last, and rows
//! that are written again replace those before when they are read with `FINAL`: a batch that was sent
//! twice, or only in part, is right after it was sent whole.

mod annotate;
mod columns;
mod migrate;
mod reader;
mod removal;
mod row;
mod runs;
mod schema;
mod server;
mod sessions;
mod summary;
mod sums;
mod write;

use std::fmt;

use serde::Deserialize;

pub(crate) use self::reader::ClickHouseBackend;
use self::removal::Removing;
pub use self::schema::{clickhouse_reader_role, clickhouse_schema};
use self::server::Server;
use crate::archive::{self, Archive, ArchiveBatch, ArchiveStatus, Migrated};
use crate::{Annotate, AnnotateError, Annotation, Doomed, Progress, Removal, StoreError};

/// A ClickHouse database that flows are written to.
pub struct ClickHouseArchive {
    server: Server,
}

/// What the server says of itself and of the tables.
#[derive(Deserialize)]
struct Size {
    version: String,
    bytes: u64,
}

#[derive(Deserialize)]
struct Counts {
    runs: u64,
    flows: u64,
}

impl ClickHouseArchive {
    /// Connects to the database that a URL names. It is left as it is: see [`Archive::migrate`].
    pub fn connect(url: &str) -> Result<Self, StoreError> {
        let server = Server::parse(url)?;
        server.check_version()?;
        Ok(Self { server })
    }
}

impl Archive for ClickHouseArchive {
    fn migrate(&mut self) -> Result<Migrated, StoreError> {
        migrate::migrate(&self.server)
    }

    fn write(&mut self, batch: &ArchiveBatch) -> Result<(), StoreError> {
        write::write(&self.server, batch)
    }

    fn plan_removal(&mut self, doomed: &Doomed<'_>) -> Result<Removal, StoreError> {
        archive::removal::plan(&mut Removing::open(&self.server)?, doomed)
    }

    fn remove(
        &mut self,
        doomed: &Doomed<'_>,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Removal, StoreError> {
        archive::removal::remove(&mut Removing::open(&self.server)?, doomed, progress)
    }

    fn annotate(
        &mut self,
        uuid: &str,
        change: &Annotate,
    ) -> Result<Option<Annotation>, AnnotateError> {
        annotate::annotate(&self.server, uuid, change)
    }

    fn rename_session(&mut self, id: &str, name: &str) -> Result<bool, StoreError> {
        sessions::rename(&self.server, id, name)
    }

    fn merge_sessions(&mut self, into: &str, other: &str) -> Result<bool, StoreError> {
        sessions::merge(&self.server, into, other)
    }

    fn status(&mut self) -> Result<ArchiveStatus, StoreError> {
        let schema = migrate::applied(&self.server)?;
        let size: Size = self.server.one(
            "SELECT version() AS version, (SELECT coalesce(sum(bytes_on_disk), 0) FROM system.parts
               WHERE active AND database = currentDatabase()
                 AND replaceRegexpOne(table, '_local$', '') IN ('runs', 'flows', 'messages', 'gaps')) AS bytes",
            &[],
        )?;
        let counts = match schema {
            0 => Counts { runs: 0, flows: 0 },
            _ => self.server.one(
                "SELECT (SELECT count() FROM runs) AS runs, (SELECT count() FROM flows) AS flows",
                &[],
            )?,
        };
        Ok(ArchiveStatus {
            server: format!("ClickHouse {}", size.version),
            schema,
            known: migrate::known(),
            runs: counts.runs,
            flows: counts.flows,
            bytes: (schema > 0).then_some(size.bytes),
        })
    }
}

impl fmt::Debug for ClickHouseArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClickHouseArchive")
            .field(&self.server.place())
            .finish()
    }
}
