//! Asks the handler about a request of an HTTP/2 client, and does what it says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request};
use traffic::{Failure, FailureKind, Side, Stage};

use crate::connection::Engine;
use crate::destination::Destination;
use crate::error;
use crate::governor;
use crate::handler::{Answer, BodyView, Hold, LocalResponse, RawRequest, Subject};
use crate::translate::{Fault, RequestBody, heads};

/// What becomes of a request.
pub(super) enum Verdict {
    /// It goes on, perhaps changed.
    Pass(Box<Passed>),
    /// It is answered here; with a failure if it is because it is not allowed.
    Respond(Box<LocalResponse>, Option<Box<Failure>>),
    /// It cannot go on.
    Refuse(Failure),
    /// The client has lost interest.
    Abandoned(Failure),
}

/// A request that goes on.
pub(super) struct Passed {
    pub(super) parts: Parts,
    pub(super) body: RequestBody,
    /// Of a body that was held; it stays until the request is done.
    pub(super) hold: Option<Hold>,
}

/// Asks, and changes the request as the handler wants it.
pub(super) async fn ask(
    passed: Passed,
    to: &mut Arc<Destination>,
    subject: &Subject,
    engine: &Engine,
) -> Verdict {
    let Passed {
        mut parts,
        mut body,
        hold: mut room,
    } = passed;
    let limits = &subject.gate.limits;
    let mut payload = Bytes::new();
    // What a WebSocket carries is no body.
    let has_body = parts.method != Method::CONNECT;
    if limits.buffer_request_bodies
        && has_body
        && let RequestBody::Passing(stream) = &mut body
        && !stream.is_end_stream()
    {
        let room = room.insert(subject.gate.hold());
        let (bytes_max, idle) = (limits.body_bytes_max, engine.timeouts.idle_body);
        match hold(stream, bytes_max, idle, room).await {
            Ok((data, trailers)) => {
                payload = data.clone();
                body = RequestBody::Held { data, trailers };
            }
            Err(fault) if fault.reason.is_some() => return Verdict::Abandoned(fault.failure),
            Err(fault) => return Verdict::Refuse(fault.failure),
        }
    }
    let shown = match shown(&parts, &payload, to, subject) {
        Ok(shown) => shown,
        Err(failure) => return Verdict::Refuse(failure),
    };
    let edit = match subject.gate.request(subject.key, &shown).await {
        Answer::Pass => {
            let hold = room;
            return Verdict::Pass(Box::new(Passed { parts, body, hold }));
        }
        Answer::Edit(edit) => edit,
        Answer::Respond(response, failure) => return Verdict::Respond(response, failure),
        Answer::Fail(failure) => return Verdict::Refuse(failure),
    };
    // A request without a body can be given one: there is nothing on its way.
    let can_replace = match &body {
        RequestBody::Held { .. } => true,
        RequestBody::Passing(stream) => has_body && stream.is_end_stream(),
    };
    let edited = edit
        .check(can_replace)
        .and_then(|()| edit.http2_head(&mut parts));
    if let Err(failure) = edited {
        return Verdict::Refuse(failure);
    }
    if let Some(data) = edit.body {
        let trailers = None;
        body = RequestBody::Held { data, trailers };
    }
    if let Some(upstream) = edit.upstream {
        *to = Destination::redirected(upstream, to.scheme, &to.route, &to.connection, engine);
    }
    let hold = room;
    Verdict::Pass(Box::new(Passed { parts, body, hold }))
}

fn shown(
    parts: &Parts,
    payload: &Bytes,
    to: &Destination,
    subject: &Subject,
) -> Result<RawRequest, Failure> {
    let mut head = Request::new(());
    *head.method_mut() = parts.method.clone();
    *head.uri_mut() = parts.uri.clone();
    *head.headers_mut() = parts.headers.clone();
    let (parts, ()) = head.into_parts();
    let (parts, ()) = heads::for_upstream(parts, &to.target, to.scheme)?.into_parts();
    let path = parts.uri.path_and_query();
    let path = path.map_or("*", PathAndQuery::as_str).to_owned();
    let mut request = RawRequest::new(parts.method.as_str(), path, parts.headers, to, subject);
    let bytes_max = subject.gate.limits.body_bytes_max;
    (request.body, request.body_view) =
        BodyView::decoded(&request.headers, payload, false, bytes_max);
    Ok(request)
}

/// Reads a body to its end, at most `bytes_max` octets of it, with pauses of at most `idle`.
async fn hold(
    body: &mut RecvStream,
    bytes_max: usize,
    idle: Duration,
    room: &mut Hold,
) -> Result<(Bytes, Option<HeaderMap>), Fault> {
    let fault = |error| Fault::from_h2(Side::Client, Stage::Request, &error);
    let stalled = |_elapsed| {
        let what = "sent nothing of the body for too long";
        Fault::from(error::timed_out(Side::Client, Stage::Request, what))
    };
    let mut whole = Vec::new();
    loop {
        let data = tokio::time::timeout(idle, body.data())
            .await
            .map_err(stalled)?;
        let Some(data) = data else { break };
        let data = data.map_err(fault)?;
        if whole.len() + data.len() > bytes_max {
            let text =
                format!("the request body is larger than the {bytes_max} bytes that may be held");
            let (kind, stage) = (FailureKind::TooLarge, Stage::Request);
            return Err(error::failure(Side::Client, stage, kind, text).into());
        }
        if !room.grow(data.len()) {
            return Err(governor::no_room().into());
        }
        whole.extend_from_slice(&data);
        body.flow_control()
            .release_capacity(data.len())
            .map_err(fault)?;
    }
    let trailers = tokio::time::timeout(idle, body.trailers())
        .await
        .map_err(stalled)?;
    Ok((whole.into(), trailers.map_err(fault)?))
}
