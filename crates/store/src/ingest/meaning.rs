//! What flows are for, and which session they belong to: reads it, and stores sessions once.
//!
//! A session may be known only later, from a request that goes on behind a gateway: then flows that
//! are stored get it afterwards.

use rusqlite::{Connection, OptionalExtension};
use traffic::{FlowStarted, Target, Timestamp};

use super::assemble::Flow;
use super::head::ReadHead;
use super::place::Asked;
use super::recent::Recent;
use crate::StoreError;
use crate::limits::{
    LINK_AGE_MAX, LINKED_FLOWS_MAX, REMEMBERED_LINKS_MAX, REMEMBERED_SESSIONS_MAX,
};
use llm::{Body, HostClass, Identity, Interpreter, Link, Meaning, Method, Request, TrafficType};

/// Reads the meaning of flows, and remembers what is stored of it.
pub(crate) struct Meanings<'c> {
    connection: &'c Connection,
    interpreter: Interpreter,
    /// The class of the host that was asked last: most flows go where the one before went.
    last_host: Option<(Target, HostClass)>,
    marks: Recent<Identity, Mark>,
    links: Recent<Link, Linked>,
}

/// What is known of a flow.
pub(crate) struct Known {
    pub(crate) traffic_type: TrafficType,
    /// How it belongs to a session.
    pub(crate) mark: Option<Mark>,
    /// By what it may be linked to other flows.
    pub(crate) links: Vec<Link>,
}

/// A row of `session_marks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) row: i64,
    /// The row of `sessions`.
    pub(crate) session: i64,
}

/// Flows that have an id in common.
#[derive(Debug)]
struct Linked {
    /// When the last one started.
    at: Timestamp,
    /// Their session, once one of them has one.
    session: Option<i64>,
    /// Rows of flows that have none yet.
    waiting: Vec<i64>,
}

impl<'c> Meanings<'c> {
    pub(crate) fn new(connection: &'c Connection, interpreter: Interpreter) -> Self {
        Self {
            connection,
            interpreter,
            last_host: None,
            marks: Recent::new(REMEMBERED_SESSIONS_MAX),
            links: Recent::new(REMEMBERED_LINKS_MAX),
        }
    }

    /// Forgets what is stored: a write was undone, or another process may have removed it.
    pub(crate) fn forget(&mut self) {
        self.marks.clear();
        self.links.clear();
    }

    /// What is known of a flow by now.
    pub(crate) fn read(
        &mut self,
        flow: &Flow,
        asked: &Asked<'_>,
        head: &ReadHead,
    ) -> Result<Known, StoreError> {
        let started = &*flow.started;
        let request = Request {
            kind: started.kind,
            method: asked.method,
            path: asked.path,
            content_type: head.content_type.as_deref(),
            head: &started.head,
            glance: head.glance,
            body: body_of(flow),
        };
        let host = self.host_class(started);
        let Meaning {
            traffic_type,
            mut identity,
            mut links,
        } = self.interpreter.interpret(host, &request);
        if !matches!(traffic_type, TrafficType::Llm | TrafficType::Mcp) {
            return Ok(Known {
                traffic_type,
                mark: None,
                links,
            });
        }
        if traffic_type == TrafficType::Mcp && identity.is_none() {
            let response = flow.response_head.as_ref();
            identity = response.and_then(|(_, head)| self.interpreter.session_begun(head));
        }
        if let Some(rerouted) = &flow.rerouted {
            links.extend(rerouted.request_id.iter().map(|id| Link {
                method: Method::RequestId,
                id: id.clone(),
            }));
        }
        let mark = identity.map(|identity| self.mark(identity)).transpose()?;
        Ok(Known {
            traffic_type,
            mark,
            links,
        })
    }

    /// Links a stored flow to others by the ids that they have in common.
    pub(crate) fn link(&mut self, row: i64, flow: &Flow, known: &Known) -> Result<(), StoreError> {
        let mut session = known.mark.map(|mark| mark.session);
        for link in &known.links {
            session = self.link_by(link, row, flow.started.at, session)?;
        }
        Ok(())
    }

    /// Answers the session of the flow, which may be one that was found by the link.
    fn link_by(
        &mut self,
        link: &Link,
        row: i64,
        at: Timestamp,
        session: Option<i64>,
    ) -> Result<Option<i64>, StoreError> {
        let waiting = || Vec::from_iter(session.is_none().then_some(row));
        let linked = self.links.find(link);
        let fresh =
            linked.filter(|linked| at.0.saturating_sub(linked.at.0) <= micros(LINK_AGE_MAX));
        let Some(linked) = fresh else {
            let linked = Linked {
                at,
                session,
                waiting: waiting(),
            };
            self.links.insert(link.clone(), linked);
            return Ok(session);
        };
        linked.at = linked.at.max(at);
        if session.is_none() && !linked.waiting.contains(&row) {
            if linked.waiting.len() >= LINKED_FLOWS_MAX {
                return Ok(session);
            }
            linked.waiting.push(row);
        }
        // The session of one of them is that of all. Two that have none are a session of their own.
        let found = match linked.session.or(session) {
            Some(found) => found,
            None if linked.waiting.len() < 2 => return Ok(None),
            None => place_session(self.connection, &link.id, None)?,
        };
        linked.session = Some(found);
        let waiting = std::mem::take(&mut linked.waiting);
        if !waiting.is_empty() {
            let mark = place_mark(self.connection, found, &MarkRow::by(link.method))?;
            for row in waiting {
                set_mark(self.connection, row, mark)?;
            }
        }
        Ok(session.or(Some(found)))
    }

    fn host_class(&mut self, started: &FlowStarted) -> HostClass {
        match &self.last_host {
            Some((target, class)) if *target == started.target => *class,
            _ => {
                let class = self.interpreter.host_class(&started.target);
                self.last_host = Some((started.target.clone(), class));
                class
            }
        }
    }

    fn mark(&mut self, identity: Identity) -> Result<Mark, StoreError> {
        if let Some(mark) = self.marks.find(&identity) {
            return Ok(*mark);
        }
        let session = place_session(self.connection, &identity.session, identity.agent)?;
        let row = place_mark(
            self.connection,
            session,
            &MarkRow {
                method: identity.method,
                agent: identity.agent,
                agent_id: identity.agent_id.as_deref(),
                parent_agent_id: identity.parent_agent_id.as_deref(),
            },
        )?;
        let mark = Mark { row, session };
        self.marks.insert(identity, mark);
        Ok(mark)
    }
}

/// What is in memory of a request body. Of one that was moved out of it already the beginning is
/// missing, and nothing can be read.
fn body_of(flow: &Flow) -> Body<'_> {
    if flow.request.moved_bytes > 0 {
        return Body::UNKNOWN;
    }
    Body {
        pieces: &flow.request.chunks,
        cut: flow.request.end.is_none() || flow.request.is_cut(),
    }
}

/// The columns of a row of `session_marks` besides its session.
pub(crate) struct MarkRow<'a> {
    pub(crate) method: Method,
    pub(crate) agent: Option<&'a str>,
    pub(crate) agent_id: Option<&'a str>,
    pub(crate) parent_agent_id: Option<&'a str>,
}

impl MarkRow<'_> {
    fn by(method: Method) -> Self {
        Self {
            method,
            agent: None,
            agent_id: None,
            parent_agent_id: None,
        }
    }
}

/// Finds or makes the session of this id; answers its number, or that of the one it was merged into.
pub(crate) fn place_session(
    connection: &Connection,
    id: &str,
    agent: Option<&str>,
) -> rusqlite::Result<i64> {
    // Not RETURNING of the first: a conflict that changes nothing returns nothing.
    connection
        .prepare_cached(
            "INSERT INTO sessions (id, agent) VALUES (?1, ?2)
             ON CONFLICT (id) DO UPDATE SET agent = excluded.agent
               WHERE agent IS NULL AND excluded.agent IS NOT NULL",
        )?
        .execute((id, agent))?;
    connection
        .prepare_cached("SELECT coalesce(merged_into, number) FROM sessions WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
}

/// Finds or makes a row of `session_marks`.
pub(crate) fn place_mark(
    connection: &Connection,
    session: i64,
    mark: &MarkRow<'_>,
) -> rusqlite::Result<i64> {
    let known: Option<i64> = connection
        .prepare_cached(
            "SELECT id FROM session_marks WHERE session = ?1 AND method = ?2 AND agent IS ?3
               AND agent_id IS ?4 AND parent_agent_id IS ?5",
        )?
        .query_row(
            (
                session,
                mark.method.as_str(),
                mark.agent,
                mark.agent_id,
                mark.parent_agent_id,
            ),
            |row| row.get(0),
        )
        .optional()?;
    if let Some(known) = known {
        return Ok(known);
    }
    connection
        .prepare_cached(
            "INSERT INTO session_marks (session, method, confidence, agent, agent_id, parent_agent_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .insert((
            session,
            mark.method.as_str(),
            mark.method.confidence().as_str(),
            mark.agent,
            mark.agent_id,
            mark.parent_agent_id,
        ))
}

/// Gives a stored flow a session that it did not have.
fn set_mark(connection: &Connection, row: i64, mark: i64) -> rusqlite::Result<()> {
    let changed = connection
        .prepare_cached("UPDATE flows SET session = ?2 WHERE id = ?1 AND session IS NULL")?
        .execute((row, mark))?;
    if changed > 0 {
        connection
            .prepare_cached("INSERT INTO flow_changes (flow) VALUES (?1)")?
            .execute([row])?;
    }
    Ok(())
}

fn micros(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
