//! Writes a batch: one transaction, with COPY. Flows that are there already are copied into a table of the
//! connection, and one statement takes them over.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::iter::repeat_n;

use postgres::{Client, Transaction};

use super::chunks::{Hash, chunks, hash};
use super::columns::{COLUMNS, Placed, StoredBody, session_key, signed, write_row};
use super::connect::Server;
use super::copy::{CopyRows, storable};
use super::migrate::{LOCKS, Lock};
use super::runs::place_runs;
use super::sessions::{merged, write_names};
use super::time::Time;
use crate::archive::{ArchiveBatch, latest};
use crate::limits::{CHANGES_ROWS_MAX, POSTGRES_COPY_BYTES, POSTGRES_INLINE_BODY_BYTES_MAX};
use crate::{FlowRecord, GapRecord, StoreError, StreamMessage};

const MESSAGE_COLUMNS: [&str; 12] = [
    "trace_id",
    "sequence",
    "sender",
    "at",
    "kind",
    "close_code",
    "size",
    "wire_size",
    "frames",
    "coding",
    "complete",
    "payload",
];

/// Makes the tables that rows are copied into. They are of this connection, and empty between
/// transactions.
pub(super) fn prepare(client: &mut Client) -> Result<(), postgres::Error> {
    client.batch_execute(&format!(
        "CREATE TEMPORARY TABLE IF NOT EXISTS staged_flows ON COMMIT DELETE ROWS AS
           SELECT {} FROM flows WITH NO DATA;
         ALTER TABLE staged_flows ADD COLUMN IF NOT EXISTS place bigint GENERATED ALWAYS AS IDENTITY;
         CREATE TEMPORARY TABLE IF NOT EXISTS staged_messages ON COMMIT DELETE ROWS AS
           SELECT {} FROM messages WITH NO DATA;",
        COLUMNS.join(", "),
        MESSAGE_COLUMNS.join(", "),
    ))
}

/// Stores a batch, whole or not at all. Answers how many bytes of words wait for their index by that.
pub(super) fn write(
    client: &mut Client,
    server: &Server,
    batch: &ArchiveBatch,
) -> Result<usize, StoreError> {
    let failed = |error| server.failed(error);
    let mut transaction = client.transaction().map_err(failed)?;
    let runs = place_runs(&mut transaction, server, batch)?;
    write_gaps(&mut transaction, &batch.gaps, &runs).map_err(failed)?;
    write_names(&mut transaction, &batch.sessions).map_err(failed)?;
    let flows = latest(&batch.flows);
    let listed = match flows.is_empty() {
        true => 0,
        false => write_flows(&mut transaction, server, &flows, &runs)?,
    };
    transaction.commit().map_err(failed)?;
    Ok(listed)
}

fn write_gaps(
    transaction: &mut Transaction<'_>,
    gaps: &[GapRecord],
    runs: &HashMap<&str, String>,
) -> Result<(), postgres::Error> {
    for gap in gaps {
        let run_id = runs.get(&*gap.run.uuid).map_or("", String::as_str);
        transaction.execute(
            "INSERT INTO gaps VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (run_id, number) DO UPDATE SET at = excluded.at, reason = excluded.reason,
               events = excluded.events, body_bytes = excluded.body_bytes",
            &[
                &run_id,
                &gap.number,
                &Time(gap.at),
                &storable(&gap.reason),
                &signed(gap.events),
                &signed(gap.body_bytes),
            ],
        )?;
    }
    Ok(())
}

fn write_flows(
    transaction: &mut Transaction<'_>,
    server: &Server,
    flows: &[&FlowRecord],
    runs: &HashMap<&str, String>,
) -> Result<usize, StoreError> {
    let failed = |error| server.failed(error);
    // The chunks that are there stay until this transaction has ended, and so do sessions.
    transaction
        .execute(
            "SELECT pg_advisory_xact_lock_shared($1, $2), pg_advisory_xact_lock_shared($1, $3)",
            &[&LOCKS, &(Lock::Chunks as i32), &(Lock::Sessions as i32)],
        )
        .map_err(failed)?;
    let batches = batch_ids(transaction, flows.len()).map_err(failed)?;
    let joined = merged(transaction, flows).map_err(failed)?;
    let mut wanted = BTreeMap::new();
    let mut bodies = Vec::with_capacity(flows.len());
    for flow in flows {
        let request = place_body(flow.request_body.as_deref(), &mut wanted);
        let response = place_body(flow.response_body.as_deref(), &mut wanted);
        bodies.push((request, response));
    }
    write_chunks(transaction, &wanted).map_err(failed)?;
    let of_batches = batches
        .iter()
        .flat_map(|batch| repeat_n(*batch, CHANGES_ROWS_MAX));
    let there = stored_before(transaction, flows, runs).map_err(failed)?;
    let placed = flows.iter().zip(bodies).zip(of_batches);
    let rows = placed.map(|((flow, (request_body, response_body)), batch)| {
        let placed = Placed {
            run_id: run_id(runs, flow),
            joined: flow
                .session()
                .and_then(|id| joined.get(&*session_key(id)))
                .map(String::as_str),
            batch,
            request_body,
            response_body,
        };
        (*flow, placed)
    });
    let (changed, new): (Vec<_>, Vec<_>) =
        rows.partition(|(flow, _)| there.contains(&flow.detail.row.uuid));
    let mut listed = copy_flows(transaction, server, "flows", &new)?;
    if !changed.is_empty() {
        listed += copy_flows(transaction, server, "staged_flows", &changed)?;
        transaction
            .batch_execute(&take_over_flows())
            .map_err(failed)?;
    }
    write_messages(transaction, server, flows)?;
    number(transaction, &batches, flows.len()).map_err(failed)?;
    Ok(listed)
}

fn run_id<'r>(runs: &'r HashMap<&str, String>, flow: &FlowRecord) -> &'r str {
    runs.get(&*flow.run.uuid).map_or("", String::as_str)
}

/// The UUIDs of those flows that are there already, under their UUID or under their number in their run.
/// Their runs are locked: nobody else stores one of them until this transaction has ended.
fn stored_before(
    transaction: &mut Transaction<'_>,
    flows: &[&FlowRecord],
    runs: &HashMap<&str, String>,
) -> Result<HashSet<String>, postgres::Error> {
    let uuids: Vec<&str> = flows.iter().map(|flow| &*flow.detail.row.uuid).collect();
    let run_ids: Vec<&str> = flows.iter().map(|flow| run_id(runs, flow)).collect();
    let seqs: Vec<i64> = flows
        .iter()
        .map(|flow| signed(flow.detail.row.id.seq))
        .collect();
    let rows = transaction.query(
        "SELECT trace_id FROM flows WHERE trace_id = ANY($1)
         UNION ALL SELECT wanted.trace_id
           FROM unnest($1::text[], $2::text[], $3::bigint[]) AS wanted (trace_id, run_id, seq)
           JOIN flows ON flows.run_id = wanted.run_id AND flows.seq = wanted.seq",
        &[&uuids, &run_ids, &seqs],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Where a body goes; adds its chunks to those that are wanted.
fn place_body<'r>(body: Option<&'r [u8]>, wanted: &mut BTreeMap<Hash, &'r [u8]>) -> StoredBody<'r> {
    match body {
        None => StoredBody::None,
        Some(body) if body.len() <= POSTGRES_INLINE_BODY_BYTES_MAX => StoredBody::Here(body),
        Some(body) => StoredBody::Chunks(
            chunks(body)
                .map(|chunk| {
                    let hash = hash(chunk);
                    wanted.insert(hash, chunk);
                    hash
                })
                .collect(),
        ),
    }
}

/// Stores the chunks that are not there. Sorted: two that want the same ones never wait for each other
/// in a circle.
fn write_chunks(
    transaction: &mut Transaction<'_>,
    wanted: &BTreeMap<Hash, &[u8]>,
) -> Result<(), postgres::Error> {
    if wanted.is_empty() {
        return Ok(());
    }
    let hashes: Vec<&[u8]> = wanted.keys().map(|hash| &hash[..]).collect();
    let known = transaction.query("SELECT hash FROM chunks WHERE hash = ANY($1)", &[&hashes])?;
    let known: HashSet<&[u8]> = known.iter().map(|row| row.get(0)).collect();
    let missing = wanted.iter().filter(|(hash, _)| !known.contains(&hash[..]));
    let (hashes, data): (Vec<&[u8]>, Vec<&[u8]>) =
        missing.map(|(hash, data)| (&hash[..], *data)).unzip();
    if !hashes.is_empty() {
        transaction.execute(
            "INSERT INTO chunks (hash, data) SELECT * FROM unnest($1::bytea[], $2::bytea[])
             ON CONFLICT (hash) DO NOTHING",
            &[&hashes, &data],
        )?;
    }
    Ok(())
}

/// Answers how many bytes their words take beside the index.
fn copy_flows(
    transaction: &mut Transaction<'_>,
    server: &Server,
    table: &str,
    flows: &[(&FlowRecord, Placed<'_>)],
) -> Result<usize, StoreError> {
    let mut listed = 0;
    copy(
        transaction,
        server,
        table,
        &COLUMNS,
        flows.iter(),
        |rows, (flow, placed)| {
            listed += write_row(rows, flow, placed)?;
            Ok(())
        },
    )?;
    Ok(listed)
}

/// Copies rows into a table.
fn copy<T>(
    transaction: &mut Transaction<'_>,
    server: &Server,
    table: &str,
    columns: &[&str],
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut CopyRows, T) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed = |error| server.failed(error);
    let sql = format!(
        "COPY {table} ({}) FROM STDIN (FORMAT binary)",
        columns.join(", ")
    );
    let mut sink = transaction.copy_in(&sql).map_err(failed)?;
    let mut rows = CopyRows::new(columns.len());
    for item in items {
        write(&mut rows, item)?;
        if rows.bytes().len() >= POSTGRES_COPY_BYTES {
            sink.write_all(rows.bytes())
                .map_err(|error| server.broken(error))?;
            rows.clear();
        }
    }
    rows.end();
    sink.write_all(rows.bytes())
        .map_err(|error| server.broken(error))?;
    sink.finish().map(drop).map_err(failed)
}

/// What was copied replaces what is there, by the UUID of a flow and by its number in its run, unless a
/// flow that has ended would be open again: that came late. They are numbered in the order in which they
/// were copied, which need not be that in which they lie.
fn take_over_flows() -> String {
    let columns = COLUMNS.join(", ");
    let replaced: Vec<String> = COLUMNS
        .iter()
        .skip(1)
        .map(|column| format!("{column} = excluded.{column}"))
        .collect();
    format!(
        "DELETE FROM flows USING staged_flows AS staged WHERE flows.run_id = staged.run_id
           AND flows.seq = staged.seq AND flows.trace_id <> staged.trace_id;
         INSERT INTO flows ({columns}) SELECT {columns} FROM staged_flows ORDER BY place
           ON CONFLICT (trace_id) DO UPDATE SET {}
           WHERE excluded.state <> 'open' OR flows.state = 'open';",
        replaced.join(", ")
    )
}

/// Stores messages that are not there; they never change.
fn write_messages(
    transaction: &mut Transaction<'_>,
    server: &Server,
    flows: &[&FlowRecord],
) -> Result<(), StoreError> {
    let mut messages = flows
        .iter()
        .flat_map(|flow| {
            flow.messages
                .iter()
                .map(|message| (&*flow.detail.row.uuid, message))
        })
        .peekable();
    if messages.peek().is_none() {
        return Ok(());
    }
    let columns = &MESSAGE_COLUMNS;
    copy(
        transaction,
        server,
        "staged_messages",
        columns,
        messages,
        |rows, (flow, message)| {
            write_message(rows, flow, message);
            Ok(())
        },
    )?;
    let columns = MESSAGE_COLUMNS.join(", ");
    transaction
        .batch_execute(&format!(
            "INSERT INTO messages ({columns}) SELECT {columns} FROM staged_messages
             ON CONFLICT (trace_id, sequence) DO NOTHING"
        ))
        .map_err(|error| server.failed(error))
}

fn write_message(rows: &mut CopyRows, flow: &str, message: &StreamMessage) {
    rows.begin_row();
    rows.text(flow);
    rows.int8(signed(message.sequence));
    rows.text(&message.sender);
    rows.timestamp(message.at);
    rows.text(&message.kind);
    rows.optional(message.close_code, |rows, code| rows.int4(code.into()));
    rows.int8(signed(message.bytes));
    rows.int8(signed(message.wire_bytes));
    rows.int8(signed(message.frames));
    rows.text(&message.coding);
    rows.bool(message.complete);
    rows.bytea(&message.payload);
}

/// Ids for so many flows: who follows reads a batch at once.
pub(super) fn batch_ids(
    transaction: &mut Transaction<'_>,
    flows: usize,
) -> Result<Vec<i64>, postgres::Error> {
    let batches = i64::try_from(flows.div_ceil(CHANGES_ROWS_MAX)).unwrap_or(i64::MAX);
    let sql = "SELECT nextval('batch_ids') FROM generate_series(1, $1::bigint)";
    let rows = transaction.query(sql, &[&batches])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Gives the batches their numbers, for whoever follows. Until the transaction has ended, others wait.
pub(super) fn number(
    transaction: &mut Transaction<'_>,
    batches: &[i64],
    mut flows: usize,
) -> Result<(), postgres::Error> {
    transaction.execute(
        "SELECT pg_advisory_xact_lock($1, $2)",
        &[&LOCKS, &(Lock::Batches as i32)],
    )?;
    for batch in batches {
        let here = flows.min(CHANGES_ROWS_MAX);
        flows -= here;
        transaction.execute(
            "INSERT INTO batches (number, batch, flows)
             SELECT coalesce(max(number), 0) + 1, $1, $2 FROM batches",
            &[batch, &i64::try_from(here).unwrap_or(i64::MAX)],
        )?;
    }
    Ok(())
}
