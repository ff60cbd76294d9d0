//! Which session of which agent a request belongs to, as its fields and its body say it.
//!
//! What each agent sends was observed: Claude Code 2.1, Codex 0.169, opencode 1.18, Copilot, Kilo,
//! Mux, and the sessions that gateways (LiteLLM, Helicone) are told. Where nothing says it, two
//! requests may still be known to be one by what a gateway passes on ([`Link`]).

use memchr::memmem;

use crate::agent::{CLAUDE_CODE, CODEX, agent_of};
use crate::fields::{Field, Fields};
use crate::json::Value;
use crate::limits::{ID_BYTES_MAX, LINKS_MAX, REQUEST_ID_BYTES_MIN};
use crate::trace::{baggage_session, trace_id};

/// Who asks, and in which session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The id of the session, as its program made it.
    pub session: String,
    /// Where that was read.
    pub method: Method,
    /// The program, where it is known: `claude-code`, `codex`, …
    pub agent: Option<&'static str>,
    /// The agent within the session that asks; none is the one that the user talks to.
    pub agent_id: Option<String>,
    /// The agent that started it; none is the one that the user talks to.
    pub parent_agent_id: Option<String>,
}

/// How a session is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// A field of the request names it.
    Header,
    /// Its body does.
    Body,
    /// The Mcp-Session-Id field does, of the request or of the response that began the session.
    McpSession,
    /// The baggage does: the field, or what a call of a tool server has of it.
    Baggage,
    /// Another request has the same trace.
    Traceparent,
    /// Another request has the same request id.
    RequestId,
    /// It names the answer to an earlier request as what it goes on from.
    PreviousResponse,
    /// Its messages go on where those of an earlier request ended.
    Prefix,
}

/// How sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// The program itself says it.
    Certain,
    /// It follows from what others pass on.
    Likely,
    /// It follows from what was said: two conversations that begin alike may be taken for one.
    Possible,
}

/// An id that two requests have in common if they are the same one, parts of one trace, or one goes on
/// from the answer to the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// [`Method::Traceparent`], [`Method::RequestId`] or [`Method::PreviousResponse`].
    pub method: Method,
    /// The id.
    pub id: String,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Header,
        Self::Body,
        Self::McpSession,
        Self::Baggage,
        Self::Traceparent,
        Self::RequestId,
        Self::PreviousResponse,
        Self::Prefix,
    ];

    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Body => "body",
            Self::McpSession => "mcp_session",
            Self::Baggage => "baggage",
            Self::Traceparent => "traceparent",
            Self::RequestId => "request_id",
            Self::PreviousResponse => "previous_response",
            Self::Prefix => "prefix",
        }
    }

    /// The method of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|method| method.as_str() == name)
    }

    /// How sure a session is that is known so.
    #[must_use]
    pub fn confidence(self) -> Confidence {
        match self {
            Self::Header | Self::Body | Self::McpSession | Self::PreviousResponse => {
                Confidence::Certain
            }
            Self::Baggage | Self::Traceparent | Self::RequestId => Confidence::Likely,
            Self::Prefix => Confidence::Possible,
        }
    }
}

impl Confidence {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Likely => "likely",
            Self::Possible => "possible",
        }
    }
}

/// An id that can be one: not empty, not long, one line.
pub(crate) fn checked(id: &str) -> Option<String> {
    let id = id.trim();
    let good = !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.contains(char::is_control);
    good.then(|| id.to_owned())
}

/// The ids of an agent: its session, itself, who started it.
struct Ids {
    session: String,
    agent_id: Option<String>,
    parent_agent_id: Option<String>,
}

impl Ids {
    fn of_session(session: &str) -> Option<Self> {
        Some(Self {
            session: checked(session)?,
            agent_id: None,
            parent_agent_id: None,
        })
    }

    fn known_by(self, method: Method, agent: Option<&'static str>) -> Identity {
        Identity {
            session: self.session,
            method,
            agent,
            agent_id: self.agent_id,
            parent_agent_id: self.parent_agent_id,
        }
    }
}

/// What the fields of a request to a model say.
pub(crate) fn from_fields(fields: &Fields<'_>) -> Option<Identity> {
    let agent = agent_of(fields);
    let ids = claude_fields(fields)
        .or_else(|| codex_fields(fields, agent))
        .or_else(|| opencode_fields(fields))
        .or_else(|| {
            [
                Field::CopilotSession,
                Field::KiloTask,
                Field::MuxWorkspace,
                Field::LitellmSession,
                Field::HeliconeSession,
                Field::Interaction,
            ]
            .into_iter()
            .find_map(|field| Ids::of_session(fields.text(field)?))
        })?;
    Some(ids.known_by(Method::Header, agent))
}

/// What a body says that may tell whose it is.
#[derive(Default)]
pub(crate) struct BodySays<'a> {
    pub(crate) identity: Option<Identity>,
    /// The array of what was said so far; its end was not looked at.
    pub(crate) messages: Option<Value<'a>>,
    /// The answer that it goes on from.
    pub(crate) previous_response: Option<String>,
}

/// What the body of a request to a model says, in one pass.
pub(crate) fn from_body<'a>(fields: &Fields<'_>, body: &'a [u8]) -> BodySays<'a> {
    let mut says = BodySays::default();
    says.identity = identity_in(fields, Value::new(body), &mut says);
    says
}

fn identity_in<'a>(
    fields: &Fields<'_>,
    body: Value<'a>,
    says: &mut BodySays<'a>,
) -> Option<Identity> {
    let agent = agent_of(fields);
    let mut weaker = None;
    for (name, value) in body.members() {
        match name {
            b"messages" | b"input" | b"contents" => says.messages = Some(value),
            b"previous_response_id" => {
                says.previous_response = value.text().and_then(|id| checked(&id));
            }
            b"metadata" => {
                let user = value.member("user_id").and_then(claude_user);
                if let Some(ids) = user {
                    return Some(ids.known_by(Method::Body, agent.or(Some(CLAUDE_CODE))));
                }
                let session = value.text_of("session_id");
                weaker = weaker.or_else(|| Ids::of_session(&session?));
            }
            // Where a gateway turns a call of Anthropic's API into one of OpenAI's.
            b"user" => {
                if let Some(ids) = claude_user(value) {
                    return Some(ids.known_by(Method::Body, agent.or(Some(CLAUDE_CODE))));
                }
            }
            b"client_metadata" => {
                if let Some(ids) = codex_ids(value) {
                    return Some(ids.known_by(Method::Body, agent.or(Some(CODEX))));
                }
            }
            // Gemini's Code Assist wraps what it asks.
            b"request" if value.is_object() => {
                let session = value.text_of("session_id");
                weaker = weaker.or_else(|| Ids::of_session(&session?));
            }
            b"prompt_cache_key" if agent == Some(CODEX) => {
                weaker = weaker.or_else(|| Ids::of_session(&value.text()?));
            }
            b"conversation" => {
                let id = value.text().or_else(|| value.text_of("id"));
                weaker = weaker.or_else(|| Ids::of_session(&id?));
            }
            b"litellm_session_id" | b"session_id" => {
                weaker = weaker.or_else(|| Ids::of_session(&value.text()?));
            }
            _ => {}
        }
    }
    Some(weaker?.known_by(Method::Body, agent))
}

/// What the baggage of any request says.
pub(crate) fn from_baggage(fields: &Fields<'_>) -> Option<Identity> {
    let session = baggage_session(fields.text(Field::Baggage)?)?;
    let ids = Ids::of_session(&session)?;
    Some(ids.known_by(Method::Baggage, agent_of(fields)))
}

/// What a call of a tool server says in `params._meta`, which carries the tracing fields where no HTTP
/// does (Model Context Protocol, SEP-414): the session in the baggage, and the trace.
pub(crate) fn from_mcp_body(fields: &Fields<'_>, body: &[u8]) -> (Option<Identity>, Option<Link>) {
    let whole = Value::new(body);
    let message = whole.first().unwrap_or(whole);
    let params = message.member("params");
    let Some(meta) = params.and_then(|params| params.member("_meta")) else {
        return (None, None);
    };
    let baggage = meta.text_of("baggage");
    let session = baggage.and_then(|baggage| Ids::of_session(&baggage_session(&baggage)?));
    let identity = session.map(|ids| ids.known_by(Method::Baggage, agent_of(fields)));
    let traceparent = meta.text_of("traceparent");
    let link = traceparent.as_deref().and_then(trace_id).map(|id| Link {
        method: Method::Traceparent,
        id: id.to_owned(),
    });
    (identity, link)
}

/// What the fields of a request to a tool server say, or those of the answer that begins a session.
pub(crate) fn from_mcp_fields(fields: &Fields<'_>) -> Option<Identity> {
    let ids = Ids::of_session(fields.text(Field::McpSession)?)?;
    Some(ids.known_by(Method::McpSession, agent_of(fields)))
}

/// The ids of a request that a gateway may pass on.
pub(crate) fn links(fields: &Fields<'_>) -> Vec<Link> {
    let mut links = Vec::new();
    if let Some(trace) = fields.text(Field::Traceparent).and_then(trace_id) {
        links.push(Link {
            method: Method::Traceparent,
            id: trace.to_owned(),
        });
    }
    for field in [
        Field::XRequestId,
        Field::XClientRequestId,
        Field::XCorrelationId,
        Field::RequestId,
    ] {
        let id = fields.text(field).and_then(checked);
        let Some(id) = id.filter(|id| id.len() >= REQUEST_ID_BYTES_MIN) else {
            continue;
        };
        if links.len() < LINKS_MAX && links.iter().all(|link| link.id != id) {
            links.push(Link {
                method: Method::RequestId,
                id,
            });
        }
    }
    links
}

/// The id of an answer of OpenAI's Responses API, whole or as events: the first that its text has.
pub(crate) fn response_id(answer: &[u8]) -> Option<String> {
    let at = memmem::find(answer, b"\"resp_")?;
    let before = answer.get(..at)?.trim_ascii_end();
    let before = before.strip_suffix(b":")?.trim_ascii_end();
    if !before.ends_with(b"\"id\"") {
        return None;
    }
    Value::new(answer.get(at..)?)
        .leading_text()
        .and_then(|id| checked(&id))
}

fn claude_fields(fields: &Fields<'_>) -> Option<Ids> {
    let mut ids = Ids::of_session(fields.text(Field::ClaudeSession)?)?;
    ids.agent_id = fields.text(Field::ClaudeAgent).and_then(checked);
    ids.parent_agent_id = fields.text(Field::ClaudeParentAgent).and_then(checked);
    Some(ids)
}

fn codex_fields(fields: &Fields<'_>, agent: Option<&str>) -> Option<Ids> {
    let turn = fields.bytes(Field::CodexTurn).map(Value::new);
    let mut ids = turn.and_then(codex_ids).or_else(|| {
        let session = fields.text(Field::SessionId);
        let is_codex = agent == Some(CODEX) || fields.has(Field::CodexThread);
        let old = || {
            let old = fields.text(Field::SessionIdOld);
            old.or_else(|| fields.text(Field::ConversationId))
        };
        let session = session.filter(|_| is_codex).or_else(old)?;
        let mut ids = Ids::of_session(session)?;
        ids.agent_id = fields
            .text(Field::CodexThread)
            .and_then(checked)
            .filter(|thread| *thread != ids.session);
        Some(ids)
    })?;
    let parent = fields.text(Field::CodexParentThread).and_then(checked);
    ids.parent_agent_id = parent.filter(|parent| *parent != ids.session);
    Some(ids)
}

/// What Codex says of itself in JSON: the session of the root, and the thread of this agent.
fn codex_ids(value: Value<'_>) -> Option<Ids> {
    let mut ids = Ids::of_session(&value.text_of("session_id")?)?;
    let thread = value.text_of("thread_id");
    let thread = thread.and_then(|thread| checked(&thread));
    ids.agent_id = thread.filter(|thread| *thread != ids.session);
    Some(ids)
}

/// A child has a session of its own, and names that of its parent.
fn opencode_fields(fields: &Fields<'_>) -> Option<Ids> {
    let own = [Field::OpencodeSession, Field::XSessionId]
        .into_iter()
        .find_map(|field| fields.text(field))?;
    let Some(parent) = fields.text(Field::ParentSession) else {
        return Ids::of_session(own);
    };
    let mut ids = Ids::of_session(parent)?;
    ids.agent_id = checked(own);
    Some(ids)
}

/// The `user_id` of Claude Code: `user_<hash>_account_<uuid>_session_<uuid>`, since 2.1 an object, or
/// one written as a text.
fn claude_user(value: Value<'_>) -> Option<Ids> {
    if value.is_object() {
        return Ids::of_session(&value.text_of("session_id")?);
    }
    let text = value.text()?;
    if text.trim_start().starts_with('{') {
        return claude_user(Value::new(text.as_bytes()));
    }
    // With two of them nobody knows which one is meant.
    let (_, session) = text.split_once("_session_")?;
    match session.contains("_session_") {
        true => None,
        false => Ids::of_session(session),
    }
}
