//! The index file: how it is made, attached and filled.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::TextPart;
use super::text::text_of;
use crate::database::{create_private, keep_statements, open_for_reading};
use crate::limits::{
    BUSY_TIMEOUT, INDEX_MERGE_PAGES, INDEX_MERGED_AT_PART, INDEX_STEP_BYTES_MAX,
    INDEX_STEP_FLOWS_MAX, REMOVAL_PAUSE, VACUUM_PAGES_MAX,
};
use crate::reader::records::Whole;
use crate::{FlowState, StoreError};

/// Marks the file as ours: `orsx` in ASCII.
const APPLICATION_ID: i32 = 0x6f72_7378;
/// A file of another version is made anew.
const VERSION: i32 = 2;

/// `detail=column` keeps which column of a flow has a word, not where in it, which takes
/// less room (SQLite, FTS5 Extension, section 4.6).
const SCHEMA: &str = "
CREATE VIRTUAL TABLE texts USING fts5 (
  url, request, response,
  content = '', contentless_delete = 1, detail = column,
  tokenize = 'unicode61 remove_diacritics 0'
);
-- One row: up to which arrival of which record the flows are in the index.
CREATE TABLE progress (
  record  INTEGER NOT NULL,                         -- when that was made
  arrival INTEGER NOT NULL
) STRICT;
-- Flows that had not ended when they were looked at.
CREATE TABLE waiting (flow INTEGER PRIMARY KEY) STRICT;
";

/// An index that is filled. Others may fill it too: each step is done by one.
#[derive(Debug)]
pub struct TextIndex {
    /// The main database is the index, the record is attached.
    connection: Connection,
}

/// The file of the index of a record.
fn path_of(record: &Path) -> PathBuf {
    record.with_extension("search.db")
}

/// The URI of a file that is only read (SQLite, Uniform Resource Identifiers, section 3).
fn read_only(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                uri.push(char::from(*byte));
            }
            _ => {
                let _infallible = write!(uri, "%{byte:02x}");
            }
        }
    }
    uri + "?mode=ro"
}

/// Attaches the index to a connection on the record, unless it is attached; false if there is none.
pub(crate) fn attach_once(connection: &Connection, record: &Path) -> Result<bool, StoreError> {
    let is_attached: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM pragma_database_list WHERE name = 'search')",
        (),
        |row| row.get(0),
    )?;
    Ok(is_attached || attach(connection, record)?)
}

/// Attaches the index to a connection that reads the record; false if there is none.
pub(crate) fn attach(connection: &Connection, record: &Path) -> Result<bool, StoreError> {
    let path = path_of(record);
    if !path.exists() {
        return Ok(false);
    }
    connection.execute("ATTACH ?1 AS search", [path.to_string_lossy()])?;
    let version: i32 = connection.query_row("PRAGMA search.user_version", (), |row| row.get(0))?;
    if version != VERSION {
        connection.execute("DETACH search", ())?;
    }
    Ok(version == VERSION)
}

impl TextIndex {
    /// Opens the index of an existing record, and makes it where it is missing or is of another version
    /// or record.
    pub fn open(record: &Path) -> Result<Self, StoreError> {
        // Brings an older record to the present schema.
        drop(open_for_reading(record)?);
        let path = path_of(record);
        match Self::open_once(record, &path) {
            Err(StoreError::Damaged { .. }) => {
                remove(&path)?;
                Self::open_once(record, &path)
            }
            other => other,
        }
    }

    /// Opens the index of an existing record; `None` if there is none that can be used.
    pub(crate) fn open_existing(record: &Path) -> Result<Option<Self>, StoreError> {
        let path = path_of(record);
        if !path.exists() {
            return Ok(None);
        }
        match Self::open_once(record, &path) {
            Err(StoreError::Damaged { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    fn open_once(record: &Path, path: &Path) -> Result<Self, StoreError> {
        create_private(path).map_err(|source| StoreError::NotWritable {
            path: path.to_owned(),
            source,
        })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        keep_statements(&connection)?;
        // Pages that become free can be given back. Heeded for a new file alone.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
        // A transaction that writes locks all that it could write to, and so would keep the writer waiting.
        connection.execute("ATTACH ?1 AS record", [read_only(record)])?;
        prepare(&mut connection)?;
        Ok(Self { connection })
    }

    /// How many flows are not in the index yet, those that have not ended aside.
    pub fn behind(&self) -> Result<u64, StoreError> {
        let behind: i64 = self.connection.query_row(
            "SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM record.arrivals
             WHERE number > (SELECT arrival FROM progress)",
            (),
            |row| row.get(0),
        )?;
        Ok(behind.unsigned_abs())
    }

    /// The newest arrival of the record.
    pub(super) fn newest_arrival(&self) -> Result<i64, StoreError> {
        newest_arrival(&self.connection)
    }

    /// Takes some flows into the index: a fraction of a second's work. Answers how many were looked at;
    /// 0 if there are none.
    pub fn step(&mut self) -> Result<u64, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut step = Step {
            connection: &transaction,
            whole: Whole::new(&transaction),
            flows: 0,
            bytes: 0,
        };
        step.take_waiting()?;
        step.take_arrivals()?;
        let flows = step.flows;
        transaction.commit()?;
        Ok(flows)
    }
}

impl TextIndex {
    /// Takes out flows that the record does not have any more, and gives back what they took. Answers how
    /// many they were.
    pub(crate) fn forget_removed(&mut self) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let gone = forget_some(&transaction)?;
            transaction.commit()?;
            forgotten += gone;
            if gone < INDEX_STEP_FLOWS_MAX {
                break;
            }
            thread::sleep(REMOVAL_PAUSE);
        }
        let left: i64 =
            self.connection
                .query_row("SELECT count(*) FROM texts_docsize", (), |row| row.get(0))?;
        // Of few, filling the index gets rid in passing.
        if forgotten > left.unsigned_abs() / INDEX_MERGED_AT_PART {
            self.merge()?;
        }
        self.give_back()?;
        Ok(forgotten)
    }

    /// Writes the parts of the index anew without what was taken out, a few pages at a time.
    fn merge(&self) -> Result<(), StoreError> {
        // The first one, negative, chooses all parts; the others go on until one changes nothing
        // (SQLite, FTS5 Extension, section 6.8).
        let mut pages = -INDEX_MERGE_PAGES;
        loop {
            let before = self.connection.total_changes();
            self.connection
                .prepare_cached("INSERT INTO texts (texts, rank) VALUES ('merge', ?1)")?
                .execute([pages])?;
            if self.connection.total_changes() < before + 2 {
                return Ok(());
            }
            pages = INDEX_MERGE_PAGES;
            thread::sleep(REMOVAL_PAUSE);
        }
    }

    fn give_back(&self) -> Result<(), StoreError> {
        loop {
            let free: i64 =
                self.connection
                    .pragma_query_value(Some("main"), "freelist_count", |row| row.get(0))?;
            if free == 0 {
                return Ok(());
            }
            let sql = format!("PRAGMA main.incremental_vacuum({VACUUM_PAGES_MAX})");
            let mut statement = self.connection.prepare(&sql)?;
            let mut rows = statement.query(())?;
            while rows.next()?.is_some() {}
            thread::sleep(REMOVAL_PAUSE);
        }
    }
}

/// The newest arrival of a record, by a connection on it or one that it is attached to.
pub(super) fn newest_arrival(connection: &Connection) -> Result<i64, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT coalesce(max(number), 0) FROM arrivals")?;
    Ok(statement.query_row((), |row| row.get(0))?)
}

/// Takes out at most [`INDEX_STEP_FLOWS_MAX`] flows that the record does not have. The lock on the index is
/// held: whoever fills it looks at the record afterwards, and finds none that is gone.
fn forget_some(connection: &Connection) -> Result<u64, StoreError> {
    let gone: Vec<i64> = connection
        .prepare_cached(
            "SELECT id FROM texts_docsize WHERE id NOT IN (SELECT id FROM record.flows) LIMIT ?1",
        )?
        .query_map([INDEX_STEP_FLOWS_MAX.cast_signed()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut forget = connection.prepare_cached("DELETE FROM texts WHERE rowid = ?1")?;
    for flow in &gone {
        forget.execute([flow])?;
    }
    Ok(gone.len() as u64)
}

/// Makes the schema where it is missing, and begins anew for another record.
fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i32 = transaction.query_row("PRAGMA main.user_version", (), |row| row.get(0))?;
    match version {
        VERSION => {}
        0 => {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        other => {
            return Err(StoreError::Damaged {
                detail: format!("the index of texts has version {other}"),
            });
        }
    }
    let record: i64 = transaction.query_row(
        "SELECT applied_at FROM record.schema_migrations WHERE number = 1",
        (),
        |row| row.get(0),
    )?;
    let known: Option<i64> = transaction
        .query_row("SELECT record FROM progress", (), |row| row.get(0))
        .optional()?;
    if known != Some(record) {
        transaction.execute_batch(
            "INSERT INTO texts (texts) VALUES ('delete-all');
             DELETE FROM progress; DELETE FROM waiting;",
        )?;
        transaction.execute("INSERT INTO progress VALUES (?1, 0)", [record])?;
    }
    transaction.commit()?;
    Ok(())
}

/// One transaction.
struct Step<'c> {
    connection: &'c Connection,
    whole: Whole<'c>,
    flows: u64,
    /// Of texts.
    bytes: usize,
}

impl Step<'_> {
    fn is_full(&self) -> bool {
        self.flows >= INDEX_STEP_FLOWS_MAX || self.bytes >= INDEX_STEP_BYTES_MAX
    }

    /// Flows that have ended since they were looked at, or were removed.
    fn take_waiting(&mut self) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT waiting.flow FROM waiting LEFT JOIN record.flows ON flows.id = waiting.flow
             WHERE state IS NOT 'open'",
        )?;
        let ended: Vec<i64> = statement
            .query_map((), |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for flow in ended {
            if self.is_full() {
                break;
            }
            self.take(flow)?;
            self.connection
                .prepare_cached("DELETE FROM waiting WHERE flow = ?1")?
                .execute([flow])?;
        }
        Ok(())
    }

    fn take_arrivals(&mut self) -> Result<(), StoreError> {
        let mut arrivals = self.connection.prepare_cached(
            "SELECT number, run_id, first_seq, last_seq, first_id, last_id FROM record.arrivals
             WHERE number > (SELECT arrival FROM progress) ORDER BY number",
        )?;
        let mut ids = self.connection.prepare_cached(
            "SELECT id FROM record.flows WHERE id BETWEEN ?1 AND ?2 AND run_id = ?3 AND seq BETWEEN ?4 AND ?5",
        )?;
        let mut done = None;
        let mut found = arrivals.query(())?;
        while let Some(arrival) = found.next()? {
            if self.is_full() {
                break;
            }
            let (first, last): (i64, i64) = (arrival.get(4)?, arrival.get(5)?);
            let run: String = arrival.get(1)?;
            let (from, to): (i64, i64) = (arrival.get(2)?, arrival.get(3)?);
            let flows: Vec<i64> = ids
                .query_map((first, last, run, from, to), |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for flow in flows {
                self.take(flow)?;
            }
            done = Some(arrival.get::<_, i64>(0)?);
        }
        if let Some(done) = done {
            self.connection
                .prepare_cached("UPDATE progress SET arrival = ?1")?
                .execute([done])?;
        }
        Ok(())
    }

    /// Takes a flow into the index, or notes that it has not ended.
    fn take(&mut self, id: i64) -> Result<(), StoreError> {
        self.flows += 1;
        let Some(flow) = self.whole.read_by_row(id)? else {
            return Ok(());
        };
        if flow.detail.row.state == FlowState::Open {
            self.connection
                .prepare_cached("INSERT OR IGNORE INTO waiting VALUES (?1)")?
                .execute([id])?;
            return Ok(());
        }
        let [url, request, response] = TextPart::ALL.map(|part| text_of(&flow, part));
        self.bytes += request.len() + response.len();
        // To replace what is not there would take as long as to insert it.
        let is_there = "SELECT EXISTS (SELECT 1 FROM texts_docsize WHERE id = ?1)";
        let mut is_there = self.connection.prepare_cached(is_there)?;
        if is_there.query_row([id], |row| row.get(0))? {
            self.connection
                .prepare_cached("DELETE FROM texts WHERE rowid = ?1")?
                .execute([id])?;
        }
        self.connection
            .prepare_cached(
                "INSERT INTO texts (rowid, url, request, response) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((id, url, request, response))?;
        Ok(())
    }
}

/// Removes an index that cannot be used.
fn remove(path: &Path) -> Result<(), StoreError> {
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::NotWritable {
                    path: path.to_owned(),
                    source: error,
                });
            }
            _ => {}
        }
    }
    Ok(())
}
