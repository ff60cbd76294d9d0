//! Flows that were open when their process died.

use rusqlite::Connection;

use crate::StoreError;
use crate::limits::CHANGES_KEPT;
use crate::process::ProcessMark;

/// The runs, by their UUIDs, and the processes that write them.
pub(crate) fn processes(connection: &Connection) -> Result<Vec<(String, ProcessMark)>, StoreError> {
    read(
        connection,
        "SELECT uuid, pid, process_start, process_space FROM runs",
    )
}

/// Reads names of runs and the marks of their processes.
fn read(connection: &Connection, sql: &str) -> Result<Vec<(String, ProcessMark)>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let found = statement.query_map((), |row| {
        let mark = ProcessMark {
            pid: row.get(1)?,
            start: row.get(2)?,
            space: row.get(3)?,
        };
        Ok((row.get(0)?, mark))
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Marks flows that a process left open when it died, and forgets old changes.
pub(crate) fn mark_interrupted(connection: &Connection) -> Result<(), StoreError> {
    let runs = read(
        connection,
        "SELECT id, pid, process_start, process_space FROM runs
         WHERE id IN (SELECT DISTINCT run_id FROM flows WHERE state = 'open')",
    )?;
    for (run, mark) in runs {
        if mark.has_ended() {
            let transaction = connection.unchecked_transaction()?;
            transaction.execute(
                "INSERT INTO flow_changes (flow) SELECT id FROM flows WHERE run_id = ?1 AND state = 'open'",
                [&run],
            )?;
            transaction.execute(
                "UPDATE flows SET state = 'interrupted' WHERE run_id = ?1 AND state = 'open'",
                [&run],
            )?;
            transaction.commit()?;
        }
    }
    forget_changes(connection)
}

/// Forgets old changes, but for those that an archive has not got yet.
pub(crate) fn forget_changes(connection: &Connection) -> Result<(), StoreError> {
    connection.execute(
        "DELETE FROM flow_changes WHERE change <= (SELECT max(change) FROM flow_changes) - ?1
           AND change <= coalesce((SELECT min(change) FROM archives), change)",
        [CHANGES_KEPT],
    )?;
    Ok(())
}
