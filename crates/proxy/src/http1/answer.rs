//! What a client that speaks HTTP/1.1 is answered by us, and what becomes of its connection then.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use traffic::{Failure, FailureKind, Head, Side, Stage, Target, Version};

use crate::error;
use crate::handler::LocalResponse;
use crate::http1::asked::Asked;
use crate::http1::connection::{Http1, ReadError};
use crate::http1::relay::{Broken, Reuse};
use crate::limits::LINGER;
use crate::max_forwards;
use crate::refuse::Refusal;
use crate::tap::Flow;

/// How a request ended for the client's connection.
pub(super) enum Next {
    /// The next request may come.
    Request,
    /// It is closed in order.
    Close,
    /// It ends where it is: closing it in order would pass for a whole message.
    Cut,
}

/// Answers what is no request, where there is something to answer.
pub(super) async fn refuse_unread(mut client: Http1, error: ReadError) {
    let (failure, status) = match error {
        ReadError::Closed | ReadError::Broken | ReadError::TimedOut(0) => return,
        ReadError::TimedOut(_) => {
            let what = "did not finish the request head in time";
            (error::timed_out(Side::Client, Stage::Front, what), 408)
        }
        ReadError::Head(error) => (
            error::bad_head(Side::Client, Stage::Front, error),
            error.status(),
        ),
    };
    tracing::debug!(%failure.text, "refused a request");
    Refusal::with_status(&failure, None, status).write(false, true, &mut client.output);
    client.close(LINGER).await;
}

pub(super) async fn refuse_early(mut client: Http1, failure: &Failure, target: Option<&Target>) {
    tracing::debug!(%failure.text, "refused a request");
    Refusal::new(failure, target).write(false, true, &mut client.output);
    client.close(LINGER).await;
}

/// Ends a flow that went well.
pub(super) fn finish(client: &mut Http1, asked: Asked, flow: Flow<'_>, reuse: Reuse) -> Next {
    flow.complete();
    if reuse.until_close {
        client.reset_on_drop(false);
    }
    client.reuse(asked.bytes, asked.request.lines);
    if reuse.client {
        Next::Request
    } else {
        Next::Close
    }
}

/// Ends a flow that broke off: with a reply of ours if the client has seen nothing yet, otherwise
/// by cutting its connection.
pub(super) async fn broken_off(
    client: &mut Http1,
    asked: &Asked,
    flow: Flow<'_>,
    broken: Broken,
    stall: Duration,
) -> Next {
    let client_left = broken.failure.side == Side::Client
        && !matches!(
            broken.failure.kind,
            FailureKind::Malformed | FailureKind::TimedOut
        );
    if client_left {
        // One that only ended its side may still read: the end must not pass for the body's.
        if broken.responded && broken.until_close {
            client.reset_on_drop(true);
        }
        flow.fail(broken.failure, None);
        return Next::Cut;
    }
    if broken.responded {
        flow.fail(broken.failure, None);
        // What came before the break still belongs to the client.
        let _written = client.drain(LINGER).await;
        if broken.until_close {
            client.reset_on_drop(true);
        }
        return Next::Cut;
    }
    let refusal = Refusal::new(&broken.failure, Some(&asked.plan.to.target));
    refusal.write(false, !asked.is_head(), &mut client.output);
    // Who is gone is not told.
    let _told = client.drain_steadily(stall, true).await;
    flow.fail(broken.failure, Some(refusal.status));
    Next::Close
}

/// Answers a request that was not sent on.
pub(super) async fn answer(
    client: &mut Http1,
    asked: &Asked,
    flow: Flow<'_>,
    failure: Failure,
    stall: Duration,
) -> Next {
    let refusal = Refusal::new(&failure, Some(&asked.plan.to.target));
    refusal.write(asked.stays(), !asked.is_head(), &mut client.output);
    let drained = drain(client, asked, stall).await;
    flow.fail(failure, Some(refusal.status));
    drained.unwrap_or(Next::Cut)
}

/// Answers a request as the handler wants it.
pub(super) async fn respond(
    client: &mut Http1,
    asked: &Asked,
    flow: Flow<'_>,
    (response, failure): (&LocalResponse, Option<Box<Failure>>),
    stall: Duration,
) -> Next {
    let (text, body) = write_local(client, asked, response);
    let failure = failure.map(|failure| (failure, response.status));
    end_answered(client, asked, flow, (text, &body), failure, stall).await
}

/// Reports an answer that was made here and written, sends it and ends the flow: with this failure, if
/// it was answered because of one.
async fn end_answered(
    client: &mut Http1,
    asked: &Asked,
    mut flow: Flow<'_>,
    (text, body): (Vec<u8>, &Bytes),
    failure: Option<(Box<Failure>, u16)>,
    stall: Duration,
) -> Next {
    flow.response_started(|_| Head {
        version: Version::Http11,
        text: text.into(),
    });
    flow.response_bytes(body);
    let drained = drain(client, asked, stall).await;
    if drained.is_ok() {
        flow.response_ended(None);
    }
    match (&drained, failure) {
        (_, Some((failure, status))) => flow.fail(*failure, Some(status)),
        (Ok(_), None) => flow.complete(),
        (Err(error), None) => flow.fail(not_taken(error), None),
    }
    drained.unwrap_or(Next::Cut)
}

/// Why a client did not take the whole of an answer that was made here.
fn not_taken(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::TimedOut {
        let what = "took nothing of the answer for too long";
        return error::timed_out(Side::Client, Stage::Response, what);
    }
    error::broken(Side::Client, Stage::Response, error)
}

/// Writes an answer that was made here, and gives its head and its body.
pub(super) fn write_local(
    client: &mut Http1,
    asked: &Asked,
    response: &LocalResponse,
) -> (Vec<u8>, Bytes) {
    let text = response.http1_head(asked.stays());
    let body = response.payload(asked.is_head());
    client.output.extend_from_slice(&text);
    client.output.extend_from_slice(&body);
    (text, body)
}

/// Sends what was written in answer to a request that was not sent on. The client has to take some
/// of it within each `stall`.
pub(super) async fn drain(client: &mut Http1, asked: &Asked, stall: Duration) -> io::Result<Next> {
    let stays = asked.stays();
    client.drain_steadily(stall, !stays).await?;
    Ok(match stays {
        true => Next::Request,
        false => Next::Close,
    })
}

/// Answers a request that may go no further (RFC 9110 section 7.6.2).
pub(super) async fn answer_for_upstream(
    client: &mut Http1,
    asked: &Asked,
    flow: Flow<'_>,
    what: max_forwards::Asked,
    stall: Duration,
) -> Next {
    let answer = max_forwards::Answer::new(what, &asked.bytes);
    let mut text = b"HTTP/1.1 200 OK\r\n".to_vec();
    for (name, value) in answer.fields() {
        text.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !asked.stays() {
        text.extend_from_slice(b"Connection: close\r\n");
    }
    text.extend_from_slice(b"\r\n");
    client.output.extend_from_slice(&text);
    client.output.extend_from_slice(&answer.body);
    let answered = (text, &answer.body);
    end_answered(client, asked, flow, answered, None, stall).await
}
