//! Removes flows from an archive, or their bodies alone, while oriels write to it.
//!
//! A row is removed in all its versions, or an older one would be seen again: so flows are found as they are
//! now, and removed by their UUIDs. A flow that loses its bodies is written once more without them. What goes
//! is not seen from then on; the server gives its space back when it merges parts.

use serde::Deserialize;
use traffic::Timestamp;

use super::reader::ClickHouseBackend;
use super::server::{Server, Value};
use super::write::write;
use crate::StoreError;
use crate::archive::ArchiveBatch;
use crate::archive::removal::{Found, Removable};
use crate::limits::{CLICKHOUSE_RECORDS_AT_ONCE, CLICKHOUSE_REMOVAL_FLOWS_MAX};
use crate::reader::select::{Conditions, Dialect};

/// Removes from the tables of one server.
pub(super) struct Removing<'s> {
    server: &'s Server,
    backend: ClickHouseBackend,
}

#[derive(Deserialize)]
struct Number {
    number: u64,
}

#[derive(Deserialize)]
struct FoundRow {
    trace_id: String,
    started: i64,
}

impl<'s> Removing<'s> {
    /// Refuses a cluster, whose tables that span the shards take no removal.
    pub(super) fn open(server: &'s Server) -> Result<Self, StoreError> {
        let sql = "SELECT count() AS number FROM system.tables
             WHERE database = currentDatabase() AND name = 'flows' AND engine = 'Distributed'";
        let Number { number } = server.one(sql, &[])?;
        if number > 0 {
            return Err(StoreError::Unavailable {
                place: server.place().to_owned(),
                source:
                    "its tables are those of a cluster, from which whoever looks after it removes: \
                         ALTER TABLE flows_local ON CLUSTER NAME DROP PARTITION '20260302'"
                        .into(),
            });
        }
        Ok(Self {
            server,
            backend: ClickHouseBackend::of(server.clone()),
        })
    }
}

impl Removable for Removing<'_> {
    const DIALECT: Dialect = Dialect::ClickHouse;
    const HAS_BODY: &'static str = "(request_body IS NOT NULL OR response_body IS NOT NULL
       OR trace_id IN (SELECT trace_id FROM messages WHERE notEmpty(payload)))";
    const AT_ONCE: usize = CLICKHOUSE_REMOVAL_FLOWS_MAX;

    fn number(&mut self, sql: &str, conditions: &Conditions) -> Result<u64, StoreError> {
        let rows: Vec<Number> = self.backend.select(sql, conditions)?;
        Ok(rows.first().map_or(0, |row| row.number))
    }

    fn body_bytes(&mut self, conditions: &Conditions) -> Result<u64, StoreError> {
        let condition = conditions.sql();
        let bodies = format!(
            "SELECT sum(coalesce(length(request_body), 0) + coalesce(length(response_body), 0)) AS number
             FROM flows WHERE {condition}"
        );
        let messages = format!(
            "SELECT sum(length(payload)) AS number FROM messages
             WHERE trace_id IN (SELECT trace_id FROM flows WHERE {condition})"
        );
        Ok(self.number(&bodies, conditions)? + self.number(&messages, conditions)?)
    }

    fn find(&mut self, conditions: &Conditions) -> Result<Vec<Found>, StoreError> {
        let sql = format!(
            "SELECT trace_id, toUnixTimestamp64Micro(start_time) AS started FROM flows WHERE {}
             ORDER BY start_time, trace_id LIMIT {}",
            conditions.sql(),
            Self::AT_ONCE
        );
        let rows: Vec<FoundRow> = self.backend.select(&sql, conditions)?;
        let found = |row: FoundRow| Found {
            uuid: row.trace_id,
            started_at: Timestamp(row.started),
        };
        Ok(rows.into_iter().map(found).collect())
    }

    fn remove_flows(&mut self, flows: &[Found]) -> Result<(), StoreError> {
        let uuids: Vec<String> = flows.iter().map(|flow| quoted(&flow.uuid)).collect();
        let uuids = uuids.join(", ");
        // The messages first: what is left of a failure is found again by its flow.
        let messages = format!("DELETE FROM messages WHERE trace_id IN ({uuids})");
        self.server.execute(&messages, &[])?;
        let (Some(first), Some(last)) = (flows.first(), flows.last()) else {
            return Ok(());
        };
        // Rows lie in the order of their start.
        let at = |number| format!("fromUnixTimestamp64Micro({{p{number}:Int64}}, 'UTC')");
        let sql = format!(
            "DELETE FROM flows WHERE start_time BETWEEN {} AND {} AND trace_id IN ({uuids})",
            at(1),
            at(2)
        );
        let between = [first, last].map(|flow| Value::Number(flow.started_at.0));
        self.server.execute(&sql, &between)
    }

    fn remove_bodies(&mut self, flows: &[Found]) -> Result<(), StoreError> {
        for flows in flows.chunks(CLICKHOUSE_RECORDS_AT_ONCE) {
            let flows: Vec<_> = flows
                .iter()
                .map(|flow| (flow.started_at, &*flow.uuid))
                .collect();
            let mut batch = ArchiveBatch {
                flows: self.backend.records_named(&flows, "detail")?,
                ..ArchiveBatch::default()
            };
            for flow in &mut batch.flows {
                flow.detail.row.truncated = true;
                for message in &mut flow.messages {
                    message.payload.clear();
                }
            }
            write(self.server, &batch)?;
        }
        Ok(())
    }

    /// Bodies lie in the rows of their flows. Sessions that were joined stay so: flows of them may come yet.
    fn sweep(&mut self, _goes_on: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        let sql = "DELETE FROM session_names
             WHERE session_id NOT IN (SELECT assumeNotNull(session_id) FROM flows WHERE session_id IS NOT NULL)";
        self.server.execute(sql, &[])
    }
}

/// A UUID as SQL has it.
fn quoted(uuid: &str) -> String {
    format!("'{}'", uuid.replace('\\', "\\\\").replace('\'', "\\'"))
}
