//! The database file: how it is created, opened, and brought to the present schema.
//!
//! The file and its folder are for the owner only, since a record of traffic is as secret as the
//! traffic. SQLite gives the `-wal` and `-shm` files the mode of the database file.

use std::fs::{self, DirBuilder, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::StoreError;
use crate::limits::{BUSY_TIMEOUT, OPEN_ATTEMPTS, OPEN_PAUSE, STATEMENTS_KEPT_MAX};
use crate::migration::{Migration, migrations};

/// Marks the file as ours: `oril` in ASCII.
const APPLICATION_ID: i32 = 0x6f72_696c;

/// All steps of the schema.
const MIGRATIONS: &[Migration] = migrations!["":
    "0001_flows",
    "0002_archives",
    "0003_annotations",
    "0004_sessions",
    "0005_pieces",
    "0006_client_user",
    "0007_mistyped_archives",
    "0008_http_traces",
    "0009_lean_flows",
];

/// The newest step of the schema that this program knows.
#[expect(clippy::cast_possible_truncation, reason = "a handful of steps")]
pub(crate) const KNOWN_SCHEMA: u32 = MIGRATIONS.len() as u32;

/// Opens a file for writing; creates it where it is missing.
pub(crate) fn open_for_writing(path: &Path) -> Result<Connection, StoreError> {
    open_within(path, BUSY_TIMEOUT)
}

/// Opens a file for writing, and has its connection wait so long for others that write; about as long
/// for being opened.
pub(crate) fn open_within(path: &Path, patience: Duration) -> Result<Connection, StoreError> {
    for _attempt in 1..OPEN_ATTEMPTS {
        match open_once(path, patience / OPEN_ATTEMPTS) {
            // Two that turn a new file to WAL at once would wait for each other: SQLite tells one
            // of them at once, whatever its busy timeout.
            Err(StoreError::Locked) => std::thread::sleep(OPEN_PAUSE),
            result => return patient(result?, patience),
        }
    }
    patient(open_once(path, patience / OPEN_ATTEMPTS)?, patience)
}

fn patient(connection: Connection, patience: Duration) -> Result<Connection, StoreError> {
    connection.busy_timeout(patience)?;
    Ok(connection)
}

/// Tries once to open a file for writing.
pub(crate) fn open_once(path: &Path, patience: Duration) -> Result<Connection, StoreError> {
    create_private(path).map_err(|source| StoreError::NotWritable {
        path: path.to_owned(),
        source,
    })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)
        .map_err(|error| StoreError::opening(path, error))?;
    become_ours(&mut connection, patience).map_err(|error| error.at(path))?;
    Ok(connection)
}

fn become_ours(connection: &mut Connection, patience: Duration) -> Result<(), StoreError> {
    connection.busy_timeout(patience)?;
    // A file of another program stays as it is.
    check_known(connection)?;
    prepare(connection)?;
    migrate(connection)
}

/// A database in memory: an empty one, or one that was serialized.
pub(crate) fn open_in_memory(serialized: Option<&[u8]>) -> Result<Connection, StoreError> {
    let mut connection = Connection::open_in_memory()?;
    if let Some(content) = serialized {
        connection.deserialize_read_exact(c"main", content, content.len(), false)?;
    }
    connection.pragma_update(None, "foreign_keys", false)?;
    keep_statements(&connection)?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// Opens an existing file for writing.
pub(crate) fn open_existing(path: &Path) -> Result<Connection, StoreError> {
    if !is_there(path)? {
        return Err(StoreError::NotFound {
            path: path.to_owned(),
        });
    }
    open_for_writing(path)
}

/// Opens an existing file for reading.
pub(crate) fn open_for_reading(path: &Path) -> Result<Connection, StoreError> {
    let not_found = || StoreError::NotFound {
        path: path.to_owned(),
    };
    if !is_there(path)? {
        return Err(not_found());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|error| StoreError::opening(path, error))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // A file without a schema is one that its first writer is about to fill.
    match check_known(&connection).map_err(|error| error.at(path))? {
        0 => Err(not_found()),
        // Written last by an older oriel: whoever reads asks for what the present schema has.
        applied if applied < MIGRATIONS.len() => {
            open_for_writing(path)?;
            Ok(connection)
        }
        _ => Ok(connection),
    }
}

/// How many steps of the schema a file has; 0 if it is missing or empty.
pub(crate) fn schema_of(path: &Path) -> Result<u32, StoreError> {
    if !is_there(path)? {
        return Ok(0);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|error| StoreError::opening(path, error))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let applied = check_known(&connection).map_err(|error| error.at(path))?;
    Ok(u32::try_from(applied).unwrap_or(u32::MAX))
}

/// Makes an empty file for the owner only where none is.
pub(crate) fn create_new(path: &Path) -> Result<(), StoreError> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    created.map(drop).map_err(|source| StoreError::NotWritable {
        path: path.to_owned(),
        source,
    })
}

/// Makes a file, and its folder where it is missing, for the owner only.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(_) => Ok(()),
        // It must not be opened besides SQLite: whoever closes a file gives up all locks that the process
        // has on it (fcntl(2)), and another process that ends would take the log away from this one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => make_private(path),
        Err(error) => Err(error),
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    let Some(metadata) = metadata_of_file(path)? else {
        return Err(io::ErrorKind::NotFound.into());
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Whether there is a file.
fn is_there(path: &Path) -> Result<bool, StoreError> {
    let metadata = metadata_of_file(path).map_err(|source| StoreError::NotWritable {
        path: path.to_owned(),
        source,
    })?;
    Ok(metadata.is_some())
}

/// `None` if nothing is there. Anything but a file is an error: SQLite would wait for a pipe to be written to, and
/// says of the others that the disk fails.
fn metadata_of_file(path: &Path) -> io::Result<Option<Metadata>> {
    let wrong = |what: String| Err(io::Error::other(what));
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
        Ok(metadata) if metadata.is_dir() => wrong("it is a folder".to_owned()),
        Ok(_) => wrong("it is a device, a pipe or a socket".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(path) {
            Ok(to) => wrong(format!(
                "it is a link to {}, and nothing is there",
                to.display()
            )),
            Err(_) => Ok(None),
        },
        Err(error) => Err(error),
    }
}

fn prepare(connection: &Connection) -> Result<(), StoreError> {
    // With WAL, NORMAL keeps every commit when the process dies, and the file whole when the
    // power goes; it does without an fsync per commit.
    // Twice the usual size: what a batch adds lies on fewer pages. Not larger still, since a commit
    // writes whole pages, however few rows it has.
    connection.pragma_update(None, "page_size", 8192)?;
    // Pages that become free can be given back bit by bit. Heeded for a new file alone.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Fewer, larger checkpoints: an index page that changed often is written once.
    connection.pragma_update(None, "wal_autocheckpoint", 2000)?;
    // What a row refers to was written just before, by the same thread.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    // In KiB. Rows go to the end of their tables: a larger cache holds pages that are done with, where memory
    // that is used again is still in the cache of the core. The system keeps what is read of old ones.
    connection.pragma_update(None, "cache_size", -1024)?;
    keep_statements(connection)?;
    Ok(())
}

/// Keeps the statements of a connection as they were compiled. Else SQLite plans many of them anew for each
/// value that is bound, in case it fits another plan; ours are made to have one.
pub(crate) fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT_MAX);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Marks a database as ours.
pub(crate) fn mark(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.pragma_update(None, "application_id", APPLICATION_ID)?)
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    if check_known(connection)? == MIGRATIONS.len() {
        return Ok(());
    }
    // Two processes may come here at once: the lock is taken before looking again.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let applied = check_known(&transaction)?;
    mark(&transaction)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations (
           number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL
         ) STRICT",
    )?;
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(applied) {
        transaction.execute_batch(migration.sql)?;
        transaction.execute(
            "INSERT INTO schema_migrations VALUES (?1, ?2, ?3, CAST(unixepoch('subsec') * 1000000 AS INTEGER))",
            (ordinal(number), migration.name, migration.checksum()),
        )?;
    }
    transaction.commit()?;
    Ok(())
}

/// How many migrations are applied; an error if they are not ours.
fn check_known(connection: &Connection) -> Result<usize, StoreError> {
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if tables == 0 {
        return Ok(0);
    }
    // Asked second: whoever sees the tables of a process that creates the file at the same moment
    // sees its mark as well, since one transaction sets both.
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application != APPLICATION_ID {
        return Err(StoreError::Damaged {
            detail: "it is a SQLite file of another program".to_owned(),
        });
    }
    let mut statement = connection
        .prepare("SELECT number, name, checksum FROM schema_migrations ORDER BY number")?;
    let applied: Vec<(u32, String, String)> = statement
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    let known = ordinal(MIGRATIONS.len() - 1);
    for (position, (number, name, checksum)) in applied.iter().enumerate() {
        let Some(migration) = MIGRATIONS.get(position) else {
            let found = applied.last().map_or(*number, |last| last.0);
            return Err(StoreError::NewerSchema { found, known });
        };
        if *checksum != migration.checksum() {
            return Err(StoreError::Damaged {
                detail: format!("its schema step {name} is not the one this program knows"),
            });
        }
    }
    Ok(applied.len())
}

/// Migrations are numbered from one on.
fn ordinal(position: usize) -> u32 {
    u32::try_from(position + 1).expect("a handful of migrations")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reader;
    use crate::reader::Query;

    /// What an oriel wrote that knew the first eight steps of the schema.
    const OLD_FLOW: &str = "
        INSERT INTO flows (id, run_id, seq, start_time, trace_bits, place, path, query, state, client_connection,
          status_code, response_version, response_content_type, first_byte_us, request_body_size,
          response_body_size, truncated, duration_us, detail)
        VALUES (?1 << 10, 'k7q2', ?1, ?1, ?1, 1, '/', '', ?2, 1, 200, 'HTTP/1.1', 'text/html', 3, 0, 4, 0, 5, x'')";

    fn at_step_8(connection: &Connection) {
        mark(connection).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE schema_migrations (
                   number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL,
                   applied_at INTEGER NOT NULL) STRICT",
            )
            .unwrap();
        for (number, step) in MIGRATIONS.iter().enumerate().take(8) {
            connection.execute_batch(step.sql).unwrap();
            let row = (ordinal(number), step.name, step.checksum());
            let applied = "INSERT INTO schema_migrations VALUES (?1, ?2, ?3, 0)";
            connection.execute(applied, row).unwrap();
        }
        let rest = "
            INSERT INTO runs (id, uuid, kind, argv, pid, started_at)
              VALUES ('k7q2', '0192f0c1-0000-7000-8000-000000000001', 'run', '[]', 1, 0);
            INSERT INTO client_connections (run_id, front, client_address, proxy_address, accepted_at, sni_differs)
              VALUES ('k7q2', 'connect', '127.0.0.1:1', '127.0.0.1:2', 0, 0);
            INSERT INTO places (kind, route_action, route_rule, redaction, method, scheme, host, port, url_start,
              request_version)
              VALUES ('http', 'intercept', 'x', 'basic', 'GET', 'https', 'a.test', 443, 'https://a.test', 'HTTP/1.1');";
        connection.execute_batch(rest).unwrap();
    }

    #[test]
    fn flows_of_an_older_oriel_are_read_and_it_may_go_on_writing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("oriel.db");
        let older = Connection::open(&path).unwrap();
        at_step_8(&older);
        let mut insert = older.prepare(OLD_FLOW).unwrap();
        insert.execute((1, "completed")).unwrap();
        insert.execute((2, "open")).unwrap();

        let newer = open_for_writing(&path).unwrap();
        insert.execute((3, "failed")).unwrap();
        let kind =
            "INSERT INTO response_kinds (version, content_type) VALUES ('HTTP/2', 'text/css')";
        newer.execute(kind, ()).unwrap();
        let lean = "
            INSERT INTO flows (id, run_id, seq, start_time, trace_bits, place, path, query, state, client_connection,
              status_code, response_kind, first_byte_us, request_body_size, response_body_size, truncated,
              duration_us, detail)
            VALUES (4 << 10, 'k7q2', 4, 0, 4, 1, '/', '', '', 1, 200, 1, 3, 0, 4, 0, 5, x'')";
        newer.execute(lean, ()).unwrap();
        let arrived = "INSERT INTO arrivals (run_id, first_seq, last_seq, first_id, last_id)
            VALUES ('k7q2', 1, 4, 1 << 10, 4 << 10)";
        newer.execute(arrived, ()).unwrap();

        let reader = Reader::open(&path).unwrap();
        let mut rows = reader.flows(&Query::default()).unwrap().rows;
        rows.sort_by_key(|row| row.id.seq);
        let shown: Vec<String> = rows
            .iter()
            .map(|row| {
                let version = row.upstream_version.as_deref();
                let content_type = row.response_content_type.as_deref();
                let (version, content_type) = (version.unwrap(), content_type.unwrap());
                let (state, at) = (row.state.as_str(), row.started_at.0);
                format!("{at} {state} {version} {content_type}")
            })
            .collect();
        assert_eq!(
            shown,
            [
                "1 completed HTTP/1.1 text/html",
                "2 open HTTP/1.1 text/html",
                "3 failed HTTP/1.1 text/html",
                "4 completed HTTP/2 text/css",
            ]
        );
    }
}
