//! The one entrance: what a request is, and whose.

use std::borrow::Cow;

use traffic::rules::pattern::HostPatterns;
use traffic::{FlowKind, Head, Target};

use crate::agent::agent_of;
use crate::fields::Fields;
use crate::identity::BodySays;
use crate::json::Value;
use crate::limits::{BODY_BYTES_MAX, RESPONSE_ID_WITHIN, SHAPE_BYTES_MAX};
use crate::path::PathSays;
use crate::{
    Body, Conversation, Glance, HostClass, Identity, Link, Method, TrafficType, identity, mcp,
};

/// Tells what requests are. It remembers nothing of them.
#[derive(Clone, Debug, Default)]
pub struct Interpreter {
    /// Hosts where models are asked, besides those that are known.
    llm_hosts: HostPatterns,
    messages: mcp::Messages,
}

/// A request as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What the flow is.
    pub kind: FlowKind,
    /// The method.
    pub method: &'a str,
    /// The path of the URL without its query; empty for a tunnel.
    pub path: &'a str,
    /// Value of the content-type field.
    pub content_type: Option<&'a str>,
    /// The head.
    pub head: &'a Head,
    /// A glance at it.
    pub glance: Glance,
    /// The body.
    pub body: Body<'a>,
}

/// What a request is, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// What it is for.
    pub traffic_type: TrafficType,
    /// Its session; looked for in calls of models and of tool servers only.
    pub identity: Option<Identity>,
    /// What it may be linked by; likewise.
    pub links: Vec<Link>,
    /// The program that asks, where it is known; likewise.
    pub agent: Option<&'static str>,
    /// What was said so far; read only if nothing names the session.
    pub conversation: Option<Conversation>,
}

impl Interpreter {
    /// With hosts where models are asked, besides those that are known.
    #[must_use]
    pub fn new(llm_hosts: HostPatterns) -> Self {
        Self {
            llm_hosts,
            messages: mcp::Messages::default(),
        }
    }

    /// What a host tells; worth remembering.
    #[must_use]
    pub fn host_class(&self, target: &Target) -> HostClass {
        match self.llm_hosts.matches(target) {
            Some(_) => HostClass::Model,
            None => HostClass::of(target),
        }
    }

    /// What a request to a host of this class is, and whose.
    #[must_use]
    pub fn interpret(&self, host: HostClass, request: &Request<'_>) -> Meaning {
        let traffic_type = self.classify(host, request);
        let mut meaning = Meaning {
            traffic_type,
            identity: None,
            links: Vec::new(),
            agent: None,
            conversation: None,
        };
        if !matches!(traffic_type, TrafficType::Llm | TrafficType::Mcp)
            || request.kind == FlowKind::Tunnel
        {
            return meaning;
        }
        let fields = Fields::read(request.head);
        meaning.links = identity::links(&fields);
        meaning.agent = agent_of(&fields);
        meaning.read_identity(&fields, request);
        meaning
    }

    /// The id that an answer of OpenAI's Responses API has, by which later requests go on from it.
    #[must_use]
    pub fn response_id(&self, response: &Head, body: Body<'_>) -> Option<Link> {
        let encodings = response.field("content-encoding").unwrap_or_default();
        let start = body.read(encodings, RESPONSE_ID_WITHIN);
        let id = identity::response_id(&start)?;
        Some(Link {
            method: Method::PreviousResponse,
            id,
        })
    }

    /// The session that a tool server gave its client, by the head of the response.
    #[must_use]
    pub fn session_begun(&self, response: &Head) -> Option<Identity> {
        identity::from_mcp_fields(&Fields::read(response))
    }

    /// What a request to a host of this class is for.
    #[must_use]
    pub fn classify(&self, host: HostClass, request: &Request<'_>) -> TrafficType {
        if host == HostClass::Model {
            return TrafficType::Llm;
        }
        if request.kind == FlowKind::Tunnel {
            return match host {
                HostClass::Loopback => TrafficType::Other,
                _ => TrafficType::Unknown,
            };
        }
        let path = PathSays::of(request.path);
        let below_openai = request.path.strip_prefix("/openai");
        let is_azure = host == HostClass::AzureOpenai
            && below_openai.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_azure || asks_model(path, request) {
            return TrafficType::Llm;
        }
        if request.glance.is_mcp || self.calls_tool_server(request) {
            return TrafficType::Mcp;
        }
        let is_named_so = host == HostClass::McpByName || path == PathSays::Mcp;
        if is_named_so && !wants_page(request.head) {
            return TrafficType::Mcp;
        }
        match host {
            HostClass::Loopback => TrafficType::Other,
            _ => TrafficType::Web,
        }
    }

    /// Whether the body is a call by JSON-RPC.
    fn calls_tool_server(&self, request: &Request<'_>) -> bool {
        if request.method != "POST" || !is_json(request) || request.body.is_empty() {
            return false;
        }
        let body = read_body(request, SHAPE_BYTES_MAX);
        self.messages.has_call(&body)
    }
}

/// Whether path and body together are those of a model's API.
fn asks_model(path: PathSays, request: &Request<'_>) -> bool {
    match path {
        PathSays::Model => true,
        PathSays::LikelyModel => {
            let is_read = matches!(request.method, "GET" | "HEAD" | "DELETE" | "OPTIONS");
            if is_read || request.body.is_empty() {
                return true;
            }
            is_json(request) && model_in(request) != Some(false)
        }
        PathSays::PossiblyModel => is_json(request) && model_in(request) == Some(true),
        PathSays::Mcp | PathSays::Nothing => false,
    }
}

/// Whether the body names a model and what it is asked; `None` if that cannot be said.
fn model_in(request: &Request<'_>) -> Option<bool> {
    let text = read_body(request, SHAPE_BYTES_MAX);
    let (mut model, mut question) = (false, false);
    for (name, value) in Value::new(&text).members() {
        match name {
            b"model" => model |= value.is_text(),
            b"messages" | b"input" | b"prompt" | b"contents" | b"documents" => question = true,
            _ => {}
        }
        if model && question {
            return Some(true);
        }
    }
    let is_all = !request.body.cut && text.len() < SHAPE_BYTES_MAX;
    is_all.then_some(false)
}

impl Meaning {
    /// Reads whose it is: what the fields say, then the body, then what programs pass on.
    fn read_identity(&mut self, fields: &Fields<'_>, request: &Request<'_>) {
        self.identity = identity::from_fields(fields);
        if self.identity.is_some() {
            return;
        }
        if self.traffic_type == TrafficType::Mcp {
            self.read_call(fields, request);
            return;
        }
        if !request.body.is_empty() && is_json(request) {
            let body = read_body(request, BODY_BYTES_MAX);
            let is_whole = !request.body.cut && body.len() < BODY_BYTES_MAX;
            self.read_body(identity::from_body(fields, &body), is_whole);
        }
        if self.identity.is_none() {
            self.identity = identity::from_baggage(fields);
        }
    }

    /// Reads whose a call of a tool server is: the baggage is the agent's, the session of the protocol
    /// one for each server.
    fn read_call(&mut self, fields: &Fields<'_>, request: &Request<'_>) {
        let (mut said, mut link) = (identity::from_baggage(fields), None);
        if !request.body.is_empty() && is_json(request) {
            let body = read_body(request, SHAPE_BYTES_MAX);
            let (in_body, trace) = identity::from_mcp_body(fields, &body);
            said = said.or(in_body);
            link = trace;
        }
        let is_new = |link: &Link| self.links.iter().all(|known| known != link);
        if let Some(link) = link.filter(is_new) {
            self.links.push(link);
        }
        self.identity = said.or_else(|| identity::from_mcp_fields(fields));
    }

    fn read_body(&mut self, says: BodySays<'_>, is_whole: bool) {
        self.identity = says.identity;
        if self.identity.is_some() {
            return;
        }
        self.links.extend(says.previous_response.map(|id| Link {
            method: Method::PreviousResponse,
            id,
        }));
        if is_whole {
            self.conversation = says.messages.and_then(Conversation::read);
        }
    }
}

/// At most so many bytes of the body, decoded as far as it can be.
fn read_body<'a>(request: &Request<'a>, bytes_max: usize) -> Cow<'a, [u8]> {
    let encodings = match request.glance.is_encoded {
        true => request.head.field("content-encoding").unwrap_or_default(),
        false => b"",
    };
    request.body.read(encodings, bytes_max)
}

/// Whether the body is JSON, or may be: not every client says so.
fn is_json(request: &Request<'_>) -> bool {
    request.content_type.is_none_or(|content_type| {
        if content_type == "application/json" {
            return true;
        }
        let media_type = content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        let media_type = media_type.as_bytes();
        let ends = |end: &[u8]| {
            let start = media_type.len().checked_sub(end.len());
            let tail = start.and_then(|start| media_type.get(start..));
            tail.is_some_and(|tail| tail.eq_ignore_ascii_case(end))
        };
        ends(b"/json") || ends(b"+json")
    })
}

/// Whether a browser asks for something to show.
fn wants_page(head: &Head) -> bool {
    let accept = head.field("accept").unwrap_or_default();
    accept
        .trim_ascii()
        .to_ascii_lowercase()
        .starts_with(b"text/html")
}

#[cfg(test)]
mod tests;
