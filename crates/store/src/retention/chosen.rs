//! Which flows go whatever their age: those that somebody chose, and those whose tags say so.

use std::path::Path;

use rusqlite::{Connection, params_from_iter};
use traffic::Timestamp;
use traffic::rules::filter::Filter;

use crate::annotate::parse_tags;
use crate::reader::row_of;
use crate::reader::select::Conditions;
use crate::row_number::first_row_at;
use crate::{FlowRef, RunId, StoreError, search};

/// Flows that are to be removed whatever their age. Those that are open stay in any case.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Which.
    pub chosen: Chosen,
    /// Those too that are marked without being named one by one, and those that an archive does not have
    /// as they are now.
    pub forced: bool,
}

/// How flows are chosen.
#[derive(Clone, Debug)]
pub enum Chosen {
    /// One by one, so also those that are marked.
    Flows(Vec<FlowRef>),
    /// By what they are. Words are looked up in the index of texts as it is.
    Found {
        /// Only flows of this run.
        run: Option<RunId>,
        /// Only flows that match.
        filter: Option<Filter>,
    },
    /// All of these sessions of agents, by their ids.
    Sessions(Vec<String>),
}

/// Flows that were chosen and stay, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stays {
    pub(super) open: u64,
    pub(super) marked: u64,
    pub(super) awaited: u64,
}

/// Of `doomed`: flows that an archive does not have as they are now.
const AWAITED: &str = "flow >= (
     SELECT min(first_id) FROM arrivals WHERE number > (SELECT min(arrival) FROM archives)
   ) OR flow IN (
     SELECT flow FROM flow_changes WHERE change > (SELECT min(change) FROM archives)
   )";

/// Dooms the flows that are chosen and may go.
pub(super) fn doom(
    connection: &Connection,
    path: &Path,
    choice: &Choice,
) -> Result<Stays, StoreError> {
    match &choice.chosen {
        Chosen::Flows(flows) => doom_named(connection, flows)?,
        Chosen::Found { run, filter } => {
            note_found(connection, path, "doomed", *run, filter.as_ref())?;
        }
        Chosen::Sessions(ids) => doom_sessions(connection, ids)?,
    }
    let spare = |condition: &str| -> rusqlite::Result<u64> {
        let sql = format!("DELETE FROM temp.doomed WHERE {condition}");
        Ok(connection.execute(&sql, ())? as u64)
    };
    let is_named = matches!(choice.chosen, Chosen::Flows(_));
    Ok(Stays {
        // It is written again when it ends.
        open: spare("flow IN (SELECT id FROM flows WHERE state = 'open')")?,
        marked: match choice.forced || is_named {
            true => 0,
            false => spare("flow IN (SELECT flow FROM annotations)")?,
        },
        awaited: match choice.forced {
            true => 0,
            false => spare(AWAITED)?,
        },
    })
}

fn doom_named(connection: &Connection, flows: &[FlowRef]) -> Result<(), StoreError> {
    let mut insert = connection.prepare("INSERT OR IGNORE INTO temp.doomed VALUES (?1)")?;
    for flow in flows {
        insert.execute([row_of(connection, *flow)?])?;
    }
    Ok(())
}

/// Notes the flows that match in a temporary table.
fn note_found(
    connection: &Connection,
    path: &Path,
    table: &str,
    run: Option<RunId>,
    filter: Option<&Filter>,
) -> Result<(), StoreError> {
    if filter.is_some_and(Filter::asks_for_words) && !search::attach_once(connection, path)? {
        return Err(StoreError::NoTexts);
    }
    let mut conditions = Conditions::default();
    conditions.add_run(run);
    conditions.add_filter(filter);
    let sql = format!(
        "INSERT INTO temp.{table} SELECT id FROM flows_shown WHERE {}",
        conditions.sql()
    );
    connection.execute(&sql, params_from_iter(conditions.values()))?;
    Ok(())
}

fn doom_sessions(connection: &Connection, ids: &[String]) -> Result<(), StoreError> {
    let mut insert = connection.prepare(
        "INSERT OR IGNORE INTO temp.doomed SELECT flows.id FROM sessions
           JOIN session_marks AS marks
             ON marks.session = coalesce(sessions.merged_into, sessions.number)
           JOIN flows ON flows.session = marks.id
         WHERE sessions.id = ?1",
    )?;
    for id in ids {
        insert.execute([id])?;
    }
    Ok(())
}

/// Dooms the flows all of whose tags say how long they stay, when that is over. Answers how many of them an
/// archive awaits, so that they stay.
pub(super) fn doom_tagged(
    connection: &Connection,
    tags: &[(String, Timestamp)],
) -> Result<u64, StoreError> {
    let Some(last) = tags.iter().map(|(_, since)| first_row_at(*since)).max() else {
        return Ok(0);
    };
    let mut annotated = connection.prepare("SELECT flow, tags FROM annotations WHERE flow < ?1")?;
    let mut doom = connection.prepare("INSERT INTO temp.doomed VALUES (?1)")?;
    let mut rows = annotated.query([last])?;
    while let Some(row) = rows.next()? {
        let flow: i64 = row.get(0)?;
        let said = parse_tags(row.get_ref(1)?.as_str().unwrap_or_default())?;
        let is_over = |tag: &String| {
            let mut rules = tags.iter().filter(|(known, _)| known == tag);
            rules.any(|(_, since)| flow < first_row_at(*since))
        };
        if !said.is_empty() && said.iter().all(is_over) {
            doom.execute([flow])?;
        }
    }
    let open = "DELETE FROM temp.doomed WHERE flow IN (SELECT id FROM flows WHERE state = 'open')";
    connection.execute(open, ())?;
    let awaited = format!("DELETE FROM temp.doomed WHERE {AWAITED}");
    Ok(connection.execute(&awaited, ())? as u64)
}

/// Spares the flows that match; answers how many of them were doomed.
pub(super) fn spare(
    connection: &Connection,
    path: &Path,
    matching: Option<&Filter>,
) -> Result<u64, StoreError> {
    if matching.is_none() {
        return Ok(0);
    }
    note_found(connection, path, "spared", None, matching)?;
    let doomed = "DELETE FROM temp.doomed WHERE flow IN (SELECT flow FROM temp.spared)";
    Ok(connection.execute(doomed, ())? as u64)
}
