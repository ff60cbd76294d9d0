//! The sessions of agents, and what their flows sum up to.

use rusqlite::{Connection, Row};
use traffic::Timestamp;

use super::row::bytes;
use crate::StoreError;

/// A session of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id, as its program made it.
    pub id: String,
    /// As people call it.
    pub name: Option<String>,
    /// The program, where it is known.
    pub agent: Option<String>,
    /// When its first flow started.
    pub started_at: Timestamp,
    /// When its last flow started.
    pub last_at: Timestamp,
    /// Its flows.
    pub flows: u64,
    /// Of these, calls of models.
    pub llm_flows: u64,
    /// Of these, that failed or have a status from 400 on.
    pub failed: u64,
    /// Runs in which they were seen.
    pub runs: u64,
    /// Agents that the first one started, and those that they did.
    pub agents: u64,
    /// Body bytes of requests.
    pub request_bytes: u64,
    /// Body bytes of responses.
    pub response_bytes: u64,
}

/// All sessions that have flows, by groups in SQL: the index over sessions leads to their flows alone.
const SESSIONS: &str = "SELECT sessions.id, sessions.name, sessions.agent,
      min(iif(start_time = 0, flows.id >> 10, start_time)) AS started_at,
      max(iif(start_time = 0, flows.id >> 10, start_time)) AS last_at, count(*) AS flows,
      sum(traffic_type = 'llm') AS llm_flows,
      sum(state = 'failed' OR coalesce(status_code, 0) >= 400) AS failed,
      count(DISTINCT run_id) AS runs, count(DISTINCT agent_id) AS agents,
      coalesce(sum(request_body_size), 0) AS request_bytes,
      coalesce(sum(response_body_size), 0) AS response_bytes
    FROM flows
      JOIN places ON places.id = flows.place
      JOIN session_marks AS marks ON marks.id = flows.session
      JOIN sessions ON sessions.number = marks.session
    WHERE flows.session IS NOT NULL
    GROUP BY sessions.number
    ORDER BY last_at DESC, sessions.id LIMIT ?1";

/// Reads the sessions of a file, those first that were seen last.
pub(super) fn read(connection: &Connection, limit: usize) -> Result<Vec<Session>, StoreError> {
    let mut statement = connection.prepare_cached(SESSIONS)?;
    let mut rows = statement.query([i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        sessions.push(session_of_row(row)?);
    }
    Ok(sessions)
}

fn session_of_row(row: &Row<'_>) -> Result<Session, StoreError> {
    let number = |column| Ok::<_, StoreError>(bytes(row, column)?.unwrap_or(0));
    Ok(Session {
        id: row.get("id")?,
        name: row.get("name")?,
        agent: row.get("agent")?,
        started_at: Timestamp(row.get("started_at")?),
        last_at: Timestamp(row.get("last_at")?),
        flows: number("flows")?,
        llm_flows: number("llm_flows")?,
        failed: number("failed")?,
        runs: number("runs")?,
        agents: number("agents")?,
        request_bytes: number("request_bytes")?,
        response_bytes: number("response_bytes")?,
    })
}
