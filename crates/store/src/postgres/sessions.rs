//! What people do to the sessions of agents in an archive: name and join them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use postgres::{Client, Transaction};

use super::columns::session_key;
use super::connect::Server;
use super::copy::storable;
use super::migrate::{LOCKS, Lock};
use super::write::{batch_ids, number};
use crate::limits::CHANGES_ROWS_MAX;
use crate::{FlowRecord, SessionName, StoreError};

/// Takes a name unless a later one is there.
const NAME: &str = "INSERT INTO session_names (session_id, name, version) VALUES ($1, $2, $3)
  ON CONFLICT (session_id) DO UPDATE SET name = excluded.name, version = excluded.version
    WHERE excluded.version >= session_names.version";

/// Gives a session a name; answers whether it has flows.
pub(super) fn rename(
    client: &mut Client,
    server: &Server,
    id: &str,
    name: &str,
) -> Result<bool, StoreError> {
    let failed = |error| server.failed(error);
    let mut transaction = client.transaction().map_err(failed)?;
    if !has_flows(&mut transaction, id).map_err(failed)? {
        return Ok(false);
    }
    let at = server_time(&mut transaction).map_err(failed)?;
    transaction
        .execute(NAME, &[&id, &storable(name), &at])
        .map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(true)
}

/// The time of the server, in microseconds.
fn server_time(transaction: &mut Transaction<'_>) -> Result<i64, postgres::Error> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    transaction.query_one(sql, &[])?.try_get(0)
}

/// Stores names that came with flows. In the order of their sessions, so that two that store the same ones do
/// not wait in a circle.
pub(super) fn write_names(
    transaction: &mut Transaction<'_>,
    names: &[SessionName],
) -> Result<(), postgres::Error> {
    let names: BTreeMap<_, _> = names
        .iter()
        .map(|named| (session_key(&named.id), storable(&named.name)))
        .collect();
    for (id, name) in &names {
        transaction.execute(NAME, &[id, name, &0_i64])?;
    }
    Ok(())
}

/// Joins two sessions; answers whether both have flows.
pub(super) fn merge(
    client: &mut Client,
    server: &Server,
    into: &str,
    other: &str,
) -> Result<bool, StoreError> {
    let failed = |error| server.failed(error);
    if !note_merge(client, into, other).map_err(failed)? {
        return Ok(false);
    }
    while into != other && move_some(client, into, other).map_err(failed)? > 0 {}
    Ok(true)
}

/// Has flows that come of one session belong to the other. Who writes now has ended before this returns.
fn note_merge(client: &mut Client, into: &str, other: &str) -> Result<bool, postgres::Error> {
    let mut transaction = client.transaction()?;
    transaction.execute(
        "SELECT pg_advisory_xact_lock($1, $2)",
        &[&LOCKS, &(Lock::Sessions as i32)],
    )?;
    if !has_flows(&mut transaction, into)? || !has_flows(&mut transaction, other)? {
        return Ok(false);
    }
    if into != other {
        transaction.execute(
            "INSERT INTO session_merges (session_id, merged_into) VALUES ($1, $2)
             ON CONFLICT (session_id) DO UPDATE SET merged_into = excluded.merged_into",
            &[&other, &into],
        )?;
        transaction.execute(
            "UPDATE session_merges SET merged_into = $2 WHERE merged_into = $1",
            &[&other, &into],
        )?;
        transaction.execute("DELETE FROM session_merges WHERE session_id = $1", &[&into])?;
    }
    transaction.commit()?;
    Ok(true)
}

/// Moves some flows; answers how many. Who follows reads them again.
fn move_some(client: &mut Client, into: &str, other: &str) -> Result<u64, postgres::Error> {
    let mut transaction = client.transaction()?;
    let batches = batch_ids(&mut transaction, 1)?;
    let sql = format!(
        "UPDATE flows SET session_id = $1, batch = $3 WHERE trace_id IN (
           SELECT trace_id FROM flows WHERE session_id = $2 ORDER BY trace_id LIMIT {CHANGES_ROWS_MAX}
           FOR UPDATE
         )"
    );
    let batch = batches.first().copied().unwrap_or_default();
    let moved = transaction.execute(&sql, &[&into, &other, &batch])?;
    if moved > 0 {
        let flows = usize::try_from(moved).unwrap_or(CHANGES_ROWS_MAX);
        number(&mut transaction, &batches, flows)?;
    }
    transaction.commit()?;
    Ok(moved)
}

/// The sessions that those of these flows were joined to, by what they were before.
pub(super) fn merged(
    transaction: &mut Transaction<'_>,
    flows: &[&FlowRecord],
) -> Result<HashMap<String, String>, postgres::Error> {
    let ids: BTreeSet<_> = flows
        .iter()
        .filter_map(|flow| flow.session())
        .map(session_key)
        .collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<_> = ids.into_iter().collect();
    let sql = "SELECT session_id, merged_into FROM session_merges WHERE session_id = ANY($1)";
    let rows = transaction.query(sql, &[&ids])?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

fn has_flows(transaction: &mut Transaction<'_>, id: &str) -> Result<bool, postgres::Error> {
    let sql = "SELECT EXISTS (SELECT FROM flows WHERE session_id = $1)";
    transaction.query_one(sql, &[&id])?.try_get(0)
}
