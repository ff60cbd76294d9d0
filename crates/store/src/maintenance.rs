//! What people do with the file of a machine besides recording into it: look after it, check it, back it
//! up, copy it to another database. All of it may be done while others write.

use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use traffic::Timestamp;

use crate::database::{self, KNOWN_SCHEMA, open_for_reading};
use crate::interrupted::forget_changes;
use crate::limits::{BACKUP_PAGES, BUSY_TIMEOUT, CHECK_FINDINGS_MAX, RECORDS_FLOWS_MAX};
use crate::reader::records;
use crate::shipper::{count_waiting, read_gaps};
use crate::{
    Archive, ArchiveBatch, Location, Marker, Migrated, Reader, Session, SessionName, StoreError,
};

/// What there is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Steps of the schema that are applied.
    pub schema: u32,
    /// Newest step that this program knows.
    pub known: u32,
    /// Runs.
    pub runs: u64,
    /// Flows.
    pub flows: u64,
    /// When the oldest and the newest of them started.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Of these, bytes that nothing needs any more.
    pub free_bytes: u64,
    /// Archives that it is, or was, copied to.
    pub archives: Vec<Outgoing>,
}

impl FileStatus {
    /// The archives that do not have all flows as they are now: from the first of these on, nothing that is
    /// old goes.
    pub fn awaiting(&self) -> impl Iterator<Item = &str> {
        let behind = self.archives.iter().filter(|archive| archive.waiting > 0);
        behind.map(|archive| archive.archive.as_str())
    }
}

/// How far an archive has what is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The archive, without its password.
    pub archive: String,
    /// Flows that it does not have as they are now.
    pub waiting: u64,
    /// When it last took something.
    pub acknowledged_at: Option<Timestamp>,
}

/// Looks at a file, and changes nothing: it may have an older schema.
pub fn file_status(path: &Path) -> Result<FileStatus, StoreError> {
    let schema = database::schema_of(path)?;
    if schema == 0 {
        return Err(StoreError::NotFound {
            path: path.to_owned(),
        });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let number = |sql: &str| {
        let number: i64 = connection.query_row(sql, (), |row| row.get(0))?;
        Ok::<u64, StoreError>(number.unsigned_abs())
    };
    let page_bytes = number("PRAGMA page_size")?;
    let span = connection.query_row(
        "SELECT (SELECT iif(start_time = 0, id >> 10, start_time) FROM flows ORDER BY id LIMIT 1),
           (SELECT iif(start_time = 0, id >> 10, start_time) FROM flows ORDER BY id DESC LIMIT 1)",
        (),
        |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)),
    )?;
    Ok(FileStatus {
        schema,
        known: KNOWN_SCHEMA,
        runs: number("SELECT count(*) FROM runs")?,
        flows: number("SELECT count(*) FROM flows")?,
        span: span.0.map(Timestamp).zip(span.1.map(Timestamp)),
        bytes: number("PRAGMA page_count")? * page_bytes,
        free_bytes: number("PRAGMA freelist_count")? * page_bytes,
        archives: match schema < KNOWN_SCHEMA {
            true => Vec::new(),
            false => archives(&connection)?,
        },
    })
}

fn archives(connection: &Connection) -> Result<Vec<Outgoing>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT name, arrival, change, acknowledged FROM archives ORDER BY acknowledged DESC",
    )?;
    let mut rows = statement.query(())?;
    let mut archives = Vec::new();
    while let Some(row) = rows.next()? {
        let marker = Marker {
            arrival: row.get(1)?,
            change: row.get(2)?,
            ..Marker::default()
        };
        archives.push(Outgoing {
            archive: row.get(0)?,
            waiting: count_waiting(connection, marker)?,
            acknowledged_at: row.get::<_, Option<i64>>(3)?.map(Timestamp),
        });
    }
    Ok(archives)
}

/// Has a file forget an archive that it is no longer copied to, so that nothing stays for it any longer.
/// `name` is what [`file_status`] calls it; answers whether the file knew it. What the archive has stays
/// there. Should the file be copied to it again, all of it goes again.
pub fn forget_archive(path: &Path, name: &str) -> Result<bool, StoreError> {
    let mut connection = database::open_existing(path)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute(
        "DELETE FROM archived_runs WHERE archive = (SELECT id FROM archives WHERE name = ?1)",
        [name],
    )?;
    let forgotten = transaction.execute("DELETE FROM archives WHERE name = ?1", [name])?;
    forget_changes(&transaction)?;
    transaction.commit()?;
    Ok(forgotten > 0)
}

/// Brings the schema of a file to what this program knows. Opening a file for writing does it too.
pub fn migrate_file(path: &Path) -> Result<Migrated, StoreError> {
    let from = database::schema_of(path)?;
    if from == 0 {
        return Err(StoreError::NotFound {
            path: path.to_owned(),
        });
    }
    drop(database::open_for_writing(path)?);
    Ok(Migrated {
        from,
        to: KNOWN_SCHEMA,
    })
}

/// Checks that a file is whole, that its schema is what it says, and that what is referred to is there;
/// answers what is not, at most a hundred things. Reads the whole file.
pub fn check_file(path: &Path) -> Result<Vec<String>, StoreError> {
    check_file_in_phases(path, |_| {})
}

/// The same; `phase` is told what is looked for next.
pub fn check_file_in_phases(
    path: &Path,
    mut phase: impl FnMut(&'static str),
) -> Result<Vec<String>, StoreError> {
    let connection = open_for_reading(path)?;
    phase("damaged pages");
    let mut findings = Vec::new();
    let mut statement =
        connection.prepare(&format!("PRAGMA integrity_check({CHECK_FINDINGS_MAX})"))?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let finding: String = row.get(0)?;
        if finding != "ok" {
            findings.push(finding);
        }
    }
    for (what, sql) in REFERENCES {
        phase(what);
        let missing: i64 = connection.query_row(sql, (), |row| row.get(0))?;
        if missing > 0 {
            findings.push(format!("{missing} {what}"));
        }
    }
    Ok(findings)
}

/// What may be missing, and how many times it is.
const REFERENCES: [(&str, &str); 7] = [
    (
        "flows of runs that are missing",
        "SELECT count(*) FROM flows WHERE run_id NOT IN (SELECT id FROM runs)",
    ),
    (
        "flows to places that are missing",
        "SELECT count(*) FROM flows WHERE place NOT IN (SELECT id FROM places)",
    ),
    (
        "flows with kinds of responses that are missing",
        "SELECT count(*) FROM flows WHERE response_kind NOT IN (SELECT id FROM response_kinds)",
    ),
    (
        "flows on upstream connections that are missing",
        "SELECT count(*) FROM flows WHERE upstream_connection NOT IN (SELECT id FROM upstream_connections)",
    ),
    (
        "request bodies that are missing",
        "SELECT count(*) FROM flows WHERE request_body NOT IN (SELECT id FROM bodies)",
    ),
    (
        "response bodies that are missing",
        "SELECT count(*) FROM flows WHERE response_body NOT IN (SELECT id FROM bodies)",
    ),
    (
        "messages of flows that are missing",
        "SELECT count(*) FROM messages WHERE flow NOT IN (SELECT id FROM flows)",
    ),
];

/// Copies a file as it is now to a new one, for the owner only, while others write to it (SQLite's online
/// backup). `progress` gets the pages done and all pages. What is begun and fails leaves no file.
pub fn back_up(
    path: &Path,
    to: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), StoreError> {
    let source = open_for_reading(path)?;
    database::create_new(to)?;
    let done = copy_pages(&source, to, &mut progress);
    if done.is_err() {
        // What is there is not whole.
        let _gone = std::fs::remove_file(to);
    }
    done
}

fn copy_pages(
    source: &Connection,
    to: &Path,
    progress: &mut impl FnMut(u64, u64),
) -> Result<(), StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target =
        Connection::open_with_flags(to, flags).map_err(|error| StoreError::opening(to, error))?;
    // One state of the file is read to the end: else each write of others would begin it anew.
    let snapshot = source.unchecked_transaction()?;
    let _tables: i64 =
        snapshot.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    let backup = Backup::new(&snapshot, &mut target)?;
    loop {
        let step = backup.step(BACKUP_PAGES)?;
        let state = backup.progress();
        let pages = |count: i32| u64::try_from(count).unwrap_or(0);
        progress(
            pages(state.pagecount.saturating_sub(state.remaining)),
            pages(state.pagecount),
        );
        match step {
            StepResult::Done => break,
            StepResult::More => {}
            // Nobody else knows the new file, and the snapshot is ours.
            _ => return Err(StoreError::Locked),
        }
    }
    drop(backup);
    snapshot.finish()?;
    target.execute_batch("PRAGMA journal_mode = DELETE")?;
    Ok(())
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Flows.
    pub flows: u64,
    /// Runs, as far as they were copied by themselves: those of a file.
    pub runs: u64,
    /// Losses that are on record.
    pub gaps: u64,
}

/// Copies all flows of one database to another, those that come meanwhile too. What is there already is
/// brought up to date, so a copy that was broken off is gone on with by doing it again. So are names of
/// sessions that have none there. Of a file, runs
/// without flows and losses go as well. `progress` gets the flows so far.
pub fn copy(
    from: &Location,
    to: &mut dyn Archive,
    mut progress: impl FnMut(u64),
) -> Result<Copied, StoreError> {
    let reader = Reader::open_at(from)?;
    let mut copied = Copied::default();
    let mut marker = Marker::default();
    loop {
        let found = reader.records(marker, RECORDS_FLOWS_MAX)?;
        if found.marker == marker {
            break;
        }
        marker = found.marker;
        copied.flows += u64::try_from(found.flows.len()).unwrap_or(0);
        to.write(&ArchiveBatch {
            flows: found.flows,
            ..ArchiveBatch::default()
        })?;
        progress(copied.flows);
    }
    let named = reader.sessions(usize::MAX)?.into_iter();
    let named = named.filter_map(|Session { id, name, .. }| Some(SessionName { id, name: name? }));
    let names = ArchiveBatch {
        sessions: named.collect(),
        ..ArchiveBatch::default()
    };
    if !names.is_empty() {
        to.write(&names)?;
    }
    if let Some(path) = from.file() {
        copy_rest(&open_for_reading(path)?, to, &mut copied)?;
    }
    Ok(copied)
}

/// Runs and gaps.
fn copy_rest(
    connection: &Connection,
    to: &mut dyn Archive,
    copied: &mut Copied,
) -> Result<(), StoreError> {
    let mut gap = 0;
    let mut run = 0;
    loop {
        let runs = records::runs_after(connection, run)?;
        let gaps = read_gaps(connection, gap)?;
        if runs.is_empty() && gaps.is_empty() {
            return Ok(());
        }
        run = runs.last().map_or(run, |(number, _)| *number);
        gap = gaps.last().map_or(gap, |gap| gap.number);
        copied.runs += u64::try_from(runs.len()).unwrap_or(0);
        copied.gaps += u64::try_from(gaps.len()).unwrap_or(0);
        to.write(&ArchiveBatch {
            runs: runs.into_iter().map(|(_, run)| run).collect(),
            gaps,
            ..ArchiveBatch::default()
        })?;
    }
}
