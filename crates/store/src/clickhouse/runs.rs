//! Stores runs, and gives each an id that no other has in this archive. Two oriels that give out the same
//! id in the same moment both keep it, as there are no unique keys here: one in a million.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use super::columns::{RUNS, RunColumns};
use super::server::{Server, Value};
use super::write::insert;
use crate::archive::{ArchiveBatch, run_id_candidate};
use crate::{RunRecord, StoreError};

/// Tries to find a run id that is free. There are a million of them.
const ID_TRIES_MAX: u32 = 1000;

/// A run that is there already.
#[derive(Deserialize)]
struct Known {
    id: String,
    ended_at: Option<String>,
    exit_code: Option<i32>,
    signal: Option<i32>,
}

/// Stores the runs of a batch; answers the ids they have here, by their UUIDs.
pub(super) fn place_runs<'b>(
    server: &Server,
    batch: &'b ArchiveBatch,
) -> Result<HashMap<&'b str, String>, StoreError> {
    let mut runs: BTreeMap<&str, &RunRecord> = BTreeMap::new();
    runs.extend(batch.gaps.iter().map(|gap| (&*gap.run.uuid, &*gap.run)));
    runs.extend(batch.flows.iter().map(|flow| (&*flow.run.uuid, &*flow.run)));
    runs.extend(batch.runs.iter().map(|run| (&*run.uuid, &**run)));
    let told: HashSet<&str> = batch.runs.iter().map(|run| &*run.uuid).collect();
    let mut ids = HashMap::with_capacity(runs.len());
    let mut changed = Vec::new();
    for (&uuid, run) in &runs {
        let known = find(server, uuid)?;
        let id = match &known {
            Some(known) => known.id.clone(),
            None => free_id(server, run, &ids)?,
        };
        if known.is_none() || told.contains(uuid) {
            changed.push((*run, id.clone(), known));
        }
        ids.insert(uuid, id);
    }
    let rows: Vec<RunColumns<'_>> = changed
        .iter()
        .map(|(run, id, known)| {
            let mut row = RunColumns::of(run, id);
            // An end that is known is never forgotten.
            if let Some(known) = known {
                row.ended_at = row.ended_at.or_else(|| known.ended_at.clone());
                row.exit_code = row.exit_code.or(known.exit_code);
                row.signal = row.signal.or(known.signal);
            }
            row
        })
        .collect();
    insert(server, &RUNS, &rows)?;
    Ok(ids)
}

fn find(server: &Server, uuid: &str) -> Result<Option<Known>, StoreError> {
    let sql = "SELECT id, toString(ended_at) AS ended_at, exit_code, signal FROM runs
        WHERE uuid = {p1:String}";
    Ok(server.rows(sql, &[Value::Text(uuid)])?.pop())
}

/// The run's own id, or another where that is taken.
fn free_id(
    server: &Server,
    run: &RunRecord,
    placed: &HashMap<&str, String>,
) -> Result<String, StoreError> {
    #[derive(Deserialize)]
    struct Taken {
        taken: u64,
    }
    for attempt in 0..ID_TRIES_MAX {
        let id = run_id_candidate(run, attempt).to_string();
        let sql = "SELECT count() AS taken FROM runs WHERE id = {p1:String}";
        let Taken { taken } = server.one(sql, &[Value::Text(&id)])?;
        if taken == 0 && !placed.values().any(|other| *other == id) {
            return Ok(id);
        }
    }
    Err(StoreError::NotStorable {
        detail: "there are too many runs".to_owned(),
    })
}
