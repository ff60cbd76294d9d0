//! Asks the handler about a request of an HTTP/2 client, and does what it says.

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
use crate::handler::{Answer, BodyView, Hold, Interests, RawRequest, Subject};
use crate::http2::responder::Unserved;
use crate::http2::stream::Asked;
use crate::translate::{Fault, RequestBody, heads};

/// What the handler wants of the request.
pub(super) fn wanted(asked: &Asked, subject: &Subject) -> Interests {
    let path = asked.parts.uri.path_and_query();
    let path = path.map_or("*", PathAndQuery::as_str);
    subject.wanted(&asked.to, asked.parts.method.as_str(), path)
}

/// Asks, and changes the request as the handler wants it.
pub(super) async fn ask(
    asked: &mut Asked,
    (subject, wanted): (&Subject, Interests),
    engine: &Engine,
) -> Result<(), Unserved> {
    let held = match wanted.request_bodies {
        true => hold_body(asked, subject, engine).await?,
        false => Bytes::new(),
    };
    let shown = shown(&asked.parts, &held, &asked.to, subject)?;
    let edit = match subject.ask(&shown).await {
        Answer::Pass => return Ok(()),
        Answer::Edit(edit) => edit,
        Answer::Respond(response, failure) => {
            return Err(Unserved::AnsweredByHandler(response, failure));
        }
        Answer::Fail(failure) => return Err(failure.into()),
    };
    // A request without a body can be given one: there is nothing on its way.
    let can_replace = match &asked.body {
        RequestBody::Held { .. } => true,
        RequestBody::Passing(stream) => has_body(&asked.parts) && stream.is_end_stream(),
    };
    edit.check(asked.parts.method.as_str(), can_replace)?;
    edit.http2_head(&mut asked.parts)?;
    if let Some(data) = edit.body {
        let trailers = None;
        asked.body = RequestBody::Held { data, trailers };
    }
    if let Some(upstream) = edit.upstream {
        let to = &asked.to;
        asked.to = Destination::redirected(upstream, to.scheme, &to.route, &to.connection, engine);
    }
    Ok(())
}

/// True if what follows the head is a body; what a WebSocket carries is none.
fn has_body(parts: &Parts) -> bool {
    parts.method != Method::CONNECT
}

/// Reads the body that the handler is to see, if it is to see one.
async fn hold_body(
    asked: &mut Asked,
    subject: &Subject,
    engine: &Engine,
) -> Result<Bytes, Unserved> {
    let limits = &subject.gate.limits;
    let stream = match &mut asked.body {
        RequestBody::Passing(stream)
            if limits.buffer_request_bodies
                && has_body(&asked.parts)
                && !stream.is_end_stream() =>
        {
            stream
        }
        _ => return Ok(Bytes::new()),
    };
    let room = asked.hold.insert(subject.gate.hold());
    let (bytes_max, idle) = (limits.body_bytes_max, engine.timeouts.idle_body);
    match read_whole(stream, bytes_max, idle, room).await {
        Ok((data, trailers)) => {
            let shown = data.clone();
            asked.body = RequestBody::Held { data, trailers };
            Ok(shown)
        }
        Err(fault) if fault.reason.is_some() => Err(Unserved::Abandoned(fault.failure)),
        Err(fault) => Err(fault.failure.into()),
    }
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
        BodyView::decoded(&request.headers, payload.clone(), false, bytes_max);
    Ok(request)
}

/// Reads a body to its end, at most `bytes_max` octets of it, with pauses of at most `idle`.
async fn read_whole(
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
