//! The rows of runs. A run is known by its UUID; its id here may be another than where it comes from.

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior};
use uuid::Uuid;

use crate::process::ProcessMark;
use crate::reader::records::read_run;
use crate::{Origin, RunId, RunRecord, StoreError};

/// Tries to find a run id that is free. There are a million of them.
const RUN_ID_TRIES_MAX: usize = 1000;

/// Finds or makes the row of a run of this process; answers its id here.
pub(crate) fn place_own_run(connection: &Connection, run: &RunRecord) -> Result<RunId, StoreError> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let id = place_run(&transaction, run)?;
    let own = ProcessMark::own();
    // Another process may have made the row of what it found in the spool.
    transaction
        .prepare_cached("UPDATE runs SET process_start = ?2, process_space = ?3 WHERE id = ?1")?
        .execute((id.as_str(), own.start, &own.space))?;
    transaction.commit()?;
    Ok(id)
}

/// Finds or makes the row of a run; answers its id here.
pub(super) fn place_run(connection: &Connection, run: &RunRecord) -> Result<RunId, StoreError> {
    let mut statement = connection.prepare_cached("SELECT id FROM runs WHERE uuid = ?1")?;
    let known: Option<String> = statement
        .query_row([&run.uuid], |row| row.get(0))
        .optional()?;
    match known {
        Some(id) => {
            let id: RunId = id.parse()?;
            end_run(connection, id, run)?;
            Ok(id)
        }
        None => insert_run(connection, run, None),
    }
}

/// Notes the end of a run that is known. What is known already stays.
fn end_run(connection: &Connection, id: RunId, run: &RunRecord) -> Result<(), StoreError> {
    let known = read_run(connection, id)?;
    if run.ended_at.is_some() && known.is_some_and(|known| known.ended_at.is_none()) {
        connection
            .prepare_cached(
                "UPDATE runs SET ended_at = ?2, exit_code = ?3, signal = ?4 WHERE id = ?1",
            )?
            .execute((
                id.as_str(),
                run.ended_at.map(|at| at.0),
                run.exit_code,
                run.signal,
            ))?;
    }
    Ok(())
}

/// Makes the row of a run, of a process that may be known to live; answers its id here.
pub(crate) fn insert_run(
    connection: &Connection,
    run: &RunRecord,
    process: Option<&ProcessMark>,
) -> Result<RunId, StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO runs (id, uuid, kind, name, argv, pid, started_at, ended_at, exit_code, signal,
           origin, process_start, process_space)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    let argv = serde_json::to_string(&run.argv).expect("texts are JSON");
    let origin = (run.origin != Origin::default())
        .then(|| serde_json::to_string(&run.origin).expect("texts are JSON"));
    let mut id = run.id;
    for _ in 0..RUN_ID_TRIES_MAX {
        let inserted = statement.execute((
            id.as_str(),
            &run.uuid,
            run.kind.as_str(),
            &run.name,
            &argv,
            run.pid,
            run.started_at.0,
            run.ended_at.map(|at| at.0),
            run.exit_code,
            run.signal,
            &origin,
            process.and_then(|process| process.start),
            process.and_then(|process| process.space.as_ref()),
        ));
        match inserted {
            Ok(_) => return Ok(id),
            // The id is taken: the UUID was looked for in the same transaction.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                id = RunId::from_random(Uuid::now_v7().as_u64_pair().1);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Damaged {
        detail: "no run id is free".to_owned(),
    })
}

/// Notes which process writes a run, if that is not known.
pub(super) fn note_process(
    connection: &Connection,
    uuid: &str,
    process: &ProcessMark,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE runs SET process_start = ?2, process_space = ?3
             WHERE uuid = ?1 AND process_start IS NULL AND process_space IS NULL",
        )?
        .execute((uuid, process.start, &process.space))?;
    Ok(())
}
