//! Stores runs, and gives each an id that no other has in this archive.

use std::collections::{BTreeMap, HashMap, HashSet};

use postgres::Transaction;
use postgres::types::Json;

use super::connect::Server;
use super::copy::storable;
use super::time::Time;
use crate::archive::{ArchiveBatch, run_id_candidate};
use crate::{RunRecord, StoreError};

/// Tries to find a run id that is free. There are a million of them.
const ID_TRIES_MAX: u32 = 1000;

/// Stores the runs of a batch; answers the ids they have here, by their UUIDs. Until the transaction has
/// ended, others that store flows of the same runs wait.
pub(super) fn place_runs<'b>(
    transaction: &mut Transaction<'_>,
    server: &Server,
    batch: &'b ArchiveBatch,
) -> Result<HashMap<&'b str, String>, StoreError> {
    let failed = |error| server.failed(error);
    // In the order of their UUIDs, so that two that store the same ones do not wait in a circle.
    let mut runs: BTreeMap<&str, &RunRecord> = BTreeMap::new();
    runs.extend(batch.gaps.iter().map(|gap| (&*gap.run.uuid, &*gap.run)));
    runs.extend(batch.flows.iter().map(|flow| (&*flow.run.uuid, &*flow.run)));
    runs.extend(batch.runs.iter().map(|run| (&*run.uuid, &**run)));
    let told: HashSet<&str> = batch.runs.iter().map(|run| &*run.uuid).collect();
    let uuids: Vec<&str> = runs.keys().copied().collect();
    let known = transaction
        .query(
            "SELECT uuid, id FROM runs WHERE uuid = ANY($1) ORDER BY uuid FOR NO KEY UPDATE",
            &[&uuids],
        )
        .map_err(failed)?;
    let mut ids: HashMap<&str, String> = HashMap::with_capacity(runs.len());
    for row in &known {
        let uuid: &str = row.get(0);
        if let Some((uuid, _)) = runs.get_key_value(uuid) {
            ids.insert(uuid, row.get(1));
        }
    }
    for (&uuid, run) in &runs {
        if !ids.contains_key(uuid) {
            ids.insert(uuid, insert(transaction, server, run)?);
        } else if told.contains(uuid) {
            update(transaction, run).map_err(failed)?;
        }
    }
    Ok(ids)
}

/// Stores a run under its own id, or another where that is taken.
fn insert(
    transaction: &mut Transaction<'_>,
    server: &Server,
    run: &RunRecord,
) -> Result<String, StoreError> {
    let failed = |error| server.failed(error);
    let argv: Vec<_> = run.argv.iter().map(|argument| storable(argument)).collect();
    for attempt in 0..ID_TRIES_MAX {
        let id = run_id_candidate(run, attempt);
        let inserted = transaction
            .query_opt(
                "INSERT INTO runs (uuid, id, kind, name, argv, pid, started_at, ended_at, exit_code, signal,
                   instance, \"user\", tags)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
                 ON CONFLICT DO NOTHING RETURNING id",
                &[
                    &run.uuid,
                    &id.as_str(),
                    &run.kind.as_str(),
                    &run.name.as_deref().map(storable),
                    &Json(&argv),
                    &i64::from(run.pid),
                    &Time(run.started_at),
                    &run.ended_at.map(Time),
                    &run.exit_code,
                    &run.signal,
                    &run.origin.instance.as_deref().map(storable),
                    &run.origin.user.as_deref().map(storable),
                    &tags(run),
                ],
            )
            .map_err(failed)?;
        if inserted.is_some() {
            return Ok(id.to_string());
        }
        // Another may have stored the run meanwhile; otherwise the id is taken.
        let stored = transaction
            .query_opt(
                "SELECT id FROM runs WHERE uuid = $1 FOR NO KEY UPDATE",
                &[&run.uuid],
            )
            .map_err(failed)?;
        if let Some(stored) = stored {
            return Ok(stored.get(0));
        }
    }
    Err(StoreError::NotStorable {
        detail: "there are too many runs".to_owned(),
    })
}

/// An end that is known is never forgotten.
fn update(transaction: &mut Transaction<'_>, run: &RunRecord) -> Result<(), postgres::Error> {
    transaction.execute(
        "UPDATE runs SET name = $2, ended_at = coalesce($3, ended_at), exit_code = coalesce($4, exit_code),
           signal = coalesce($5, signal), instance = $6, \"user\" = $7, tags = $8
         WHERE uuid = $1",
        &[
            &run.uuid,
            &run.name.as_deref().map(storable),
            &run.ended_at.map(Time),
            &run.exit_code,
            &run.signal,
            &run.origin.instance.as_deref().map(storable),
            &run.origin.user.as_deref().map(storable),
            &tags(run),
        ],
    )?;
    Ok(())
}

fn tags(run: &RunRecord) -> Vec<String> {
    let tags = run.origin.tags.iter();
    tags.map(|tag| storable(tag).into_owned()).collect()
}
