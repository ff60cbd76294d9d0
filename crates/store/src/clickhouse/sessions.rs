//! What people do to the sessions of agents in an archive: name and join them.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use super::columns::{FLOWS, SESSION_NAMES, SessionNameColumns};
use super::server::{Server, Value};
use super::write::insert;
use crate::{FlowRecord, SessionName, StoreError};

/// Sessions that are asked for in one question: each is a value of it.
const ASKED_AT_ONCE: usize = 100;

#[derive(Deserialize)]
struct Count {
    count: u64,
}

#[derive(Deserialize)]
struct Merged {
    session_id: String,
    merged_into: String,
}

/// Gives a session a name; answers whether it has flows.
pub(super) fn rename(server: &Server, id: &str, name: &str) -> Result<bool, StoreError> {
    if !has_flows(server, id)? {
        return Ok(false);
    }
    let sql = "INSERT INTO session_names (session_id, name, version)
         SELECT {p1:String}, {p2:String}, toUInt64(toUnixTimestamp64Micro(now64(6)))";
    server.write_again(sql, &[id, name].map(Value::Text))?;
    Ok(true)
}

/// Stores names that came with flows.
pub(super) fn write_names(server: &Server, names: &[SessionName]) -> Result<(), StoreError> {
    let rows: Vec<_> = names.iter().map(SessionNameColumns::of).collect();
    insert(server, &SESSION_NAMES, &rows)
}

/// Joins two sessions; answers whether both have flows. The server has their rows, and writes them again.
pub(super) fn merge(server: &Server, into: &str, other: &str) -> Result<bool, StoreError> {
    if !has_flows(server, into)? || !has_flows(server, other)? {
        return Ok(false);
    }
    if into == other {
        return Ok(true);
    }
    // Before its flows: those that come meanwhile go where these do.
    let sql = "INSERT INTO session_merges (session_id, merged_into)
         SELECT {p2:String} AS session_id, {p1:String} AS merged_into
         UNION ALL SELECT session_id, {p1:String} FROM session_merges WHERE merged_into = {p2:String}
         UNION ALL SELECT {p1:String}, ''";
    let values = [into, other].map(Value::Text);
    server.write_again(sql, &values)?;
    let flows = FLOWS.again(
        &[("session_id", "toNullable({p1:String})")],
        "session_id = {p2:String}",
    );
    server.write_again(&flows, &values)?;
    Ok(true)
}

/// The sessions that those of these flows were joined to, by what they were before.
pub(super) fn merged(
    server: &Server,
    flows: &[&FlowRecord],
) -> Result<HashMap<String, String>, StoreError> {
    let ids: BTreeSet<&str> = flows.iter().filter_map(|flow| flow.session()).collect();
    let ids: Vec<&str> = ids.into_iter().collect();
    let mut merged = HashMap::new();
    for ids in ids.chunks(ASKED_AT_ONCE) {
        let places: Vec<String> = (1..=ids.len())
            .map(|number| format!("{{p{number}:String}}"))
            .collect();
        let sql = format!(
            "SELECT session_id, merged_into FROM session_merges
             WHERE merged_into <> '' AND session_id IN ({})",
            places.join(", ")
        );
        let values: Vec<Value<'_>> = ids.iter().map(|id| Value::Text(id)).collect();
        let rows: Vec<Merged> = server.rows(&sql, &values)?;
        merged.extend(
            rows.into_iter()
                .map(|row| (row.session_id, row.merged_into)),
        );
    }
    Ok(merged)
}

fn has_flows(server: &Server, id: &str) -> Result<bool, StoreError> {
    let sql = "SELECT count() AS count FROM flows WHERE session_id = {p1:String}";
    let Count { count } = server.one(sql, &[Value::Text(id)])?;
    Ok(count > 0)
}
