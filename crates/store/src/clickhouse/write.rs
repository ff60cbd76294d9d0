//! Writes a batch: runs, messages, gaps and names of sessions, then the flows.

use serde::Serialize;

use super::columns::{FLOWS, FlowColumns, GAPS, GapColumns, MESSAGES, MessageColumns, Table};
use super::runs::place_runs;
use super::server::Server;
use super::sessions::{merged, write_names};
use crate::StoreError;
use crate::archive::{ArchiveBatch, latest};
use crate::limits::CLICKHOUSE_INSERT_BYTES;

/// Stores a batch. If it fails in between, what was stored is stored again with the next try.
pub(super) fn write(server: &Server, batch: &ArchiveBatch) -> Result<(), StoreError> {
    let runs = place_runs(server, batch)?;
    let run_id = |uuid: &str| runs.get(uuid).map_or("", String::as_str);
    let gaps: Vec<GapColumns<'_>> = batch
        .gaps
        .iter()
        .map(|gap| GapColumns::of(gap, run_id(&gap.run.uuid)))
        .collect();
    insert(server, &GAPS, &gaps)?;
    let flows = latest(&batch.flows);
    let messages = flows.iter().flat_map(|flow| {
        let uuid = &*flow.detail.row.uuid;
        flow.messages
            .iter()
            .map(move |message| Ok(MessageColumns::of(uuid, message)))
    });
    insert_each(server, &MESSAGES, messages)?;
    write_names(server, &batch.sessions)?;
    let joined = merged(server, &flows)?;
    let flows = flows.iter().map(|flow| {
        let joined = flow.session().and_then(|id| joined.get(id));
        FlowColumns::of(flow, run_id(&flow.run.uuid), joined.map(String::as_str))
    });
    insert_each(server, &FLOWS, flows)
}

/// Inserts rows.
pub(super) fn insert<T: Serialize>(
    server: &Server,
    table: &Table,
    rows: &[T],
) -> Result<(), StoreError> {
    insert_each(server, table, rows.iter().map(Ok))
}

/// Inserts rows, a bounded number of bytes at once.
fn insert_each<T: Serialize>(
    server: &Server,
    table: &Table,
    rows: impl Iterator<Item = Result<T, StoreError>>,
) -> Result<(), StoreError> {
    let sql = table.insert();
    let mut lines = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut lines, &row?).map_err(|error| StoreError::NotStorable {
            detail: error.to_string(),
        })?;
        lines.push(b'\n');
        if lines.len() >= CLICKHOUSE_INSERT_BYTES {
            server.insert(&sql, &lines)?;
            lines.clear();
        }
    }
    match lines.is_empty() {
        true => Ok(()),
        false => server.insert(&sql, &lines),
    }
}
