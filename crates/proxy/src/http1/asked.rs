//! One request of a client that speaks HTTP/1.1: whom it wants, how it asks there, and what is
//! written to say so.

use std::borrow::Cow;
use std::sync::Arc;

use traffic::wire::websocket::handshake::{self, Upgrade};
use traffic::{Failure, FailureKind, Front, Scheme, Side, Stage, Target, Version};

use crate::admission::Login;
use crate::connection::{Engine, Inside};
use crate::destination::{Destination, FrontFacts, Scope};
use crate::error;
use crate::gateway::{self, Told};
use crate::handler::Hold;
use crate::hops::Hops;
use crate::http1::connection::Http1;
use crate::http1::head::{self, BodyLength, Replaced, RequestHead};
use crate::http1::hold::Held;
use crate::max_forwards::{self, MaxForwards};
use crate::translate;
use crate::upstream::Forwarded;

/// Where one request goes, and how it asks there.
pub(super) struct Plan {
    pub(super) to: Arc<Destination>,
    /// The path and query to ask for, as octets of the head.
    path: std::ops::Range<usize>,
    /// Path to ask for where the client named none.
    bare: bool,
    /// Replaces the Host field (RFC 9112 section 3.2.2).
    host: Option<String>,
}

/// One request and where it goes.
pub(super) struct Asked {
    pub(super) request: RequestHead,
    pub(super) bytes: Vec<u8>,
    pub(super) plan: Plan,
    /// By what the client was admitted, where it had to say who it is.
    pub(super) login: Option<Arc<Login>>,
    /// Of a body that was held; it stays until the request is done.
    pub(super) hold: Option<Hold>,
}

pub(super) fn connect_target(
    scope: &Scope,
    request: &RequestHead,
    bytes: &[u8],
) -> Result<Target, Failure> {
    if matches!(scope, Scope::Inside(_)) {
        return Err(error::failure(
            Side::Oriel,
            Stage::Front,
            FailureKind::Unsupported,
            "CONNECT inside an intercepted connection is not supported",
        ));
    }
    if !matches!(request.body, BodyLength::None | BodyLength::Exactly(0)) {
        return Err(malformed("a CONNECT request has no body"));
    }
    let target = utf8(bytes, request.target.clone())?;
    Target::parse_with_port(target)
        .map_err(|error| malformed(format!("CONNECT to {target:?}: {error}")))
}

/// Finds where the request goes and what decided it. A fragment is of no form of request target (RFC
/// 9112 section 3.2): what stands before it would be taken for another target than with it.
pub(super) fn plan(
    scope: &Scope,
    request: &RequestHead,
    bytes: &[u8],
    by: (Option<&Login>, &Engine),
) -> Result<Plan, Failure> {
    let target = utf8(bytes, request.target.clone())?;
    if target.contains('#') {
        return Err(malformed("the request target has a fragment"));
    }
    match scope {
        Scope::Inside(inside) => plan_inside(inside, request, target),
        Scope::Front(facts) => plan_front(facts, request, bytes, target, by),
    }
}

fn plan_inside(inside: &Arc<Inside>, request: &RequestHead, target: &str) -> Result<Plan, Failure> {
    let (path, host) = match Absolute::split(target)? {
        None => (request.target.clone(), None),
        Some(absolute) => {
            let asked = absolute.target()?;
            let is_other = asked != *inside.to.target || absolute.scheme != inside.to.scheme;
            // At a reverse listener it is oriel that the client names.
            if is_other && !inside.reverse {
                return Err(malformed(format!(
                    "the request asks for {asked} on a connection to {}",
                    inside.to.target
                )));
            }
            (
                absolute.path_within(&request.target),
                Some(absolute.authority.to_owned()),
            )
        }
    };
    let host = match host {
        Some(host) if !inside.reverse => Some(host),
        // HTTP/1.0 can do without one (RFC 9112 section 3.2).
        None if !inside.reverse && request.host.is_some() => None,
        _ => Some(inside.to.target.authority(inside.to.scheme)),
    };
    Ok(Plan {
        to: Arc::clone(&inside.to),
        bare: path.is_empty(),
        path,
        host,
    })
}

fn plan_front(
    facts: &FrontFacts,
    request: &RequestHead,
    bytes: &[u8],
    target: &str,
    (login, engine): (Option<&Login>, &Engine),
) -> Result<Plan, Failure> {
    let (scheme, asked, path, host, connection) = match Absolute::split(target)? {
        Some(absolute) => (
            absolute.scheme,
            absolute.target()?,
            absolute.path_within(&request.target),
            Some(absolute.authority.to_owned()),
            facts.of(Front::AbsoluteForm, login),
        ),
        None => {
            let host = request.host.and_then(|at| request.lines.get(at));
            let host = host.ok_or_else(|| malformed("the request names no host"))?;
            let host = utf8(bytes, host.value.clone())?;
            let asked = Target::parse(host, Scheme::Http.default_port())
                .map_err(|error| malformed(format!("the Host field {host:?}: {error}")))?;
            (
                Scheme::Http,
                asked,
                request.target.clone(),
                None,
                facts.of(Front::OriginForm, login),
            )
        }
    };
    Ok(Plan {
        to: Destination::named(asked, scheme, &connection, engine),
        bare: path.is_empty(),
        path,
        host,
    })
}

/// A request target in absolute form.
struct Absolute<'a> {
    scheme: Scheme,
    authority: &'a str,
    path: &'a str,
}

impl<'a> Absolute<'a> {
    /// `None` for the other forms.
    fn split(target: &'a str) -> Result<Option<Self>, Failure> {
        if target.starts_with('/') || target == "*" {
            return Ok(None);
        }
        let Some((scheme, rest)) = target.split_once("://") else {
            return Err(malformed("the request target is neither a path nor a URL"));
        };
        let scheme = if scheme.eq_ignore_ascii_case("http") {
            Scheme::Http
        } else if scheme.eq_ignore_ascii_case("https") {
            Scheme::Https
        } else {
            return Err(malformed(format!(
                "the scheme {scheme:?} is not http or https"
            )));
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        Ok(Some(Self {
            scheme,
            authority,
            path,
        }))
    }

    fn target(&self) -> Result<Target, Failure> {
        Target::parse(self.authority, self.scheme.default_port())
            .map_err(|error| malformed(format!("the URL's host {:?}: {error}", self.authority)))
    }

    /// Where the path stands, given where the whole target stands.
    fn path_within(&self, target: &std::ops::Range<usize>) -> std::ops::Range<usize> {
        target.end - self.path.len()..target.end
    }
}

impl Asked {
    /// The request in the terms of the translation.
    pub(super) fn message(
        &self,
        forwards: Option<MaxForwards>,
        repeated: bool,
    ) -> translate::Http1Request<'_> {
        translate::Http1Request {
            head: &self.request,
            bytes: &self.bytes,
            path: self.path_text().into_owned(),
            forwards,
            repeated,
            host: self.plan.host.as_deref(),
            target: &self.plan.to.target,
            scheme: self.plan.to.scheme,
            upgrade: None,
        }
    }

    pub(super) fn method(&self) -> &[u8] {
        let method = self.bytes.get(self.request.method.clone());
        method.unwrap_or_default()
    }

    pub(super) fn method_text(&self) -> Cow<'_, str> {
        text(self.method())
    }

    /// The path and query as they came; not always what is asked for.
    pub(super) fn path(&self) -> &[u8] {
        let path = self.bytes.get(self.plan.path.clone());
        path.unwrap_or_default()
    }

    /// The path and query to ask for.
    pub(super) fn path_text(&self) -> Cow<'_, str> {
        self.plan.path_text(&self.bytes)
    }

    /// The lines of all fields, as they came.
    pub(super) fn field_lines(&self) -> &[u8] {
        let first = self.request.lines.first();
        let lines = first.and_then(|first| self.bytes.get(first.start..));
        lines.unwrap_or_default()
    }

    pub(super) fn has_body(&self) -> bool {
        !matches!(self.request.body, BodyLength::None | BodyLength::Exactly(0))
    }

    /// Turns the request to a gateway, where a route says so.
    pub(super) fn reroute(&mut self, engine: &Engine) -> Result<Option<Told>, Failure> {
        if engine.gateways.is_empty() {
            return Ok(None);
        }
        let method = utf8(&self.bytes, self.request.method.clone())?;
        let path = self.path_text().into_owned();
        let to = &self.plan.to;
        let Some(rerouted) = gateway::reroute(to, method, &path, self.login.as_deref(), engine)?
        else {
            return Ok(None);
        };
        let bytes = rerouted.edit.http1_head(&self.request, &self.bytes, &path);
        let request = head::parse_request(&bytes, Vec::new())
            .map_err(|error| error::bad_head(Side::Client, Stage::Front, error))?;
        self.replace(request, bytes);
        self.plan.to = rerouted.to;
        self.plan.host = Some(rerouted.authority);
        Ok(Some(rerouted.told))
    }

    /// Another head in place of the one that came; it names a path.
    pub(super) fn replace(&mut self, request: RequestHead, bytes: Vec<u8>) {
        self.plan.path = request.target.clone();
        self.plan.bare = false;
        self.request = request;
        self.bytes = bytes;
    }

    /// Drops a body that was held: the request goes nowhere, and the next one can follow.
    pub(super) fn forget_body(&mut self, client: &mut Http1, held: Option<&Held>) {
        if let Some(held) = held {
            client.consume(held.raw);
            self.request.body = BodyLength::None;
        }
    }

    /// The WebSocket that it asks for. A request with a body asks for none: where its body ends
    /// and the WebSocket begins could be understood in two ways.
    pub(super) fn upgrade(&self) -> Option<handshake::Asked> {
        let Self { request, bytes, .. } = self;
        if request.upgrade.is_none() || request.version != Version::Http11 || self.has_body() {
            return None;
        }
        let method = bytes.get(request.method.clone())?;
        match handshake::read_upgrade(method, head::fields(&request.lines, bytes)) {
            Upgrade::WebSocket(asked) => Some(asked),
            Upgrade::No | Upgrade::Flawed(_) => None,
        }
    }

    pub(super) fn max_forwards(&self) -> Option<MaxForwards> {
        let line = self.request.lines.get(self.request.max_forwards?)?;
        let method = self.bytes.get(self.request.method.clone())?;
        max_forwards::read(method, self.bytes.get(line.value.clone())?)
    }

    /// Whether another request may follow one that was not sent on: what follows an unread body
    /// cannot be found.
    pub(super) fn stays(&self) -> bool {
        self.request.keep_alive && self.request.body == BodyLength::None
    }

    pub(super) fn is_head(&self) -> bool {
        self.bytes.get(self.request.method.clone()) == Some(b"HEAD")
    }

    /// True if sending it twice does no more than sending it once (RFC 9110 section 9.2.1).
    pub(super) fn may_be_repeated(&self) -> bool {
        let method = self.bytes.get(self.request.method.clone());
        self.request.body == BodyLength::None
            && matches!(method, Some(b"GET" | b"HEAD" | b"OPTIONS"))
    }
}

impl Asked {
    /// Why a request is not sent that was sent from here before.
    pub(super) fn comes_back(&self, engine: &Engine) -> Option<Failure> {
        // What goes to its target comes back to nobody.
        self.plan.to.upstream.forwarded.as_ref()?;
        let hops = Hops::of_plain(&self.bytes);
        engine.upstreams.refuse_return(&hops, &self.plan.to.target)
    }
}

impl Plan {
    /// The path and query to ask for.
    fn path_text<'b>(&self, bytes: &'b [u8]) -> Cow<'b, str> {
        let path = text(bytes.get(self.path.clone()).unwrap_or_default());
        match path.starts_with(['/', '*']) {
            true => path,
            false => format!("/{path}").into(),
        }
    }
}

pub(super) fn write_head(asked: &Asked, forwarded: Option<&Forwarded>, out: &mut Vec<u8>) {
    let Asked {
        request,
        bytes,
        plan,
        ..
    } = asked;
    let part = |range: std::ops::Range<usize>| bytes.get(range).unwrap_or_default();
    let path = part(plan.path.clone());
    // `OPTIONS http://host` asks about the server as a whole (RFC 9112 section 3.2.4).
    let is_options = part(request.method.clone()) == b"OPTIONS";
    let about_all = is_options && (plan.bare || path == b"*");
    let (missing, path): (&[u8], _) = match (plan.bare, about_all, forwarded) {
        (_, true, None) => (b"*", &b""[..]),
        (_, true, Some(_)) => (b"", &b""[..]),
        (true, false, _) => (b"/", path),
        (false, false, _) if path.starts_with(b"?") => (b"/", path),
        (false, false, _) => (b"", path),
    };
    let start = [
        part(request.method.clone()),
        b" ",
        forwarded.map_or(&b""[..], |forwarded| forwarded.origin.as_bytes()),
        missing,
        path,
        b" HTTP/1.1\r\n",
    ];
    let host = plan.host.as_deref().map(str::as_bytes);
    let forwards = match asked.max_forwards() {
        Some(MaxForwards::Forward(left)) => Some(left.to_string()),
        Some(MaxForwards::Answer(_)) | None => None,
    };
    let replaced = Replaced {
        host,
        max_forwards: forwards.as_deref().map(str::as_bytes),
    };
    head::write_request(request, bytes, &start, replaced, out);
    if let Some(host) = host
        && request.host.is_none()
    {
        out.extend_from_slice(b"Host: ");
        out.extend_from_slice(host);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(forwarded) = forwarded {
        forwarded.write_own_lines(&Hops::of_plain(bytes), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Octets as text. Nearly all are, which is found out sooner than where in them something is
/// none.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

fn utf8(bytes: &[u8], range: std::ops::Range<usize>) -> Result<&str, Failure> {
    std::str::from_utf8(bytes.get(range).unwrap_or_default())
        .map_err(|_error| malformed("the request target or Host field is not UTF-8"))
}

fn malformed(text: impl Into<String>) -> Failure {
    error::failure(Side::Client, Stage::Front, FailureKind::Malformed, text)
}
