//! Removes flows from an archive, or their bodies alone, while oriels write to it.
//!
//! Flows go in transactions of a few rows. Then the chunks go that no flow has any more: they are looked for
//! without a lock, which may take minutes, and removed a few at a time, with another look at what was written
//! since. Only that last part keeps writers waiting, for milliseconds.

use std::sync::Arc;
use std::thread;

use postgres::types::ToSql;
use postgres::{Client, Row, Transaction};

use super::connect::Purpose;
use super::migrate::{LOCKS, Lock};
use super::pool::{Pool, Pooled};
use super::reader::values;
use super::row::{bytes, get, time};
use crate::StoreError;
use crate::archive::removal::{Found, Removable};
use crate::limits::{REMOVAL_PAUSE, REMOVAL_ROWS_MAX};
use crate::reader::select::{Conditions, Dialect};
use crate::search::words_of_url;

/// The chunks that no flow has, as far as one look tells. The table is of this connection.
const FIND_UNNEEDED: &str =
    "CREATE TEMPORARY TABLE IF NOT EXISTS unneeded (hash bytea PRIMARY KEY);
   TRUNCATE unneeded;
   INSERT INTO unneeded SELECT hash FROM chunks EXCEPT (
     SELECT unnest(request_chunks) FROM flows UNION ALL SELECT unnest(response_chunks) FROM flows
   )";

/// A connection that removes.
pub(super) struct Removing(Pooled);

impl Removing {
    pub(super) fn begin(pool: &Arc<Pool>) -> Result<Self, StoreError> {
        pool.get(Purpose::Remove).map(Self)
    }

    fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut Client) -> Result<T, postgres::Error>,
    ) -> Result<T, StoreError> {
        let (connection, server) = self.0.parts();
        question(&mut connection.client).map_err(|error| server.failed(error))
    }

    fn select(&mut self, sql: &str, conditions: &Conditions) -> Result<Vec<Row>, StoreError> {
        let values = values(conditions);
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value as _).collect();
        self.ask(|client| client.query(sql, &values))
    }

    fn transaction<T>(
        &mut self,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, postgres::Error>,
    ) -> Result<T, StoreError> {
        self.ask(|client| {
            let mut transaction = client.transaction()?;
            let answer = change(&mut transaction)?;
            transaction.commit()?;
            Ok(answer)
        })
    }
}

impl Removable for Removing {
    const DIALECT: Dialect = Dialect::Postgres;
    const HAS_BODY: &'static str = "(request_body IS NOT NULL OR request_chunks IS NOT NULL
       OR response_body IS NOT NULL OR response_chunks IS NOT NULL
       OR EXISTS (SELECT FROM messages WHERE messages.trace_id = flows.trace_id AND octet_length(payload) > 0))";
    const AT_ONCE: usize = REMOVAL_ROWS_MAX;

    fn number(&mut self, sql: &str, conditions: &Conditions) -> Result<u64, StoreError> {
        let rows = self.select(sql, conditions)?;
        let number = rows.first().map(|row| bytes(row, "number")).transpose()?;
        Ok(number.flatten().unwrap_or(0))
    }

    fn body_bytes(&mut self, conditions: &Conditions) -> Result<u64, StoreError> {
        let condition = conditions.sql();
        let sql = format!(
            "SELECT (coalesce(sum(octet_length(request_body)), 0) + coalesce(sum(octet_length(response_body)), 0)
               + (SELECT coalesce(sum(octet_length(payload)), 0) FROM messages
                  WHERE trace_id IN (SELECT trace_id FROM flows WHERE {condition}))
               + (SELECT coalesce(sum(octet_length(data)), 0) FROM chunks WHERE hash IN (
                    SELECT unnest(request_chunks) FROM flows WHERE {condition}
                    UNION SELECT unnest(response_chunks) FROM flows WHERE {condition}
                    EXCEPT (
                      SELECT unnest(request_chunks) FROM flows WHERE NOT ({condition})
                      UNION ALL SELECT unnest(response_chunks) FROM flows WHERE NOT ({condition})
                    )
                  )))::bigint AS number
             FROM flows WHERE {condition}"
        );
        self.number(&sql, conditions)
    }

    fn find(&mut self, conditions: &Conditions) -> Result<Vec<Found>, StoreError> {
        let sql = format!(
            "SELECT trace_id, start_time FROM flows WHERE {} ORDER BY start_time, trace_id LIMIT {}",
            conditions.sql(),
            Self::AT_ONCE
        );
        let rows = self.select(&sql, conditions)?;
        let found = |row: &Row| {
            Ok(Found {
                uuid: get(row, "trace_id")?,
                started_at: time(row, "start_time")?,
            })
        };
        rows.iter().map(found).collect()
    }

    fn remove_flows(&mut self, flows: &[Found]) -> Result<(), StoreError> {
        let uuids = uuids(flows);
        self.transaction(|transaction| {
            let sql = "DELETE FROM flows WHERE trace_id = ANY($1)";
            transaction.execute(sql, &[&uuids]).map(drop)
        })
    }

    /// Their words go with the bodies, but for those of the URL.
    fn remove_bodies(&mut self, flows: &[Found]) -> Result<(), StoreError> {
        let uuids = uuids(flows);
        self.transaction(|transaction| {
            let sql = "SELECT trace_id, url FROM flows WHERE trace_id = ANY($1) FOR UPDATE";
            let rows = transaction.query(sql, &[&uuids])?;
            let (mut uuids, mut words) = (Vec::new(), Vec::new());
            for row in &rows {
                uuids.push(row.try_get::<_, &str>("trace_id")?);
                words.push(words_of_url(row.try_get("url")?).join(" "));
            }
            transaction.execute(
                "UPDATE flows SET request_body = NULL, request_chunks = NULL, response_body = NULL,
                   response_chunks = NULL, truncated = TRUE,
                   words = array_to_tsvector(string_to_array(left_over.words, ' '))
                 FROM unnest($1::text[], $2::text[]) AS left_over (trace_id, words)
                 WHERE flows.trace_id = left_over.trace_id",
                &[&uuids, &words],
            )?;
            transaction.execute(
                "UPDATE messages SET payload = '' WHERE trace_id = ANY($1) AND octet_length(payload) > 0",
                &[&uuids],
            )?;
            Ok(())
        })
    }

    fn sweep(&mut self, goes_on: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        // Nobody is writing at this moment: what is written later has a larger number.
        let mut seen = self.transaction(|transaction| {
            lock_chunks(transaction)?;
            next_batch(transaction)
        })?;
        self.ask(|client| client.batch_execute(FIND_UNNEEDED))?;
        while goes_on() {
            let (removed, mark) = self.transaction(|transaction| {
                lock_chunks(transaction)?;
                let removed = remove_unneeded(transaction, seen)?;
                Ok((removed, next_batch(transaction)?))
            })?;
            seen = mark;
            if removed == 0 {
                break;
            }
            thread::sleep(REMOVAL_PAUSE);
        }
        self.transaction(|transaction| {
            // The connection lives on.
            transaction.batch_execute("DROP TABLE unneeded")?;
            // By the last one who follows knows how far the archive is.
            let sql = "DELETE FROM batches WHERE number < (SELECT max(number) FROM batches)
                 AND NOT EXISTS (SELECT FROM flows WHERE flows.batch = batches.batch)";
            transaction.execute(sql, &[])?;
            // Sessions that were joined stay so: flows of them may come yet.
            let sql = "DELETE FROM session_names WHERE NOT EXISTS (
                   SELECT FROM flows WHERE flows.session_id = session_names.session_id
                 )";
            transaction.execute(sql, &[]).map(drop)
        })
    }
}

fn uuids(flows: &[Found]) -> Vec<&str> {
    flows.iter().map(|flow| &*flow.uuid).collect()
}

/// Keeps others from relying on chunks until the transaction has ended.
fn lock_chunks(transaction: &mut Transaction<'_>) -> Result<(), postgres::Error> {
    let sql = "SELECT pg_advisory_xact_lock($1, $2)";
    transaction
        .execute(sql, &[&LOCKS, &(Lock::Chunks as i32)])
        .map(drop)
}

/// A number above those of all flows so far, and below those of all later ones.
fn next_batch(transaction: &mut Transaction<'_>) -> Result<i64, postgres::Error> {
    let row = transaction.query_one("SELECT nextval('batch_ids')", &[])?;
    row.try_get(0)
}

/// Removes some of the chunks that were found, unless a flow that was written since has them. Answers how many
/// were dealt with.
fn remove_unneeded(transaction: &mut Transaction<'_>, seen: i64) -> Result<u64, postgres::Error> {
    transaction.execute(
        "DELETE FROM unneeded WHERE hash IN (
           SELECT unnest(request_chunks) FROM flows WHERE batch > $1
           UNION ALL SELECT unnest(response_chunks) FROM flows WHERE batch > $1
         )",
        &[&seen],
    )?;
    let sql = format!(
        "WITH taken AS (
           DELETE FROM unneeded WHERE hash IN (SELECT hash FROM unneeded LIMIT {REMOVAL_ROWS_MAX})
           RETURNING hash
         ), gone AS (DELETE FROM chunks USING taken WHERE chunks.hash = taken.hash)
         SELECT count(*) FROM taken"
    );
    let count: i64 = transaction.query_one(&sql, &[])?.try_get(0)?;
    Ok(count.unsigned_abs())
}
