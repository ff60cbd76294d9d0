//! Asks the handler about a request of an HTTP/1 client, and does what it says.

use bytes::BytesMut;
use traffic::{Failure, FailureKind, Side, Stage};

use crate::connection::Engine;
use crate::destination::Destination;
use crate::error;
use crate::handler::{Answer, Interests, LocalResponse, Subject};
use crate::http1::asked::Asked;
use crate::http1::connection::Http1;
use crate::http1::head;
use crate::http1::hold;
use crate::http1::shown::Shown;

/// What becomes of a request.
pub(super) enum Verdict {
    /// It goes on, perhaps changed.
    Pass,
    /// It is answered here; with a failure if it is because it is not allowed.
    Respond(Box<LocalResponse>, Option<Box<Failure>>),
    /// It cannot go on.
    Refuse(Failure),
}

/// What the handler wants of the request.
pub(super) fn wanted(asked: &Asked, subject: &Subject) -> Interests {
    subject.wanted(&asked.plan.to, &asked.method_text(), &asked.path_text())
}

/// Asks, and changes the request as the handler wants it.
pub(super) async fn ask(
    client: &mut Http1,
    asked: &mut Asked,
    shown: &mut Shown,
    (subject, wanted): (&Subject, Interests),
    engine: &Engine,
) -> Verdict {
    let limits = &subject.gate.limits;
    let holds = limits.buffer_request_bodies && wanted.request_bodies;
    let held = match holds && asked.has_body() {
        true => {
            let idle = engine.timeouts.idle_body;
            let bytes_max = limits.body_bytes_max;
            let room = asked.hold.insert(subject.gate.hold());
            match hold::hold(client, &asked.request, bytes_max, idle, room).await {
                Ok(held) => Some(held),
                Err(failure) => return Verdict::Refuse(failure),
            }
        }
        false => None,
    };
    let request = match shown.show(asked, held.as_ref(), subject) {
        Ok(request) => request,
        Err(failure) => return Verdict::Refuse(failure),
    };
    let answer = subject.ask(request).await;
    shown.rest(asked);
    let edit = match answer {
        Answer::Pass => return Verdict::Pass,
        Answer::Edit(edit) => edit,
        Answer::Respond(response, failure) => {
            asked.forget_body(client, held.as_ref());
            return Verdict::Respond(response, failure);
        }
        Answer::Fail(failure) => {
            asked.forget_body(client, held.as_ref());
            return Verdict::Refuse(failure);
        }
    };
    // A request without a body can be given one: there is nothing on its way.
    let can_replace = held.is_some() || !asked.has_body();
    if let Err(failure) = edit.check(&asked.method_text(), can_replace) {
        return Verdict::Refuse(failure);
    }
    if edit.changes_head() {
        let path = asked.path_text();
        let bytes = edit.http1_head(&asked.request, &asked.bytes, &path);
        match head::parse_request(&bytes, Vec::new()) {
            Ok(request) => asked.replace(request, bytes),
            Err(error) => {
                let text = format!("the edit of the handler makes no request: {error}");
                let kind = FailureKind::HandlerFailed;
                return Verdict::Refuse(error::failure(Side::Oriel, Stage::Route, kind, text));
            }
        }
    }
    if let Some(body) = &edit.body {
        let rest = client.input.split_off(held.map_or(0, |held| held.raw));
        let mut input = BytesMut::with_capacity(body.len() + rest.len());
        input.extend_from_slice(body);
        input.extend_from_slice(&rest);
        client.input = input;
    }
    if let Some(upstream) = edit.upstream {
        let to = &asked.plan.to;
        asked.plan.to =
            Destination::redirected(upstream, to.scheme, &to.route, &to.connection, engine);
    }
    Verdict::Pass
}
