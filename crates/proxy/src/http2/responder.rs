//! Answers the streams of HTTP/2 clients where no upstream does, or not to the end.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{Method, Response, StatusCode};
use traffic::{Failure, FailureKind, Side, Stage, Target};

use crate::error;
use crate::handler::LocalResponse;
use crate::http2::client::from_h2;
use crate::http2::stream::StreamEnd;
use crate::max_forwards;
use crate::refuse::Refusal;
use crate::tap::Flow;
use crate::translate::{Broken, heads};

/// The means to answer a stream.
pub(super) struct Responder {
    pub(super) respond: SendResponse<Bytes>,
    /// An answer to HEAD has no body.
    is_head: bool,
}

/// Why a request has no whole answer of its upstream.
pub(super) enum Unserved {
    /// It cannot go on.
    Refused(Failure),
    /// The handler answers it; with a failure if it is because it is not allowed.
    AnsweredByHandler(Box<LocalResponse>, Option<Box<Failure>>),
    /// It may go no further (RFC 9110 section 7.6.2).
    AnsweredForUpstream(max_forwards::Answer),
    /// The client lost interest before it was sent.
    Abandoned(Failure),
    /// It broke off on its way.
    BrokenOff(Broken),
}

impl From<Failure> for Unserved {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl Responder {
    pub(super) fn new(respond: SendResponse<Bytes>, method: &Method) -> Self {
        let is_head = method == Method::HEAD;
        Self { respond, is_head }
    }

    /// Refuses what is no flow, or not yet.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut head = Response::builder().status(status);
        for (name, value) in refusal.fields() {
            head = head.header(name, value);
        }
        let body = match self.is_head {
            true => Bytes::new(),
            false => Bytes::from(refusal.body.clone()),
        };
        if let Ok(head) = head.body(()) {
            self.send(head, body);
        }
    }

    /// Answers with what was made here.
    pub(super) fn answer(&mut self, response: &LocalResponse) {
        self.send(response.http2_head(), response.payload(self.is_head));
    }

    /// Ends a flow that its upstream does not answer, or not to the end. Of an answer that is made here
    /// the client has to take some within each `stall`.
    ///
    /// Dropping it resets the stream.
    pub(super) async fn end(
        mut self,
        flow: Flow<'_>,
        why: Unserved,
        target: &Target,
        stall: Duration,
    ) -> StreamEnd {
        match why {
            Unserved::Refused(failure) => self.fail(flow, failure, target),
            Unserved::AnsweredByHandler(response, failure) => {
                let failure = failure.map(|failure| (failure, response.status));
                let answer = (response.http2_head(), response.payload(self.is_head));
                self.answer_flow(flow, answer, failure, stall).await;
            }
            Unserved::AnsweredForUpstream(answer) => {
                let mut head = Response::builder();
                for (name, value) in answer.fields() {
                    head = head.header(name, value);
                }
                if let Ok(head) = head.body(()) {
                    self.answer_flow(flow, (head, answer.body), None, stall)
                        .await;
                }
            }
            Unserved::Abandoned(failure) => {
                flow.fail(failure, None);
                return StreamEnd::Abandoned;
            }
            Unserved::BrokenOff(broken) => return self.break_off(flow, broken, target),
        }
        StreamEnd::Served
    }

    fn fail(&mut self, flow: Flow<'_>, failure: Failure, target: &Target) {
        let refusal = Refusal::new(&failure, Some(target));
        self.refuse(&refusal);
        flow.fail(failure, Some(refusal.status));
    }

    /// Answers a flow with what was made here, and reports the answer; then ends the flow: with this
    /// failure, if it was answered because of one.
    async fn answer_flow(
        &mut self,
        mut flow: Flow<'_>,
        (head, body): (Response<()>, Bytes),
        failure: Option<(Box<Failure>, u16)>,
        stall: Duration,
    ) {
        flow.response_started(|_| heads::response_text(head.status(), head.headers()));
        flow.response_bytes(&body);
        let sent = self.send_steadily(head, body, stall).await;
        if sent.is_ok() {
            flow.response_ended(None);
        }
        match (sent, failure) {
            (_, Some((failure, status))) => flow.fail(*failure, Some(status)),
            (Ok(()), None) => flow.complete(),
            (Err(not_taken), None) => flow.fail(not_taken, None),
        }
    }

    /// Sends no more at once than the client has room for.
    async fn send_steadily(
        &mut self,
        head: Response<()>,
        mut body: Bytes,
        stall: Duration,
    ) -> Result<(), Failure> {
        let failed = |error| from_h2(Side::Client, Stage::Response, &error);
        let stream = self.respond.send_response(head, body.is_empty());
        let mut stream = stream.map_err(failed)?;
        while !body.is_empty() {
            stream.reserve_capacity(body.len());
            let room = std::future::poll_fn(|cx| poll_room(&mut stream, cx));
            let Ok(room) = tokio::time::timeout(stall, room).await else {
                stream.send_reset(Reason::CANCEL);
                let what = "took nothing of the answer for too long";
                return Err(error::timed_out(Side::Client, Stage::Response, what));
            };
            let part = body.split_to(room.map_err(failed)?.min(body.len()));
            stream.send_data(part, body.is_empty()).map_err(failed)?;
        }
        Ok(())
    }

    /// With a reply of ours if the client has seen nothing yet, otherwise by resetting its stream.
    fn break_off(&mut self, flow: Flow<'_>, broken: Broken, target: &Target) -> StreamEnd {
        let by_client = broken.failure.side == Side::Client;
        let abandoned = by_client && broken.reason.is_some() && !broken.responded;
        let client_left = by_client
            && !matches!(
                broken.failure.kind,
                FailureKind::Malformed | FailureKind::TimedOut
            );
        if client_left || broken.responded {
            self.respond
                .send_reset(broken.reason.unwrap_or(Reason::INTERNAL_ERROR));
            flow.fail(broken.failure, None);
        } else if let Some(reason) = broken.reason {
            // The upstream reset the stream before it answered: the client is told the same.
            self.respond.send_reset(reason);
            flow.fail(broken.failure, None);
        } else {
            self.fail(flow, broken.failure, target);
        }
        match abandoned {
            true => StreamEnd::Abandoned,
            false => StreamEnd::Served,
        }
    }

    /// The client may be gone; then nobody is to be told.
    fn send(&mut self, head: Response<()>, body: Bytes) {
        if let Ok(mut stream) = self.respond.send_response(head, body.is_empty())
            && !body.is_empty()
        {
            let _sent = stream.send_data(body, true);
        }
    }
}

/// Waits until the client takes data on a stream, and says how much.
fn poll_room(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, h2::Error>> {
    loop {
        match stream.capacity() {
            0 => match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(Reason::CANCEL.into())),
            },
            room => return Poll::Ready(Ok(room)),
        }
    }
}
