//! What flows are for, and which session they belong to: reads it, and stores sessions once.
//!
//! A session may be known only later, from a request that goes on behind a gateway, or that goes on with
//! what an earlier one said: then flows that are stored get it afterwards.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use traffic::{FlowStarted, Target, Timestamp};

use super::assemble::Flow;
use super::head::ReadHead;
use super::place::Asked;
use super::recent::Recent;
use crate::limits::{
    CONVERSATION_AGE_MAX, LINK_AGE_MAX, LINKED_FLOWS_MAX, REMEMBERED_CONVERSATIONS_MAX,
    REMEMBERED_LINKS_MAX, REMEMBERED_SESSIONS_MAX,
};
use crate::{RunId, StoreError};
use llm::{
    Body, Conversation, HostClass, Identity, Interpreter, Link, Meaning, Method, Request,
    TrafficType,
};

/// Reads the meaning of flows, and remembers what is stored of it.
pub(crate) struct Meanings<'c> {
    connection: &'c Connection,
    interpreter: Interpreter,
    /// The class of the host that was asked last: most flows go where the one before went.
    last_host: Option<(Arc<Target>, HostClass)>,
    marks: Recent<Identity, Mark>,
    links: Recent<Link, Linked>,
    /// By the hash of what was said up to the end of a request, within a run.
    conversations: Recent<(RunId, u64), Linked>,
}

/// What is known of a flow.
pub(crate) struct Known {
    pub(crate) traffic_type: TrafficType,
    /// How it belongs to a session.
    pub(crate) mark: Option<Mark>,
    /// By what it may be linked to other flows.
    pub(crate) links: Vec<Link>,
    /// The program that asks.
    agent: Option<&'static str>,
    /// What was said so far, where nothing names the session.
    conversation: Option<Conversation>,
}

impl Known {
    /// What is known of a flow that belongs to no session.
    pub(crate) fn plain(traffic_type: TrafficType) -> Self {
        Self {
            traffic_type,
            mark: None,
            links: Vec::new(),
            agent: None,
            conversation: None,
        }
    }

    /// Whether that is all.
    pub(crate) fn is_plain(&self) -> bool {
        !matches!(self.traffic_type, TrafficType::Llm | TrafficType::Mcp)
    }
}

/// A row of `session_marks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) row: i64,
    /// The row of `sessions`.
    pub(crate) session: i64,
}

/// Flows that have an id, or the beginning of a conversation, in common.
#[derive(Debug)]
struct Linked {
    /// When the last one started.
    at: Timestamp,
    /// Their session, once one of them has one.
    session: Option<i64>,
    /// Rows of flows that have none yet.
    waiting: Vec<i64>,
}

/// A flow that is to be linked to others.
#[derive(Clone, Copy)]
struct Joining {
    row: i64,
    at: Timestamp,
    /// Its session, once one is known.
    session: Option<i64>,
    agent: Option<&'static str>,
}

impl Joining {
    /// The flows that have this in common, this one among them if it waits for a session. What is too long
    /// ago is a coincidence.
    fn enter<'r, K: Hash + Eq + Clone>(
        &self,
        recent: &'r mut Recent<K, Linked>,
        key: &K,
        age_max: Duration,
    ) -> Option<&'r mut Linked> {
        let is_fresh =
            |linked: &mut Linked| self.at.0.saturating_sub(linked.at.0) <= micros(age_max);
        if !recent.find(key).is_some_and(is_fresh) {
            let linked = Linked {
                at: self.at,
                session: self.session,
                waiting: Vec::new(),
            };
            recent.insert(key.clone(), linked);
        }
        let linked = recent.find(key)?;
        linked.at = linked.at.max(self.at);
        let waits = self.session.is_none() && !linked.waiting.contains(&self.row);
        if waits && linked.waiting.len() < LINKED_FLOWS_MAX {
            linked.waiting.push(self.row);
        }
        Some(linked)
    }

    /// Gives all of them one session: that of one of them, or where two have none, one of their own.
    fn join(
        &mut self,
        connection: &Connection,
        linked: &mut Linked,
        method: Method,
        id: &str,
    ) -> Result<(), StoreError> {
        // What a gateway passes on says nothing of who sent it on.
        let is_own = matches!(method, Method::PreviousResponse | Method::Prefix);
        let agent = self.agent.filter(|_| is_own);
        let found = match linked.session.or(self.session) {
            Some(found) => found,
            None if linked.waiting.len() < 2 => return Ok(()),
            None => place_session(connection, id, agent)?,
        };
        linked.session = Some(found);
        self.session = self.session.or(Some(found));
        let waiting = std::mem::take(&mut linked.waiting);
        if !waiting.is_empty() {
            let mark = place_mark(connection, found, &MarkRow::by(method, agent))?;
            for row in waiting {
                set_mark(connection, row, mark)?;
            }
        }
        Ok(())
    }
}

impl<'c> Meanings<'c> {
    pub(crate) fn new(connection: &'c Connection, interpreter: Interpreter) -> Self {
        Self {
            connection,
            interpreter,
            last_host: None,
            marks: Recent::new(REMEMBERED_SESSIONS_MAX),
            links: Recent::new(REMEMBERED_LINKS_MAX),
            conversations: Recent::new(REMEMBERED_CONVERSATIONS_MAX),
        }
    }

    /// Forgets what is stored: a write was undone, or another process may have removed it.
    pub(crate) fn forget(&mut self) {
        self.marks.clear();
        self.links.clear();
        self.conversations.clear();
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
            agent,
            conversation,
        } = self.interpreter.interpret(host, &request);
        let plain = Known::plain(traffic_type);
        if plain.is_plain() {
            return Ok(plain);
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
        if identity.is_none() && asked.path.ends_with("/responses") {
            links.extend(self.response_id(flow));
        }
        let mark = identity.map(|identity| self.mark(identity)).transpose()?;
        Ok(Known {
            traffic_type,
            mark,
            links,
            agent,
            conversation,
        })
    }

    /// The id of the answer, by which the next request may go on from it.
    fn response_id(&self, flow: &Flow) -> Option<Link> {
        let (_, head) = flow.response_head.as_ref()?;
        if flow.response.moved_bytes > 0 {
            return None;
        }
        let body = Body {
            pieces: &flow.response.chunks,
            cut: true,
        };
        self.interpreter.response_id(head, body)
    }

    /// Links a stored flow to others by the ids that they have in common, and by what they say.
    pub(crate) fn link(&mut self, row: i64, flow: &Flow, known: &Known) -> Result<(), StoreError> {
        let mut joining = Joining {
            row,
            at: flow.started.at,
            session: known.mark.map(|mark| mark.session),
            agent: known.agent,
        };
        for link in &known.links {
            let age_max = match link.method {
                Method::PreviousResponse => CONVERSATION_AGE_MAX,
                _ => LINK_AGE_MAX,
            };
            if let Some(linked) = joining.enter(&mut self.links, link, age_max) {
                joining.join(self.connection, linked, link.method, &link.id)?;
            }
        }
        if let Some(conversation) = &known.conversation {
            self.link_conversation(joining, flow.run, conversation)?;
        }
        Ok(())
    }

    /// Links a flow to the latest request that said a part of what it says.
    fn link_conversation(
        &mut self,
        mut joining: Joining,
        run: RunId,
        conversation: &Conversation,
    ) -> Result<(), StoreError> {
        let known = &mut self.conversations;
        let mut earlier = conversation.earlier();
        if let Some(said) = earlier.find(|said| known.find(&(run, *said)).is_some())
            && let Some(linked) = joining.enter(known, &(run, said), CONVERSATION_AGE_MAX)
        {
            let id = format!("conversation-{said:016x}");
            joining.join(self.connection, linked, Method::Prefix, &id)?;
        }
        // Two that say the same are no conversation yet: they wait for one that goes on.
        if let Some(said) = conversation.whole()
            && let Some(linked) = joining.enter(known, &(run, said), CONVERSATION_AGE_MAX)
            && linked.session.or(joining.session).is_some()
        {
            joining.join(self.connection, linked, Method::Prefix, "")?;
        }
        Ok(())
    }

    fn host_class(&mut self, started: &FlowStarted) -> HostClass {
        match &self.last_host {
            Some((target, class)) if *target == started.target => *class,
            _ => {
                let class = self.interpreter.host_class(&started.target);
                self.last_host = Some((Arc::clone(&started.target), class));
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
        cut: flow.request.whole().is_none() || flow.request.is_cut(),
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
    fn by(method: Method, agent: Option<&'static str>) -> Self {
        Self {
            method,
            agent,
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

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
